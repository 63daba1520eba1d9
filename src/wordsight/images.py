"""Opening images: formats, orientation, reduced-scale decode, limits; conversion to RGB; crops.

The type of a file is told by its first bytes, never by its name, and the decoder for that type is
called directly. ``PIL.Image.open`` is not used: it would try every plug-in that the embedding
program has registered, and its pixel limit is a process-wide setting; the one here is per call
(for WebP, Pillow's decoder keeps to both).
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wordsight.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

MAX_PIXELS = 200_000_000
"""Images with more pixels than this are refused before they are decoded (800 MB in Pillow)."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"}
    | {".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"}
)
"""File name endings (lower case) by which sources pick out images."""

_HEADER_BYTES = 64
_STRIP_PIXELS = 1 << 20  # pixels converted at once: what that takes beside the image stays small


def open_image(
    source: str | Path | bytes,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    reserve: Callable[[int], object] | None = None,
) -> PIL.Image.Image:
    """Open one image as a fully decoded, upright RGB image.

    JPEG, PNG, WebP, BMP, TIFF, AVIF, GIF (first frame) and HEIC.
    The EXIF orientation is applied. ``source`` is a path or the bytes of a file.

    With ``min_side`` an image comes at a reduced scale at which the short side still has
    ``min_side`` pixels, and fewer than twice as many; smaller images come in their full size. A
    JPEG is decoded at 1/8, 1/4 or 1/2 (of its discrete cosine transform, so it costs less time and
    memory too); the rest of the way, and other formats, are averaged over squares of pixels.
    Either way ``info["full_size"]`` of the result is the width and height of the upright original.
    ``max_pixels`` limits what is decoded, and with it the memory that this takes, four bytes a
    pixel: a JPEG above it passes where the reduced scale is below (a progressive one, whose
    coefficients are held whole, up to it, or to two thirds of it without halved colour), and WebP,
    AVIF and HEIC, whose decoders hold an image two to four times, are limited to a quarter, two
    fifths and a half of it. ``name`` stands for the image in messages (default: the
    path). ``reserve`` is called before anything is decoded, with the number of bytes that it will
    take (:func:`decoding_bytes`).

    Raises ImageError ("<name>: <reason>", one line) for what is missing, unreadable, empty, not an
    image, truncated, corrupt or too large.
    """
    if isinstance(source, bytes):
        name = name or "image data"
        return _decode(io.BytesIO(source), name, min_side, max_pixels, reserve)
    name = name or str(source)
    try:
        # A named pipe would block for ever; only regular files are opened.
        if not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116  (also takes plain strings)
            raise ImageError(f"{name}: not a regular file")
        with open(source, "rb") as file:  # noqa: PTH123
            return _decode(file, name, min_side, max_pixels, reserve)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{name}: {unreadable_reason(error)}") from error


def to_rgb(image: PIL.Image.Image | np.ndarray[Any, Any]) -> PIL.Image.Image:
    """Convert a Pillow image of any mode, or an array, to an 8-bit RGB image.

    Alpha and palette are treated as ``convert("RGB")`` of Pillow does (alpha is dropped); 16-bit
    grey is scaled to 8 bits (Pillow would clip it). Grey of 32-bit integers or floats is scaled by
    the first of 1 (floats only), 255, 65535 and its own maximum that no value exceeds.
    EXIF orientation is not applied: that is part of opening a file.

    Arrays have the shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha dropped) and are bool,
    uint8, uint16 or float with values from 0 to 1. Raises ImageError for other arrays.
    """
    import PIL.Image

    if not isinstance(image, PIL.Image.Image):
        return PIL.Image.fromarray(_array_to_rgb8(image))
    if image.mode == "RGB":
        image.load()
        return image
    return _strip_to_rgb(image, _white(image))


