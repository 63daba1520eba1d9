"""Run the teacher over the scenes and keep what it says, inside and out, as training targets.

The teacher is the Mask R-CNN of ``maskrcnn-fbnetv3a`` (COCO, one feature map at stride 16, 15
anchors a cell). Only its *outputs* on our pictures are used, never its weights: the feature map,
the objectness and box maps of its region proposal network, its thirty proposals with their class
probabilities and refined boxes, and its detections with masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.maskrcnn.scenes import MAX_BOXES, SIZE, Packs, make_scene

CELLS = SIZE // 16
PROPOSALS, DETECTIONS, MASKS = 30, 40, 12
TEACHER_CHANNELS = 112

# Tensors inside the teacher's graph (see its README: the graph is fixed, so are the names).
INNER = {
    "feature": "t81",
    "objectness": "t97",
    "deltas": "t98",
    "proposals": "t189",
    "logits": "t215",
    "refined": "t257",
}

FIELDS = {
    "image": ((SIZE, SIZE, 3), np.uint8),
    "feature": ((TEACHER_CHANNELS, CELLS, CELLS), np.float16),
    "objectness": ((15, CELLS, CELLS), np.float16),
    "deltas": ((60, CELLS, CELLS), np.float16),
    "proposals": ((PROPOSALS, 4), np.float32),
    "probabilities": ((PROPOSALS, 81), np.float16),
    "refined": ((PROPOSALS, 4), np.float32),
    "boxes": ((DETECTIONS, 4), np.float32),
    "scores": ((DETECTIONS,), np.float32),
    "masks": ((MASKS, 28, 28), np.uint8),
    "known": ((MAX_BOXES, 4), np.float32),
    "pasted": ((), np.uint8),
    "done": ((), np.uint8),
}


def open_targets(folder: Path, count: int | None = None) -> dict[str, np.ndarray]:
    """The target arrays of a folder as memory maps; with `count`, created if they are missing."""
    arrays = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, dtype) in FIELDS.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            if count is None:
                raise FileNotFoundError(f"{path}: no targets; run the targets stage first")
            np.lib.format.open_memmap(path, "w+", dtype, (count, *shape)).flush()
        arrays[name] = np.load(path, mmap_mode="r" if count is None else "r+")
    return arrays


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
        self.names = [*INNER, "boxes", "scores", "masks"]
        self.tensors = [*INNER.values(), "boxes", "scores", "masks"]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Everything the teacher says about a uint8 [H, W, 3] picture."""
        x = image.astype(np.float32).transpose(2, 0, 1) / 255
        return dict(zip(self.names, self.session.run(self.tensors, {"image": x}), strict=True))


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros((n, *rows.shape[1:]), rows.dtype)
    out[: min(n, len(rows))] = rows[:n]
    return out


def make_targets(data: Path, teacher: Path, out: Path, count: int, part: str = "0/1") -> None:
    """Fill `out` with `count` scenes and the teacher's view of them; resumes where it stopped.

    `part` "i/n" does every n-th scene only, so that processes can share the work.
    """
    arrays = open_targets(out, count)
    packs, teach = Packs(data), Teacher(teacher)
    first, step = (int(v) for v in part.split("/"))
    for i in range(first, count, step):
        if arrays["done"][i]:
            continue
        image, known, kind = make_scene(i, packs)
        said = teach(image)
        logits = said["logits"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        refined = said["refined"].reshape(len(p), 80, 4)
        best = p[:, :80].argmax(1)  # the last class is the background
        row = {
            "image": image,
            "feature": said["feature"][0],
            "objectness": said["objectness"][0],
            "deltas": said["deltas"][0],
            "proposals": _padded(said["proposals"], PROPOSALS),
            "probabilities": _padded(p, PROPOSALS),
            "refined": _padded(refined[np.arange(len(p)), best], PROPOSALS),
            "boxes": _padded(said["boxes"], DETECTIONS),
            "scores": _padded(said["scores"], DETECTIONS),
            "masks": _padded((said["masks"][:, 0] * 255).astype(np.uint8), MASKS),
            "known": _padded(known, MAX_BOXES),
            "pasted": kind in ("pasted", "cifar"),
        }
        for name, value in row.items():
            arrays[name][i] = value
        arrays["done"][i] = 1
        if i % 500 < step:
            print(f"scene {i} of {count}", flush=True)
