"""A small reader for the WordNet 3 noun files (Debian: package wordnet-base)."""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

# Lexicographer files, by number, whose nouns name something that can be seen.
VISIBLE = {5, 6, 8, 13, 15, 17, 18, 19, 20, 27}
ANIMAL, ARTIFACT = 5, 6


@dataclass(frozen=True)
class Synset:
    """One meaning of a noun."""

    offset: int
    lexfile: int
    lemmas: tuple[str, ...]
    hypernyms: tuple[int, ...]
    gloss: str


def _default_folder() -> Path:
    return Path(os.environ.get("WORDNET_DICT", "/usr/share/wordnet"))


@dataclass
class WordNet:
    """Nouns, their meanings (most frequent first) and the tree above them."""

    folder: Path = field(default_factory=_default_folder)

    @cached_property
    def synsets(self) -> dict[int, Synset]:
        """Every noun synset by its offset."""
        found: dict[int, Synset] = {}
        with (self.folder / "data.noun").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(" "):
                    continue
                head, _, gloss = line.partition(" | ")
                parts = head.split()
                offset, lexfile, count = int(parts[0]), int(parts[1]), int(parts[3], 16)
                lemmas = tuple(
                    re.sub(r"\(.*\)$", "", parts[4 + 2 * i]).replace("_", " ") for i in range(count)
                )
                at = 4 + 2 * count
                pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
                up = tuple(int(p[1]) for p in pointers if p[0] in {"@", "@i"})
                found[offset] = Synset(offset, lexfile, lemmas, up, gloss.strip())
        return found

    @cached_property
    def senses(self) -> dict[str, list[int]]:
        """Offsets of a lower-case noun's meanings, most frequent first."""
        found: dict[str, list[int]] = {}
        with (self.folder / "index.noun").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(" "):
                    continue
                parts = line.split()
                count = int(parts[2])
                found[parts[0].replace("_", " ")] = [int(p) for p in parts[-count:]]
        return found

    @cached_property
    def irregular(self) -> dict[str, list[str]]:
        """Plurals that follow no rule, each with its singulars."""
        lines = (self.folder / "noun.exc").read_text(encoding="utf-8").splitlines()
        return {many: ones for many, *ones in map(str.split, lines)}

    @cached_property
    def counts(self) -> dict[tuple[str, int], int]:
        """How often a (lemma, sense number) occurs in WordNet's tagged texts."""
        found: dict[tuple[str, int], int] = {}
        with (self.folder / "cntlist.rev").open(encoding="utf-8") as lines:
            for line in lines:
                key, number, count = line.split()
                lemma, _, rest = key.partition("%")
                if rest.startswith("1:"):
                    found[lemma.replace("_", " "), int(number)] = int(count)
        return found

    @cached_property
    def children(self) -> dict[int, list[int]]:
        """Direct hyponyms (and instances) of a synset."""
        found: dict[int, list[int]] = defaultdict(list)
        for synset in self.synsets.values():
            for up in synset.hypernyms:
                found[up].append(synset.offset)
        return found

    def find(self, lemma: str, lexfile: int) -> int:
        """The most frequent meaning of ``lemma`` in a lexicographer file."""
        return next(o for o in self.senses[lemma] if self.synsets[o].lexfile == lexfile)

    def under(self, roots: Iterable[int]) -> set[int]:
        """The roots and all that lies under them."""
        found: set[int] = set()
        todo = list(roots)
        while todo:
            offset = todo.pop()
            if offset not in found:
                found.add(offset)
                todo += self.children.get(offset, [])
        return found

    def above(self, offset: int) -> list[int]:
        """The first chain of hypernyms, nearest first."""
        chain: list[int] = []
        while self.synsets[offset].hypernyms:
            offset = self.synsets[offset].hypernyms[0]
            chain.append(offset)
        return chain

    def meaning(self, offset: int, word: str, chain: int = 3) -> str:
        """A sentence that tells one meaning: ``word: synonyms, hypernyms; definition``."""
        synset = self.synsets[offset]
        names = [n for n in synset.lemmas if n.lower() != word.lower()][:2]
        names += [self.synsets[o].lemmas[0] for o in self.above(offset)[:chain]]
        definition = synset.gloss.split('; "')[0]
        return f"{word}: {', '.join(names)}; {definition}"

    def weighted_senses(self, lemma: str, most: int = 3) -> list[tuple[int, float]]:
        """The meanings of a noun that can be seen, with weights that sum to one.

        A meaning's weight is its count in tagged text plus one, halved with every place in
        WordNet's order, so that rare second meanings do not blur a word.
        """
        numbered = [
            (offset, (self.counts.get((lemma, number), 0) + 1) * 0.5 ** (number - 1))
            for number, offset in enumerate(self.senses.get(lemma, []), 1)
        ]
        seen = [(o, w) for o, w in numbered if self.synsets[o].lexfile in VISIBLE]
        chosen = (seen or numbered)[:most]
        total = sum(w for _, w in chosen)
        return [(o, w / total) for o, w in chosen]


def held_out(lemma: str) -> bool:
    """Whether a noun belongs to the quarter that is kept for evaluation."""
    return zlib.crc32(lemma.encode()) % 4 == 0
