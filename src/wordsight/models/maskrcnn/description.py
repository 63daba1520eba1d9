"""What ``detector.json`` says of a Mask R-CNN.

Exports of Mask R-CNN differ in channel order, scaling, size, names and in what a mask is measured
against. All of that is said in ``detector.json``, never in code. Its fields, with their defaults::

    {
      "name": "my-detector",
      "image": {
        "channels": "RGB",              the order the graph wants, "RGB" or "BGR"
        "scale": 0.00392156862745098,   pixels 0..255 are multiplied by this first,
        "mean": [0, 0, 0],              then this is subtracted (in the graph's channel order),
        "std": [1, 1, 1],               then divided by this
        "short_side": null,             resized to this; null: left as it is (the graph resizes)
        "long_side": null,              but never longer than this; null: no limit
        "max_width": null,              nor wider or higher than these: a graph whose exporter
        "max_height": null,             wrote the size of its sample into it cuts boxes off there
        "multiple": 1,                  padded with zeros, right and below, to a multiple of this
        "batch_axis": false             true: the input is [1, 3, H, W], else [3, H, W]
      },
      "input": "image",
      "outputs": {"boxes": "boxes", "scores": "scores", "labels": "labels", "masks": "masks"},
      "labels": null,                   {"1": "person", ...}, ["background", "person", ...]
                                        (by label number), the name of a JSON file beside it with
                                        one of these, or null: the regions have no names
      "mask_frame": "box",              "box": a mask covers its box; "image": the whole input
      "licence": "", "source": ""
    }

``scale``, ``labels`` and ``masks`` of the outputs may be left out or null. Boxes are x0, y0, x1, y1
in pixels of the input image (as resized, before padding); masks are probabilities [N, 1, h, w].
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError

DESCRIPTION = "detector.json"

GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How pixels become the graph's input; the fields are those of ``detector.json``."""

    channels: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    short_side: int | None = None
    long_side: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    multiple: int = 1
    batch_axis: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """What ``detector.json`` says; see this module's docstring for the fields."""

    name: str
    image: ImageInput = ImageInput()
    input: str = "image"
    outputs: dict[str, str] = field(
        default_factory=lambda: {n: n for n in ("boxes", "scores", "labels", "masks")}
    )
    labels: dict[int, str] = field(default_factory=dict)
    mask_frame: str = "box"
    licence: str = ""
    source: str = ""


def read_description(folder: Path, data: dict[str, Any] | None = None) -> Description:
    """Read ``detector.json`` of a folder (or take ``data`` for its content) and check it.

    Raises ModelError, which names the field.
    """
    path = folder / DESCRIPTION
    if data is None:
        data = read_json(path)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: expected a JSON object with the fields of a detector")
    try:
        image = dict(data.get("image") or {})
        description = Description(
            name=str(data.get("name") or folder.name),
            image=ImageInput(
                channels=str(image.pop("channels", "RGB")).upper(),
                scale=float(image.pop("scale", 1 / 255)),
                mean=tuple(float(v) for v in image.pop("mean", (0, 0, 0))),
                std=tuple(float(v) for v in image.pop("std", (1, 1, 1))),
                short_side=_side(image.pop("short_side", None)),
                long_side=_side(image.pop("long_side", None)),
                max_width=_side(image.pop("max_width", None)),
                max_height=_side(image.pop("max_height", None)),
                multiple=int(image.pop("multiple", 1)),
                batch_axis=bool(image.pop("batch_axis", False)),
            ),
            input=str(data.get("input", "image")),
            outputs={k: str(v) for k, v in _outputs(data).items()},
            labels=_labels(data.get("labels"), folder),
            mask_frame=str(data.get("mask_frame", "box")),
            licence=str(data.get("licence", "")),
            source=str(data.get("source", "")),
        )
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: a field has the wrong type ({error}); correct it") from error
    if image:
        raise ModelError(f"{path}: unknown field image.{sorted(image)[0]}; remove or correct it")
    _check_description(description, path)
    return description


def read_json(path: Path) -> Any:
    """Read a JSON file of a detector. Raises ModelError, which names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); a detector is a directory with "
            f"{GRAPH} and {DESCRIPTION}"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}); correct it") from error


def _side(value: Any) -> int | None:
    return None if value is None else int(value)


def _outputs(data: dict[str, Any]) -> dict[str, Any]:
    outputs = dict(data.get("outputs") or {n: n for n in ("boxes", "scores", "labels", "masks")})
    return {what: name for what, name in outputs.items() if name is not None}


def _labels(labels: Any, folder: Path) -> dict[int, str]:
    if isinstance(labels, str):
        labels = read_json(folder / labels)
    if labels is None:
        return {}
    if isinstance(labels, list):
        return {i: str(name) for i, name in enumerate(labels)}
    return {int(number): str(name) for number, name in labels.items()}


def _check_description(description: Description, path: Path) -> None:
    image = description.image
    limits = (image.short_side, image.long_side, image.max_width, image.max_height)
    sides = [side for side in limits if side is not None]
    problems = [
        (image.channels not in ("RGB", "BGR"), 'image.channels must be "RGB" or "BGR"'),
        (len(image.mean) != 3 or len(image.std) != 3, "image.mean and image.std need 3 numbers"),
        (0 in image.std, "image.std must not be 0"),
        (
            not all(map(math.isfinite, (image.scale, *image.mean, *image.std))),
            "image.scale, image.mean and image.std must be finite",
        ),
        (any(side < 1 for side in sides), "the sides and limits of image must be positive"),
        (image.multiple < 1, "image.multiple must be 1 or more"),
        (description.mask_frame not in ("box", "image"), 'mask_frame must be "box" or "image"'),
        (
            not {"boxes", "scores"} <= description.outputs.keys(),
            'outputs must name at least "boxes" and "scores"',
        ),
        (
            not description.outputs.keys() <= {"boxes", "scores", "labels", "masks"},
            'outputs may only name "boxes", "scores", "labels" and "masks"',
        ),
    ]
    for wrong, message in problems:
        if wrong:
            raise ModelError(f"{path}: {message}")
