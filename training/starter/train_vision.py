"""Train the image tower against the fixed text table."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .concepts import CIFAR
from .images import cifar
from .precision import autocast
from .table import DIM
from .vision import MEAN, STD, Muon, VisionTower

SMOOTHING = 0.1
CAPTION_WEIGHT = 0.03
# Telling classes apart turns pictures of a class away from its siblings, and so from words it was
# not shown with. At the end the last layer alone is drawn back to the words.
SETTLE_STEPS, SETTLE_RATE, SETTLE_PULL = 300, 1e-3, 4.0
# Cosines are higher then; at this scale confidences are right (fitted: benchmarks.cifar10).
SETTLED_SCALE = 10.45


@dataclass
class Cycle:
    """A fall of the learning rate from ``rate`` (a share of the plan's) to nothing."""

    epochs: int
    rate: float = 1.0
    # The first epochs see smaller pictures, which takes less time and costs little.
    small_epochs: int = 0
    # The last epochs see no mixed pictures.
    mixed_epochs: int = 0
    mixed_share: float = 0.5


# The first cycle learns; it ends better on the pictures it saw than on others. The second one mixes
# pictures (CutMix), which closes some of that.
LONG = (Cycle(28, small_epochs=7), Cycle(16, rate=0.4, mixed_epochs=13))
# For half the time, and a point of accuracy less: fewer epochs, that also leave out half of the
# pictures that are learnt. The last epochs of the run see every picture.
SHORT = (Cycle(21, small_epochs=12), Cycle(13, rate=0.4, mixed_epochs=10))
SHORT_PRUNED = 0.5
WHOLE_EPOCHS = 3


@dataclass
class VisionPlan:
    """Choices of a training run."""

    cycles: tuple[Cycle, ...] = LONG
    # The share of the learnt pictures that an epoch leaves out.
    pruned: float = 0.0
    small: int = 24
    batch: int = 744
    captioned: int = 24
    # One CIFAR-10 picture in so many is used (a trial takes few).
    every: int = 1
    muon_lr: float = 0.16
    adam_lr: float = 2e-3
    negatives: int = 400
    seed: int = 7


def normalise(pixels: Tensor) -> Tensor:
    """Bytes (rows, 32, 32, 3) to the tower's input."""
    x = pixels.permute(0, 3, 1, 2).float().div_(255)
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return x.contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, flip: Tensor, shift: int = 4) -> Tensor:
    """Mirror where told, then move by up to ``shift`` pixels (edges reflected)."""
    size = images.shape[-1]
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    padded = F.pad(images, (shift,) * 4, mode="reflect")
    moves = torch.randint(0, 2 * shift + 1, (len(images), 2))
    out = torch.empty_like(images)
    for dy in range(2 * shift + 1):
        for dx in range(2 * shift + 1):
            rows = ((moves[:, 0] == dy) & (moves[:, 1] == dx)).nonzero()[:, 0]
            if len(rows):
                out[rows] = padded[rows, :, dy : dy + size, dx : dx + size]
    return out


def disturb(images: Tensor, hole: int, tint: float = 0.1) -> Tensor:
    """Change brightness and tint a little, and cut a square hole out of each picture."""
    count, _, height, width = images.shape
    images = images * (1 + tint * torch.randn(count, 1, 1, 1))
    images = images + tint * torch.randn(count, 3, 1, 1)
    top = torch.randint(1 - hole, height, (count, 1, 1))
    left = torch.randint(1 - hole, width, (count, 1, 1))
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None]
    inside = (y >= top) & (y < top + hole) & (x >= left) & (x < left + hole)
    return images.masked_fill(inside[:, None], 0.0)


class TextTable:
    """Draws a text vector for every concept and for some unrelated nouns."""

    def __init__(self, work: Path) -> None:
        saved = np.load(work / "prompts.npz")
        self.words = torch.from_numpy(saved["words"])
        self.owner = torch.from_numpy(saved["owner"])
        self.negatives = torch.from_numpy(saved["negatives"])
        self.captions = torch.from_numpy(saved["captions"])
        self.caption_owner = torch.from_numpy(saved["caption_owner"])
        self.count = int(self.owner.max()) + 1
        mean = torch.zeros(self.count, self.words.shape[1])
        self.mean = F.normalize(mean.index_add(0, self.owner, self.words), dim=-1)

    def draw(self, negatives: int) -> Tensor:
        """One row a concept, between its mean and a random word of it, then nouns."""
        noise = torch.rand(self.count, len(self.words))
        noise[self.owner[None] != torch.arange(self.count)[:, None]] = -1
        word = self.words[noise.argmax(1)]
        concepts = F.normalize(0.6 * self.mean + 0.4 * word, dim=-1)
        nouns = self.negatives[torch.randperm(len(self.negatives))[:negatives]]
        return torch.cat([concepts, nouns])

    def draw_captions(self) -> Tensor:
        """One random caption for each captioned picture."""
        noise = torch.rand(int(self.caption_owner.max()) + 1, len(self.captions))
        noise[self.caption_owner[None] != torch.arange(len(noise))[:, None]] = -1
        return self.captions[noise.argmax(1)]


