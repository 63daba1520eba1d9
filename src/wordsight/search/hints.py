"""Lines that help with a query: signs that were taken as words, words misspelt, thumbnails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from wordsight.bank import vocabulary
from wordsight.search import Query

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.search import Result

    Sides = Callable[[], NDArray[np.int64] | None]

THUMBNAIL = 128
"""Pixels of the longer side of an image that is little more than an icon."""
SHARE_OF_LARGE = 0.01
"""Of the views: how many must be of large images for a line about thumbnails."""
_SIGN = re.compile(r"(?:^|\s)([+\-\u2212])\s*(?=[^\W\d_])")
_WORD = re.compile(r"[^\W\d_]+")
_ENDINGS = ("s", "es", "ed", "d", "ing", "er", "r", "y", "ly", "n", "en")


def hints(query: object, result: Result, sides: Sides = lambda: None) -> list[str]:
    """What to say to who asked a query, beside its result.

    Combinations are written with quotes: ``beach + sunset`` without them is looked for as words,
    and a line says so. Words are put right only where nothing matches. ``sides`` gives
    the longer sides of all images, asked where most hits are small, or None where that takes long.
    """
    found = thumbnails(result, sides)
    if isinstance(query, Query) and len(query.terms) == 1 and query.terms[0].weight == 1:
        query = query.terms[0].text
    if not isinstance(query, str) or '"' in query or "\u201c" in query:
        return found
    if combined := as_combination(query):
        found.append(f"+ and - combine words in quotes; to combine, write: {combined}")
    if result.verdict == "none" and (better := put_right(query)):
        found.append(f'did you mean "{better}"?')
    return found


def thumbnails(result: Result, sides: Sides) -> list[str]:
    """A line where most hits are thumbnails and a part of the library is much larger.

    Thumbnails of one kind of thing resemble each other, and words, more than photographs do.
    """
    small = [hit for hit in result.hits if max(hit.width, hit.height) <= THUMBNAIL]
    if len(small) * 2 <= len(result.hits):
        return []
    all_sides = sides()
    if all_sides is None or (all_sides > 4 * THUMBNAIL).mean() < SHARE_OF_LARGE:
        return []
    return [
        "most of these are thumbnails, but the library has larger images; the filter "
        f"width > {THUMBNAIL} leaves out the thumbnails."
    ]


def as_combination(query: str) -> str | None:
    """``beach + sunset -people`` as it would be written; None where there is nothing to combine."""
    first, *others = _SIGN.split(query.strip())
    terms = list(zip(others[::2], others[1::2], strict=True))
    if not terms or not first.strip():  # "-dog" alone leaves nothing to look for
        return None
    written = [f'"{first.strip()}"']
    for sign, words in terms:
        written += ["+" if sign == "+" else "-", f'"{words.strip()}"']
    return " ".join(written)


def put_right(query: str) -> str | None:
    """A query with the first word that looks misspelt put right; None where none does."""
    known = vocabulary()
    for found in _WORD.finditer(query):
        word = found[0].lower()
        if word not in known and (better := _nearest(word, known)):
            return query[: found.start()] + better + query[found.end() :]
    return None


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """The first known word that is one slip away: two letters swapped, one wrong, missing, added.

    Of three letters only swapped ones tell enough, and an ending is no slip.
    """
    swapped = {word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in range(len(word) - 1)}
    if found := next((other for other in known if other in swapped), None):
        return found
    if len(word) < 5:
        return None
    # One slip leaves the first or the last half of a word as it is.
    half = (len(word) - 1) // 2
    head, tail = word[:half], word[-half:]
    alike = (other for other in known if other.startswith(head) or other.endswith(tail))
    return next((other for other in alike if _one_edit(word, other)), None)


def _one_edit(word: str, other: str) -> bool:
    if abs(len(word) - len(other)) > 1 or len(other) < 4:
        return False
    if any(a == b + end for end in _ENDINGS for a, b in ((word, other), (other, word))):
        return False
    start = 0
    while start < min(len(word), len(other)) and word[start] == other[start]:
        start += 1
    if len(word) == len(other):
        return word[start + 1 :] == other[start + 1 :]
    longer, shorter = sorted((word, other), key=len, reverse=True)
    return longer[start + 1 :] == shorter[start:]
