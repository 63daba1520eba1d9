"""The background bank: the neutral phrases in ``bank.txt`` that stand for "some other query"."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


@cache
def bank_phrases() -> tuple[str, ...]:
    """Return the phrases of the bank, in file order, without comments."""
    text = files("wordsight").joinpath("bank.txt").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def bank_hash() -> str:
    """Return 16 hex digits that name this bank; a library made with another must be re-scored."""
    text = "\n".join(bank_phrases()).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()
