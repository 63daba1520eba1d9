"""Distil the teacher into the starter.

The losses, all on the same picture that the teacher saw:

- feature: the student's map at stride 16, through a 1 x 1 convolution, against the teacher's;
- proposals: objectness (quality focal loss, Li et al. 2020) and boxes of every anchor against the
  teacher's, and against the known boxes (annotated or pasted), which the teacher may miss;
- boxes: on the teacher's proposals, on the student's own and around the known boxes: objectness
  (the teacher's probability of not being background), refined box, and the teacher's classes;
- masks: the teacher's masks of its best detections; a pasted picture is all object.
"""

from __future__ import annotations

import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from training.maskrcnn.boxes import decode, encode, grid_anchors, iou
from training.maskrcnn.model import BOX_CELLS, BOX_SCALE, MASK_CELLS, StarterMaskRCNN, roi_align
from training.maskrcnn.restore import restore
from training.maskrcnn.scenes import SIZE
from training.maskrcnn.targets import CELLS, open_targets

TEACHER_ROIS, KNOWN_ROIS, OWN_ROIS, MASK_ROIS = 12, 6, 32, 5
OWN_POOL = 800  # the student's best anchors, from which OWN_ROIS are drawn
LEAST_SIDE = 14
LOG_EVERY = 20
ANCHORS = grid_anchors(CELLS, CELLS).reshape(-1, 4)


class Scenes:
    """Batches of scenes and targets from disk, in a new random order every epoch."""

    def __init__(self, folder: Path, batch: int, seed: int):
        self.arrays = open_targets(folder)
        self.usable = np.flatnonzero(self.arrays["done"])
        self.batch = batch
        self.rng = np.random.default_rng(seed)
        self.order = np.zeros(0, np.int64)
        sample = np.asarray(self.arrays["feature"][self.usable[:300]], np.float32)
        self.mean = torch.from_numpy(sample.mean((0, 2, 3)))[:, None, None]
        self.std = torch.from_numpy(sample.std((0, 2, 3)))[:, None, None] + 1e-3

    def next(self) -> dict[str, Tensor]:
        """The next batch: the fields of the targets, and `pixels`, the network's input."""
        if len(self.order) < self.batch:
            self.order = self.rng.permutation(self.usable)
        chosen, self.order = np.sort(self.order[: self.batch]), self.order[self.batch :]
        rows = self.rows(chosen)
        image = rows["image"].permute(0, 3, 1, 2).float() / 255
        # The teacher's answer is taken to hold for slightly other colours too.
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, (len(image), 3, 1, 1))).float()
        shift = torch.from_numpy(self.rng.uniform(-0.05, 0.05, (len(image), 1, 1, 1))).float()
        image = (image * gain + shift).clamp(0, 1)
        rows["pixels"] = normalise(image).contiguous(memory_format=torch.channels_last)
        rows["feature"] = (rows["feature"] - self.mean) / self.std
        return rows

    def rows(self, chosen: np.ndarray) -> dict[str, Tensor]:
        """The fields of the targets of these scenes."""
        rows = {}
        for name, array in self.arrays.items():
            value = array[chosen]
            if value.dtype == np.float16:
                value = value.astype(np.float32)
            rows[name] = torch.from_numpy(value)
        # Annotated objects that are a single cell or less cannot be told from their surroundings.
        sides = rows["known"][..., 2:] - rows["known"][..., :2]
        rows["known"] = rows["known"] * (sides.amin(-1, keepdim=True) >= LEAST_SIDE)
        return rows


