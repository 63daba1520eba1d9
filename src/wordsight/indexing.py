"""From a source to the library: list -> read -> decode -> regions -> encode -> write.

Reading, decoding and preprocessing run in worker threads, a bounded number of images ahead of
the encoder; each encoded batch is one atomic write. A run that is killed has lost nothing that
it had written, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import SourceError, WordsightError
from wordsight.library import Entry, ImageRecord, Store, ViewRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.models.clip import ClipModel
    from wordsight.sources import Item, Source

BATCH = 64  # images encoded together
WRITE_EVERY = 512  # images in one write: each write is a file and a version of the table
_SECONDS_BETWEEN_WRITES = 10.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that was left out, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class IndexReport:
    """What one run did; the counts are of images."""

    indexed: int = 0
    unchanged: int = 0
    reused: int = 0
    removed: int = 0
    failed: list[Failure] = field(default_factory=list)
    images: int = 0
    views: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images that were embedded in this run, a second."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight index --json`` prints."""
        return {
            "indexed": self.indexed,
            "unchanged": self.unchanged,
            "reused": self.reused,
            "removed": self.removed,
            "failed": [{"path": f.path, "reason": f.reason} for f in self.failed],
            "images": self.images,
            "views": self.views,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
        }


Progress = Callable[[int, int], None]
"""Called with (images done, images to do) as a run goes on."""


@dataclass(slots=True)
class _Decoded:
    """An item on its way to the encoder."""

    item: Item
    hash: str
    width: int = 0
    height: int = 0
    pixels: NDArray[np.float32] | None = None  # None: the library has these bytes already


