"""Retrieval, detection and calibration metrics, as pure functions.

**Retrieval.** A :class:`Ranking` holds, for every relevant item of every query, how many items of
the gallery score higher and how many score the same; each metric follows from that alone. It is
made from a score matrix, from ranked lists, or block by block, so that a million images times
thousands of queries never sit in memory. The metrics return one value a query, float64 [Q], for
error analysis and intervals; their mean over queries is the figure that papers report
(:func:`summarize`).

**Ties.** Items of equal score have no order of their own, so each metric is its exact expectation
over all orderings of the tied items, every ordering being equally likely (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of tied scores",
ECIR 2008). Nothing depends on the order in which images happen to be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scores = npt.NDArray[np.floating[Any]]
Relevant = npt.NDArray[np.bool_] | Sequence[npt.ArrayLike]
"""bool [Q, N], or for each query the indices of its relevant items (ragged)."""

# ---------------------------------------------------------------------------------------- ranking


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
        spans = list(_slices(gallery, gallery_chunk))
        parts = []
        for rows in _slices(len(indices), query_chunk):
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
    def _joined(
        cls, parts: list[tuple[IntArray, IntArray, IntArray]], queries: int, gallery: int
    ) -> Ranking:
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, none, queries, gallery)
        query, above, tied = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return cls(query, above, tied, queries, gallery)

    @cached_property
    def _groups(self) -> _Groups:
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
        return _Groups(
            query[start], above[start], tied[start], relevant, before, first, total, gain
        )


@dataclass(frozen=True)
class _Groups:
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


def _slices(length: int, chunk: int) -> Iterator[slice]:
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


# ------------------------------------------------------------------------------ retrieval metrics


def recall_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] hit or miss: 1 where any relevant item is in the top k (CLIP-style Recall@K).

    With ties: the probability of a hit, from the hypergeometric law.
    """
    _check_k(k)
    groups, first = ranking._groups, ranking._groups.first
    above, size, relevant = groups.above[first], groups.size[first], groups.relevant[first]
    drawn = np.clip(k - above, 0, size)
    hit = (drawn > 0).astype(np.float64)
    for i in np.flatnonzero((drawn > 0) & (drawn < size)):
        draws = np.arange(drawn[i])
        missed = np.maximum(size[i] - relevant[i] - draws, 0) / (size[i] - draws)
        hit[i] = 1.0 - missed.prod()
    return hit


def recall_fraction_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] the fraction of the query's relevant items that are in the top k."""
    return _found(ranking, k) / ranking._groups.total


