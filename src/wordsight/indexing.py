"""From a source to the library: list -> read -> decode -> regions -> encode -> write.

Reading, decoding and preprocessing run in worker threads, a bounded number of images ahead of
the encoder, and with a bound on the bytes of what they decode at once, so that memory does not grow
with the number or the size of images. Each encoded batch is one atomic write. A run that is killed
has lost nothing that it had written, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from wordsight.errors import ImageError, ModelError, SourceError, WordsightError
from wordsight.footage import (
    Footage,
    Frame,
    count_unread,
    misnamed,
    read_every,
    take_videos,
)
from wordsight.library import Entry, ImageRecord, Store, ViewRecord
from wordsight.paths import expanded
from wordsight.pruning import devices_of, lies_under, prunable
from wordsight.report import CropReport, Failure, IndexReport
from wordsight.video import is_available, split_frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.images import Metadata
    from wordsight.models.clip import ClipModel
    from wordsight.models.maskrcnn import Detector
    from wordsight.regions import Region, Tiles
    from wordsight.sources import Item, Source
    from wordsight.video.sampling import Every

T = TypeVar("T")

BATCH = 64  # images encoded together
WRITE_EVERY = 512  # images in one write: each write is a file and a version of the table
_SECONDS_BETWEEN_WRITES = 10.0
_TIMES = 1 << 63  # nanoseconds since 1970; from here on they are no int64

DECODE_BYTES = 512 << 20
"""How many bytes may be decoded at once, over all threads; an image above it goes alone."""

LARGE_FILE = 32 << 20
"""A file of more bytes is not read into memory, but decoded from the disk; and goes alone."""


def reduced_side(input_side: int) -> int:
    """The short side, in pixels, at which a JPEG is decoded for an encoder of this input.

    A third more than the encoder sees, so that a photograph of 12 megapixels comes at 1/8 for 256
    pixels too (vectors of a random ViT-B/32 keep cosines of 0.999:
    ``benchmarks/reduced_scale.py``), and never below 192: at 32 pixels, scales nearer to the input
    moved vectors of photographs to cosines of 0.96; so they stay above 0.995.
    """
    return max(input_side * 4 // 3, 192)


def reduced_side_for_crops(input_side: int) -> int:
    """The short side at which an image is decoded whose crops are embedded too.

    Four times that without crops, so that a crop of a quarter of the image still fills the
    encoder's input as well, and at least 2048: photographs of up to 24 megapixels come in full.
    """
    return max(4 * reduced_side(input_side), 2048)


@dataclass(frozen=True, slots=True)
class Int8Check:
    """What int8 changes: over ``images`` images, the mean cosine of their vectors to those of fp32,
    and ``recall``, the share of each one's ten nearest others that are the same.
    """

    images: int
    cosine: float
    recall: float


def check_int8(
    model: ClipModel, sources: Sequence[Source], *, images: int = 100, least: float = 0.9
) -> Int8Check:
    """Compare a model in int8 with itself in fp32 on a sample of the sources' images.

    Raises ModelError when the recall is below ``least``: int8 would then change what is found.
    """
    import numpy as np

    from wordsight.images import open_image
    from wordsight.models.clip import ClipModel

    items = [item for source in sources for item in source.items()]
    pixels = []
    for item in items[:: max(1, len(items) // images)][:images]:
        with contextlib.suppress(WordsightError, OSError):
            side = reduced_side(max(model.image_size))
            image = open_image(item.read(), min_side=side, name=item.path)
            pixels.append(model.preprocess(image, image.info["full_size"]))
    if len(pixels) < 2:
        return Int8Check(len(pixels), 1.0, 1.0)
    plain = ClipModel(model.path, precision="fp32")
    ours, theirs = (m.encode_pixels(pixels) for m in (model, plain))
    near = min(10, len(pixels) - 1)
    ranks = []
    for vectors in (ours, theirs):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        ranks.append(np.argsort(-scores, axis=1)[:, :near])
    same = [len(set(a) & set(b)) / near for a, b in zip(*ranks, strict=True)]
    check = Int8Check(len(pixels), float((ours * theirs).sum(axis=1).mean()), float(np.mean(same)))
    if check.recall < least:
        raise ModelError(
            f"int8 changes the results of {model.name}: only {check.recall:.0%} of the ten nearest "
            f"images are the same as with fp32 (checked on {check.images}); index without "
            "--precision int8."
        )
    return check


class MemoryBudget:
    """Bytes that several threads may hold between them; who needs more than all of it goes alone.

    ``peak`` is the most that was held at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        self._held = 0
        self._first = 0  # how many wait that go first
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, count: int, *, first: bool = False) -> Iterator[None]:
        """Wait until ``count`` bytes are free, or nobody holds any; hold them meanwhile.

        With ``first``, before all others that wait. A thread that holds some already must not ask
        for more: two such could wait for ever.
        """

        def may_go() -> bool:
            fits = not self._held or self._held + count <= self.limit
            return fits and (first or not self._first)

        with self._changed:
            self._first += first
            try:
                self._changed.wait_for(may_go)
            finally:
                if first:
                    self._first -= 1
                    self._changed.notify_all()
            self._held += count
            self.peak = max(self.peak, self._held)
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()


