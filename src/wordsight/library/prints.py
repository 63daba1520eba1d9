"""Prints of images, to find duplicates by: a file beside the table, by content hash.

An SQLite database, so that one print is read among millions, a run that is interrupted keeps what
it has made, and no more is in memory than what is asked for. Prints can be made again: a file that
does not read is made anew, and a library that cannot be written has them in a temporary one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "prints.sqlite"

_FORM = 1  # number of the form that prints are kept in
_PAGE = 1 << 15  # bytes: a print takes four thousand, which pages of the usual size waste
_AT_ONCE = 500  # hashes in one question
_TABLE = (
    "create table if not exists prints (hash text primary key, height integer, width integer, "
    "sharpness real, grey blob) without rowid"
)


@dataclass(frozen=True, slots=True)
class Print:
    """What is kept of an image's pixels to compare it by: grey, uint8 [height, width]."""

    grey: NDArray[np.uint8]
    sharpness: float


class Prints:
    """The prints that a library keeps. To be used by the thread that made it."""

    def __init__(self, library: Path) -> None:
        place = library / NAME
        try:
            self._database = _opened(place)
        except sqlite3.Error:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
            try:
                self._database = _opened(place)
            except sqlite3.Error:  # a library that is read-only, or in use
                self._database = _opened("")

    def hashes(self) -> set[str]:
        """The hashes of the files that there is a print of."""
        return {known for (known,) in self._database.execute("select hash from prints")}

    def add(self, prints: Iterable[tuple[str, Print]]) -> None:
        """Keep prints by the hashes of their files, in one step.

        Those that a full disk has no room for are in a temporary file.
        """
        rows = [
            (known, *each.grey.shape, each.sharpness, each.grey.tobytes()) for known, each in prints
        ]
        try:
            self._insert(rows)
        except sqlite3.Error:
            elsewhere = _opened("")
            self._database.backup(elsewhere)
            self._database.close()
            self._database = elsewhere
            self._insert(rows)

    def _insert(self, rows: Sequence[tuple[str, int, int, float, bytes]]) -> None:
        with self._database:
            self._database.executemany("insert or replace into prints values (?,?,?,?,?)", rows)

    def forget(self, hashes: Iterable[str]) -> None:
        """Drop those of files that are gone from the library."""
        with contextlib.suppress(sqlite3.Error), self._database:
            self._database.executemany(
                "delete from prints where hash = ?", ((known,) for known in hashes)
            )

    def read(self, hashes: Sequence[str]) -> Iterator[tuple[str, Print]]:
        """The prints of these hashes, in any order; those that there are none of are left out."""
        import numpy as np

        for begin in range(0, len(hashes), _AT_ONCE):
            some = hashes[begin : begin + _AT_ONCE]
            asked = f"select * from prints where hash in ({','.join('?' * len(some))})"
            for known, height, width, sharpness, grey in self._database.execute(asked, some):
                pixels = np.frombuffer(grey, np.uint8).reshape(height, width)
                yield known, Print(pixels, sharpness)


def _opened(place: Path | str) -> sqlite3.Connection:
    """The database at a place, whole and of today's form. Raises sqlite3.Error."""
    database = sqlite3.connect(place)
    try:
        database.execute(f"pragma page_size = {_PAGE}")
        whole = database.execute("pragma quick_check(1)").fetchone()[0] == "ok"
        form = database.execute("pragma user_version").fetchone()[0]
        if not whole or form not in (0, _FORM):
            raise sqlite3.DatabaseError("damaged, or of another form")
        with database:
            database.execute(_TABLE)
            database.execute(f"pragma user_version = {_FORM}")
    except sqlite3.Error:
        database.close()
        raise
    return database
