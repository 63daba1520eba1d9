"""The pictures: read, cut and resized once, kept as 32 x 32 arrays."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .concepts import COCO, caltech_concept

SIZE = 32
Pixels = NDArray[np.uint8]


def prepare(picture: Image.Image, size: int = SIZE) -> Pixels:
    """Short side to ``size`` (bicubic, integer truncation), then the middle square."""
    width, height = picture.size
    if (width, height) != (size, size):
        short = min(width, height)
        new = (int(size * width / short), int(size * height / short))
        picture = picture.convert("RGB").resize(new, Image.Resampling.BICUBIC)
        left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture.convert("RGB"))


def _members(path: Path) -> Iterator[tuple[str, Image.Image]]:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                yield member.name, Image.open(io.BytesIO(file.read()))


@dataclass
class Pictures:
    """Pictures with the name of what they show; ``parent`` is a wider concept, or empty."""

    pixels: Pixels
    concept: list[str]
    parent: list[str]

    def __getitem__(self, some: slice) -> Pictures:
        return Pictures(self.pixels[some], self.concept[some], self.parent[some])

    @classmethod
    def stack(cls, rows: list[tuple[Pixels, str, str]]) -> Pictures:
        """Many pictures together."""
        return cls(np.stack([r[0] for r in rows]), [r[1] for r in rows], [r[2] for r in rows])


def cifar(data: Path, train: bool) -> Pictures:
    """CIFAR-10: the five training shards, or the test shard."""
    names = [f"train-{k}.tar" for k in range(5)] if train else ["test.tar"]
    return Pictures.stack(
        [
            (prepare(picture), name.split("/")[1], "")
            for tar in names
            for name, picture in _members(data / "cifar10" / tar)
        ]
    )


def caltech(data: Path, train: bool) -> Pictures:
    """Our own split of Caltech-101: one in five is held out, by a hash of its name."""
    rows: list[tuple[Pixels, str, str]] = []
    for name, picture in _members(data / "caltech101" / "images.tar"):
        folder, file = name.split("/")
        concept, parent = caltech_concept(folder)
        # The two folders of faces hold the same photographs: keep them on one side.
        key = f"{folder.replace('_easy', '')}/{file}"
        if concept and (zlib.crc32(key.encode()) % 5 != 0) == train:
            rows.append((prepare(picture), concept, parent))
    return Pictures.stack(rows)


@dataclass
class Captioned:
    """Whole COCO photographs with their captions."""

    pixels: Pixels
    captions: list[list[str]]


def _coco_split(train: bool) -> str:
    return "train2017" if train else "val2017"


def coco_captions(data: Path, train: bool) -> Captioned:
    """COCO photographs of one split with all their captions."""
    folder = data / "coco-captions"
    record = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    texts: dict[int, list[str]] = defaultdict(list)
    for note in record["annotations"]:
        texts[note["image_id"]].append(" ".join(note["caption"].split()))
    ids = {i["file_name"]: i["id"] for i in record["images"]
           if i["coco_split"] == _coco_split(train)}  # fmt: skip
    found = [
        (prepare(picture), texts[ids[name]])
        for name, picture in _members(folder / "images.tar")
        if name in ids
    ]
    return Captioned(np.stack([p for p, _ in found]), [c for _, c in found])


def coco_objects(data: Path, train: bool, smallest: int = 20) -> Pictures:
    """Objects cut out of the COCO photographs: tight, and with what is around them."""
    folder = data / "coco-captions"
    record = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    wanted = {i["id"] for i in captions["images"] if i["coco_split"] == _coco_split(train)}
    names = {c["id"]: c["name"] for c in record["categories"]}
    boxes: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
    files = {i["id"]: i["file_name"] for i in captions["images"]}
    for note in record["annotations"]:
        crowd = note.get("iscrowd", 0)
        if note["image_id"] in wanted and not crowd and min(note["bbox"][2:]) >= smallest:
            boxes[files[note["image_id"]]].append((names[note["category_id"]], note["bbox"]))
    rows: list[tuple[Pixels, str, str]] = []
    for file, picture in _members(folder / "images.tar"):
        for name, (x, y, w, h) in boxes.get(file, []):
            side = max(w, h) * 1.15
            middle_x, middle_y = x + w / 2, y + h / 2
            square = (middle_x - side / 2, middle_y - side / 2,
                      middle_x + side / 2, middle_y + side / 2)  # fmt: skip
            for left, top, right, bottom in ((x, y, x + w, y + h), square):
                area = (
                    max(0, int(left)), max(0, int(top)),
                    min(picture.width, int(right)), min(picture.height, int(bottom)),
                )  # fmt: skip
                rows.append((prepare(picture.crop(area)), COCO.get(name, name), ""))
    return Pictures.stack(rows)
