"""Align the whole image tower, backbone and head, with the locked text tower.

Three goals (see :mod:`head`): the backbone's first opinion of what it sees, the concepts of
labelled pictures, the captions of photographs. A third of the pictures lose their detail on the
way, so that pictures of 32 pixels are understood too.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import images
from .backbone import imagenet, normalise
from .head import Goals, Head, ImageTower, caption_loss, class_loss, concepts_of, word_loss
from .precision import autocast
from .trunk import Trunk


@dataclass
class VisionPlan:
    """Choices of a training run. Sizes take turns, so that one file serves several."""

    kind: str = "lite2"
    minutes: float = 7.0
    batch: int = 384
    sizes: tuple[int, ...] = (224, 160)
    rate: float = 1e-4
    head_rate: float = 1e-3
    decay: float = 0.02
    # Captions are few: this share of their gradient reaches the backbone.
    caption_share: float = 0.25
    seed: int = 0
    every: int = 1


# Two cores see 20 to 40 pictures a second: smaller pictures, all of the time there is.
ON_CPU = VisionPlan(kind="lite0", minutes=60.0, batch=64, sizes=(128,))


class Store:
    """Pictures as bytes on the training device, kept squashed, with their proportions."""

    def __init__(self, pictures: Iterable[images.Picture], size: int, device: str) -> None:
        pixels, ratios, self.concepts = [], [], []
        for picture in pictures:
            opened = picture.open()
            pixels.append(images.squash(opened, size))
            ratios.append(opened.width / opened.height)
            self.concepts.append(picture.concept)
        self.pixels = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(device)
        self.ratios = torch.tensor(ratios, device=device)

    def __len__(self) -> int:
        return len(self.pixels)

    def crops(self, rows: Tensor, size: int, smallest: float, largest: float = 1.0) -> Tensor:
        """Random parts, mirrored half of the time; cut at twice the size and averaged."""
        count, ratio = len(rows), self.ratios[rows]
        area = _uniform(rows, smallest, largest)
        shape = _uniform(rows, -math.log(4 / 3), math.log(4 / 3)).exp()
        width = (area * shape / ratio).sqrt().clamp(max=1)
        height = (area * ratio / shape).sqrt().clamp(max=1)
        grid = torch.zeros(count, 2, 3, device=rows.device)
        grid[:, 0, 0] = width * torch.where(_uniform(rows, 0, 1) < 0.5, -1.0, 1.0)
        grid[:, 1, 1] = height
        grid[:, 0, 2] = _uniform(rows, -1, 1) * (1 - width)
        grid[:, 1, 2] = _uniform(rows, -1, 1) * (1 - height)
        where = F.affine_grid(grid, [count, 3, 2 * size, 2 * size], align_corners=False)
        x = F.grid_sample(
            self.pixels[rows].float(), where, padding_mode="reflection", align_corners=False
        )
        return F.avg_pool2d(x, 2)


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(len(like), device=like.device).uniform_(low, high)


def _resize(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bicubic", antialias=True,
                         align_corners=False).clamp(0, 255)  # fmt: skip


def tint(x: Tensor) -> Tensor:
    """Brightness, contrast and saturation, a little off."""
    bright, contrast = (_uniform(x, 0.75, 1.25)[:, None, None, None] for _ in range(2))
    strong = _uniform(x, 0.6, 1.4)[:, None, None, None]
    middle = x.mean((1, 2, 3), keepdim=True)
    x = ((x - middle) * contrast + middle) * bright
    grey = x.mean(1, keepdim=True)
    return (grey + (x - grey) * strong).clamp(0, 255)


def blur(x: Tensor, random: np.random.Generator, share: float = 1 / 3) -> Tensor:
    """A share of the pictures loses its detail: down to 24 to 96 pixels and up again."""
    lost = torch.rand(len(x), device=x.device) < share
    if not lost.any():
        return x
    small = int(np.exp(random.uniform(math.log(24), math.log(96))))
    x = x.clone()
    x[lost] = _resize(_resize(x[lost], small), x.shape[-1])
    return x


class Trainer:
    """The pictures, the tower, its averaged copy and one step of training."""

    def __init__(
        self,
        data: Path,
        work: Path,
        plan: VisionPlan,
        device: str,
        further: Sequence[Path],
        held_out: bool,
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device = plan, device
        self.random = np.random.default_rng(plan.seed)
        self.goals = Goals.load(work, torch.device(device))
        every = plan.every
        self.cifar = Store(images.cifar(data, train=True)[::every], 32, device)
        self.caltech = Store(images.caltech(data, train=True)[::every], 160, device)
        _, photographs = images.photographs(data, further)
        self.photographs = Store(photographs, 384 if every == 1 else 64, device)
        first = len(images.coco_records(data)) if held_out else 0
        self.used = torch.arange(first, len(photographs), device=device)
        self.concept = {
            name: concepts_of(store.concepts, self.goals).to(device)
            for name, store in (("cifar", self.cifar), ("caltech", self.caltech))
        }
        self.first = self._placed(imagenet(plan.kind)).requires_grad_(False)
        trunk = Trunk(imagenet(plan.kind))
        head = Head(self.goals.classes, trunk.width)
        self.tower = self._placed(ImageTower(trunk, head)).train()
        self.mean = copy.deepcopy(self.tower).eval().requires_grad_(False)
        matrices = [p for p in trunk.parameters() if p.dim() > 1]
        others = [p for p in trunk.parameters() if p.dim() <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "base": plan.rate, "weight_decay": plan.decay},
                {"params": others, "base": plan.rate, "weight_decay": 0.0},
                {"params": list(head.parameters()), "base": plan.head_rate,
                 "weight_decay": plan.decay},
            ],
            lr=plan.rate, betas=(0.9, 0.98),
        )  # fmt: skip

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device).to(memory_format=torch.channels_last)

    def _rows(self, store: Store, count: int) -> Tensor:
        return torch.randint(len(store), (count,), device=self.device)

    def _small(self, rows: Tensor, size: int) -> Tensor:
        """CIFAR pictures, shifted by up to three pixels, mirrored, enlarged."""
        x = F.pad(self.cifar.pixels[rows].float(), (3, 3, 3, 3), mode="reflect")
        top, left = self.random.integers(0, 7, 2)
        x = x[:, :, top : top + 32, left : left + 32]
        flip = (_uniform(rows, 0, 1) < 0.5)[:, None, None, None]
        return _resize(torch.where(flip, x.flip(-1), x), size)

    def _draw(self, size: int) -> tuple[Tensor, list[int], Tensor, Tensor, Tensor]:
        """Pictures in four parts: CIFAR, Caltech, photographs, mixed pieces of photographs."""
        parts = [self.plan.batch * n // 8 for n in (3, 2, 1, 2)]
        cifar, caltech = self._rows(self.cifar, parts[0]), self._rows(self.caltech, parts[1])
        whole = self.used[torch.randperm(len(self.used), device=self.device)[: parts[2]]]
        rows = self.used[torch.randint(len(self.used), (parts[3],), device=self.device)]
        pieces = self.photographs.crops(rows, size, 0.05, 0.5)
        photographs = self.caltech.crops(caltech, size, 0.35)
        # Pieces are laid over other pictures, so that the first opinion is asked of more.
        share = torch.from_numpy(self.random.beta(0.4, 0.4, (parts[3], 1, 1, 1))).float()
        share = share.to(self.device)
        other = photographs[torch.randint(len(photographs), (parts[3],), device=self.device)]
        x = torch.cat([
            self._small(cifar, size), photographs, self.photographs.crops(whole, size, 0.6),
            share * pieces + (1 - share) * other,
        ])  # fmt: skip
        return x, parts, cifar, caltech, whole

    def step(self, size: int) -> Tensor:
        """The loss of one batch."""
        x, (small, labelled, whole, _), cifar, caltech, photographs = self._draw(size)
        with torch.no_grad(), autocast(self.device):
            features = self.first(normalise(x[small:]))
            posterior = self.first.classify(features).float().softmax(-1)
        with autocast(self.device):
            features = self.tower.trunk(normalise(blur(tint(x), self.random)))
        rows = slice(small + labelled, small + labelled + whole)
        kept = features[rows]
        share = self.plan.caption_share
        gentle = share * kept + (1 - share) * kept.detach()
        features = torch.cat([features[: rows.start], gentle, features[rows.stop :]])
        head = self.tower.head
        seen = head(features, self.tower.trunk.classify(features))
        caltech_loss = word_loss(
            head, seen[small : rows.start], self.concept["caltech"][caltech], self.goals
        )
        return (
            class_loss(head, seen[small:], posterior)
            + word_loss(head, seen[:small], self.concept["cifar"][cifar], self.goals)
            + 0.5 * caltech_loss
            + 0.7 * caption_loss(head, seen[rows], photographs, self.goals)
        )

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Move the averaged copy towards the tower, faster in the beginning."""
        weight = 1 - min(0.998 if self.device != "cpu" else 0.98, 1 - 1 / (step + 1))
        for mean, now in zip(self.mean.parameters(), self.tower.parameters(), strict=True):
            mean.lerp_(now, weight)


