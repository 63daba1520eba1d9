"""Train the fully connected layers of the box head once more, on the boxes that it really gets.

In :mod:`training.maskrcnn.train` the box head sees boxes drawn around those of the teacher. In the
exported graph it sees the best proposals after suppression, and then its own corrections of them.
Here the exported graph runs over scenes, what its convolutions make of those boxes is kept, and
the layers after them are trained on that: score and box, with the same targets as before. Each
scene is looked at once and no gradient goes through a convolution, so this is cheap.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional as F

from training.maskrcnn.boxes import encode
from training.maskrcnn.export import build
from training.maskrcnn.model import BOX_SCALE, StarterMaskRCNN
from training.maskrcnn.train import Scenes, normalise, roi_targets, take_up

EPOCHS, BATCH, RATE, WARM_STEPS, DROPOUT = 5, 1024, 1e-3, 20, 0.3


def refit(
    targets: Path, out: Path, *, start: Path | None = None, scenes: int = 2000, seed: int = 1
) -> None:
    """Refit out/model.pt (or `start`, .pt or .onnx) on `scenes` scenes; writes out/model.pt."""
    model = take_up(start or out / "model.pt", targets, seed).eval()
    rows = collect(model, Scenes(targets, 1, seed), scenes)
    torch.manual_seed(seed)
    fit(model, rows)
    torch.save(model.state_dict(), out / "model.pt")


def collect(model: StarterMaskRCNN, scenes: Scenes, count: int) -> dict[str, Tensor]:
    """What the box head gets in `count` scenes, and what it should answer.

    Of N boxes: `pooled` float16 [N, 2048], as it comes to the fully connected layers, `rois`
    [N, 4], `score` [N], `sure` [N] (1 where the score is clear, else 0) and `box` [N, 4].
    """
    session, names = _extractor(model)
    kept: dict[str, list[Tensor]] = {n: [] for n in ("pooled", "rois", "score", "sure", "box")}
    for place in scenes.rng.permutation(scenes.usable)[:count]:
        targets = scenes.rows(np.array([place]))
        pixels = normalise(targets["image"].permute(0, 3, 1, 2).float() / 255)[0].numpy()
        found = [torch.from_numpy(v) for v in session.run(names, {"image": pixels})]
        for rois, pooled in zip(found[::2], found[1::2], strict=True):
            score, sure, box, *_ = roi_targets(rois[None], targets)
            row = (pooled.half(), rois, score[0], sure[0], box[0])
            for values, value in zip(kept.values(), row, strict=True):
                values.append(value)
    return {name: torch.cat(values) for name, values in kept.items()}


def fit(model: StarterMaskRCNN, data: dict[str, Tensor]) -> None:
    """Train the layers on what :func:`collect` gave."""
    layers = (model.box_fc, model.box_score, model.box_delta)
    parameters = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    scale = torch.tensor(BOX_SCALE)
    total = len(data["score"]) // BATCH * BATCH
    steps, step = EPOCHS * (total // BATCH), 0
    for epoch in range(EPOCHS):
        sums = torch.zeros(2)
        for chosen in torch.randperm(len(data["score"]))[:total].split(BATCH):
            for group in optimizer.param_groups:
                warm = min(1.0, (step + 1) / WARM_STEPS)
                group["lr"] = RATE * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            step += 1
            pooled, rois, score, sure, box = (values[chosen] for values in data.values())
            hidden = torch.relu(model.box_fc(F.dropout(pooled.float(), DROPOUT)))
            logit = model.box_score(hidden)[:, 0]
            bce = F.binary_cross_entropy_with_logits(logit, score, reduction="none")
            off = F.smooth_l1_loss(
                model.box_delta(hidden), encode(box, rois) * scale, reduction="none"
            ).sum(-1)
            weight = score * (score > 0.2) * sure
            parts = torch.stack(
                [
                    (bce * sure).sum() / sure.sum().clamp(min=1.0),
                    0.25 * (off * weight).sum() / weight.sum().clamp(min=1.0),
                ]
            )
            optimizer.zero_grad(set_to_none=True)
            parts.sum().backward()
            optimizer.step()
            sums += parts.detach()
        score_loss, box_loss = (sums / max(1, total // BATCH)).tolist()
        print(f"epoch {epoch}: score {score_loss:.4f}, box {box_loss:.4f}", flush=True)


def _extractor(model: StarterMaskRCNN) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """The exported graph up to the box head; the names of rois, pooled, rois, pooled in it."""
    built = build(model)
    nodes = list(built.graph.node)
    rois = [node.input[1] for node in nodes if node.op_type == "RoiAlign"]
    flat = [node.output[0] for node in nodes if node.op_type == "Flatten"]
    names = [rois[0], flat[0], rois[1], flat[1]]
    del built.graph.output[:]
    for name in names:
        built.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(built.SerializeToString(), options), names
