"""A timeline: when videos show something, with the curve of scores and thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from wordsight.render import colours
from wordsight.render.text import draw_line

_WIDTH, _MARGIN = 1000, 24
_HEADING, _NAME, _CURVE, _THUMB, _TIMES, _GAP = 64, 26, 80, 84, 26, 18  # heights in pixels
_MOST_ROWS, _MOST_THUMBS = 12, 6


@dataclass(frozen=True, slots=True)
class Strip:
    """One video: its name, how long it is (seconds), its scores, and the moments in it.

    ``curve`` are (start, end, score) in the order of time, ``moments`` (start, end), and
    ``thumbnails`` the pictures of their best frames (or None), in the same order.
    """

    name: str
    seconds: float
    curve: Sequence[tuple[float, float, float]]
    moments: Sequence[tuple[float, float]] = ()
    thumbnails: Sequence[Image.Image | None] = ()

    @property
    def height(self) -> int:
        """Pixels that it takes."""
        return _NAME + _CURVE + _GAP + (_THUMB + _TIMES if any(self.thumbnails) else 0)


def timeline(
    strips: Sequence[Strip], *, title: str, subtitle: str = "", threshold: float | None = None
) -> Image.Image:
    """A picture with a row a video (twelve at most): the curve, moments shaded, thumbnails."""
    strips = strips[:_MOST_ROWS]
    height = _HEADING + sum(strip.height for strip in strips)
    page = Image.new("RGB", (_WIDTH, height), colours.PAGE)
    draw = ImageDraw.Draw(page)
    inner = _WIDTH - 2 * _MARGIN
    draw_line(draw, (_MARGIN, 12), title, size=22, width=inner, fill=colours.INK, bold=True)
    draw_line(draw, (_MARGIN, 40), subtitle, size=13, width=inner, fill=colours.MUTED)
    scores = [score for strip in strips for _, _, score in strip.curve]
    scale = min([0.0, *scores]), max([1.0, threshold or 0.0, *scores])
    top = _HEADING
    for strip in strips:
        _draw(page, draw, strip, top, scale, threshold)
        top += strip.height
    return page


def _draw(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    strip: Strip,
    top: int,
    scale: tuple[float, float],
    threshold: float | None,
) -> None:
    inner, low, high = _WIDTH - 2 * _MARGIN, *scale
    curve_top = top + _NAME
    bottom = curve_top + _CURVE

    def across(seconds: float) -> float:
        return _MARGIN + inner * seconds / max(strip.seconds, 1e-3)

    def down(score: float) -> float:
        return bottom - _CURVE * (score - low) / max(high - low, 1e-6)

    draw_line(draw, (_MARGIN, top), strip.name, size=14, width=inner - 90, fill=colours.INK)
    length = f"{strip.seconds:.0f} s"
    right = _WIDTH - _MARGIN
    draw_line(draw, (right, top), length, size=13, width=80, fill=colours.MUTED, anchor="ra")
    draw.rectangle((_MARGIN, curve_top, right, bottom), fill=colours.PANEL)
    for start, end in strip.moments:
        box = (across(start), curve_top, max(across(end), across(start) + 2), bottom)
        draw.rectangle(box, fill=colours.TINT_TOP)
    if threshold is not None and low <= threshold <= high:
        draw.line((_MARGIN, down(threshold), right, down(threshold)), fill=colours.MUTED)
    steps = [(x, down(z)) for start, end, z in strip.curve for x in (across(start), across(end))]
    if len(steps) > 1:
        draw.line(steps, fill=colours.BLUE, width=2, joint="curve")
    _draw_thumbnails(page, draw, strip, bottom + 8, across)


def _draw_thumbnails(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    strip: Strip,
    top: int,
    across: Callable[[float], float],
) -> None:
    left = float(_MARGIN)
    shown = sorted(zip(strip.moments, strip.thumbnails, strict=False), key=lambda each: each[0])
    for (start, end), picture in [each for each in shown if each[1]][:_MOST_THUMBS]:
        assert picture is not None
        width = round(picture.width * _THUMB / max(picture.height, 1))
        middle = across((start + end) / 2)
        left = max(left, min(middle - width / 2, _WIDTH - _MARGIN - width))
        if left + width > _WIDTH - _MARGIN + 1:
            break
        page.paste(picture.convert("RGB").resize((width, _THUMB)), (round(left), top))
        draw.line((middle, top - 8, left + width / 2, top), fill=colours.BLUE)
        text = f"{start:.1f} to {end:.1f} s"
        at = (left, top + _THUMB + 2)
        draw_line(draw, at, text, size=12, width=width, fill=colours.INK)
        left += width + 8
