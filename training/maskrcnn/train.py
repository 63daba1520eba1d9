"""Teach the starter what the teacher says, and what is annotated.

Every object has a score: 1 where it is annotated or pasted, else the teacher's probability that it
is one. All scores that the starter learns are this times how well its own box fits, so that they
order proposals and, with two numbers more (:mod:`training.maskrcnn.calibrate`), are probabilities.
The losses:

- proposals: the score of every cell (generalized focal loss, Li et al., NeurIPS 2020) and the box
  of the cells near an object's centre (generalized IoU);
- boxes: of its own proposals and of boxes around objects the score, the corrected box, the name;
- masks: the teacher's, of its sure detections.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.maskrcnn.boxes import cells, decode, encode, iou, paired, reach
from training.maskrcnn.model import BOX_CELLS, BOX_SCALE, MASK_CELLS, StarterMaskRCNN, roi_align
from training.maskrcnn.scenes import MASKS, MOST, Scenes
from training.maskrcnn.targets import load_targets
from training.starter.backbone import normalise
from training.starter.precision import autocast

# An object belongs to the maps of these strides whose bounds its side (the root of its area) is in.
BOUNDS = {8: (0, 64), 16: (40, 150), 32: (100, 1e9)}
NEAR = 1.5  # strides from an object's centre to the cells that propose it
OWN_ROIS, KNOWN_ROIS = 20, 12
OWN_POOL = 250  # the best cells, from which OWN_ROIS are drawn
LOG_EVERY = 20


def batch(scenes: Scenes, size: int) -> dict[str, Tensor]:
    """Scenes as tensors; what is missing has score 0."""
    rows = {
        "boxes": np.zeros((size, MOST, 4), np.float32),
        "scores": np.zeros((size, MOST), np.float32),
        "classes": np.zeros((size, MOST, 81), np.float32),
        "mask_boxes": np.tile(np.array([0, 0, 32, 32], np.float32), (size, MASKS, 1)),
        "masks": np.zeros((size, MASKS, 28, 28), np.float32),
        "masked": np.zeros((size, MASKS), np.float32),
    }  # fmt: skip
    images = []
    for i in range(size):
        image, about = scenes.make()
        images.append(image)
        best = np.argsort(-about.scores)[:MOST]
        for name in ("boxes", "scores", "classes"):
            rows[name][i, : len(best)] = getattr(about, name)[best]
        some = scenes.rng.permutation(len(about.masks))[:MASKS]
        rows["mask_boxes"][i, : len(some)] = about.mask_boxes[some]
        rows["masks"][i, : len(some)] = about.masks[some] / 255
        rows["masked"][i, : len(some)] = 1
    tensors = {name: torch.from_numpy(array) for name, array in rows.items()}
    tensors["pixels"] = normalise(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    return tensors


def assign(rows: dict[str, Tensor], centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """For each cell the score [B, A] of the object it is to propose (0: none), and its place."""
    boxes, scores = rows["boxes"], rows["scores"]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1).sqrt()
    stride = strides[None, :, None]
    away = (centres[None, :, None] - centre[:, None]).abs().amax(-1)
    inside = torch.cat(
        [centres[None, :, None] - boxes[:, None, :, :2],
         boxes[:, None, :, 2:] - centres[None, :, None]], -1,
    ).amin(-1)  # fmt: skip
    low = torch.zeros_like(stride)
    high = torch.zeros_like(stride)
    for s, (least, most) in BOUNDS.items():
        low, high = low + (stride == s) * least, high + (stride == s) * most
    # The cell that holds the centre is an object's in any case.
    near = (away <= NEAR * stride) & ((inside > 0) | (away <= stride / 2))
    fits = near & (side[:, None] >= low) & (side[:, None] < high)
    worth = torch.where(fits, scores[:, None] + 0.1 / (1 + side[:, None]), torch.zeros(()))
    best, which = worth.max(2)
    return torch.where(best > 0, scores.gather(1, which), torch.zeros(())), which


def at(x: Tensor, which: Tensor) -> Tensor:
    """Rows [B, R, n] of x [B, M, n]."""
    return x.gather(1, which[..., None].expand(-1, -1, x.shape[-1]))


def proposal_losses(
    logits: Tensor, sides: Tensor, rows: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of scores and of boxes, over all cells; the boxes."""
    centres, strides = cells(*rows["pixels"].shape[-2:])
    boxes = reach(sides, centres, strides)
    score, which = assign(rows, centres, strides)
    overlap, generalised = paired(boxes, at(rows["boxes"], which))
    target = score * overlap.detach().clamp(0, 1)
    error = (target - logits.sigmoid()).detach()
    focal = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * error.square()
    total = score.sum().clamp(min=1.0)
    return focal.sum() / total, ((1 - generalised) * score).sum() / total, boxes.detach()


