"""The formats: told by their first bytes, and the decoder of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import IO, Any

from wordsight.errors import ImageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"}
    | {".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"}
)
"""File name endings (lower case) of the images that every installation opens."""

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef"}
    | {".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"}
    | {".srf", ".srw", ".x3f"}
)
"""File name endings (lower case) of cameras' RAW files."""

SOFTWARE = "wordsight"
"""What files that wordsight draws name as their software."""

HEADER_BYTES = 64


@lru_cache(maxsize=1)
def readable_suffixes() -> frozenset[str]:
    """File name endings (lower case) of what can be opened here, with the extras that are there."""
    suffixes = IMAGE_SUFFIXES
    if find_spec("rawpy"):
        suffixes |= RAW_SUFFIXES
    if find_spec("pillow_jxl"):
        suffixes |= {".jxl"}
    return suffixes


def kind_of(header: bytes) -> str | None:
    """The format that the first bytes of a file announce; that of RAW files may still be TIFF."""
    for kind, starts in _STARTS.items():
        if header.startswith(starts):
            return kind
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return "WebP"
    if header[4:8] == b"ftyp":  # ISO 14496-12: box size, "ftyp", major brand, version, more brands
        end = min(int.from_bytes(header[:4], "big"), len(header))
        brands = {header[at : at + 4] for at in (8, *range(16, end, 4))}
        if b"crx " in brands:
            return "RAW"
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIC"
    return None


_STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    # Fujifilm, Olympus (three), Panasonic, Canon, Sigma, Minolta.
    "RAW": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR",
            b"FOVb", b"\0MRM"),
}  # fmt: skip


def decoder(kind: str) -> Callable[[IO[bytes]], Any]:
    """What opens a format as an image of Pillow; Any, because ``draft`` and friends differ.

    Raises ImageError where a package is missing.
    """
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
    if kind == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile
    if kind == "TIFF":
        from wordsight.images.tiff import open_tiff

        return open_tiff
    if kind == "RAW":
        from wordsight.images.raw import open_raw

        return open_raw
    if kind == "JPEG XL":
        from wordsight.images.jxl import open_jxl

        return open_jxl
    if kind == "AVIF":
        from PIL import features
        from PIL.AvifImagePlugin import AvifImageFile

        if not features.check("avif"):
            raise ImageError(
                "this build of Pillow does not support AVIF; install Pillow's own wheel"
            )
        return AvifImageFile
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "HEIC images need the package pillow-heif: pip install pillow-heif"
        ) from None
    return HeifImageFile
