"""COCO annotations: which captions and objects an image has, for evaluation.

The format: https://cocodataset.org/#format-data ("captions" and "object detection"). The fields
``coco_split`` and ``original_width`` of some subsets are optional additions to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason


@dataclass(frozen=True, slots=True)
class CocoObject:
    """An annotated object: its category and where it is.

    ``box`` is x0, y0, x1, y1 in pixels of the image; ``area_fraction`` is the area of the object's
    outline (of the box where there is none) as a part of the image, from 0 to 1; ``crowd`` marks
    a group that is annotated as one.
    """

    category: str
    box: tuple[float, float, float, float]
    area_fraction: float
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image with what is known of it.

    ``objects`` is None where nothing is known (the image may hold anything) and empty where it
    was looked at and none of the categories was found. ``split`` is "train2017", "val2017" or
    None.
    """

    id: int
    file_name: str
    width: int
    height: int
    split: str | None = None
    captions: tuple[str, ...] = ()
    objects: tuple[CocoObject, ...] | None = None


def read_coco(
    captions: str | Path | None = None, instances: str | Path | None = None
) -> list[CocoImage]:
    """Read a captions file, an instances file, or both for the same images; sorted by image id.

    An image's ``file_name`` is how its path ends in the folder or archive of the images. Raises
    SourceError for a file that is missing, unreadable or not of this format.
    """
    if captions is None and instances is None:
        raise SourceError("no COCO file given; name a captions file, an instances file or both")
    records: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[str]] = {}
    objects: dict[int, list[CocoObject]] = {}
    if captions is not None:
        with _reading(captions) as data:
            _add_images(records, data)
            for annotation in data["annotations"]:
                text = " ".join(str(annotation["caption"]).split())
                texts.setdefault(_known(annotation["image_id"], records), []).append(text)
    if instances is not None:
        with _reading(instances) as data:
            _add_images(records, data)
            names = {category["id"]: str(category["name"]) for category in data["categories"]}
            objects = {image["id"]: [] for image in data["images"]}
            for annotation in data["annotations"]:
                record = records[_known(annotation["image_id"], objects)]
                objects[record["id"]].append(_object(annotation, names, record))
    return [
        CocoImage(
            id=number,
            file_name=str(record["file_name"]),
            width=int(record["width"]),
            height=int(record["height"]),
            split=record.get("coco_split"),
            captions=tuple(texts.get(number, ())),
            objects=tuple(objects[number]) if number in objects else None,
        )
        for number, record in sorted(records.items())
    ]


@contextmanager
def _reading(file: str | Path) -> Iterator[dict[str, Any]]:
    """Open a JSON file; make one clear error of all that can be wrong with it."""
    try:
        yield json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{file}: {unreadable_reason(error)}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SourceError(
            f"{file}: not a COCO captions or instances file ({type(error).__name__}: {error})"
        ) from error


def _add_images(records: dict[int, dict[str, Any]], data: dict[str, Any]) -> None:
    for image in data["images"]:
        if not (image["file_name"] and image["width"] > 0 and image["height"] > 0):
            raise ValueError(f"image {image['id']} has no name or no size")
        records.setdefault(image["id"], image)


def _known(image_id: int, images: dict[int, Any]) -> int:
    if image_id not in images:
        raise ValueError(f"an annotation of image {image_id}, which is not listed")
    return image_id


def _object(
    annotation: dict[str, Any], names: dict[int, str], record: dict[str, Any]
) -> CocoObject:
    x, y, width, height = (float(value) for value in annotation["bbox"])
    area = float(annotation.get("area", width * height))
    return CocoObject(
        category=names[annotation["category_id"]],
        box=(x, y, x + width, y + height),
        area_fraction=area / (record["width"] * record["height"]),
        crowd=bool(annotation.get("iscrowd", 0)),
    )
