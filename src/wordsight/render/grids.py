"""Grids of images with captions, boxes and marks; the "No match" card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageOps

from wordsight.render import colours
from wordsight.render.page import (
    CAPTION,
    GAP,
    NARROWEST,
    SUBTITLE,
    Box,
    draw_frame,
    heading,
    page,
    paste_fitted,
    stack,
)
from wordsight.render.text import draw_line, font, typeset, wrap

LINE = 17  # height of a caption line


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of a grid.

    Attributes:
        image: the picture, of any mode and size; a reduced copy will do.
        caption: lines below it, the first one bold; a line too long is shortened.
        box: x0, y0, x1, y1 in pixels of the upright original, drawn as a frame.
        original_size: width and height of the original, where ``image`` is a reduced copy.
        highlight: frames the image as right ("good") or wrong ("bad").
        move: places won (positive) or lost (negative) against another ranking, or "new".
        faded: show it pale, as one that counts less.
    """

    image: Image.Image
    caption: Sequence[str] = ()
    box: Box | None = None
    original_size: tuple[int, int] | None = None
    highlight: Literal["good", "bad"] | None = None
    move: int | Literal["new"] | None = None
    faded: bool = False


def grid(
    tiles: Sequence[Tile],
    *,
    title: str,
    subtitle: str | None = None,
    columns: int = 5,
    cell: int = 180,
) -> Image.Image:
    """A page of ``tiles``, ``columns`` to a row, under a title; the images at most ``cell`` pixels.

    Small images are enlarged with their pixels kept crisp, large ones reduced; proportions stay.
    """
    block = _tiles(tiles, columns, cell)
    width = max(block.width, NARROWEST)
    return page([heading(title, subtitle, width), block])


def sections(
    parts: Sequence[tuple[str, Sequence[Tile]]], *, title: str, columns: int = 5, cell: int = 180
) -> Image.Image:
    """Grids below each other under one title, each with a heading of its own."""
    blocks = [_tiles(tiles, columns, cell) for _, tiles in parts]
    width = max([NARROWEST, *(block.width for block in blocks)])
    rows = [
        stack([heading(name, None, width, size=SUBTITLE), block], GAP // 2)
        for (name, _), block in zip(parts, blocks, strict=True)
    ]
    return page([heading(title, None, width), *rows])


def no_match_card(
    query: str,
    lines: Sequence[str],
    closest: Sequence[Tile] | None = None,
    *,
    columns: int = 5,
    cell: int = 180,
) -> Image.Image:
    """A card that says "No match" for ``query``, why (``lines``), and what came closest."""
    blocks = [_tiles(closest, columns, cell)] if closest else []
    width = max([640, *(block.width for block in blocks)])
    card = _no_match(query, lines, width)
    if blocks:
        blocks.insert(0, heading("Closest images", None, width, size=16))
    return page([card, *blocks])


def side_by_side(
    left: Sequence[Tile],
    right: Sequence[Tile],
    titles: tuple[str, str],
    *,
    title: str | None = None,
    subtitle: str | None = None,
    columns: int = 3,
    cell: int = 160,
) -> Image.Image:
    """Two grids beside each other, as baseline and crop-aware; ``Tile.move`` shows rank moves."""
    blocks = [_tiles(tiles, columns, cell) for tiles in (left, right)]
    width = max([columns * (cell + GAP) - GAP, *(block.width for block in blocks)])
    sides = [
        stack([heading(name, None, width, size=16), block], GAP)
        for name, block in zip(titles, blocks, strict=True)
    ]
    body = Image.new("RGB", (2 * width + 4 * GAP, max(s.height for s in sides)), colours.PAGE)
    body.paste(sides[0], (0, 0))
    body.paste(sides[1], (width + 4 * GAP, 0))
    middle = width + 2 * GAP
    ImageDraw.Draw(body).line((middle, 0, middle, body.height), fill=colours.RULE)
    if title is None and subtitle is None:
        return page([body])
    return page([heading(title or "", subtitle, body.width), body])


def missing_image(size: int = 180) -> Image.Image:
    """What stands in a grid for an image whose file is gone."""
    image = Image.new("RGB", (size, size), colours.PANEL)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size - 1, size - 1), outline=colours.RULE)
    draw.line((0, 0, size - 1, size - 1), fill=colours.RULE)
    draw.line((0, size - 1, size - 1, 0), fill=colours.RULE)
    middle = size // 2
    draw.rectangle((1, middle - 14, size - 2, middle + 14), fill=colours.PANEL)
    draw_line(
        draw,
        (middle, middle),
        "image not found",
        size=CAPTION,
        width=size - 8,
        fill=colours.MUTED,
        anchor="mm",
    )
    return image


