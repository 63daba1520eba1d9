"""One run: decoding ahead of the encoder, encoding in batches, writing."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from wordsight.indexing.decoding import Decoded, Decoder
from wordsight.indexing.footage import Footage, read_every
from wordsight.indexing.listing import label_owner
from wordsight.indexing.records import Written, record_of
from wordsight.indexing.report import Failure, IndexReport
from wordsight.library import Entry, ImageRecord, Store
from wordsight.library.fragments import Fragment, FragmentWriter
from wordsight.video import split_frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.indexing.cluster import Cluster
    from wordsight.models.clip import ClipModel
    from wordsight.models.maskrcnn import Detector
    from wordsight.regions import Tiles
    from wordsight.sources import Item

T = TypeVar("T")

BATCH = 64  # images encoded together
WRITE_EVERY = 512  # images in one write: each write is a file and a version of the table
_SECONDS_BETWEEN_WRITES = 10.0

Progress = Callable[[int, int], None]
"""Called with (images done, images to do) as a run goes on."""


class Run:
    """The state of one call of :func:`index`."""

    def __init__(
        self,
        store: Store,
        model: ClipModel,
        proposer: Detector | Tiles | None,
        items: dict[str, Item],
        known: dict[str, Entry],
        report: IndexReport,
        progress: Progress | None,
        *,
        recheck: bool = False,
        cluster: Cluster | None = None,
    ) -> None:
        self.store = store
        self.model = model
        self.proposer = proposer
        self.items = items
        self.known = known
        self.report = report
        self.progress = progress
        self.recheck = recheck
        self.cluster = cluster
        self.removed: set[str] = set()
        self.decoder = Decoder(model, proposer, known, report, recheck=recheck)
        self.encoder_is_open = False
        self.records: list[ImageRecord] = []  # embedded, not yet written
        self.fragments: list[Fragment] = []  # written by others, not yet committed
        self.writer: FragmentWriter | None = None  # of these
        self.replacing = False
        self.orphans: list[Item] = []  # their donor was itself replaced in this run
        self.moved: set[str] = set()
        self.moved_hashes: set[str] = set()  # whose old places were looked for
        self.footage = Footage(
            store,
            known,
            report,
            every=read_every(store.every),
            crops=self.decoder.crops,
            side=self.decoder.frame_side,
            recheck=recheck,
            tick=self._advance,
        )
        self.done = 0
        self.total = 0
        self.last_write = time.monotonic()

    @cached_property  # a run over what is unchanged needs none of it
    def _copies(self) -> dict[str, list[Entry]]:
        copies: dict[str, list[Entry]] = {}
        for entry in self.known.values():
            copies.setdefault(entry.hash, []).append(entry)
        return copies

    def is_unchanged(self, item: Item) -> bool:
        """Whether the library holds all of an item as it is."""
        entry = self.known.get(item.id)
        return (
            entry is not None
            and not self.recheck
            and entry.media is not None
            and self.decoder.has_vectors(entry, item)
            and entry.label == label_owner(item, entry).label
        )

    def remaining(self) -> list[Entry]:
        """What was known before this run and was not removed in it."""
        return [entry for entry in self.known.values() if entry.id not in self.removed]

    def process(self, todo: Sequence[Item]) -> None:
        """Decode, encode and write images."""
        if self.cluster and todo:
            self.writer = self.store.fragment_writer()
            self._take(self.cluster.embedded(self.decoder, self.store.crops, self.writer, todo))
        else:
            self._take(self._ahead(self.decoder.decode, todo))
        if self.orphans:
            orphans, self.orphans = self.orphans, []
            self.decoder.by_hash.clear()
            self._take(self._ahead(self.decoder.decode, orphans))

    def add_videos(self, videos: dict[str, Item]) -> None:
        """Read videos, by path, as far as the library lacks their frames."""
        # In the order of their names, which is that of time for a camera's files.
        todo = [v for _, v in sorted(videos.items()) if not self.footage.is_unchanged(v)]
        for path in videos.keys() - {item.path for item in todo}:
            self.report.unchanged += len(self.footage.frames_of[path])
        self.total += len(todo)
        self._take(self._ahead(self.decoder.prepared, self.footage.frames(todo)))
        stale, self.footage.stale = self.footage.stale, []
        self.removed |= set(stale)
        self.report.removed += self.store.remove(stale)

    def _take(self, results: Iterator[Decoded | Written | Failure]) -> None:
        """Encode and write what was decoded."""
        try:
            for batch in batches(self._usable(results)):
                self._encode(batch)
        finally:
            # Also on Ctrl-C: what was embedded is worth keeping, and the next run will not know
            # any more what was moved.
            self._write()
            self.removed |= {*self.moved, *self.decoder.spoilt}
            self.report.removed += self.store.remove(sorted({*self.moved, *self.decoder.spoilt}))
            self.moved.clear()
            self.decoder.spoilt.clear()

    def _usable(self, results: Iterator[Decoded | Written | Failure]) -> Iterator[Decoded]:
        """What is to be written here; the rest is noted."""
        for result in results:
            if isinstance(result, Failure):
                self.report.failed.append(result)
                self._advance(1)
            elif isinstance(result, Written):
                self._keep(result)
            else:
                yield result

    def _keep(self, written: Written) -> None:
        """Note what a worker wrote; it is committed now and then."""
        self.fragments.append(written.fragment)
        self.report.indexed += written.images
        if self.report.crops:
            self.report.crops.per_image += written.regions
            self.report.crops.labels += written.labels
        self._advance(written.images)
        if self._is_late():
            self._write()

    def _is_late(self) -> bool:
        return time.monotonic() - self.last_write > _SECONDS_BETWEEN_WRITES

    def _ahead(
        self, decode: Callable[[T], Decoded | Failure], todo: Iterable[T]
    ) -> Iterator[Decoded | Failure]:
        """Decode in threads, in order, at most a few batches ahead of the encoder."""
        workers = min(8, (os.cpu_count() or 2) + 1)
        # With crops an image brings many views; the memory of what waits stays the same.
        most = 2 * BATCH if self.proposer is None else max(workers, BATCH // 8)
        ahead: deque[Future[Decoded | Failure]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        try:
            for item in todo:
                ahead.append(pool.submit(decode, item))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _vectors(self, pixels: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        vectors: list[NDArray[np.float32]] = []
        if pixels and not self.encoder_is_open:
            # Opened and run for the first time, a ViT-B/32 takes 250 MB more than it keeps: no
            # large image is decoded meanwhile.
            with self.decoder.memory.hold(self.decoder.memory.limit // 2, first=True):
                vectors += list(self.model.encode_pixels(pixels[:2]))
            self.encoder_is_open = True
        if rest := pixels[len(vectors) :]:
            vectors += list(self.model.encode_pixels(rest))
        return vectors

    def _encode(self, batch: Sequence[Decoded]) -> None:
        started = time.perf_counter()
        pixels = [view for decoded in batch for view in decoded.pixels]
        vectors = iter(self._vectors(pixels))
        if self.report.crops:
            self.report.crops.encode_seconds += time.perf_counter() - started
        ids = sorted({decoded.donor for decoded in batch if decoded.donor})
        donors = {image.id: image for image in self.store.images(ids)}
        for decoded in batch:
            own = decoded.vectors or [next(vectors) for _ in decoded.pixels]
            item = decoded.item
            donor = donors.get(decoded.donor or "")
            if decoded.donor and (donor is None or donor.hash != decoded.hash):
                self.orphans.append(item)
                continue
            self.replacing |= item.id in self.known
            owner = label_owner(item, self.known.get(item.id))
            self.records.append(record_of(decoded, owner, donor, own, self.decoder.crops))
            self._count(decoded, donor)
            if not split_frame(item.path):  # those of videos counted when they were read
                self._advance(1)
        if len(self.records) >= WRITE_EVERY or self._is_late():
            self._write()

    def _count(self, decoded: Decoded, donor: ImageRecord | None) -> None:
        report, item = self.report, decoded.item
        if self.report.crops and decoded.regions is not None:
            self.report.crops.per_image.append(len(decoded.regions))
            self.report.crops.labels.update(r.label for r in decoded.regions if r.label)
        if donor is None or decoded.regions:
            report.indexed += 1
        elif donor.id == item.id:
            report.unchanged += 1
            owner = label_owner(item, self.known.get(item.id))
            report.relabelled += donor.label != owner.label
            report.described += donor.metadata is None and decoded.metadata is not None
        else:
            report.reused += 1
        if donor and donor.id != item.id and decoded.hash not in self.moved_hashes:
            # All at once, and not only the donor: copies move together with their folder.
            self.moved_hashes.add(decoded.hash)
            self.moved.update(
                entry.id
                for entry in self._copies[decoded.hash]
                if entry.id not in self.items and not _still_there(entry.path)
            )

    def _write(self) -> None:
        records, self.records = self.records, []
        fragments, self.fragments = self.fragments, []
        try:
            self.store.put(records, replace=self.replacing)
            if self.writer:
                self.store.append(self.writer, fragments)
        except BaseException:
            self.moved.clear()  # their new places may not have been written
            raise
        self.replacing = False
        self.last_write = time.monotonic()

    def _advance(self, count: int, more: int = 0) -> None:
        self.done += count
        self.total = max(self.total + more, self.done)
        if self.progress:
            self.progress(self.done, self.total)


def batches(decoded: Iterable[Decoded]) -> Iterator[list[Decoded]]:
    """Images whose views the encoder takes together."""
    batch: list[Decoded] = []
    views = 0
    for one in decoded:
        batch.append(one)
        views += len(one.pixels)
        if views >= BATCH or len(batch) >= WRITE_EVERY:
            yield batch
            batch, views = [], 0
    yield batch


def _still_there(path: str) -> bool:
    from wordsight.sources.location import archive_of

    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        # A member of an archive counts as there while the archive is: listing it would be slow.
        return archive_of(path) is not None
    except (OSError, ValueError):
        return True  # what cannot be looked at is not known to be gone
    return True
