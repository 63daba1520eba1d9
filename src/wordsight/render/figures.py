"""The common look of the plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wordsight.render import colours
from wordsight.render.text import font, shorten, wrap, writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(
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


def short_name(text: str, width: int = 150) -> str:
    """``text`` shortened to ``width`` points, so that no long name squeezes the plot itself."""
    return shorten(writable(text), font(9), width)


def draw_legend(axes: Axes) -> None:
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


def mark_value(axes: Axes, x: float, text: str, colour: str) -> None:
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


def whole_ticks(axes: Axes, which: str) -> None:
    """Whole numbers alone along the axis ``which``, "x" or "y"."""
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(integer=True, nbins=12 if which == "x" else 6))


def say_nothing(axes: Axes) -> None:
    """Write that there is nothing to plot."""
    axes.text(
        0.5,
        0.5,
        "nothing to plot",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=colours.MUTED,
    )