def normalise(image: Tensor) -> Tensor:
    """RGB 0..1 -> what the network takes; said in detector.json as well."""
    return (image - 0.5) / 0.25


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with soft targets, weighted by the squared error; elementwise."""
    error = (target - logits.sigmoid()).detach()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * error.square()


def proposal_losses(
    logits: Tensor, deltas: Tensor, rows: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Objectness and box loss over all anchors; maps are [B, 15, h, w] and [B, 60, h, w]."""

    def flat(x: Tensor, n: int) -> Tensor:  # [B, 15 * n, h, w] -> [B, h * w * 15, n]
        b, _, h, w = x.shape
        return x.reshape(b, 15, n, h, w).permute(0, 3, 4, 1, 2).reshape(b, -1, n)

    logits, deltas = flat(logits, 1)[..., 0], flat(deltas, 4)
    target = flat(rows["objectness"], 1)[..., 0].sigmoid()
    boxes = flat(rows["deltas"], 4)
    known = rows["known"]
    overlap = iou(ANCHORS[None], known)  # [B, A, 32]; empty rows overlap with nothing
    best, which = overlap.max(2)
    # The best anchor of every known box counts too, however little it overlaps.
    top = overlap.max(1, keepdim=True).values
    favourite = ((overlap >= top - 1e-4) & (top > 0.2)).any(2)
    positive = (best >= 0.5) | favourite
    own = encode(known.gather(1, which[..., None].expand(-1, -1, 4)), ANCHORS[None])
    boxes = torch.where(positive[..., None], own, boxes)
    target = torch.where(positive, torch.ones_like(target), target)

    total = target[target > 0.3].sum().clamp(min=1.0)
    score = quality_focal(logits, target).sum() / total
    weight = torch.where(target > 0.2, target, torch.zeros_like(target))
    box = (F.smooth_l1_loss(deltas, boxes, beta=0.1, reduction="none").sum(-1) * weight).sum()
    return score, box / weight.sum().clamp(min=1.0)


def sample_rois(rows: dict[str, Tensor], logits: Tensor, deltas: Tensor) -> Tensor:
    """Boxes for the box head, [B, R, 4]: jittered teacher proposals, known boxes, own proposals."""
    b = len(logits)
    chosen = torch.rand(b, rows["proposals"].shape[1]).topk(TEACHER_ROIS, 1).indices
    teacher = rows["proposals"].gather(1, chosen[..., None].expand(-1, -1, 4))
    valid = (rows["known"][..., 2] > 0).float()
    order = (valid + torch.rand_like(valid) * 0.5).topk(KNOWN_ROIS, 1).indices
    known = rows["known"].gather(1, order[..., None].expand(-1, -1, 4))
    # Where fewer boxes are known, take proposals again, moved further.
    empty = known[..., 2:3] <= 0
    known = torch.where(empty, teacher[:, :KNOWN_ROIS], known)
    score = logits.permute(0, 2, 3, 1).reshape(b, -1)
    drawn = torch.rand(b, OWN_POOL).topk(OWN_ROIS, 1).indices
    at = score.topk(OWN_POOL, 1).indices.gather(1, drawn)
    d = deltas.reshape(b, 15, 4, *deltas.shape[2:]).permute(0, 3, 4, 1, 2).reshape(b, -1, 4)
    own = decode(d.gather(1, at[..., None].expand(-1, -1, 4)), ANCHORS[at])
    return torch.cat([jitter(teacher, 0.05), jitter(known, 0.15), own], 1).clamp(0, SIZE)


def jitter(boxes: Tensor, amount: float) -> Tensor:
    """Move every side by a normal share of the box's size."""
    size = (boxes[..., 2:] - boxes[..., :2]).repeat_interleave(2, -1)[..., [0, 2, 1, 3]]
    return boxes + torch.randn_like(boxes) * amount * size


