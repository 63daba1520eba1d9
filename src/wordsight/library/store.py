"""A library's directory, opened: what reads and writes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wordsight.errors import LibraryChangedError, LibraryError, ModelMismatchError, reason
from wordsight.library.files import (
    is_unread,
    load_arrays,
    read_arrays,
    save_arrays,
    short,
    write_atomically,
    writing,
)
from wordsight.library.filters import matching
from wordsight.library.frames import Frames, read_frames
from wordsight.library.large import (
    FAIR,
    NEAREST,
    LargeVersion,
    drop_indexes,
    exact_bytes,
    indexed_versions,
)
from wordsight.library.lines import Lines
from wordsight.library.places import NAME, fallback_location, is_library
from wordsight.library.pruned import forget, recoverable, restore
from wordsight.library.records import Entry, ImageRecord, ModelRecord, id_from_int, id_to_int
from wordsight.library.recovery import check, open_readable, repair, sync
from wordsight.library.settings import Settings
from wordsight.library.sidecar import Sidecar
from wordsight.library.snapshot import Snapshot, joined
from wordsight.library.swap import clear
from wordsight.library.table import (
    BLOCK,
    DESCRIPTION,
    METADATA,
    NUMBERS,
    STATISTICS,
    add_metadata_columns,
    columns_of,
    create_table,
    files_of,
    known_of,
    matrix_of,
    open_table,
    to_records,
    to_table,
)
from wordsight.paths import DRAFTS

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from wordsight.nomatch import Calibration, Kinds, Null

FORMAT = 1
_COMPACT_FRAGMENTS = 8  # an indexing run leaves no more
_MOST_FRAGMENTS = 64  # nor many small changes these
_DESCRIBED = 2_000_000  # up to so many views paths and labels are kept in memory, 100 bytes each
_MATCHING = 32  # filters whose answers are remembered
_RECENT_NS = 2_000_000_000
_PRINTS = 1  # number of the form that prints are kept in

T = TypeVar("T")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the one process that writes to this directory; what a disk says becomes our error."""
    with writing(path):
        from filelock import FileLock, Timeout

        lock = FileLock(path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LibraryError(
                f"another process is writing to the library {path}; "
                "wait until it has finished. You can search in the meantime."
            ) from None
        try:
            yield
        finally:
            lock.release()


class Store(Settings):
    """A library's directory, opened. Make one with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self._begin(record)

    def _begin(self, record: dict[str, Any]) -> None:
        """Know nothing yet but what the library's record says."""
        self.record = record
        self.model = ModelRecord(**record["model"])
        self._dataset: Any = None
        self._damaged = False  # whether newer versions than the one in view do not read
        self._checked: set[str] = set()  # files of the table that hold what was written
        self._lines: Lines | None = None
        self._sidecar: Sidecar | None = None
        self._looked_at: int | None = None  # when the table had last changed, as far as known
        self._snapshot: Snapshot | None = None
        self._bank: tuple[list[str], NDArray[np.float32]] | None = None
        self.kinds: Kinds | None = None
        """What queries are held against, once a search has made it."""
        self._calibrations: dict[str, tuple[int, Calibration]] = {}
        self._matching: dict[str, tuple[int, NDArray[np.bool_]]] = {}  # by filter
        self._described: tuple[int, Any] | None = None  # what rows() gives, as one table
        self._frames: tuple[int, Frames] | None = None
        self._asked = -1
        self._counts: dict[bool, tuple[int, int]] = {}
        self._opened: LargeVersion | None = None
        self._nearby: dict[bool, tuple[int, Snapshot, Null]] = {}
        self._loading: Future[Null] | None = None

    # opening

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: ModelRecord,
        bank_phrases: Sequence[str],
        bank_vectors: NDArray[np.float32],
    ) -> Store:
        """Make an empty library for vectors of ``model``.

        ``bank_vectors`` is float32 [B, D], the text vectors of the B neutral phrases. Raises
        LibraryError when the directory holds a library or something else, or cannot be written.
        """
        import numpy as np

        from wordsight import __version__

        path = Path(path).absolute()
        _check_name(path)
        if is_library(path):
            raise LibraryError(f"{path} already holds a library; open it, or choose another place.")
        if os.path.exists(path) and (  # noqa: PTH110  (a path of any length)
            not path.is_dir() or any(path.iterdir())
        ):
            # What an interrupted create left behind is ours to overwrite.
            leftovers = list(path.iterdir()) if path.is_dir() else [path]
            ours = {"views.lance", "bank.npz", "lock"}
            if not all(p.name in ours or p.match(DRAFTS) for p in leftovers):
                raise LibraryError(f"{path} exists and is not a library; choose another place.")
        record = {
            "format": FORMAT,
            "id": os.urandom(8).hex(),
            "wordsight": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "model": {
                "name": model.name,
                "source": model.source,
                "hash": model.hash,
                "dim": model.dim,
                "preprocessing": model.preprocessing,
            },
        }
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if (path / "library.json").exists():  # another process was faster just now
                raise LibraryError(f"{path} already holds a library; open it, or choose another.")
            np.savez(
                path / "bank.npz",
                phrases=np.array(list(bank_phrases), dtype=np.str_),
                vectors=bank_vectors,
            )
            create_table(path, model.dim)
            # Written last: a directory with library.json is a complete library.
            write_atomically(path / "library.json", json.dumps(record, indent=2).encode())
        return cls(path, record)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a library. Raises LibraryError when there is none, or it is of a newer format."""
        path = Path(path).absolute()
        file = path / "library.json"
        try:
            if not is_library(path):  # a folder of images, as default_location was given it
                for place in (path / NAME, fallback_location(path.resolve())):
                    if is_library(place):
                        path, file = place, place / "library.json"
                        break
            record = json.loads(file.read_text(encoding="utf-8"))
            version = record["format"]
            if version > FORMAT:
                raise LibraryError(
                    f"the library {path} has format {version}, and this wordsight reads formats up "
                    f"to {FORMAT}; upgrade with: pip install --upgrade wordsight"
                )
            return cls(path, record)
        except FileNotFoundError:
            raise LibraryError(
                f"no library at {path}; create one with: wordsight index FOLDER --library {path}"
            ) from None
        except NotADirectoryError:
            raise LibraryError(
                f"{path} is a file; name a library's directory, or the folder that contains it."
            ) from None
        except PermissionError:
            raise LibraryError(f"cannot read the library {path}: permission denied.") from None
        except OSError as error:  # no path at all, for example
            raise LibraryError(f"cannot read the library {path}: {reason(error)}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise LibraryError(
                f"{file} is damaged ({error}); restore it, or index into another directory."
            ) from None

    def check_model(self, name: str, content_hash: str) -> None:
        """Raise ModelMismatchError unless the library was made with this very model."""
        if content_hash != self.model.hash:
            way_out = (
                f"its files have changed since (a newer version of {name}?): "
                "index again into another directory."
                if name == self.model.name
                else f"search it with --model {self.model.source}, "
                "or index again into another directory."
            )
            raise ModelMismatchError(
                f"the library {self.path} was made with the model '{self.model.name}' "
                f"({self.model.hash}), not with '{name}' ({content_hash}); {way_out}"
            )

    # reading

    @property
    def dataset(self) -> Any:
        """The table of views, as last seen (a ``lance.LanceDataset``)."""
        dataset = self._dataset  # another thread may be forgetting it
        if dataset is None:
            try:
                dataset, damaged = open_readable(self.path)
            except (ValueError, OSError) as error:
                self._expect_no_other()
                raise self._unreadable(error) from None
            self._expect_no_other()
            self._damaged = bool(damaged)
            self._dataset = dataset
        return dataset

    def _unreadable(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"cannot read the table of the library {self.path} ({short(error)}); "
            "restore the directory, or index again into another one."
        )

    def _rewritten(self) -> LibraryChangedError:
        return LibraryChangedError(
            f"another process rewrote the library {self.path} in the meantime; "
            "run the same command again."
        )

    @property
    def version(self) -> int:
        """The version of the table that is in view."""
        beside = self._beside()
        return beside.version if beside else int(self.dataset.version)

    def _beside(self) -> Sidecar | None:
        """The sidecar, while it is what shows the newest version: until the table is opened."""
        if self._dataset is None and self._sidecar is None:
            self._sidecar = self._saved_sidecar()
            if self._sidecar:
                self._expect_no_other()
        return self._sidecar if self._dataset is None else None

    def _saved_sidecar(self) -> Sidecar | None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # none, or out of date
            arrays = read_arrays(self.path / "sidecar.npz")
            version, table = int(arrays["version"]), self.path / "views.lance"
            found = Sidecar.from_arrays(arrays, version, table, self.model.dim)
            return found if found.is_current() else None
        return None

    def refresh(self) -> bool:
        """Look for what other processes wrote since; True when there is a newer version.

        That of another library too, which was made in the place of this one.
        """
        dataset, beside = self._dataset, self._sidecar
        if self._loading and not self._loading.done():
            return False  # it is opening the newest
        if dataset is None and beside is None:
            return self._is_another()  # else the next read opens the newest
        try:
            changed = (self.path / "views.lance/_versions").stat().st_mtime_ns
            if changed == self._looked_at:
                return False
            if self._is_another():
                return True
            if dataset is not None:
                is_current = self._damaged or dataset.latest_version == dataset.version
            else:
                is_current = beside is not None and beside.is_current()
        except OSError as error:
            if self._is_another():
                return True
            raise self._unreadable(error) from None
        # A later change may bear the same time, as clocks tick, if this one is recent.
        self._looked_at = changed if time.time_ns() - changed > _RECENT_NS else None
        if is_current:
            return False
        self._dataset = self._sidecar = self._looked_at = None
        return True

    def _is_another(self) -> bool:
        """Whether another library is in this place by now, which is then the one in view."""
        if not is_library(self.path):
            return False
        record = self._written_record()
        if record.get("id") == self.record.get("id"):
            return False
        self._begin(record)
        return True

    def _expect_no_other(self) -> None:
        if self._is_another():
            raise self._rewritten()

    def reload(self) -> None:
        """Forget what is in memory; the next read opens the newest version."""
        self._dataset = self._sidecar = self._looked_at = None
        self._snapshot = None
        self._described = None
        self._opened = None
        self._nearby.clear()

    def __len__(self) -> int:
        return self._count(crops=False)

    def count_views(self) -> int:
        """How many views the library holds, whole images and crops."""
        return self._count(crops=True)

    def _count(self, *, crops: bool) -> int:
        # Asked several times a search; Lance takes most of a millisecond.
        version, known = self._counts.get(crops, (-1, 0))
        if version != self.version:

            def read() -> tuple[int, int]:
                beside = self._beside()
                if beside:
                    view = beside.numbers["view"]
                    return beside.version, len(view) if crops else int((view == 0).sum())
                dataset = self.dataset
                rows = dataset.count_rows(filter=None if crops else "view = 0")
                return int(dataset.version), int(rows)

            version, known = self._counts[crops] = self._read(read)
        return known

    def _read(self, action: Callable[[], T]) -> T:
        """Run a read again on the newest version when a compaction took its files away.

        Raises LibraryError when that cannot be read either, LibraryChangedError when another
        library is in this place: what the caller made with its model fits no more.
        """
        try:
            return action()
        except (OSError, ValueError) as error:
            if not is_unread(error):
                raise
        self._expect_no_other()
        self.reload()
        try:
            return action()
        except (OSError, ValueError) as error:
            if not is_unread(error):
                raise
            raise self._unreadable(error) from None

    def entries(self) -> list[Entry]:
        """Every image without its vectors."""

        def read() -> Any:
            dataset = self.dataset
            names = columns_of(dataset, [field.name for field in fields(Entry)])
            return dataset.to_table(columns=names, filter="view = 0")

        table = self._read(read)
        columns = {name: table[name].to_pylist() for name in table.column_names}
        columns["id"] = [id_from_int(value) for value in columns["id"]]
        columns.setdefault("media", [None] * len(table))
        ordered = [columns[field.name] for field in fields(Entry)]
        return [Entry(*row) for row in zip(*ordered, strict=True)]

    def images(self, ids: Sequence[str]) -> list[ImageRecord]:
        """The images of these ids with all their views; unknown ids are left out."""
        if not ids:
            return []
        wanted = ",".join(str(id_to_int(i)) for i in ids)
        table = self._read(lambda: self.dataset.to_table(filter=f"id in ({wanted})"))
        return to_records(table)

    def labels(self) -> dict[str, str | None]:
        """The label of every image, by id."""
        table = self._read(
            lambda: self.dataset.to_table(columns=["id", "label"], filter="view = 0")
        )
        ids = (id_from_int(value) for value in table["id"].to_pylist())
        return dict(zip(ids, table["label"].to_pylist(), strict=True))

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of the table, a value an image; None throughout where an older table has none."""
        table = self._read(
            lambda: self.dataset.to_table(
                columns=columns_of(self.dataset, names), filter="view = 0"
            )
        )
        nothing = [None] * len(table)
        return {n: table[n].to_pylist() if n in table.column_names else nothing for n in names}

    def region_labels(self) -> list[str]:
        """What a detector saw in the images, the most frequent first."""
        table = self._read(
            lambda: self.dataset.to_table(
                columns=["region_label"], filter="region_label is not null"
            )
        )
        counted = table["region_label"].value_counts().to_pylist()
        counted.sort(key=lambda one: -one["counts"])
        return [one["values"] for one in counted]

    def described(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Id, path, label, width, height, hash, mtime_ns and metadata of images, in this order.

        Unknown ids are left out.
        """
        if not ids:
            return []
        order = {image: place for place, image in enumerate(ids)}
        wanted = f"view = 0 and id in ({','.join(str(id_to_int(i)) for i in order)})"
        names = ["id", "path", "label", "width", "height", "hash", "mtime_ns", *METADATA]
        rows = self._read(
            lambda: self.dataset.to_table(columns=columns_of(self.dataset, names), filter=wanted)
        ).to_pylist()
        found = [
            {
                **{n: row[n] for n in names[1:7]},
                "id": id_from_int(row["id"]),
                "metadata": known_of(row),
            }
            for row in rows
        ]
        return sorted(found, key=lambda row: order[row["id"]])

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
        if self.count_views():
            beside = ThreadPoolExecutor(1, thread_name_prefix="load")
            self._loading = beside.submit(self.null, crops=crops)
            beside.shutdown(wait=False)

    def loaded(self) -> None:
        """Wait for what :meth:`preload` began, and raise what went wrong in it."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.result()

    def matching(self, snapshot: Snapshot, where: str) -> NDArray[np.bool_]:
        """Which images of a snapshot a filter lets pass (see :mod:`filters`): bool [N].

        Raises QueryError for an expression that is none.
        """
        import numpy as np

        if snapshot.sampled is not None:
            return np.isin(snapshot.ids, self._read(lambda: self._large().matching(where)))
        version, passes = self._matching.get(where, (None, None))
        if passes is None or version != snapshot.version:
            passes = np.isin(snapshot.ids, self._read(lambda: matching(self.dataset, where)))
            if len(self._matching) >= _MATCHING:
                self._matching.clear()
            self._matching[where] = snapshot.version, passes
        return passes

    @property
    def is_large(self) -> bool:
        """Whether the vectors are too many to be held in memory (see :func:`exact_bytes`)."""
        views = self.count_views()  # few ones would all be among the nearest anyway
        return views > NEAREST and views * self.model.dim * 4 > exact_bytes()

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
        (:data:`~wordsight.library.large.FAIR` or more), and so many more of the nearest are there.
        """
        import math

        import numpy as np

        def read() -> Snapshot:
            large = self._large()
            sample, _ = self._sampled(large, crops)
            rows = large.nearest(queries, k, crops)
            if where is not None:
                passing = large.matching(where)
                theirs = large.rows_of(passing, crops)
                drawn = int(np.isin(sample.ids, passing).sum())
                if drawn < FAIR or len(theirs) * self.model.dim * 4 <= exact_bytes():
                    rows = np.union1d(rows, theirs)
                else:
                    rows = large.nearest(
                        queries, math.ceil(k * len(large.ids) / len(theirs)), crops
                    )
            place = np.searchsorted(sample.ids, large.ids[rows])  # a snapshot's ids are in order
            known = sample.ids[np.minimum(place, len(sample.ids) - 1)] == large.ids[rows]
            rows = rows[~known]
            return joined(sample, large.snapshot(rows, large.vectors(rows)))

        return self._read(read)

    def null(self, *, crops: bool = True) -> Null:
        """What unrelated queries get in this library; without ``crops``, of whole images alone."""
        if self.is_large:
            return self._read(lambda: self._sampled(self._large(), crops))[1]
        return self.calibration(self.snapshot(), crops=crops).null

    def _large(self) -> LargeVersion:
        """The newest version that has an approximate index; made where there is none."""
        versions = indexed_versions(self.path)
        newest = versions[-1] if versions else self.version
        if self._opened is not None and newest <= self._opened.version:
            return self._opened
        for version in reversed(versions):
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._opened = LargeVersion.open(self.path, version)
                return self._opened
        self._opened = LargeVersion.make(self.path, self.dataset)
        return self._opened

    def _sampled(self, large: LargeVersion, crops: bool) -> tuple[Snapshot, Null]:
        """A random part of the large library, and what unrelated queries get there."""
        crops = crops or not large.has_crops
        if crops not in self._nearby or self._nearby[crops][0] != large.version:
            sample, null = large.nearby(crops, lambda: self.bank()[1])
            self._nearby[crops] = large.version, sample, null
        return self._nearby[crops][1:]

    def snapshot(self) -> Snapshot:
        """All views of the version in view, in memory; kept until the version changes."""
        if self._snapshot is None or self._snapshot.version != self.version:
            self._snapshot = self._read(self._load_snapshot)
        return self._snapshot

    def _load_snapshot(self) -> Snapshot:
        import numpy as np

        version, columns, vectors = self._whole()
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

    def _check(self, names: Iterable[str]) -> None:
        """Raise LibraryError where a file of the table does not hold what was written."""
        check(self.path, (names := set(names)) - self._checked)
        self._checked |= names

    def _whole(self) -> tuple[int, Mapping[str, NDArray[Any]], NDArray[np.float32]]:
        """The version in view, its columns of numbers by name, and its vectors."""
        import numpy as np

        beside = self._beside()
        if beside:
            with contextlib.suppress(OSError):
                self._check(beside.flat.files.tolist())
                return beside.version, beside.numbers, beside.vectors()
            self._sidecar = None  # the table's files are others by now
        dataset = self.dataset
        self._check(name for part in dataset.get_fragments() for name in files_of(part))
        table = dataset.to_table(columns=list(NUMBERS))
        vectors = np.empty((len(table), self.model.dim), np.float32)
        begin = 0
        # In blocks, so that they are never in memory in both forms.
        for batch in dataset.to_batches(columns=["vector"], batch_size=BLOCK):
            matrix_of(batch["vector"], vectors[begin : begin + len(batch)])
            begin += len(batch)
        return int(dataset.version), {name: table[name].to_numpy() for name in NUMBERS}, vectors

    def frames(self) -> Frames:
        """The frames of videos, of the newest version that was seen; kept in memory."""
        version = self.version
        if self._frames is None or self._frames[0] != version:
            self._frames = version, self._read(lambda: read_frames(self.dataset))
        return self._frames[1]

    def rows(self, rows: Sequence[int], version: int) -> list[dict[str, Any]]:
        """Path, label, size, box and metadata of the views at these places of that version.

        Raises LibraryChangedError when that version is there no more.
        """
        if not len(rows):
            return []
        places = [int(row) for row in rows]
        beside, described = self._sidecar, self._described
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
                raise self._rewritten() from None
        for row in found:
            row["id"] = id_from_int(row["id"])
            row["box"] = tuple(row["box"]) if row["box"] else None
            row["metadata"] = known_of(row)
        return found

    def _described_rows(self, places: list[int], version: int) -> Any:
        # The places are those of one version: in another, other images are there.
        opened = (self._dataset, self._opened.dataset if self._opened else None)
        dataset = next(
            (one for one in opened if one is not None and int(one.version) == version), None
        )
        dataset = dataset or open_table(self.path, version)
        columns = columns_of(dataset, [*DESCRIPTION, *METADATA])
        table = dataset.take(places, columns=columns)
        # Who asks a second time will ask again: then from memory, not from the disk.
        if self._asked == version and self.in_memory and dataset.count_rows() <= _DESCRIBED:
            described = dataset.to_table(columns=columns)
            self._described = version, described.combine_chunks()
        self._asked = version
        return table

    def bank(self) -> tuple[list[str], NDArray[np.float32]]:
        """The neutral phrases and their text vectors, float32 [B, D]."""
        import numpy as np

        if self._bank is not None:
            return self._bank
        try:
            saved = read_arrays(self.path / "bank.npz")
            phrases = [str(phrase) for phrase in saved["phrases"]]
            self._bank = phrases, saved["vectors"].astype(np.float32)
            return self._bank
        except (ValueError, KeyError) as error:
            self._expect_no_other()
            raise LibraryError(
                f"{self.path / 'bank.npz'} is damaged or missing ({short(error)}); "
                "index again into another directory."
            ) from None

    def calibration(self, snapshot: Snapshot, *, crops: bool = True) -> Calibration:
        """What the "No match" decision needs for a snapshot's version; made where it is missing.

        Without ``crops``: for the scores of whole images alone.
        """
        from wordsight.nomatch import Calibration

        name = "statistics" if crops or not snapshot.has_crops else "statistics-no-crops"
        version, made = self._calibrations.get(name, (None, None))
        if made is None or version != snapshot.version:
            saved = load_arrays(self.path, name, snapshot.version)
            if saved is not None:
                made = Calibration.from_arrays(saved)
            else:
                made = self._calibrate(snapshot, crops)
                save_arrays(self.path, name, snapshot.version, made.to_arrays())
            self._calibrations[name] = (snapshot.version, made)
        return made

    def _calibrate(self, snapshot: Snapshot, crops: bool) -> Calibration:
        import numpy as np

        from wordsight.nomatch import Calibration

        _, bank = self.bank()
        made = Calibration.empty(len(bank))
        ends = np.append(snapshot.starts[1:], len(snapshot.vectors))
        step = 4096  # images whose bank scores are in memory at once
        for begin in range(0, len(snapshot.ids), step):
            starts = snapshot.starts[begin : begin + step]
            part = slice(starts[0], ends[min(begin + step, len(ends)) - 1])
            scores = snapshot.vectors[part] @ bank.T
            starts = starts - starts[0]
            fused = np.maximum.reduceat(scores, starts, axis=0) if crops else scores[starts]
            made = made.observe(fused)
        return made

    def skipped(self) -> list[tuple[str, str]]:
        """Files that the last runs over their folders left out, as (path, reason)."""
        try:
            found = json.loads((self.path / "skipped.json").read_text(encoding="utf-8"))
            return [(str(path), str(reason)) for path, reason in found]
        except (OSError, ValueError, TypeError):
            return []

    def save_skipped(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Keep what was left out, for people to look at."""
        if skipped or (self.path / "skipped.json").exists():
            with contextlib.suppress(OSError):
                write_atomically(self.path / "skipped.json", json.dumps(skipped).encode())

    @property
    def lines(self) -> Lines:
        """The text in the images, as far as it was read."""
        if self._lines is None:
            self._lines = Lines(self.path)
        return self._lines

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """The hashes of these images' files, by id."""
        wanted = ",".join(str(id_to_int(i)) for i in ids)
        only = f"id in ({wanted}) and view = 0"
        columns = ["id", "hash"]
        table = self._read(lambda: self.dataset.to_table(columns=columns, filter=only))
        ids = [id_from_int(value) for value in table["id"].to_pylist()]
        return dict(zip(ids, table["hash"].to_pylist(), strict=True))

    def prints(self) -> dict[str, NDArray[Any]] | None:
        """What :meth:`save_prints` kept; None where there is nothing that can be read."""
        return load_arrays(self.path, "prints", _PRINTS)

    def save_prints(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the images' prints (see duplicates.py), which can be made again."""
        save_arrays(self.path, "prints", _PRINTS, arrays)

    def info(self) -> dict[str, Any]:
        """Counts, model, size on disk in bytes, versions.

        ``crops`` counts the images by what proposed their crops; ``texts`` those in whose files
        text was looked for, None where it never was.
        """
        size = 0
        for folder, _, files in os.walk(self.path):
            for file in files:
                with contextlib.suppress(OSError):
                    size += (Path(folder) / file).stat().st_size
        known = self.columns(("path", "hash", "crops"))
        frames = [path for path in known["path"] if "::t=" in path]
        read = self.lines.hashes()
        views = self.count_views()
        return {
            "library": str(self.path),
            "images": len(self),
            "views": views,
            "crops": dict(Counter(known["crops"])),
            "videos": len({path.rpartition("::t=")[0] for path in frames}),
            "frames": len(frames),
            "texts": sum(file in read for file in known["hash"]) if self.lines else None,
            "model": self.record["model"],
            "bytes": size,
            "format": self.record["format"],
            "made_with": self.record.get("wordsight"),
            "created": self.record.get("created"),
            "table_version": self.version,
            "exclude": self.exclude,
        }

    # writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer. Raises LibraryError when another process is, or the disk refuses.

        LibraryChangedError when a library of another model is in this place by now.
        """
        with _locked(self.path):
            model = self.model
            if self._is_another() and self.model.hash != model.hash:
                raise self._rewritten()
            try:
                repaired = repair(self.path, self._checked, contents=not self.is_large)
            except (ValueError, OSError) as error:
                raise self._unreadable(error) from None
            if repaired:
                self._begin(self._written_record())
            yield
            with writing(self.path):
                sync(self.path)

    def put(self, images: Sequence[ImageRecord], *, replace: bool) -> None:
        """Add images with their views in one atomic step (call it under :meth:`lock`).

        With ``replace`` every older view of these ids goes in the same step. Background
        statistics are computed here, from the bank, so that they are always those of the views.
        """
        if not images:
            return
        with writing(self.path):
            table = to_table(images, self.bank()[1], self.model.dim)
            if replace:
                ids = ",".join(str(id_to_int(image.id)) for image in images)
                self.dataset.merge_insert(
                    ["id", "view"]
                ).when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete(
                    f"id in ({ids})"
                ).execute(table)
            else:
                self.dataset.insert(table, mode="append")
            sync(self.path)

    def add_metadata_columns(self) -> None:
        """Let an older library hold what files say of their images (under :meth:`lock`)."""
        with writing(self.path):
            add_metadata_columns(self.dataset)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove images with all their views; the number of images that were there."""
        before = len(self)
        numbers = [str(id_to_int(image_id)) for image_id in ids]  # a wrong one before any goes
        with writing(self.path):
            for start in range(0, len(numbers), 5000):
                self.dataset.delete(f"id in ({','.join(numbers[start : start + 5000])})")
        return before - len(self)

    def prune(self, ids: Sequence[str]) -> int:
        """As :meth:`remove`, so that :meth:`undo_prune` brings them back until a compaction."""
        if not ids:
            return 0
        with writing(self.path), recoverable(self.dataset):
            return self.remove(ids)

    def undo_prune(self) -> int:
        """Bring back what was pruned since the library was last compacted; the number of images."""
        with writing(self.path):
            return restore(self.dataset)

    def compact(self, *, only_if_needed: bool = False) -> None:
        """Merge small fragments and drop old versions (readers reload by themselves).

        Pruned images are gone for good then, unless it was done ``only_if_needed``.
        """
        if not only_if_needed:
            with writing(self.path):
                forget(self.dataset)
        self._merge(only_if_needed=only_if_needed)

    def _merge(self, *, only_if_needed: bool = False) -> None:
        if only_if_needed and len(self.dataset.get_fragments()) <= _COMPACT_FRAGMENTS:
            return
        with writing(self.path):
            self.dataset.optimize.compact_files()
        self.prepare()
        self._drop_old_versions()

    def prepare(self) -> None:
        """Make what searches of the version in view need, where it is missing.

        Now rather than in the first search after a change.
        """
        for unfinished in self.path.glob("*.new"):  # of processes that were killed
            unfinished.unlink(missing_ok=True)
        clear(self.path)  # likewise
        if self.is_large:
            if indexed_versions(self.path)[-1:] != [self.version]:
                self._opened = LargeVersion.make(self.path, self.dataset)
            self.null()
            (self.path / "sidecar.npz").unlink(missing_ok=True)
        else:
            drop_indexes(self.path)
            if load_arrays(self.path, "statistics", self.version) is None:
                self.calibration(self.snapshot())
            if self._saved_sidecar() is None:
                self._make_sidecar()

    def settle(self) -> None:
        """What a small change needs (call it under :meth:`lock`).

        In a large library searches see no more than what the index is of, so it is made anew; and
        elsewhere for those to whom the library is large by their own budget it must go. Many
        small changes are many small files: from some number on they are merged.
        """
        if len(self.dataset.get_fragments()) > _MOST_FRAGMENTS:
            self._merge()
        elif self.is_large:
            self.prepare()
        else:
            drop_indexes(self.path)

    def _make_sidecar(self) -> None:
        dataset = self.dataset
        arrays = Sidecar.arrays(dataset, self.model.dim)
        if arrays is None:
            (self.path / "sidecar.npz").unlink(missing_ok=True)
            return
        version = int(dataset.version)
        save_arrays(self.path, "sidecar", version, arrays)
        self._sidecar = Sidecar.from_arrays(
            arrays, version, self.path / "views.lance", self.model.dim
        )

    def _drop_old_versions(self) -> None:
        from datetime import timedelta

        with writing(self.path):
            self.dataset.cleanup_old_versions(
                older_than=timedelta(0),
                delete_unverified=False,
                error_if_tagged_old_versions=False,
            )


def _check_name(path: Path) -> None:
    """Raise LibraryError for a path that Lance cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise LibraryError(
            f"the path {shown} is not valid UTF-8; choose another place for the library."
        ) from None
