"""Why a file is not an image, in plain words."""

from __future__ import annotations

import struct


class UnsupportedError(Exception):
    """The file is intact, and of a kind that cannot be read; the text names the kind."""


def unreadable_reason(error: Exception) -> str:
    """Say in plain words why a file could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def why_not_an_image(header: bytes) -> str:
    """What the first bytes of a file of no known kind say."""
    if not header:
        return "the file is empty"
    start = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or XML, not a pixel image"
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page, not an image"
    if not header.strip(b"\0"):
        return "it begins with nothing but zeros; its copy or download is incomplete"
    if header[4:8] == b"ftyp":
        return "a video or sound (MP4, MOV), not an image"
    for first, what in _NO_IMAGES.items():
        if header.startswith(first):
            return f"{what}, not an image"
    for first, kind in _OTHERS.items():
        if header[: len(first)] == first:
            return f"not supported: {kind}"
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


_NO_IMAGES = {
    b"\0\5\x16\7": "macOS metadata for the file it is named after (AppleDouble)",
    b"%PDF": "a PDF document",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
}
_OTHERS = {
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"II\xbc\x01": "JPEG XR",
    b"v/1\x01": "OpenEXR",
    b"DDS ": "DirectDraw surface",
    b"gimp xcf": "GIMP",
}


def why_broken(kind: str, error: Exception) -> str:
    """What a decoder's error says of the file."""
    said = error.args[0] if error.args else ""
    # LibRaw's errors come as bytes.
    text = " ".join(
        (said.decode(errors="replace") if isinstance(said, bytes) else str(error)).split()
    )
    if type(error).__name__ == "DecompressionBombError":  # inside a decoder, not ours
        return f"too large ({text})"
    if isinstance(error, UnsupportedError):
        return f"not supported: {text}"
    if isinstance(error, (EOFError, IndexError, struct.error)) or "truncated" in text.lower():
        return f"truncated {kind}: the end of the file is missing"
    return f"corrupt {kind} ({text or type(error).__name__})"
