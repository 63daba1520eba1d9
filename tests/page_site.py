"""Pictures for the tests of the page: plain colours, as cameras took them, in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import ANCHORS
from PIL import Image

SIZES = [(480, 360), (360, 480), (640, 360), (500, 500)]


def paint(colour: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A noisy picture of a colour."""
    noise = np.random.default_rng(seed).integers(-15, 15, (12, 16, 3))
    pixels = (np.array(ANCHORS[colour]) + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size)


def write_pictures(folder: Path, each: int = 60) -> None:
    """So many pictures of each of four colours in folders of their names, as two cameras do."""
    for colour in ("red", "green", "blue", "yellow"):
        (folder / colour).mkdir(parents=True)
        for n in range(each):
            exif = Image.Exif()
            exif[0x0110] = f"Camera {'One' if n % 2 else 'Two'}"
            exif.get_ifd(0x8769)[0x9003] = f"{2022 + n % 3}:0{1 + n % 9}:01 12:00:00"
            if n == 0:
                place = {1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (11.0, 3.0, 0.0)}
                exif.get_ifd(0x8825).update(place)
            paint(colour, SIZES[n % 4], n).save(folder / colour / f"{n:02}.jpg", exif=exif)
