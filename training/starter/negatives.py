"""Nouns that have nothing to do with the ten classes."""

from __future__ import annotations

import re
from pathlib import Path

from .concepts import SYNONYMS, UNSEEN
from .wordnet import ANIMAL, ARTIFACT, VISIBLE, WordNet, held_out

# All under these meanings is near a class; so are the meanings above them.
_NEAR = (
    ("bird", ANIMAL), ("carnivore", ANIMAL), ("ungulate", ANIMAL), ("amphibian", ANIMAL),
    ("reptile", ANIMAL), ("young", ANIMAL), ("domestic animal", ANIMAL),
    ("vehicle", ARTIFACT), ("conveyance", ARTIFACT), ("game", ANIMAL), ("male", ANIMAL),
    ("female", ANIMAL), ("aerie", ARTIFACT),
)  # fmt: skip
_WORD = re.compile(r"[a-z][a-z' -]+")


def class_synsets(wordnet: WordNet) -> dict[str, set[int]]:
    """The WordNet synsets that lie under each of the ten classes."""
    roots = {
        "airplane": "airplane", "automobile": "car", "bird": "bird", "cat": "domestic cat",
        "deer": "deer", "dog": "dog", "frog": "frog", "horse": "horse", "ship": "vessel",
        "truck": "truck",
    }  # fmt: skip
    return {
        name: wordnet.under([wordnet.find(r, ANIMAL if r in _animals() else ARTIFACT)])
        for name, r in roots.items()
    }


def _animals() -> set[str]:
    return {"bird", "domestic cat", "deer", "dog", "frog", "horse"}


def near_synsets(wordnet: WordNet) -> set[int]:
    """All meanings that are a class, above one, or close to one."""
    roots: set[int] = set()
    for lemma, lexfile in _NEAR:
        if any(wordnet.synsets[o].lexfile == lexfile for o in wordnet.senses.get(lemma, [])):
            roots.add(wordnet.find(lemma, lexfile))
    near = wordnet.under(roots)
    for offset in roots:
        near.update(wordnet.above(offset))
    return near


def common_nouns(wordnet: WordNet, fewest_senses: int = 2) -> list[str]:
    """Unrelated nouns that people may know: tagged in texts, or with several senses.

    A word is out if any of its meanings is near a class, and if its definition names one.
    """
    near = near_synsets(wordnet)
    banned = {w for words in (*SYNONYMS.values(), *UNSEEN.values()) for w in words}
    banned |= {"vehicle", "animal", "craft", "pet", "wildlife"}
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(banned)))})s?\b")
    found: list[str] = []
    for lemma, offsets in wordnet.senses.items():
        if not _WORD.fullmatch(lemma) or len(lemma) < 3 or lemma.count(" ") > 1:
            continue
        synsets = [wordnet.synsets[o] for o in offsets]
        if any(name[0].isupper() for s in synsets[:1] for name in s.lemmas):
            continue
        if synsets[0].lexfile not in VISIBLE or near.intersection(offsets):
            continue
        tagged = sum(wordnet.counts.get((lemma, n), 0) for n in range(1, len(offsets) + 1))
        if not tagged and len(offsets) < fewest_senses:
            continue
        if any(pattern.search(wordnet.meaning(o, lemma).lower()) for o in offsets[:4]):
            continue
        found.append(lemma)
    return sorted(found)


def split(wordnet: WordNet, bank: Path | None) -> tuple[list[str], list[str]]:
    """Unrelated nouns for training and for evaluation; the bank's phrases are in neither."""
    phrases: set[str] = set()
    if bank and bank.exists():
        for line in bank.read_text(encoding="utf-8").splitlines():
            text = line.strip().lower()
            if text and not text.startswith("#"):
                text = re.sub(r"^(?:an?|the|some) ", "", text)
                phrases.update({text, text.split()[-1]})
    nouns = [n for n in common_nouns(wordnet) if n not in phrases]
    return [n for n in nouns if not held_out(n)], [n for n in nouns if held_out(n)]
