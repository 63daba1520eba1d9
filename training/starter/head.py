"""The head over the trunk's features, and what it learns from.

An embedding is the backbone's own opinion, its posterior over ImageNet's classes times the vectors
of their names (Norouzi et al., ConSE, ICLR 2014), plus what a small network adds to it. Without the
first part most of what the backbone knows is lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import CLASSES, Backbone
from .names import SAID
from .table import DIM
from .thumbnail import Thumbnail
from .trunk import Trunk

HIDDEN = 1024
# Far above this, softmax over cosines only memorises.
LARGEST_SCALE = 60.0
NEGATIVES = 400


class Head(nn.Module):
    """Features and class logits to unit vectors."""

    def __init__(self, classes: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("classes", classes.clone())
        self.up = nn.Linear(width, HIDDEN)
        self.down = nn.Linear(HIDDEN, DIM)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        # Scales of the cosines to words and to captions, as logarithms.
        self.word_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.caption_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Unit vectors, [N, 256]."""
        added = self.down(F.dropout(F.relu(self.up(features)), 0.2, self.training))
        return F.normalize(logits.softmax(-1) @ self.classes + added, dim=-1)


class ImageTower(nn.Module):
    """Trunk and head: normalised pictures to unit vectors."""

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit vectors, [N, 256]."""
        features = self.trunk(pixels)
        vectors: Tensor = self.head(features, self.trunk.classify(features))
        return vectors

    @classmethod
    def empty(cls, kind: str) -> ImageTower:
        """A tower for the weights of a trained one."""
        trunk = Trunk(Backbone(kind), Thumbnail().fold())
        return cls(trunk, Head(torch.zeros(CLASSES, DIM), trunk.width)).eval()


@dataclass
class Goals:
    """The text side: what words, nouns and captions are, as vectors of the locked text tower."""

    concepts: list[str]
    classes: Tensor
    words: Tensor
    owner: Tensor
    negatives: Tensor
    captions: Tensor
    caption_owner: Tensor
    names: Tensor
    mentions: Tensor

    @classmethod
    def load(cls, work: Path, device: torch.device) -> Goals:
        """What :mod:`prompts` wrote."""
        saved = np.load(work / "prompts.npz")
        names = json.loads((work / "table.json").read_text(encoding="utf-8"))["concepts"]
        arrays = (saved[field.name] for field in fields(cls)[1:])
        return cls(names, *(torch.from_numpy(array).to(device) for array in arrays))

    def __post_init__(self) -> None:
        """Where the words of each concept begin, how many it has, and their mean vector."""
        self.count = torch.bincount(self.owner, minlength=len(self.concepts))
        self.first = self.count.cumsum(0) - self.count
        sums = torch.zeros(len(self.count), DIM, device=self.words.device)
        self.centres = F.normalize(sums.index_add_(0, self.owner, self.words), dim=-1)

    def draw(self) -> Tensor:
        """One word of each concept, then unrelated nouns."""
        device = self.words.device
        turn = (torch.rand(len(self.count), device=device) * self.count).long()
        some = torch.randint(len(self.negatives), (NEGATIVES,), device=device)
        return torch.cat([self.words[self.first + turn], self.negatives[some]])


def concepts_of(names: Sequence[str], goals: Goals) -> Tensor:
    """The number of each picture's concept, -1 where it is none of the goals'."""
    place = {name: i for i, name in enumerate(goals.concepts)}
    return torch.tensor([place.get(name, -1) for name in names])


def word_loss(head: Head, seen: Tensor, concept: Tensor, goals: Goals) -> Tensor:
    """Tell the own concept from all others and from unrelated nouns; -1 is no concept."""
    known = concept >= 0
    scale = head.word_scale.exp().clamp(max=LARGEST_SCALE)
    logits = scale * seen[known] @ goals.draw().T
    return F.cross_entropy(logits, concept[known], label_smoothing=0.02)


def near_loss(seen: Tensor, concept: Tensor, goals: Goals) -> Tensor:
    """Cosine distance to the mean vector of the own concept's words; -1 is no concept."""
    known = concept >= 0
    return (1 - (seen[known] * goals.centres[concept[known]]).sum(-1)).mean()


def class_loss(head: Head, seen: Tensor, posterior: Tensor) -> Tensor:
    """Keep the backbone's first opinion, read through the names of its classes (KL)."""
    scale = head.word_scale.exp().clamp(max=LARGEST_SCALE)
    mine = torch.log_softmax(scale * seen @ head.classes.T, -1)
    return F.kl_div(mine, posterior, reduction="batchmean")


def caption_loss(head: Head, seen: Tensor, photograph: Tensor, goals: Goals) -> Tensor:
    """Find the captions of a photograph, and the photograph of a caption; one row each."""
    scale = head.caption_scale.exp().clamp(max=LARGEST_SCALE)
    mine = goals.caption_owner[None] == photograph[:, None]
    used = mine.any(0)
    logits, mine = scale * seen @ goals.captions[used].T, mine[:, used]
    to_text = -(torch.log_softmax(logits, 1) * mine).sum(1) / mine.sum(1)
    to_picture = F.cross_entropy(logits.T, mine.float().argmax(0))
    return (to_text.mean() + to_picture) / 2


def name_loss(head: Head, seen: Tensor, photograph: Tensor, goals: Goals) -> Tensor:
    """Find the photographs that captions say show a thing, and the things of a photograph.

    What a single caption names counts neither for nor against it.
    """
    scale = head.caption_scale.exp().clamp(max=LARGEST_SCALE)
    counts = goals.mentions[photograph]
    mine = counts >= SAID
    used = mine.any(0)
    if not used.any():
        return seen.sum() * 0
    mine, unsure = mine[:, used].float(), (counts[:, used] > 0) & ~mine[:, used]
    logits = (scale * seen @ goals.names[used].T).masked_fill(unsure, -1e4)
    each = -(torch.log_softmax(logits, 0) * mine).sum(0) / mine.sum(0)
    own = -(torch.log_softmax(logits, 1) * mine).sum(1) / mine.sum(1).clamp(min=1)
    return (each.mean() + own.mean()) / 2