def roi_targets(rois: Tensor, rows: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Objectness, its weight, box and teacher probabilities for each of the rois."""
    background = rows["probabilities"][..., -1]
    p, near = iou(rois, rows["proposals"]).max(2)
    k, known = iou(rois, rows["known"]).max(2)

    def at(x: Tensor, which: Tensor) -> Tensor:
        return x.gather(1, which[..., None].expand(-1, -1, x.shape[-1]))

    score = (1 - background).gather(1, near)
    box = at(rows["refined"], near)
    score = torch.where(p >= 0.55, score, torch.zeros_like(score))
    is_known = k >= 0.5
    score = torch.where(is_known, torch.ones_like(score), score)
    box = torch.where(is_known[..., None], at(rows["known"], known), box)
    sure = is_known | (p >= 0.55) | ((p < 0.4) & (k < 0.3))
    classes = at(rows["probabilities"], near)
    return score, sure.float(), box, classes, (p >= 0.6).float()


def mask_targets(rows: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [B, M, 4], masks [B, M, 28, 28] and weights [B, M] for the mask head."""
    n = rows["masks"].shape[1]
    score = torch.where(rows["scores"][:, :n] > 0.3, rows["scores"][:, :n], torch.zeros(()))
    order = (score + (score > 0) * torch.rand_like(score)).topk(MASK_ROIS, 1)
    boxes = rows["boxes"].gather(1, order.indices[..., None].expand(-1, -1, 4))
    masks = rows["masks"].gather(1, order.indices[..., None, None].expand(-1, -1, 28, 28)) / 255
    weight = (order.values > 0).float()
    # In scenes with pasted pictures, the last one is such a picture.
    pasted = (rows["pasted"] > 0) & (rows["known"][:, 0, 2] > 0)
    boxes[:, -1] = torch.where(pasted[:, None], rows["known"][:, 0], boxes[:, -1])
    masks[:, -1] = torch.where(pasted[:, None, None], torch.ones(()), masks[:, -1])
    weight[:, -1] = torch.where(pasted, torch.ones(()), weight[:, -1])
    boxes = torch.where(weight[..., None] > 0, boxes, torch.tensor([0.0, 0.0, 32.0, 32.0]))
    return boxes, masks, weight


def fast() -> torch.autocast:
    """Bfloat16 where the processor computes in it; elsewhere it is slower than float32."""
    able = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=able)


