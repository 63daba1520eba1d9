"""Pictures of results: grids, cards, montages and plots, from plain images, strings and numbers.

Grids, montages and overlays are Pillow images, plots are matplotlib figures; :func:`save` writes
either, :func:`in_terminal` shows a picture where the terminal can draw one. Nothing here knows
libraries or models.
"""

from wordsight.render.grids import (
    Tile,
    grid,
    missing_image,
    no_match_card,
    sections,
    side_by_side,
)
from wordsight.render.montage import Classified, classification_montage
from wordsight.render.overlays import outlined, relevance_overlay
from wordsight.render.plots import (
    confusion_matrix,
    histogram,
    map_plot,
    recall_plot,
    reliability_plot,
    score_histogram,
    series_plot,
)
from wordsight.render.saving import check_suffix, save
from wordsight.render.terminal import as_blocks, in_terminal
from wordsight.render.timelines import Strip, timeline

__all__ = [
    "Classified",
    "Strip",
    "Tile",
    "as_blocks",
    "check_suffix",
    "classification_montage",
    "confusion_matrix",
    "grid",
    "histogram",
    "in_terminal",
    "map_plot",
    "missing_image",
    "no_match_card",
    "outlined",
    "recall_plot",
    "relevance_overlay",
    "reliability_plot",
    "save",
    "score_histogram",
    "sections",
    "series_plot",
    "side_by_side",
    "timeline",
]
