"""Plots of measurements as matplotlib figures, made without pyplot.

Each function returns a :class:`matplotlib.figure.Figure` that belongs to the caller; pyplot's
figures, backend and settings stay as they are. :func:`wordsight.render.save` writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wordsight.render import colours
from wordsight.render.text import font, shorten, wrap, writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Sequence[float] | npt.NDArray[np.floating] | npt.NDArray[np.integer]
_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":")


def confusion_matrix(
    matrix: npt.ArrayLike, labels: Sequence[str], title: str, subtitle: str | None = None
) -> Figure:
    """A confusion matrix as a heat map: rows true, columns predicted, shaded by share of the row.

    Args:
        matrix: counts, shape [C, C].
        labels: the C names, in the order of the rows.
        title: above the plot.
        subtitle: smaller, below the title.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"a {counts.shape} matrix does not fit {len(labels)} labels")
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    n = len(labels)
    # Few classes carry their counts; many want small cells and no numbers.
    few = n <= 20
    side = float(np.clip(1.7 + (0.52 if few else 0.16) * n, 3.8, 20.0))
    figure, axes = _figure((side, side + 0.3), title, subtitle)
    # The square root of the share, so that rare confusions are seen beside the diagonal.
    axes.set_anchor("N")
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0))
    size = 9.0 if few else 5.5
    ticks = range(n) if n <= 150 else ()
    names = [_name(label) for label in labels] if n <= 150 else ()
    axes.set_xticks(ticks, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if few:
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = share[row, column] > 0.3
            axes.text(
                column,
                row,
                f"{counts[row, column]:g}",
                ha="center",
                va="center",
                fontsize=size - 0.5,
                color="white" if dark else colours.INK,
            )
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not few:
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=9)
        bar.set_label("share of the true class", fontsize=10)
    return figure


