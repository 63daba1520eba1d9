"""Run the teacher over the pictures, whole and in parts, and keep what it says of them.

The teacher is the Mask R-CNN of ``maskrcnn-fbnetv3a`` (COCO). Only its *outputs* are used, never
its weights: the boxes of its thirty proposals as its head corrected them, with the probabilities
of COCO's classes, and its masks. It sees a short side of 320 pixels; in four overlapping parts of a
photograph, each enlarged to that, it finds small objects that it misses in the whole.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from training.maskrcnn.pictures import Picture, gather, open_picture
from wordsight.regions import iou

SHORT, LONG = 320, 640
PART = 0.6  # of width and height: the sides of a part
OVERLAP = 0.6  # of two boxes that overlap more, the less certain one goes
LEAST = 0.03
MOST, MASKS = 60, 12
CLASSES = 80
TARGETS = "targets.pickle"
# Tensors inside the teacher's graph (see its README: the graph is fixed, so are the names).
INNER = {"logits": "t215", "refined": "t257"}


class Teacher:
    """The teacher's graph with its inner tensors as outputs."""

    def __init__(self, folder: Path):
        import onnx
        import onnxruntime

        model = onnx.load(str(folder / "model.onnx"))
        for tensor in INNER.values():
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Boxes [N, 4] in pixels of the image, class probabilities [N, 80]; of its detections
        boxes [M, 4] and masks [M, 28, 28].
        """
        scale = min(SHORT / min(image.size), LONG / max(image.size))
        size = tuple(max(1, round(v * scale)) for v in image.size)
        resized = image.resize(size, Image.Resampling.BILINEAR)
        x = np.asarray(resized, np.float32).transpose(2, 0, 1) / 255
        logits, refined, boxes, scores, masks = self.session.run(
            [*INNER.values(), "boxes", "scores", "masks"], {"image": x}
        )
        p = np.exp(logits - logits.max(1, keepdims=True))
        p = (p / p.sum(1, keepdims=True))[:, :CLASSES]  # the last class is the background
        best = refined.reshape(len(p), CLASSES, 4)[np.arange(len(p)), p.argmax(1)]
        ratio = np.array([image.width / size[0], image.height / size[1]] * 2, np.float32)
        limit = np.array([image.width, image.height] * 2, np.float32)
        sure = scores > 0.3
        return (
            np.clip(best * ratio, 0, limit), p,
            np.clip(boxes[sure] * ratio, 0, limit), masks[sure, 0],
        )  # fmt: skip


def parts(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole picture and its four parts."""
    w, h = round(width * PART), round(height * PART)
    corners = [(x, y) for y in (0, height - h) for x in (0, width - w)]
    return [(0, 0, width, height), *((x, y, x + w, y + h) for x, y in corners)]


def whole(boxes: np.ndarray, part: tuple[int, ...], width: int, height: int) -> np.ndarray:
    """Which boxes (in pixels of the picture) no inner edge of the part may have cut off."""
    x0, y0, x1, y1 = part
    slack = 0.02 * max(x1 - x0, y1 - y0)
    return (
        ((boxes[:, 0] > x0 + slack) | (x0 == 0)) & ((boxes[:, 1] > y0 + slack) | (y0 == 0))
        & ((boxes[:, 2] < x1 - slack) | (x1 == width))
        & ((boxes[:, 3] < y1 - slack) | (y1 == height))
    )  # fmt: skip


def ask(teacher: Teacher, image: Image.Image, divide: bool) -> dict[str, np.ndarray]:
    """What the teacher says of a picture, best first; each object once."""
    found: list[list[np.ndarray]] = [[], [], [], []]
    for part in parts(*image.size)[: None if divide else 1]:
        said = list(teacher(image.crop(part)))
        shift = np.array([part[0], part[1]] * 2, np.float32)
        for at in (0, 2):
            boxes = said[at] + shift
            fits = whole(boxes, part, *image.size)
            found[at].append(boxes[fits])
            found[at + 1].append(said[at + 1][fits])
    boxes, classes, mask_boxes, masks = (np.concatenate(rows) for rows in found)
    score = classes.sum(1)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1)
    keep: list[int] = []
    for i in np.argsort(-score):
        if score[i] < LEAST or sides[i] < 4 or len(keep) == MOST:
            continue
        if not keep or iou(boxes[i : i + 1], boxes[keep]).max() < OVERLAP:
            keep.append(int(i))
    some = slice(0, MASKS)
    return {
        "boxes": boxes[keep].astype(np.float32), "classes": classes[keep].astype(np.float16),
        "mask_boxes": mask_boxes[some].astype(np.float32),
        "masks": (masks[some] * 255).astype(np.uint8),
    }  # fmt: skip


def make_targets(data: Path, teacher: Path, out: Path, folders: list[Path], objects: int) -> None:
    """Write out/targets.pickle: the pictures and the teacher's view of each."""
    teach = Teacher(teacher)
    pictures = gather(data, folders, objects)
    rows = []
    for number, picture in enumerate(pictures):
        image = open_picture(picture.data)
        rows.append((picture, ask(teach, image, picture.kind == "photo")))
        if number % 100 == 0:
            print(f"picture {number} of {len(pictures)}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / TARGETS).write_bytes(pickle.dumps(rows))


def load_targets(folder: Path) -> list[tuple[Picture, dict[str, np.ndarray]]]:
    """What :func:`make_targets` wrote there."""
    return pickle.loads((folder / TARGETS).read_bytes())  # our own file
