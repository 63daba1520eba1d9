"""Make scores probabilities, on annotated photographs that training left out.

A proposal is right if it overlaps an annotated object by half, and no better scored one does. A
line through the logits of the scores is fitted (Platt, 1999); the order of proposals stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.maskrcnn.pictures import Picture, open_picture
from wordsight.regions import iou

LIMIT = 20


def judged(
    detector: Path, pictures: list[Picture]
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Scores and rightness of all proposals, the number of objects; of the right ones that have a
    name whether that is the object's.
    """
    from wordsight.models.maskrcnn import load_detector
    from wordsight.regions import propose

    detect = load_detector(detector, runtime="onnxruntime")
    places = {name: i for i, name in enumerate(detect.description.labels.values())}
    scores, right, named, objects = [], [], [], 0
    for picture in pictures:
        boxes = np.array(picture.boxes, np.float32).reshape(-1, 4)
        objects += len(boxes)
        found = propose(
            [open_picture(picture.data)], detect, limit=LIMIT, min_score=0.0, margin=0.0,
            min_side=0, max_area=1.0,
        )[0]  # fmt: skip
        free = np.ones(len(boxes), bool)
        for region in found:
            own = iou(np.array([region.box]), boxes)[0] * free
            best = int(own.argmax()) if len(boxes) else -1
            hit = best >= 0 and own[best] >= 0.5
            scores.append(region.score)
            right.append(hit)
            if hit:
                free[best] = False
                if region.label is not None:
                    named.append(places[region.label] == picture.labels[best])
    return np.array(scores), np.array(right, bool), objects, np.array(named, bool)


def fit(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the line from a score's logit to that of its probability."""
    s = np.clip(scores, 1e-6, 1 - 1e-6)
    x = np.stack([np.log(s / (1 - s)), np.ones_like(s)], 1)
    line = np.array([1.0, 0.0])
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-x @ line))
        gradient = x.T @ (p - right)
        curve = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        line = line - np.linalg.solve(curve, gradient)
    return float(line[0]), float(line[1])


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = 5) -> list[dict[str, float]]:
    """Of equal shares of the proposals, by score: mean score, and how many were right."""
    order = np.array_split(np.argsort(scores), bins)
    return [
        {"score": round(float(scores[o].mean()), 3), "right": round(float(right[o].mean()), 3),
         "proposals": len(o)}
        for o in order
    ]  # fmt: skip