def _clock(device: str) -> Callable[[], float]:
    """Seconds; on CPUs those of a thread, so that other programs beside take nothing away."""
    if device != "cpu":
        return time.time
    return lambda: time.process_time() / torch.get_num_threads()


def train(
    data: Path,
    work: Path,
    plan: VisionPlan,
    device: str,
    further: Sequence[Path] = (),
    held_out: bool = False,
) -> None:
    """Train for the plan's minutes and write the averaged tower to ``vision.pt``.

    ``held_out`` leaves out the photographs of the COCO pack.
    """
    trainer = Trainer(data, work, plan, device, further, held_out)
    seconds = _clock(device)
    started, step, now = seconds(), 0, 0.0
    while now < 1:
        warm = min(1.0, step / (15 if device == "cpu" else 60))
        for group in trainer.optimiser.param_groups:
            group["lr"] = group["base"] * warm * (0.5 + 0.5 * math.cos(math.pi * now))
        loss = trainer.step(plan.sizes[step % len(plan.sizes)])
        trainer.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainer.tower.parameters(), 2.0)
        trainer.optimiser.step()
        step += 1
        trainer.average(step)
        now = (seconds() - started) / (60 * plan.minutes)
        if step % 50 == 1:
            rate = step * plan.batch / (seconds() - started)
            print(f"vision {now:.0%} step {step} loss {loss.item():.3f} {rate:.0f} pictures/s",
                  flush=True)  # fmt: skip
    torch.save(
        {"tower": trainer.mean.cpu().state_dict(), "kind": plan.kind, "steps": step},
        work / "vision.pt",
    )  # fmt: skip
