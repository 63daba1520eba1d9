"""Filters: expressions in Lance's SQL over the table's columns, and short forms that make them."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wordsight.errors import QueryError
from wordsight.library.table import METADATA
from wordsight.paths import expanded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d)?)?)?)?")
_PLACE = re.compile(r"\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*([\d.]+)\s*(km|m)\s*")
_EARTH_KM = 6371.0
_NOISE = re.compile(
    r"Error resolving filter expression .* and view = 0: "
    r"|Error (?:parsing|tokenizing) statement: SELECT 1 FROM t WHERE .* and view = 0 (?=\()"
    r"| at Line: \d+, Column: \d+|Invalid user input: |Schema error: |Error during planning: "
    r"|, _row\w+(?=[,.])|, \S+\.rs:\d+(:\d+)?"
)  # what Lance says around what is wrong
_OTHERS = re.compile(
    r" Valid fields are [^()]*| Did you mean '(?:root|hash|mtime_ns|vector|view)'\?"
)  # columns that are none of the user's business among them
_COLUMNS = ("path", "label", "width", "height", "size", *METADATA)
_TEXT = r"'(?:[^']|'')*'"
_INSIDE = re.compile(
    rf"path = ({_TEXT}) or starts_with\(path, {_TEXT}\) or starts_with\(path, {_TEXT}\)"
)
_AROUND = re.compile(
    r"pow\(sin\(radians\(latitude - ([^)]*)\) / 2\), 2\) \+ \S+ \* cos\(radians\(latitude\)\)"
    r" \* pow\(sin\(radians\(longitude - ([^)]*)\) / 2\), 2\) <= \S+?(?=\)|$)"
)
_LABELS_NAMED = 10
_HINT = "Write it like: taken >= '2023-07' and camera like 'Pixel%'"


def with_label(label: str) -> str:
    """Images of this label."""
    return equals("label", label)


def unknown_label(label: str, labels: Iterable[str | None]) -> str:
    """What to say where no image has a label: which ones the images have, most frequent first."""
    counted = Counter(filter(None, labels)).most_common()
    named = ", ".join(one for one, _ in counted[:_LABELS_NAMED])
    others = f", and {len(counted) - _LABELS_NAMED} more" if len(counted) > _LABELS_NAMED else ""
    there = f"there are {named}{others}" if named else "none of them has a label"
    return f"no image in the library has the label '{label}': {there}."


def equals(column: str, value: str) -> str:
    """Images that have this value in a column of text."""
    return f"{column} = {quoted(value)}"


def after(date: str) -> str:
    """Images taken from this date on ("2023", "2023-07", "2023-07-14", "2023-07-14 18:00").

    By the camera's own clock, as people remember days. Raises QueryError when it is no date.
    """
    return f"taken >= {_date(date)}"


def before(date: str) -> str:
    """Images taken before this date began; see :func:`after`."""
    return f"taken < {_date(date)}"


def inside(folder: str | os.PathLike[str]) -> str:
    """Images in a folder and those below it, or in an archive."""
    return below(os.path.realpath(expanded(folder)))


def below(place: str) -> str:
    """As :func:`inside`, for a place as the library's paths begin; the disk is not looked at."""
    inner = os.path.join(place, "")  # noqa: PTH118  ("/": all)
    starts = " or ".join(f"starts_with(path, {quoted(start)})" for start in (inner, f"{place}::"))
    return f"path = {quoted(place)} or {starts}"


def near(place: str) -> str:
    """Images taken around a place: "48.1,11.6,5km" is latitude, longitude and the distance.

    Raises QueryError when it is none.
    """
    found = _PLACE.fullmatch(place)
    try:
        latitude, longitude, distance = (float(number) for number in found.groups()[:3])  # type: ignore[union-attr]
        possible = abs(latitude) <= 90 and abs(longitude) <= 180
    except (AttributeError, ValueError):
        possible = False
    if not possible or found is None:
        raise QueryError(
            f"cannot read the place {place!r}: write latitude, longitude and distance like "
            "48.1,11.6,5km"
        )
    distance /= 1000 if found[4] == "m" else 1
    # The haversine of the angle between the two, against that of the distance.
    most = math.sin(min(distance / _EARTH_KM, math.pi) / 2) ** 2
    return (
        f"pow(sin(radians(latitude - {latitude!r}) / 2), 2)"
        f" + {math.cos(math.radians(latitude))!r} * cos(radians(latitude))"
        f" * pow(sin(radians(longitude - {longitude!r}) / 2), 2) <= {most!r}"
    )


def joined(*filters: str | None) -> str | None:
    """What all of these let pass; None where none is given."""
    given = [each for each in filters if each is not None]
    return (
        " and ".join(f"({each})" for each in given) if len(given) > 1 else next(iter(given), None)
    )


def matching(dataset: Any, where: str) -> NDArray[np.int64]:
    """Ids of the images of a table that an expression is true of.

    Raises QueryError when it cannot be read; what the table's reader raises when that fails.
    """
    import numpy as np

    try:
        where.encode()
    except UnicodeEncodeError:  # nothing in the table is so
        return np.zeros(0, np.int64)
    try:
        found = dataset.to_table(columns=["id"], filter=f"({where}) and view = 0")
    except (ValueError, OSError) as error:
        dataset.count_rows(filter="view = 0")  # if this can be read, it is the expression
        said = _OTHERS.sub(f" There are {', '.join(_COLUMNS)}.", str(error).splitlines()[0])
        said = (
            " ".join(_NOISE.sub("", said).split())[:300]
            .replace("'Utf8'", "text")
            .replace("found: )", "found: its end")  # of ours, around the expression
            .strip("(). ")
        )
        missing = [name for name in METADATA if name not in dataset.schema.names]
        if any(re.search(rf"\b{name}\b", where) for name in missing):
            raise QueryError(
                f"this library has no data for this filter yet: {where}  "
                "(wordsight index FOLDER adds it, without embedding again)"
            ) from None
        raise QueryError(f"the filter cannot be read: {where}  ({said}). {_HINT}") from None
    return np.asarray(found["id"].to_numpy(), np.int64)


def in_words(where: str) -> str:
    """An expression as a message shows it, with "in '/folder'" and "near 48.1,11.6"."""
    return _AROUND.sub(r"near \1,\2", _INSIDE.sub(r"in \1", where))


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _date(text: str) -> str:
    said = text.strip().replace(" ", "T")
    try:
        if not _DATE.fullmatch(said):
            raise ValueError
        datetime.fromisoformat(said + "0000-01-01T00:00:00"[len(said) :])  # is in the calendar
    except ValueError:
        raise QueryError(
            f"cannot read the date {text!r}: write it like 2023, 2023-07, 2023-07-14 or "
            "2023-07-14T18:00"
        ) from None
    return quoted(said)
