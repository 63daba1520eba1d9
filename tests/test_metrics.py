"""Each metric against a naive reference: the average over every ordering of tied items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight.evaluate import calibration, metrics
from wordsight.evaluate.ranking import Ranking

# ------------------------------------------------------------------------------ naive references


def orderings(scores: list[float]) -> list[list[int]]:
    """Every order of the items that sorts the scores, best first."""
    groups = [
        [i for i, s in enumerate(scores) if s == level]
        for level in sorted(set(scores), reverse=True)
    ]
    per_group = [list(itertools.permutations(group)) for group in groups]
    return [[i for part in parts for i in part] for parts in itertools.product(*per_group)]


def naive(metric: Callable[[list[bool]], float], scores: list[float], rel: list[bool]) -> float:
    values = [metric([rel[i] for i in order]) for order in orderings(scores)]
    return sum(values) / len(values)


def naive_ap(hits: list[bool]) -> float:
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / sum(hits)


def naive_ndcg(hits: list[bool], k: int) -> float:
    gain = sum(1 / math.log2(i + 2) for i, hit in enumerate(hits[:k]) if hit)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(k, sum(hits))))


NAIVE: dict[str, Callable[[list[bool], int], float]] = {
    "recall_at_k": lambda hits, k: float(any(hits[:k])),
    "recall_fraction_at_k": lambda hits, k: sum(hits[:k]) / sum(hits),
    "precision_at_k": lambda hits, k: sum(hits[:k]) / k,
    "ndcg_at_k": naive_ndcg,
    "reciprocal_rank": lambda hits, k: 1 / (hits.index(True) + 1),
    "average_precision": lambda hits, k: naive_ap(hits),
    "first_rank": lambda hits, k: hits.index(True) + 1,
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and at least one relevant item a query."""
    gallery = draw(st.integers(1, 6))
    queries = draw(st.integers(1, 3))
    scores = draw(
        st.lists(st.integers(0, 3), min_size=queries * gallery, max_size=queries * gallery)
    )
    flags = draw(st.lists(st.booleans(), min_size=queries * gallery, max_size=queries * gallery))
    relevant = np.array(flags).reshape(queries, gallery)
    relevant[np.arange(queries), draw(st.integers(0, gallery - 1))] = True
    return np.array(scores, dtype=np.float32).reshape(queries, gallery), relevant


