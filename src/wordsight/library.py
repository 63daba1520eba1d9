"""The library on disk: a searchable set of images as one table of views, plus what explains it.

A library is a directory::

    library.json     format, model (name, source, content hash, dimension), bank, creation time
    views.lance/     one row per view (the whole image, or one crop of it); Lance, a columnar
                     format with versions: appends are atomic, readers never see half a batch
    bank.npz         text vectors of the neutral phrases, made with the library's model
    statistics.npz   what the "No match" decision needs, for one version of the table
    sidecar.npz      what else a search needs, without opening the table; for one version of it
    views-N.ann      in a large library: an approximate index of the table's version N
    nearby.npz       in a large library: what the decision needs there
    flat.npz         in a large library: where its vectors lie in the files of the table
    skipped.json     files that were left out when their folders were last indexed, and why
    lock             held by the one process that writes

A library is **large** when its vectors, as float32, take more than :func:`exact_bytes`. It is then
not read into memory: an approximate index names the views that may be nearest, and these are read
and scored exactly. The index belongs to one version of the table, and searches see that version;
the writer makes the next one when it is done.

This is the only module that knows how a library is stored.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wordsight.errors import LibraryChangedError, LibraryError, ModelMismatchError, reason
from wordsight.sidecar import NUMBERS, STATISTICS, Sidecar

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from wordsight.ann import ApproximateIndex
    from wordsight.flat import FlatVectors
    from wordsight.nomatch import Calibration, Kinds, Null

FORMAT = 1
NAME = ".wordsight"
_COMPACT_FRAGMENTS = 8
_META_COLUMNS = ["id", "path", "label", "width", "height", "kind", "box", "region_label"]

EXACT_MIB = 1024
_SAMPLE = 8_000  # views of a large library that stand for all of them, about
_FEWEST = 30  # images at least, or all, that these views are of
_NEAREST = 200  # views at least that the approximate index names, to be scored exactly
_NEAREST_OF = 10_000  # and one in so many: the more views, the closer they lie to each other
_MOST_NEAREST = 4000
_DESCRIBED = 2_000_000  # up to so many views paths and labels are kept in memory, 100 bytes each
_RECENT_NS = 2_000_000_000
_BLOCK = 65_536  # rows that are read at once where all are passed through

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model that a library was made with; its vectors compare with no other's."""

    name: str
    source: str
    hash: str
    dim: int
    preprocessing: str


@dataclass(slots=True)
class ViewRecord:
    """One thing that was embedded: a whole image (``box`` is None) or a crop of it.

    ``vector`` is float [D] of unit length; ``box`` is x0, y0, x1, y1 in pixels of the upright
    original image.
    """

    vector: NDArray[np.floating[Any]]
    kind: str = "image"
    box: tuple[float, float, float, float] | None = None
    label: str | None = None
    score: float | None = None


