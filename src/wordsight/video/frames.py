"""One frame of a video, found again by its time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError
from wordsight.video.names import split_frame
from wordsight.video.opening import Video
from wordsight.video.pictures import picture_of

if TYPE_CHECKING:
    import PIL.Image

SEEKABLE = ("mov", "matroska", "avi", "webm")
"""Containers whose index tells where a time is. Elsewhere stamps may begin again."""
_EPSILON = 0.0006  # seconds: paths name thousandths
_JPEG_QUALITY = 92


def frame_at(path: str, side: int | None = None) -> PIL.Image.Image:
    """The picture at ``/abs/front.mp4::t=12.480``, upright, its short side at most ``side`` pixels.

    It is the first frame that is shown at or after that time, else the last. Raises ImageError.
    """
    from wordsight.video import is_available

    frame = split_frame(path)
    if frame is None:
        raise ImageError(f"{path}: not the path of a video frame")
    if not is_available():
        raise ImageError(f"{path}: videos need PyAV: pip install 'wordsight[video]'")
    file, time = frame
    try:
        with Video(file) as video:
            found = _find(video, time)
            if found is None:
                raise ImageError(f"{path}: the video no longer has a frame at this time")
            return picture_of(found, video.look, side)
    except ImageError as error:
        raise ImageError(str(error).replace(f"{file}: ", f"{path}: ", 1)) from error


def _find(video: Video, time: float) -> Any:
    kind = video.container.format.name.split(",")[0]
    if video.is_stamped and kind in SEEKABLE and time > 0:
        video.seek(time)
    latest = None
    for frame, now in shown(video, time):
        latest = frame
        if now >= time - _EPSILON:
            return frame
    return latest


def shown(video: Video, time: float) -> Iterator[tuple[Any, float]]:
    """Frames from the last key frame before ``time`` on, with their times."""
    import av

    context = video.stream.codec_context
    context.flush_buffers()
    group: list[tuple[Any, float]] = []
    number = 0

    def decoded(packet: Any, shift: float) -> Iterator[tuple[Any, float]]:
        nonlocal number
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            return
        for frame in frames:
            counted = frame.pts is None or not video.is_stamped
            yield frame, number / video.rate if counted else video.time_of(frame.pts, shift)
            number += 1

    shift, reached = 0.0, False
    for packet, shift in video.packets():
        begins = packet.is_keyframe and video.is_stamped and packet.pts is not None
        if not reached and begins:
            if video.time_of(packet.pts, shift) <= time + _EPSILON:
                group = []
            else:
                reached = True
        group.append((packet, shift))
        if reached or not video.is_stamped:
            for one in group:
                yield from decoded(*one)
            group = []
    for one in group:
        yield from decoded(*one)
    yield from decoded(None, shift)


def jpeg(image: PIL.Image.Image) -> bytes:
    """A picture as JPEG."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return data.getvalue()
