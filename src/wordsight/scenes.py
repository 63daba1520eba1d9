"""Scenes with small objects whose truth is known: CIFAR-10 images on larger backgrounds.

A scene is a 320 x 320 picture (flat, a gradient, or clouds, drawn here) with 1 to 9 images of
different classes at random places, enlarged to 32 to 64 pixels, none over another. The demo and
``benchmarks/scenes.py`` measure on them what crops are good for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wordsight.images import open_image

if TYPE_CHECKING:
    from wordsight.sources import Item

SIDE = 320
_Pool = dict[str, list["Item"]]


def _background(rng: np.random.Generator) -> Image.Image:
    """A picture without objects: one colour, a gradient, or clouds."""
    cells = int(rng.choice([1, 2, 4, 8, 16]))
    small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def scene(rng: np.random.Generator, pool: _Pool) -> tuple[Image.Image, list[tuple[str, list[int]]]]:
    """A picture, and (label, [x, y, width, height]) of what was pasted into it."""
    canvas = _background(rng)
    placed: list[tuple[str, list[int]]] = []
    most = min(9, len(pool))
    for label in rng.permutation(sorted(pool))[: int(rng.integers(1, most + 1))]:
        side = int(rng.integers(32, 65))
        for _ in range(50):
            x, y = (int(v) for v in rng.integers(0, SIDE - side + 1, 2))
            if all(_apart((x, y, side), box) for _, box in placed):
                break
        else:
            continue
        items = pool[str(label)]
        sprite = open_image(items[int(rng.integers(len(items)))].read())
        canvas.paste(sprite.resize((side, side), Image.Resampling.BICUBIC), (x, y))
        placed.append((str(label), [x, y, side, side]))
    return canvas, placed


def _apart(square: tuple[int, int, int], box: list[int]) -> bool:
    x, y, side = square
    least = max(side, box[2])
    return abs(x - box[0]) >= least or abs(y - box[1]) >= least


def write_scenes(folder: Path, items: Sequence[Item], count: int, *, seed: int = 0) -> Path:
    """Write ``count`` scenes of labelled images as PNG files, and a COCO instances file.

    Returns the path of the latter; the same seed and images give the same scenes.
    """
    pool: _Pool = {}
    for item in items:
        if item.label:
            pool.setdefault(item.label, []).append(item)
    names = sorted(pool)
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture, placed = scene(rng, pool)
        name = f"scene-{number:05d}.png"
        picture.save(folder / name)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for label, box in placed:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": names.index(label),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    target = folder / "instances.json"
    target.write_text(json.dumps(truth), encoding="utf-8")
    return target
