"""Paths of frames: ``/abs/front.mp4::t=12.480`` is what a video shows 12.480 s after it begins."""

from __future__ import annotations

import re

_FRAME = re.compile(r"(?P<video>.+)::t=(?P<time>\d+\.\d{3})", re.DOTALL)


def frame_path(video: str, time: float) -> str:
    """The path of the frame that is shown ``time`` seconds after the first one."""
    return f"{video}::t={time:.3f}"


def split_frame(path: str) -> tuple[str, float] | None:
    """The video and the time in seconds that the path of a frame names; None for other paths."""
    if "::t=" not in path:
        return None
    found = _FRAME.fullmatch(path)
    return (found["video"], float(found["time"])) if found else None


def file_of(path: str) -> str:
    """The file that holds an image: that of its video for a frame, else the path itself."""
    frame = split_frame(path)
    return frame[0] if frame else path
