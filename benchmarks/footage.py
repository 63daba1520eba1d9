"""Footage of cameras, composed of pictures, with its truth: what shows up when.

A camera looks at a place that is drawn at random, with noise, and light that is switched. From time
to time a picture fills the frame for some seconds, or passes through it, 0.35 to 0.55 of its
height. Kinds, pictures, places and times all follow from a seed, so that any number of recordings
can be made that nothing was tuned on.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter

from wordsight.bank import with_article

SIZE = (480, 270)
RATE = 12
_FIFTH = 5  # the starter did not learn from every fifth picture of Caltech-101
_LIGHT, _LIGHT_SECONDS = 0.75, 9.0

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_AMBIGUOUS = {"airplanes", "car side", "faces", "faces easy", "motorbikes"}
"""Kinds of Caltech-101 that CIFAR-10 has too, or that more than one word names."""

Pictures = dict[str, list[bytes]]
"""Files of pictures by the kind of thing that they show."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A kind of thing in a recording, from ``start`` until ``end`` (seconds)."""

    label: str
    start: float
    end: float
    passes: bool


def load_pictures(data: Path, first: int = 500) -> Pictures:
    """CIFAR-10's test pictures from number ``first`` of each class on, and of Caltech-101 the fifth
    that the starter did not learn; ``data`` is the folder of the data packs.
    """
    found: Pictures = defaultdict(list)
    with tarfile.open(data / "cifar10/test.tar") as archive:
        for member in archive:
            _, label, name = member.name.split("/")
            if int(name.split(".")[0]) >= first:
                found[label].append(_read(archive, member))
    with tarfile.open(data / "caltech101/images.tar") as archive:
        for member in archive:
            label = member.name.split("/")[0]
            if zlib.crc32(member.name.encode()) % _FIFTH == 0 and label != "BACKGROUND_Google":
                found[label.replace("_", " ").lower()].append(_read(archive, member))
    return dict(found)


def write_truth(folder: Path, data: Path, seed: int, recordings: int = 6) -> dict[str, Any]:
    """Compose recordings in ``folder``; returns their truth, in the form of the pack's.

    In half of them things fill the frame, in the others they pass. The kinds are CIFAR-10's and 16
    more of Caltech-101's. What is in the folder already is taken as it is.
    """
    written = folder / "truth.json"
    if not written.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(seed)
        pictures = load_pictures(data)
        labels = [*CIFAR, *rng.sample(sorted(pictures.keys() - set(CIFAR) - _AMBIGUOUS), 16)]
        videos: list[dict[str, Any]] = []
        for number in range(recordings):
            passes = number >= recordings / 2
            order = rng.sample(labels, len(labels))
            file = f"camera-{number}.mp4"
            found = compose(folder / file, pictures, order, 1000 * seed + number, passes=passes)
            videos.append({"file": file, "moments": [_told(moment, file) for moment in found]})
        queries = [
            {
                "query": with_article(label),
                "moments": [m for v in videos for m in v["moments"] if m["label"] == label],
            }
            for label in labels
        ]
        written.write_text(json.dumps({"videos": videos, "queries": queries}))
    told: dict[str, Any] = json.loads(written.read_text())
    return told


def _told(moment: Moment, file: str) -> dict[str, Any]:
    kind = "passing" if moment.passes else "full"
    return {
        "file": file,
        "label": moment.label,
        "start": moment.start,
        "end": moment.end,
        "kind": kind,
    }


def compose(
    target: Path, pictures: Pictures, labels: Sequence[str], seed: int, *, passes: bool
) -> list[Moment]:
    """Write a recording in which each label shows up once, in the order given (H.264)."""
    import av

    rng = random.Random(seed)
    width, height = SIZE
    grain = np.random.default_rng(seed).normal(0, 4, (16, height, width, 1)).astype(np.float32)
    place = _place(rng)
    moments: list[Moment] = []
    with av.open(str(target), "w") as output:
        stream: Any = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4 * RATE
        stream.options = {"preset": "veryfast", "crf": "26"}
        number = 0

        def show(picture: PIL.Image.Image, light: float = 1.0) -> None:
            nonlocal number
            pixels = np.asarray(picture, np.float32) * light + grain[number % len(grain)]
            pixels = pixels.clip(0, 255).astype(np.uint8)
            frame: Any = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
            number += 1

        for label in labels:
            dark = rng.random() < 0.2
            for step in range(round(rng.uniform(8, 18) * RATE)):
                show(place, _LIGHT if dark and step < _LIGHT_SECONDS * RATE else 1.0)
            start = number / RATE
            thing = _opened(rng.choice(pictures[label]))
            length = round(rng.uniform(4, 10) * RATE)
            through = _passing(place, thing, length, rng) if passes else [_filling(thing)] * length
            for picture in through:
                show(picture)
            moments.append(Moment(label, start, number / RATE, passes))
        for _ in range(10 * RATE):
            show(place)
        output.mux(stream.encode(None))
    return moments


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _opened(file: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(file)).convert("RGB")


def _place(rng: random.Random) -> PIL.Image.Image:
    """A wall and a floor with some furniture."""
    width, height = SIZE
    picture = PIL.Image.new("RGB", SIZE, _colour(rng))
    draw = PIL.ImageDraw.Draw(picture)
    horizon = round(height * rng.uniform(0.35, 0.6))
    draw.rectangle((0, horizon, width, height), fill=_colour(rng))
    for _ in range(rng.randint(4, 9)):
        x, y = rng.randint(0, width - 40), rng.randint(0, horizon)
        box = (x, y, x + rng.randint(15, 90), y + rng.randint(15, 80))
        draw.rectangle(box, fill=_colour(rng), outline=_colour(rng))
    for _ in range(rng.randint(3, 8)):
        ends = (rng.randint(0, width), horizon, rng.randint(0, width), height)
        draw.line(ends, fill=_colour(rng), width=2)
    return picture.filter(PIL.ImageFilter.GaussianBlur(0.7))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = (rng.randint(40, 200) for _ in range(3))
    return red, green, blue


def _filling(thing: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as high as the frame, on a blurred one of itself."""
    width, height = SIZE
    behind = thing.resize(SIZE).filter(PIL.ImageFilter.GaussianBlur(12))
    scale = min(height / thing.height, width / thing.width)
    front = thing.resize((round(thing.width * scale), round(thing.height * scale)))
    behind.paste(front, ((width - front.width) // 2, (height - front.height) // 2))
    return behind


def _passing(
    place: PIL.Image.Image, thing: PIL.Image.Image, length: int, rng: random.Random
) -> list[PIL.Image.Image]:
    """Frames in which the picture crosses the place from one side to the other."""
    width, height = SIZE
    side = round(height * rng.uniform(0.35, 0.55))
    scale = side / max(thing.height, thing.width / 2)
    small = thing.resize((max(1, round(thing.width * scale)), max(1, round(thing.height * scale))))
    top = rng.randint(height // 4, max(height // 4 + 1, height - small.height))
    steps = np.linspace(-small.width, width, length + 2)[1:-1]
    frames = []
    for left in steps if rng.random() < 0.5 else steps[::-1]:
        frame = place.copy()
        frame.paste(small, (round(left), top))
        frames.append(frame)
    return frames
