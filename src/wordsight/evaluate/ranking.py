"""Where the relevant items of each query stand; every retrieval metric follows from that alone.

A :class:`Ranking` holds, for every relevant item of every query, how many items of the gallery
score higher and how many score the same. It is made from a score matrix, from ranked lists, or
block by block, so that a million images times thousands of queries never sit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

IntArray = npt.NDArray[np.int64]

NEVER = 1 << 62
"""So many items are above one that was not retrieved at all."""

Scores = npt.NDArray[np.floating[Any]]
Relevant = npt.NDArray[np.bool_] | Sequence[npt.ArrayLike]
"""bool [Q, N], or for each query the indices of its relevant items (ragged)."""


@dataclass(frozen=True)
class Ranking:
    """Where the relevant items of each query stand among the gallery's N items.

    ``query`` int64 [R] ascending: whose item it is; ``above`` int64 [R]: items that score higher;
    ``tied`` int64 [R]: items that score the same, itself counted. R counts all pairs of a query
    and one of its relevant items; every query has at least one. ``gain`` float64 [R]: how relevant
    each is, where that differs (see :meth:`with_gains`).
    """

    query: IntArray
    above: IntArray
    tied: IntArray
    queries: int
    gallery: int
    gain: FloatArray | None = None

    def with_gains(self, gains: Sequence[npt.ArrayLike] | None) -> Ranking:
        """Return it with graded relevance, above 0, for each query's items by ascending index.

        For rankings :meth:`from_scores` and :meth:`from_blocks`; :func:`ndcg_at_k` alone heeds
        grades. None: all alike. Raises ValueError where they do not fit.
        """
        if gains is None:
            return self
        lengths = [len(np.asarray(row)) for row in gains]
        if lengths != np.bincount(self.query, minlength=self.queries).tolist():
            raise ValueError("give one gain for each relevant item of each query")
        gain = np.concatenate([np.zeros(0), *(np.asarray(row, np.float64) for row in gains)])
        if not ((gain > 0) & np.isfinite(gain)).all():
            raise ValueError("a gain is a number above 0")
        return replace(self, gain=gain)

    @classmethod
    def from_scores(cls, scores: Scores, relevant: Relevant) -> Ranking:
        """Return the ranking by a score matrix [Q, N], higher is better.

        Raises ValueError where a query has no relevant item, an index is out of range, or a score
        is not a number.
        """
        scores = np.asarray(scores)
        return cls.from_blocks(
            lambda rows, columns: scores[rows, columns],
            relevant,
            gallery=scores.shape[1],
            query_chunk=max(1, len(scores)),
            gallery_chunk=max(1, scores.shape[1]),
        )

    @classmethod
    def from_blocks(
        cls,
        block: Callable[[slice, slice], Scores],
        relevant: Relevant,
        *,
        gallery: int,
        query_chunk: int = 64,
        gallery_chunk: int = 65536,
    ) -> Ranking:
        """Return the ranking by scores that ``block(queries, items)`` gives piece by piece.

        Each block is asked for twice, once for the scores of the relevant items and once to count
        what beats them, and must be the same both times. Memory: one block, and R counters.
        """
        indices = _relevant_indices(relevant, gallery)
        spans = list(slices(gallery, gallery_chunk))
        parts = []
        for rows in slices(len(indices), query_chunk):
            chunk = indices[rows]
            wanted: list[list[Scores]] = [[] for _ in chunk]
            for span in spans:
                scores = np.asarray(block(rows, span))
                if np.isnan(scores).any():
                    raise ValueError("a score is not a number")
                for items, found, line in zip(chunk, wanted, scores, strict=True):
                    inside = items[(items >= span.start) & (items < span.stop)]
                    found.append(line[inside - span.start])
            counters = [_Counter(np.concatenate(found)) for found in wanted]
            for span in spans:
                for counter, line in zip(counters, np.asarray(block(rows, span)), strict=True):
                    counter.count(line)
            for number, counter in enumerate(counters, start=rows.start):
                above, tied = counter.result()
                parts.append((np.full(len(above), number), above, tied))
        return cls._joined(parts, len(indices), gallery)

    @classmethod
    def from_lists(
        cls,
        ranked: Sequence[Sequence[Hashable]],
        relevant: Sequence[Collection[Hashable]],
        *,
        gallery: int | None = None,
    ) -> Ranking:
        """Return the ranking of ready lists of ids, best first, without ties.

        ``gallery`` is the number of items (default: the longest list). A relevant id that a list
        leaves out is taken as tied with everything else that was left out.
        """
        size = max((len(ids) for ids in ranked), default=0) if gallery is None else gallery
        parts = []
        for number, (ids, wanted) in enumerate(zip(ranked, relevant, strict=True)):
            places = {item: place for place, item in enumerate(ids)}
            if len(places) != len(ids):
                raise ValueError(f"ranked list {number} names an item twice")
            if not wanted:
                raise ValueError(f"query {number} has no relevant item")
            missing = size - len(ids)
            unlisted = len(set(wanted) - places.keys())
            if missing < unlisted:
                raise ValueError(
                    f"query {number}: a gallery of {size} cannot hold all that's named"
                )
            found = np.array(sorted(places[item] for item in set(wanted) if item in places), int)
            above = np.concatenate([found, np.full(unlisted, len(ids))]).astype(np.int64)
            tied = np.where(above < len(ids), 1, missing)
            parts.append((np.full(len(above), number), above, tied))
        return cls._joined(parts, len(ranked), size)

    @classmethod
    def from_run(
        cls,
        ranked: Sequence[Mapping[str, float]],
        relevant: Sequence[Mapping[str, float]],
    ) -> Ranking:
        """Return the ranking of a run: of each query the documents that it names, with scores.

        ``relevant`` are the relevant ones of each query with their grades, above 0. What a run does
        not name is never found, as in trec_eval: it counts as relevant and at no rank.
        """
        parts, gains, longest = [], [], 1
        for number, (scores, grades) in enumerate(zip(ranked, relevant, strict=True)):
            if not grades:
                raise ValueError(f"query {number} has no relevant item")
            found = [name for name in grades if name in scores]
            lost = [name for name in grades if name not in scores]
            ordered = np.sort(np.fromiter(scores.values(), np.float64, len(scores)))
            own = np.array([scores[name] for name in found], np.float64)
            below, up_to = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
            never = np.full(len(lost), NEVER)
            above = np.concatenate([len(ordered) - up_to, never]).astype(np.int64)
            tied = np.concatenate([up_to - below, np.full(len(lost), len(lost))]).astype(np.int64)
            parts.append((np.full(len(above), number), above, tied))
            gains += [grades[name] for name in (*found, *lost)]
            longest = max(longest, len(scores), len(grades))
        ranking = cls._joined(parts, len(ranked), longest)
        return replace(ranking, gain=np.array(gains, np.float64))

    @classmethod
    def _joined(
        cls, parts: list[tuple[IntArray, IntArray, IntArray]], queries: int, gallery: int
    ) -> Ranking:
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, none, queries, gallery)
        query, above, tied = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return cls(query, above, tied, queries, gallery)

    @cached_property
    def groups(self) -> Groups:
        """The relevant items in runs of equal score."""
        order = np.lexsort((self.above, self.query))
        query, above, tied = self.query[order], self.above[order], self.tied[order]
        new = np.ones(len(query), dtype=np.bool_)
        new[1:] = (query[1:] != query[:-1]) | (above[1:] != above[:-1])
        start = np.flatnonzero(new)
        relevant = np.diff(np.append(start, len(query)))
        first = np.searchsorted(query[start], np.arange(self.queries))
        total = np.bincount(query, minlength=self.queries)
        before = start - np.append(0, np.cumsum(total))[query[start]]
        gain = relevant if self.gain is None else np.add.reduceat(self.gain[order], start)
        return Groups(query[start], above[start], tied[start], relevant, before, first, total, gain)


@dataclass(frozen=True)
class Groups:
    """Runs of equal score that hold a relevant item, best first within each query."""

    query: IntArray
    above: IntArray  # items before the group
    size: IntArray
    relevant: IntArray  # relevant items in it
    before: IntArray  # relevant items before it
    first: IntArray  # [Q] number of the query's first group
    total: IntArray  # [Q] relevant items of the query
    gain: FloatArray | IntArray  # of the relevant items in it together

    def sum_by_query(self, values: FloatArray) -> FloatArray:
        """Add up one value a group: float64 [Q]."""
        sums = np.bincount(self.query, weights=values, minlength=len(self.first))
        return sums.astype(np.float64)


class _Counter:
    """Counts, for one query, how many gallery scores beat or equal each relevant score."""

    def __init__(self, relevant_scores: Scores) -> None:
        self.values, self.place = np.unique(relevant_scores, return_inverse=True)
        self.above = np.zeros(len(self.values), dtype=np.int64)
        self.equal = np.zeros(len(self.values), dtype=np.int64)

    def count(self, scores: Scores) -> None:
        if len(self.values) <= 4:  # plain comparisons are faster than sorting in
            for i, value in enumerate(self.values):
                self.above[i] += np.count_nonzero(scores > value)
                self.equal[i] += np.count_nonzero(scores == value)
            return
        below = np.searchsorted(self.values, scores, side="left")  # values that a score beats
        self.above += np.cumsum(np.bincount(below, minlength=len(self.values) + 1)[::-1])[-2::-1]
        inside = below < len(self.values)
        same = below[inside][self.values[below[inside]] == scores[inside]]
        self.equal += np.bincount(same, minlength=len(self.equal))

    def result(self) -> tuple[IntArray, IntArray]:
        return self.above[self.place], self.equal[self.place]


def slices(length: int, chunk: int) -> Iterator[slice]:
    """Cut ``length`` items into parts of ``chunk``, the last one shorter."""
    return (slice(start, min(start + chunk, length)) for start in range(0, length, chunk))


def _relevant_indices(relevant: Relevant, gallery: int) -> list[IntArray]:
    rows: Iterable[npt.ArrayLike]
    if isinstance(relevant, np.ndarray) and relevant.dtype == np.bool_:
        if relevant.ndim != 2 or relevant.shape[1] != gallery:
            raise ValueError(f"relevance {relevant.shape} does not fit a gallery of {gallery}")
        rows = (np.flatnonzero(row) for row in relevant)
    else:
        rows = relevant
    indices = [np.unique(np.asarray(row, dtype=np.int64)) for row in rows]
    for number, items in enumerate(indices):
        if len(items) == 0:
            raise ValueError(f"query {number} has no relevant item")
        if items[0] < 0 or items[-1] >= gallery:
            raise ValueError(f"query {number} names an item outside the gallery of {gallery}")
    return indices
