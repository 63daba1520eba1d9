"""Mask R-CNN detectors: a directory with ``model.onnx`` and ``detector.json``.

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

Method: He et al., "Mask R-CNN", ICCV 2017.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.paths import expanded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    from wordsight.runtime.graph import Graph

    Array = npt.NDArray[np.float32]

DESCRIPTION = "detector.json"
GRAPH = "model.onnx"
STARTER = "starter-maskrcnn"
PREFERRED = "maskrcnn-r50-fpn"

# An image more than this many times as long as wide is padded to this ratio: a graph that resizes
# the short side itself would blow up the long side without bound.
MAX_ASPECT = 8

# A mask in the image frame is kept at no more than this many pixels a side of its box.
MASK_SIDE = 56


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


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found in one image, best first."""

    boxes: Array
    """float32 [N, 4]: x0, y0, x1, y1 in pixels of the image, inside it."""
    scores: Array
    """float32 [N]."""
    labels: list[str | None]
    """The name of each, or None where the detector has no names."""
    masks: list[Array] | None
    """Per box a float32 [h, w] of probabilities that covers the box; None without a mask head."""

    def __len__(self) -> int:
        return len(self.scores)


class Detector:
    """A Mask R-CNN, ready to run; :func:`load_detector` makes one.

    Calls are thread-safe. Runs in fp32 on either runtime: bf16 moves scores by up to 0.15.
    """

    def __init__(self, description: Description, graph: Graph, path: Path) -> None:
        _check_signature(description, graph, path)
        self.description = description
        self.path = path
        self._graph = graph

    @property
    def name(self) -> str:
        """The name in the description."""
        return self.description.name

    @property
    def runtime(self) -> str:
        """The runtime of the graph, "openvino" or "onnxruntime"."""
        return self._graph.runtime

    def __call__(self, image: PIL.Image.Image | npt.NDArray[Any]) -> Detections:
        """Detect the objects in one image (upright, of any mode and size).

        Raises ModelError when the graph fails on the image or gives outputs that do not fit each
        other, ImageError for an array that is not an image.
        """
        import numpy as np

        from wordsight.images import to_rgb

        picture = to_rgb(image)
        pixels, (x_ratio, y_ratio) = prepare(picture, self.description.image)
        if self.description.image.batch_axis:
            pixels = pixels[None]
        try:
            found = self._graph({self.description.input: pixels})
        except ModelError:
            raise
        except Exception as error:  # each runtime raises kinds of its own
            text = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{self._graph.path}: the graph failed on an image of {picture.width} x "
                f"{picture.height} pixels ({text}); does {DESCRIPTION} describe this graph?"
            ) from error

        out = {what: np.asarray(found[name]) for what, name in self.description.outputs.items()}
        if self.description.image.batch_axis and out["boxes"].ndim == 3:
            out = {what: array[0] for what, array in out.items()}
        self._check_outputs(out)

        boxes = out["boxes"].astype(np.float32)
        scores = out["scores"].astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        masks = None
        if "masks" in out:
            planes = out["masks"].astype(np.float32, copy=False)
            planes = planes[:, 0] if planes.ndim == 4 else planes
            if self.description.mask_frame == "image":
                masks = [_cut_mask(planes[i], boxes[i]) for i in order]
            else:
                masks = [planes[i] for i in order]
        names: list[str | None] = [None] * len(scores)
        if "labels" in out and self.description.labels:
            numbers = out["labels"]
            names = [self.description.labels.get(int(numbers[i])) for i in order]
        boxes = boxes[order]
        boxes[:, 0::2] = np.clip(boxes[:, 0::2] / x_ratio, 0, picture.width)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2] / y_ratio, 0, picture.height)
        return Detections(boxes, scores[order], names, masks)

    def _check_outputs(self, out: dict[str, npt.NDArray[Any]]) -> None:
        n = len(out["scores"]) if out["scores"].ndim == 1 else -1
        lengths_fit = all(len(array) == n for array in out.values())
        masks_fit = "masks" not in out or out["masks"].ndim in (3, 4)
        if n < 0 or not lengths_fit or not masks_fit or out["boxes"].shape != (n, 4):
            shapes = ", ".join(f"{what} {list(array.shape)}" for what, array in out.items())
            raise ModelError(
                f"{self._graph.path}: expected boxes [N, 4], scores [N], labels [N], "
                f"masks [N, 1, h, w]; found {shapes}; correct the output names in {DESCRIPTION}"
            )