Progress = Callable[[int, int], None]
"""Called with (images done, images to do) as a run goes on."""


@dataclass(slots=True)
class _Decoded:
    """An item on its way to the encoder."""

    item: Item
    hash: str
    width: int = 0
    height: int = 0
    donor: str | None = None
    """The id of an image in the library with the same bytes: its whole-image vector is reused."""
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    """What is to be encoded: the whole image unless there is a donor, then the crops."""
    regions: list[Region] | None = None
    """None: with a donor, its crops are reused too."""
    metadata: Metadata | None = None
    """None: with a donor, its metadata are reused too."""


def index(
    store: Store,
    model: ClipModel,
    sources: Sequence[Source],
    *,
    crops: str | Path | None = None,
    exclude: Sequence[str] | None = None,
    videos: bool = True,
    every: Every | None = None,
    prune: bool | Literal["force"] = False,
    recheck: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring a library up to date with what the sources hold.

    An image whose size and time of change are those recorded is left as it is; else its bytes
    decide: the same bytes anywhere in the library lend their vectors (a file that was touched,
    copied or moved), new ones are embedded. A moved file's old place goes at once; images that
    are gone or left out by now go with ``prune`` alone. Files that cannot be used are reported
    in ``failed`` and stop nothing, those of other kinds are counted in ``not_read``. Labels follow
    the sources too: one that another source gave stays where this one knows none, and an image
    whose label alone changes counts as unchanged.

    ``crops`` names how regions are proposed (see :func:`wordsight.regions.load_proposer`) or is
    "none"; None means as the library was last indexed. Images that lack crops of that proposer
    get them, their whole-image vectors stay. So it is with what the files say of their pictures,
    where an older library does not hold that yet.

    ``exclude`` are patterns in gitignore's syntax, relative to each source, of what is left out;
    None means as the library was last indexed.

    Frames of ``videos`` are images too, one ``every`` so many seconds (or "keyframes"; None: as the
    library was last indexed, at first 1) where anything changed: see :mod:`wordsight.footage`.

    Raises SourceError when the sources hold no image at all, one cannot be listed, or a pattern
    is none, LibraryError
    when the library cannot be written (what was written so far is kept), ModelMismatchError for
    another model, ModelError when the proposer cannot be had.
    """
    from wordsight.regions import Tiles, load_proposer

    started = time.perf_counter()
    if not sources:
        raise SourceError("nothing to index: give a folder, an image, a .tar file or 'cifar10'.")
    store.check_model(model.name, model.hash)
    _return_freed_memory()
    with store.lock():
        store.refresh()
        store.check_model(model.name, model.hash)  # another library may be in its place by now
        wanted = str(crops or store.crops)
        proposer = None if wanted == "none" else load_proposer(wanted)
        if proposer and not isinstance(proposer, Tiles) and proposer.path == expanded(wanted):
            wanted = str(proposer.path.resolve())  # in full: the next run may begin elsewhere
        report = IndexReport(crops=CropReport(proposer.name) if proposer else None)
        patterns = store.exclude if exclude is None else [p for p in exclude if p.strip()]
        items, others = _list(sources, patterns)
        films = take_videos(sources, items, others)
        report.not_read = Counter(others.values())
        problems = dict.fromkeys(problem for source in sources for problem in source.problems)
        report.failed += [Failure(path, reason) for path, reason in problems]
        if videos:
            count_unread(films, report.not_read)
        reads = videos and is_available()
        if not (items or (films and reads) or report.failed or prune):
            raise SourceError(_no_image(sources, patterns, report))
        store.add_metadata_columns()
        if crops:
            store.crops = wanted
        store.exclude = patterns
        if every is not None:
            store.every = str(every)
        known = {entry.id: entry for entry in store.entries()}
        _keep_labels(items, known, sources)
        run = _Run(store, model, proposer, items, known, report, progress, recheck=recheck)
        todo = [item for item in items.values() if not run.is_unchanged(item)]
        report.unchanged = len(items) - len(todo)
        run.total = len(todo)
        run.process(todo)
        if reads:
            films |= misnamed(report.failed, items)
            run.add_videos(films)
        items |= run.footage.listed(films if videos else None)
        paths = {entry.id: entry.path for entry in run.remaining()}
        if prune:
            gone, report.kept = prunable(
                run.remaining(), items, sources, store.devices, force=prune == "force"
            )
            report.failed += [Failure(kept.path, kept.reason) for kept in report.kept]
            report.removed += store.prune(gone)
            for identity in gone:
                del paths[identity]
        paths |= {identity: item.path for identity, item in items.items()}
        store.devices = devices_of(paths, items, store.devices)
        _keep_skipped(store, sources, report.failed)
        store.compact(only_if_needed=True)
        store.prepare()
    report.images = len(store)
    report.views = store.count_views()
    report.seconds = time.perf_counter() - started
    return report


def _no_image(sources: Sequence[Source], patterns: Sequence[str], report: IndexReport) -> str:
    names = ", ".join(str(source.name) for source in sources)
    hints = [report.others()] if report.not_read else []
    hints += [f"excluded: {', '.join(patterns)}"] if patterns else []
    why = f" ({'; '.join(hints)})" if hints else ""
    return f"no image found in {names}{why}."


def _list(
    sources: Sequence[Source], exclude: Sequence[str]
) -> tuple[dict[str, Item], dict[str, str]]:
    """The images of all sources by id, and the kinds of what else is there, by path.

    Of an image that several list, as one that knows its label does. Raises SourceError.
    """
    from wordsight.images import unreadable_reason
    from wordsight.sources.listing import Listing

    items: dict[str, Item] = {}
    others: dict[str, str] = {}
    for source in sources:
        if isinstance(source, Listing):
            source.exclude = exclude
        try:
            listed = source.items()
        except OSError as error:
            raise SourceError(f"{source.name}: {unreadable_reason(error)}") from error
        for item in listed:
            if item.label is not None or item.id not in items:
                items[item.id] = item if item.mtime_ns < _TIMES else _within_times(item)
        if isinstance(source, Listing):
            others |= source.not_read
    return items, others


def _within_times(item: Item) -> Item:
    """A time after 2262 as one that the table can hold; it still differs when the file's does."""
    return replace(item, mtime_ns=item.mtime_ns % _TIMES)


def _keep_labels(
    items: dict[str, Item], known: dict[str, Entry], sources: Sequence[Source]
) -> None:
    """Where a folder could not be looked into, or an archive read to its end, labels stay.

    Whether folders are classes is seen from all of them together.
    """
    partly = {
        source.root
        for source in sources
        for path, _ in source.problems
        if os.path.isdir(path) or source.root.startswith(f"{path}::")  # noqa: PTH112
    }
    for identity, item in items.items() if partly else ():
        entry = known.get(identity)
        if entry and item.label is None and item.root in partly:
            items[identity] = replace(item, label=entry.label)


def _keep_skipped(store: Store, sources: Sequence[Source], failed: Sequence[Failure]) -> None:
    """Replace what was skipped under these sources by what was skipped now."""
    roots = {source.root for source in sources}

    def looked_at(path: str) -> bool:
        itself = {os.path.join(path, ""), f"{path}::"}  # noqa: PTH118  (a folder, an archive)
        return not roots.isdisjoint(itself) or any(lies_under(path, root) for root in roots)

    skipped = {path: reason for path, reason in store.skipped() if not looked_at(path)}
    skipped |= {failure.path: failure.reason for failure in failed}
    store.save_skipped(list(skipped.items()))


def _label_owner(item: Item, entry: Entry | None) -> Item | Entry:
    """Which of them says the label: the item, unless another source gave one and it knows none."""
    if item.label is None and entry and entry.label is not None and entry.root != item.root:
        return entry
    return item


class _Run:
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
    ) -> None:
        self.store = store
        self.model = model
        self.proposer = proposer
        self.items = items
        self.known = known
        self.report = report
        self.progress = progress
        self.recheck = recheck
        self.removed: set[str] = set()
        self.by_hash = {entry.hash: entry for entry in known.values()}
        self.memory = MemoryBudget(DECODE_BYTES)
        self.encoder_is_open = False
        self.records: list[ImageRecord] = []  # embedded, not yet written
        self.replacing = False
        self.orphans: list[Item] = []  # their donor was itself replaced in this run
        self.moved: set[str] = set()
        self.spoilt: list[str] = []  # in the library, and now other bytes that are no image
        self.moved_hashes: set[str] = set()  # whose old places were looked for
        self.footage = Footage(
            store,
            known,
            report,
            every=read_every(store.every),
            crops=self._crops,
            side=self.side,
            recheck=recheck,
            tick=self._advance,
        )
        self.done = 0
        self.total = 0
        self.last_write = time.monotonic()

    @property
    def side(self) -> int:
        """The short side, in pixels, at which pictures are decoded."""
        input_side = max(self.model.image_size)
        return reduced_side_for_crops(input_side) if self.proposer else reduced_side(input_side)

    @cached_property  # a run over what is unchanged needs none of it
    def _copies(self) -> dict[str, list[Entry]]:
        copies: dict[str, list[Entry]] = {}
        for entry in self.known.values():
            copies.setdefault(entry.hash, []).append(entry)
        return copies

    def is_unchanged(self, item: Item) -> bool:
        entry = self.known.get(item.id)
        return (
            entry is not None
            and not self.recheck
            and entry.media is not None
            and self._has_vectors(entry, item)
            and entry.label == _label_owner(item, entry).label
        )

    def remaining(self) -> list[Entry]:
        """What was known before this run and was not removed in it."""
        return [entry for entry in self.known.values() if entry.id not in self.removed]

    def _has_vectors(self, entry: Entry, item: Item) -> bool:
        return (entry.size, entry.mtime_ns) == (item.size, item.mtime_ns) and self._has_crops(entry)

    def _has_crops(self, entry: Entry) -> bool:
        return self.proposer is None or entry.crops == self._crops

    @property
    def _crops(self) -> str:
        """What images are marked with; older libraries hold crops without context, by the name."""
        return f"{self.proposer.name}, in context" if self.proposer else "none"

    def process(self, todo: Sequence[Item]) -> None:
        self._take(self._ahead(self._decode, todo))
        if self.orphans:
            orphans, self.orphans = self.orphans, []
            self.by_hash.clear()
            self.process(orphans)

    def add_videos(self, videos: dict[str, Item]) -> None:
        """Read videos, by path, as far as the library lacks their frames."""
        # In the order of their names, which is that of time for a camera's files.
        todo = [v for _, v in sorted(videos.items()) if not self.footage.is_unchanged(v)]
        for path in videos.keys() - {item.path for item in todo}:
            self.report.unchanged += len(self.footage.frames_of[path])
        self.total += len(todo)
        self._take(self._ahead(self._prepared, self.footage.frames(todo)))
        stale, self.footage.stale = self.footage.stale, []
        self.removed |= set(stale)
        self.report.removed += self.store.remove(stale)

    def _take(self, results: Iterator[_Decoded | Failure]) -> None:
        """Encode and write what was decoded."""
        batch: list[_Decoded] = []
        views = 0
        try:
            for result in results:
                if isinstance(result, Failure):
                    self.report.failed.append(result)
                    self._advance(1)
                    continue
                batch.append(result)
                views += len(result.pixels)
                if views >= BATCH or len(batch) >= WRITE_EVERY:
                    self._encode(batch)
                    batch, views = [], 0
            self._encode(batch)
        finally:
            # Also on Ctrl-C: what was embedded is worth keeping, and the next run will not know
            # any more what was moved.
            self._write()
            self.removed |= {*self.moved, *self.spoilt}
            self.report.removed += self.store.remove(sorted({*self.moved, *self.spoilt}))
            self.moved.clear()
            self.spoilt.clear()

    def _ahead(
        self, decode: Callable[[T], _Decoded | Failure], todo: Iterable[T]
    ) -> Iterator[_Decoded | Failure]:
        """Decode in threads, in order, at most a few batches ahead of the encoder."""
        workers = min(8, (os.cpu_count() or 2) + 1)
        # With crops an image brings many views; the memory of what waits stays the same.
        most = 2 * BATCH if self.proposer is None else max(workers, BATCH // 8)
        ahead: deque[Future[_Decoded | Failure]] = deque()
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

    def _decode(self, item: Item) -> _Decoded | Failure:
        try:
            with contextlib.ExitStack() as held:
                return self._decode_within(item, held)
        except WordsightError as error:
            return Failure(item.path, str(error).removeprefix(f"{item.path}: "))
        except OSError as error:
            return Failure(item.path, error.strerror or str(error))
        except MemoryError:
            return Failure(item.path, "not enough memory to decode it")

    def _prepared(self, frame: Frame | Failure) -> _Decoded | Failure:
        """A frame of a video, ready for the encoder."""
        if isinstance(frame, Failure):
            return frame
        decoded = _Decoded(frame.item, frame.hash, *frame.size, metadata=frame.metadata)
        if frame.picture is None:
            decoded.donor = frame.donor
        else:
            decoded.regions = []
            decoded.pixels.append(self.model.preprocess(frame.picture, frame.size))
            if self.proposer:
                self._add_crops(decoded, frame.picture)
        return decoded

    def _decode_within(self, item: Item, held: contextlib.ExitStack) -> _Decoded:
        """Decode one image; what it takes of the memory budget is given back with ``held``."""
        from wordsight.images import open_image, read_metadata

        entry = self.known.get(item.id)
        if entry and not self.recheck and self._has_vectors(entry, item):
            # The label alone is another, or metadata are missing.
            found = None if entry.media else _head_of(item)
            return _Decoded(item, entry.hash, donor=entry.id, metadata=found)

        def reserve(count: int) -> None:
            if item.size <= LARGE_FILE:
                held.enter_context(self.memory.hold(count))

        if item.size > LARGE_FILE:
            held.enter_context(self.memory.hold(self.memory.limit))
        source = item.read() if item.size <= LARGE_FILE or not item.is_file else Path(item.path)
        digest = item.hash or (_hash(source) if isinstance(source, bytes) else _hash_file(source))
        donor = entry if entry and entry.hash == digest else self.by_hash.get(digest)
        if donor and self._has_crops(donor):
            found = None if donor.media and not self.recheck else read_metadata(source)
            return _Decoded(item, digest, donor=donor.id, metadata=found)
        try:
            image = open_image(source, min_side=self.side, name=item.path, reserve=reserve)
        except ImageError:
            if entry and entry.hash != digest:
                self.spoilt.append(item.id)
            raise
        if "software" in image.info:
            raise ImageError(f"{item.path}: made by wordsight (a grid, plot or card)")
        width, height = image.info["full_size"]
        decoded = _Decoded(item, digest, width, height, regions=[])
        decoded.metadata = item.metadata or image.info["metadata"]
        if donor:
            decoded.donor = donor.id
        else:
            decoded.pixels.append(self.model.preprocess(image, (width, height)))
        if self.proposer:
            self._add_crops(decoded, image)
        return decoded

    def _add_crops(self, decoded: _Decoded, image: Image) -> None:
        from wordsight.regions import crop_region, propose

        assert self.proposer is not None
        assert self.report.crops is not None
        if min(image.size) <= max(self.model.image_size):
            return  # the encoder sees every pixel of it already
        started = time.perf_counter()
        (regions,) = propose([image], self.proposer)
        self.report.crops.propose_seconds += time.perf_counter() - started
        decoded.pixels += [self.model.preprocess(crop_region(image, region)) for region in regions]
        across, down = decoded.width / image.width, decoded.height / image.height
        decoded.regions = [_scaled(region, across, down) for region in regions]

    def _vectors(self, pixels: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        vectors: list[NDArray[np.float32]] = []
        if pixels and not self.encoder_is_open:
            # Opened and run for the first time, a ViT-B/32 takes 250 MB more than it keeps: no
            # large image is decoded meanwhile.
            with self.memory.hold(self.memory.limit // 2, first=True):
                vectors += list(self.model.encode_pixels(pixels[:2]))
            self.encoder_is_open = True
        if rest := pixels[len(vectors) :]:
            vectors += list(self.model.encode_pixels(rest))
        return vectors

    def _encode(self, batch: Sequence[_Decoded]) -> None:
        started = time.perf_counter()
        pixels = [view for decoded in batch for view in decoded.pixels]
        vectors = iter(self._vectors(pixels))
        if self.report.crops:
            self.report.crops.encode_seconds += time.perf_counter() - started
        ids = sorted({decoded.donor for decoded in batch if decoded.donor})
        donors = {image.id: image for image in self.store.images(ids)}
        for decoded in batch:
            own: list[NDArray[np.float32]] = [next(vectors) for _ in decoded.pixels]
            item = decoded.item
            donor = donors.get(decoded.donor or "")
            if decoded.donor and (donor is None or donor.hash != decoded.hash):
                self.orphans.append(item)
                continue
            self.replacing |= item.id in self.known
            self.records.append(self._record(decoded, donor, own))
            self._count(decoded, donor)
            if not split_frame(item.path):  # those of videos counted when they were read
                self._advance(1)
        late = time.monotonic() - self.last_write > _SECONDS_BETWEEN_WRITES
        if len(self.records) >= WRITE_EVERY or late:
            self._write()

    def _record(
        self, decoded: _Decoded, donor: ImageRecord | None, own: list[NDArray[np.float32]]
    ) -> ImageRecord:
        from wordsight.regions import in_context

        item = decoded.item
        owner = _label_owner(item, self.known.get(item.id))
        place = {
            "id": item.id,
            "path": item.path,
            "root": owner.root,
            "size": item.size,
            "mtime_ns": item.mtime_ns,
            "label": owner.label,
        }
        metadata = donor.metadata if donor else None
        if decoded.metadata:
            metadata = asdict(decoded.metadata)
        if metadata is not None or item.caption is not None:
            metadata = {**(metadata or {}), "caption": item.caption}
        if donor and decoded.regions is None:
            return replace(donor, metadata=metadata, **place)  # type: ignore[arg-type]
        whole = donor.views[0] if donor else ViewRecord(own.pop(0))
        crops = [
            ViewRecord(in_context(vector, whole.vector), "crop", r.box, r.label, r.score)
            for vector, r in zip(own, decoded.regions or (), strict=True)
        ]
        return ImageRecord(
            **place,  # type: ignore[arg-type]
            hash=decoded.hash,
            width=decoded.width,
            height=decoded.height,
            crops=self._crops,
            metadata=metadata,
            views=[whole, *crops],
        )

    def _count(self, decoded: _Decoded, donor: ImageRecord | None) -> None:
        report, item = self.report, decoded.item
        if self.report.crops and decoded.regions is not None:
            self.report.crops.per_image.append(len(decoded.regions))
            self.report.crops.labels.update(r.label for r in decoded.regions if r.label)
        if donor is None or decoded.regions:
            report.indexed += 1
        elif donor.id == item.id:
            report.unchanged += 1
            owner = _label_owner(item, self.known.get(item.id))
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
        try:
            self.store.put(records, replace=self.replacing)
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


def _scaled(region: Region, across: float, down: float) -> Region:
    x0, y0, x1, y1 = region.box
    return replace(region, box=(x0 * across, y0 * down, x1 * across, y1 * down))


@lru_cache(maxsize=1)
def _return_freed_memory() -> None:
    """Have glibc give freed pixels back to the system; elsewhere nothing happens.

    Once a large block was freed it keeps blocks of up to 32 MiB for later, in every thread: 1.6 GB
    resident where 0.8 are in use (``benchmarks/memory.py``). A fixed threshold, which is what this
    sets for the process, stops that (mallopt(3), M_MMAP_THRESHOLD). What it has kept so far
    is given back too: 280 MB, where a ViT-B/32's text tower was just used for the first time.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 20)
        libc.malloc_trim(0)


def _head_of(item: Item) -> Metadata | None:
    """What an item's file says of its picture; None where that cannot be read."""
    from wordsight.images import read_metadata

    with contextlib.suppress(WordsightError, OSError):
        return read_metadata(Path(item.path) if item.is_file else item.read())
    return None


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _hash_file(path: Path) -> str:
    """As :func:`_hash`, read piece by piece."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


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


def add_images(
    store: Store,
    model: ClipModel,
    images: Sequence[Image | NDArray[Any]],
    names: Sequence[str],
    labels: Sequence[str | None],
) -> list[str]:
    """Embed images that are in memory and add them under these names; their ids, one a name.

    A name that the library has is replaced, and of one that is given twice the last image counts.
    Raises ModelMismatchError for another model, ValueError when there are not as many names and
    labels as images, or one of them is not valid UTF-8.
    """
    from wordsight.images import to_rgb
    from wordsight.sources.base import item_id

    store.check_model(model.name, model.hash)
    for what, texts in (("names", names), ("labels", labels)):
        if len(texts) != len(images):
            raise ValueError(f"{len(texts)} {what} for {len(images)} images: give one for each.")
        for text in texts:
            try:
                (text or "").encode()
            except UnicodeEncodeError:
                raise ValueError(f"{what}: {text!r} is not valid UTF-8.") from None
    ids = [item_id(name) for name in names]
    places = sorted({name: place for place, name in enumerate(names)}.values())
    upright = [to_rgb(images[place]) for place in places]
    vectors = model.encode_images(upright)
    records = []
    for place, image, vector in zip(places, upright, vectors, strict=True):
        data = image.tobytes()
        records.append(
            ImageRecord(
                id=ids[place],
                path=names[place],
                root="",
                size=len(data),
                mtime_ns=0,
                hash=_hash(data),
                width=image.width,
                height=image.height,
                label=labels[place],
                views=[ViewRecord(vector)],
            )
        )
    with store.lock():
        store.refresh()
        store.check_model(model.name, model.hash)  # another library may be in its place by now
        store.put(records, replace=True)
        store.settle()
    return ids
