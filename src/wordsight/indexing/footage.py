"""Videos on their way into the library: which are to be read, and which of their frames are kept.

Each kept frame is an image of the library, ``/abs/front.mp4::t=12.480``. It stands for the still
ones after it, up to its ``until``. The last frame of a video carries in its hash that the video was
read to its end; so a run that was killed goes on where its last write was, and a file that grew
where it ended.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wordsight.errors import ImageError
from wordsight.images import Metadata
from wordsight.indexing.report import Failure
from wordsight.sources import Item, Source, read_location
from wordsight.sources.base import item_id
from wordsight.video import file_of, frame_path, is_available, looks_like_video, split_frame

if TYPE_CHECKING:
    import PIL.Image

    from wordsight.indexing.report import IndexReport
    from wordsight.library import Entry, Store
    from wordsight.video.moving import Part
    from wordsight.video.opening import Video
    from wordsight.video.sampling import Every, Sample

_HEAD = 1 << 16
"""Bytes at both ends of a video that tell it from others: whole ones take minutes to read."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame to be kept: its item, and its picture unless the library has its vector.

    ``donor`` is the id of an image of the library that shows the same.
    """

    item: Item
    hash: str
    metadata: Metadata
    picture: PIL.Image.Image | None = None
    size: tuple[int, int] = (0, 0)
    donor: str | None = None


def read_every(text: str) -> Every:
    """What a user writes for the interval. Raises ValueError for what is none."""
    if text == "keyframes":
        return "keyframes"
    every = float(text)
    if not 0.04 <= every <= 3600:  # nan too
        raise ValueError(text)
    return every


def take_videos(
    sources: Sequence[Source], items: dict[str, Item], others: dict[str, str]
) -> dict[str, Item]:
    """Take the videos out of what sources listed: by path. Content decides, not the name.

    ``items`` are the images by id, ``others`` kinds of other files by path; both are changed.
    """
    from wordsight.images.formats import HEADER_BYTES, kind_of
    from wordsight.sources.listing import other_kind

    roots = {path: s.root for s in sources for path in getattr(s, "not_read", ())}
    candidates: dict[str, Item] = {}
    for path, kind in list(others.items()):
        if kind == "video" and not os.path.isfile(path):  # noqa: PTH113  (in an archive)
            others[path] = "archived video"
        elif kind == "video":
            del others[path]
            status = os.stat(path)  # noqa: PTH116
            candidates[path] = Item(
                item_id(path), path, status.st_size, status.st_mtime_ns, None, roots[path],
                _unread, is_file=True,
            )  # fmt: skip
    for item in list(items.values()):  # files that were named one by one
        if item.is_file and item.root == item.path:
            suffix = os.path.splitext(item.path)[1].lower()  # noqa: PTH122
            if other_kind(suffix) == "video":
                candidates[item.path] = items.pop(item.id)
    videos = {}
    for path, item in candidates.items():
        header = _bytes(path, 0, 192)
        if kind_of(header[:HEADER_BYTES]):
            items[item.id] = replace(item, reader=_unread)
        elif not path.lower().endswith(".ts") or looks_like_video(header):  # or TypeScript
            videos[path] = item
    return videos


def misnamed(failed: list[Failure], items: dict[str, Item]) -> dict[str, Item]:
    """Take the videos out of the files with a picture's name that could not be read: by path."""
    found = {}
    by_path = {item.path: item for item in items.values() if item.is_file} if failed else {}
    for failure in list(failed):
        item = by_path.get(failure.path)
        if item and looks_like_video(_bytes(item.path, 0, 192)):
            failed.remove(failure)
            del items[item.id]
            found[item.path] = item
    return found


def _unread(item: Item) -> bytes:
    return read_location(item.path)