def reliability_plot(
    bin_confidence: Numbers, bin_accuracy: Numbers, bin_count: Numbers, ece: float, title: str
) -> Figure:
    """Accuracy against confidence, one bar a bin, over the share of images in each bin.

    The bins are of equal width over 0..1, in order; an empty one has count 0 and may hold NaN.
    ``ece`` is the expected calibration error (Guo et al., 2017), 0..1.
    """
    confidence, accuracy, count = (
        np.asarray(values, dtype=float) for values in (bin_confidence, bin_accuracy, bin_count)
    )
    bins = len(count)
    if not len(confidence) == len(accuracy) == bins:
        raise ValueError("confidence, accuracy and count must have one value for each bin")
    subtitle = f"expected calibration error {ece:.3f}, {int(count.sum()):,} images"
    figure, above = _figure((5.2, 6.2), title, subtitle, rows=(3.4, 1.0))
    below = figure.axes[1]
    width = 1 / max(bins, 1)
    middle = (np.arange(bins) + 0.5) * width
    filled = count > 0
    right, sure = accuracy[filled], confidence[filled]
    at = middle[filled]
    above.bar(at, right, width=width * 0.92, color=colours.SKY, label="accuracy")
    above.bar(
        at,
        sure - right,
        bottom=right,
        width=width * 0.92,
        facecolor="none",
        edgecolor=colours.VERMILION,
        hatch="////",
        label="gap to the mean confidence",
    )
    above.plot((0, 1), (0, 1), color=colours.MUTED, linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.tick_params(labelbottom=False)
    _legend(above)
    share = count / max(float(count.sum()), 1.0)
    below.bar(middle, share, width=width * 0.92, color=colours.BLUE)
    below.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share")
    return figure


def histogram(
    values: Numbers, *, title: str, xlabel: str, ylabel: str = "images", subtitle: str | None = None
) -> Figure:
    """How often each value occurs; whole numbers (crops per image) get one bar each if few."""
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    figure, axes = _figure((6.4, 3.9), title, subtitle)
    if data.size == 0:
        _nothing(axes)
    else:
        whole = bool(np.all(data == np.round(data))) and np.ptp(data) <= 60
        edges = np.arange(data.min() - 0.5, data.max() + 1.0).tolist() if whole else 30
        axes.hist(data, bins=edges, color=colours.BLUE, rwidth=0.9 if whole else 0.97)
        median = float(np.median(data))
        _mark(axes, median, f"median {median:g}", colours.INK)
        axes.margins(y=0.14)
        if whole:
            _whole_ticks(axes, "x")
        _whole_ticks(axes, "y")
    axes.set_xlabel(_name(xlabel, 240))
    axes.set_ylabel(_name(ylabel, 240))
    return figure


def recall_plot(
    methods: Mapping[str, Mapping[int, float | tuple[float, float, float]]],
    *,
    title: str,
    subtitle: str | None = None,
    ylabel: str = "Recall@K",
) -> Figure:
    """Recall@K for each method, as lines over K.

    Args:
        methods: method -> K -> the value (0..1), or value, low and high end of its interval.
        title: above the plot.
        subtitle: smaller, below the title.
        ylabel: what the values are.
    """
    figure, axes = _figure((6.4, 4.4), title, subtitle)
    ks = sorted({k for values in methods.values() for k in values})
    places = {k: float(place) for place, k in enumerate(ks)}
    if not ks:
        _nothing(axes)
    for number, (name, values) in enumerate(methods.items()):
        # Side by side, so that error bars do not hide each other.
        shift = 0.07 * (number - (len(methods) - 1) / 2)
        x, y, low, high = [], [], [], []
        for k in sorted(values):
            given = values[k]
            value, least, most = given if isinstance(given, tuple) else (given, given, given)
            x.append(places[k] + shift)
            y.append(value)
            low.append(max(value - least, 0.0))
            high.append(max(most - value, 0.0))
        axes.errorbar(
            x,
            y,
            yerr=(low, high),
            label=_name(name, 300),
            color=colours.SERIES[number % len(colours.SERIES)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_DASHES[number % len(_DASHES)],
            markersize=6,
            linewidth=1.8,
            elinewidth=1.2,
            capsize=3,
        )
    axes.set_xticks(range(len(ks)), [str(k) for k in ks])
    axes.set_xlim(-0.4, max(len(ks) - 0.6, 0.4))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("K")
    axes.set_ylabel(_name(ylabel, 240))
    if ks:
        _legend(axes)
    return figure


def score_histogram(
    in_domain: Numbers,
    out_domain: Numbers,
    threshold: float | None,
    *,
    title: str,
    subtitle: str | None = None,
    xlabel: str = "score",
    ylabel: str = "share of queries",
    names: tuple[str, str] = ("in the library", "not in the library"),
) -> Figure:
    """The scores of queries that have a match and of those that have none, and the threshold.

    With other ``names`` and ``ylabel``, of any two groups.
    """
    groups = [np.asarray(values, dtype=float) for values in (in_domain, out_domain)]
    groups = [values[np.isfinite(values)] for values in groups]
    figure, axes = _figure((6.4, 4.2), title, subtitle)
    both = np.concatenate(groups)
    if both.size == 0:
        _nothing(axes)
    else:
        low, high = float(both.min()), float(both.max())
        edges = np.linspace(low, high if high > low else low + 1.0, 41).tolist()
        styles = ((colours.BLUE, None), (colours.ORANGE, "////"))
        for values, name, (colour, hatch) in zip(groups, names, styles, strict=True):
            if values.size == 0:
                continue
            axes.hist(
                values,
                bins=edges,
                weights=np.full(values.size, 1 / values.size),
                histtype="stepfilled",
                facecolor=(colour, 0.45),
                edgecolor=colour,
                linewidth=1.4,
                hatch=hatch,
                label=f"{_name(name)} ({values.size:,})",
            )
        axes.margins(y=0.12)
        _legend(axes)
    if threshold is not None and np.isfinite(threshold):
        _mark(axes, threshold, f"threshold {threshold:.3g}", colours.INK)
    axes.set_xlabel(_name(xlabel, 240))
    axes.set_ylabel(_name(ylabel, 240))
    return figure


def series_plot(
    values: Numbers,
    threshold: float | None = None,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    subtitle: str | None = None,
) -> Figure:
    """Values in their order as a line, the best one marked, with a threshold where there is one.

    For the scores of a camera's frames: ``xlabel`` is what is counted along the line.
    """
    data = np.asarray(values, dtype=float)
    figure, axes = _figure((7.2, 3.6), title, subtitle)
    if not np.isfinite(data).any():
        _nothing(axes)
    else:
        axes.plot(data, color=colours.BLUE, linewidth=1.8, marker="o", markersize=3)
        best = int(np.nanargmax(data))
        axes.plot(best, data[best], "D", color=colours.VERMILION, markersize=8, label="best")
        _legend(axes)
    if threshold is not None and np.isfinite(threshold):
        axes.axhline(threshold, color=colours.INK, linewidth=1.4, linestyle="--")
        axes.annotate(
            f"threshold {threshold:.3g}",
            (1.0, threshold),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            color=colours.INK,
            fontsize=9,
        )
    axes.set_xlabel(_name(xlabel, 240))
    axes.set_ylabel(_name(ylabel, 240))
    return figure


def map_plot(
    points: npt.ArrayLike,
    labels: Sequence[str | None],
    *,
    title: str,
    subtitle: str | None = None,
    axes_names: tuple[str, str] = ("first direction", "second direction"),
    most: int = 12,
) -> Figure:
    """Points of a plane, coloured and marked by label; each label's name stands at its median.

    Args:
        points: shape [N, 2].
        labels: the N labels; None, and labels beyond the ``most`` frequent, are drawn in grey.
        title: above the plot.
        subtitle: smaller, below the title.
        axes_names: what the two directions are.
        most: how many labels get a colour.
    """
    from matplotlib.patheffects import withStroke

    place = np.asarray(points, dtype=float).reshape(-1, 2)
    if len(place) != len(labels):
        raise ValueError(f"{len(labels)} labels do not fit {len(place)} points")
    figure, axes = _figure((7.2, 6.4), title, subtitle)
    counts = Counter(label for label in labels if label is not None)
    shown = sorted(label for label, _ in counts.most_common(most))
    of_point = np.array([shown.index(label) if label in shown else -1 for label in labels])
    rest = place[of_point < 0]
    size = float(np.clip(9000 / max(len(place), 1), 7, 40))
    axes.scatter(rest[:, 0], rest[:, 1], s=size, color=colours.RULE, linewidths=0)
    rounds = len(colours.SERIES)
    for number in range(len(shown)):
        own = place[of_point == number]
        colour = colours.SERIES[number % rounds]
        # The second time round a colour comes with another mark.
        mark = _MARKERS[(number + number // rounds) % len(_MARKERS)]
        axes.scatter(
            own[:, 0], own[:, 1], s=size, color=colour, marker=mark, alpha=0.55, linewidths=0
        )
    for number, label in enumerate(shown):
        x, y = np.median(place[of_point == number], axis=0)
        axes.text(
            x,
            y,
            _name(label),
            ha="center",
            va="center",
            fontsize=10.5,
            fontweight="bold",
            color=colours.INK,
            path_effects=[withStroke(linewidth=3, foreground=colours.PAGE)],
            parse_math=False,
        )
    if not len(place):
        _nothing(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(_name(axes_names[0], 240))
    axes.set_ylabel(_name(axes_names[1], 240))
    return figure


# -- the common look ---------------------------------------------------------------------------


def _figure(
    size: tuple[float, float],
    title: str,
    subtitle: str | None = None,
    rows: tuple[float, ...] = (1.0,),
) -> tuple[Figure, Axes]:
    """A figure of ``size`` inches with its titles, and the uppermost of its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = size
    figure = Figure(figsize=size, facecolor=colours.PAGE)
    FigureCanvasAgg(figure)
    y = height - 0.2
    for text, points, bold, colour in (
        (title, 13, True, colours.INK),
        (subtitle or "", 9.5, False, colours.MUTED),
    ):
        # A point is a pixel at 72 to the inch, so Pillow's measure serves for wrapping.
        for line in wrap(writable(text), font(round(points), bold), (width - 0.5) * 72, 2):
            figure.text(
                0.2 / width,
                y / height,
                line,
                va="top",
                fontsize=points,
                fontweight="bold" if bold else "normal",
                color=colour,
                parse_math=False,
            )
            y -= points * 1.5 / 72
    layout = ConstrainedLayoutEngine(w_pad=0.16, h_pad=0.12, rect=(0, 0, 1, y / height))
    figure.set_layout_engine(layout)
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(colours.RULE)
        one.tick_params(color=colours.RULE, labelcolor=colours.INK, labelsize=9)
        one.grid(axis="y", color=colours.RULE, linewidth=0.6)
        one.set_axisbelow(True)
        one.xaxis.label.set(color=colours.INK, fontsize=10, parse_math=False)
        one.yaxis.label.set(color=colours.INK, fontsize=10, parse_math=False)
    return figure, axes[0]


def _name(text: str, width: int = 150) -> str:
    """``text`` shortened to ``width`` points, so that no long name squeezes the plot itself."""
    return shorten(writable(text), font(9), width)


def _legend(axes: Axes) -> None:
    """The legend above the axes, where it hides no data, in as many columns as there is room."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    column = max(font(9).getlength(label) for label in labels) + 48
    figure = axes.get_figure(root=True)
    assert figure is not None
    room = (figure.get_figwidth() - 1.2) * 72
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=max(1, min(len(labels), int(room / column))),
        frameon=False,
        fontsize=9,
        columnspacing=1.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _mark(axes: Axes, x: float, text: str, colour: str) -> None:
    """A dashed upright line at ``x``, with its name on the side that has room."""
    axes.axvline(x, color=colour, linewidth=1.4, linestyle="--")
    low, high = axes.get_xlim()
    left = x > low + 0.7 * (high - low)
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=colour,
        fontsize=9,
    )


def _whole_ticks(axes: Axes, which: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(integer=True, nbins=12 if which == "x" else 6))


def _nothing(axes: Axes) -> None:
    axes.text(
        0.5,
        0.5,
        "nothing to plot",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=colours.MUTED,
    )
