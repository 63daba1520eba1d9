"""The pictures that the starter Mask R-CNN learns from, and those that it must never see.

- the COCO pack: its train2017 photographs with their annotated boxes, and the val2017 photographs
  without annotations. The annotated val2017 photographs are what recall is reported on
  (benchmarks/proposal_recall.py): they, and any picture that looks like one of them, are left out.
- folders of further photographs, without annotations (`--photographs`);
- Caltech-101, for mosaics.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

LONG_SIDE = 512
ALIKE = 8  # of 64 bits: hashes that differ by no more are of one picture
DEV_EVERY = 3  # every third annotated train2017 photograph is kept for choices and calibration


@dataclass
class Picture:
    """A picture as JPEG, and what is known of it."""

    name: str
    kind: str
    """"photo" or "object"."""
    data: bytes
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """COCO's place (0 to 79) of each box."""
    annotated: bool = False
    dev: bool = False
    """Never trained on: for choices and calibration."""


def open_picture(data: bytes) -> Image.Image:
    """The picture as RGB."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def look(image: Image.Image) -> np.ndarray:
    """64 bits that a resized or recompressed copy shares: is a pixel brighter than its left one?"""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()


def members(path: Path) -> dict[str, bytes]:
    """The files of a tar archive."""
    with tarfile.open(path, "r:") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def coco(data: Path) -> tuple[list[Picture], list[Picture]]:
    """The pack's photographs to learn from, and those that are judged with."""
    pack = data / "coco-captions"
    instances = json.loads((pack / "instances.json").read_text(encoding="utf-8"))
    place = {c["id"]: i for i, c in enumerate(sorted(instances["categories"], key=_by_id))}
    boxes, labels = defaultdict(list), defaultdict(list)
    for a in instances["annotations"]:
        if not a["iscrowd"]:
            x, y, w, h = a["bbox"]
            boxes[a["image_id"]].append((x, y, x + w, y + h))
            labels[a["image_id"]].append(place[a["category_id"]])
    annotated = {i["id"] for i in instances["images"]}
    captions = json.loads((pack / "captions.json").read_text(encoding="utf-8"))
    files = members(pack / "images.tar")
    learn, judge = [], []
    for i in sorted(captions["images"], key=_by_id):
        known = i["id"] in annotated
        picture = Picture(
            i["file_name"], "photo", files[i["file_name"]], boxes[i["id"]], labels[i["id"]], known
        )
        (judge if known and i["coco_split"] == "val2017" else learn).append(picture)
    for picture in [p for p in learn if p.annotated][::DEV_EVERY]:
        picture.dev = True
    return learn, judge


def category_names(data: Path) -> list[str]:
    """COCO's 80 names, in the order of their numbers."""
    pack = data / "coco-captions" / "instances.json"
    categories = json.loads(pack.read_text(encoding="utf-8"))["categories"]
    return [c["name"] for c in sorted(categories, key=_by_id)]


def _by_id(row: dict) -> int:
    return row["id"]


def further(folders: list[Path]) -> list[Picture]:
    """All JPEGs below the folders, at most 512 pixels long."""
    found = []
    for path in sorted(p for folder in folders for p in folder.rglob("*.jpg")):
        image = open_picture(path.read_bytes())
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        found.append(Picture(path.name, "photo", buffer.getvalue()))
    return found


def caltech(data: Path, count: int) -> list[Picture]:
    """Some objects of Caltech-101, spread over its classes."""
    files = members(data / "caltech101" / "images.tar")
    names = [n for n in sorted(files) if "BACKGROUND" not in n and "Faces_easy" not in n]
    every = max(1, len(names) // max(1, count))
    return [Picture(n, "object", files[n]) for n in names[::every][:count]]


def gather(data: Path, folders: list[Path], objects: int) -> list[Picture]:
    """All pictures to learn from: none twice, none that is judged with or kept for choices."""
    learn, judge = coco(data)
    learn += further(folders)
    looks = [look(open_picture(p.data)) for p in judge]
    kept = []
    for picture in sorted(learn, key=lambda p: (not p.dev, not p.annotated)):
        own = look(open_picture(picture.data))
        if all(np.count_nonzero(own != other) > ALIKE for other in looks):
            looks.append(own)
            kept.append(picture)
    return kept + caltech(data, objects)
