"""JPEG XL, by libjxl."""

from __future__ import annotations

import io
from typing import IO, Any

from wordsight.errors import ImageError


def open_jxl(file: IO[bytes]) -> Any:
    """A JPEG XL file with what is asked of an image of Pillow that is not yet loaded.

    Raises ImageError where its package is missing.
    """
    data = file.read()
    try:
        import pillow_jxl  # noqa: F401
    except ImportError:
        raise ImageError(
            "JPEG XL needs the package pillow-jxl-plugin: pip install 'wordsight[jxl]'"
        ) from None
    return _Jxl(data)


class _Jxl:
    """The plug-in decodes when it opens: the size is read before, so that limits hold."""

    mode = "RGB"
    bytes_each = 12.0  # decoded, as a copy, and Pillow's own

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.info: dict[str, Any] = {}
        self.size = _size(_codestream(data))

    def getexif(self) -> dict[int, Any]:
        return {}  # libjxl has turned it

    def loaded(self) -> Any:
        """The decoded image."""
        from PIL import ImageOps
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile

        image = JXLImageFile(io.BytesIO(self._data))
        image.load()
        if image.jpeg:  # made of a JPEG, which it is again, as the JPEG lay
            return ImageOps.exif_transpose(image)
        return image


def _codestream(data: bytes) -> bytes:
    """The start of the codestream, inside its boxes or bare (ISO/IEC 18181-2)."""
    at = 0
    while data[:2] != b"\xff\x0a" and at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        if name in (b"jxlc", b"jxlp"):
            start = at + head + (4 if name == b"jxlp" else 0)
            return data[start : start + 32]
        length = int.from_bytes(data[at + 8 : at + 16], "big") if length == 1 else length
        if length < head:
            break
        at += length
    return data[:32]


def _size(stream: bytes) -> tuple[int, int]:
    """Width and height of the upright image: the SizeHeader (ISO/IEC 18181-1, D.2 and D.3)."""
    if len(stream) < 12 or stream[:2] != b"\xff\x0a":
        raise EOFError("truncated")
    bits = int.from_bytes(stream[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    across, down = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    width = height * across // down if ratio else side()
    turned = (
        not take(1) and take(1) and take(3) + 1 >= 5
    )  # ImageMetadata: all_default, extra_fields
    return (height, width) if turned else (width, height)
