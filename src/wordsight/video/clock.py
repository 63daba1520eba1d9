"""When a video was recorded, and by which camera: from its container, or from its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

_STAMP = re.compile(
    r"(?<!\d)(?P<date>(?:19|20)\d\d([-_.]?)[01]\d\2[0-3]\d)"
    r"(?:[T_ .-]{0,3}(?P<time>[0-2]\d([-_.:]?)[0-5]\d\4[0-5]\d)(?P<zone>Z)?)(?!\d)"
)
_DATE = re.compile(r"[\d\s._:TZ-]*")
_CONTAINER = ("com.apple.quicktime.creationdate", "creation_time", "date")


def recorded(path: str, metadata: Mapping[str, str]) -> datetime | None:
    """When the first frame was taken, in UTC, or None.

    The container's word counts first, then a date and time in the file's name
    (``gate_20260301_083000.ts``), which is on this machine's clock unless a Z follows.
    """
    for name in _CONTAINER:
        if said := metadata.get(name):
            time = _time(said)
            if time and time.year > 1971:  # cameras without a clock write their epoch
                return time
    found = _STAMP.search(Path(path).stem)
    if not found:
        return None
    digits = re.sub(r"\D", "", found["date"] + found["time"])
    try:
        time = datetime.strptime(digits, "%Y%m%d%H%M%S")
        return time.replace(tzinfo=timezone.utc) if found["zone"] else _utc(time)
    except ValueError:
        return None


def _time(said: str) -> datetime | None:
    said = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", said.strip().replace("Z", "+00:00"))
    said = re.sub(r"\.(\d{3})\d*", r".\1", said)  # Python 3.10 reads three digits or six
    try:
        time = datetime.fromisoformat(said)
    except ValueError:
        return None
    if len(said) <= 10:
        return None  # a date alone
    return time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _utc(time: datetime) -> datetime:
    try:
        return time.astimezone(timezone.utc)
    except (OverflowError, OSError):
        return time.replace(tzinfo=timezone.utc)


def stamp(start: datetime | None, seconds: float) -> str | None:
    """The moment ``seconds`` after ``start``, ISO 8601 in UTC to the millisecond."""
    if start is None:
        return None
    return (start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def camera(path: str) -> str:
    """The name of the camera: that of the file without its date, or of the folder around it."""
    file = Path(path)
    name = _STAMP.sub("", file.stem)
    names = [name, *(folder.name for folder in file.parents)]
    said = (each.strip(" _.-") for each in names if not _DATE.fullmatch(each))
    return next(filter(None, said), file.stem)
