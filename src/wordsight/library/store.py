"""A library's directory, opened: what reads and writes it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.library.files import writing
from wordsight.library.fragments import Fragment, FragmentWriter, commit, discard
from wordsight.library.index.large import drop_indexes
from wordsight.library.index.scoring import Scoring
from wordsight.library.opening import lay_out, locked, read_library
from wordsight.library.pruned import forget, recoverable, restore
from wordsight.library.reader import Reader
from wordsight.library.records import ImageRecord, ModelRecord, id_to_int
from wordsight.library.recovery import repair, sync
from wordsight.library.snapshot import Snapshot
from wordsight.library.swap import check_replaceable, clear, draft_of, swap
from wordsight.library.table import add_metadata_columns, to_table
from wordsight.storage import is_url, local

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library.fleet import Fleet
    from wordsight.nomatch import Null
    from wordsight.nomatch.rivals import Kinds

_COMPACT_FRAGMENTS = 8  # an indexing run leaves no more
_MOST_FRAGMENTS = 64  # nor many small changes these


class Store(Reader):
    """A library's directory, opened. Make one with :meth:`create` or :meth:`open`.

    It reads (:class:`~wordsight.library.reader.Reader`), writes under a lock, and answers what
    searches ask from its :class:`~wordsight.library.index.scoring.Scoring`.
    """

    fleet: Fleet | None = None
    """What searches the library in the place of this process."""

    def _begin(self, record: dict[str, Any]) -> None:
        super()._begin(record)
        self.scoring = Scoring(self, self.fleet)
        self.kinds: Kinds | None = None
        """What queries are held against, once a search has made it."""

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
        LibraryError when the directory holds a library or something else, or cannot be written;
        StorageError when ``path`` is a URL that is mistyped or not known.
        """
        if is_url(path):
            from wordsight.library.remote.store import RemoteStore

            return RemoteStore.create_at(str(path), model, bank_phrases, bank_vectors)
        path = local(path).absolute()
        return cls(path, lay_out(path, model, bank_phrases, bank_vectors))

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a library. Raises LibraryError when there is none, or it is of a newer format."""
        if is_url(path):
            from wordsight.library.remote.store import RemoteStore

            return RemoteStore.open_at(str(path))
        return cls(*read_library(local(path).absolute()))

    def check_replaceable(self) -> None:
        """Raise LibraryError where no other library can take the place of this one."""
        check_replaceable(self.path)

    @property
    def successor(self) -> Path:
        """Where the library is made that is to take the place of this one."""
        return draft_of(self.path)

    def succeed(self) -> None:
        """Let the successor take the place of this library (call it under :meth:`lock`)."""
        swap(self.path)
        self.refresh()

    def delete(self) -> None:
        """Delete the library."""
        shutil.rmtree(self.path, ignore_errors=True)

    def refresh(self) -> bool:
        """As of a reader; what is being loaded is the newest version."""
        return not self.scoring.is_loading and super().refresh()

    def reload(self) -> None:
        """Forget what is in memory; the next read opens the newest version."""
        super().reload()
        self.scoring.forget()

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
        known = self.columns(("hash", "crops", "video"))
        frames = [video for video in known["video"] if video]
        read = self.lines.hashes()
        views = self.count_views()
        return {
            "library": str(self.place),
            "images": len(self),
            "views": views,
            "crops": dict(Counter(known["crops"])),
            "videos": len(set(frames)),
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

    # what searches ask: each is described in Scoring

    @property
    def in_memory(self) -> bool:
        """Whether what searches need has been read."""
        return self.scoring.in_memory

    @property
    def is_large(self) -> bool:
        """Whether the vectors are too many to be held in memory."""
        return self.scoring.is_large

    def preload(self, *, crops: bool = True) -> None:
        """Begin to read what searches need."""
        self.scoring.preload(crops=crops)

    def loaded(self) -> None:
        """Wait for what :meth:`preload` began, and raise what went wrong in it."""
        self.scoring.loaded()

    def snapshot(self) -> Snapshot:
        """All views of the version in view, in memory."""
        return self.scoring.snapshot()

    def null(self, kinds: Kinds, *, crops: bool = True) -> Null:
        """What unrelated queries get in this library."""
        return self.scoring.null(kinds, crops=crops)

    def around(
        self,
        queries: NDArray[np.float32],
        *,
        k: int = 10,
        crops: bool = True,
        where: str | None = None,
    ) -> Snapshot:
        """In a large library: a random part of the images, and those near to the queries [Q, D]."""
        return self.scoring.around(queries, k=k, crops=crops, where=where)

    def matching(self, snapshot: Snapshot, where: str) -> NDArray[np.bool_]:
        """Which images of a snapshot a filter lets pass: bool [N]."""
        return self.scoring.matching(snapshot, where)

    def rows(self, rows: Sequence[int], version: int) -> list[dict[str, Any]]:
        """Path, label, size, box and metadata of the views at these places of that version."""
        return self.scoring.rows(rows, version)

    def search_by(self, fleet: Fleet) -> None:
        """Let a fleet search the library from now on."""
        self.fleet = fleet
        self.scoring = Scoring(self, fleet)

    # writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer. Raises LibraryError when another process is, or the disk refuses.

        LibraryChangedError when a library of another model is in this place by now.
        """
        with locked(self.path):
            model = self.model
            if self._is_another() and self.model.hash != model.hash:
                raise self.rewritten()
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

    def fragment_writer(self) -> FragmentWriter:
        """What writes fragments for this table in other processes (call it under :meth:`lock`)."""
        with writing(self.path):
            return FragmentWriter.beside(self.path, self.bank()[1], self.model.dim)

    def append(self, writer: FragmentWriter, fragments: Sequence[Fragment]) -> None:
        """Add fragments that others wrote, in one atomic step (call it under :meth:`lock`)."""
        if not fragments:
            return
        with writing(self.path):
            self._dataset = commit(self.dataset, self.path, writer, fragments)
            sync(self.path, {fragment.name: fragment.checksum for fragment in fragments})

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
        discard(self.path)
        clear(self.path)  # likewise
        self.scoring.prepare()

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

    def _drop_old_versions(self) -> None:
        from datetime import timedelta

        with writing(self.path):
            self.dataset.cleanup_old_versions(
                older_than=timedelta(0),
                delete_unverified=False,
                error_if_tagged_old_versions=False,
            )
