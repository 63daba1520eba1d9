"""A Mask R-CNN that runs: pixels in, boxes, scores, names and masks out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.models.maskrcnn.description import DESCRIPTION, GRAPH, Description, ImageInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    from wordsight.runtime.graph import Graph

    Array = npt.NDArray[np.float32]


# An image more than this many times as long as wide is padded to this ratio: a graph that resizes
# the short side itself would blow up the long side without bound.
MAX_ASPECT = 8

# A mask in the image frame is kept at no more than this many pixels a side of its box.
MASK_SIDE = 56


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
