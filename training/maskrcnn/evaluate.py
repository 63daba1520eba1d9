"""Is a score a probability, and how many pasted CIFAR-10 test images does the detector find?

Recall on COCO is measured by benchmarks/proposal_recall.py. Calibration is that of the proposals on
the annotated val2017 photographs. The scenes are CIFAR-10 test images pasted on backgrounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.maskrcnn.calibrate import judge, reliability
from training.maskrcnn.pictures import coco
from training.maskrcnn.scenes import Scenes
from wordsight.regions import iou

LIMIT = 20


def evaluate(data: Path, detector: Path, scenes: int = 200) -> dict[str, Any]:
    """Calibration and names on the judged photographs; recall of pasted images at IoU 0.5."""
    judged = judge(detector, coco(data)[1])
    return {
        "recall": round(float(np.mean(judged.found)), 4),
        "reliability": reliability(judged.scores, judged.right),
        "named": {
            "share": round(len(judged.named) / sum(judged.right), 3),
            "right": round(float(np.mean(judged.named)), 3),
        },
        "pasted": _pasted(data, detector, scenes),
    }


def _pasted(data: Path, detector: Path, scenes: int) -> dict[str, float]:
    from PIL import Image

    from wordsight.regions import load_proposer, propose

    maker = Scenes([], data, seed=1_000_000, cifar="test")
    loaded = load_proposer(detector, runtime="onnxruntime")
    sides, hits = [], []
    for _ in range(scenes):
        image, about = maker.make("cifar")
        found = propose(
            [Image.fromarray(image)], loaded, limit=LIMIT, min_score=0.05, margin=0.0, least=0.0,
            max_area=0.9, alike=LIMIT,
        )[0]  # fmt: skip
        boxes = np.array([r.box for r in found], np.float32).reshape(-1, 4)
        sides.append(about.boxes[:, 2] - about.boxes[:, 0])
        hits.append(iou(about.boxes, boxes).max(1, initial=0.0) >= 0.5)
    side, hit = np.concatenate(sides), np.concatenate(hits)
    report = {"all": round(float(hit.mean()), 3)}
    for low, high in ((16, 32), (32, 64), (64, 201)):
        chosen = (side >= low) & (side < high)
        report[f"{low} to {high - 1} px"] = round(float(hit[chosen].mean()), 3)
    return report
