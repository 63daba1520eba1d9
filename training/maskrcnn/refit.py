"""Fit the score of the box head once more, on the boxes that it really gets.

In :mod:`training.maskrcnn.train` the box head sees boxes drawn around those of the teacher. In the
exported graph it sees the best proposals after suppression, and then its own corrections of them.
Here the exported graph runs over scenes, and the last layer of the score is fitted to what the
boxes there are worth: a logistic regression, so the best one is found in a few Newton steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from training.maskrcnn.export import build
from training.maskrcnn.model import StarterMaskRCNN
from training.maskrcnn.train import Scenes, normalise, roi_targets, take_up

RIDGE = 30.0
NEWTON_STEPS = 8


def refit(
    targets: Path, out: Path, *, start: Path | None = None, scenes: int = 800, seed: int = 1
) -> None:
    """Refit out/model.pt (or `start`, .pt or .onnx) on `scenes` scenes; writes out/model.pt."""
    model = take_up(start or out / "model.pt", targets, seed).eval()
    hidden, score = collect(model, Scenes(targets, 1, seed), scenes)
    fitted = logistic(hidden, score)
    with torch.no_grad():
        model.box_score.weight.copy_(fitted[None, :-1])
        model.box_score.bias.copy_(fitted[-1:])
    torch.save(model.state_dict(), out / "model.pt")


def collect(model: StarterMaskRCNN, scenes: Scenes, count: int) -> tuple[Tensor, Tensor]:
    """What the box head makes of the boxes in `count` scenes: hidden [N, 160]; their score [N].

    Boxes of which it is not clear whether they hold an object are left out.
    """
    session, names = _extractor(model)
    found, wanted = [], []
    for place in scenes.rng.permutation(scenes.usable)[:count]:
        rows = scenes.rows(np.array([place]))
        pixels = normalise(rows["image"].permute(0, 3, 1, 2).float() / 255)[0].numpy()
        values = [torch.from_numpy(v) for v in session.run(names, {"image": pixels})]
        for rois, hidden in zip(values[::2], values[1::2], strict=True):
            score, sure, *_ = roi_targets(rois[None], rows)
            found.append(hidden[sure[0] > 0])
            wanted.append(score[sure > 0])
    return torch.cat(found), torch.cat(wanted)


def logistic(x: Tensor, y: Tensor) -> Tensor:
    """Weights [D] and bias of the logistic regression of y [N], 0 to 1, on x [N, D]: [D + 1]."""
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    ridge = torch.eye(x.shape[1], dtype=torch.double) * RIDGE
    ridge[-1, -1] = 0
    w = torch.zeros(x.shape[1], dtype=torch.double)
    for _ in range(NEWTON_STEPS):
        p = (x @ w).sigmoid()
        gradient = x.T @ (p - y) + ridge @ w
        hessian = (x * (p * (1 - p)).clamp(min=1e-4)[:, None]).T @ x + ridge
        w = w - torch.linalg.solve(hessian, gradient)
    return w.float()


def _extractor(model: StarterMaskRCNN) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """The exported graph up to the box head; the names of boxes, hidden, boxes, hidden in it."""
    built = build(model)
    nodes = list(built.graph.node)
    rois = [node.input[1] for node in nodes if node.op_type == "RoiAlign"]
    flat = [node.output[0] for node in nodes if node.op_type == "Flatten"]
    linear = [node.output[0] for node in nodes if node.op_type == "Gemm" and node.input[0] in flat]
    hidden = [n.output[0] for n in nodes if n.op_type == "Relu" and n.input[0] in linear]
    names = [rois[0], hidden[0], rois[1], hidden[1]]
    del built.graph.output[:]
    for name in names:
        built.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(built.SerializeToString(), options), names
