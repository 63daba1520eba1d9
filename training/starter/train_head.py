"""Train the head on frozen features: a minute on two cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import features, images, restore, thumbnail
from .backbone import KINDS, Backbone, imagenet
from .head import (
    Goals,
    Head,
    ImageTower,
    caption_loss,
    class_loss,
    concepts_of,
    name_loss,
    near_loss,
    word_loss,
)
from .trunk import Trunk

Classify = Callable[[Tensor], Tensor]
"""Features to logits of ImageNet's classes."""

_PREFIX = "trunk.backbone."


@dataclass
class HeadPlan:
    """Choices of a training run; batches are pictures for each of the four goals."""

    # Few: the captions are soon known by heart.
    steps: int = 500
    rate: float = 6e-4
    decay: float = 0.3
    mixed: int = 256
    labelled: int = 384
    photographs: int = 256
    named: int = 256
    class_weight: float = 3.0
    word_weight: float = 4.0
    caption_weight: float = 1.0
    name_weight: float = 1.5
    # Draws pictures to the words of their concept, so that like words find them too.
    near_weight: float = 15.0
    seed: int = 0


def train(
    seen: dict[str, Any],
    classify: Classify,
    goals: Goals,
    photographs: Tensor | None = None,
    plan: HeadPlan | None = None,
) -> Head:
    """A head for the features of :func:`features.build`, with all photographs or only these."""
    plan = plan or HeadPlan()
    torch.manual_seed(plan.seed)
    random = np.random.default_rng(plan.seed)
    count = len(seen["whole"])
    used = torch.arange(count) if photographs is None else photographs
    pieces = seen["pieces"].reshape(count, -1, seen["pieces"].shape[-1])[used].flatten(0, 1)
    views = torch.stack([seen["whole"], seen["squashed"]])
    shown = torch.isin(torch.tensor(seen["objects_photograph"]).long(), used)
    objects = seen["objects"][shown]
    labelled = torch.cat([seen["cifar"], seen["caltech"], objects])
    named = [c for c, there in zip(seen["objects_concept"], shown, strict=True) if there]
    concept = concepts_of([*seen["cifar_concept"], *seen["caltech_concept"], *named], goals)
    # What the backbone's opinion is kept on; CIFAR's share is small, it is no authority there.
    known = torch.cat([pieces, seen["caltech"], objects, seen["cifar"][::4], *views[:, used]])
    head = Head(goals.classes, labelled.shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), lr=plan.rate, weight_decay=plan.decay)
    for step in range(plan.steps):
        now = min(1.0, step / 30) * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps))
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * now
        one, other = (known[torch.randint(len(known), (plan.mixed,))] for _ in range(2))
        share = torch.from_numpy(random.beta(0.4, 0.4, (plan.mixed, 1))).float()
        x = share * one + (1 - share) * other
        logits = classify(x).detach()
        loss = plan.class_weight * class_loss(head, head(x, logits), logits.softmax(-1))
        pick = torch.randint(len(labelled), (plan.labelled,))
        x = labelled[pick]
        vectors = head(x, classify(x).detach())
        loss = loss + plan.word_weight * word_loss(head, vectors, concept[pick], goals)
        loss = loss + plan.near_weight * near_loss(vectors, concept[pick], goals)
        some = used[torch.randperm(len(used))[: plan.photographs]]
        x = views[torch.randint(2, (len(some),)), some]
        vectors = head(x, classify(x).detach())
        loss = loss + plan.caption_weight * caption_loss(head, vectors, some, goals)
        some = used[torch.randperm(len(used))[: plan.named]]
        x = views[torch.randint(2, (len(some),)), some]
        vectors = head(x, classify(x).detach())
        loss = loss + plan.name_weight * name_loss(head, vectors, some, goals)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % 100 == 0 or step == plan.steps - 1:
            print(f"head {step}/{plan.steps} loss {loss.item():.3f}", flush=True)
    return head.eval()


def load(name: str, work: Path) -> Trunk:
    """The trunk of a model directory, or a backbone beside the network of thumbnails in ``work``.

    ``name`` is a published backbone (lite0, lite2), a file that :mod:`train_vision` wrote, or a
    model directory that :mod:`export` wrote.
    """
    if Path(name).is_dir():
        return restore.image_tower(Path(name)).trunk
    if name in KINDS:
        backbone = imagenet(name)
    else:
        state = torch.load(name, weights_only=True)
        backbone = Backbone(state["kind"])
        backbone.load_state_dict(
            {k.removeprefix(_PREFIX): v.float() for k, v in state["tower"].items()
             if k.startswith(_PREFIX)}
        )  # fmt: skip
    return Trunk(backbone, thumbnail.load(work / "thumbnail.pt")).eval()


def run(
    data: Path,
    work: Path,
    trunk: Trunk,
    further: Sequence[Path] = (),
    held_out: bool = False,
    device: str = "cpu",
    every: int = 1,
    plan: HeadPlan | None = None,
    detector: Path | None = None,
) -> None:
    """Train the head for a trunk, and write both to ``image.pt``.

    ``held_out`` leaves out the photographs of the COCO pack. ``detector`` names the objects of
    the others, which the head learns too.
    """
    known = features.build(trunk, data, further, device, every, detector)
    first = len(images.coco_records(data)) if held_out else 0
    used = torch.arange(first, len(known["whole"]))
    goals = Goals.load(work, torch.device("cpu"))
    save(trunk, train(known, trunk.cpu().classify, goals, used, plan), work)


def save(trunk: Trunk, head: Head, work: Path) -> None:
    """Write both to ``image.pt``."""
    tower = ImageTower(trunk, head).state_dict()
    torch.save({"tower": tower, "kind": trunk.backbone.kind}, work / "image.pt")


@torch.no_grad()
def embed(head: Head, classify: Classify, rows: Tensor) -> Tensor:
    """Unit vectors of features."""
    vectors: Tensor = head(rows, classify(rows))
    return vectors
