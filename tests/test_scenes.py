"""Scenes: reproducible, and their truth is what was drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from wordsight.scenes import SIDE, write_scenes
from wordsight.sources import Item


def items() -> list[Item]:
    """Plain squares: the class is the colour."""
    import io

    found = []
    for number, (label, colour) in enumerate({"red": (200, 0, 0), "blue": (0, 0, 200)}.items()):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "PNG")
        data = file.getvalue()
        found.append(
            Item(f"{number:016x}", label, len(data), 0, label, "", lambda _i, d=data: d)  # type: ignore[misc]
        )
    return found


def test_boxes_are_where_the_images_are(tmp_path: Path) -> None:
    truth = json.loads(write_scenes(tmp_path, items(), 12, seed=1).read_text())
    names = {c["id"]: c["name"] for c in truth["categories"]}
    colours = {"red": (200, 0, 0), "blue": (0, 0, 200)}
    assert len(truth["images"]) == 12
    assert truth["annotations"]
    for note in truth["annotations"]:
        picture = Image.open(tmp_path / truth["images"][note["image_id"]]["file_name"])
        assert picture.size == (SIDE, SIDE)
        x, y, w, h = note["bbox"]
        assert 32 <= w == h <= 64
        inside = np.asarray(picture)[y : y + h, x : x + w].reshape(-1, 3)
        assert (inside == colours[names[note["category_id"]]]).all()


def test_classes_of_a_scene_differ_and_the_seed_decides(tmp_path: Path) -> None:
    first = write_scenes(tmp_path / "a", items(), 6, seed=2).read_text()
    assert write_scenes(tmp_path / "b", items(), 6, seed=2).read_text() == first
    assert write_scenes(tmp_path / "c", items(), 6, seed=3).read_text() != first
    pairs = [(a["image_id"], a["category_id"]) for a in json.loads(first)["annotations"]]
    assert len(pairs) == len(set(pairs))
