"""Cutting a stretch out of a video: the streams copied, or encoded again."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

from wordsight.errors import WordsightError, reason
from wordsight.video.frames import SEEKABLE, shown
from wordsight.video.opening import Video
from wordsight.video.pictures import picture_of

_EPSILON = 0.0005  # seconds
_EARLY = 4  # frames: decoders of H.264 and HEVC that cameras feed hold back no more
_RATE = 90_000  # ticks a second (ISO 13818-1), enough to tell all frames apart


Span = tuple[float, float]
"""Start and end, in seconds from the first frame of the source."""


def cut(source: str, target: str, start: float, end: float, *, exact: bool = False) -> Span:
    """Write what ``source`` shows from ``start`` to ``end`` (seconds) to ``target``.

    The container is told by the target's suffix. The streams are copied, so it begins with the last
    key frame at or before ``start``; with ``exact`` the picture is encoded again (H.264), without
    sound. Returns where it begins and ends, as far as the video goes. Raises ImageError for what is
    no video, WordsightError where the target cannot be written, is there already, or no frame lies
    in the stretch.
    """
    import av

    if os.path.exists(target):  # noqa: PTH110
        raise WordsightError(f"{target} already exists; choose another name.")
    try:
        with Video(source) as video, av.open(target, "w") as output:
            write = _encoded if exact else _copied
            written = write(video, output, start, end)
    except (av.FFmpegError, OSError, ValueError) as error:
        _forget(target)
        why = reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise WordsightError(f"cannot write {target}: {why}.") from None
    except WordsightError:
        _forget(target)
        raise
    if written is None:
        _forget(target)
        raise WordsightError(f"{source} shows nothing from {start:g} s to {end:g} s.")
    return written


def _forget(target: str) -> None:
    if os.path.exists(target):  # noqa: PTH110
        os.unlink(target)  # noqa: PTH108


def _copied(video: Video, output: Any, start: float, end: float) -> Span | None:
    """Copy packets of the picture and of the first sound."""
    stream = video.stream
    sound = next(iter(video.container.streams.audio), None)
    chosen = [each for each in (stream, sound) if each]
    streams = {each.index: output.add_stream_from_template(each) for each in chosen}
    zero = video.time_of(0, 0.0)  # what a time stamp of zero is, in seconds from the first frame
    kind = video.container.format.name.split(",")[0]
    stamp = (start if kind in SEEKABLE else 0.0) - zero
    video.container.seek(int(stamp / float(stream.time_base)), stream=stream, backward=True)
    first: float | None = None
    reached = False  # the start lies in the video
    latest = 0.0
    held: list[Any] = []  # from the last key frame before the start on
    for packet in video.container.demux(chosen):
        if packet.pts is None:
            continue
        if packet.dts is None:  # after a seek, of the first ones: sooner than those that follow
            packet.dts = packet.pts - _EARLY * (packet.duration or 1)
        time = float(packet.pts * packet.time_base) + zero
        is_picture = packet.stream.index == stream.index
        lasts = max(float((packet.duration or 0) * packet.time_base), 1 / video.rate)
        reached = reached or (is_picture and time + lasts > start)
        if is_picture and packet.is_keyframe and (first is None or time <= start + _EPSILON):
            first, held = time, []
        if first is None or time < first - _EPSILON:
            continue
        if is_picture and float(packet.dts * packet.time_base) + zero >= end:
            break
        if time < end:
            held.append(packet)
            latest = max(latest, time + lasts) if is_picture else latest
        if time > start + _EPSILON and held:
            _mux(output, streams, held, first - zero)
            held = []
    if first is None or first >= end or not reached:
        return None
    _mux(output, streams, held, first - zero)
    return first, min(latest, end)


def _mux(output: Any, streams: Any, packets: list[Any], begin: float) -> None:
    for packet in packets:
        shift = round(begin / float(packet.time_base))
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = streams[packet.stream.index]
        output.mux(packet)


def _encoded(video: Video, output: Any, start: float, end: float) -> Span | None:
    import av
    import numpy as np

    stream: Any = None
    first: float | None = None
    latest = 0.0
    for frame, time in shown(video, start):
        if time < start - _EPSILON:
            continue
        if time >= end:
            break
        picture = picture_of(frame, video.look)
        # Sizes of H.264 are even.
        picture = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))
        if first is None:
            first = time
            stream = output.add_stream("libx264", rate=Fraction(video.rate).limit_denominator(1001))
            stream.width, stream.height = picture.size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, _RATE)
        made: Any = av.VideoFrame.from_ndarray(np.asarray(picture))
        made.pts, made.time_base = round((time - first) * _RATE), Fraction(1, _RATE)
        output.mux(stream.encode(made))
        latest = time + 1 / video.rate
    if first is None:
        return None
    output.mux(stream.encode(None))
    return first, min(latest, end)