@dataclass(slots=True)
class ImageRecord:
    """One image and its views; ``views[0]`` is the whole image.

    ``size`` is in bytes, ``mtime_ns`` in nanoseconds, ``hash`` that of the file's bytes,
    ``crops`` names how its regions were proposed ("none" when they were not).
    """

    id: str
    path: str
    root: str
    size: int
    mtime_ns: int
    hash: str
    width: int
    height: int
    label: str | None = None
    crops: str = "none"
    views: list[ViewRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the library knows of one image without its vectors (see :class:`ImageRecord`)."""

    id: str
    path: str
    root: str
    size: int
    mtime_ns: int
    hash: str
    crops: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All views of one version of a library, in memory and ready to be scored.

    ``vectors`` is float32 [V, D]; the views of image ``i`` are the rows from ``starts[i]`` to
    ``starts[i + 1]`` (the last one: to V), its whole image first. ``rows`` [V] are the places
    of the views in the table. ``ids`` [N] are the images; ``labels`` [N] their labels or None.
    ``mean`` and ``sd`` float32 [N] are the background statistics of the fused score,
    ``image_mean`` and ``image_sd`` those of the whole image alone.

    Of a large library it holds a part: ``sampled`` images, drawn at random, at the front, and
    behind them those that are near to a query. An image there has the views that are near, which
    need not be all; their vectors are ``near`` [n, D], the last n of the V. Elsewhere ``sampled``
    and ``near`` are None.
    """

    version: int
    vectors: NDArray[np.float32]
    starts: NDArray[np.intp]
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    image_mean: NDArray[np.float32]
    image_sd: NDArray[np.float32]
    sampled: int | None = None
    near: NDArray[np.float32] | None = None

    @property
    def has_crops(self) -> bool:
        """Whether any image has more than its whole-image view."""
        return len(self.rows) > len(self.ids)

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine of every view with every query: [..., D] -> [..., V]."""
        import numpy as np

        scores: NDArray[np.float32] = queries @ self.vectors.T
        if self.near is None:
            return scores
        return np.concatenate([scores, queries @ self.near.T], axis=-1)

    def vectors_of(self, views: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of these views: [n] -> [n, D]."""
        import numpy as np

        if self.near is None:
            return self.vectors[views]
        most = len(self.vectors)
        chosen = [self.vectors[v] if v < most else self.near[v - most] for v in views]
        return np.stack(chosen)

    def fuse(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best score of each image's views: [..., V] -> [..., N] (max fusion)."""
        import numpy as np

        if not self.has_crops or not len(self.ids):
            return scores
        return np.maximum.reduceat(scores, self.starts, axis=-1)


@dataclass(frozen=True, slots=True)
class _Large:
    """One version of a large library, opened for searching: everything but the vectors."""

    dataset: Any
    index: ApproximateIndex
    ids: NDArray[np.int64]  # these and the following: one a row of the table
    view: NDArray[np.int32]
    statistics: dict[str, NDArray[np.float32]]
    flat: FlatVectors | None

    @property
    def has_crops(self) -> bool:
        return bool(self.view.any())

    def _counting(self, rows: NDArray[np.int64], crops: bool) -> NDArray[np.int64]:
        """Those of these rows that count: without ``crops`` the whole images."""
        return rows if crops else rows[self.view[rows] == 0]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows of the table that are in order, float32 [n, D]."""
        if self.flat is not None:
            return self.flat.read(rows)
        return _matrix(self.dataset.take(rows, columns=["vector"])["vector"])

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
            version=int(self.dataset.version),
            vectors=vectors,
            starts=starts,
            rows=rows,
            ids=ids[starts],
            **own,
        )

    def nearest(self, queries: NDArray[np.float32], k: int, crops: bool) -> NDArray[np.int64]:
        """Rows of the views that may be nearest to any of the queries [Q, D], in order."""
        import numpy as np

        # Several views of one image may be near.
        count = min(max(_NEAREST, 4 * k, len(self.ids) // _NEAREST_OF), _MOST_NEAREST)
        if not crops and self.has_crops:
            # Crops take places among the nearest that are then left unused.
            count = min(_MOST_NEAREST, count * len(self.ids) // int((self.view == 0).sum()))
        places = self.index.search(queries, min(count, len(self.ids)))
        rows = np.unique(places[places >= 0])
        return self._counting(rows, crops)

    def with_label(self, label: str, crops: bool) -> NDArray[np.int64]:
        """Rows of all views of the images with this label, in order."""
        import numpy as np

        quoted = label.replace("'", "''")
        found = self.dataset.to_table(columns=["id"], filter=f"label = '{quoted}' and view = 0")
        rows = np.flatnonzero(np.isin(self.ids, found["id"].to_numpy()))
        return self._counting(rows, crops)

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


def _joined(sample: Snapshot, others: Snapshot) -> Snapshot:
    """A sample and other images behind it. The sample's vectors are not copied: 16 MB."""
    import numpy as np

    def both(name: str) -> Any:
        return np.concatenate([getattr(sample, name), getattr(others, name)])

    names = ("rows", "ids", *STATISTICS)
    return replace(
        sample,
        starts=np.concatenate([sample.starts, others.starts + len(sample.vectors)]),
        sampled=len(sample.ids),
        near=others.vectors,
        **{name: both(name) for name in names},
    )


def id_to_int(image_id: str) -> int:
    """The 16 hex digits of an image id as the signed 64-bit number that is stored."""
    if len(image_id) != 16 or not set(image_id) <= _HEX_DIGITS:  # int() takes 0x, +, _ and more
        raise LibraryError(f"'{image_id}' is not an image id (16 hexadecimal digits).")
    value = int(image_id, 16)
    return value - (1 << 64) if value >> 63 else value


def id_from_int(value: int) -> str:
    """The inverse of :func:`id_to_int`."""
    return f"{int(value) & 0xFFFFFFFFFFFFFFFF:016x}"


# -- where a library is -------------------------------------------------------------------------


def _fallback_location(folder: Path) -> Path:
    """Where the library of a folder that cannot be written to lives: the user's data folder."""
    import hashlib

    from platformdirs import user_data_path

    key = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return user_data_path("wordsight") / "libraries" / f"{folder.name or 'root'}-{key}"


def default_location(first: str | Path) -> Path:
    """The library for images at ``first``: ``.wordsight`` in the folder, or in the file's folder.

    A data set's name ("cifar10") means the current folder. Where that folder is read-only, a
    place in the user's data folder is used; :func:`find` knows it.
    """
    path = Path(first)
    folder = path if path.is_dir() else path.parent if path.exists() else Path.cwd()
    folder = folder.resolve()
    if (folder / NAME).exists() or os.access(folder, os.W_OK):
        return folder / NAME
    return _fallback_location(folder)


def find(start: str | Path | None = None) -> Path:
    """The library of a folder or of the nearest folder above it, as git finds its repository.

    Raises LibraryError when there is none.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        for place in (folder / NAME, _fallback_location(folder)):
            if (place / "library.json").is_file():
                return place
    raise LibraryError(
        f"no library in {here} or above it; make one with: wordsight index FOLDER, "
        "or name one with --library DIR."
    )


# -- the store ----------------------------------------------------------------------------------


class Store:
    """A library's directory, opened. Make one with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self._begin(record)

    def _begin(self, record: dict[str, Any]) -> None:
        """Know nothing yet but what the library's record says."""
        self.record = record
        self.model = ModelRecord(**record["model"])
        self._dataset: Any = None
        self._sidecar: Sidecar | None = None
        self._looked_at: int | None = None  # when the table had last changed, as far as known
        self._snapshot: Snapshot | None = None
        self._bank: tuple[list[str], NDArray[np.float32]] | None = None
        self.kinds: Kinds | None = None
        """What queries are held against, once a search has made it."""
        self._calibrations: dict[str, tuple[int, Calibration]] = {}
        self._labels: tuple[int, NDArray[Any]] | None = None
        self._described: tuple[int, Any] | None = None  # what rows() gives, as one table
        self._asked = -1
        self._counts: dict[bool, tuple[int, int]] = {}
        self._opened: _Large | None = None
        self._nearby: dict[str, tuple[int, Snapshot, Null]] = {}
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
        try:
            str(path).encode()
        except UnicodeEncodeError:  # as Lance takes it
            shown = os.fsencode(path).decode("utf-8", "replace")
            raise LibraryError(
                f"{shown} is not valid UTF-8, so no library can be there; choose another place."
            ) from None
        if os.path.exists(path / "library.json"):  # noqa: PTH110  (a path of any length)
            raise LibraryError(f"{path} already holds a library; open it, or choose another place.")
        if os.path.exists(path) and (  # noqa: PTH110
            not path.is_dir() or any(path.iterdir())
        ):
            # What an interrupted create left behind is ours to overwrite.
            leftovers = list(path.iterdir()) if path.is_dir() else [path]
            ours = {"views.lance", "bank.npz", "lock"}
            if not all(p.name in ours or p.match("library.json.*.new") for p in leftovers):
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
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            np.savez(
                path / "bank.npz",
                phrases=np.array(list(bank_phrases), dtype=np.str_),
                vectors=bank_vectors,
            )
            schema = _schema(model.dim)
            table = path / "views.lance"
            mode = "overwrite" if table.exists() else "create"
            _lance().write_dataset(schema.empty_table(), str(table), schema=schema, mode=mode)
            # Written last: a directory with library.json is a complete library.
            _write_atomically(path / "library.json", json.dumps(record, indent=2).encode())
        return cls(path, record)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a library. Raises LibraryError when there is none, or it is of a newer format."""
        path = Path(path).absolute()
        file = path / "library.json"
        try:
            if not file.is_file():  # a folder of images, as default_location was given it
                for place in (path / NAME, _fallback_location(path.resolve())):
                    if (place / "library.json").is_file():
                        path, file = place, place / "library.json"
                        break
            record = json.loads(file.read_text(encoding="utf-8"))
            version = record["format"]
            if version > FORMAT:
                raise LibraryError(
                    f"the library {path} has format {version}, this wordsight reads up to "
                    f"{FORMAT}; upgrade with: pip install --upgrade wordsight"
                )
            return cls(path, record)
        except FileNotFoundError:
            raise LibraryError(
                f"no library at {path}; make one with: wordsight index FOLDER --library {path}"
            ) from None
        except NotADirectoryError:
            raise LibraryError(
                f"{path} is a file; name a library's directory, or the folder that it is in."
            ) from None
        except PermissionError:
            raise LibraryError(f"the library {path} cannot be read: permission denied.") from None
        except OSError as error:  # no path at all, for example
            raise LibraryError(f"the library {path} cannot be read: {reason(error)}.") from None
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

    @property
    def crops(self) -> str:
        """How regions were proposed when the library was last indexed with a choice of it."""
        self.record = self._written_record()  # another process may have chosen since
        return str(self.record.get("crops", "none"))

    @crops.setter
    def crops(self, proposer: str) -> None:
        if proposer != self.crops:
            record = {**self.record, "crops": proposer}
            with _writing(self.path):
                data = json.dumps(record, indent=2).encode()
                _write_atomically(self.path / "library.json", data)
            self.record = record

    def _written_record(self) -> dict[str, Any]:
        """The record as it is on the disk; the one that is known where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            record: dict[str, Any] = json.loads((self.path / "library.json").read_text("utf-8"))
            return record
        return self.record

    # reading

    @property
    def dataset(self) -> Any:
        """The table of views, as last seen (a ``lance.LanceDataset``)."""
        dataset = self._dataset  # another thread may be forgetting it
        if dataset is None:
            try:
                dataset = self._dataset = self._version_of_table(None)
            except (ValueError, OSError) as error:
                raise self._unreadable(error) from None
        return dataset

    def _version_of_table(self, version: int | None) -> Any:
        return _lance().dataset(str(self.path / "views.lance"), version=version)

    def _unreadable(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"the table of the library {self.path} cannot be read ({_short(error)}); "
            "restore the directory, or index again into another one."
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
        return self._sidecar if self._dataset is None else None

    def _saved_sidecar(self) -> Sidecar | None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # none, or out of date
            arrays = _read_arrays(self.path / "sidecar.npz")
            version, table = int(arrays["version"]), self.path / "views.lance"
            found = Sidecar.from_arrays(arrays, version, table, self.model.dim)
            return found if found.is_current() else None
        return None

    def refresh(self) -> bool:
        """Look for what other processes wrote since; True when there is a newer version.

        That of another library too, which was made in the place of this one.
        """
        dataset, beside = self._dataset, self._sidecar
        unopened = dataset is None and beside is None
        if unopened or (self._loading and not self._loading.done()):
            return False  # the next read opens the newest, or one is doing so
        try:
            changed = (self.path / "views.lance/_versions").stat().st_mtime_ns
            if changed == self._looked_at:
                return False
            record = self._written_record()
            if record.get("id") != self.record.get("id"):
                self._begin(record)
                return True
            if dataset is not None:
                is_current = dataset.latest_version == dataset.version
            else:
                is_current = beside is not None and beside.is_current()
        except OSError as error:
            raise self._unreadable(error) from None
        # A later change may bear the same time, as clocks tick, if this one is recent.
        self._looked_at = changed if time.time_ns() - changed > _RECENT_NS else None
        if is_current:
            return False
        self._dataset = self._sidecar = self._looked_at = None
        return True

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

        Raises LibraryError when that cannot be read either.
        """
        try:
            return action()
        except (OSError, ValueError) as error:
            if not _unread(error):
                raise
        self.reload()
        try:
            return action()
        except (OSError, ValueError) as error:
            if not _unread(error):
                raise
            raise self._unreadable(error) from None

    def entries(self) -> list[Entry]:
        """Every image without its vectors."""
        table = self._read(
            lambda: self.dataset.to_table(
                columns=["id", "path", "root", "size", "mtime_ns", "hash", "crops", "label"],
                filter="view = 0",
            )
        )
        columns = [table[name].to_pylist() for name in table.column_names]
        columns[0] = [id_from_int(value) for value in columns[0]]
        return [Entry(*row) for row in zip(*columns, strict=True)]

    def images(self, ids: Sequence[str]) -> list[ImageRecord]:
        """The images of these ids with all their views; unknown ids are left out."""
        if not ids:
            return []
        wanted = ",".join(str(id_to_int(i)) for i in ids)
        table = self._read(lambda: self.dataset.to_table(filter=f"id in ({wanted})"))
        records: dict[int, ImageRecord] = {}
        rows = sorted(table.to_pylist(), key=lambda row: (row["id"], row["view"]))
        for row in rows:
            record = records.get(row["id"])
            if record is None:
                record = records[row["id"]] = ImageRecord(
                    id=id_from_int(row["id"]),
                    **{key: row[key] for key in _IMAGE_COLUMNS},
                )
            import numpy as np

            record.views.append(
                ViewRecord(
                    vector=np.asarray(row["vector"], np.float32),
                    kind=row["kind"],
                    box=tuple(row["box"]) if row["box"] else None,
                    label=row["region_label"],
                    score=row["region_score"],
                )
            )
        return list(records.values())

    def labels(self) -> dict[str, str | None]:
        """The label of every image, by id."""
        table = self._read(
            lambda: self.dataset.to_table(columns=["id", "label"], filter="view = 0")
        )
        ids = (id_from_int(value) for value in table["id"].to_pylist())
        return dict(zip(ids, table["label"].to_pylist(), strict=True))

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

    def labelled(self, snapshot: Snapshot, label: str) -> NDArray[np.bool_]:
        """Which images of a snapshot have this label: bool [N]."""
        import numpy as np

        if snapshot.sampled is not None:
            large = self._large()
            return np.isin(snapshot.ids, large.ids[large.with_label(label, crops=False)])

        if self._labels is None or self._labels[0] != snapshot.version:
            mine = self.labels()
            ordered = [mine.get(id_from_int(value)) for value in snapshot.ids]
            self._labels = snapshot.version, np.array(ordered, object)
        return np.asarray(self._labels[1] == label, np.bool_)

    @property
    def is_large(self) -> bool:
        """Whether the vectors are too many to be held in memory (see :func:`exact_bytes`)."""
        views = self.count_views()  # few ones would all be among the nearest anyway
        return views > _NEAREST and views * self.model.dim * 4 > exact_bytes()

    def around(
        self,
        queries: NDArray[np.float32],
        *,
        k: int = 10,
        crops: bool = True,
        label: str | None = None,
    ) -> Snapshot:
        """In a large library: a random part of the images, and those near to the queries [Q, D].

        Enough to rank the ``k`` nearest images, at most 4,000 views a query; of whole images alone
        without ``crops``. With a ``label``, all images that have it are there too.
        """
        import numpy as np

        def read() -> Snapshot:
            large = self._large()
            sample, _ = self._sampled(large, crops)
            rows = large.nearest(queries, k, crops)
            if label is not None:
                rows = np.union1d(rows, large.with_label(label, crops))
            place = np.searchsorted(sample.ids, large.ids[rows])  # a snapshot's ids are in order
            known = sample.ids[np.minimum(place, len(sample.ids) - 1)] == large.ids[rows]
            rows = rows[~known]
            return _joined(sample, large.snapshot(rows, large.vectors(rows)))

        return self._read(read)

    def null(self, *, crops: bool = True) -> Null:
        """What unrelated queries get in this library; without ``crops``, of whole images alone."""
        if self.is_large:
            return self._read(lambda: self._sampled(self._large(), crops))[1]
        return self.calibration(self.snapshot(), crops=crops).null

    def _large(self) -> _Large:
        """The newest version that has an approximate index; made where there is none."""
        versions = self._indexed_versions()
        newest = versions[-1] if versions else self.version
        if self._opened is not None and newest <= int(self._opened.dataset.version):
            return self._opened
        for version in reversed(versions):
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._opened = self._open_large(version)
                return self._opened
        self._opened = self._make_index()
        return self._opened

    def _indexed_versions(self) -> list[int]:
        names = (path.stem.removeprefix("views-") for path in self.path.glob("views-*.ann"))
        return sorted(int(name) for name in names if name.isdigit())

    def _open_large(self, version: int, index: ApproximateIndex | None = None) -> _Large:
        from wordsight.ann import ApproximateIndex
        from wordsight.flat import FlatVectors

        place = self.path / "views.lance"
        dataset = self._version_of_table(version)
        index = index or ApproximateIndex.load(self.path / f"views-{version}.ann")
        table = dataset.to_table(columns=list(NUMBERS))
        if len(index) != len(table):
            raise ValueError("the index is not of this version")
        flat = self._load_arrays("flat", version)
        return _Large(
            dataset,
            index,
            ids=table["id"].to_numpy(),
            view=table["view"].to_numpy(),
            statistics={name: table[name].to_numpy() for name in STATISTICS},
            flat=FlatVectors.from_arrays(flat, place, self.model.dim) if flat else None,
        )

    def _make_index(self) -> _Large:
        """Make the approximate index of the version in view, and keep it where that can be."""
        import numpy as np

        from wordsight.ann import TRAINING_VECTORS, ApproximateIndex
        from wordsight.flat import FlatVectors

        dataset = self.dataset
        rows = dataset.count_rows()
        rng = np.random.default_rng(0)
        some = np.sort(rng.choice(rows, min(rows, TRAINING_VECTORS), replace=False))
        sample = _matrix(dataset.take(some, columns=["vector"])["vector"])
        batches = dataset.to_batches(columns=["vector"], batch_size=_BLOCK)
        index = ApproximateIndex.build(sample, (_matrix(batch["vector"]) for batch in batches))
        version = int(dataset.version)
        flat = FlatVectors.find(dataset, self.model.dim)
        if max(self._indexed_versions(), default=0) <= version:  # nobody was faster meanwhile
            if flat is not None:
                self._save_arrays("flat", version, flat.to_arrays())
            with contextlib.suppress(OSError):  # a read-only library keeps none
                index.save(self.path / f"views-{version}.ann")
                for older in self._indexed_versions():
                    if older < version:
                        (self.path / f"views-{older}.ann").unlink(missing_ok=True)
        return self._open_large(version, index)

    def _sampled(self, large: _Large, crops: bool) -> tuple[Snapshot, Null]:
        """The random part of a large library, and what unrelated queries get."""
        import numpy as np

        from wordsight.nomatch import Null

        version = int(large.dataset.version)
        crops = crops or not large.has_crops
        name = "nearby" if crops else "nearby-no-crops"
        if name in self._nearby and self._nearby[name][0] == version:
            return self._nearby[name][1:]
        saved = self._load_arrays(name, version)
        if saved is None:
            rows = large.sample(crops)
            saved = {"rows": rows, "vectors": large.vectors(rows).astype(np.float16)}
        sample = large.snapshot(saved["rows"], saved["vectors"].astype(np.float32))
        if "group" not in saved:
            saved["group"], saved["single"] = self._bank_statistics(large, sample, crops)
            self._save_arrays(name, version, saved)
        null = Null.fit(saved["group"], saved["single"])
        self._nearby[name] = version, sample, null
        return sample, null

    def _bank_statistics(
        self, large: _Large, sample: Snapshot, crops: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The bank phrases' own statistics, each phrase judged against the others.

        As of any query: of the group over the sample, of the single best image over all.
        """
        import numpy as np

        from wordsight.nomatch import group_statistic, leave_one_out_z, single_statistic

        _, bank = self.bank()
        group, single = np.empty(len(bank)), np.empty(len(bank))
        step = 32
        for begin in range(0, len(bank), step):
            phrases = bank[begin : begin + step]
            rows = large.nearest(phrases, 1, crops)
            z = []
            for part in (sample, large.snapshot(rows, large.vectors(rows))):
                mean, sd = (part.mean, part.sd) if crops else (part.image_mean, part.image_sd)
                fused = part.fuse(phrases @ part.vectors.T)
                z.append(leave_one_out_z(fused, mean, sd, len(bank)))
            group[begin : begin + step] = group_statistic(z[0])
            single[begin : begin + step] = single_statistic(np.concatenate(z, axis=1))
        return group, single

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

    def _whole(self) -> tuple[int, Mapping[str, NDArray[Any]], NDArray[np.float32]]:
        """The version in view, its columns of numbers by name, and its vectors."""
        import numpy as np

        beside = self._beside()
        if beside:
            with contextlib.suppress(OSError):
                return beside.version, beside.numbers, beside.vectors()
            self._sidecar = None  # the table's files are others by now
        dataset = self.dataset
        table = dataset.to_table(columns=list(NUMBERS))
        vectors = np.empty((len(table), self.model.dim), np.float32)
        begin = 0
        # In blocks, so that they are never in memory in both forms.
        for batch in dataset.to_batches(columns=["vector"], batch_size=_BLOCK):
            _matrix(batch["vector"], vectors[begin : begin + len(batch)])
            begin += len(batch)
        return int(dataset.version), {name: table[name].to_numpy() for name in NUMBERS}, vectors

    def rows(self, rows: Sequence[int], version: int) -> list[dict[str, Any]]:
        """Path, label, size and box of the views at these places of that version of the table.

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
                if not _unread(error):
                    raise
                raise LibraryChangedError(
                    f"the library {self.path} was rewritten by another process meanwhile; "
                    "run the same command again."
                ) from None
        for row in found:
            row["id"] = id_from_int(row["id"])
            row["box"] = tuple(row["box"]) if row["box"] else None
        return found

    def _described_rows(self, places: list[int], version: int) -> Any:
        # The places are those of one version: in another, other images are there.
        opened = (self._dataset, self._opened.dataset if self._opened else None)
        dataset = next(
            (one for one in opened if one is not None and int(one.version) == version), None
        )
        dataset = dataset or self._version_of_table(version)
        table = dataset.take(places, columns=_META_COLUMNS)
        # Who asks a second time will ask again: then from memory, not from the disk.
        if self._asked == version and self.in_memory and dataset.count_rows() <= _DESCRIBED:
            described = dataset.to_table(columns=_META_COLUMNS)
            self._described = version, described.combine_chunks()
        self._asked = version
        return table

    def bank(self) -> tuple[list[str], NDArray[np.float32]]:
        """The neutral phrases and their text vectors, float32 [B, D]."""
        import numpy as np

        if self._bank is not None:
            return self._bank
        try:
            saved = _read_arrays(self.path / "bank.npz")
            phrases = [str(phrase) for phrase in saved["phrases"]]
            self._bank = phrases, saved["vectors"].astype(np.float32)
            return self._bank
        except (ValueError, KeyError) as error:
            raise LibraryError(
                f"{self.path / 'bank.npz'} is damaged or missing ({_short(error)}); "
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
            saved = self._load_arrays(name, snapshot.version)
            if saved is not None:
                made = Calibration.from_arrays(saved)
            else:
                made = self._calibrate(snapshot, crops)
                self._save_arrays(name, snapshot.version, made.to_arrays())
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

    def _load_arrays(self, name: str, version: int) -> dict[str, NDArray[Any]] | None:
        """What :meth:`_save_arrays` saved for this version; None when there is nothing of it."""
        try:
            saved = _read_arrays(self.path / f"{name}.npz")
            return saved if int(saved.pop("version")) == version else None
        except (ValueError, KeyError):
            return None

    def _save_arrays(self, name: str, version: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep arrays derived from a version of the table (a read-only library keeps none)."""
        import io

        import numpy as np

        buffer = io.BytesIO()
        np.savez(buffer, version=np.int64(version), **arrays)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            _write_atomically(self.path / f"{name}.npz", buffer.getvalue())

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
                _write_atomically(self.path / "skipped.json", json.dumps(skipped).encode())

    def info(self) -> dict[str, Any]:
        """Counts, model, size on disk in bytes, versions."""
        size = 0
        for folder, _, files in os.walk(self.path):
            for file in files:
                with contextlib.suppress(OSError):
                    size += (Path(folder) / file).stat().st_size
        views = self.count_views()
        return {
            "library": str(self.path),
            "images": len(self),
            "views": views,
            "model": self.record["model"],
            "bytes": size,
            "format": self.record["format"],
            "made_with": self.record.get("wordsight"),
            "created": self.record.get("created"),
            "table_version": self.version,
        }

    # writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer. Raises LibraryError when another process is, or the disk refuses."""
        with _writing(self.path):
            from filelock import FileLock, Timeout

            lock = FileLock(self.path / "lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise LibraryError(
                    f"another process is writing to the library {self.path}; "
                    "wait until it has finished (searching goes on meanwhile)."
                ) from None
            try:
                yield
            finally:
                lock.release()

    def put(self, images: Sequence[ImageRecord], *, replace: bool) -> None:
        """Add images with their views in one atomic step (call it under :meth:`lock`).

        With ``replace`` every older view of these ids goes in the same step. Background
        statistics are computed here, from the bank, so that they are always those of the views.
        """
        if not images:
            return
        with _writing(self.path):
            table = self._to_table(images)
            if replace:
                ids = ",".join(str(id_to_int(image.id)) for image in images)
                self.dataset.merge_insert(
                    ["id", "view"]
                ).when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete(
                    f"id in ({ids})"
                ).execute(table)
            else:
                self.dataset.insert(table, mode="append")

    def remove(self, ids: Sequence[str]) -> int:
        """Remove images with all their views; the number of images that were there."""
        before = len(self)
        with _writing(self.path):
            for start in range(0, len(ids), 5000):
                wanted = ",".join(str(id_to_int(i)) for i in ids[start : start + 5000])
                self.dataset.delete(f"id in ({wanted})")
        return before - len(self)

    def compact(self, *, only_if_needed: bool = False) -> None:
        """Merge small fragments and drop old versions (readers reload by themselves)."""
        if only_if_needed and len(self.dataset.get_fragments()) <= _COMPACT_FRAGMENTS:
            return
        with _writing(self.path):
            self.dataset.optimize.compact_files()
        self.prepare()
        self._drop_old_versions()

    def prepare(self) -> None:
        """Make what searches of the version in view need, where it is missing.

        Now rather than in the first search after a change.
        """
        for unfinished in self.path.glob("*.new"):  # of processes that were killed
            unfinished.unlink(missing_ok=True)
        if self.is_large:
            if self._indexed_versions()[-1:] != [self.version]:
                self._opened = self._make_index()
            self.null()
            (self.path / "sidecar.npz").unlink(missing_ok=True)
        else:
            self._drop_index()
            if self._load_arrays("statistics", self.version) is None:
                self.calibration(self.snapshot())
            if self._saved_sidecar() is None:
                self._make_sidecar()

    def prepare_index(self) -> None:
        """As :meth:`prepare`, where searches see no more than what the index is of.

        So it is in a large library; and for those to whom it is large by their own budget.
        """
        if self.is_large:
            self.prepare()
        else:
            self._drop_index()

    def _drop_index(self) -> None:
        for version in self._indexed_versions():
            (self.path / f"views-{version}.ann").unlink(missing_ok=True)

    def _make_sidecar(self) -> None:
        dataset = self.dataset
        arrays = Sidecar.arrays(dataset, self.model.dim)
        if arrays is None:
            (self.path / "sidecar.npz").unlink(missing_ok=True)
            return
        version = int(dataset.version)
        self._save_arrays("sidecar", version, arrays)
        self._sidecar = Sidecar.from_arrays(
            arrays, version, self.path / "views.lance", self.model.dim
        )

    def _drop_old_versions(self) -> None:
        from datetime import timedelta

        with _writing(self.path):
            self.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=False)

    def _to_table(self, images: Sequence[ImageRecord]) -> Any:
        import numpy as np
        import pyarrow as pa

        from wordsight.nomatch import background

        views = [
            (image, number, view) for image in images for number, view in enumerate(image.views)
        ]
        vectors = np.stack([view.vector for _, _, view in views]).astype(np.float16)
        # Statistics of what is stored (float16), so that they hold for what will be searched.
        _, bank = self.bank()
        scores = vectors.astype(np.float32) @ bank.T
        starts = np.cumsum([0, *(len(image.views) for image in images[:-1])])
        fused = np.maximum.reduceat(scores, starts, axis=0)
        counts = [len(image.views) for image in images]

        def spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.repeat(values, counts)

        mean, sd = background(fused)
        image_mean, image_sd = background(scores[starts])
        columns: dict[str, Any] = {
            "id": [id_to_int(image.id) for image, _, _ in views],
            "view": [number for _, number, _ in views],
            "kind": [view.kind for _, _, view in views],
            "box": [list(view.box) if view.box else None for _, _, view in views],
            "region_label": [view.label for _, _, view in views],
            "region_score": [view.score for _, _, view in views],
            "mean": spread(mean),
            "sd": spread(sd),
            "image_mean": spread(image_mean),
            "image_sd": spread(image_sd),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.model.dim),
        }
        for name in _IMAGE_COLUMNS:
            columns[name] = [getattr(image, name) for image, _, _ in views]
        return pa.table(columns, schema=_schema(self.model.dim))


_IMAGE_COLUMNS = ["path", "root", "size", "mtime_ns", "hash", "width", "height", "label", "crops"]


def _matrix(column: Any, matrix: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """A column of vectors as float32 [n, D], written into ``matrix`` where there is one."""
    import numpy as np

    from wordsight.flat import widen

    if matrix is None:
        matrix = np.empty((len(column), column.type.list_size), np.float32)
    begin = 0
    for chunk in getattr(column, "chunks", [column]):
        part = chunk.flatten().to_numpy(zero_copy_only=False)
        widen(part.reshape(-1, matrix.shape[1]), matrix[begin : begin + len(chunk)])
        begin += len(chunk)
    return matrix


def _lance() -> Any:
    """The Lance module; its log of ordinary events is kept off the user's terminal."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lance

    return lance


def _schema(dim: int) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("view", pa.int32(), nullable=False),
            pa.field("kind", pa.string()),
            pa.field("path", pa.string()),
            pa.field("root", pa.string()),
            pa.field("label", pa.string()),
            pa.field("size", pa.int64()),
            pa.field("mtime_ns", pa.int64()),
            pa.field("hash", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("crops", pa.string()),
            pa.field("box", pa.list_(pa.float32(), 4)),
            pa.field("region_label", pa.string()),
            pa.field("region_score", pa.float32()),
            pa.field("mean", pa.float32()),
            pa.field("sd", pa.float32()),
            pa.field("image_mean", pa.float32()),
            pa.field("image_sd", pa.float32()),
            pa.field("vector", pa.list_(pa.float16(), dim)),
        ]
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what a disk says while a library is written into errors of ours."""
    try:
        yield
    except OSError as error:
        # Lance reports the system's errors as text inside an OSError without errno.
        text = str(error)
        if error.errno == errno.ENOSPC or "No space left" in text or "os error 28" in text:
            raise LibraryError(
                f"no space left on the disk of the library {path}; free some and run the same "
                "command again: what was indexed so far is kept."
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) or "ermission denied" in text:
            raise LibraryError(
                f"the library {path} cannot be written to: permission denied; "
                "choose another place with --library DIR."
            ) from None
        raise LibraryError(f"the library {path} could not be written: {_short(error)}") from error


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What ``np.savez`` wrote. Raises ValueError when the file is missing or damaged."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(_short(error)) from None


def _unread(error: Exception) -> bool:
    """Whether the table's files could not be read, as Lance and Arrow say it."""
    return isinstance(error, OSError) or "lance" in str(error).lower()


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