def targets(parents: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Goal weights over concepts, and which concepts a picture says nothing about.

    A flamingo is half flamingo, half bird; a bird of CIFAR-10 may be a flamingo or not.
    """
    family = torch.full((count,), -1)
    known = parents >= 0
    family[labels[known]] = parents[known]
    goal = F.one_hot(labels, count).float()
    rows = known.nonzero()[:, 0]
    goal[rows] *= 0.5
    goal[rows, parents[rows]] += 0.5
    return goal, (family[None] == labels[:, None]) & (goal == 0)


def smooth_loss(logits: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of each row, with a little of the goal spread over all open columns."""
    extra = logits.shape[1] - goal.shape[1]
    goal, mask = F.pad(goal, (0, extra)), F.pad(mask, (0, extra))
    log = logits.masked_fill(mask, -1e4).log_softmax(-1)
    open_ = (~mask).float()
    goal = (1 - SMOOTHING) * goal + SMOOTHING * open_ / open_.sum(1, keepdim=True)
    return -(goal * log.masked_fill(mask, 0)).sum(1)


def pruned(losses: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Which pictures an epoch sees, and what each counts (InfoBatch; Qin et al., ICLR 2024).

    Of those whose last loss was below the mean, ``share`` are left out at random and the others
    count the more, so that the gradient is the same on average. A loss may be infinite: not seen.
    """
    easy = losses < losses[losses.isfinite()].mean()
    stay = ~easy | (torch.rand(len(losses)) >= share)
    weight = torch.where(easy, 1 / (1 - share), 1.0)
    rows = stay.nonzero()[:, 0]
    return rows[torch.randperm(len(rows))], weight


@torch.inference_mode()
def embed(tower: nn.Module, pixels: Tensor, batch: int = 1000, mirror: bool = False) -> Tensor:
    """Unit vectors of pictures in evaluation mode."""
    was, rows = tower.training, []
    tower.eval()
    for start in range(0, len(pixels), batch):
        x = normalise(pixels[start : start + batch])
        with autocast():
            e = tower(x)
            rows.append(F.normalize(e + tower(x.flip(-1)), dim=-1) if mirror else e)
    tower.train(was)
    return torch.cat(rows)


def rate(cycle: Cycle, epoch: float, per_epoch: int) -> float:
    """The share of the learning rate: a short rise, then a fall to nothing."""
    return cycle.rate * min(1.0, (epoch * per_epoch + 1) / 20) * (1 - epoch / cycle.epochs)


def mix(images: Tensor) -> tuple[Tensor, Tensor, float]:
    """A rectangle of each picture replaced by that of another one (CutMix, Yun et al. 2019).

    Returns the pictures, which other one each got, and the share of the own one that is left.
    """
    size = images.shape[-1]
    side = (1 - torch.rand(())).sqrt()
    middle = torch.randint(0, size, (2,))
    low = (middle - side * size / 2).round().int().clamp(0, size)
    high = (middle + side * size / 2).round().int().clamp(0, size)
    other = torch.randperm(len(images))
    (top, left), (bottom, right) = low.tolist(), high.tolist()
    images = images.clone()
    images[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
    return images, other, 1 - (bottom - top) * (right - left) / size**2


def train(data: Path, work: Path, plan: VisionPlan) -> None:
    """Train, with a checkpoint after every epoch; goes on from the last one if there is one."""
    torch.manual_seed(plan.seed)
    main = cifar(data, train=True)[:: plan.every]
    others = np.load(work / "pictures.npz")
    pixels = torch.from_numpy(np.concatenate([main.pixels, others["pixels"]]))
    labels = torch.tensor([CIFAR.index(c) for c in main.concept] + others["concept"].tolist())
    parents = torch.tensor([-1] * len(main.concept) + others["parent"].tolist())
    captioned = torch.from_numpy(others["captioned"])
    table = TextTable(work)

    tower = VisionTower(DIM).to(memory_format=torch.channels_last)
    tower.set_whitening(normalise(pixels[:5000]))
    scale = nn.Parameter(torch.tensor(15.0).log())
    convolutions = [p for p in tower.parameters() if p.ndim == 4 and p.requires_grad]
    small = [p for p in tower.parameters() if p.ndim < 4 and p.requires_grad]
    muon = Muon(convolutions, plan.muon_lr)
    adam = torch.optim.AdamW(
        [{"params": small}, {"params": [scale], "weight_decay": 0.0}],
        lr=plan.adam_lr, betas=(0.85, 0.95), weight_decay=0.02,
    )  # fmt: skip
    # The loss of each picture when it was last seen unmixed.
    last_losses = torch.full((len(pixels),), torch.inf)
    first = 0
    saved = work / "vision.pt"
    part = saved.with_suffix(".part")
    if saved.exists():
        state = torch.load(saved)
        tower.load_state_dict(state["tower"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        scale.data.copy_(state["scale"])
        last_losses = state["losses"]
        first = state["epoch"]
    flips = torch.rand(len(pixels), generator=torch.Generator().manual_seed(plan.seed)) < 0.5
    whiten_bias = tower.whiten.bias
    schedule = [(cycle, step) for cycle in plan.cycles for step in range(cycle.epochs)]
    for epoch in range(first, len(schedule)):
        cycle, turn = schedule[epoch]
        torch.manual_seed(plan.seed + 1000 * epoch)
        started, seen, hits, losses = time.time(), 0, 0, 0.0
        tower.train()
        # The whitening bias settles early; afterwards the first layer needs no gradient.
        whiten_bias.requires_grad_(epoch < 3)
        whole = epoch >= len(schedule) - WHOLE_EPOCHS
        order, weight = pruned(last_losses, 0.0 if whole else plan.pruned)
        per_epoch = len(order) // plan.batch
        for k in range(per_epoch):
            share = rate(cycle, turn + k / per_epoch, per_epoch)
            for optimiser, base in ((muon, plan.muon_lr), (adam, plan.adam_lr)):
                for group in optimiser.param_groups:
                    group["lr"] = base * share
            rows = order[k * plan.batch : (k + 1) * plan.batch]
            # Each picture is mirrored every other epoch, not at random.
            flip = flips[rows] ^ bool(epoch % 2)
            batch = normalise(pixels[rows])
            # A few captioned photographs ride along.
            some = torch.randperm(len(captioned))[: plan.captioned]
            batch = torch.cat([batch, normalise(captioned[some])])
            flip = torch.cat([flip, torch.rand(len(some)) < 0.5])
            if turn < cycle.small_epochs:
                batch = F.interpolate(batch, size=plan.small, mode="bilinear", antialias=True)
            goal, mask = targets(parents[rows], labels[rows], table.count)
            mixed = turn < cycle.mixed_epochs and bool(torch.rand(()) < cycle.mixed_share)
            if mixed:
                x = augment(disturb(batch, hole=0), flip)
                x[: len(rows)], other, left = mix(x[: len(rows)])
                goal = left * goal + (1 - left) * goal[other]
                mask = (mask | mask[other]) & (goal == 0)
            else:
                x = augment(disturb(batch, hole=5 * batch.shape[-1] // 16), flip)
            x = x.contiguous(memory_format=torch.channels_last)
            with autocast():
                e = tower(x)
            shown = e[: len(rows)]
            logits = scale.exp() * shown @ table.draw(plan.negatives).T
            each = smooth_loss(logits, goal, mask)
            if not mixed:
                last_losses[rows] = each.detach()
            loss = (weight[rows] * each).mean()
            pairs = scale.exp() * e[len(rows) :] @ table.draw_captions()[some].T
            at = torch.arange(len(pairs))
            both = F.cross_entropy(pairs, at) + F.cross_entropy(pairs.T, at)
            loss = loss + CAPTION_WEIGHT * both
            for optimiser in (muon, adam):
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            muon.step()
            adam.step()
            with torch.no_grad():
                scale.clamp_(max=float(np.log(100)))
            seen += len(rows)
            losses += loss.item()
            hits += int((logits[:, : table.count].argmax(1) == labels[rows]).sum())
            if k % 20 == 0:
                print(f"epoch {epoch} {k}/{per_epoch} loss {loss.item():.3f} "
                      f"acc {hits / seen:.3f} scale {scale.exp().item():.1f} "
                      f"{seen / (time.time() - started):.0f}/s", flush=True)  # fmt: skip
        state = {
            "tower": tower.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(),
            "scale": scale.detach(), "losses": last_losses, "epoch": epoch + 1,
        }  # fmt: skip
        torch.save(state, part)
        part.replace(saved)
        print(f"epoch {epoch + 1}: loss {losses / per_epoch:.3f} "
              f"in {time.time() - started:.0f} s", flush=True)  # fmt: skip
    tower.load_state_dict(torch.load(saved)["tower"])
    settle(tower, pixels, labels, parents, table, scale.exp().item())
    torch.save({"tower": tower.state_dict(), "scale": SETTLED_SCALE}, work / "settled.pt")


def settle(
    tower: VisionTower, pixels: Tensor, labels: Tensor, parents: Tensor, table: TextTable,
    scale: float,
) -> None:  # fmt: skip
    """Draw the last layer back to the words: the same loss, and the cosine to the own concept."""
    tower.eval()
    with torch.inference_mode(), autocast():
        rows = [tower.features(normalise(part)).float() for part in pixels.split(500)]
    features = torch.cat(rows).clone()
    weight = tower.head.weight
    adam = torch.optim.Adam([weight], SETTLE_RATE)
    for step in range(SETTLE_STEPS):
        adam.param_groups[0]["lr"] = SETTLE_RATE * (1 - step / SETTLE_STEPS)
        some = torch.randint(0, len(features), (2000,))
        e = F.normalize(features[some] @ weight.T, dim=-1)
        goal, mask = targets(parents[some], labels[some], table.count)
        loss = smooth_loss(scale * e @ table.draw(400).T, goal, mask).mean()
        loss = loss + SETTLE_PULL * (1 - (e * table.mean[labels[some]]).sum(1)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    print(f"settled: loss {loss.item():.3f}", flush=True)
