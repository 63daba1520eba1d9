"""Opening images: orientation, reduced-scale decode, limits.

The type of a file is told by its first bytes, never by its name, and the decoder for that type is
called directly. ``PIL.Image.open`` is not used: it would try every plug-in that the embedding
program has registered, and its pixel limit is a process-wide setting; the one here is per call
(for WebP, Pillow's decoder keeps to both).
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wordsight.errors import ImageError
from wordsight.images.formats import HEADER_BYTES, SOFTWARE, decoder, kind_of
from wordsight.images.metadata import Metadata, metadata_of
from wordsight.images.reasons import (
    UnsupportedError,
    unreadable_reason,
    why_broken,
    why_not_an_image,
)

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = 200_000_000
"""Images with more pixels than this are refused before they are decoded (800 MB in Pillow)."""


def open_image(
    source: str | Path | bytes,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    reserve: Callable[[int], object] | None = None,
) -> PIL.Image.Image:
    """Open one image as a fully decoded, upright RGB image.

    JPEG, PNG, WebP, BMP, TIFF, AVIF, GIF (first frame) and HEIC; with the extras ``raw``, ``jxl``
    and ``tiff`` also cameras' RAW files (their preview, or half of the sensor's pixels), JPEG XL
    and rarer TIFFs. The EXIF orientation is applied, colours become sRGB (light above 203 nits is
    white), and what is transparent lies on white. ``source`` is a path or the bytes of a file.

    With ``min_side`` an image comes at a reduced scale at which the short side still has
    ``min_side`` pixels, and fewer than twice as many; smaller images come in their full size. A
    JPEG is decoded at 1/8, 1/4 or 1/2 (of its discrete cosine transform, so it costs less time and
    memory too); the rest of the way, and other formats, are averaged over squares of pixels.
    Either way ``info["full_size"]`` of the result is the width and height of the upright original,
    ``info["metadata"]`` is what the file says of it (:class:`Metadata`),
    and ``info["software"]`` is "wordsight" where wordsight itself drew and saved the picture.
    ``max_pixels`` limits what is decoded, and with it the memory that this takes, four bytes a
    pixel: a JPEG above it passes where the reduced scale is below (a progressive one, whose
    coefficients are held whole, up to it, or to two thirds of it without halved colour), and WebP,
    AVIF and HEIC, whose decoders hold an image two to four times, are limited to a quarter, two
    fifths and a half of it. ``name`` stands for the image in messages (default: the
    path). ``reserve`` is called before anything is decoded, with the number of bytes that it will
    take (:func:`decoding_bytes`).

    Raises ImageError ("<name>: <reason>", one line) for what is missing, unreadable, empty, not an
    image, truncated, corrupt, not supported or too large.
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