def losses(model: StarterMaskRCNN, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """All losses of one batch, weighted."""
    with fast():
        coarse, fine = model.features(rows["pixels"])
        logits, deltas = model.proposals(coarse)
        copied = model.to_teacher(coarse)
    logits, deltas, fine = logits.float(), deltas.float(), fine.float()
    out = {"feature": F.mse_loss(copied.float(), rows["feature"])}
    out["rpn_score"], out["rpn_box"] = proposal_losses(logits, deltas, rows)

    with torch.no_grad():
        rois = sample_rois(rows, logits, deltas)
    score, sure, box, classes, classed = roi_targets(rois, rows)
    pooled = roi_align(fine, rois, BOX_CELLS, 8)
    with fast():
        logit, delta, hidden = model.box_head(pooled)
        class_logits = model.to_classes(hidden)
    logit, delta = logit.float().reshape(score.shape), delta.float().reshape(box.shape)
    bce = F.binary_cross_entropy_with_logits(logit, score, reduction="none")
    out["score"] = (bce * sure).sum() / sure.sum()
    wanted = encode(box, rois) * torch.tensor(BOX_SCALE)
    off = F.smooth_l1_loss(delta, wanted, beta=1.0, reduction="none").sum(-1)
    weight = torch.where(score > 0.2, score, torch.zeros_like(score)) * sure
    out["box"] = (off * weight).sum() / weight.sum().clamp(min=1.0) * 0.5
    logs = F.log_softmax(class_logits.float().reshape(classes.shape), -1)
    out["class"] = 0.5 * (-(classes * logs).sum(-1) * classed).sum() / classed.sum().clamp(min=1)

    boxes, masks, weight = mask_targets(rows)
    pooled = roi_align(fine, boxes, MASK_CELLS, 8)
    with fast():
        mask = model.mask_head(pooled)
    bce = F.binary_cross_entropy_with_logits(
        mask.float().reshape(masks.shape), masks, reduction="none"
    ).mean((2, 3))
    out["mask"] = (bce * weight).sum() / weight.sum().clamp(min=1.0)
    return out


def train(
    targets: Path,
    out: Path,
    *,
    minutes: float,
    steps: int,
    workers: int = 2,
    batch: int = 8,
    rate: float = 3e-3,
    seed: int = 1,
    start: Path | None = None,
) -> None:
    """Train for `steps` steps, or as many as fit in `minutes` (the schedule follows the nearer).

    Every worker is a process with one thread and batches of its own; gradients are averaged each
    step. (On few cores, and busy ones, that is faster than one process with many threads.)
    With `start`, goes on from the weights of a run (.pt) or an exported graph (.onnx).
    Writes the averaged weights to out/model.pt (every two minutes, and at the end) and the course
    of the losses to out/log.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "store").unlink(missing_ok=True)  # of a run that was cut: the workers would meet there
    if start is not None:
        model = take_up(start, targets, seed)
        start = out / "start.pt"
        torch.save(model.state_dict(), start)
    plan = Plan(targets, out, minutes, steps, workers, batch, rate, seed, start)
    torch.multiprocessing.spawn(work, (plan,), nprocs=workers)


def take_up(start: Path, targets: Path, seed: int) -> StarterMaskRCNN:
    """The network with the weights of a run (.pt) or of an exported graph (.onnx)."""
    if start.suffix == ".onnx":
        return restore(start, Scenes(targets, 64, seed).next()["pixels"])
    model = StarterMaskRCNN()
    model.load_state_dict(torch.load(start))
    return model


@dataclass(frozen=True)
class Plan:
    """What :func:`train` was asked to do."""

    targets: Path
    out: Path
    minutes: float
    steps: int
    workers: int
    batch: int
    rate: float
    seed: int
    start: Path | None


def work(rank: int, plan: Plan) -> None:
    """One worker of :func:`train`; that of rank 0 writes the files."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        rank=rank,
        world_size=plan.workers,
        store=distributed.FileStore(str(plan.out / "store"), plan.workers),
    )
    scenes = Scenes(plan.targets, plan.batch, plan.seed * 100 + rank)
    torch.manual_seed(plan.seed)
    model = StarterMaskRCNN()
    if plan.start is not None:
        model.load_state_dict(torch.load(plan.start))
    model = model.to(memory_format=torch.channels_last)
    torch.manual_seed(plan.seed * 100 + rank)
    average = copy.deepcopy(model).eval()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.03},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=plan.rate,
    )
    if rank == 0:
        print(f"{len(scenes.usable)} scenes, {plan.workers} x {plan.batch} a step", flush=True)
    log: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    reader = ThreadPoolExecutor(1)
    waiting = reader.submit(scenes.next)
    begun, saved = time.monotonic(), time.monotonic()
    step, progress = 0, 0.0
    model.train()
    while progress < 1:
        warm = min(1.0, (step + 1) / 40)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * warm * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        rows, waiting = waiting.result(), reader.submit(scenes.next)
        parts = losses(model, rows)
        optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        step += 1
        spent = (time.monotonic() - begun) / 60
        # The workers agree on how far they are along with the gradients.
        own = torch.tensor([max(step / plan.steps, spent / plan.minutes)])
        flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [own])
        distributed.all_reduce(flat)
        flat /= plan.workers
        at = 0
        for p in parameters:
            p.grad.copy_(flat[at : at + p.numel()].reshape(p.shape))
            at += p.numel()
        progress = float(flat[-1])
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if rank > 0:
            continue

        keep = min(0.998, step / (step + 20))
        with torch.no_grad():
            for a, p in zip(
                average.state_dict().values(), model.state_dict().values(), strict=True
            ):
                if a.dtype.is_floating_point:
                    a.lerp_(p, 1 - keep)
                else:
                    a.copy_(p)
        if step % LOG_EVERY == 0:
            row = {"step": step, "minutes": round(spent, 2)}
            row.update({k: round(v / LOG_EVERY, 4) for k, v in sums.items()})
            log.append(row)
            sums = {}
            print(json.dumps(row), flush=True)
        if time.monotonic() - saved > 120 or progress >= 1:
            torch.save(average.state_dict(), plan.out / "model.pt")
            saved = time.monotonic()
    reader.shutdown()
    if rank == 0:
        (plan.out / "log.json").write_text(json.dumps(log))
        (plan.out / "store").unlink(missing_ok=True)
    distributed.destroy_process_group()