def load_detector(source: str | Path = "auto", *, runtime: str = "auto") -> Detector:
    """Load a Mask R-CNN.

    Args:
        source: a directory with ``model.onnx`` and ``detector.json``; a registry name
            (``starter-maskrcnn``, ``maskrcnn-r50-fpn``, ``maskrcnn-r50-fpn-int8``); a hub
            repository id ("owner/name") with such a directory; or "auto": ``maskrcnn-r50-fpn`` if
            it is in the cache, else the starter. What is named and not in the cache is fetched.
        runtime: "auto", "openvino" or "onnxruntime".

    Raises:
        ModelError: unknown name, missing or unreadable file, or a graph whose inputs and outputs
            are not those of its description (the message names both).
        HubError: the model could not be fetched.
    """
    from wordsight.runtime.graph import open_graph

    folder, graph_path, data = _locate(source)
    description = read_description(folder, data)
    graph = open_graph(graph_path, runtime=runtime, precision="fp32")
    return Detector(description, graph, folder)


def read_description(folder: Path, data: dict[str, Any] | None = None) -> Description:
    """Read ``detector.json`` of a folder (or take ``data`` for its content) and check it.

    Raises ModelError, which names the field.
    """
    path = folder / DESCRIPTION
    if data is None:
        data = _read_json(path)
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


def prepare(image: PIL.Image.Image, spec: ImageInput) -> tuple[Array, tuple[float, float]]:
    """Turn an RGB image into the graph's input.

    Returns float32 [3, H, W], contiguous, and by how much x and y were scaled.
    """
    import numpy as np
    from PIL.Image import Resampling

    width, height = image.size
    new_width, new_height = _new_size(width, height, spec)
    if (new_width, new_height) != (width, height):
        image = image.resize((new_width, new_height), Resampling.BILINEAR)
    pixels = np.asarray(image)[:, :, ::-1] if spec.channels == "BGR" else np.asarray(image)
    # One multiplication and one subtraction a pixel: (p * scale - mean) / std.
    gain = spec.scale / np.array(spec.std)
    offset = np.array(spec.mean) / np.array(spec.std)
    scaled = pixels * gain.astype(np.float32) - offset.astype(np.float32)

    longest = max(new_width, new_height)
    padded_width, padded_height = (
        math.ceil(max(side, longest / MAX_ASPECT) / spec.multiple) * spec.multiple
        for side in (new_width, new_height)
    )
    out = np.zeros((3, padded_height, padded_width), np.float32)
    out[:, :new_height, :new_width] = scaled.transpose(2, 0, 1)
    return out, (new_width / width, new_height / height)


def _new_size(width: int, height: int, spec: ImageInput) -> tuple[int, int]:
    ratio = 1.0
    if spec.short_side is not None:
        ratio = spec.short_side / min(width, height)
    if spec.long_side is not None:
        ratio = min(ratio, spec.long_side / max(width, height))
    if spec.max_width is not None:
        ratio = min(ratio, spec.max_width / width)
    if spec.max_height is not None:
        ratio = min(ratio, spec.max_height / height)
    if ratio == 1.0:
        return width, height
    # Cut, not rounded, as the reference code of the ONNX model zoo does; the small addition keeps
    # a side that should come out whole from losing a pixel.
    return max(1, int(width * ratio + 1e-6)), max(1, int(height * ratio + 1e-6))


def _cut_mask(plane: Array, box: Array) -> Array:
    """Cut the part of a mask in the image frame that its box covers."""
    import numpy as np
    import PIL.Image

    height, width = plane.shape
    x0, x1 = np.clip((box[0], box[2]), 0, width)
    y0, y1 = np.clip((box[1], box[3]), 0, height)
    if x1 - x0 < 1 or y1 - y0 < 1:
        return np.ones((1, 1), np.float32)
    size = (min(MASK_SIDE, round(x1 - x0)), min(MASK_SIDE, round(y1 - y0)))
    cut = PIL.Image.fromarray(plane).resize(
        size, PIL.Image.Resampling.BILINEAR, box=(float(x0), float(y0), float(x1), float(y1))
    )
    return np.asarray(cut, np.float32)


