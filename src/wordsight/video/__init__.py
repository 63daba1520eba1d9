"""Reading videos: samples by time stamp, single frames, still frames, clocks.

The only component that imports PyAV (the extra ``video``), and where it is used: without it
:func:`is_available` says so, and videos are counted unread.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from wordsight.video.names import file_of, frame_path, split_frame

__all__ = ["file_of", "frame_path", "is_available", "looks_like_video", "read_frame", "split_frame"]


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether videos can be read here: the package PyAV is installed."""
    return find_spec("av") is not None


def looks_like_video(header: bytes) -> bool:
    """Whether the first bytes of a file (12 at least) are those of a container of videos."""
    return (
        header[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")
        or header.startswith((b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1"))
        or (header.startswith(b"RIFF") and header[8:12] == b"AVI ")
        or (header[:1] == b"G" and header[188:189] in (b"G", b""))  # packets of a transport stream
    )


def read_frame(path: str) -> bytes:
    """The frame at ``/abs/front.mp4::t=12.480`` as a JPEG of its full size, upright.

    Raises ImageError ("<path>: <reason>"). Thread-safe.
    """
    from wordsight.video.frames import frame_at, jpeg

    return jpeg(frame_at(path))
