"""Text vectors that pictures are aligned with, and the space that both live in.

The space is a shrunk whitening of the teacher's vectors of unrelated nouns: centred on them, and
with their common directions turned down. There, words of no class lie near right angles to all
classes, trained with or not; nothing in the map is fitted to the words of the ten classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import concepts, negatives
from .images import concept_names, photographs
from .teacher import Meanings, Teacher, Vectors, unit
from .wordnet import WordNet

DIM = 256
SHRINK = 0.3
GLOSS = 0.7


@dataclass
class Space:
    """A linear map from teacher vectors to the model's own space."""

    centre: Vectors
    matrix: Vectors

    @classmethod
    def fit(cls, nouns: Vectors, dim: int = DIM, shrink: float = SHRINK) -> Space:
        """Whiten the vectors of unrelated nouns."""
        centre = nouns.mean(0)
        values, vectors = np.linalg.eigh(np.cov((nouns - centre).T))
        values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
        matrix = vectors / np.sqrt(values + shrink * values.mean())
        return cls(centre.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, rows: Vectors) -> Vectors:
        """Unit vectors in the model's space."""
        return unit((rows - self.centre) @ self.matrix)


def open_teacher(work: Path) -> tuple[WordNet, Teacher, Meanings]:
    """WordNet, the sentence teacher and the word teacher, with their memory in ``work``."""
    wordnet = WordNet()
    teacher = Teacher(work / "teacher.npz")
    return wordnet, teacher, Meanings(teacher, wordnet, GLOSS)


def build(
    data: Path, work: Path, bank: Path | None, further: Sequence[Path] = (), every: int = 1
) -> None:
    """Write the words and captions of all pictures, and the space, into ``work``.

    ``further`` are folders of photographs with captions beside the COCO pack's. Of the unrelated
    nouns, one in ``every`` is used.
    """
    wordnet, _, meanings = open_teacher(work)
    train_nouns, test_nouns = negatives.split(wordnet, bank)
    train_nouns = train_nouns[::every]
    nouns = meanings(train_nouns)
    space = Space.fit(nouns)

    names = list(concepts.CIFAR)
    names += sorted(set(concept_names(data)) - set(names))
    words = [concepts.synonyms(n) for n in names]
    shown = {w for group in words for w in group}
    meanings.read(w for group in words for w in group)
    # A noun too like a word that pictures are shown with is no negative.
    vectors = [space(meanings(list(group))) for group in words]
    near = (space(nouns) @ np.concatenate(vectors).T).max(1)
    keep = [n for n, cosine in zip(train_nouns, near, strict=True)
            if n not in shown and cosine < 0.5]  # fmt: skip
    np.savez(
        work / "table.npz",
        centre=space.centre,
        matrix=space.matrix,
        words=np.concatenate(vectors),
        owner=np.repeat(np.arange(len(words)), [len(g) for g in words]),
    )
    captions = [record.captions for record in photographs(data, further)[0]]
    lists = {"concepts": names, "words": words, "negatives": keep, "test_nouns": test_nouns,
             "captions": captions}  # fmt: skip
    (work / "table.json").write_text(json.dumps(lists), encoding="utf-8")
    print(f"table: {len(names)} concepts, {len(keep)} negatives, {len(captions)} photographs")


def load_space(work: Path) -> Space:
    """The space that :func:`build` wrote."""
    saved = np.load(work / "table.npz")
    return Space(saved["centre"], saved["matrix"])
