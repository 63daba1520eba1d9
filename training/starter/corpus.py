"""The texts that the text tower learns from, each with the vector it should get."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import concepts
from .negatives import class_synsets
from .table import Space, load_space, open_teacher
from .teacher import Vectors
from .wordnet import ANIMAL, ARTIFACT, WordNet

_LOWER = re.compile(r"[a-z][a-z0-9' -]+")
# Animals, made things, food, natural objects, people, phenomena, plants: WordNet's file numbers.
_EVERYDAY = {ANIMAL, ARTIFACT, 13, 17, 18, 19, 20}
# One noun in so many is never read, so that new nouns can be measured.
HELD_OUT = 20

MODIFIERS: tuple[str, ...] = (
    "red", "blue", "green", "white", "black", "yellow", "brown", "grey", "dark", "old", "new",
    "small", "large", "big", "tiny", "huge", "wild", "young", "baby", "adult", "wooden", "toy",
    "flying", "running", "sleeping", "standing", "parked", "moving", "beautiful", "cute",
    "vintage", "modern", "military", "police", "shiny", "dirty", "broken", "colourful", "spotted",
    "striped", "fast", "two", "three", "many", "single", "famous", "american", "european",
)  # fmt: skip
SCENES: tuple[str, ...] = (
    "at night", "in the snow", "on the grass", "by the water", "on a road", "in the sky",
    "in a field", "at sea", "in the city", "in a forest", "on a table", "in the rain",
    "from above", "seen from the side", "at sunset", "on a white background", "in the garden",
    "at the beach", "in a room", "in the distance",
)  # fmt: skip


@dataclass
class Corpus:
    """Words (to be put into templates), fixed texts, and parts that change a word's vector."""

    words: list[str]
    word_vectors: Vectors
    weights: np.ndarray
    texts: list[str]
    text_vectors: Vectors
    captions: list[str]
    caption_vectors: Vectors
    parts: list[str]
    part_vectors: Vectors


def vocabulary(wordnet: WordNet) -> tuple[list[str], list[float]]:
    """Nouns worth knowing, and how often to practise each."""
    inside = set().union(*class_synsets(wordnet).values())
    words, weights = [], []
    for lemma, offsets in wordnet.senses.items():
        if not _LOWER.fullmatch(lemma) or lemma.count(" ") > 2:
            continue
        synsets = [wordnet.synsets[o] for o in offsets]
        common = any(name == lemma for s in synsets for name in s.lemmas)
        tagged = sum(wordnet.counts.get((lemma, n), 0) for n in range(1, len(offsets) + 1))
        everyday = any(s.lexfile in _EVERYDAY for s in synsets)
        shown = bool(inside.intersection(offsets))
        if not shown and zlib.crc32(lemma.encode()) % HELD_OUT == 0:
            continue
        if shown:
            weight = 3.0 if common or tagged else 1.5
        elif common and (everyday or tagged or len(offsets) > 1):
            weight = 1.0 + (0.5 if tagged else 0.0)
        else:
            continue
        words.append(lemma)
        weights.append(weight)
    return words, weights


def plural(word: str, irregular: dict[str, str]) -> str:
    """The plural of a noun."""
    head, _, last = word.rpartition(" ")
    if last in irregular:
        last = irregular[last]
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def irregular_plurals(wordnet: WordNet) -> dict[str, str]:
    """Singular to plural, for nouns that do not follow a rule."""
    found: dict[str, str] = {}
    for many, ones in wordnet.irregular.items():
        for one in ones:
            found.setdefault(one, many)
    return found


def build(work: Path, every: int = 1) -> Corpus:
    """All texts with their vectors in the model's space; of the nouns, one in ``every``."""
    wordnet, teacher, meanings = open_teacher(work)
    space: Space = load_space(work)
    lists = json.loads((work / "table.json").read_text(encoding="utf-8"))
    words, weights = (part[::every] for part in vocabulary(wordnet))
    known = set(words)
    for group in lists["words"]:
        for word in group:
            if word in known:
                weights[words.index(word)] = 12.0
            else:
                words.append(word)
                weights.append(12.0)
    meanings.read(words)
    vectors = space(meanings(words))
    irregular = irregular_plurals(wordnet)
    many = [plural(w, irregular) for w in words]
    fresh = [i for i, m in enumerate(many) if m not in known]
    all_words = words + [many[i] for i in fresh]
    all_weights = np.array(weights + [0.35 * weights[i] for i in fresh])

    # What WordNet says about a meaning, as a text of its own and with the word in front.
    told = sorted({(o, meanings.head(w)) for w in words for o, _ in meanings._senses(w)})
    glosses = [wordnet.meaning(o, w) for o, w in told]
    gloss_vectors = space(teacher(glosses))
    plain = [wordnet.synsets[o].gloss.split('; "')[0] for o, _ in told]
    captions = [caption for group in lists["captions"] for caption in group]
    parts = [*MODIFIERS, *SCENES]
    return Corpus(
        all_words,
        np.concatenate([vectors, vectors[fresh]]),
        all_weights / all_weights.sum(),
        glosses + plain,
        np.concatenate([gloss_vectors, gloss_vectors]),
        captions,
        space(teacher(captions)),
        parts,
        space(teacher(parts)),
    )


def templates() -> tuple[str, ...]:
    """Frames that leave the meaning of a word as it is."""
    return concepts.TEMPLATES
