"""JPEG XL, by libjxl."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import IO, Any

from wordsight.errors import ImageError

_START = 32  # bytes that the size is within


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
        boxes = {n: bytes(c) for n, c in _boxes(data) if n in (b"Exif", b"xml ")}
        self.info: dict[str, Any] = {"xmp": boxes.get(b"xml ")}
        self.exif = _exif(boxes.get(b"Exif", b""))
        self.size = _size(_codestream(data))

    def getexif(self) -> dict[int, Any]:
        return {}  # libjxl has turned it

    def loaded(self) -> Any:
        """The decoded image."""
        from PIL import ImageOps
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile

        image: Any = JXLImageFile(io.BytesIO(self._data))
        image.load()
        if image.jpeg:  # made of a JPEG, which it is again, as the JPEG lay
            return ImageOps.exif_transpose(image)
        return image


def _codestream(data: bytes) -> bytes:
    """The start of the codestream, inside its boxes or bare."""
    stream = b""
    for name, content in _boxes(data):
        if name in (b"jxlc", b"jxlp") and len(stream) < _START:  # the first part may be short
            stream += content[4 if name == b"jxlp" else 0 :][:_START]
    return stream or data[:_START]


def _boxes(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Names and contents of the boxes of a file that has them (ISO/IEC 18181-2)."""
    at = 0
    while data[:2] != b"\xff\x0a" and at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        length = int.from_bytes(data[at + 8 : at + 16], "big") if length == 1 else length
        end = at + length if length else len(data)  # 0: to the end of the file
        yield name, memoryview(data)[at + head : end]
        if end < at + head:
            return
        at = end


def _exif(box: bytes) -> Any:
    """EXIF of its box, which begins with how many bytes lie before it; None without one."""
    from PIL.Image import Exif

    exif = None
    with contextlib.suppress(Exception):
        # Pillow's plug-in writes no such number.
        bare = box.startswith((b"II*\0", b"MM\0*"))
        skipped = 0 if bare else 4 + int.from_bytes(box[:4], "big")
        if len(box) > skipped:
            exif = Exif()
            exif.load(b"Exif\0\0" + box[skipped:])
    return exif


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