# Where a detector is


def registry() -> dict[str, Any]:
    """Read the detectors on the hub: name -> {"repository", "file", "megabytes", "description"}."""
    data: dict[str, Any] = _read_json(Path(__file__).with_name("detectors.json"))
    return data


def detectors_info() -> list[dict[str, Any]]:
    """List the detectors that have a name, the one in the package first.

    Each row has ``name``, ``repository`` (None: in the package), ``bytes`` (of the download, or
    None), ``licence``, ``note``, ``cached`` (whether it opens without the network) and ``path``
    (of its directory, or None).
    """
    from wordsight.models.hub_cache import cached

    starter = _starter_folder()
    rows: list[dict[str, Any]] = [
        {
            "name": STARTER,
            "repository": None,
            "bytes": None,
            "licence": "MIT",
            "note": "inside the package: finds objects without naming them, no download",
            "cached": (starter / GRAPH).is_file(),
            "path": str(starter),
        }
    ]
    for name, entry in registry().items():
        folder = cached(entry["repository"], [entry["file"]])
        rows.append(
            {
                "name": name,
                "repository": entry["repository"],
                "bytes": entry["megabytes"] * 10**6,
                "licence": entry["description"]["licence"],
                "note": entry["description"]["source"],
                "cached": folder is not None,
                "path": str(folder) if folder else None,
            }
        )
    return rows


def _starter_folder() -> Path:
    return Path(__file__).parent / "weights" / STARTER


def _locate(source: str | Path) -> tuple[Path, Path, dict[str, Any] | None]:
    """Find (folder, graph, description or None if it is in the folder) of a detector."""
    from wordsight.models import hub, repositories
    from wordsight.models.hub_cache import cached

    entries = registry()
    if source == "auto":
        entry = entries[PREFERRED]
        is_here = cached(entry["repository"], [entry["file"]]) is not None
        source = PREFERRED if is_here else STARTER
    if source == STARTER:
        folder = _starter_folder()
    elif isinstance(source, str) and source in entries:
        entry = entries[source]
        folder = hub.fetch(entry["repository"], [entry["file"]])
        return folder, folder / entry["file"], entry["description"]
    elif os.path.isdir(path := expanded(source)):  # noqa: PTH112  (of any length)
        folder = path
    elif isinstance(source, str) and repositories.is_repository(source):
        name, revision = repositories.split(source)
        folder = hub.fetch(
            name,
            [GRAPH, DESCRIPTION],
            extra=lambda file: file.endswith(".json"),
            revision=revision,
        )
    else:
        names = ", ".join([STARTER, *entries])
        raise ModelError(
            f"{source}: no such detector; use {names}, a directory with {GRAPH} and "
            f"{DESCRIPTION}, or a hub repository id (owner/name)"
        )
    return folder, folder / GRAPH, None


# The description


def _read_json(path: Path) -> Any:
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
        labels = _read_json(folder / labels)
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


def _check_signature(description: Description, graph: Graph, path: Path) -> None:
    rank = 4 if description.image.batch_axis else 3
    given = graph.inputs.get(description.input)
    inputs_fit = (
        list(graph.inputs) == [description.input]
        and given is not None
        and len(given.shape) == rank
        and given.dtype == "float32"
        and given.shape[-3] in (3, None)
    )
    if inputs_fit and set(description.outputs.values()) <= set(graph.outputs):
        return
    axes = "[1, 3, H, W]" if rank == 4 else "[3, H, W]"
    expected = ", ".join(description.outputs.values())
    raise ModelError(
        f"{path}: {GRAPH} does not have the signature that {DESCRIPTION} describes: expected input "
        f"{description.input} float32 {axes} and outputs {expected}; "
        f"found {_tensors('input', graph.inputs)} and {_tensors('output', graph.outputs)}; "
        f"correct {DESCRIPTION} or use another graph"
    )


def _tensors(what: str, tensors: Any) -> str:
    listed = ", ".join(
        f"{name} {tensor.dtype} [{', '.join('?' if d is None else str(d) for d in tensor.shape)}]"
        for name, tensor in tensors.items()
    )
    return f"{what}{'s' if len(tensors) != 1 else ''} {listed or 'none'}"
