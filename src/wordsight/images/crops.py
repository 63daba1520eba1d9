"""Cutting a box out of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wordsight.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image


def crop(image: PIL.Image.Image, box: Sequence[float]) -> PIL.Image.Image:
    """Cut ``box`` (x0, y0, x1, y1 in pixels) out of ``image``.

    Edges between pixels are moved outwards, the part outside the image is left off, and the result
    is at least one pixel wide and high. Raises ImageError for a box without any part in the image.
    """
    x0, y0, x1, y1 = (float(edge) for edge in box)
    width, height = image.size
    if not (x0 <= x1 and y0 <= y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ImageError(
            f"box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies outside the image of "
            f"{width} x {height} pixels; give x0, y0, x1, y1"
        )
    left, top = math.floor(max(x0, 0)), math.floor(max(y0, 0))
    right = max(math.ceil(min(x1, width)), left + 1)
    bottom = max(math.ceil(min(y1, height)), top + 1)
    if (left, top, right, bottom) == (0, 0, width, height):
        return image.copy()
    return image.crop((left, top, right, bottom))