def _no_match(query: str, lines: Sequence[str], width: int) -> Image.Image:
    inset = 28
    room = width - 2 * inset
    asked, face = typeset(f"for “{query}”", 16)
    rows = [(part, face, 24, colours.INK) for part in wrap(asked, face, room, 3)]
    rows.append(("", face, 6, colours.INK))  # a little air
    for text in lines:
        line, face = typeset(text, SUBTITLE)
        rows += [(part, face, 20, colours.MUTED) for part in wrap(line, face, room, 3)]
    block = Image.new("RGB", (width, 84 + sum(row[2] for row in rows)), colours.PANEL)
    draw = ImageDraw.Draw(block)
    draw.rectangle((0, 0, 5, block.height), fill=colours.VERMILION)
    draw.text((inset, 38), "No match", font=font(26, True), fill=colours.INK, anchor="lm")
    y = 60
    for part, face, height, colour in rows:
        draw.text((inset, y + height // 2), part, font=face, fill=colour, anchor="lm")
        y += height
    return block


def _tiles(tiles: Sequence[Tile], columns: int, cell: int) -> Image.Image:
    if not tiles:
        block = Image.new("RGB", (NARROWEST, 24), colours.PAGE)
        draw_line(
            ImageDraw.Draw(block),
            (0, 12),
            "No images to show.",
            size=SUBTITLE,
            width=NARROWEST,
            fill=colours.MUTED,
            anchor="lm",
        )
        return block
    columns = max(1, min(columns, len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [cell + 8 + LINE * max(len(tile.caption) for tile in row) for row in rows]
    size = (columns * (cell + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1))
    block = Image.new("RGB", size, colours.PAGE)
    draw = ImageDraw.Draw(block)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for place, tile in enumerate(row):
            x = place * (cell + GAP)
            _tile(block, (x, y), tile, cell)
            for number, text in enumerate(tile.caption):
                draw_line(
                    draw,
                    (x, y + cell + 8 + LINE * number + LINE // 2),
                    text,
                    size=CAPTION,
                    width=cell,
                    fill=colours.MUTED if number else colours.INK,
                    bold=not number,
                    anchor="lm",
                )
        y += height + GAP
    return block


def _tile(block: Image.Image, at: tuple[int, int], tile: Tile, cell: int) -> None:
    left, top, width, height = paste_fitted(block, at, tile.image, cell)
    if tile.faded:
        area = (left, top, left + width, top + height)
        pale = ImageOps.grayscale(block.crop(area)).convert("RGB")
        block.paste(Image.blend(pale, Image.new("RGB", pale.size, colours.PAGE), 0.5), area)
    draw = ImageDraw.Draw(block)
    if tile.box is not None and all(map(math.isfinite, tile.box)):
        original = tile.original_size or tile.image.size
        across, down = width / original[0], height / original[1]
        x0, x1 = sorted(min(max(v * across, 0), width) for v in tile.box[::2])
        y0, y1 = sorted(min(max(v * down, 0), height) for v in tile.box[1::2])
        draw_frame(draw, (left + x0, top + y0, left + x1, top + y1), (left, top, width, height))
    x, y = at
    if tile.highlight is not None:
        good = tile.highlight == "good"
        colour = colours.GOOD if good else colours.BAD
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=colour, width=3)
        _badge(draw, (x, y), "✓" if good else "✗", colour)
    if tile.move:
        if tile.move == "new":
            text, colour = "new", colours.BLUE
        elif tile.move > 0:
            text, colour = f"▲{tile.move}", colours.GOOD
        else:
            text, colour = f"▼{-tile.move}", colours.BAD
        _badge(draw, (x + cell, y), text, colour, right=True)


def _badge(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, right: bool = False
) -> None:
    face = font(12, True)
    width = max(round(face.getlength(text)) + 12, 22)
    x, y = at[0] - (width if right else 0), at[1]
    draw.rectangle((x, y, x + width - 1, y + 21), fill=colour)
    draw.text((x + width / 2, y + 11), text, font=face, fill="white", anchor="mm")