def _strip_to_rgb(image: PIL.Image.Image, white: float) -> PIL.Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _grey_to_rgb(_uint16_to_8(_pixels(image)))
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_wide_grey_to_8(_pixels(image), white))
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info:
        # It has no influence on the colours, but Pillow warns about some of its forms.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def crop(image: PIL.Image.Image, box: Sequence[float]) -> PIL.Image.Image:
    """Cut ``box`` (x0, y0, x1, y1 in pixels) out of ``image``.

    Edges between pixels are moved outwards, the part outside the image is left off, and the result
    is at least one pixel wide and high. Raises ImageError for a box without any part in the image.
    """
    x0, y0, x1, y1 = (float(edge) for edge in box)
    width, height = image.size
    if not (x0 <= x1 and y0 <= y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ImageError(
            f"box {x0:g}, {y0:g}, {x1:g}, {y1:g} has no part in the image of "
            f"{width} x {height} pixels; give x0, y0, x1, y1"
        )
    left, top = math.floor(max(x0, 0)), math.floor(max(y0, 0))
    right = max(math.ceil(min(x1, width)), left + 1)
    bottom = max(math.ceil(min(y1, height)), top + 1)
    if (left, top, right, bottom) == (0, 0, width, height):
        return image.copy()
    return image.crop((left, top, right, bottom))


# Decoding


def _decode(
    file: IO[bytes],
    name: str,
    min_side: int | None,
    max_pixels: int,
    reserve: Callable[[int], object] | None,
) -> PIL.Image.Image:
    header = file.read(_HEADER_BYTES)
    file.seek(0)
    kind = _kind(header)
    if kind is None:
        raise ImageError(f"{name}: {_why_not_an_image(header)}")
    try:
        image = _decoder(kind)(file)
        full = image.size
        if kind == "JPEG" and min_side is not None:
            image.draft(None, (max(min_side, 1), max(min_side, 1)))
        _check_pixels(kind, image, full, max_pixels)
        factor = max(1, min(image.size) // max(min_side, 1)) if min_side is not None else 1
        if reserve is not None:
            reserve(decoding_bytes(kind, image, factor))
        image.load()
        # First made small, then turned: neither needs a second image of the full size.
        orientation = _orientation(image)
        result = _upright(_reduced_rgb(image, factor), orientation)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise nearly every kind on broken data
        raise ImageError(f"{name}: {_why_broken(kind, error)}") from error
    result.info = {"full_size": full[::-1] if orientation in _ON_ITS_SIDE else full}
    return result


def decoding_bytes(kind: str, image: PIL.Image.Image, factor: int = 1) -> int:
    """About how many bytes decoding takes at its peak, with the result; from the header alone.

    ``image`` is opened and not yet loaded (``draft`` included), ``factor`` says how far it is
    reduced after that. The file's own bytes are not counted.
    """
    width, height = image.size
    pixels = width * height
    narrow = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    need = pixels * narrow + 4 * (width // factor) * height
    scale = getattr(image, "decoderconfig", None) or (1,)
    need += int(pixels * scale[0] ** 2 * _coefficient_bytes(kind, image))
    need += pixels * _BESIDE.get(kind, 0)
    return need


def _coefficient_bytes(kind: str, image: PIL.Image.Image) -> float:
    """Bytes a pixel of the full size that decoding a progressive JPEG holds, whatever the scale.

    All coefficients, in 16 bits (libjpeg's whole-image arrays): 3 with halved colour, 6 without.
    Zero for other images.
    """
    if kind != "JPEG" or not image.info.get("progressive"):
        return 0.0
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    factors = [(h, v) for _, h, v, _ in layers] or [(1, 1)] * 4
    blocks = max(h for h, _ in factors) * max(v for _, v in factors)
    return 2 * sum(h * v for h, v in factors) / blocks


_BESIDE = {"WebP": 12, "AVIF": 6, "HEIC": 4}
"""Bytes a pixel that these decoders, which make a whole image at once, hold beside Pillow's four.

Measured on 24 megapixels: 16, 9.3 and 7.5 bytes a pixel in all.
"""


def _reduced_rgb(image: PIL.Image.Image, factor: int) -> PIL.Image.Image:
    """RGB at 1/factor of the size (rounded up); never the same object, but it may share pixels."""
    import PIL.Image

    width, height = image.size
    if factor == 1 and image.mode == "RGB":
        # Without the file and the EXIF (which still says "rotate").
        return image._new(image.im)
    white = _white(image)
    across, down = -(-width // factor), -(-height // factor)
    # Averaged across, by strips, and then down: what Pillow's resize does, without a second image
    # of the full size. Every pixel of the result is a mean of equally many, the edges too.
    rows = max(1, _STRIP_PIXELS // width)
    narrow = PIL.Image.new("RGB", (across, height))
    for top in range(0, height, rows):
        strip = _strip_to_rgb(image.crop((0, top, width, min(top + rows, height))), white)
        narrow.paste(strip.resize((across, strip.height), PIL.Image.Resampling.BOX), (0, top))
    return narrow.resize((across, down), PIL.Image.Resampling.BOX)


def _kind(header: bytes) -> str | None:
    """The format that the first bytes of a file announce."""
    if header.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if header.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return "WebP"
    if header.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if header.startswith(b"BM"):
        return "BMP"
    if header[4:8] == b"ftyp":  # ISO 14496-12: box size, "ftyp", major brand, version, more brands
        end = min(int.from_bytes(header[:4], "big"), len(header))
        brands = {header[at : at + 4] for at in (8, *range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIC"
    return None


def _decoder(kind: str) -> Callable[[IO[bytes]], Any]:
    """Pillow's class for a format; Any, because ``draft`` and friends differ between them."""
    if kind == "JPEG":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile
    if kind == "PNG":
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile
    if kind == "GIF":
        from PIL.GifImagePlugin import GifImageFile

        return GifImageFile
    if kind == "WebP":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile
    if kind == "TIFF":
        return _tiff()
    if kind == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile
    if kind == "AVIF":
        from PIL import features
        from PIL.AvifImagePlugin import AvifImageFile

        if not features.check("avif"):
            raise ImageError("AVIF is missing in this build of Pillow; install Pillow's own wheel")
        return AvifImageFile
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "HEIC images need the package pillow-heif: pip install pillow-heif"
        ) from None
    return HeifImageFile


@lru_cache(maxsize=1)
def _tiff() -> type:
    """Pillow's class without the process-wide limit that it asks for a second time here."""
    from PIL import Image, ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    class Tiff(TiffImageFile):
        def load_prepare(self) -> None:
            if getattr(self, "_im", None) is None:
                size = getattr(self, "_tile_size", self.size)
                self.im = Image.core.new(self.mode, size)  # type: ignore[attr-defined]
            ImageFile.ImageFile.load_prepare(self)

    return Tiff


def _check_pixels(
    kind: str, image: PIL.Image.Image, full: tuple[int, int], max_pixels: int
) -> None:
    """Refuse what is too large; ``image`` has the size it is decoded at, ``full`` is the file's."""
    width, height = image.size
    # The limit is one of memory: the same for every format.
    each = 4.0 + _BESIDE.get(kind, 0)
    formats = f" for {kind}" if kind in _BESIDE else ""
    if coefficients := _coefficient_bytes(kind, image):
        reduced = width * height / (full[0] * full[1])
        width, height = full
        each = max(4 * reduced + coefficients, 4.0)
        formats = " for progressive JPEG" if each > 4 else ""
    most = int(max_pixels * 4 / each)
    if width * height > most:
        raise ImageError(
            f"too large: {width} x {height} pixels are above the limit of {most:,}{formats}; "
            + (
                "make it smaller, or save it as JPEG (not progressive) or PNG"
                if formats
                else "make it smaller"
            )
        )


_ON_ITS_SIDE = (5, 6, 7, 8)


def _orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8 (tag 0x0112; EXIF 2.32, section 4.6.4); 1 where none is told."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF is no reason to refuse the picture
        return 1


def _upright(image: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    from PIL.Image import Transpose

    method = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)


# Reasons


def unreadable_reason(error: Exception) -> str:
    """Say in plain words why a file could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _why_not_an_image(header: bytes) -> str:
    if not header:
        return "the file is empty"
    start = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or XML, not a pixel image"
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page, not an image"
    if (
        header.isascii()
        and header.decode("ascii")
        .replace("\n", " ")
        .replace("\r", " ")
        .replace("\t", " ")
        .isprintable()
    ):
        return "text, not an image"
    return "not an image in a known format (JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC, AVIF)"


def _why_broken(kind: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if type(error).__name__ == "DecompressionBombError":  # inside a decoder, not ours
        return f"too large ({text})"
    if isinstance(error, (EOFError, IndexError, struct.error)) or "truncated" in text.lower():
        return f"truncated {kind}: the end of the file is missing"
    return f"corrupt {kind} ({text or type(error).__name__})"


# Pixels


def _pixels(image: PIL.Image.Image) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.asarray(image)


def _uint16_to_8(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    # 65535 = 255 * 257, so this is the nearest integer of pixels * 255 / 65535.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _white(image: PIL.Image.Image) -> float:
    """What counts as white in grey of 32-bit integers or floats (other modes: nothing)."""
    if image.mode not in ("I", "F"):
        return 0.0
    rows = max(1, _STRIP_PIXELS // image.width)
    strips = (
        image.crop((0, top, image.width, min(top + rows, image.height)))
        for top in range(0, image.height, rows)
    )
    largest = max(float(_finite(_pixels(strip)).max()) for strip in strips)
    whites = [255.0, 65535.0] if image.mode == "I" else [1.0, 255.0, 65535.0]
    return next((white for white in whites if largest <= white), largest)


def _finite(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    values = pixels.astype(np.float64)
    finite: np.ndarray[Any, Any] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return finite


def _wide_grey_to_8(pixels: np.ndarray[Any, Any], white: float) -> np.ndarray[Any, Any]:
    return _unit_to_8(_finite(pixels) / white)


def _unit_to_8(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    grey: np.ndarray[Any, Any] = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return grey


def _grey_to_rgb(pixels: np.ndarray[Any, Any]) -> PIL.Image.Image:
    import PIL.Image

    return PIL.Image.fromarray(pixels).convert("RGB")


def _array_to_rgb8(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ImageError(
            f"an array of shape {list(np.shape(array))} is no image; "
            "give [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
        )
    pixels = pixels[:, :, :3]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype == np.uint16:
        pixels = _uint16_to_8(pixels)
    elif pixels.dtype.kind == "f":
        # Resampling overshoots a little, which is clipped; more is another scale.
        if not np.isfinite(pixels).all() or pixels.max() > 1.5 or pixels.min() < -0.5:
            raise ImageError("float pixels must be from 0 to 1; divide by 255 or convert to uint8")
        pixels = _unit_to_8(pixels.astype(np.float64))
    elif pixels.dtype != np.uint8:
        raise ImageError(
            f"pixels of type {pixels.dtype} are not supported; give uint8, uint16, bool or float"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
