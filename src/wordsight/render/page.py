"""What grids and montages are made of: a page, its headings, pictures fitted into cells, frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from wordsight.render import colours
from wordsight.render.text import typeset, wrap

Box = tuple[float, float, float, float]

MARGIN = 24

GAP = 16

CAPTION, TITLE, SUBTITLE = 12, 22, 13

NARROWEST = 460  # so that a title has room above a single image


def page(blocks: Sequence[Image.Image]) -> Image.Image:
    """Blocks below each other, with a margin around them."""
    body = stack(blocks, GAP + 4)
    page = Image.new("RGB", (body.width + 2 * MARGIN, body.height + 2 * MARGIN), colours.PAGE)
    page.paste(body, (MARGIN, MARGIN))
    return page


def stack(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Blocks below each other, ``gap`` pixels apart."""
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    out = Image.new("RGB", (max(block.width for block in blocks), height), colours.PAGE)
    y = 0
    for block in blocks:
        out.paste(block, (0, y))
        y += block.height + gap
    return out


def heading(title: str, subtitle: str | None, width: int, size: int = TITLE) -> Image.Image:
    """A title and a smaller line below it, wrapped to ``width`` pixels."""
    rows = []  # (line, face, height, colour)
    for text, pixels, bold, colour in (
        (title, size, True, colours.INK),
        (subtitle or "", SUBTITLE, False, colours.MUTED),
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


def draw_frame(draw: ImageDraw.ImageDraw, box: Box, picture: tuple[int, int, int, int]) -> None:
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


def paste_fitted(
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
