"""A slice of a large library: a run of the table's rows, opened for searching.

One process has one slice, which is all of them. A fleet (:mod:`wordsight.library.fleet`) has
several, each in the memory of a worker; what they answer is put together by
:class:`~wordsight.library.index.large.LargeVersion`, in either case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.library.index.ann import ApproximateIndex
from wordsight.library.table import NUMBERS, open_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Columns = Mapping[str, "NDArray[Any]"]
"""What is known of views, a value each: their ``rows`` in the table, in order, and the columns that
are held in memory (``table.NUMBERS``)."""


def index_file(library: Path, version: int) -> Path:
    """Where the approximate index of a version is."""
    return library / f"views-{version}.ann"


def joined_columns(parts: Sequence[Columns]) -> Columns:
    """What several slices say, in their order, which is that of the table."""
    import numpy as np

    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chosen(known: Columns, which: NDArray[Any]) -> Columns:
    """What is known of some of the views: at these places, or where a mask says so."""
    return {name: column[which] for name, column in known.items()}


def counting(known: Columns, crops: bool) -> Columns:
    """Those of these views that count: without ``crops`` the whole images."""
    return known if crops else chosen(known, known["view"] == 0)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one version of a large library, from the index's ``begin`` on: all but the vectors.

    ``numbers`` are columns of the table, a value a row.
    """

    dataset: Any
    index: ApproximateIndex
    numbers: Columns

    @classmethod
    def open(
        cls,
        library: Path,
        version: int,
        share: tuple[int, int] = (0, 1),
        index: ApproximateIndex | None = None,
    ) -> Slice:
        """Open the n-th of so many slices (n, of) of a version that has an index.

        Or of one whose ``index`` was made just now. Raises OSError or ValueError when it cannot be
        read, KeyError when an array is missing.
        """
        dataset = open_table(library, version)
        index = index or ApproximateIndex.load(index_file(library, version), share)
        table = dataset.to_table(columns=list(NUMBERS), offset=index.begin, limit=len(index))
        if len(index) != len(table) or (share[1] == 1 and len(index) != dataset.count_rows()):
            raise ValueError("the index is not of this version")
        return cls(dataset, index, {name: table[name].to_numpy() for name in NUMBERS})

    def __len__(self) -> int:
        return len(self.index)

    @property
    def images(self) -> int:
        """How many images begin here."""
        return int((self.numbers["view"] == 0).sum())

    def scan(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Columns]:
        """The ``count`` best by the index for queries [Q, D]: scores and rows [Q, count], and what
        is known of these rows.
        """
        import numpy as np

        scores, rows = self.index.search(queries, count)
        found = np.unique(rows)
        return scores, rows, self._known(found[found >= 0] - self.index.begin)

    def of_images(self, ids: NDArray[np.int64]) -> Columns:
        """The views of these images."""
        import numpy as np

        return self._known(np.flatnonzero(np.isin(self.numbers["id"], ids)))

    def lowest(self, bound: int, few: int) -> Columns:
        """The views of the images whose ids are at most ``bound``, and of the ``few`` lowest."""
        import numpy as np

        ids, images = self.numbers["id"], self.numbers["id"][self.numbers["view"] == 0]
        if few := min(few, len(images)):
            bound = max(bound, int(np.partition(images, few - 1)[few - 1]))
        return self._known(np.flatnonzero(ids <= bound))

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """What is known of those of these rows that are here, which are in order."""
        import numpy as np

        begin = self.index.begin
        return self._known(rows[slice(*np.searchsorted(rows, (begin, begin + len(self))))] - begin)

    def _known(self, places: NDArray[np.int64]) -> Columns:
        return {"rows": places + self.index.begin, **chosen(self.numbers, places)}
