"""Large libraries: searched by an approximate index, never read into memory.

The index names the views that may be nearest; these are read and scored exactly. A random part of
the images stands for all of them where a decision asks for all. The index lies in slices, one here
or several elsewhere: what they answer is put together in one way, so the answer is the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wordsight.errors import LibraryError
from wordsight.library.files import load_arrays, save_arrays
from wordsight.library.filters import matching
from wordsight.library.index.ann import TRAINING_VECTORS, ApproximateIndex, best_of
from wordsight.library.index.bank import Found, closest_of
from wordsight.library.index.flat import FlatVectors
from wordsight.library.index.slices import (
    Columns,
    Slice,
    chosen,
    counting,
    index_file,
    joined_columns,
)
from wordsight.library.snapshot import Snapshot
from wordsight.library.table import BLOCK, STATISTICS, matrix_of

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


def indexed_versions(library: Path) -> list[int]:
    """The versions that have an approximate index, in order."""
    names = (path.stem.removeprefix("views-") for path in library.glob("views-*.ann"))
    return sorted(int(name) for name in names if name.isdigit())


def drop_indexes(library: Path, *, below: int | None = None) -> None:
    """Delete the approximate indexes of all versions, or those of versions below one."""
    for version in indexed_versions(library):
        if below is None or version < below:
            index_file(library, version).unlink(missing_ok=True)


class Answers(NamedTuple):
    """What slices answered, in their order; some may be away."""

    parts: Sequence[Any]
    share: float
    """Of the views, those in the slices that answered."""


class Near(NamedTuple):
    """Views of a large library that were asked for."""

    known: Columns
    share: float
    """Of the views, those in the slices that answered."""

    def and_those(self, others: Near) -> Near:
        """These and others."""
        import numpy as np

        known = joined_columns([self.known, others.known])
        _, first = np.unique(known["rows"], return_index=True)
        return Near(chosen(known, first), min(self.share, others.share))

    def not_of(self, images: NDArray[np.int64]) -> Near:
        """Those that are not of these images."""
        import numpy as np

        return Near(chosen(self.known, ~np.isin(self.known["id"], images)), self.share)


class Ask(Protocol):
    """Asks all slices for what a method of :class:`~.slices.Slice` of this name gives."""

    def __call__(self, name: str, *args: Any) -> Answers:
        """Raise LibraryError where none answers."""


@dataclass(frozen=True, slots=True)
class LargeVersion:
    """One version of a large library, opened for searching; ``ask`` reaches its slices.

    Vectors are read here, from the table's files, wherever the slices are.
    """

    library: Path
    dataset: Any
    ask: Ask
    views: int
    images: int
    flat: FlatVectors | None
    _nearby: dict[bool, tuple[Snapshot, Found]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls, library: Path, version: int, index: ApproximateIndex | None = None
    ) -> LargeVersion:
        """Open a version that has an index, or with the one that was made just now.

        Raises OSError or ValueError when it cannot be read, KeyError when an array is missing.
        """
        whole = Slice.open(library, version, index=index)

        def ask(name: str, *args: Any) -> Answers:
            return Answers([getattr(whole, name)(*args)], 1.0)

        return cls.of_slices(library, whole.dataset, ask, len(whole), whole.images)

    @classmethod
    def of_slices(
        cls, library: Path, dataset: Any, ask: Ask, views: int, images: int
    ) -> LargeVersion:
        """One whose slices ``ask`` reaches; they hold so many views, of so many images."""
        saved = load_arrays(library, "flat", int(dataset.version))
        dim = dataset.schema.field("vector").type.list_size
        flat = FlatVectors.from_arrays(saved, library / "views.lance", dim) if saved else None
        return cls(library, dataset, ask, views, images, flat)

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
                index.save(index_file(library, version))
                drop_indexes(library, below=version)
        return cls.open(library, version, index)

    @property
    def version(self) -> int:
        """The version of the table."""
        return int(self.dataset.version)

    @property
    def has_crops(self) -> bool:
        """Whether any image has more than its whole-image view."""
        return self.views > self.images

    def snapshot(self, near: Near, vectors: NDArray[np.float32] | None = None) -> Snapshot:
        """These views alone; ``vectors`` [n, D] are theirs where they have been read."""
        import numpy as np

        known = near.known
        if vectors is None:
            vectors = self.vectors_of(known["rows"])
        order = np.lexsort((known["view"], known["id"]))
        rows, ids = known["rows"][order], known["id"][order]
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
        first = order[starts]
        own: dict[str, Any] = {name: known[name][first] for name in STATISTICS}
        return Snapshot(
            version=self.version,
            vectors=vectors[order],
            starts=starts,
            rows=rows,
            ids=ids[starts],
            answered=near.share,
            **own,
        )

    def vectors_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors in these rows, which are in order: float32 [n, D]."""
        if self.flat is not None:
            return self.flat.read(rows)
        return matrix_of(self.dataset.take(rows, columns=["vector"])["vector"])

    def nearest(self, queries: NDArray[np.float32], k: int, crops: bool) -> Near:
        """The views that may be nearest to any of the queries [Q, D]."""
        import numpy as np

        most = max(_MOST_NEAREST, 2 * k)
        count = min(max(NEAREST, 4 * k, self.views // _NEAREST_OF), most)
        if not crops and self.has_crops:
            # Crops take places among the nearest that are then left unused.
            count = min(most, count * self.views // self.images)
        while True:
            count = min(count, self.views)
            parts, share = self.ask("scan", queries, count)
            _, rows = best_of([part[0] for part in parts], [part[1] for part in parts], count)
            known = joined_columns([part[2] for part in parts])
            places = np.searchsorted(known["rows"], rows)
            counted = (rows >= 0) & (known["view"][places] == 0 if not crops else True)
            ids = known["id"][places]
            # Several views of one image may be near: as many images are wanted as are shown, and
            # as many again, because the index is not exact.
            each = (len(np.unique(a[b])) for a, b in zip(ids, counted, strict=True))
            fewest = min(each, default=self.images)
            if fewest >= min(2 * k, self.images) or count >= round(share * self.views):
                return Near(chosen(known, np.unique(places[counted])), share)
            count *= 2

    def matching(self, where: str) -> NDArray[np.int64]:
        """Ids of the images that a filter lets pass. Raises QueryError when it is none."""
        return matching(self.dataset, where)

    def of_images(self, ids: NDArray[np.int64], crops: bool) -> Near:
        """All views of these images."""
        parts, share = self.ask("of_images", ids)
        return Near(counting(joined_columns(parts), crops), share)

    def sample(self, crops: bool) -> NDArray[np.int64]:
        """Rows of all views of a random part of the images, in order.

        Ids are hashes, so those below a bound are a random part, and the same one after images
        were added. Where images have thousands of views each, a few images are many views.
        """
        import numpy as np

        share = min(1.0, _SAMPLE / max(1, self.views))
        bound = -(1 << 63) + int(share * ((1 << 64) - 1))
        found = joined_columns(self.ask("lowest", bound, _FEWEST).parts)
        images = found["id"][found["view"] == 0]
        few = min(_FEWEST, len(images)) - 1
        bound = max(bound, int(np.partition(images, few)[few]))
        theirs = counting(found, crops)
        rows: NDArray[np.int64] = theirs["rows"][theirs["id"] <= bound]
        return rows

    def _whole(self, name: str, *args: Any) -> Answers:
        """What all slices answer. Raises LibraryError while some are away."""
        answers = self.ask(name, *args)
        if answers.share < 1:
            raise LibraryError(
                f"some slices of the library {self.library} are away, and what is asked for the "
                "first time needs all of them; try again soon."
            )
        return answers

    def nearby(
        self, crops: bool, bank: Callable[[], NDArray[np.float32]]
    ) -> tuple[Snapshot, Found]:
        """A random part of the images, and what the bank's phrases find in all; kept in memory.

        Without ``crops``: of whole images alone. ``bank`` gives the vectors of the phrases.
        """
        crops = crops or not self.has_crops
        if crops not in self._nearby:
            self._nearby[crops] = replace(self, ask=self._whole)._read_nearby(crops, bank)
        return self._nearby[crops]

    def _read_nearby(
        self, crops: bool, bank: Callable[[], NDArray[np.float32]]
    ) -> tuple[Snapshot, Found]:
        import numpy as np

        name = "nearby" if crops else "nearby-no-crops"
        saved = load_arrays(self.library, name, self.version)
        if saved is None:
            rows = self.sample(crops)
            saved = {"rows": rows, "vectors": self.vectors_of(rows).astype(np.float16)}
        parts, share = self.ask("take", saved["rows"])
        known = Near(joined_columns(parts), share)
        sample = self.snapshot(known, saved["vectors"].astype(np.float32))
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
            near = self.nearest(phrases, CLOSEST, crops).not_of(sample.ids)
            parts = [sample, self.snapshot(near)] if len(near.known["rows"]) else [sample]
            found = [closest_of(part, phrases, len(bank), crops=crops) for part in parts]
            both = np.concatenate([best for best, _ in found], axis=1)
            views = np.concatenate(
                [part.vectors[won] for part, (_, won) in zip(parts, found, strict=True)], axis=1
            )
            some = closest(both)
            z.append(np.take_along_axis(both, some, axis=1))
            vectors.append(np.take_along_axis(views, some[..., None], axis=1))
        return np.concatenate(z), np.concatenate(vectors)
