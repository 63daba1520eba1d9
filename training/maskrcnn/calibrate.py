"""Make scores probabilities, on annotated photographs that training left out.

A proposal is right if it overlaps an annotated object by half. A line through the logits of the
scores is fitted (Platt, 1999); the order of proposals stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.maskrcnn.pictures import Picture, open_picture
from wordsight.regions import iou

LIMIT = 20


@dataclass
class Judged:
    """Of each proposal its score and whether it is right; of each right one that has a name,
    whether the object has it too; of each object whether a proposal is right about it.
    """

    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)


def judge(detector: Path, pictures: list[Picture]) -> Judged:
    """Hold the best proposals of a detector against the annotations."""
    from wordsight.models.maskrcnn import load_detector
    from wordsight.regions import propose

    detect = load_detector(detector, runtime="onnxruntime")
    places = {name: i for i, name in enumerate(detect.description.labels.values())}
    judged = Judged()
    for picture in pictures:
        regions = propose(
            [open_picture(picture.data)], detect, limit=LIMIT, min_score=0.0, margin=0.0, least=0.0,
            min_side=0, max_area=1.0, alike=LIMIT,
        )[0]  # fmt: skip
        boxes = np.array(picture.boxes, np.float32).reshape(-1, 4)
        overlap = iou(np.array([r.box for r in regions]).reshape(-1, 4), boxes)
        judged.found += (overlap.max(0, initial=0.0) >= 0.5).tolist()
        right = overlap.max(1, initial=0.0) >= 0.5
        judged.right += right.tolist()
        judged.scores += [r.score for r in regions]
        for place in np.flatnonzero(right):
            label = regions[place].label
            if label is not None:
                judged.named.append(places[label] == picture.labels[overlap[place].argmax()])
    return judged


def fit(scores: list[float], right: list[bool]) -> tuple[float, float]:
    """Slope and offset of the line from a score's logit to that of its probability."""
    s, hit = np.clip(scores, 1e-6, 1 - 1e-6), np.array(right, float)
    x = np.stack([np.log(s / (1 - s)), np.ones_like(s)], 1)
    line = np.array([1.0, 0.0])
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-x @ line))
        gradient = x.T @ (p - hit)
        curve = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        line = line - np.linalg.solve(curve, gradient)
    return float(line[0]), float(line[1])


def reliability(scores: list[float], right: list[bool], bins: int = 5) -> list[dict[str, float]]:
    """Of equal shares of the proposals, by score: mean score, and how many were right."""
    s, hit = np.array(scores), np.array(right, float)
    return [
        {"score": round(float(s[o].mean()), 3), "right": round(float(hit[o].mean()), 3),
         "proposals": len(o)}
        for o in np.array_split(np.argsort(s), bins)
    ]  # fmt: skip
