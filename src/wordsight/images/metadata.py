"""What a file says of its picture beside the pixels: EXIF, XMP, and keywords of IPTC.

Files say what they like, and wrongly too: what cannot be read counts as not said.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

_MODEL, _EXIF, _GPS = 0x0110, 0x8769, 0x8825  # tags of EXIF 2.32 from here on
_TAKEN = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))  # time, its fraction, its zone
_LENS = 0xA434
_GPS_DATE, _GPS_TIME = 29, 7
_QUARTER = timedelta(minutes=15)
_STALE = timedelta(minutes=5)  # so old may what the satellites said be
_IPTC_KEYWORDS = (2, 25)
_TIME = re.compile(
    r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?\s*(Z|[+-]\d\d:\d\d)?$"
)
_XMP_TIMES = ("DateTimeOriginal", "DateCreated", "CreateDate")
_LONGEST = 200  # characters of a text
_MOST = 100  # keywords


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a picture; None where its file does not say.

    ``media`` is "photo", "raw" or "video"; ``orientation`` "landscape", "portrait" or "square", of
    the upright picture. ``taken`` is ISO 8601, the time on the camera's clock with its zone where
    the file names it ("2023-07-14T18:03:22+02:00"). ``latitude`` and ``longitude`` are degrees.

    Of a frame of a video (the path ``video``), ``time`` is seconds from the first frame shown; it
    stands for what the video shows until ``until``. ``recorded`` is when that was, ISO 8601 in UTC.
    ``caption`` is what the source says of it: files beside images of a shard, a table's column.
    """

    media: str = "photo"
    orientation: str | None = None
    taken: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    keywords: list[str] | None = None
    time: float | None = None
    until: float | None = None
    recorded: str | None = None
    video: str | None = None
    caption: str | None = None


def metadata_of(image: Any, size: tuple[int, int]) -> Metadata:
    """What an opened image (of Pillow, or like one) says; ``size`` is the upright one's."""
    from PIL.Image import Image

    main: Any = {}
    exif: dict[int, Any] = {}
    gps: dict[int, Any] = {}
    with contextlib.suppress(Exception):
        main = getattr(image, "exif", None)
        # Pillow's own method: that of PNG would decode the picture to look behind it.
        main = (Image.getexif(image) if isinstance(image, Image) else {}) if main is None else main
        if main:
            exif, gps = main.get_ifd(_EXIF), main.get_ifd(_GPS)
    xmp = _xmp(image)
    latitude, longitude = _position(gps)
    width, height = size
    return Metadata(
        media=getattr(image, "media", "photo"),
        orientation=("square", "landscape", "portrait")[(width > height) + 2 * (width < height)],
        taken=_taken(exif, gps, xmp),
        camera=_text(main.get(_MODEL)) or _first(xmp, "Model"),
        lens=_text(exif.get(_LENS)) or _first(xmp, "LensModel", "Lens"),
        latitude=latitude,
        longitude=longitude,
        keywords=list(dict.fromkeys([*xmp.get("subject", []), *_iptc_keywords(image)]))[:_MOST]
        or None,
    )


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    with contextlib.suppress(ValueError):  # Pillow reads as Latin-1 what is often UTF-8
        value = value.encode("latin-1").decode()
    value = value.encode("utf-8", "replace").decode()  # no surrogates
    return " ".join(value.partition("\0")[0].split())[:_LONGEST] or None


def _taken(
    exif: Mapping[int, Any], gps: Mapping[int, Any], xmp: Mapping[str, list[str]]
) -> str | None:
    for time, fraction, zone in _TAKEN:
        said, part = _text(exif.get(time)), _text(exif.get(fraction))
        if said:
            clock = said + (f".{part}" if part else "")
            found = _iso(clock + (_text(exif.get(zone)) or ""))
            if found and datetime.fromisoformat(found).tzinfo:
                return found
            if found := _iso(clock) or _iso(said):
                return found + _zone(found, gps)
    times = (_iso(text) for name in _XMP_TIMES for text in xmp.get(name, []))
    return next(filter(None, times), None)


def _iso(said: str) -> str | None:
    found = _TIME.match(said)
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}"
    try:
        datetime.fromisoformat(text)
    except ValueError:  # a camera without a clock writes zeros
        return None
    milliseconds = (fraction or "").ljust(3, "0")[:3]
    text += f".{milliseconds}" if milliseconds != "000" else ""
    return text + ("+00:00" if zone == "Z" else zone or "")


def _zone(clock: str, gps: Mapping[int, Any]) -> str:
    """The zone of a clock that showed this when the satellites told UTC: "+02:00"; "" if unknown.

    Zones are whole quarters of an hour, from 12 hours behind to 14 hours ahead.
    """
    try:
        year, month, day = map(int, re.split("[:-]", _text(gps[_GPS_DATE]) or ""))
        hours, minutes, seconds = map(float, gps[_GPS_TIME])
        utc = datetime(year, month, day) + timedelta(hours=hours, minutes=minutes, seconds=seconds)
        ahead = datetime.fromisoformat(clock) - utc
        zone = round(ahead / _QUARTER) * _QUARTER
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return ""
    if abs(ahead - zone) > _STALE or not timedelta(hours=-12) <= zone <= timedelta(hours=14):
        return ""
    hours, minutes = divmod(abs(zone) // timedelta(minutes=1), 60)
    return f"{'-' if zone < timedelta() else '+'}{hours:02}:{minutes:02}"


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    def degrees(value: Any, reference: Any, negative: str) -> float:
        whole, minutes, seconds = (*map(float, value), 0.0, 0.0)[:3]
        size = whole + minutes / 60 + seconds / 3600
        return -size if (_text(reference) or "").upper().startswith(negative) else size

    with contextlib.suppress(Exception):
        latitude = degrees(gps[2], gps.get(1), "S")
        longitude = degrees(gps[4], gps.get(3), "W")
        possible = abs(latitude) <= 90 and abs(longitude) <= 180  # not nan either
        # Zero and zero is what devices write that do not know.
        if possible and (latitude or longitude) and math.isfinite(latitude + longitude):
            return round(latitude, 7), round(longitude, 7)
    return None, None


def _xmp(image: Any) -> dict[str, list[str]]:
    """The texts of an XMP packet (ISO 16684-1) by the names of their properties."""
    from xml.etree.ElementTree import ParseError, fromstring

    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    start, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    if start < 0:
        return {}
    try:
        # From its root element on: no document type can follow, nor entities that grow.
        root = fromstring(packet[start : end + len(b"</x:xmpmeta>")])
    except (ParseError, ValueError):
        return {}
    found: dict[str, list[str]] = {}
    for block in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"):
        said = list(block.attrib.items())
        said += [(part.tag, text) for part in block for text in part.itertext()]
        for name, text in said:
            if cleaned := _text(text):
                found.setdefault(name.rpartition("}")[2], []).append(cleaned)
    return found


def _first(xmp: Mapping[str, list[str]], *names: str) -> str | None:
    return next((xmp[name][0] for name in names if name in xmp), None)


def _iptc_keywords(image: Any) -> list[str]:
    from PIL.IptcImagePlugin import getiptcinfo

    with contextlib.suppress(Exception):
        said = getiptcinfo(image) or {}
        words = said.get(_IPTC_KEYWORDS, [])
        words = words if isinstance(words, list) else [words]
        return [word for word in map(_iptc_text, words) if word]
    return []


def _iptc_text(value: bytes) -> str | None:
    try:
        return _text(value.decode())
    except UnicodeDecodeError:  # as programs wrote it before they named their coding
        return _text(value.decode("latin-1"))
