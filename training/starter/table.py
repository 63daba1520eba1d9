"""Text vectors that pictures are aligned with, and the space that both live in.

The space is a shrunk whitening of the teacher's vectors of unrelated nouns: centred on them, and
with their common directions turned down. There, words of no class lie near right angles to all
classes, trained with or not; nothing in the map is fitted to the words of the ten classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import concepts, negatives
from .images import caltech, coco_captions, coco_objects
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


def build(data: Path, work: Path, bank: Path | None, every: int = 1) -> None:
    """Read the pictures once and write them and the text table into ``work``.

    Of the unrelated nouns and the pictures, one in ``every`` is used.
    """
    wordnet, teacher, meanings = open_teacher(work)
    train_nouns, test_nouns = negatives.split(wordnet, bank)
    train_nouns = train_nouns[::every]
    nouns = meanings(train_nouns)
    space = Space.fit(nouns)

    sets = [s(data, train=True)[::every] for s in (caltech, coco_objects)]
    names = list(concepts.CIFAR)
    names += sorted({c for s in sets for c in s.concept} - set(names))
    index = {name: i for i, name in enumerate(names)}
    words = [concepts.synonyms(n) for n in names]
    shown = {w for group in words for w in group}
    captioned = coco_captions(data, train=True)
    captions = [c for group in captioned.captions for c in group]
    meanings.read(w for group in words for w in group)
    # A noun too like a word that pictures are shown with is no negative.
    vectors = [space(meanings(list(group))) for group in words]
    near = (space(nouns) @ np.concatenate(vectors).T).max(1)
    keep = [i for i, n in enumerate(train_nouns) if n not in shown and near[i] < 0.5]
    np.savez(
        work / "table.npz",
        centre=space.centre,
        matrix=space.matrix,
        words=np.concatenate(vectors),
        owner=np.concatenate([[i] * len(g) for i, g in enumerate(words)]),
        negatives=space(nouns)[keep],
        captions=space(teacher(captions)),
        caption_owner=np.concatenate(
            [[i] * len(group) for i, group in enumerate(captioned.captions)]
        ),
    )
    np.savez(
        work / "pictures.npz",
        pixels=np.concatenate([s.pixels for s in sets]),
        concept=[index[c] for s in sets for c in s.concept],
        parent=[index.get(p, -1) for s in sets for p in s.parent],
        captioned=captioned.pixels,
    )
    lists = {"concepts": names, "words": words, "negatives": [train_nouns[i] for i in keep],
             "test_nouns": test_nouns, "captions": captioned.captions}  # fmt: skip
    (work / "table.json").write_text(json.dumps(lists), encoding="utf-8")
    print(f"table: {len(names)} concepts, {len(keep)} negatives, {len(captions)} captions")


def load_space(work: Path) -> Space:
    """The space that :func:`build` wrote."""
    saved = np.load(work / "table.npz")
    return Space(saved["centre"], saved["matrix"])
