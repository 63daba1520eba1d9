"""Cameras' RAW files, by LibRaw: the camera's preview, or half the sensor's pixels."""

from __future__ import annotations

import contextlib
import io
from typing import IO, Any, BinaryIO, cast

from wordsight.errors import ImageError

_HEAD = 1 << 20  # bytes: EXIF lies before the pixels
_PREVIEW_SIDE = 1000  # pixels: cameras' previews are of 1,080 and more, their thumbnails below 500
_FLIPS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's turns as EXIF orientations
_BYTES = (
    6.0  # a pixel of the sensor: 16 bits as read, 16 bits times four at half the size, 8 in RGB
)


def open_raw(file: IO[bytes]) -> Any:
    """A RAW file with what is asked of an image of Pillow that is not yet loaded.

    Raises ImageError where rawpy is missing; whatever LibRaw raises for what it cannot read.
    """
    try:
        import rawpy
    except ImportError:
        raise ImageError(
            "RAW photographs need the package rawpy: pip install 'wordsight[raw]'"
        ) from None
    from wordsight.images.reasons import UnsupportedError

    exif = _tiff_exif(file)
    try:
        return _Raw(rawpy.imread(cast("BinaryIO", file)), exif)
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError):
        raise UnsupportedError("a RAW file from a camera that LibRaw does not support") from None


def _tiff_exif(file: IO[bytes]) -> Any:
    """EXIF of a RAW file that is a TIFF, as most are; None of others."""
    from PIL.Image import Exif

    start = file.read(4)
    file.seek(0)
    exif = None
    if start in (b"II*\0", b"MM\0*"):
        with contextlib.suppress(Exception):
            # A copy of the head: LibRaw closes or moves the file itself.
            exif = Exif()
            exif.load_from_fp(io.BytesIO(file.read(_HEAD)))
    file.seek(0)
    return exif


class _Raw:
    mode = "RGB"
    media = "raw"

    def __init__(self, raw: Any, exif: Any = None) -> None:
        self._raw = raw
        self.exif = exif
        self.info: dict[str, Any] = {}
        self._orientation = _FLIPS.get(raw.sizes.flip, 1)
        self._preview = self._large_preview()
        sizes = raw.sizes
        if self._preview is not None:
            self.size: tuple[int, int] = self._preview.size
            self.bytes_each = 4.0
        else:
            self._orientation = 1  # LibRaw turns what it develops
            width, height = -(-sizes.width // 2), -(-sizes.height // 2)
            self.size = (height, width) if sizes.flip in (5, 6) else (width, height)
            self.bytes_each = 4 * _BYTES

    def _large_preview(self) -> Any:
        import rawpy
        from PIL import Image
        from PIL.JpegImagePlugin import JpegImageFile

        try:
            preview = self._raw.extract_thumb()
        except rawpy.LibRawError:  # there is none, or of an odd kind
            return None
        if preview.format == rawpy.ThumbFormat.JPEG:
            image: Any = JpegImageFile(io.BytesIO(preview.data))
            turn = image.getexif().get(0x0112)
            self.exif = self.exif or image.getexif()
            self._orientation = turn if turn in range(1, 9) else self._orientation
        elif preview.format == rawpy.ThumbFormat.BITMAP:
            image = Image.fromarray(preview.data)
        else:
            return None
        enough = min(_PREVIEW_SIDE, self._raw.sizes.width // 2, self._raw.sizes.height // 2)
        return image if min(image.size) >= enough else None

    def draft(self, mode: None, size: tuple[int, int]) -> None:
        if self._preview is not None and hasattr(self._preview, "draft"):
            self._preview.draft(mode, size)
            self.size = self._preview.size

    def getexif(self) -> dict[int, Any]:
        return {0x0112: self._orientation}

    def loaded(self) -> Any:
        """The preview, or the sensor's pixels developed at half the size."""
        from PIL import Image

        with self._raw:
            if self._preview is not None:
                self._preview.load()
                return self._preview
            pixels = self._raw.postprocess(half_size=True, use_camera_wb=True)
        return Image.fromarray(pixels)
