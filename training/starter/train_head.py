"""Train the head on frozen features: a minute on two cores."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import features, images, restore
from .backbone import KINDS, Backbone, imagenet
from .head import (
    Goals,
    Head,
    ImageTower,
    caption_loss,
    class_loss,
    name_loss,
    near_loss,
    word_loss,
)

_PREFIX = "backbone."


@dataclass
class HeadPlan:
    """Choices of a training run; batches are pictures for each of the four goals."""

    steps: int = 900
    rate: float = 1e-3
    decay: float = 0.1
    mixed: int = 512
    labelled: int = 384
    photographs: int = 160
    named: int = 256
    class_weight: float = 2.0
    word_weight: float = 1.0
    caption_weight: float = 0.5
    name_weight: float = 0.3
    # Draws pictures to the words of their concept, so that like words find them too.
    near_weight: float = 2.0
    # Keeps labelled pictures where the head of an earlier model has them.
    keep_weight: float = 0.0
    seed: int = 0


# For a head that learns on: short and gentle, and more of it for the captions, which are new.
LEARN_ON = HeadPlan(
    steps=220, rate=6e-4, decay=0.05, mixed=128, labelled=240, photographs=112,
    class_weight=3.0, word_weight=2.0, caption_weight=1.0, near_weight=2.5, keep_weight=8.0,
)  # fmt: skip


def concepts_of(names: Sequence[str], goals: Goals) -> Tensor:
    """The number of each picture's concept, -1 where it is none of the goals'."""
    place = {name: i for i, name in enumerate(goals.concepts)}
    return torch.tensor([place.get(name, -1) for name in names])


def train(
    seen: dict[str, Any],
    classify: nn.Linear,
    goals: Goals,
    photographs: Tensor | None = None,
    plan: HeadPlan | None = None,
    earlier: Head | None = None,
) -> Head:
    """A head for the features of :func:`features.build`, with all photographs or only these.

    It begins as ``earlier``, the head of another model with this backbone, or new.
    """
    plan = plan or (LEARN_ON if earlier else HeadPlan())
    torch.manual_seed(plan.seed)
    random = np.random.default_rng(plan.seed)
    count = len(seen["whole"])
    used = torch.arange(count) if photographs is None else photographs
    pieces = seen["pieces"].reshape(count, -1, seen["pieces"].shape[-1])[used].flatten(0, 1)
    views = torch.stack([seen["whole"], seen["squashed"]])
    labelled = torch.cat([seen["cifar"], seen["caltech"]])
    concept = concepts_of([*seen["cifar_concept"], *seen["caltech_concept"]], goals)
    # What the backbone's opinion is kept on; CIFAR's share is small, it is no authority there.
    known = torch.cat([pieces, seen["caltech"], seen["cifar"][::4], *views[:, used]])
    head = copy.deepcopy(earlier).train() if earlier else Head(goals.classes)
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
        if earlier:
            loss = loss + plan.keep_weight * _keep_loss(head, earlier, classify, x)
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


def _keep_loss(head: Head, earlier: Head, classify: nn.Linear, rows: Tensor) -> Tensor:
    """Cosine distance to an earlier head's vectors, of pictures and of mixtures of them."""
    share = torch.rand(len(rows), 1)
    mixed = share * rows + (1 - share) * rows[torch.randperm(len(rows))]
    rows = torch.cat([rows, mixed])
    vectors = head(rows, classify(rows).detach())
    return (1 - (vectors * embed(earlier, classify, rows)).sum(-1)).mean()


def load(name: str) -> tuple[Backbone, Head | None]:
    """A backbone, and the head to begin with where ``name`` is a model directory.

    ``name`` is a published backbone (lite0, lite2), a file that :mod:`train_vision` wrote, or a
    model directory that :mod:`export` wrote.
    """
    if name in KINDS:
        return imagenet(name), None
    if Path(name).is_dir():
        tower = restore.image_tower(Path(name))
        return tower.backbone, tower.head
    state = torch.load(name, weights_only=True)
    backbone = Backbone(state["kind"])
    backbone.load_state_dict(
        {k.removeprefix(_PREFIX): v.float() for k, v in state["tower"].items()
         if k.startswith(_PREFIX)}
    )  # fmt: skip
    return backbone.eval(), None


def run(
    data: Path,
    work: Path,
    backbone: Backbone,
    further: Sequence[Path] = (),
    held_out: bool = False,
    device: str = "cpu",
    every: int = 1,
    plan: HeadPlan | None = None,
    earlier: Head | None = None,
) -> None:
    """Train the head for a backbone, from an earlier one or new, and write both to ``image.pt``.

    ``held_out`` leaves out the photographs of the COCO pack.
    """
    known = features.build(backbone, data, further, device, every)
    first = len(images.coco_records(data)) if held_out else 0
    used = torch.arange(first, len(known["whole"]))
    goals = Goals.load(work, torch.device("cpu"))
    head = train(known, backbone.cpu()._fc, goals, used, plan, earlier)
    save(backbone, head, work)


def save(backbone: Backbone, head: Head, work: Path) -> None:
    """Write both to ``image.pt``."""
    tower = ImageTower(backbone, head).state_dict()
    torch.save({"tower": tower, "kind": backbone.kind}, work / "image.pt")


@torch.no_grad()
def embed(head: Head, classify: nn.Linear, rows: Tensor) -> Tensor:
    """Unit vectors of features."""
    vectors: Tensor = head(rows, classify(rows))
    return vectors