def index(
    store: Store,
    model: ClipModel,
    sources: Sequence[Source],
    *,
    prune: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring a library up to date with what the sources hold.

    An image whose size and time of change are those recorded is left as it is; else its bytes
    decide: the same bytes anywhere in the library lend their vectors (a file that was touched,
    copied or moved), new ones are embedded. A moved file's old place goes at once; images that
    are gone from under the sources go with ``prune``. Images that cannot be used are reported
    in ``failed`` and stop nothing.

    Raises SourceError when the sources hold no image at all, LibraryError when the library
    cannot be written (what was written so far is kept), ModelMismatchError for another model.
    """
    started = time.perf_counter()
    store.check_model(model.name, model.hash)
    report = IndexReport()
    with store.lock():
        store.refresh()
        items: dict[str, Item] = {}
        for source in sources:
            items.update((item.id, item) for item in source.items())
            report.failed += [Failure(path, reason) for path, reason in source.problems]
        if not items and not report.failed and not prune:
            names = ", ".join(str(source.name) for source in sources)
            raise SourceError(f"no image found in {names}.")
        known = {entry.id: entry for entry in store.entries()}
        todo = [item for item in items.values() if not _is_unchanged(item, known.get(item.id))]
        report.unchanged = len(items) - len(todo)
        run = _Run(store, model, items, known, report, progress)
        run.total = len(todo)
        run.process(todo)
        if prune:
            report.removed += store.remove(_vanished(known.values(), items, sources))
        store.compact(only_if_needed=True)
        # Now rather than in the first search after it.
        store.calibration(store.snapshot())
    report.images = len(store)
    report.views = store.count_views()
    report.seconds = time.perf_counter() - started
    return report


def _is_unchanged(item: Item, entry: Entry | None) -> bool:
    return entry is not None and (entry.size, entry.mtime_ns) == (item.size, item.mtime_ns)


def _vanished(
    known: Iterable[Entry], items: dict[str, Item], sources: Sequence[Source]
) -> list[str]:
    """Images that were under these sources and are not listed any more.

    What lies in a place that could not be looked into now is not taken as gone.
    """
    roots = [source.root for source in sources]
    unseen = tuple(path for source in sources for path, _ in source.problems)
    return [
        entry.id
        for entry in known
        if entry.id not in items
        and any(_lies_under(entry.path, root) for root in roots)
        and not (unseen and entry.path.startswith(unseen))
    ]


def _lies_under(path: str, root: str) -> bool:
    # A folder does not list what is inside the archives in it.
    return path.startswith(root) and ("::" in root or "::" not in path[len(root) :])


class _Run:
    """The state of one call of :func:`index`."""

    def __init__(
        self,
        store: Store,
        model: ClipModel,
        items: dict[str, Item],
        known: dict[str, Entry],
        report: IndexReport,
        progress: Progress | None,
    ) -> None:
        self.store = store
        self.model = model
        self.items = items
        self.known = known
        self.report = report
        self.progress = progress
        self.by_hash = {entry.hash: entry.id for entry in known.values()}
        self.records: list[ImageRecord] = []  # embedded, not yet written
        self.replacing = False
        self.done = 0
        self.total = 0
        self.reused: list[_Decoded] = []
        self.last_write = time.monotonic()

    def process(self, todo: Sequence[Item]) -> None:
        batch: list[_Decoded] = []
        try:
            for result in self._decoded(todo):
                if isinstance(result, Failure):
                    self.report.failed.append(result)
                    self._advance(1)
                elif result.pixels is None:
                    self.reused.append(result)
                else:
                    batch.append(result)
                if len(batch) >= BATCH:
                    self._encode(batch)
                    batch = []
            if batch:
                self._encode(batch)
        finally:
            # Also on Ctrl-C: what was embedded is worth keeping.
            self._write()
        orphans = self._reuse()
        if orphans:
            self.by_hash.clear()
            self.process(orphans)

    def _decoded(self, todo: Sequence[Item]) -> Iterator[_Decoded | Failure]:
        """Decode in threads, in order, at most a few batches ahead of the encoder."""
        workers = min(8, (os.cpu_count() or 2) + 1)
        ahead: deque[Future[_Decoded | Failure]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        try:
            for item in todo:
                ahead.append(pool.submit(self._decode, item))
                if len(ahead) >= 2 * BATCH:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, item: Item) -> _Decoded | Failure:
        from wordsight.images import open_image

        try:
            data = item.read()
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            if digest in self.by_hash:
                return _Decoded(item, digest)
            image = open_image(data, name=item.path)
            pixels = self.model.preprocess(image)
            return _Decoded(item, digest, image.width, image.height, pixels)
        except WordsightError as error:
            return Failure(item.path, str(error).removeprefix(f"{item.path}: "))
        except OSError as error:
            return Failure(item.path, error.strerror or str(error))
        except MemoryError:
            return Failure(item.path, "not enough memory to decode it")

    def _encode(self, batch: Sequence[_Decoded]) -> None:
        import numpy as np

        vectors = self.model.encode_pixels(
            np.stack([d.pixels for d in batch if d.pixels is not None])
        )
        for decoded, vector in zip(batch, vectors, strict=True):
            item = decoded.item
            self.replacing |= item.id in self.known
            self.records.append(
                ImageRecord(
                    id=item.id,
                    path=item.path,
                    root=item.root,
                    size=item.size,
                    mtime_ns=item.mtime_ns,
                    hash=decoded.hash,
                    width=decoded.width,
                    height=decoded.height,
                    label=item.label,
                    views=[ViewRecord(vector)],
                )
            )
        self._advance(len(batch))
        late = time.monotonic() - self.last_write > _SECONDS_BETWEEN_WRITES
        if len(self.records) >= WRITE_EVERY or late:
            self._write()

    def _write(self) -> None:
        records, self.records = self.records, []
        self.store.put(records, replace=self.replacing)
        self.report.indexed += len(records)
        self.replacing = False
        self.last_write = time.monotonic()

    def _reuse(self) -> list[Item]:
        """Give the vectors of known bytes to the places where these bytes are now.

        Returns the items whose donor was itself replaced in this run: they must be embedded.
        """
        reused, self.reused = self.reused, []
        moved: set[str] = set()
        orphans: list[Item] = []
        for start in range(0, len(reused), WRITE_EVERY):
            part = reused[start : start + WRITE_EVERY]
            found = self.store.images(sorted({self.by_hash[d.hash] for d in part}))
            donors = {image.hash: image for image in found}
            records = []
            for decoded in part:
                item, donor = decoded.item, donors.get(decoded.hash)
                if donor is None:
                    orphans.append(item)
                    continue
                records.append(
                    replace(
                        donor,
                        id=item.id,
                        path=item.path,
                        root=item.root,
                        size=item.size,
                        mtime_ns=item.mtime_ns,
                        label=item.label,
                    )
                )
                if donor.id == item.id:
                    self.report.unchanged += 1
                    continue
                self.report.reused += 1
                if donor.id not in self.items and not _still_there(donor.path):
                    moved.add(donor.id)
            self.store.put(records, replace=True)
            self._advance(len(records))
        self.report.removed += self.store.remove(sorted(moved))
        return orphans

    def _advance(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def _still_there(path: str) -> bool:
    # A member of an archive counts as there while the archive is: listing it would be slow.
    return Path(path.split("::", 1)[0]).exists()


def add_images(
    store: Store,
    model: ClipModel,
    images: Sequence[Image | NDArray[Any]],
    names: Sequence[str],
    labels: Sequence[str | None],
) -> list[str]:
    """Embed images that are in memory and add them under these names; their ids.

    A name that the library has is replaced. Raises ModelMismatchError for another model.
    """
    from wordsight.images import to_rgb

    store.check_model(model.name, model.hash)
    upright = [to_rgb(image) for image in images]
    vectors = model.encode_images(upright)
    records = []
    for image, name, label, vector in zip(upright, names, labels, vectors, strict=True):
        data = image.tobytes()
        records.append(
            ImageRecord(
                id=hashlib.blake2b(name.encode(), digest_size=8).hexdigest(),
                path=name,
                root="",
                size=len(data),
                mtime_ns=0,
                hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
                width=image.width,
                height=image.height,
                label=label,
                views=[ViewRecord(vector)],
            )
        )
    with store.lock():
        store.refresh()
        store.put(records, replace=True)
    return [record.id for record in records]
