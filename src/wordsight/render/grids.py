"""Grids of images with captions, boxes and marks; the "No match" card; classification montages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps

from wordsight.render import colours
from wordsight.render.text import draw_line, font, shorten, typeset, wrap

Box = tuple[float, float, float, float]

MARGIN = 24
GAP = 16
LINE = 17  # height of a caption line
_CAPTION, _TITLE, _SUBTITLE = 12, 22, 13
_NARROWEST = 460  # so that a title has room above a single image


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


@dataclass(frozen=True, slots=True)
class Classified:
    """One image of a classification montage.

    Attributes:
        image: the picture, of any mode and size.
        top: labels with their confidences (0 to 1), best first.
        truth: the right label where it is known.
        none_of_these: the classifier's answer was that no label fits.
        caption: what to write above the bars where no true label is known, as the file's name.
    """

    image: Image.Image
    top: Sequence[tuple[str, float]]
    truth: str | None = None
    none_of_these: bool = False
    caption: str | None = None


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
    width = max(block.width, _NARROWEST)
    return _page([_heading(title, subtitle, width), block])


def sections(
    parts: Sequence[tuple[str, Sequence[Tile]]], *, title: str, columns: int = 5, cell: int = 180
) -> Image.Image:
    """Grids below each other under one title, each with a heading of its own."""
    blocks = [_tiles(tiles, columns, cell) for _, tiles in parts]
    width = max([_NARROWEST, *(block.width for block in blocks)])
    rows = [
        _stack([_heading(name, None, width, size=_SUBTITLE), block], GAP // 2)
        for (name, _), block in zip(parts, blocks, strict=True)
    ]
    return _page([_heading(title, None, width), *rows])


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
        blocks.insert(0, _heading("Closest images", None, width, size=16))
    return _page([card, *blocks])


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
        _stack([_heading(name, None, width, size=16), block], GAP)
        for name, block in zip(titles, blocks, strict=True)
    ]
    body = Image.new("RGB", (2 * width + 4 * GAP, max(s.height for s in sides)), colours.PAGE)
    body.paste(sides[0], (0, 0))
    body.paste(sides[1], (width + 4 * GAP, 0))
    middle = width + 2 * GAP
    ImageDraw.Draw(body).line((middle, 0, middle, body.height), fill=colours.RULE)
    if title is None and subtitle is None:
        return _page([body])
    return _page([_heading(title or "", subtitle, body.width), body])


def classification_montage(
    rows: Sequence[Classified],
    *,
    title: str,
    subtitle: str | None = None,
    columns: int = 2,
    cell: int = 116,
) -> Image.Image:
    """Images with their top labels as bars, ``columns`` to a row.

    With a true label the first bar is green and ticked when right, orange and crossed when
    wrong; a "none of these" answer is written out and its bars are grey.
    """
    bars = 300
    entry = cell + 14 + bars
    columns = max(1, min(columns, len(rows)))
    height = max([cell, *(24 + 26 * len(row.top) for row in rows)])
    lines = math.ceil(len(rows) / columns)
    gap = 2 * GAP
    size = (columns * (entry + gap) - gap, max(lines * (height + GAP) - GAP, 1))
    block = Image.new("RGB", size, colours.PAGE)
    for place, row in enumerate(rows):
        x = place % columns * (entry + gap)
        y = place // columns * (height + GAP)
        _picture(block, (x, y), row.image, cell)
        _bars(block, (x + cell + 14, y), bars, row)
    return _page([_heading(title, subtitle, max(block.width, _NARROWEST)), block])


def outlined(image: Image.Image, boxes: Sequence[Box], *, cell: int = 320) -> Image.Image:
    """``image`` at most ``cell`` pixels wide and high, with a frame around each box (x0, y0, ...).

    Of boxes in each other the smaller ones are drawn last.
    """
    block = Image.new("RGB", (cell, cell), colours.PAGE)
    left, top, width, height = _picture(block, (0, 0), image, cell)
    draw = ImageDraw.Draw(block)
    across, down = width / image.width, height / image.height
    for x0, y0, x1, y1 in sorted(boxes, key=lambda b: (b[0] - b[2]) * (b[3] - b[1])):
        edges = (left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down)
        _frame(draw, edges, (left, top, width, height))
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
        size=_CAPTION,
        width=size - 8,
        fill=colours.MUTED,
        anchor="mm",
    )
    return image


# -- parts of a page ---------------------------------------------------------------------------


def _page(blocks: Sequence[Image.Image]) -> Image.Image:
    body = _stack(blocks, GAP + 4)
    page = Image.new("RGB", (body.width + 2 * MARGIN, body.height + 2 * MARGIN), colours.PAGE)
    page.paste(body, (MARGIN, MARGIN))
    return page


def _stack(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    out = Image.new("RGB", (max(block.width for block in blocks), height), colours.PAGE)
    y = 0
    for block in blocks:
        out.paste(block, (0, y))
        y += block.height + gap
    return out


def _heading(title: str, subtitle: str | None, width: int, size: int = _TITLE) -> Image.Image:
    rows = []  # (line, face, height, colour)
    for text, pixels, bold, colour in (
        (title, size, True, colours.INK),
        (subtitle or "", _SUBTITLE, False, colours.MUTED),
    ):
        line, face = typeset(text, pixels, bold)
        rows += [(part, face, round(pixels * 1.4), colour) for part in wrap(line, face, width, 3)]
    block = Image.new("RGB", (width, max(sum(row[2] for row in rows), 1)), colours.PAGE)
    draw = ImageDraw.Draw(block)
    y = 0
    for part, face, height, colour in rows:
        draw.text((0, y + height // 2), part, font=face, fill=colour, anchor="lm")
        y += height
    return block


def _no_match(query: str, lines: Sequence[str], width: int) -> Image.Image:
    inset = 28
    room = width - 2 * inset
    asked, face = typeset(f"for “{query}”", 16)
    rows = [(part, face, 24, colours.INK) for part in wrap(asked, face, room, 3)]
    rows.append(("", face, 6, colours.INK))  # a little air
    for text in lines:
        line, face = typeset(text, _SUBTITLE)
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
        block = Image.new("RGB", (_NARROWEST, 24), colours.PAGE)
        draw_line(
            ImageDraw.Draw(block),
            (0, 12),
            "No images to show.",
            size=_SUBTITLE,
            width=_NARROWEST,
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
                    size=_CAPTION,
                    width=cell,
                    fill=colours.MUTED if number else colours.INK,
                    bold=not number,
                    anchor="lm",
                )
        y += height + GAP
    return block


def _tile(block: Image.Image, at: tuple[int, int], tile: Tile, cell: int) -> None:
    left, top, width, height = _picture(block, at, tile.image, cell)
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
        _frame(draw, (left + x0, top + y0, left + x1, top + y1), (left, top, width, height))
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


def _frame(draw: ImageDraw.ImageDraw, box: Box, picture: tuple[int, int, int, int]) -> None:
    """A bright frame with dark edges around ``box``, kept within ``picture`` (x, y, w, h).

    It lies just outside the box, so that a small object stays visible.
    """
    left, top, width, height = picture
    right, bottom = left + width - 1, top + height - 1
    x0 = max(min(math.floor(box[0]) - 2, right - 4), left)
    y0 = max(min(math.floor(box[1]) - 2, bottom - 4), top)
    x1, y1 = min(math.ceil(box[2]) + 1, right), min(math.ceil(box[3]) + 1, bottom)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=colours.BOX_CASING)
    if min(x1 - x0, y1 - y0) > 24:
        draw.rectangle((x0 + 2, y0 + 2, x1 - 2, y1 - 2), outline=colours.BOX_CASING)
    draw.rectangle((x0, y0, x1, y1), outline=colours.BOX, width=2)


def _badge(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, right: bool = False
) -> None:
    face = font(12, True)
    width = max(round(face.getlength(text)) + 12, 22)
    x, y = at[0] - (width if right else 0), at[1]
    draw.rectangle((x, y, x + width - 1, y + 21), fill=colour)
    draw.text((x + width / 2, y + 11), text, font=face, fill="white", anchor="mm")


def _bars(block: Image.Image, at: tuple[int, int], width: int, row: Classified) -> None:
    draw = ImageDraw.Draw(block)
    x, y = at
    best = row.top[0][0] if row.top else None
    verdict, colour, tint = row.caption or best or "", colours.INK, colours.TINT_TOP
    if row.none_of_these:
        about = row.caption if row.truth is None else f"true label: {row.truth}"
        verdict, tint = f"None of these ({about})" if about else "None of these", colours.TINT_REST
    elif row.truth is not None and row.truth == best:
        verdict, colour, tint = f"✓ {row.truth}", colours.GOOD, colours.TINT_GOOD
    elif row.truth is not None:
        verdict, colour, tint = f"✗ true label: {row.truth}", colours.BAD, colours.TINT_BAD
    draw_line(draw, (x, y + 9), verdict, size=13, width=width, fill=colour, bold=True, anchor="lm")
    y += 24
    for place, (label, confidence) in enumerate(row.top):
        share = min(max(confidence, 0.0), 1.0) if math.isfinite(confidence) else 0.0
        draw.rectangle((x, y, x + width - 1, y + 21), fill=colours.PANEL)
        if share * width >= 1:
            fill = colours.TINT_REST if place else tint
            draw.rectangle((x, y, x + round(share * width) - 1, y + 21), fill=fill)
        bold = place == 0 and not row.none_of_these
        name, face = typeset(label, _CAPTION, bold)
        draw.text(
            (x + 8, y + 11),
            shorten(name, face, width - 76),
            font=face,
            fill=colours.INK,
            anchor="lm",
        )
        percent = f"{share:.1%}"
        draw.text(
            (x + width - 8, y + 11),
            percent,
            font=font(_CAPTION, bold),
            fill=colours.INK,
            anchor="rm",
        )
        y += 26


def _picture(
    block: Image.Image, at: tuple[int, int], image: Image.Image, cell: int
) -> tuple[int, int, int, int]:
    """Paste ``image``, fitted, in the middle of its cell; returns left, top, width, height."""
    x, y = at
    fitted = _fit(image, cell)
    ImageDraw.Draw(block).rectangle((x, y, x + cell - 1, y + cell - 1), fill=colours.PANEL)
    left, top = x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2
    block.paste(fitted, (left, top))
    return left, top, fitted.width, fitted.height


def _fit(image: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if image.mode != "RGB":
        image = _on_page(image)
    if scale < 4:
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    # A thumbnail of 32 pixels: smoothed to twice its size it is easier to recognise, and from
    # there every pixel a clean square keeps it crisp; the last step down evens their edges.
    image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)
    whole = math.ceil(scale / 2)
    image = image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.BOX)


def _on_page(image: Image.Image) -> Image.Image:
    """``image`` as RGB; what is transparent shows the page."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    page = Image.new("RGBA", rgba.size, colours.PAGE)
    return Image.alpha_composite(page, rgba).convert("RGB")
