"""A second chance for files whose pixels are all there: the same image without what is damaged."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib

_END = b"\xff\xd9"
# After the first scan begins: more scans, tables, comments, restarts and stuffed bytes go on.
_AFTER_SCANS = re.compile(rb"\xff[^\x00\xff\xc4\xda\xdb\xdc\xdd\xfe\xd0-\xd7]")
_KEPT = {b"tRNS", b"iCCP", b"cICP", b"sRGB", b"gAMA", b"eXIf", b"acTL", b"fcTL", b"fdAT"}


def mended(kind: str, data: bytes) -> bytes | None:
    """The bytes of the same picture that decode; None where nothing is known to do.

    A PNG loses text, however long, a profile of more than a megabyte, and ancillary chunks that
    fail their check. A JPEG without its
    end marker gets one, if no pixel is missing.
    """
    try:
        return {"PNG": _png, "JPEG": _jpeg}[kind](data)
    except (KeyError, struct.error):
        return None


def _png(data: bytes) -> bytes | None:
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + length]
        critical = not name[0] & 0x20
        whole = name in _KEPT and zlib.crc32(chunk[4:-4]) == _crc(chunk)
        if critical or (whole and not (name == b"iCCP" and _is_too_long(chunk[8:-4]))):
            parts.append(chunk)
        at += 12 + length
        if name == b"IEND":
            break
    result = b"".join(parts)
    return result if len(result) < len(data) else None


def _is_too_long(profile: bytes) -> bool:
    """Whether Pillow refuses the picture for the length of this profile: tables may take megabytes.

    The body of an iCCP chunk: a name, a null byte, the method, the compressed profile.
    """
    from PIL.PngImagePlugin import MAX_TEXT_CHUNK

    packed = profile[profile.find(b"\0") + 2 :]
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_TEXT_CHUNK + 1)) > MAX_TEXT_CHUNK
    except zlib.error:
        return True


def _crc(chunk: bytes) -> int:
    return int.from_bytes(chunk[-4:], "big")


def _jpeg(data: bytes) -> bytes | None:
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        image = JpegImageFile(io.BytesIO(data))
    except Exception:  # not even its header can be read
        return None
    start = _first_scan(data)
    found = _AFTER_SCANS.search(data, start + 2)
    if found and found[0] == _END:
        return None  # it has its end, and is broken
    body = data[: found.start() if found else len(data)].rstrip(b"\xff")
    if image.info.get("progressive") and not _all_scans(body, start, image.layer):
        return None
    # The decoder fills missing pixels from whatever follows: are there any, they now differ.
    noise = random.Random(0)
    ends = [b"", *(b"".join(_restart(i, noise) for i in range(32)) for _ in range(2))]
    pictures = {_checksum(body + end + _END) for end in ends}
    return body + _END if len(pictures) == 1 and None not in pictures else None


def _first_scan(data: bytes) -> int:
    """Where the marker of the first scan stands, after segments that tell their lengths."""
    at = 2
    while data[at : at + 2] != b"\xff\xda" and at + 4 <= len(data):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _restart(number: int, noise: random.Random) -> bytes:
    return bytes(noise.randrange(255) for _ in range(64)) + bytes([0xFF, 0xD0 + number % 8])


def _checksum(data: bytes) -> bytes | None:
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        image = JpegImageFile(io.BytesIO(data))
        # At half the scale: every block counts, at a quarter of the memory.
        image.draft(None, (max(1, image.width // 2), max(1, image.height // 2)))
        return zlib.crc32(image.tobytes()).to_bytes(4, "big")
    except Exception:  # decoders raise nearly every kind on broken data
        return None


def _all_scans(body: bytes, start: int, layers: list[tuple[int, int, int, int]]) -> bool:
    """Whether every coefficient of every component came in all its bits (ITU-T T.81, annex G)."""
    exact: set[tuple[int, int]] = set()
    at = start
    while 0 <= at < len(body) - 6:
        count = body[at + 4]
        components = body[at + 5 : at + 5 + 2 * count : 2]
        first, last, bits = struct.unpack("BBB", body[at + 5 + 2 * count : at + 8 + 2 * count])
        if bits & 15 == 0:
            exact |= {(part, which) for part in components for which in range(first, last + 1)}
        at = body.find(b"\xff\xda", at + 2)
    return all((layer[0], which) in exact for layer in layers for which in range(64))
