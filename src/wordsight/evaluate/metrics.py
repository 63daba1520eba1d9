"""Retrieval metrics, as pure functions of a :class:`~wordsight.evaluate.ranking.Ranking`.

They return one value a query, float64 [Q], for error analysis and intervals; their mean over
queries is the figure that papers report (:func:`summarize`).

**Ties.** Items of equal score have no order of their own, so each metric is its exact expectation
over all orderings of the tied items, every ordering being equally likely (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of tied scores",
ECIR 2008). Nothing depends on the order in which images happen to be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wordsight.evaluate.ranking import NEVER, FloatArray, Ranking, slices


def recall_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] hit or miss: 1 where any relevant item is in the top k (CLIP-style Recall@K).

    With ties: the probability of a hit, from the hypergeometric law.
    """
    _check_k(k)
    groups, first = ranking.groups, ranking.groups.first
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
    return _found(ranking, k) / ranking.groups.total


def precision_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] the fraction of the top k that is relevant (over k, also in smaller galleries)."""
    return _found(ranking, k) / k


def reciprocal_rank(ranking: Ranking) -> FloatArray:
    """Return [Q] 1 / rank of the first relevant item; the mean is MRR."""
    groups, first = ranking.groups, ranking.groups.first
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
    groups = ranking.groups
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, ranking.gallery + 1)))
    # An item at place j of its group has before + 1 + (j - 1) * density relevant items up to it
    # on average, at rank above + j; the sum over j of their ratio has a closed form.
    density = (groups.relevant - 1) / np.maximum(groups.size - 1, 1)
    found = groups.above < NEVER
    above = np.where(found, groups.above, 0)
    inverse_ranks = harmonic[np.where(found, above + groups.size, 0)] - harmonic[above]
    offset = groups.before + 1 - density * (above + 1)
    precision = found * (density + offset * inverse_ranks / groups.size)
    return groups.sum_by_query(groups.relevant * precision) / groups.total


def ndcg_at_k(ranking: Ranking, k: int) -> FloatArray:
    """Return [Q] the discounted cumulative gain of the top k over the best possible one.

    Gain 1 for a relevant item, or its grade (linear gain); discount 1 / log2(rank + 1) (Järvelin
    and Kekäläinen 2002).
    """
    _check_k(k)
    depth = min(k, ranking.gallery)
    discount = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, depth + 2))))
    groups = ranking.groups
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
    groups, first = ranking.groups, ranking.groups.first
    rank: FloatArray = groups.above[first] + (groups.size[first] + 1) / (groups.relevant[first] + 1)
    return rank


def median_rank(ranking: Ranking) -> float:
    """Return the median over queries of :func:`first_rank`."""
    return float(np.median(first_rank(ranking)))


def _found(ranking: Ranking, k: int) -> FloatArray:
    """Expected number of relevant items in the top k."""
    _check_k(k)
    groups = ranking.groups
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
        for part in (range(resamples)[rows] for rows in slices(resamples, batch))
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(draws), [tail, 1.0 - tail])
    return Estimate(float(statistic(array, axis=0)), float(low), float(high))