@pytest.mark.parametrize("name", NAIVE)
@given(case=cases(), k=st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_each_metric_is_the_mean_over_all_orderings_of_ties(
    name: str, case: tuple[np.ndarray, np.ndarray], k: int
) -> None:
    scores, relevant = case
    function = getattr(metrics, name)
    ranking = Ranking.from_scores(scores, relevant)
    got = function(ranking, k) if name.endswith("_k") else function(ranking)
    expected = [
        naive(lambda hits: NAIVE[name](hits, k), list(s), list(r))
        for s, r in zip(scores, relevant, strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


# -------------------------------------------------------------------------- the ways to a ranking


def same(a: Ranking, b: Ranking) -> None:
    for k in (1, 3, 10):
        np.testing.assert_array_equal(metrics.recall_at_k(a, k), metrics.recall_at_k(b, k))
        np.testing.assert_allclose(metrics.ndcg_at_k(a, k), metrics.ndcg_at_k(b, k))
    np.testing.assert_allclose(metrics.average_precision(a), metrics.average_precision(b))
    np.testing.assert_allclose(metrics.reciprocal_rank(a), metrics.reciprocal_rank(b))
    np.testing.assert_allclose(metrics.first_rank(a), metrics.first_rank(b))


@given(case=cases(), rows=st.integers(1, 4), columns=st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_blocks_of_any_size_give_the_same_ranking(
    case: tuple[np.ndarray, np.ndarray], rows: int, columns: int
) -> None:
    scores, relevant = case
    whole = Ranking.from_scores(scores, relevant)
    blocks = Ranking.from_blocks(
        lambda q, g: scores[q, g],
        [np.flatnonzero(r) for r in relevant],
        gallery=scores.shape[1],
        query_chunk=rows,
        gallery_chunk=columns,
    )
    for field in ("query", "above", "tied"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(blocks, field))


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([3, 12, 1000]))
@settings(max_examples=40, deadline=None)
def test_counts_of_many_relevant_items_equal_comparing_all_pairs(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, size=(3, 60)).astype(np.float32)
    relevant = rng.random((3, 60)) < 0.4
    relevant[:, 0] = True
    ranking = Ranking.from_blocks(
        lambda q, g: scores[q, g], relevant, gallery=60, query_chunk=2, gallery_chunk=17
    )
    pairs = [(q, i) for q in range(3) for i in np.flatnonzero(relevant[q])]
    above = [int((scores[q] > scores[q, i]).sum()) for q, i in pairs]
    tied = [int((scores[q] == scores[q, i]).sum()) for q, i in pairs]
    assert ranking.query.tolist() == [q for q, _ in pairs]
    assert ranking.above.tolist() == above
    assert ranking.tied.tolist() == tied


def test_blocks_never_hold_more_than_one_block() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(30, 8)), rng.normal(size=(4000, 8))
    relevant = [rng.integers(0, 4000, 5) for _ in range(30)]
    shapes = []

    def block(q: slice, g: slice) -> np.ndarray:
        shapes.append((q.stop - q.start, g.stop - g.start))
        return queries[q] @ items[g].T

    got = Ranking.from_blocks(block, relevant, gallery=4000, query_chunk=8, gallery_chunk=1000)
    assert max(shapes) <= (8, 1000)
    same(got, Ranking.from_scores(queries @ items.T, relevant))


def test_lists_equal_scores_without_ties() -> None:
    rng = np.random.default_rng(1)
    scores = rng.permutation(np.arange(200.0)).reshape(5, 40)
    relevant = [sorted(rng.choice(40, 3, replace=False).tolist()) for _ in range(5)]
    lists = [[f"i{j}" for j in np.argsort(-row)] for row in scores]
    named = [{f"i{j}" for j in items} for items in relevant]
    same(Ranking.from_scores(scores, relevant), Ranking.from_lists(lists, named))


def test_a_relevant_id_left_out_of_a_list_ties_with_all_that_was_left_out() -> None:
    ranking = Ranking.from_lists([["a", "b"]], [{"a", "z"}], gallery=6)
    assert metrics.recall_fraction_at_k(ranking, 2)[0] == 0.5
    assert metrics.recall_fraction_at_k(ranking, 4)[0] == pytest.approx(0.5 + 0.5 * 2 / 4)


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        ([[1.0, 2.0]], [[]], "query 0 has no relevant item"),
        ([[1.0, 2.0]], [[2]], "outside the gallery"),
        ([[1.0, float("nan")]], [[0]], "not a number"),
    ],
)
def test_senseless_judgements_are_refused(
    scores: list[list[float]], relevant: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Ranking.from_scores(np.array(scores), relevant)


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        metrics.precision_at_k(Ranking.from_scores(np.ones((1, 2)), [[0]]), 0)


def test_metrics_on_a_ranking_worked_by_hand() -> None:
    ranking = Ranking.from_scores(np.array([[0.9, 0.8, 0.7, 0.6]]), [[1, 3]])
    assert metrics.recall_at_k(ranking, 1)[0] == 0
    assert metrics.recall_at_k(ranking, 2)[0] == 1
    assert metrics.recall_fraction_at_k(ranking, 2)[0] == 0.5
    assert metrics.precision_at_k(ranking, 4)[0] == 0.5
    assert metrics.reciprocal_rank(ranking)[0] == 0.5
    assert metrics.average_precision(ranking)[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics.median_rank(ranking) == 2
    ideal = 1 + 1 / math.log2(3)
    expected = (1 / math.log2(3) + 1 / math.log2(5)) / ideal
    assert metrics.ndcg_at_k(ranking, 10)[0] == pytest.approx(expected)


# -------------------------------------------------------------------------------------- intervals


def test_summary_holds_every_metric_within_its_interval_and_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(2)
    ranking = Ranking.from_scores(rng.normal(size=(60, 50)), rng.random((60, 50)) < 0.2)
    summary = metrics.summarize(ranking, (1, 5), resamples=200, seed=3)
    assert set(summary) == {
        *(f"{m}@{k}" for m in ("recall", "recall_fraction", "precision", "ndcg") for k in (1, 5)),
        "mrr",
        "map",
        "median_rank",
    }
    for estimate in summary.values():
        assert estimate.low <= estimate.value <= estimate.high
    assert summary["mrr"].value == pytest.approx(metrics.reciprocal_rank(ranking).mean())
    assert summary == metrics.summarize(ranking, (1, 5), resamples=200, seed=3)
    assert summary != metrics.summarize(ranking, (1, 5), resamples=200, seed=4)


def test_bootstrap_interval_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(0).normal(size=400)
    estimate = metrics.bootstrap(values, resamples=4000, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.08)


# ------------------------------------------------------------------------ detection, calibration

small = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@given(positive=small, negative=small)
def test_auroc_counts_pairs(positive: list[int], negative: list[int]) -> None:
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    expected = wins / len(positive) / len(negative)
    assert calibration.auroc(positive, negative) == pytest.approx(expected)


@given(positive=small, negative=small)
def test_fpr95_tries_every_cut(positive: list[int], negative: list[int]) -> None:
    rates = [
        sum(n >= cut for n in negative) / len(negative)
        for cut in set(positive)
        if 100 * sum(p >= cut for p in positive) >= 95 * len(positive)
    ]
    assert calibration.fpr_at_95_tpr(positive, negative) == pytest.approx(min(rates))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40),
    bins=st.sampled_from([1, 4, 5, 10]),
)
def test_calibration_error_is_the_mean_gap_over_bins(
    pairs: list[tuple[int, bool]], bins: int
) -> None:
    conf, correct = [c / 20 for c, _ in pairs], [ok for _, ok in pairs]
    total = 0.0
    for b in range(bins):
        inside = [
            (c / 20, ok)
            for c, ok in pairs
            if b * 20 <= c * bins < (b + 1) * 20 or (b == bins - 1 and c == 20)
        ]
        if inside:
            gap = sum(c for c, _ in inside) - sum(ok for _, ok in inside)
            total += abs(gap)
    got = calibration.expected_calibration_error(conf, correct, bins)
    assert got == pytest.approx(total / len(pairs))
    table = calibration.reliability_bins(conf, correct, bins)
    assert table.count.sum() == len(pairs)
    assert np.isnan(table.accuracy[table.count == 0]).all()


