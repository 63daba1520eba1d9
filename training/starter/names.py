"""Names of things in captions: which photographs are said to show them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .wordnet import VISIBLE, WordNet

SAID = 2
"""Captions that must name a thing: one alone may be about something that is hardly to be seen."""
FEWEST = 4  # photographs that a name is learnt from


def mentions(
    captions: Sequence[Sequence[str]], wordnet: WordNet
) -> tuple[list[str], NDArray[np.uint8]]:
    """Names of visible things, and how many captions [P, N] of each photograph have them."""
    each = [Counter(n for text in group for n in set(_nouns(text, wordnet))) for group in captions]
    said = Counter(name for found in each for name, count in found.items() if count >= SAID)
    names = sorted(
        name
        for name, count in said.items()
        if count >= FEWEST and wordnet.synsets[wordnet.senses[name][0]].lexfile in VISIBLE
    )
    counts = [[min(found[name], 255) for name in names] for found in each]
    return names, np.array(counts, np.uint8).reshape(len(captions), len(names))


def _nouns(text: str, wordnet: WordNet) -> Iterator[str]:
    """The nouns of a text in their singular, and pairs of words that are one."""
    before = ""
    for word in re.findall(r"[a-z]+", text.lower()):
        noun = _singular(word, wordnet)
        if noun and f"{before} {noun}" in wordnet.senses:
            yield f"{before} {noun}"
        if noun and len(noun) > 2:
            yield noun
        before = word


def _singular(word: str, wordnet: WordNet) -> str | None:
    forms = [
        word,
        *wordnet.irregular.get(word, ()),
        word.removesuffix("s"),
        word.removesuffix("es"),
    ]
    if word.endswith("ies"):
        forms.append(word.removesuffix("ies") + "y")
    return next((form for form in forms if form in wordnet.senses), None)