def read_metadata(source: str | Path | bytes) -> Metadata | None:
    """What a file says of its picture, from its head alone; None where that cannot be read."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(contextlib.suppress(Exception))  # decoders raise nearly every kind
        file: IO[bytes]
        if isinstance(source, bytes):
            file = io.BytesIO(source)
        else:
            file = opened.enter_context(open(source, "rb"))  # noqa: PTH123
        kind = kind_of(file.read(HEADER_BYTES))
        file.seek(0)
        if kind is not None:
            image = decoder(kind)(file)
            told = kind != "PNG" or "exif" in image.info  # else Pillow would decode it to look
            turned = told and _orientation(image) in _ON_ITS_SIDE
            return metadata_of(image, image.size[::-1] if turned else image.size)
    return None


# Decoding


def _decode(
    file: IO[bytes],
    name: str,
    min_side: int | None,
    max_pixels: int,
    reserve: Callable[[int], object] | None,
) -> PIL.Image.Image:
    header = file.read(HEADER_BYTES)
    file.seek(0)
    kind = kind_of(header)
    if kind is None:
        raise ImageError(f"{name}: {why_not_an_image(header)}")
    try:
        return _decode_kind(file, kind, min_side, max_pixels, reserve)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise nearly every kind on broken data
        whole = _mended(file, kind, error)
        if whole is None:
            raise ImageError(f"{name}: {why_broken(kind, error)}") from error
    # What the decoding takes was asked for the first time.
    return _decode_mended(whole, name, kind, min_side, max_pixels)


def _mended(file: IO[bytes], kind: str, error: Exception) -> bytes | None:
    if kind not in ("JPEG", "PNG") or isinstance(error, UnsupportedError):
        return None
    from wordsight.images.mending import mended

    file.seek(0)
    return mended(kind, file.read())


def _decode_mended(
    data: bytes, name: str, kind: str, min_side: int | None, max_pixels: int
) -> PIL.Image.Image:
    try:
        return _decode_kind(io.BytesIO(data), kind, min_side, max_pixels, None)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:
        raise ImageError(f"{name}: {why_broken(kind, error)}") from error


def _decode_kind(
    file: IO[bytes],
    kind: str,
    min_side: int | None,
    max_pixels: int,
    reserve: Callable[[int], object] | None,
) -> PIL.Image.Image:
    from wordsight.images.colour import reduced_rgb
    from wordsight.images.profiles import told_coding

    image = decoder(kind)(file)
    full = image.size
    if min_side is not None and hasattr(image, "draft") and kind in ("JPEG", "RAW"):
        image.draft(None, (max(min_side, 1), max(min_side, 1)))
    _check_pixels(kind, image, full, max_pixels)
    factor = max(1, min(image.size) // max(min_side, 1)) if min_side is not None else 1
    if reserve is not None:
        reserve(decoding_bytes(kind, image, factor))
    if coding := told_coding(kind, image.info, file):
        image.info["coding"] = coding
    # RAW and some TIFF are no images of Pillow before they are decoded.
    decoded = image.loaded() if hasattr(image, "loaded") else image
    decoded.load()
    # First made small, then turned: neither needs a second image of the full size.
    orientation = _orientation(image)
    own = _is_own(image)
    result = _upright(reduced_rgb(decoded, factor), orientation)
    size = full[::-1] if orientation in _ON_ITS_SIDE else full
    result.info = {"full_size": size, "metadata": metadata_of(image, size)}
    if own:
        result.info["software"] = SOFTWARE
    return result


def _is_own(image: Any) -> bool:
    """Whether wordsight drew and saved this picture (``render/saving.py``)."""
    said = [image.info.get("Software"), image.info.get("comment")]
    with contextlib.suppress(Exception):  # broken EXIF says nothing
        said.append(image.getexif().get(0x0131))
    return SOFTWARE in said or SOFTWARE.encode() in said


def decoding_bytes(kind: str, image: Any, factor: int = 1) -> int:
    """About how many bytes decoding takes at its peak, with the result; from the header alone.

    ``image`` is opened and not yet loaded (``draft`` included), ``factor`` says how far it is
    reduced after that. The file's own bytes are not counted.
    """
    width, height = image.size
    pixels = width * height
    narrow = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    need: int = pixels * narrow + 4 * (width // factor) * height
    scale = getattr(image, "decoderconfig", None) or (1,)
    need += int(pixels * scale[0] ** 2 * _coefficient_bytes(kind, image))
    need += int(pixels * _beside(kind, image))
    return need


def _beside(kind: str, image: Any) -> float:
    """Bytes a pixel that a decoder holds beside Pillow's four."""
    each: float = getattr(image, "bytes_each", 4.0 + _BESIDE.get(kind, 0))
    return each - 4.0


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


def _check_pixels(kind: str, image: Any, full: tuple[int, int], max_pixels: int) -> None:
    """Refuse what is too large; ``image`` has the size it is decoded at, ``full`` is the file's."""
    width, height = image.size
    # The limit is one of memory: the same for every format.
    each = 4.0 + _beside(kind, image)
    formats = f" for such a {kind} file" if hasattr(image, "bytes_each") else f" for {kind}"
    formats = formats if each > 4 else ""
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


def _orientation(image: Any) -> int:
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
