"""Images with their top labels as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from wordsight.render import colours
from wordsight.render.page import CAPTION, GAP, NARROWEST, heading, page, paste_fitted
from wordsight.render.text import draw_line, font, shorten, typeset


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
        paste_fitted(block, (x, y), row.image, cell)
        _bars(block, (x + cell + 14, y), bars, row)
    return page([heading(title, subtitle, max(block.width, NARROWEST)), block])


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
        name, face = typeset(label, CAPTION, bold)
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
            font=font(CAPTION, bold),
            fill=colours.INK,
            anchor="rm",
        )
        y += 26
