"""Names as they are spoken, and WordNet's common nouns (Debian: package wordnet-base)."""

from __future__ import annotations

import re
from pathlib import Path

SPOKEN_OF = {
    "airplane", "aircraft", "plane", "automobile", "car", "truck", "ship", "boat", "vehicle",
    "bird", "cat", "deer", "dog", "frog", "horse", "animal",
}  # fmt: skip


def spoken(name: str) -> str:
    """A name as it is spoken: without qualifier, blanks for underscores."""
    return name.partition("_(")[0].replace("_", " ")


def head(name: str) -> str:
    """The last word of a name, without plural s."""
    return spoken(name).replace("-", " ").lower().split()[-1].removesuffix("s")


def wordnet_nouns(folder: Path, forms: set[str]) -> dict[str, list[str]]:
    """Return unrelated common nouns: ``seen`` in WordNet's tagged text, ``rare``, and ``all``.

    A noun is left out when any of its senses is an animal, a vehicle or craft, a part of one, or
    defined by a word of SPOKEN_OF ("shipyard"); when a word of it is the name of one ("gravy boat",
    "airplane landing"); when it is a proper name; or when its head noun is in ``forms``
    (those of the bank).
    """
    words: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    instances, spoken_of = set(), set()
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        synset, _, definition = line.partition(" | ")
        fields = synset.split()
        offset, count = fields[0], int(fields[3], 16)
        words[offset] = [fields[4 + 2 * i] for i in range(count)]
        if SPOKEN_OF & {w.removesuffix("s") for w in re.findall(r"[a-z]+", definition)}:
            spoken_of.add(offset)
        at = 4 + 2 * count
        for i in range(int(fields[at])):
            symbol, target, kind, _ = fields[at + 1 + 4 * i : at + 5 + 4 * i]
            if kind != "n":
                continue
            if symbol in ("@", "@i"):
                below.setdefault(target, []).append(offset)
                if symbol == "@i":
                    instances.add(offset)
            elif symbol == "%p":
                parts.setdefault(offset, []).append(target)
    roots = [o for o, lemmas in words.items() if lemmas[0] in ("animal", "vehicle", "craft")]
    related, queue = set(), list(roots)
    while queue:
        offset = queue.pop()
        if offset not in related and words[offset][0] != "homo":
            related.add(offset)
            queue += below.get(offset, [])
    related |= {part for offset in related for part in parts.get(offset, [])}
    related |= spoken_of
    taken = {w.lower() for o in related for w in words[o]}
    tagged = {
        line.split("%")[0]
        for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines()
        if "%1:" in line
    }
    nouns: dict[str, list[str]] = {"seen": [], "rare": []}
    done: set[str] = set()
    for offset, lemmas in words.items():
        for word in lemmas:
            if offset in instances or word != word.lower() or not word.replace("_", "").isalpha():
                continue
            if word in done or word in taken or head(word) in forms:
                continue
            if not taken.isdisjoint(word.split("_")):
                continue
            done.add(word)
            nouns["seen" if word in tagged else "rare"].append(word.replace("_", " "))
    return {"all": nouns["seen"] + nouns["rare"], **nouns}
