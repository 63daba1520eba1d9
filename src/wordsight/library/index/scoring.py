"""What scores are computed from: vectors in memory or behind an index, and their statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wordsight.errors import LibraryError
from wordsight.library.files import is_unread, load_arrays, save_arrays
from wordsight.library.filters import matching
from wordsight.library.index.bank import Found, closest_of_bank
from wordsight.library.index.large import (
    FAIR,
    NEAREST,
    LargeVersion,
    drop_indexes,
    exact_bytes,
    indexed_versions,
)
from wordsight.library.reader import Reader
from wordsight.library.records import id_from_int
from wordsight.library.snapshot import Snapshot, joined
from wordsight.library.table import (
    DESCRIPTION,
    METADATA,
    STATISTICS,
    columns_of,
    known_of,
    open_table,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from wordsight.nomatch import Null
    from wordsight.nomatch.rivals import Kinds

_DESCRIBED = 2_000_000  # up to so many views paths and labels are kept in memory, 100 bytes each
_MATCHING = 32  # filters whose answers are remembered


class Versions(Protocol):
    """Where versions of a large library are opened that this process does not hold itself."""

    def newest(self, reader: Reader, opened: LargeVersion | None) -> LargeVersion:
        """The newest that can be searched; ``opened`` is the one that was searched last, if any."""


class Scoring:
    """What scores are computed from, of the version that a reader has in view; kept in memory.

    A library that is large (:attr:`is_large`) is seen as of the newest version that has an index.
    """

    def __init__(self, reader: Reader, elsewhere: Versions | None = None) -> None:
        self._reader = reader
        self._elsewhere = elsewhere
        self._found: dict[str, tuple[int, Found]] = {}
        self._nulls: dict[bool, tuple[int, Null]] = {}
        self._matching: dict[str, tuple[int, NDArray[np.bool_]]] = {}  # by filter
        self._loading: Future[Any] | None = None
        self._asked = -1  # the version that rows were asked of last
        self.forget()

    def forget(self) -> None:
        """Let go of what belongs to one version of the table."""
        self._snapshot: Snapshot | None = None
        self._described: tuple[int, Any] | None = None  # what rows() gives, as one table
        self._opened: LargeVersion | None = None

    @property
    def is_loading(self) -> bool:
        """Whether what :meth:`preload` began is not done yet."""
        return self._loading is not None and not self._loading.done()

    @property
    def in_memory(self) -> bool:
        """Whether what searches need has been read (of this version or an older one)."""
        return self._snapshot is not None or self._opened is not None

    def preload(self, *, crops: bool = True) -> None:
        """Begin to read what searches need, beside what the caller does next (see :meth:`loaded`).

        In a fresh process a model is yet to be read too, and the imports that go before it hold up
        nothing here.
        """
        if self.in_memory or self._loading is not None:
            return
        from concurrent.futures import ThreadPoolExecutor

        # Imports stay in this thread: there they wait for no other's.
        if self._reader.count_views():
            beside = ThreadPoolExecutor(1, thread_name_prefix="load")
            self._loading = beside.submit(self.found, crops=crops)
            beside.shutdown(wait=False)

    def loaded(self) -> None:
        """Wait for what :meth:`preload` began, and raise what went wrong in it."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.result()

    def snapshot(self) -> Snapshot:
        """All views of the version in view, in memory; kept until the version changes.

        Raises LibraryError where a fleet searches the library, because this process cannot.
        """
        if self._elsewhere is not None:
            raise LibraryError(
                f"the library {self._reader.place} is searched by a fleet, which answers searches "
                "alone; open it without one for this."
            )
        if self._snapshot is None or self._snapshot.version != self._reader.version:
            self._snapshot = self._reader.read(self._load_snapshot)
        return self._snapshot

    def _load_snapshot(self) -> Snapshot:
        import numpy as np

        version, columns, vectors = self._reader.whole()
        ids, view = columns["id"], columns["view"]
        rows = np.arange(len(ids), dtype=np.int64)
        is_image = view == 0
        if not is_image.all():
            rows = np.lexsort((view, ids))
            ids, vectors, is_image = ids[rows], vectors[rows], is_image[rows]
        starts = np.flatnonzero(is_image)
        first = rows[starts]
        own: dict[str, Any] = {name: columns[name][first] for name in STATISTICS}
        return Snapshot(
            version=version,
            vectors=vectors,
            starts=starts,
            rows=rows,
            ids=ids[starts],
            **own,
        )

    def null(self, kinds: Kinds, *, crops: bool = True) -> Null:
        """What unrelated queries get in this library; without ``crops``, of whole images alone."""
        from wordsight.nomatch import Null

        version, found = self.found(crops=crops)
        known, null = self._nulls.get(crops, (None, None))
        if null is None or known != version:
            null = Null(found.z, kinds.log_odds(self._reader.bank()[1], found.vectors))
            self._nulls[crops] = version, null
        return null

    def found(self, *, crops: bool = True) -> tuple[int, Found]:
        """What the bank's phrases find, and in which version; made where it is missing.

        Without ``crops``: among whole images alone.
        """
        if self.is_large:
            return self._reader.read(lambda: self._found_by_index(self._large(), crops))
        snapshot = self.snapshot()
        name = "closest" if crops or not snapshot.has_crops else "closest-no-crops"
        version, found = self._found.get(name, (None, None))
        if found is None or version != snapshot.version:
            saved = load_arrays(self._reader.path, name, snapshot.version)
            # A table that was put in the place of another may have as many versions.
            if saved is None or saved["views"].max(initial=-1) >= len(snapshot.vectors):
                z, views = closest_of_bank(snapshot, self._reader.bank()[1], crops=crops)
                saved = {"z": z, "views": views}
                save_arrays(self._reader.path, name, snapshot.version, saved)
            found = Found(saved["z"], snapshot.vectors[saved["views"]])
            self._found[name] = snapshot.version, found
        return snapshot.version, found

    @property
    def is_large(self) -> bool:
        """Whether the vectors are too many to be held in memory (see :func:`exact_bytes`)."""
        if self._elsewhere is not None:
            return True
        views = self._reader.count_views()  # few ones would all be among the nearest anyway
        return views > NEAREST and views * self._reader.model.dim * 4 > exact_bytes()

    def around(
        self,
        queries: NDArray[np.float32],
        *,
        k: int = 10,
        crops: bool = True,
        where: str | None = None,
    ) -> Snapshot:
        """In a large library: a random part of the images, and those near to the queries [Q, D].

        Enough to rank the ``k`` nearest images, at most 4,000 views a query; of whole images alone
        without ``crops``. With a filter (``where``), all images that it lets pass are there too;
        where these are too large for that themselves, those of the random part stand for them
        (:data:`~wordsight.library.index.large.FAIR` or more), and so many more of the nearest are
        there.
        """
        import math

        import numpy as np

        def read() -> Snapshot:
            large = self._large()
            sample, _ = self._sampled(large, crops)
            near = large.nearest(queries, k, crops)
            if where is not None:
                passing = large.matching(where)
                theirs = large.of_images(passing, crops)
                drawn = int(np.isin(sample.ids, passing).sum())
                count = len(theirs.known["rows"])
                fits = count * self._reader.model.dim * 4 <= exact_bytes()
                if drawn < FAIR or fits:
                    near = near.and_those(theirs)
                else:
                    near = large.nearest(queries, math.ceil(k * large.views / count), crops)
            return joined(sample, large.snapshot(near.not_of(sample.ids)))

        return self._reader.read(read)

    def _large(self) -> LargeVersion:
        """The newest version that has an approximate index; made where there is none."""
        if self._elsewhere is not None:
            self._opened = self._elsewhere.newest(self._reader, self._opened)
            return self._opened
        versions = indexed_versions(self._reader.path)
        newest = versions[-1] if versions else self._reader.version
        if self._opened is not None and newest <= self._opened.version:
            return self._opened
        for version in reversed(versions):
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._opened = LargeVersion.open(self._reader.path, version)
                return self._opened
        self._opened = LargeVersion.make(self._reader.path, self._reader.dataset)
        return self._opened

    def _sampled(self, large: LargeVersion, crops: bool) -> tuple[Snapshot, Found]:
        """A random part of the large library, and what the bank's phrases find there."""
        return large.nearby(crops, lambda: self._reader.bank()[1])

    def _found_by_index(self, large: LargeVersion, crops: bool) -> tuple[int, Found]:
        return large.version, self._sampled(large, crops)[1]

    def matching(self, snapshot: Snapshot, where: str) -> NDArray[np.bool_]:
        """Which images of a snapshot a filter lets pass (see :mod:`filters`): bool [N].

        Raises QueryError for an expression that is none.
        """
        import numpy as np

        if snapshot.sampled is not None:
            return np.isin(snapshot.ids, self._reader.read(lambda: self._large().matching(where)))
        version, passes = self._matching.get(where, (None, None))
        if passes is None or version != snapshot.version:
            passes = np.isin(
                snapshot.ids, self._reader.read(lambda: matching(self._reader.dataset, where))
            )
            if len(self._matching) >= _MATCHING:
                self._matching.clear()
            self._matching[where] = snapshot.version, passes
        return passes

    def prepare(self) -> None:
        """Make what is missing of all this and of the sidecar, and keep it on the disk."""
        path, version = self._reader.path, self._reader.version
        for former in path.glob("statistics*.npz"):  # what the decision once needed
            former.unlink(missing_ok=True)
        if self.is_large:
            if indexed_versions(path)[-1:] != [version]:
                self._opened = LargeVersion.make(path, self._reader.dataset)
            self.found()
            (path / "sidecar.npz").unlink(missing_ok=True)
        else:
            drop_indexes(path)
            if load_arrays(path, "closest", version) is None:
                self.found()
            if self._reader.saved_sidecar() is None:
                self._reader.make_sidecar()

    def rows(self, rows: Sequence[int], version: int) -> list[dict[str, Any]]:
        """Path, label, size, box and metadata of the views at these places of that version.

        Raises LibraryChangedError when that version is there no more.
        """
        if not len(rows):
            return []
        places = [int(row) for row in rows]
        beside, described = self._reader.sidecar, self._described
        found: list[dict[str, Any]]
        if beside is not None and beside.version == version:
            found = beside.rows(places)
        elif described is not None and described[0] == version:
            found = described[1].take(places).to_pylist()
        else:
            try:
                found = self._described_rows(places, version).to_pylist()
            except (OSError, ValueError) as error:
                if not is_unread(error):
                    raise
                raise self._reader.rewritten() from None
        for row in found:
            row["id"] = id_from_int(row["id"])
            row["box"] = tuple(row["box"]) if row["box"] else None
            row["metadata"] = known_of(row)
        return found

    def _described_rows(self, places: list[int], version: int) -> Any:
        # The places are those of one version: in another, other images are there.
        opened = (self._reader.opened, self._opened.dataset if self._opened else None)
        dataset = next(
            (one for one in opened if one is not None and int(one.version) == version), None
        )
        dataset = dataset or open_table(self._reader.path, version)
        columns = columns_of(dataset, [*DESCRIPTION, *METADATA])
        table = dataset.take(places, columns=columns)
        # Who asks a second time will ask again: then from memory, not from the disk.
        if self._asked == version and self.in_memory and dataset.count_rows() <= _DESCRIBED:
            described = dataset.to_table(columns=columns)
            self._described = version, described.combine_chunks()
        self._asked = version
        return table
