"""Lines of text for Pillow pictures: fonts, missing glyphs, shortening and wrapping.

The fonts are the DejaVu files inside matplotlib's own folder, so pictures look alike on every
machine. A script they lack (Japanese, Chinese, Korean) is drawn with a system font where one
is found, else as hollow squares; a pictograph becomes its name in brackets.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

ELLIPSIS = "…"
_LONGEST = 2000  # characters; no line of a picture shows more
# Found by name in the folders Pillow knows; used only for what DejaVu cannot write.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKjp-Regular.otf",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "YuGothM.ttc",
    "msyh.ttc",
    "malgun.ttf",
)


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at ``size`` pixels, or Pillow's built-in face where its file is missing."""
    spec = importlib.util.find_spec("matplotlib")  # finds the folder, does not import
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        try:
            return _truetype(str(folder / name), size)
        except OSError:
            pass
    face = ImageFont.load_default(size)
    assert isinstance(face, ImageFont.FreeTypeFont)
    return face


def _truetype(name: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is in every build of Pillow; Raqm is not.
    return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=8)
def _wide_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return _truetype(name, size)
    except OSError:
        return None


def _draws(face: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether ``face`` has a glyph: what it lacks is drawn like U+FFFF, which no font has."""
    return bytes(face.getmask(character)) != bytes(face.getmask("\uffff"))


@lru_cache(maxsize=4096)
def _covered(character: str) -> bool:
    return character.isspace() or _draws(font(16), character)


def one_line(text: str) -> str:
    """``text`` without line ends and controls, and with pictographs no font draws in words."""
    text = unicodedata.normalize("NFC", text[:_LONGEST])  # accents are whole letters in fonts
    out = []
    for character in re.sub(r"\s", " ", text):
        category = unicodedata.category(character)
        if category == "Cs":  # half of a pair: a file name that is not valid Unicode
            out.append("\ufffd")
        elif category in ("Cc", "Cf", "Mn", "Me") and not unicodedata.combining(character):
            continue  # controls, joiners, variation selectors
        elif category == "So" and not _covered(character):
            out.append(f"[{unicodedata.name(character, 'symbol').lower()}]")
        else:
            out.append(character)
    return re.sub(" {4,}", "   ", "".join(out)).strip()


def writable(text: str) -> str:
    """``text`` as one line of characters that the bundled font can draw."""
    return "".join(c if _covered(c) else "□" for c in one_line(text))


def typeset(text: str, size: int, bold: bool = False) -> tuple[str, ImageFont.FreeTypeFont]:
    """The characters to draw for ``text`` and the face to draw them with."""
    line = one_line(text)
    if not all(map(_covered, line)):
        for name in _WIDE_FONTS:
            face = _wide_font(name, size)
            if face is not None and all(c == " " or _draws(face, c) for c in line):
                return line, face
    return writable(text), font(size, bold)


def shorten(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """``text`` cut to ``width`` pixels: a path loses its middle, anything else its end."""
    if face.getlength(text) <= width:
        return text
    is_path = "/" in text or "\\" in text

    def cut(keep: int) -> str:
        if not is_path:
            return text[:keep].rstrip() + ELLIPSIS
        head = keep // 3  # the file's name matters more than its root
        return text[:head] + ELLIPSIS + text[len(text) - (keep - head) :]

    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(cut(middle)) <= width:
            low = middle
        else:
            high = middle - 1
    return cut(low)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """``text`` in at most ``most`` lines of ``width`` pixels; … ends one that is cut off."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most - 1 and face.getlength(rest) > width:
        fits = _prefix(rest, face, width)
        space = rest.rfind(" ", 0, fits + 1)
        end = space if space > 0 else fits
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        if face.getlength(rest) > width:  # by its end, even where it holds a slash
            rest = rest[: _prefix(rest, face, width - face.getlength(ELLIPSIS))].rstrip() + ELLIPSIS
        lines.append(rest)
    return lines


def _prefix(text: str, face: ImageFont.FreeTypeFont, width: float) -> int:
    """How many leading characters of ``text`` fit ``width``; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def draw_line(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    size: int,
    width: float,
    fill: str,
    bold: bool = False,
    anchor: str = "la",
) -> None:
    """Draw one line at ``at`` (Pillow's ``anchor``), shortened to ``width`` pixels."""
    line, face = typeset(text, size, bold)
    draw.text(at, shorten(line, face, width), font=face, fill=fill, anchor=anchor)
