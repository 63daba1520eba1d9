"""A library at a URL, opened: its replica, brought up to date and published."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError, StorageError
from wordsight.library.files import writing
from wordsight.library.fragments import Fragment, FragmentWriter
from wordsight.library.opening import lay_out, read_library
from wordsight.library.records import ImageRecord, ModelRecord
from wordsight.library.remote.lease import leased
from wordsight.library.remote.replica import Replica
from wordsight.library.store import Store
from wordsight.progress import waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PUBLISH_EVERY = 300.0  # seconds: no more is lost when a writer is killed
_LOOK_EVERY = 1.0  # seconds: searches in between are spared the way to the storage


class RemoteStore(Store):
    """A library at a URL. Make one with :meth:`create` or :meth:`open` of :class:`Store`.

    ``path`` is the directory of its replica, or under :meth:`lock` that of the draft.
    """

    def __init__(self, replica: Replica, record: dict[str, Any]) -> None:
        self.replica = replica
        self._looked = self._published = time.monotonic()
        super().__init__(replica.path, record)

    @property
    def place(self) -> str:
        """The library's URL."""
        return self.replica.url

    @classmethod
    def create_at(
        cls,
        url: str,
        model: ModelRecord,
        bank_phrases: Sequence[str],
        bank_vectors: NDArray[np.float32],
    ) -> RemoteStore:
        """As :meth:`Store.create`, for a URL."""
        replica = Replica(url)
        with leased(replica.objects):
            if replica.exists():
                raise LibraryError(f"{url} already holds a library; open it, or choose another.")
            replica.clear()
            with replica.draft() as draft:
                lay_out(draft, model, bank_phrases, bank_vectors)
                replica.push(draft)
                replica.pull(near=draft)
        return cls(replica, read_library(replica.path)[1])

    @classmethod
    def open_at(cls, url: str) -> RemoteStore:
        """As :meth:`Store.open`, for a URL."""
        replica = Replica(url)
        with waiting(f"fetching what is new in {replica.url}"):
            replica.pull()
        return cls(replica, read_library(replica.path)[1])

    def refresh(self) -> bool:
        """Follow what the URL names; it is asked once a second at most."""
        if self.path == self.replica.path and time.monotonic() - self._looked > _LOOK_EVERY:
            try:
                self.replica.pull()
            except StorageError as error:  # what was there before is there still
                warnings.warn(str(error), stacklevel=2)
            self._looked = time.monotonic()
        return super().refresh()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer, in a draft; it is published at the end, also of what was broken off.

        Raises LibraryError when another process holds the lease, or has written meanwhile.
        """
        with leased(self.replica.objects):
            self.replica.pull()
            with self.replica.draft() as draft:
                try:
                    self._move(draft)
                    self._published = time.monotonic()
                    try:
                        with super().lock():
                            yield
                            if len(self):  # once here, not once in every reader
                                self.prepare()
                    finally:
                        self._publish()
                finally:
                    self._move(self.replica.path)

    def put(self, images: Sequence[ImageRecord], *, replace: bool) -> None:
        """As of a library in a directory; published now and then."""
        super().put(images, replace=replace)
        self._publish_if_late()

    def append(self, writer: FragmentWriter, fragments: Sequence[Fragment]) -> None:
        """As of a library in a directory; published now and then."""
        super().append(writer, fragments)
        self._publish_if_late()

    def _publish_if_late(self) -> None:
        if time.monotonic() - self._published > _PUBLISH_EVERY:
            self._publish()

    def _publish(self) -> None:
        with waiting(f"writing to {self.place}"):
            self.replica.push(self.path)
            self.replica.pull(near=self.path)
        self._published = time.monotonic()

    def _move(self, path: Path) -> None:
        self.path = path
        self._begin(self._written_record())

    def _choose(self, name: str, value: object, before: object) -> None:
        if self.path == self.replica.path and value != before:
            with self.lock():
                super()._choose(name, value, before)
        else:
            super()._choose(name, value, before)

    def check_replaceable(self) -> None:
        """Another library may take the place of this one: nothing at a URL is renamed."""

    @property
    def successor(self) -> Path:
        """As of a library in a directory; on this machine."""
        return self.replica.home / "successor"

    def succeed(self) -> None:
        """Publish the successor as the next version (call it under :meth:`lock`)."""
        with writing(self.path):
            self.replica.refill(self.path, self.successor)
        self._move(self.path)
        self._publish()
        shutil.rmtree(self.successor, ignore_errors=True)

    def delete(self) -> None:
        """Delete the library."""
        self.replica.delete()
