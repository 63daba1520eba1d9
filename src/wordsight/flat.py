"""Vectors of a Lance table read where they lie in its files, a few at a time.

Lance keeps wide values of a fixed size one behind another (a *full-zip* page without compression;
Lance file format 2.1 and later). Files never change once they are written, so a version of a table
is known by where its pages begin, and a vector is read from memory maps in microseconds; the
table's own reader, made for stores far away, takes about 60 a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COLUMN = "vector"


@dataclass(frozen=True)
class FlatVectors:
    """The pages of a table's last column, ``vector``: ``dim`` float16 a row, in the rows' order.

    Page ``i`` lies in ``files[i]`` from byte ``begins[i]`` and holds the rows from ``first[i]`` to
    ``first[i + 1]``. ``folder`` is the table's, files are named from there.
    """

    folder: Path
    files: NDArray[np.str_]
    begins: NDArray[np.int64]
    first: NDArray[np.int64]
    dim: int

    @classmethod
    def find(cls, dataset: Any, dim: int) -> FlatVectors | None:
        """Where the vectors of a table of plain files lie.

        None where rows were deleted since, or where the first and the last vector of each page are
        not what the table's reader gives.
        """
        import numpy as np
        from lance.file import LanceFileReader

        folder = Path(dataset.uri)
        files, begins, first = [], [], [0]
        for fragment in dataset.get_fragments():
            parts = fragment.data_files()
            if fragment.num_deletions or len(parts) != 1:
                return None
            name = f"data/{parts[0].path}"
            for page in LanceFileReader(str(folder / name)).metadata().columns[-1].pages:
                if len(page.buffers) != 1:
                    return None
                files.append(name)
                begins.append(page.buffers[0].position)
                first.append(first[-1] + page.buffers[0].size // (2 * dim))
        rows = np.array(first, np.int64)
        if rows[-1] != dataset.count_rows() or not (rows[1:] > rows[:-1]).all():
            return None
        flat = cls(folder, np.array(files), np.array(begins, np.int64), rows, dim)
        ends = np.unique(np.concatenate([rows[:-1], rows[1:] - 1]))
        column = dataset.take(ends, columns=[_COLUMN])[_COLUMN].combine_chunks()
        same = column.flatten().to_numpy().astype(np.float32).reshape(-1, dim)
        return flat if np.array_equal(flat.read(ends), same) else None

    @cached_property
    def _pages(self) -> list[NDArray[np.float16]]:
        import numpy as np

        counts = (self.first[1:] - self.first[:-1]).tolist()
        return [
            np.memmap(self.folder / name, np.float16, "r", offset=begin, shape=(count, self.dim))
            for name, begin, count in zip(
                self.files.tolist(), self.begins.tolist(), counts, strict=True
            )
        ]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these places of the table, which are in order: float32 [n, D].

        Raises OSError or ValueError when a file is gone or shorter than it was.
        """
        import numpy as np

        vectors = np.empty((len(rows), self.dim), np.float32)
        cuts = np.searchsorted(rows, self.first)
        for page in np.flatnonzero(cuts[1:] > cuts[:-1]):
            some = slice(cuts[page], cuts[page + 1])
            vectors[some] = self._pages[page][rows[some] - self.first[page]]
        return vectors

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays to store (``np.savez``)."""
        return {"files": self.files, "begins": self.begins, "first": self.first}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], folder: str | Path, dim: int
    ) -> FlatVectors:
        """What :meth:`to_arrays` wrote, of the table that is in ``folder`` now."""
        return cls(Path(folder), arrays["files"], arrays["begins"], arrays["first"], dim)
