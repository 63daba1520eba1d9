"""Large libraries: searched by an approximate index, never read into memory.

The index names the views that may be nearest; these are read and scored exactly. A random part of
the images stands for all of them where a decision asks for all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError
from wordsight.library.files import load_arrays, save_arrays
from wordsight.library.filters import matching
from wordsight.library.index.ann import TRAINING_VECTORS, ApproximateIndex
from wordsight.library.index.bank import Found, closest_of
from wordsight.library.index.flat import FlatVectors
from wordsight.library.snapshot import Snapshot
from wordsight.library.table import BLOCK, NUMBERS, STATISTICS, matrix_of, open_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT_MIB = 1024
_SAMPLE = 8_000  # views of a large library that stand for all of them, about
_FEWEST = 30  # images at least, or all, that these views are of
FAIR = 200  # images of it at least stand for all that a filter lets pass
NEAREST = 200  # views at least that the approximate index names, to be scored exactly
_NEAREST_OF = 10_000  # and one in so many: the more views, the closer they lie to each other
_MOST_NEAREST = 4000


def exact_bytes() -> int:
    """Up to how many bytes of float32 vectors are held in memory and searched exactly.

    1 GiB, or the environment variable ``WORDSIGHT_EXACT_MB``. Raises LibraryError when that is
    not a number.
    """
    wanted = os.environ.get("WORDSIGHT_EXACT_MB", "").strip()
    if not wanted:
        return EXACT_MIB << 20
    try:
        return int(float(wanted) * (1 << 20))
    except (ValueError, OverflowError):
        raise LibraryError(
            f"WORDSIGHT_EXACT_MB={wanted!r}: give a number of MiB, for example 1024"
        ) from None


def _index_file(library: Path, version: int) -> Path:
    return library / f"views-{version}.ann"


def indexed_versions(library: Path) -> list[int]:
    """The versions that have an approximate index, in order."""
    names = (path.stem.removeprefix("views-") for path in library.glob("views-*.ann"))
    return sorted(int(name) for name in names if name.isdigit())


def drop_indexes(library: Path, *, below: int | None = None) -> None:
    """Delete the approximate indexes of all versions, or those of versions below one."""
    for version in indexed_versions(library):
        if below is None or version < below:
            _index_file(library, version).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class LargeVersion:
    """One version of a large library, opened for searching: everything but the vectors."""

    library: Path
    dataset: Any
    index: ApproximateIndex
    ids: NDArray[np.int64]  # these and the following: one a row of the table
    view: NDArray[np.int32]
    statistics: dict[str, NDArray[np.float32]]
    flat: FlatVectors | None

    @classmethod
    def open(
        cls, library: Path, version: int, index: ApproximateIndex | None = None
    ) -> LargeVersion:
        """Open a version that has an index, or with the one that was made just now.

        Raises OSError or ValueError when it cannot be read, KeyError when an array is missing.
        """
        dataset = open_table(library, version)
        index = index or ApproximateIndex.load(_index_file(library, version))
        table = dataset.to_table(columns=list(NUMBERS))
        if len(index) != len(table):
            raise ValueError("the index is not of this version")
        flat = load_arrays(library, "flat", version)
        dim = dataset.schema.field("vector").type.list_size
        return cls(
            library,
            dataset,
            index,
            ids=table["id"].to_numpy(),
            view=table["view"].to_numpy(),
            statistics={name: table[name].to_numpy() for name in STATISTICS},
            flat=FlatVectors.from_arrays(flat, library / "views.lance", dim) if flat else None,
        )

    @classmethod
    def make(cls, library: Path, dataset: Any) -> LargeVersion:
        """Make the approximate index of a version of the table, and keep it where that can be."""
        import numpy as np

        rows = dataset.count_rows()
        rng = np.random.default_rng(0)
        some = np.sort(rng.choice(rows, min(rows, TRAINING_VECTORS), replace=False))
        sample = matrix_of(dataset.take(some, columns=["vector"])["vector"])
        batches = dataset.to_batches(columns=["vector"], batch_size=BLOCK)
        index = ApproximateIndex.build(sample, (matrix_of(batch["vector"]) for batch in batches))
        version = int(dataset.version)
        flat = FlatVectors.find(dataset, sample.shape[1])
        if max(indexed_versions(library), default=0) <= version:  # nobody was faster meanwhile
            if flat is not None:
                save_arrays(library, "flat", version, flat.to_arrays())
            with contextlib.suppress(OSError):  # a read-only library keeps none
                index.save(_index_file(library, version))
                drop_indexes(library, below=version)
        return cls.open(library, version, index)

    @property
    def version(self) -> int:
        """The version of the table."""
        return int(self.dataset.version)

    @property
    def has_crops(self) -> bool:
        """Whether any image has more than its whole-image view."""
        return bool(self.view.any())

    def _counting(self, rows: NDArray[np.int64], crops: bool) -> NDArray[np.int64]:
        """Those of these rows that count: without ``crops`` the whole images."""
        return rows if crops else rows[self.view[rows] == 0]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows of the table that are in order, float32 [n, D]."""
        if self.flat is not None:
            return self.flat.read(rows)
        return matrix_of(self.dataset.take(rows, columns=["vector"])["vector"])

    def snapshot(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> Snapshot:
        """These views alone; ``vectors`` [n, D] are theirs."""
        import numpy as np

        order = np.lexsort((self.view[rows], self.ids[rows]))
        rows, vectors = rows[order], vectors[order]
        ids = self.ids[rows]
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
        first = rows[starts]
        own: dict[str, Any] = {name: values[first] for name, values in self.statistics.items()}
        return Snapshot(
            version=self.version,
            vectors=vectors,
            starts=starts,
            rows=rows,
            ids=ids[starts],
            **own,
        )

    def nearest(self, queries: NDArray[np.float32], k: int, crops: bool) -> NDArray[np.int64]:
        """Rows of the views that may be nearest to any of the queries [Q, D], in order."""
        import numpy as np

        images = int((self.view == 0).sum()) if self.has_crops else len(self.ids)
        most = max(_MOST_NEAREST, 2 * k)
        count = min(max(NEAREST, 4 * k, len(self.ids) // _NEAREST_OF), most)
        if not crops and self.has_crops:
            # Crops take places among the nearest that are then left unused.
            count = min(most, count * len(self.ids) // images)
        while True:
            count = min(count, len(self.ids))
            places = self.index.search(queries, count)
            rows = [self._counting(some[some >= 0], crops) for some in places]
            # Several views of one image may be near: as many images are wanted as are shown, and
            # as many again, because the index is not exact.
            fewest = min((len(np.unique(self.ids[some])) for some in rows), default=images)
            if fewest >= min(2 * k, images) or count == len(self.ids):
                return np.unique(np.concatenate([*rows, np.zeros(0, np.int64)]))
            count *= 2

    def matching(self, where: str) -> NDArray[np.int64]:
        """Ids of the images that a filter lets pass. Raises QueryError when it is none."""
        return matching(self.dataset, where)

    def rows_of(self, ids: NDArray[np.int64], crops: bool) -> NDArray[np.int64]:
        """Rows of all views of these images, in order."""
        import numpy as np

        return self._counting(np.flatnonzero(np.isin(self.ids, ids)), crops)

    def sample(self, crops: bool) -> NDArray[np.int64]:
        """Rows of all views of a random part of the images, in order.

        Ids are hashes, so those below a bound are a random part, and the same one after images
        were added. Where images have thousands of views each, a few images are many views.
        """
        import numpy as np

        share = min(1.0, _SAMPLE / max(1, len(self.ids)))
        images = self.ids[self.view == 0]
        few = min(_FEWEST, len(images)) - 1
        bound = max(-(1 << 63) + int(share * ((1 << 64) - 1)), int(np.partition(images, few)[few]))
        rows = np.flatnonzero(self.ids <= bound)
        return self._counting(rows, crops)

    def nearby(
        self, crops: bool, bank: Callable[[], NDArray[np.float32]]
    ) -> tuple[Snapshot, Found]:
        """A random part of the images, and what the bank's phrases find in all of them.

        Without ``crops``: of whole images alone. ``bank`` gives the vectors of the phrases.
        """
        import numpy as np

        name = "nearby" if crops else "nearby-no-crops"
        saved = load_arrays(self.library, name, self.version)
        if saved is None:
            rows = self.sample(crops)
            saved = {"rows": rows, "vectors": self.vectors(rows).astype(np.float16)}
        sample = self.snapshot(saved["rows"], saved["vectors"].astype(np.float32))
        if "closest" not in saved:
            saved["z"], closest = self._closest_of_bank(bank(), sample, crops)
            saved["closest"] = closest.astype(np.float16)
            save_arrays(self.library, name, self.version, saved)
        return sample, Found(saved["z"], saved["closest"].astype(np.float32))

    def _closest_of_bank(
        self, bank: NDArray[np.float32], sample: Snapshot, crops: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """z [B, 3] and vectors [B, 3, D] of what the bank's phrases find.

        As of any query: in the sample, and among what the index names.
        """
        import numpy as np

        from wordsight.nomatch import CLOSEST, closest

        z, vectors, step = [], [], 32
        for begin in range(0, len(bank), step):
            phrases = bank[begin : begin + step]
            rows = self.nearest(phrases, CLOSEST, crops)
            rows = rows[~np.isin(self.ids[rows], sample.ids)]
            parts = [sample, self.snapshot(rows, self.vectors(rows))] if len(rows) else [sample]
            found = [closest_of(part, phrases, len(bank), crops=crops) for part in parts]
            both = np.concatenate([best for best, _ in found], axis=1)
            views = np.concatenate(
                [part.vectors[won] for part, (_, won) in zip(parts, found, strict=True)], axis=1
            )
            some = closest(both)
            z.append(np.take_along_axis(both, some, axis=1))
            vectors.append(np.take_along_axis(views, some[..., None], axis=1))
        return np.concatenate(z), np.concatenate(vectors)