def test_perfect_calibration_has_no_error() -> None:
    conf = np.repeat([0.2, 0.8], 10)
    correct = np.array([1] * 2 + [0] * 8 + [1] * 8 + [0] * 2)
    assert calibration.expected_calibration_error(conf, correct) == pytest.approx(0)


def test_confidences_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration.expected_calibration_error([1.2], [True])


def test_graded_ndcg_against_all_orders_of_ties() -> None:
    """Linear gain, held against the mean over every order of items of equal score."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        scores = rng.integers(0, 3, 6).astype(float)
        grades = rng.integers(0, 4, 6).astype(float)
        grades[0] = 2.0
        relevant = np.flatnonzero(grades)
        ranking = Ranking.from_scores(scores[None], [relevant])
        ranking = ranking.with_gains([grades[relevant]])
        for k in (1, 3, 9):
            discount = np.where(np.arange(6) < k, 1 / np.log2(np.arange(2, 8)), 0)
            orders = [
                p for p in itertools.permutations(range(6)) if (np.diff(scores[list(p)]) <= 0).all()
            ]
            mean = np.mean([grades[list(order)] @ discount for order in orders])
            expected = mean / (np.sort(grades)[::-1] @ discount)
            assert metrics.ndcg_at_k(ranking, k)[0] == pytest.approx(expected)


def test_gains_of_one_change_nothing_and_wrong_ones_are_refused() -> None:
    scores = np.random.default_rng(6).integers(0, 4, (5, 12)).astype(float)
    relevant = [[0], [1, 2], [3, 4, 5, 6], [0, 11], [7]]
    ranking = Ranking.from_scores(scores, relevant)
    graded = ranking.with_gains([np.ones(len(row)) for row in relevant])
    np.testing.assert_allclose(metrics.ndcg_at_k(graded, 3), metrics.ndcg_at_k(ranking, 3))
    assert ranking.with_gains(None) is ranking
    for gains in ([[1.0]], [[1.0]] * 5, [[0.0], [1, 1], [1, 1, 1, 1], [1, 1], [1]]):
        with pytest.raises(ValueError, match="gain"):
            ranking.with_gains(gains)
