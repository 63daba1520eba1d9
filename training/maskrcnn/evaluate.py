"""How many pasted CIFAR-10 test images does the detector find?

COCO is measured by benchmarks/proposal_recall.py. The scenes here are of the kind `cifar` (see
scenes.py) with other seeds than in training, test images instead of train images, and backgrounds
from the same photographs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.maskrcnn.boxes import iou
from training.maskrcnn.scenes import Packs, make_scene

FIRST_SEED = 1_000_000


def evaluate(
    data: Path, detector: Path, teacher: Path | None = None, *, scenes: int = 300, limit: int = 20
) -> dict[str, dict[str, float]]:
    """Recall of pasted images at IoU 0.5 with `limit` proposals, by side of the pasted image."""
    import onnxruntime

    packs = Packs(data, cifar="test")
    sessions = {"starter": onnxruntime.InferenceSession(str(detector / "model.onnx"))}
    if teacher is not None:
        sessions["teacher"] = onnxruntime.InferenceSession(str(teacher / "model.onnx"))
    found: dict[str, list[float]] = {name: [] for name in sessions}
    sides: list[float] = []
    for i in range(scenes):
        image, known, _ = make_scene(FIRST_SEED + i, packs, kind="cifar")
        x = image.astype(np.float32).transpose(2, 0, 1) / 255
        sides += (known[:, 2] - known[:, 0]).tolist()
        for name, session in sessions.items():
            pixels = (x - 0.5) / 0.25 if name == "starter" else x
            boxes, scores = session.run(["boxes", "scores"], {"image": pixels})
            best = torch.from_numpy(boxes[np.argsort(-scores)[:limit]])
            overlap = iou(torch.from_numpy(known), best)
            hit = overlap.amax(1) >= 0.5 if len(best) else torch.zeros(len(known))
            found[name] += hit.float().tolist()
    side = np.array(sides)
    report = {}
    for name, hits in found.items():
        hit = np.array(hits)
        report[name] = {"all": round(float(hit.mean()), 3)}
        for low, high in ((16, 32), (32, 64), (64, 200)):
            chosen = (side >= low) & (side < high)
            report[name][f"{low} to {high} px"] = round(float(hit[chosen].mean()), 3)
    return report
