"""Small videos that tests make with PyAV, and the numbers burned into the frames of shared ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fakes import ANCHORS
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="needs the extra video (PyAV)")

SIZE = (96, 54)


def colour_frame(colour: str, number: int = 0, *, moves: bool = False) -> NDArray[np.uint8]:
    """A frame of one colour with a grey mark at a place of its own; ``moves``: a bar wanders."""
    pixels = np.full((SIZE[1], SIZE[0], 3), ANCHORS[colour], np.uint8)
    place = 14 * list(ANCHORS).index(colour)
    pixels[4:12, place : place + 10] = 128
    if moves:
        at = number * 7 % (SIZE[0] - 8)
        pixels[:, at : at + 8] = 128
    return pixels


def write_passing(path: Path, colour: str, *, begin: float = 8.0, rate: int = 5) -> Path:
    """Twenty seconds of a grey wall; from ``begin`` on a small square of a colour passes, 5 s long.

    At time t its left edge is at 10 + 12 (t - begin) pixels; it is 20 pixels wide and high, 16 from
    the top.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(20 * rate):
            pixels = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
            since = number / rate - begin
            if 0 <= since < 5:
                left = 10 + round(12 * since)
                pixels[16:36, left : left + 20] = ANCHORS[colour]
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_video(
    path: Path,
    scenes: Sequence[tuple[str, float]],
    *,
    rate: int = 10,
    codec: str = "libx264",
    gop: int = 20,
    moves: bool = False,
    **options: str,
) -> Path:
    """A video of scenes: (colour, seconds) each. ``options`` are the container's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={**options}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        if codec == "libx264":
            stream.options = {"sc_threshold": "0"}  # no key frames beside those
        number = 0
        for colour, seconds in scenes:
            for _ in range(round(seconds * rate)):
                frame = av.VideoFrame.from_ndarray(colour_frame(colour, number, moves=moves))
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path


def burned_number(picture: object) -> int | None:
    """The frame number in the squares at the bottom left (see the pack's README)."""
    grey = np.asarray(picture).mean(axis=2)
    height, width = grey.shape
    across, down = 12 * width / 640, 12 * height / 360
    row = int(height - down / 2)
    values = [grey[row, int((place + 0.5) * across)] for place in range(12)]
    if values[0] < 150 or values[1] > 110:
        return None
    middle = (values[0] + values[1]) / 2
    return sum(int(value > middle) << (9 - k) for k, value in enumerate(values[2:]))
