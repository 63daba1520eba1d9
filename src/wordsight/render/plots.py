"""Plots of measurements as matplotlib figures, made without pyplot.

Each function returns a :class:`matplotlib.figure.Figure` that belongs to the caller; pyplot's
figures, backend and settings stay as they are. :func:`wordsight.render.save` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wordsight.render import colours
from wordsight.render.text import writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

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
    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"a {counts.shape} matrix does not fit {len(labels)} labels")
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    n = len(labels)
    side = float(np.clip(2.6 + 0.52 * n, 4.5, 13.0))
    figure, axes = _figure((side, side))
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    size = float(np.clip(110 / max(n, 1), 4.0, 9.5))
    ticks = range(n)
    axes.set_xticks(ticks, [writable(label) for label in labels], rotation=90, fontsize=size)
    axes.set_yticks(ticks, [writable(label) for label in labels], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", color=colours.MUTED)
    axes.set_ylabel("true", color=colours.MUTED)
    if n <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = share[row, column] > 0.55
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
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=colours.MUTED)
    bar.set_label("share of the true class", color=colours.MUTED, fontsize=9)
    _titles(axes, title, subtitle)
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
    figure, axes = _figure((5.4, 6.2), rows=(3.2, 1.0))
    above, below = axes, figure.axes[1]
    width = 1 / max(bins, 1)
    middle = (np.arange(bins) + 0.5) * width
    filled = count > 0
    above.plot((0, 1), (0, 1), color=colours.MUTED, linestyle="--", linewidth=1, zorder=3)
    above.annotate(
        "perfect", (0.05, 0.075), color=colours.MUTED, fontsize=8.5, rotation=45, ha="left"
    )
    above.bar(
        middle[filled],
        accuracy[filled],
        width=width * 0.92,
        color=colours.SKY,
        label="accuracy in the bin",
    )
    above.plot(
        confidence[filled],
        accuracy[filled],
        color=colours.VERMILION,
        marker="o",
        markersize=5,
        linewidth=1.4,
        zorder=4,
        label="at its mean confidence",
    )
    above.set(xlim=(0, 1), ylim=(0, 1))
    above.set_ylabel("accuracy")
    above.tick_params(labelbottom=False)
    above.legend(loc="upper left", frameon=False, fontsize=9, bbox_to_anchor=(0.0, 0.97))
    share = count / max(float(count.sum()), 1.0)
    below.bar(middle, share, width=width * 0.92, color=colours.BLUE)
    below.set(xlim=(0, 1))
    below.set_xlabel("confidence")
    below.set_ylabel("share of images")
    _titles(above, title, f"expected calibration error {ece:.3f}, {int(count.sum()):,} images")
    return figure


def histogram(
    values: Numbers, *, title: str, xlabel: str, ylabel: str = "images", subtitle: str | None = None
) -> Figure:
    """How often each value occurs; whole numbers (crops per image) get one bar each if few."""
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    figure, axes = _figure((6.4, 3.8))
    if data.size == 0:
        _nothing(axes)
    else:
        whole = bool(np.all(data == np.round(data))) and np.ptp(data) <= 60
        edges = np.arange(data.min() - 0.5, data.max() + 1.0).tolist() if whole else 30
        axes.hist(data, bins=edges, color=colours.BLUE, rwidth=0.9 if whole else 0.97)
        median = float(np.median(data))
        axes.axvline(median, color=colours.VERMILION, linewidth=1.5, linestyle="--")
        axes.annotate(
            f"median {median:g}",
            (median, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, -2),
            textcoords="offset points",
            va="top",
            color=colours.BAD,
            fontsize=9,
        )
        axes.margins(y=0.14)
        if whole:
            _whole_ticks(axes, "x")
        _whole_ticks(axes, "y")
    axes.set_xlabel(writable(xlabel))
    axes.set_ylabel(writable(ylabel))
    _titles(axes, title, subtitle)
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
    figure, axes = _figure((6.4, 4.2))
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
            label=writable(name),
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
    axes.set_ylabel(writable(ylabel))
    if ks:
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    _titles(axes, title, subtitle)
    return figure


def score_histogram(
    in_domain: Numbers,
    out_domain: Numbers,
    threshold: float | None,
    *,
    title: str,
    subtitle: str | None = None,
    xlabel: str = "score",
    names: tuple[str, str] = ("in the library", "not in the library"),
) -> Figure:
    """The scores of queries that have a match and of those that have none, and the threshold."""
    groups = [np.asarray(values, dtype=float) for values in (in_domain, out_domain)]
    groups = [values[np.isfinite(values)] for values in groups]
    figure, axes = _figure((6.4, 4.0))
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
                label=f"{writable(name)} ({values.size:,})",
            )
        axes.margins(y=0.2)
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(threshold, color=colours.INK, linewidth=1.4, linestyle="--")
        axes.annotate(
            f"threshold {threshold:.3g}",
            (threshold, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, -3),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=colours.INK,
        )
    axes.set_xlabel(writable(xlabel))
    axes.set_ylabel("share of queries")
    _titles(axes, title, subtitle)
    return figure


# -- the common look ---------------------------------------------------------------------------


def _figure(
    size: tuple[float, float], rows: tuple[float, ...] | None = None
) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.14)
    figure = Figure(figsize=size, layout=layout, facecolor=colours.PAGE)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows or (1,)), 1, squeeze=False, height_ratios=rows)[:, 0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(colours.RULE)
        one.tick_params(color=colours.RULE, labelcolor=colours.INK, labelsize=9)
        one.grid(axis="y", color=colours.RULE, linewidth=0.6)
        one.set_axisbelow(True)
        one.xaxis.label.set(color=colours.INK, fontsize=10)
        one.yaxis.label.set(color=colours.INK, fontsize=10)
    return figure, axes[0]


def _titles(axes: Axes, title: str, subtitle: str | None) -> None:
    figure = axes.figure
    texts: list[Text] = []
    text = figure.suptitle(
        writable(title), x=0.02, ha="left", fontsize=13, fontweight="bold", color=colours.INK
    )
    texts.append(text)
    if subtitle:
        texts.append(
            axes.set_title(writable(subtitle), loc="left", fontsize=9.5, color=colours.MUTED)
        )
    for text in texts:
        text.set_parse_math(False)
        text.set_wrap(True)
    for axis in figure.axes:
        for text in (
            axis.xaxis.label,
            axis.yaxis.label,
            *axis.get_xticklabels(),
            *axis.get_yticklabels(),
        ):
            text.set_parse_math(False)


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
