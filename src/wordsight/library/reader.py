"""A library's directory, read: which version of its table is in view, and what that says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wordsight.errors import LibraryChangedError, LibraryError, ModelMismatchError
from wordsight.library.files import is_unread, read_arrays, save_arrays, short
from wordsight.library.frames import Frames, read_frames
from wordsight.library.index.sidecar import Sidecar
from wordsight.library.lines import Lines
from wordsight.library.places import is_library
from wordsight.library.records import Entry, ImageRecord, ModelRecord, id_from_int, id_to_int
from wordsight.library.recovery import check, open_readable
from wordsight.library.settings import Settings
from wordsight.library.table import (
    BLOCK,
    METADATA,
    NUMBERS,
    columns_of,
    files_of,
    known_of,
    matrix_of,
    to_records,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RECENT_NS = 2_000_000_000

T = TypeVar("T")


class Reader(Settings):
    """What reads a library's table of views. Another process may write to it meanwhile.

    One version is in view: the newest when it was first asked for, until :meth:`refresh` finds a
    newer one.
    """

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
        self.sidecar: Sidecar | None = None
        """What was read beside the table, of the version that was in view at that time."""
        self._looked_at: int | None = None  # when the table had last changed, as far as known
        self._bank: tuple[list[str], NDArray[np.float32]] | None = None
        self._frames: tuple[int, Frames] | None = None
        self._counts: dict[bool, tuple[int, int]] = {}

    @property
    def place(self) -> Path | str:
        """Where the library is, as it is named: its directory, or its URL."""
        return self.path

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
                f"the library {self.place} was made with the model '{self.model.name}' "
                f"({self.model.hash}), not with '{name}' ({content_hash}); {way_out}"
            )

    # the version in view

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

    @property
    def opened(self) -> Any | None:
        """The table, where it was opened already."""
        return self._dataset

    def _unreadable(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"cannot read the table of the library {self.place} ({short(error)}); "
            "restore the directory, or index again into another one."
        )

    def rewritten(self) -> LibraryChangedError:
        """What to raise where a version that is asked for is there no more."""
        return LibraryChangedError(
            f"another process rewrote the library {self.place} in the meantime; "
            "run the same command again."
        )

    @property
    def version(self) -> int:
        """The version of the table that is in view."""
        beside = self._beside()
        return beside.version if beside else int(self.dataset.version)

    def _beside(self) -> Sidecar | None:
        """The sidecar, while it is what shows the newest version: until the table is opened."""
        if self._dataset is None and self.sidecar is None:
            self.sidecar = self.saved_sidecar()
            if self.sidecar:
                self._expect_no_other()
        return self.sidecar if self._dataset is None else None

    def saved_sidecar(self) -> Sidecar | None:
        """The sidecar on the disk, where it is of the newest version."""
        with contextlib.suppress(OSError, ValueError, KeyError):  # none, or out of date
            arrays = read_arrays(self.path / "sidecar.npz")
            version, table = int(arrays["version"]), self.path / "views.lance"
            found = Sidecar.from_arrays(arrays, version, table, self.model.dim)
            return found if found.is_current() else None
        return None

    def make_sidecar(self) -> None:
        """Keep the sidecar of the version in view; none where its files are not fit for one."""
        dataset = self.dataset
        arrays = Sidecar.arrays(dataset, self.model.dim)
        if arrays is None:
            (self.path / "sidecar.npz").unlink(missing_ok=True)
            return
        version = int(dataset.version)
        save_arrays(self.path, "sidecar", version, arrays)
        self.sidecar = Sidecar.from_arrays(
            arrays, version, self.path / "views.lance", self.model.dim
        )

    def refresh(self) -> bool:
        """Look for what other processes wrote since; True when there is a newer version.

        That of another library too, which was made in the place of this one.
        """
        dataset, beside = self._dataset, self.sidecar
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
        self._dataset = self.sidecar = self._looked_at = None
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
            raise self.rewritten()

    def reload(self) -> None:
        """Forget what is in memory; the next read opens the newest version."""
        self._dataset = self.sidecar = self._looked_at = None

    def read(self, action: Callable[[], T]) -> T:
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

    def _check(self, names: Iterable[str]) -> None:
        """Raise LibraryError where a file of the table does not hold what was written."""
        check(self.path, (names := set(names)) - self._checked)
        self._checked |= names

    # what it says

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

            version, known = self._counts[crops] = self.read(read)
        return known

    def entries(self) -> list[Entry]:
        """Every image without its vectors."""

        def read() -> Any:
            dataset = self.dataset
            names = columns_of(dataset, [field.name for field in fields(Entry)])
            return dataset.to_table(columns=names, filter="view = 0")

        table = self.read(read)
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
        table = self.read(lambda: self.dataset.to_table(filter=f"id in ({wanted})"))
        return to_records(table)

    def labels(self) -> dict[str, str | None]:
        """The label of every image, by id."""
        table = self.read(lambda: self.dataset.to_table(columns=["id", "label"], filter="view = 0"))
        ids = (id_from_int(value) for value in table["id"].to_pylist())
        return dict(zip(ids, table["label"].to_pylist(), strict=True))

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of the table, a value an image; None throughout where an older table has none."""
        table = self.read(
            lambda: self.dataset.to_table(
                columns=columns_of(self.dataset, names), filter="view = 0"
            )
        )
        nothing = [None] * len(table)
        return {n: table[n].to_pylist() if n in table.column_names else nothing for n in names}

    def sides(self) -> NDArray[np.int64] | None:
        """Longer sides of the images, in pixels, a value a view; None where they lie in the table
        alone, which takes longer to read than a search.
        """
        import numpy as np

        if (beside := self.sidecar) is None:
            return None
        sides: NDArray[np.int64] = np.maximum(beside.numbers["width"], beside.numbers["height"])
        return sides

    def region_labels(self) -> list[str]:
        """What a detector saw in the images, the most frequent first."""
        table = self.read(
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
        rows = self.read(
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

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """The hashes of these images' files, by id."""
        wanted = ",".join(str(id_to_int(i)) for i in ids)
        only = f"id in ({wanted}) and view = 0"
        columns = ["id", "hash"]
        table = self.read(lambda: self.dataset.to_table(columns=columns, filter=only))
        ids = [id_from_int(value) for value in table["id"].to_pylist()]
        return dict(zip(ids, table["hash"].to_pylist(), strict=True))

    def whole(self) -> tuple[int, Mapping[str, NDArray[Any]], NDArray[np.float32]]:
        """The version in view, its columns of numbers by name, and its vectors."""
        import numpy as np

        beside = self._beside()
        if beside:
            with contextlib.suppress(OSError):
                self._check(beside.flat.files.tolist())
                return beside.version, beside.numbers, beside.vectors()
            self.sidecar = None  # the table's files are others by now
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
            self._frames = version, self.read(lambda: read_frames(self.dataset))
        return self._frames[1]

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

    @property
    def lines(self) -> Lines:
        """The text in the images, as far as it was read."""
        if self._lines is None:
            self._lines = Lines(self.path)
        return self._lines
