"""Opening a video: the stream that counts, its time stamps, and why a file cannot be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError
from wordsight.images import unreadable_reason
from wordsight.video.clock import recorded
from wordsight.video.pictures import look_of

if TYPE_CHECKING:
    from datetime import datetime

_MOST_BEFORE_A_PICTURE = 64 << 20
"""Bytes of a stream that are read in search of its first picture."""
_EPSILON = 0.0005  # seconds
_NOMINAL = 25.0  # frames a second, where nothing is stated


class Video:
    """A video file that is open: its main stream from the first frame shown on.

    ``look`` says how its frames are shown, ``recorded`` when the first was taken, in UTC, where
    that is known. ``stated`` is the length in seconds that its container states, or None; ``end``
    where what was read so far ends. ``is_stamped``: the stream has time stamps; where it has none,
    times come from its nominal rate. ``notices`` are for the user.

    Raises ImageError ("<path>: <reason>") for what is no video. Use it as a context manager.
    """

    def __init__(self, path: str) -> None:
        import av

        self.path = path
        self.end = 0.0
        self.notices: list[str] = []
        self._shown = 0.0  # the latest time of a frame so far
        self._shift = 0.0
        with contextlib.ExitStack() as opened:
            try:
                if not os.path.getsize(path):  # noqa: PTH202
                    raise ImageError(f"{path}: the file is empty")
                self.container = opened.enter_context(av.open(path, metadata_errors="replace"))
            except av.FFmpegError as error:
                raise ImageError(f"{path}: {_why_not(path, error)}") from None
            except OSError as error:
                raise ImageError(f"{path}: {unreadable_reason(error)}") from error
            self.stream = _main_stream(self.container, path)
            self._base = float(self.stream.time_base or 0)
            self._first_packets: list[Any] = []
            first = self._first_frame()
            aspect = self.stream.sample_aspect_ratio
            self.look = look_of(first, aspect or self.stream.codec_context.sample_aspect_ratio)
            self.is_stamped = first.pts is not None and bool(self._base)
            self._begin = first.pts * self._base if self.is_stamped else 0.0
            self._closing = opened.pop_all()
        context = self.stream
        rate = context.average_rate or context.guessed_rate or context.codec_context.framerate
        self.rate = float(rate or _NOMINAL)
        length = self.container.duration
        self.stated = length / 1_000_000 if length else None
        if not self.is_stamped:
            self.notices.append(
                f"it has no time stamps; times are estimates from {self.rate:g} frames a second"
            )
            self.stated = None
        self.recorded: datetime | None = recorded(
            path, {**self.container.metadata, **self.stream.metadata}
        )

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def packets(self) -> Iterator[tuple[Any, float]]:
        """Packets of the stream with what is to be added to their time stamps, in seconds.

        Ends where the file does, or cannot be read any further. Can be gone through once.
        """
        for packet in chain(self._first_packets, self._demux()):
            if packet.pts is not None and packet.is_discard:
                continue
            yield packet, self._shifted(packet)
        self._first_packets = []

    def time_of(self, pts: int, shift: float) -> float:
        """Seconds from the first frame shown."""
        return pts * self._base - self._begin + shift

    def seek(self, time: float) -> None:
        """Go to the last key frame at or before this time, for :meth:`packets`."""
        self.container.seek(
            int((time + self._begin) / self._base), stream=self.stream, backward=True
        )
        self._first_packets, self._shown = [], 0.0

    def finish(self) -> None:
        """Say so where the file ends before its stated length."""
        missing = (self.stated or 0.0) - self.end
        if self.stated and missing > max(1.0, 0.01 * self.stated):
            self.notices.append(
                f"cut off: {self.end:.1f} s of {self.stated:.1f} s are there; these are indexed"
            )

    def _shifted(self, packet: Any) -> float:
        if packet.pts is None:
            return self._shift
        length = (packet.duration or 0) * self._base or 1 / self.rate
        shown = self.time_of(packet.pts, self._shift)
        if packet.is_keyframe and shown < self._shown - _EPSILON:
            # All that is shown before a key frame is stored before it: here a second recording
            # begins, and time goes on from the first one.
            self._shift += self.end - shown
            shown = self.end
        self._shown = max(self._shown, shown)
        self.end = max(self.end, shown + length)
        return self._shift

    def _demux(self) -> Iterator[Any]:
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # of a cut file some versions raise
                return
            if packet.size and not packet.is_corrupt:
                yield packet

    def _first_frame(self) -> Any:
        import av

        size = 0
        self.stream.codec_context.thread_count = 1
        for packet in self._demux():
            self._first_packets.append(packet)
            size += packet.size
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return frame
            if size > _MOST_BEFORE_A_PICTURE:
                break
        with contextlib.suppress(av.FFmpegError):
            for frame in self.stream.codec_context.decode(None):
                return frame
        codec = self.stream.codec_context.name
        raise ImageError(f"{self.path}: none of its frames could be decoded ({codec})")


def _main_stream(container: Any, path: str) -> Any:
    """The largest of the moving pictures."""
    import av

    cover = av.stream.Disposition.attached_pic
    if container.format.name.endswith("_pipe") or container.format.name in ("image2", "gif"):
        raise ImageError(f"{path}: an image, not a video")
    streams = [s for s in container.streams.video if not s.disposition & cover]
    streams = [s for s in streams if s.codec_context is not None]
    if streams:
        return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
    if container.streams.audio:
        raise ImageError(f"{path}: audio without video")
    raise ImageError(f"{path}: contains no video")


def _why_not(path: str, error: Exception) -> str:
    import av

    if isinstance(error, (av.FileNotFoundError, av.PermissionError)):
        return unreadable_reason(error)
    with contextlib.suppress(OSError, ValueError):
        boxes = set(_boxes(path))
        if b"ftyp" in boxes and b"moov" not in boxes:
            return "not finished or cut off: its index (moov) is missing"
    return "not a video, or damaged from its beginning"


def _boxes(path: str) -> Iterator[bytes]:
    """The kinds of the boxes at the top of an ISO media file (ISO 14496-12, 4.2)."""
    with open(path, "rb") as file:  # noqa: PTH123
        place, length = 0, os.fstat(file.fileno()).st_size
        while place + 8 <= length:
            file.seek(place)
            size = int.from_bytes(file.read(4), "big")
            yield file.read(4)
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            if size < 8:
                return
            place += size