def jitter(boxes: Tensor, amount: float) -> Tensor:
    """Move every side by a normal share of the box's size."""
    size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    return boxes + torch.randn_like(boxes) * amount * size


def sample_rois(boxes: Tensor, logits: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """Boxes for the box head, [B, R, 4]: of the best cells some, and some around objects."""
    b = len(logits)
    pool = logits.topk(OWN_POOL, 1).indices
    own = at(boxes, pool.gather(1, torch.rand(b, OWN_POOL).topk(OWN_ROIS, 1).indices))
    order = ((rows["scores"] > 0.3) + torch.rand_like(rows["scores"])).topk(KNOWN_ROIS, 1).indices
    around = jitter(at(rows["boxes"], order), 0.12)
    missing = rows["scores"].gather(1, order) <= 0
    around = torch.where(missing[..., None], own[:, :KNOWN_ROIS], around)
    rois = torch.cat([own, around], 1).clamp(0, rows["pixels"].shape[-1])
    return torch.cat([rois[..., :2], torch.maximum(rois[..., 2:], rois[..., :2] + 2)], -1)


def box_losses(
    model: StarterMaskRCNN, pooled: Tensor, rois: Tensor, rows: dict[str, Tensor]
) -> list[Tensor]:
    """Losses of the box head: score, box, name."""
    with autocast():
        logit, delta, names = model.box_head(pooled)
    b, r = rois.shape[:2]
    logit, delta, names = logit.float().view(b, r), delta.float().view(b, r, 4), names.float()
    overlap, which = (iou(rois, rows["boxes"]) * (rows["scores"] > 0)[:, None]).max(2)
    score = rows["scores"].gather(1, which)
    goal = at(rows["boxes"], which)
    with torch.no_grad():
        after = paired(decode(delta / torch.tensor(BOX_SCALE), rois), goal)[0]
    fit = ((torch.maximum(after, overlap) - 0.3) / 0.5).clamp(0, 1) * (overlap > 0.2)
    scored = F.binary_cross_entropy_with_logits(logit, score * fit)
    wanted = encode(goal, rois) * torch.tensor(BOX_SCALE)
    weight = score * (overlap >= 0.35)
    off = F.smooth_l1_loss(delta, wanted, beta=1.0, reduction="none").sum(-1)
    boxed = (off * weight).sum() / weight.sum().clamp(min=1.0)
    classes = at(rows["classes"], which)
    classed = (overlap >= 0.5) * (classes.sum(-1) > 0)
    logs = F.log_softmax(names.view(b, r, -1), -1)
    named = (-(classes * logs).sum(-1) * classed).sum() / classed.sum().clamp(min=1)
    return [3 * scored, 0.5 * boxed, 0.5 * named]


def losses(model: StarterMaskRCNN, low: Tensor, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """All losses of one batch, weighted."""
    with autocast():
        maps = model.maps(low)
        logits, sides = model.proposals(maps)
        narrow = model.squeeze(maps[0])
    out = {}
    out["proposed"], out["reach"], boxes = proposal_losses(logits, sides, rows)
    with torch.no_grad():
        rois = sample_rois(boxes, logits, rows)
    pooled = roi_align(narrow.float().contiguous(), rois, BOX_CELLS)
    out["score"], out["box"], out["name"] = box_losses(model, pooled, rois, rows)
    pooled = roi_align(maps[0].float().contiguous(), rows["mask_boxes"], MASK_CELLS)
    with autocast():
        mask = model.mask_head(pooled)
    wrong = F.binary_cross_entropy_with_logits(
        mask.float().view_as(rows["masks"]), rows["masks"], reduction="none"
    ).mean((2, 3))
    out["mask"] = (wrong * rows["masked"]).sum() / rows["masked"].sum().clamp(min=1.0)
    return out


class Low:
    """The frozen blocks on OpenVINO, which is several times as fast as PyTorch here."""

    def __init__(self, model: StarterMaskRCNN, size: int, side: int):
        import io

        import openvino

        class Part(torch.nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return model.low(x)

        written = io.BytesIO()
        sample = torch.zeros(size, 3, side, side)
        torch.onnx.export(Part().eval(), (sample,), written, dynamo=False)
        core = openvino.Core()
        options = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        graph = core.read_model(written.getvalue())
        self.graph = core.compile_model(graph, "CPU", options)

    def __call__(self, pixels: Tensor) -> Tensor:
        """As :meth:`StarterMaskRCNN.low`."""
        found = self.graph(pixels.contiguous().numpy())[0]
        return torch.from_numpy(found.copy()).contiguous(memory_format=torch.channels_last)


def train(
    targets: Path,
    data: Path,
    out: Path,
    *,
    minutes: float,
    steps: int,
    side: int = 320,
    size: int = 8,
    rate: float = 1.5e-3,
    seed: int = 1,
    start: Path | None = None,
    only: str = "",
) -> None:
    """Train for `steps` steps, or as many as fit in `minutes` (the schedule follows the nearer),
    with `size` scenes of `side` pixels a step.

    Writes the averaged weights to out/model.pt (every two minutes, and at the end) and the course
    of the losses to out/log.json. `start` names the weights of an earlier run, `only` the layers to
    train if not all are (by the beginning of their names).
    """
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    scenes = Scenes(load_targets(targets), data, seed, side)
    model = StarterMaskRCNN()
    if start is not None:
        model.load_state_dict(torch.load(start))
    low = Low(model, size, side)
    model = model.to(memory_format=torch.channels_last).train(not only)
    average = copy.deepcopy(model).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name.startswith(only))
    tuned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in tuned if n.startswith("blocks")], "rate": rate / 10,
             "weight_decay": 0.0},
            {"params": [p for n, p in tuned if not n.startswith("blocks") and p.ndim > 1],
             "rate": rate, "weight_decay": 0.02},
            {"params": [p for n, p in tuned if not n.startswith("blocks") and p.ndim <= 1],
             "rate": rate, "weight_decay": 0.0},
        ]
    )  # fmt: skip
    print(f"{len(scenes.photos)} photographs, {len(scenes.objects)} objects", flush=True)
    log: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    begun = saved = time.monotonic()
    step, progress = 0, 0.0
    while progress < 1:
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * warm * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        rows = batch(scenes, size)
        parts = losses(model, low(rows["pixels"]), rows)
        optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in tuned], 5.0)
        optimizer.step()
        step += 1
        spent = (time.monotonic() - begun) / 60
        progress = max(step / steps, spent / minutes)
        follow(average, model, 1 - min(0.998, step / (step + 20)))
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if step % LOG_EVERY == 0:
            row = {"step": step, "minutes": round(spent, 2)}
            row.update({k: round(v / LOG_EVERY, 4) for k, v in sums.items()})
            log.append(row)
            sums = {}
            print(json.dumps(row), flush=True)
        if time.monotonic() - saved > 120 or progress >= 1:
            torch.save(average.state_dict(), out / "model.pt.part")
            (out / "model.pt.part").replace(out / "model.pt")
            saved = time.monotonic()
    (out / "log.json").write_text(json.dumps(log))


def follow(average: StarterMaskRCNN, model: StarterMaskRCNN, share: float) -> None:
    """Move the averaged weights towards the present ones."""
    with torch.no_grad():
        for a, p in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if a.dtype.is_floating_point:
                a.lerp_(p, share)
            else:
                a.copy_(p)