def _bytes(path: str, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(offset)
            return file.read(size)
    except (OSError, ValueError):
        return b""


class Footage:
    """The videos of one run of indexing.

    ``known`` are the images of the library; ``crops`` is the mark of frames that have the crops
    that are set, ``side`` the short side of pictures in pixels. ``tick`` is called with (samples
    read, samples more to be read than were known of so far). After :meth:`frames` was gone through,
    ``stale`` are the ids of frames that their videos do not show any more.
    """

    def __init__(
        self,
        store: Store,
        known: Mapping[str, Entry],
        report: IndexReport,
        *,
        every: Every,
        crops: str,
        side: int,
        recheck: bool,
        tick: Callable[[int, int], None],
    ) -> None:
        self.store, self.report = store, report
        self.every, self.crops, self.side, self.recheck = every, crops, side, recheck
        self.tick = tick
        self.stale: list[str] = []
        self.frames_of: dict[str, list[Entry]] = defaultdict(list)
        for entry in known.values():
            if split_frame(entry.path):
                self.frames_of[file_of(entry.path)].append(entry)
        self._whole = {
            (entry.hash, entry.size): video
            for video, entries in self.frames_of.items()
            for entry in entries
            if entry.hash.endswith(_WHOLE)
        }

    def listed(self, videos: Mapping[str, Item] | None) -> dict[str, Item]:
        """The known frames of these videos, or of all, as items by id."""
        return {
            e.id: Item(e.id, e.path, e.size, e.mtime_ns, e.label, e.root, _unread)
            for path in (self.frames_of if videos is None else videos)
            for e in self.frames_of.get(path, ())
        }

    def is_unchanged(self, item: Item) -> bool:
        """Whether a video was read to its end, as the settings are, and is as it was then."""
        entries = self.frames_of.get(item.path)
        if not entries or self.recheck:
            return False
        last = max(entries, key=_time)
        return (
            (last.size, last.mtime_ns) == (item.size, item.mtime_ns)
            and last.hash.endswith(_WHOLE)
            and self._as_set(last)
        )

    def frames(self, videos: Sequence[Item]) -> Iterator[Frame | Failure]:
        """The frames of these videos that the library lacks, and why a video cannot be read."""
        for item in videos:
            new: set[str] = set()
            entries = self.frames_of.get(item.path, [])
            begin = self._goes_on(item, entries)
            try:
                for frame in self._of(item, begin):
                    new.add(frame.item.id)
                    yield frame
            except ImageError as error:
                yield Failure(item.path, str(error).removeprefix(f"{item.path}: "))
                if any(
                    entry.hash.startswith(self._mark(item, whole=False, known=entry.size))
                    for entry in entries
                ):
                    continue  # these are still its frames
            self.stale += [e.id for e in entries if e.id not in new and _time(e) >= begin]

    def _of(self, item: Item, begin: float) -> Iterator[Frame]:
        whole = (self._mark(item, whole=True), item.size)
        twin = None if self.recheck else self._whole.get(whole)
        if twin is not None and all(self._as_set(e) for e in self.frames_of[twin]):
            yield from self._moved(item, twin)
        else:
            yield from self._read(item, begin)

    def _goes_on(self, item: Item, entries: list[Entry]) -> float:
        """The time from which on a video is to be read: where the library's frames end."""
        if not entries or self.recheck:
            return 0.0
        last = max(entries, key=_time)
        same = last.hash.startswith(self._mark(item, whole=False, known=last.size))
        return _time(last) if same and item.size >= last.size and self._as_set(last) else 0.0

    def _read(self, item: Item, begin: float) -> Iterator[Frame]:
        from wordsight.video.moving import LEAST, Scene
        from wordsight.video.opening import Video
        from wordsight.video.sampling import samples
        from wordsight.video.still import glance, is_still

        with Video(item.path) as video:
            every = 1.0 if self.every == "keyframes" else self.every
            self.tick(0, max(0, math.ceil(((video.stated or 0) - begin) / every) - 1))
            kept: Sample | None = None
            seen, scene, moves = None, Scene(), None
            before = max(0.0, begin - LEAST * every)  # the scene, where reading goes on
            for sample in samples(video, self.every, begin=before, side=self.side):
                now = glance(sample.picture)
                if sample.time < begin:
                    scene.feed(now)
                    continue
                self.tick(1, 0)
                if seen is None or not is_still(seen, now):
                    if kept is not None:
                        yield self._frame(item, video, kept, moves, sample.time)
                    kept, seen, moves = sample, now, scene.moving(now)
                scene.feed(now)
            if kept is None:
                raise ImageError(f"{item.path}: none of its frames could be decoded")
            video.finish()
            self.report.notices += [Failure(item.path, notice) for notice in video.notices]
            self.report.videos += 1
            yield self._frame(item, video, kept, moves, max(video.end, kept.time), whole=True)

    def _frame(
        self,
        item: Item,
        video: Video,
        sample: Sample,
        moves: Part | None,
        until: float,
        *,
        whole: bool = False,
    ) -> Frame:
        from wordsight.video.clock import camera, stamp

        size = width, height = video.look.width, video.look.height
        at = stamp(video.recorded, sample.time)
        metadata = Metadata(
            media="video",
            orientation=("square", "landscape", "portrait")[
                (size[0] > size[1]) + 2 * (size[0] < size[1])
            ],
            taken=at,
            camera=camera(item.path),
            time=round(sample.time, 3),
            until=round(until, 3),
            recorded=at,
            video=item.path,
        )
        place = _placed(item, sample.time)
        if moves:
            x0, y0, x1, y1 = moves
            part = x0 * width, y0 * height, x1 * width, y1 * height
            place = replace(place, parts=(part,))
        return Frame(place, self._mark(item, whole=whole), metadata, sample.picture, size)

    def _moved(self, item: Item, twin: str) -> Iterator[Frame]:
        """The frames of a video that the library has under another path, or an earlier time."""
        from wordsight.video.clock import camera

        self.tick(1, 0)
        for record in self.store.images([entry.id for entry in self.frames_of[twin]]):
            facts = {**(record.metadata or {}), "video": item.path, "camera": camera(item.path)}
            frame = split_frame(record.path)
            assert frame is not None
            yield Frame(_placed(item, frame[1]), record.hash, Metadata(**facts), donor=record.id)

    def _as_set(self, entry: Entry) -> bool:
        """Whether a frame was made with the interval and the crops that are set."""
        return entry.crops == self.crops and entry.hash.split("-")[1:2] == [str(self.every)]

    def _mark(self, item: Item, *, whole: bool, known: int = _HEAD) -> str:
        """The hash of a video's frames: its first bytes and the interval; of the last also its end.

        ``known`` is the size of the file when it was read, which may have grown since. As text:
        "<hash>-<interval>", and for the last frame "<hash>-<interval>-<hash>-whole".
        """
        mark = f"{_hash(_bytes(item.path, 0, min(known, _HEAD)))}-{self.every}"
        if not whole:
            return mark
        return f"{mark}-{_hash(_bytes(item.path, max(0, item.size - _HEAD), _HEAD))}{_WHOLE}"


_WHOLE = "-whole"


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _time(entry: Entry) -> float:
    frame = split_frame(entry.path)
    return frame[1] if frame else 0.0


def _placed(video: Item, time: float) -> Item:
    path = frame_path(video.path, time)
    return replace(video, id=item_id(path), path=path, reader=_unread, is_file=False)


def count_unread(videos: Mapping[str, Item], others: Counter[str]) -> None:
    """Count the videos that cannot be read without PyAV among what was not read."""
    if videos and not is_available():
        others["video"] += len(videos)
