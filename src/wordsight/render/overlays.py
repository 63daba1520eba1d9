"""Pictures with something drawn on them: boxes, relevance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wordsight.render import colours
from wordsight.render.page import Box, draw_frame, paste_fitted


def outlined(image: Image.Image, boxes: Sequence[Box], *, cell: int = 320) -> Image.Image:
    """``image`` at most ``cell`` pixels wide and high, with a frame around each box (x0, y0, ...).

    Of boxes in each other the smaller ones are drawn last.
    """
    block = Image.new("RGB", (cell, cell), colours.PAGE)
    left, top, width, height = paste_fitted(block, (0, 0), image, cell)
    draw = ImageDraw.Draw(block)
    across, down = width / image.width, height / image.height
    for x0, y0, x1, y1 in sorted(boxes, key=lambda b: (b[0] - b[2]) * (b[3] - b[1])):
        edges = (left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down)
        draw_frame(draw, edges, (left, top, width, height))
    return block.crop((left, top, left + width, top + height))


def relevance_overlay(
    image: Image.Image, relevance: npt.ArrayLike, full: float | None = None
) -> Image.Image:
    """``image`` in grey under its relevance: orange where it speaks for a text, blue if against.

    ``relevance`` is a grid of numbers, [rows, columns], stretched over the image. Values of
    ``full`` and above get the full colour (default: the largest magnitude); give one for images
    that are to be compared. The result has at least 256 pixels on its short side.
    """
    grid_ = np.asarray(relevance, dtype=float)
    scale = max(1, math.ceil(256 / min(image.size)))
    size = (image.width * scale, image.height * scale)
    grey = image.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC)
    strength = grid_ / max(float(np.abs(grid_).max()) if full is None else full, 1e-12)
    out = grey
    for sign, colour in ((1, colours.VERMILION), (-1, colours.BLUE)):
        mask = Image.fromarray((np.clip(sign * strength, 0, 1) * 190).astype(np.uint8))
        mask = mask.resize(size, Image.Resampling.BILINEAR)
        out = Image.composite(Image.new("RGB", size, colour), out, mask)
    return out
