"""What moves before a camera: the part of a frame that its usual view does not show.

A thing that passes is small in the frame, and a vector of the whole frame hardly tells it from the
empty view; a crop of it does (``python -m benchmarks.video --only truth``).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wordsight.video.still import CELLS, SHARE, changed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAST, LEAST = 60, 5
"""Samples that the usual view is made of, at most and at least."""
_MARGIN = 0.1
"""Each side of the part moves outwards by this share of its width or height."""
_MOST_AREA = 0.7
"""A part that covers more of the frame is left out: the whole frame shows the same."""

Part = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of the frame's width and height, 0 to 1."""


class Scene:
    """What a camera usually shows: the median of its latest glances, fed in the order of time."""

    def __init__(self) -> None:
        self._past: deque[NDArray[np.float32]] = deque(maxlen=_PAST)

    def feed(self, glance: NDArray[np.float32]) -> None:
        """Take in what is shown now (see :func:`wordsight.video.still.glance`)."""
        self._past.append(glance)

    def moving(self, glance: NDArray[np.float32]) -> Part | None:
        """The largest connected part of a frame that differs from the usual view, if there is one.

        None too where little was seen so far, or where the part covers most of the frame.
        """
        import numpy as np

        if len(self._past) < LEAST:
            return None
        cells = _largest(changed(np.median(np.stack(self._past), axis=0), glance))
        if cells.mean() <= SHARE:
            return None
        rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
        low = np.array([columns[0], rows[0]]) / CELLS
        high = np.array([columns[-1] + 1, rows[-1] + 1]) / CELLS
        if (high - low).prod() > _MOST_AREA:
            return None
        margin = _MARGIN * (high - low)
        x0, y0, x1, y1 = np.clip(np.concatenate([low - margin, high + margin]), 0, 1).tolist()
        return x0, y0, x1, y1


def _largest(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest group of marked cells that touch, corners included."""
    import numpy as np

    height, width = cells.shape
    groups = np.where(cells, np.arange(1, cells.size + 1).reshape(cells.shape), 0)
    while True:  # each cell takes the greatest number around it
        around = np.pad(groups, 1)
        grown = cells * np.max(
            [around[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0
        )
        if (grown == groups).all():
            break
        groups = grown
    sizes = np.bincount(groups.ravel())
    sizes[0] = 0
    return np.asarray((groups == sizes.argmax()) & cells)