def precision_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] the fraction of the top k that is relevant (over k, also in smaller galleries)."""
    return _found(ranking, k) / k


def reciprocal_rank(ranking: Ranking) -> FloatArray:
    """Return [Q] 1 / rank of the first relevant item; the mean is MRR."""
    groups, first = ranking._groups, ranking._groups.first
    above, size, relevant = groups.above[first], groups.size[first], groups.relevant[first]
    value = 1.0 / (above + 1)
    for i in np.flatnonzero(size > relevant):
        # P(the first relevant item is the j-th of its group), j = 1 ... size - relevant + 1
        j = np.arange(1, size[i] - relevant[i] + 1)
        steps = (size[i] - relevant[i] - j + 1) / (size[i] - j)
        probability = relevant[i] / size[i] * np.append(1.0, np.cumprod(steps))
        value[i] = (probability / (above[i] + np.arange(1, len(probability) + 1))).sum()
    return value


def average_precision(ranking: Ranking) -> FloatArray:
    """Return [Q] the mean, over the relevant items, of the precision at each; the mean is mAP."""
    groups = ranking._groups
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, ranking.gallery + 1)))
    # An item at place j of its group has before + 1 + (j - 1) * density relevant items up to it
    # on average, at rank above + j; the sum over j of their ratio has a closed form.
    density = (groups.relevant - 1) / np.maximum(groups.size - 1, 1)
    inverse_ranks = harmonic[groups.above + groups.size] - harmonic[groups.above]
    offset = groups.before + 1 - density * (groups.above + 1)
    precision = density + offset * inverse_ranks / groups.size
    return groups.sum_by_query(groups.relevant * precision) / groups.total


def ndcg_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] the discounted cumulative gain of the top k over the best possible one.

    Gain 1 for a relevant item, or its grade (linear gain); discount 1 / log2(rank + 1) (Järvelin
    and Kekäläinen 2002).
    """
    _check_k(k)
    depth = min(k, ranking.gallery)
    discount = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, depth + 2))))
    groups = ranking._groups
    covered = (
        discount[np.minimum(groups.above + groups.size, depth)]
        - discount[np.minimum(groups.above, depth)]
    )
    gain = groups.sum_by_query(groups.gain / groups.size * covered)
    ideal: FloatArray = discount[np.minimum(groups.total, depth)]
    if ranking.gain is not None:  # the best order is that of the grades
        order = np.lexsort((-ranking.gain, ranking.query))
        query = ranking.query[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        step = np.append(np.diff(discount), 0.0)[np.minimum(place, depth)]
        best = ranking.gain[order] * step
        ideal = np.bincount(query, best, ranking.queries).astype(np.float64)
    return gain / ideal


def first_rank(ranking: Ranking) -> FloatArray:
    """Return [Q] the rank of the first relevant item, from 1 (with ties the expected rank)."""
    groups, first = ranking._groups, ranking._groups.first
    rank: FloatArray = groups.above[first] + (groups.size[first] + 1) / (groups.relevant[first] + 1)
    return rank


def median_rank(ranking: Ranking) -> float:
    """Return the median over queries of :func:`first_rank`."""
    return float(np.median(first_rank(ranking)))


def _found(ranking: Ranking, k: int) -> FloatArray:
    """Expected number of relevant items in the top k."""
    _check_k(k)
    groups = ranking._groups
    share = np.clip(k - groups.above, 0, groups.size) / groups.size
    return groups.sum_by_query(groups.relevant * share)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over queries, with its bootstrap interval."""

    value: float
    low: float
    high: float


def summarize(
    ranking: Ranking, ks: Sequence[int] = (1, 5, 10), *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Return every retrieval metric, averaged over the queries, with 95 % intervals.

    Keys: ``recall@K`` (hit or miss), ``recall_fraction@K``, ``precision@K``, ``ndcg@K`` for each K,
    ``mrr``, ``map`` and ``median_rank``.
    """
    per_query: dict[str, FloatArray] = {}
    for k in ks:
        per_query[f"recall@{k}"] = recall_at_k(ranking, k)
        per_query[f"recall_fraction@{k}"] = recall_fraction_at_k(ranking, k)
        per_query[f"precision@{k}"] = precision_at_k(ranking, k)
        per_query[f"ndcg@{k}"] = ndcg_at_k(ranking, k)
    per_query["mrr"] = reciprocal_rank(ranking)
    per_query["map"] = average_precision(ranking)
    summary = {
        name: bootstrap(values, resamples=resamples, seed=seed)
        for name, values in per_query.items()
    }
    summary["median_rank"] = bootstrap(
        first_rank(ranking), np.median, resamples=resamples, seed=seed
    )
    return summary


def bootstrap(
    values: npt.ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return ``statistic`` of the values [Q] with its percentile bootstrap interval.

    ``statistic`` takes ``axis`` as numpy's do. Queries are drawn with replacement; the same seed
    gives the same interval.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise ValueError("no values to take an interval of")
    rng = np.random.default_rng(seed)
    batch = max(1, 4_000_000 // len(array))
    draws = [
        statistic(array[rng.integers(0, len(array), (len(part), len(array)))], axis=1)
        for part in (range(resamples)[rows] for rows in _slices(resamples, batch))
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(draws), [tail, 1.0 - tail])
    return Estimate(float(statistic(array, axis=0)), float(low), float(high))


# ------------------------------------------------------------------ detection and calibration


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, a tie counting one half."""
    pos, neg = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if len(pos) == 0 or len(neg) == 0:
        raise ValueError("AUROC needs positives and negatives")
    neg = np.sort(neg)
    below = np.searchsorted(neg, pos, side="left")
    upto = np.searchsorted(neg, pos, side="right")
    return float((below + upto).mean() / 2.0 / len(neg))


def fpr_at_95_tpr(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the share of negatives accepted where at least 95 % of the positives are.

    A score is accepted when it is not below the cut; the cut is the highest that suffices.
    """
    pos, neg = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if len(pos) == 0 or len(neg) == 0:
        raise ValueError("FPR95 needs positives and negatives")
    needed = -(-95 * len(pos) // 100)  # ceil(0.95 n), in whole numbers
    cut = np.sort(pos)[len(pos) - needed]
    return float((neg >= cut).mean())


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Confidence against accuracy in equal-width bins, arrays [bins]; empty bins hold NaN."""

    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def reliability_bins(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15
) -> ReliabilityBins:
    """Return the reliability diagram of predictions with confidences in 0..1.

    Bins are half open, ``[low, high)``, the last one closed.
    """
    conf, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if conf.shape != right.shape or conf.ndim != 1 or len(conf) == 0:
        raise ValueError("confidences and outcomes must be equally many, and some")
    if not ((conf >= 0) & (conf <= 1)).all():
        raise ValueError("a confidence lies between 0 and 1")
    edges = np.arange(bins + 1) / bins  # exact quotients: 0.6 belongs to the bin from 3/5
    place = np.minimum(np.searchsorted(edges, conf, side="right") - 1, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, weights=conf, minlength=bins) / count
        accuracy = np.bincount(place, weights=right, minlength=bins) / count
    return ReliabilityBins(edges, count, mean_confidence, accuracy)


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over bins (Guo et al., ICML 2017)."""
    table = reliability_bins(confidence, correct, bins)
    used = table.count > 0
    gap = np.abs(table.confidence[used] - table.accuracy[used])
    return float((gap * table.count[used]).sum() / table.count.sum())
