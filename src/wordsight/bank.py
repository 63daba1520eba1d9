"""The words that a query is judged against, kept as text beside this module.

``bank.txt`` holds neutral phrases and ``everyday.txt`` common things; together they stand for "some
other query". ``kinds.txt`` holds kinds of things, which stand for "what else the images may show".
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files


def _lines(name: str) -> tuple[str, ...]:
    text = files("wordsight").joinpath(name).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def neutral_phrases() -> tuple[str, ...]:
    """Return the phrases that hardly any library holds, in file order, without comments."""
    return _lines("bank.txt")


@cache
def everyday_things() -> tuple[str, ...]:
    """Return the common things of the bank, in file order; a library may hold some of them."""
    return _lines("everyday.txt")


@cache
def bank_phrases() -> tuple[str, ...]:
    """Return the phrases of the bank: the neutral ones, then the everyday things."""
    return neutral_phrases() + everyday_things()


@cache
def bank_hash() -> str:
    """Return 16 hex digits that name this bank; a library made with another must be re-scored."""
    text = "\n".join(bank_phrases()).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


@cache
def kind_groups() -> tuple[tuple[str, ...], ...]:
    """Return the groups of ``kinds.txt``: each the word above, then the kinds under it."""
    text = files("wordsight").joinpath("kinds.txt").read_text(encoding="utf-8")
    lines = (line.partition(":") for line in text.splitlines() if line[:1] not in ("", "#"))
    return tuple(
        (above.strip(), *(kind.strip() for kind in kinds.split(","))) for above, _, kinds in lines
    )


def kind_texts() -> tuple[str, ...]:
    """Return every word of :func:`kind_groups` as a query, group by group."""
    return tuple(with_article(word) for group in kind_groups() for word in group)


@cache
def vocabulary() -> dict[str, None]:
    """Return the words of the bank, the kinds and the label sets, the commonest first."""
    sets = [_lines(f"labels/{name}.txt") for name in ("everyday", "caltech101", "imagenet")]
    kinds = tuple(word for group in kind_groups() for word in group)
    texts = (*sets[0], *everyday_things(), *kinds, *neutral_phrases(), *sets[1], *sets[2])
    words = (word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))
    return dict.fromkeys(words)


def with_article(noun: str) -> str:
    """Return a noun as people type it into a search: ``a cup``, ``an egg``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
