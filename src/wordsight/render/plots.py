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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from wordsight.render.figures import (
    draw_legend,
    mark_value,
    new_figure,
    say_nothing,
    short_name,
    whole_ticks,
)

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
    figure, axes = new_figure((side, side + 0.3), title, subtitle)
    # The square root of the share, so that rare confusions are seen beside the diagonal.
    axes.set_anchor("N")
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0))
    size = 9.0 if few else 5.5
    ticks = range(n) if n <= 150 else ()
    names = [short_name(label) for label in labels] if n <= 150 else ()
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
    figure, above = new_figure((5.2, 6.2), title, subtitle, rows=(3.4, 1.0))
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
    draw_legend(above)
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
    figure, axes = new_figure((6.4, 3.9), title, subtitle)
    if data.size == 0:
        say_nothing(axes)
    else:
        whole = bool(np.all(data == np.round(data))) and np.ptp(data) <= 60
        edges = np.arange(data.min() - 0.5, data.max() + 1.0).tolist() if whole else 30
        axes.hist(data, bins=edges, color=colours.BLUE, rwidth=0.9 if whole else 0.97)
        median = float(np.median(data))
        mark_value(axes, median, f"median {median:g}", colours.INK)
        axes.margins(y=0.14)
        if whole:
            whole_ticks(axes, "x")
        whole_ticks(axes, "y")
    axes.set_xlabel(short_name(xlabel, 240))
    axes.set_ylabel(short_name(ylabel, 240))
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
    figure, axes = new_figure((6.4, 4.4), title, subtitle)
    ks = sorted({k for values in methods.values() for k in values})
    places = {k: float(place) for place, k in enumerate(ks)}
    if not ks:
        say_nothing(axes)
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
            label=short_name(name, 300),
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
    axes.set_ylabel(short_name(ylabel, 240))
    if ks:
        draw_legend(axes)
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
    figure, axes = new_figure((6.4, 4.2), title, subtitle)
    both = np.concatenate(groups)
    if both.size == 0:
        say_nothing(axes)
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
                label=f"{short_name(name)} ({values.size:,})",
            )
        axes.margins(y=0.12)
        draw_legend(axes)
    if threshold is not None and np.isfinite(threshold):
        mark_value(axes, threshold, f"threshold {threshold:.3g}", colours.INK)
    axes.set_xlabel(short_name(xlabel, 240))
    axes.set_ylabel(short_name(ylabel, 240))
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
    figure, axes = new_figure((7.2, 3.6), title, subtitle)
    if not np.isfinite(data).any():
        say_nothing(axes)
    else:
        axes.plot(data, color=colours.BLUE, linewidth=1.8, marker="o", markersize=3)
        best = int(np.nanargmax(data))
        axes.plot(best, data[best], "D", color=colours.VERMILION, markersize=8, label="best")
        draw_legend(axes)
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
    axes.set_xlabel(short_name(xlabel, 240))
    axes.set_ylabel(short_name(ylabel, 240))
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
    place = np.asarray(points, dtype=float).reshape(-1, 2)
    if len(place) != len(labels):
        raise ValueError(f"{len(labels)} labels do not fit {len(place)} points")
    figure, axes = new_figure((7.2, 6.4), title, subtitle)
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
    _write_names(axes, shown, [np.median(place[of_point == i], axis=0) for i in range(len(shown))])
    if not len(place):
        say_nothing(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(short_name(axes_names[0], 240))
    axes.set_ylabel(short_name(axes_names[1], 240))
    return figure


def _write_names(axes: Axes, names: Sequence[str], places: Sequence[npt.ArrayLike]) -> None:
    """Each name at its place, readable on the points around it."""
    from matplotlib.patheffects import withStroke

    for name, (x, y) in zip(names, np.asarray(places, dtype=float).reshape(-1, 2), strict=True):
        axes.text(
            x,
            y,
            short_name(name),
            ha="center",
            va="center",
            fontsize=10.5,
            fontweight="bold",
            color=colours.INK,
            path_effects=[withStroke(linewidth=3, foreground=colours.PAGE)],
            parse_math=False,
        )
