"""Vectors of a Lance table read where they lie in its files, a few at a time.

Lance keeps wide values of a fixed size one behind another (a *full-zip* page without compression;
Lance file format 2.1 and later). Files never change once they are written, so a version of a table
is known by where its pages begin, and a vector is read in two or three microseconds; the table's
own reader, made for stores far away, takes about 60. Memory maps would be faster still, but a drive
that is unplugged ends a process that reads them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COLUMN = "vector"
_END = b"LANC"  # of every whole file
_BLOCK = 256  # rows that are widened at once: they stay in the processor's cache
_READ = 4096  # and that are read at once, at most


def widen(halves: NDArray[np.float16], into: NDArray[np.float32]) -> None:
    """Write finite float16 numbers [n, D] into float32 ones [n, D].

    Twice as fast as numpy, which converts one number after the other: here the bits are moved to
    their places (IEEE 754), and the product with 2**112 puts right where the exponents count from,
    exactly, for subnormal numbers too.
    """
    import numpy as np

    bits, wide = halves.view(np.int16), into.view(np.int32)
    for begin in range(0, len(bits), _BLOCK):
        block = wide[begin : begin + _BLOCK]
        block[...] = bits[begin : begin + _BLOCK]
        np.left_shift(block, 13, out=block)
        np.bitwise_and(block, ~np.int32(0x7000_0000), out=block)  # three more copies of the sign
        into[begin : begin + _BLOCK] *= np.float32(2.0**112)


def _whole_file(path: str) -> FileIO:
    file = FileIO(path)
    try:
        file.seek(-len(_END), os.SEEK_END)
        if file.read(len(_END)) != _END:
            raise OSError(f"{Path(path).name} is damaged or not all there yet")
    except OSError:
        file.close()
        raise
    return file


class _Run(NamedTuple):
    """Vectors ``start`` to ``end`` of those that are asked for, which lie side by side."""

    file: str
    start: int
    end: int
    begin: int
    """The byte of the file that the first begins at."""


def _announce(file: FileIO, runs: list[_Run], width: int) -> None:
    """Tell the system of all runs, so that a slow drive is not asked for one after the other."""
    if sys.platform == "linux":
        for run in runs:
            length = (run.end - run.start) * width
            os.posix_fadvise(file.fileno(), run.begin, length, os.POSIX_FADV_WILLNEED)


def _fill(buffer: memoryview, file: FileIO, begin: int) -> None:
    file.seek(begin)
    while buffer:
        count = file.readinto(buffer)
        if not count:
            raise OSError(f"{file.name} is shorter than it was")
        buffer = buffer[count:]


@dataclass(frozen=True)
class FlatVectors:
    """The pages of a table's column ``vector``: ``dim`` float16 a row, in the rows' order.

    Page ``i`` lies in ``files[i]`` from byte ``begins[i]`` and holds the vectors from ``first[i]``
    to ``first[i + 1]``. ``folder`` is the table's, files are named from there. ``kept`` uint32 [N]
    are the vectors that the table's N rows have; it is empty where no row was deleted.
    """

    folder: Path
    files: NDArray[np.str_]
    begins: NDArray[np.int64]
    first: NDArray[np.int64]
    kept: NDArray[np.uint32]
    dim: int

    @classmethod
    def find(cls, dataset: Any, dim: int) -> FlatVectors | None:
        """Where the vectors of a table of plain files lie.

        None where the first and the last vector of each page are not what the table's reader gives.
        """
        import numpy as np
        from lance.file import LanceFileReader

        folder = Path(dataset.uri)
        files, begins, first, kept = [], [], [0], []
        fragments = dataset.get_fragments()
        field = dataset.lance_schema.field(_COLUMN).id()
        for fragment in fragments:
            parts = fragment.data_files()
            if len(parts) != 1:
                return None
            name = f"data/{parts[0].path}"
            start = first[-1]
            # Files lack columns that the table was given later.
            column = parts[0].column_indices[parts[0].fields.index(field)]
            for page in LanceFileReader(str(folder / name)).metadata().columns[column].pages:
                if len(page.buffers) != 1:
                    return None
                files.append(name)
                begins.append(page.buffers[0].position)
                first.append(first[-1] + page.buffers[0].size // (2 * dim))
            if fragment.num_deletions:
                addresses = fragment.to_table(columns=[], with_row_address=True)["_rowaddr"]
                # The lower half of a row's address is its place in the fragment.
                kept.append(start + addresses.to_numpy().astype(np.uint32))
            else:
                kept.append(np.arange(start, first[-1], dtype=np.uint32))
        pages = np.array(first, np.int64)
        none = np.zeros(0, np.uint32)
        rows = np.concatenate([*kept, none])
        if len(rows) != dataset.count_rows() or not (pages[1:] > pages[:-1]).all():
            return None
        deleted = any(fragment.num_deletions for fragment in fragments)
        flat = cls(folder, np.array(files), np.array(begins), pages, rows if deleted else none, dim)
        ends = np.searchsorted(rows, np.concatenate([pages[:-1], pages[1:] - 1]))
        ends = np.unique(ends[ends < len(rows)])
        column = dataset.take(ends, columns=[_COLUMN])[_COLUMN].combine_chunks()
        same = column.flatten().to_numpy().astype(np.float32).reshape(-1, dim)
        return flat if np.array_equal(flat.read(ends), same) else None

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these places of the table, which are in order: float32 [n, D].

        Raises OSError when a file is gone, shorter than it was, not copied to its end, or on a
        drive that is gone.
        """
        import numpy as np

        vectors = np.empty((len(rows), self.dim), np.float32)
        halves = np.empty((min(len(rows), _READ), self.dim), np.float16)
        buffer, width = halves.reshape(-1).view(np.uint8).data, 2 * self.dim
        for name, group in groupby(self._runs(rows), key=attrgetter("file")):
            runs = list(group)
            with _whole_file(f"{self.folder}/{name}") as file:  # Path takes longer than opening
                _announce(file, runs, width)
                for run in runs:
                    offset, count = run.start % _READ, run.end - run.start
                    _fill(buffer[offset * width : (offset + count) * width], file, run.begin)
                    if run.end % _READ == 0 or run.end == len(rows):
                        whole = slice(run.start - offset, run.end)
                        widen(halves[: offset + count], vectors[whole])
        return vectors

    def _runs(self, rows: NDArray[np.int64]) -> list[_Run]:
        """The rows as runs of neighbours, of at most ``_READ``, and cut at multiples of it."""
        import numpy as np

        if len(self.kept):
            rows = self.kept[rows].astype(np.int64)
        page = np.searchsorted(self.first, rows, side="right") - 1
        begins = self.begins[page] + (rows - self.first[page]) * 2 * self.dim
        apart = (np.diff(rows, prepend=-2) != 1) | (np.diff(page, prepend=-1) != 0)
        apart[::_READ] = True
        starts = np.flatnonzero(apart)
        ends = np.append(starts[1:], len(rows))[: len(starts)]
        columns = self.files[page[starts]], starts, ends, begins[starts]
        return list(map(_Run, *(column.tolist() for column in columns)))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays to store (``np.savez``)."""
        return {"files": self.files, "begins": self.begins, "first": self.first, "kept": self.kept}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], folder: str | Path, dim: int
    ) -> FlatVectors:
        """What :meth:`to_arrays` wrote, of the table that is in ``folder`` now."""
        files, begins, first, kept = (arrays[n] for n in ("files", "begins", "first", "kept"))
        return cls(Path(folder), files, begins, first, kept, dim)
