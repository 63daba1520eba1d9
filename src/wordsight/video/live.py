"""Live pictures: network cameras (RTSP, HTTP MJPEG), devices, and folders that grow.

Times are those of this machine's clock (POSIX seconds). A source that ends, freezes or cannot be
reached is tried again, at pauses that double up to five seconds; meanwhile there is a gap.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError, WordsightError
from wordsight.video import is_available
from wordsight.video.pictures import look_of, picture_of

if TYPE_CHECKING:
    import PIL.Image

_OPEN_SECONDS, _READ_SECONDS = 5.0, 3.0
"""How long opening may take, and how long no frame may come before a camera counts as frozen."""
_PAUSES = (0.5, 1.0, 2.0, 4.0, 5.0)
_SECRET = re.compile(r"(\w+://[^\s/:@]*):[^\s/]*@")
_SECRET_FIELD = re.compile(r"([?&](?:pass\w*|pwd|token|key|auth)=)[^&#\s]+", re.IGNORECASE)


def hidden(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    return _SECRET_FIELD.sub(r"\1***", _SECRET.sub(r"\1:***@", text))


@dataclass(frozen=True, slots=True)
class Picture:
    """What a camera shows at a time."""

    time: float
    picture: PIL.Image.Image


@dataclass(frozen=True, slots=True)
class Gap:
    """From ``start`` on nothing was seen, for this reason; ``end`` is None while it lasts."""

    start: float
    end: float | None
    reason: str


def live(source: str, *, every: float, side: int, stop: threading.Event) -> Iterator[Picture | Gap]:
    """Pictures of a source, one ``every`` so many seconds, and gaps, until ``stop`` is set.

    ``source`` is an address (``rtsp://``, ``http://``), a device (``/dev/video0``) or a folder.
    Raises WordsightError for what is none of these.
    """
    if os.path.isdir(source):  # noqa: PTH112
        yield from _folder(source, every, side, stop)
        return
    if "://" not in source and not os.path.exists(source):  # noqa: PTH110
        raise WordsightError(f"{hidden(source)}: not a folder, a device or an address.")
    if not is_available():
        raise WordsightError("cameras need PyAV: pip install 'wordsight[video]'")
    tries, lost = 0, time.time()
    told = False
    while not stop.is_set():
        reason = "the stream ended"
        try:
            for shown in _stream(source, every, side, stop):
                if told:
                    yield Gap(lost, shown.time, "it is back")
                tries, told, lost = 0, False, shown.time
                yield shown
        except ImageError as error:
            reason = hidden(str(error))
        if stop.is_set():
            return
        if not told:
            told = True
            yield Gap(lost, None, reason)
        stop.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1


def _stream(source: str, every: float, side: int, stop: threading.Event) -> Iterator[Picture]:
    """Pictures of one connection. Raises ImageError where it cannot be made, or freezes."""
    import av

    options: dict[str, str] = {}
    if source.startswith("rtsp"):
        options = {"rtsp_transport": "tcp", "analyzeduration": "500000", "probesize": "500000"}
    kind = "v4l2" if source.startswith("/dev/video") else None
    due = 0.0
    try:
        limits = (_OPEN_SECONDS, _READ_SECONDS)
        with av.open(source, options=options, timeout=limits, format=kind) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise ImageError("it sends no pictures")
            stream.codec_context.options = {"skip_loop_filter": "all"}
            look = None
            for frame in container.decode(stream):
                now = time.time()
                if stop.is_set():
                    return
                if now < due:
                    continue
                due = now + every * 0.98  # frames come a little early or late
                look = look or look_of(frame, stream.sample_aspect_ratio)
                yield Picture(now, picture_of(frame, look, side))
    except (av.FFmpegError, OSError) as error:
        raise ImageError(_why(error)) from None


def _why(error: Any) -> str:
    """In words, without the address, which may hold a password."""
    text = (getattr(error, "strerror", None) or type(error).__name__).strip().lower()
    return {"immediate exit requested": "it froze", "i/o error": "the connection broke"}.get(
        text, text
    )


def _folder(folder: str, every: float, side: int, stop: threading.Event) -> Iterator[Picture]:
    """What is added to a folder from now on: images, and videos as they grow."""
    sizes = _sizes(folder)
    ends: dict[str, float] = {}
    while not stop.wait(min(every, 1.0)):
        now = _sizes(folder)
        changed = [path for path, size in now.items() if sizes.get(path) != size]
        sizes, before = now, sizes
        for path in sorted(changed):
            with contextlib.suppress(ImageError, OSError):  # not whole yet: it will change again
                yield from _added(path, every, side, ends, fresh=path not in before)


def _sizes(folder: str) -> dict[str, tuple[int, int]]:
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = os.path.join(place, name)  # noqa: PTH118
                with contextlib.suppress(OSError):
                    status = os.stat(path)  # noqa: PTH116
                    found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _added(
    path: str, every: float, side: int, ends: dict[str, float], *, fresh: bool
) -> Iterator[Picture]:
    from wordsight.images import open_image, readable_suffixes
    from wordsight.video.opening import Video
    from wordsight.video.sampling import samples

    if os.path.splitext(path)[1].lower() in readable_suffixes():  # noqa: PTH122
        image = open_image(path, min_side=side)
        yield Picture(os.stat(path).st_mtime, image)  # noqa: PTH116
    elif is_available():
        with Video(path) as video:
            if not fresh and path not in ends:  # what was there before is of another time
                ends[path] = video.stated or 0.0
            begin = ends.get(path, 0.0)
            shown = list(samples(video, every, begin=begin, side=side))
            changed = os.stat(path).st_mtime  # noqa: PTH116
            start = video.recorded.timestamp() if video.recorded else changed - video.end
            for sample in shown:
                if sample.time > begin or not begin:
                    yield Picture(start + sample.time, sample.picture)
            ends[path] = max((sample.time for sample in shown), default=begin)
