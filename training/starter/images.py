"""The pictures of training: where they are, what they show, and reading them at one size."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .concepts import CIFAR, COCO, caltech_concept

Pixels = NDArray[np.uint8]


def prepare(picture: Image.Image, size: int) -> Pixels:
    """Short side to ``size`` (bicubic, integer truncation), then the middle square."""
    width, height = picture.size
    if (width, height) != (size, size):
        short = min(width, height)
        new = (int(size * width / short), int(size * height / short))
        picture = picture.convert("RGB").resize(new, Image.Resampling.BICUBIC)
        left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture.convert("RGB"))


def squash(picture: Image.Image, size: int) -> Pixels:
    """The whole picture as a square, its proportions lost."""
    small = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(small)


@dataclass(frozen=True)
class Picture:
    """The bytes of a picture, and what it shows: a concept and a wider one, either may be ""."""

    data: bytes
    concept: str = ""
    parent: str = ""

    def open(self) -> Image.Image:
        """The picture, in colour."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                yield member.name, file.read()


def cifar(data: Path, train: bool) -> list[Picture]:
    """CIFAR-10: the five training shards, or the test shard; the ten classes take turns."""
    names = [f"train-{k}.tar" for k in range(5)] if train else ["test.tar"]
    return [
        Picture(content, name.split("/")[1])
        for tar in names
        for name, content in _members(data / "cifar10" / tar)
    ]


def caltech(data: Path, train: bool) -> list[Picture]:
    """Our own split of Caltech-101: one in five is held out, by a hash of its name."""
    found: list[Picture] = []
    for name, content in _members(data / "caltech101" / "images.tar"):
        folder, file = name.split("/")
        concept, parent = caltech_concept(folder)
        # The two folders of faces hold the same photographs: keep them on one side.
        key = f"{folder.replace('_easy', '')}/{file}"
        if concept and (zlib.crc32(key.encode()) % 5 != 0) == train:
            found.append(Picture(content, concept, parent))
    return found


@dataclass(frozen=True)
class Photograph:
    """A photograph: its file name, its captions, and the names of what COCO marked in it.

    ``objects`` is None where COCO's objects are not known.
    """

    name: str
    captions: list[str] = field(hash=False)
    objects: frozenset[str] | None = None


@lru_cache(maxsize=1)
def coco_records(data: Path) -> tuple[Photograph, ...]:
    """What is known of the COCO photographs, in the order of their file names."""
    folder = data / "coco-captions"
    record = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    marked = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    texts: dict[int, list[str]] = defaultdict(list)
    for note in record["annotations"]:
        texts[note["image_id"]].append(" ".join(note["caption"].split()))
    names = {c["id"]: c["name"] for c in marked["categories"]}
    objects: dict[int, set[str]] = {i["id"]: set() for i in marked["images"]}
    for note in marked["annotations"]:
        objects[note["image_id"]].add(names[note["category_id"]])
    return tuple(
        Photograph(
            i["file_name"],
            texts[i["id"]],
            frozenset(objects[i["id"]]) if i["id"] in objects else None,
        )
        for i in sorted(record["images"], key=lambda i: str(i["file_name"]))
    )


def coco(data: Path) -> list[Picture]:
    """The COCO photographs, in the order of :func:`coco_records`."""
    contents = dict(_members(data / "coco-captions" / "images.tar"))
    return [Picture(contents[record.name]) for record in coco_records(data)]


def captioned(folder: Path) -> tuple[list[Photograph], list[Picture]]:
    """Photographs of a folder: JPEGs, and ``captions.json``, a list of captions by file name."""
    texts = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    records = [Photograph(name, texts[name]) for name in sorted(texts)]
    return records, [Picture((folder / record.name).read_bytes()) for record in records]


def photographs(data: Path, further: Sequence[Path]) -> tuple[list[Photograph], list[Picture]]:
    """The COCO photographs, then those of further folders: what is known of each, and its bytes."""
    records, pictures = list(coco_records(data)), coco(data)
    for folder in further:
        more, shown = captioned(folder)
        records += more
        pictures += shown
    return records, pictures


def concept_names(data: Path) -> list[str]:
    """Every concept that a labelled picture or a marked object shows."""
    folders = {name.split("/")[0] for name, _ in _members(data / "caltech101" / "images.tar")}
    caltech_names = {caltech_concept(folder)[0] for folder in folders} - {""}
    marked = {o for record in coco_records(data) for o in record.objects or ()}
    return sorted({*CIFAR, *caltech_names, *(COCO.get(o, o) for o in marked)})
