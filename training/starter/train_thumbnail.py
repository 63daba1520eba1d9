"""Train the network of thumbnails to name pictures: an hour on two cores."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import images
from .backbone import normalise
from .head import LARGEST_SCALE, Goals, concepts_of
from .precision import autocast, fast
from .table import DIM
from .thumbnail import WIDTHS, Thumbnail, thumbnails


@dataclass
class ThumbnailPlan:
    """Choices of a training run."""

    epochs: int = 20
    # The first epochs see smaller pictures, which takes half of the time and costs little.
    small_epochs: int = 8
    small: int = 24
    batch: int = 744
    # Of Muon, for convolutions, and of AdamW, for all else.
    rate: float = 0.16
    other_rate: float = 2e-3
    smoothing: float = 0.1
    # Pixels to move by, the side of a hole as a share of the picture's, and the change of tint.
    shift: int = 3
    hole: float = 0.3
    tint: float = 0.1
    # 17 takes every seventeenth picture.
    every: int = 1
    seed: int = 7


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates for convolutions, whose weights keep their norm."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for p in group["params"]:
                held = self.state[p].setdefault("momentum", torch.zeros_like(p.grad))
                held.mul_(group["momentum"]).add_(p.grad)
                update = p.grad.add(held, alpha=group["momentum"])
                p.mul_(len(p) ** 0.5 / p.norm())
                p.add_(_orthogonal(update.reshape(len(p), -1)).view_as(p), alpha=-group["lr"])


def _orthogonal(matrix: Tensor, steps: int = 4) -> Tensor:
    """A matrix near the closest half-orthogonal one, by Newton and Schulz's iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(fast())
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return (x.T if tall else x).to(matrix.dtype)


def disturb(x: Tensor, mirrored: Tensor, plan: ThumbnailPlan) -> Tensor:
    """Mirror where told, move a little, change the tint a little, cut a square hole out."""
    count, size, device = len(x), x.shape[-1], x.device
    tint = plan.tint * torch.randn(count, 4, 1, 1, device=device)
    x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    x = x * (1 + tint[:, :1]) + tint[:, 1:]
    hole = round(plan.hole * size)
    places = torch.arange(size, device=device)
    top, left = torch.randint(1 - hole, size, (2, count, 1, 1), device=device)
    rows, columns = (places[None, :, None] - top) // hole, (places[None, None] - left) // hole
    x = x.masked_fill(((rows == 0) & (columns == 0))[:, None], 0.0)
    padded = F.pad(places[None, None].float(), (plan.shift, plan.shift), mode="reflect")
    moved = padded[0, 0].long()
    by = torch.randint(2 * plan.shift + 1, (2, count, 1), device=device)
    down, right = moved[by + places]
    x = x.gather(2, down[:, None, :, None].expand_as(x))
    return x.gather(3, right[:, None, None, :].expand_as(x))


class Trainer:
    """The network, its data and its two optimisers."""

    def __init__(self, data: Path, work: Path, plan: ThumbnailPlan, device: str) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device = plan, device
        self.goals = Goals.load(work, torch.device(device))
        pictures = [*images.cifar(data, train=True), *images.caltech(data, train=True)]
        pictures = pictures[:: plan.every]
        self.concept = concepts_of([picture.concept for picture in pictures], self.goals).to(device)
        self.seen = thumbnails(pictures).to(device)
        self.turned = torch.rand(len(self.seen), device=device) < 0.5
        network = Thumbnail()
        network.whiten(normalise(self.seen[:5000].cpu()))
        self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.out = nn.Linear(WIDTHS[-1], DIM, bias=False).to(device)
        self.scale = nn.Parameter(torch.tensor(math.log(15.0), device=device))
        trained = [p for p in self.network.parameters() if p.requires_grad]
        others = [*(p for p in trained if p.dim() < 4), *self.out.parameters()]
        self.muon = Muon([p for p in trained if p.dim() == 4], plan.rate)
        self.adam = torch.optim.AdamW(
            [{"params": others}, {"params": [self.scale], "weight_decay": 0.0}],
            lr=plan.other_rate, betas=(0.85, 0.95), weight_decay=0.02,
        )  # fmt: skip

    def step(self, rows: Tensor, epoch: int, share: float) -> float:
        """The loss of one batch, and a step with this share of the rates."""
        for optimiser, rate in ((self.muon, self.plan.rate), (self.adam, self.plan.other_rate)):
            for group in optimiser.param_groups:
                group["lr"] = share * rate
        x = normalise(self.seen[rows])
        if epoch < self.plan.small_epochs:
            x = F.interpolate(x, size=self.plan.small, mode="bilinear", antialias=True)
        # Each picture is mirrored every other epoch, not at random.
        x = disturb(x, self.turned[rows] ^ bool(epoch % 2), self.plan)
        with autocast(self.device):
            features = self.network.see(x.contiguous(memory_format=torch.channels_last))
            vectors = F.normalize(self.out(features).float(), dim=-1)
        logits = self.scale.exp().clamp(max=LARGEST_SCALE) * vectors @ self.goals.draw().T
        loss = F.cross_entropy(
            logits, self.concept[rows], label_smoothing=self.plan.smoothing, ignore_index=-1
        )
        self.muon.zero_grad()
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.muon.step()
        self.adam.step()
        return loss.item()


def train(data: Path, work: Path, plan: ThumbnailPlan, device: str) -> None:
    """Train with CIFAR-10 and Caltech-101, and write the network to ``thumbnail.pt``."""
    trainer = Trainer(data, work, plan, device)
    steps = max(1, len(trainer.seen) // plan.batch)
    began = time.process_time()
    for epoch in range(plan.epochs):
        total = 0.0
        for step, rows in enumerate(torch.randperm(len(trainer.seen)).chunk(steps)):
            done = (epoch + step / steps) / plan.epochs
            warm = min(1.0, (epoch * steps + step + 1) / 20)
            total += trainer.step(rows, epoch, warm * (1 - done))
        print(f"thumbnail {epoch + 1}/{plan.epochs} loss {total / steps:.3f} "
              f"{time.process_time() - began:.0f} s of processor time", flush=True)  # fmt: skip
    torch.save(trainer.network.cpu().fold().state_dict(), work / "thumbnail.pt")
