"""The No match statistics: against naive forms, on made-up libraries, and on real CLIP vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight import nomatch
from wordsight.bank import kind_groups
from wordsight.nomatch import Null
from wordsight.nomatch.rivals import Kinds


def made_up(
    images: int, phrases: int = 200, queries: int = 400, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Fused cosines of bank [N, B] and unrelated queries [Q, N], drawn alike."""
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(phrases + queries, 24)) * np.linspace(2, 0.3, 24)
    pictures = rng.normal(size=(images, 24))
    hubs = rng.normal(0.2, 0.03, size=(images, 1))
    scores = hubs + 0.004 * pictures @ texts.T * rng.uniform(0.7, 1.4, size=(images, 1))
    return scores[:, :phrases].astype(np.float32), scores[:, phrases:].T.astype(np.float32)


def z_of(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    return nomatch.zscore(queries, *nomatch.background(bank))


# ------------------------------------------------------------------------------------- the pieces


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 5), phrases=st.integers(3, 12))
@settings(deadline=None)
def test_leave_one_out_equals_leaving_each_phrase_out(seed: int, images: int, phrases: int) -> None:
    fused = np.random.default_rng(seed).normal(size=(images, phrases))
    for b in range(phrases):
        others = np.delete(fused, b, axis=1)
        expected = (fused[:, b] - others.mean(axis=1)) / others.std(axis=1)
        # Two almost equal others make a variance of rounding errors, hence no tighter bound.
        got = nomatch.leave_one_out(fused[:, b], fused.mean(axis=1), fused.std(axis=1), phrases)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_background_of_equal_scores_divides_by_no_zero() -> None:
    mean, sd = nomatch.background(np.full((3, 40), 0.2, dtype=np.float32))
    assert np.isfinite(nomatch.zscore(np.full(3, 0.3), mean, sd)).all()
    assert np.isfinite(nomatch.leave_one_out(np.full((40, 3), 0.2), mean, sd, 40)).all()


# ----------------------------------------------------------------------------------- the decision


def null_of(bank: np.ndarray, odds: np.ndarray | None = None) -> Null:
    """What a bank of these fused scores [N, B] gets; with log odds [B, N], or all alike."""
    z = nomatch.leave_one_out(bank.T, *nomatch.background(bank), bank.shape[1])
    return Null(*closest_of(z, odds))


def closest_of(z: np.ndarray, odds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """z and log odds of the closest images of queries, from those of all [Q, N]."""
    places = nomatch.closest(z)
    odds = np.full(z.shape, 9.0) if odds is None else odds
    return np.take_along_axis(z, places, -1), np.take_along_axis(odds, places, -1)


def p_values(null: Null, z: np.ndarray, odds: np.ndarray | None = None) -> np.ndarray:
    return np.array([null.p_value(*one) for one in zip(*closest_of(z, odds), strict=True)])


@given(seed=st.integers(0, 999), images=st.integers(0, 7))
def test_the_closest_are_the_best_three_in_order(seed: int, images: int) -> None:
    z = np.random.default_rng(seed).normal(size=(4, images))
    np.testing.assert_array_equal(nomatch.closest(z), np.argsort(-z, axis=1)[:, :3])


@given(seed=st.integers(0, 50), rate=st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(deadline=None, max_examples=40)
def test_the_p_value_is_the_rank_among_the_bank(seed: int, rate: float) -> None:
    bank, queries = made_up(40, seed=seed, queries=30)
    rng = np.random.default_rng(seed)
    of_bank = rng.normal(2.0, 5.0, size=(200, 40))
    null, z, odds = null_of(bank, of_bank), z_of(queries, bank), rng.normal(size=(30, 40))
    usual = [null.z.mean(axis=1), null.odds.max(axis=1)]
    theirs = sum((value - value.mean()) / value.std() for value in usual)
    for best, against in zip(*closest_of(z, odds), strict=True):
        decision = null.decide(best, against, rate)
        mine = sum(
            (value - bank.mean()) / bank.std()
            for value, bank in zip((best.mean(), against.max()), usual, strict=True)
        )
        shares = 1 / (1 + np.exp(-against))
        rank = (1 + (theirs >= mine).sum()) / 201
        assert decision.p_value == pytest.approx(rank if shares.mean() >= 1 / 21 else 1.0)
        assert decision.match == (decision.p_value <= rate and shares.max() >= 0.65)
        assert decision.single == best[0]
        assert (null.p_single(best[0]) <= rate) == (best[0] >= decision.single_threshold)


def test_more_z_and_better_odds_never_have_a_larger_p_value() -> None:
    bank, queries = made_up(80)
    null, z = null_of(bank), z_of(queries, bank)
    assert (p_values(null, z + 0.3) <= p_values(null, z)).all()
    raised = z.copy()
    raised[:, 5] += 3.0
    assert (p_values(null, raised) <= p_values(null, z)).all()
    odds = np.random.default_rng(1).normal(size=(600, 80))
    null = null_of(bank, odds[:200])
    assert (p_values(null, z, odds[200:] + 0.3) <= p_values(null, z, odds[200:])).all()


@pytest.mark.parametrize("images", [1, 2, 20, 100, 3000])
def test_unrelated_queries_are_accepted_at_the_stated_rate(images: int) -> None:
    rates: dict[float, list[float]] = {0.01: [], 0.05: [], 0.1: []}
    for seed in range(6):
        bank, queries = made_up(images, phrases=400, queries=1000, seed=seed)
        odds = np.random.default_rng(seed).normal(3.0, 2.0, size=(1400, images))
        p = p_values(null_of(bank, odds[:400]), z_of(queries, bank), odds[400:])
        for rate, seen in rates.items():
            seen.append(float((p <= rate).mean()))
    for rate, seen in rates.items():
        assert np.mean(seen) == pytest.approx(rate, abs=0.02)


def test_a_needle_and_a_large_group_are_both_found_and_nothing_is_not() -> None:
    bank, queries = made_up(500)
    null, z = null_of(bank), z_of(queries, bank)
    plain = z[np.argsort(p_values(null, z))[len(z) // 2]]
    assert not null.decide(*closest_of(plain)).match
    needle = plain.copy()
    needle[7] = 9.0
    assert null.decide(*closest_of(needle)).match
    group = plain.copy()
    group[:75] += 3.0
    assert null.decide(*closest_of(group)).match


def test_hub_images_do_not_make_a_match() -> None:
    bank, queries = made_up(100)
    z = z_of(queries, bank)
    hub_bank, hub_queries = bank.copy(), queries.copy()
    hub_bank[3] += 0.2  # one image scores higher for everything
    hub_queries[:, 3] += 0.2
    np.testing.assert_allclose(z_of(hub_queries, hub_bank), z, atol=1e-3)
    same = p_values(null_of(hub_bank), z_of(hub_queries, hub_bank))
    np.testing.assert_allclose(same, p_values(null_of(bank), z), atol=0.02)


def test_an_empty_library_matches_nothing() -> None:
    decision = Null(np.zeros((40, 0)), np.zeros((40, 0))).decide(np.zeros(0), np.zeros(0))
    assert (decision.match, decision.p_value, decision.posterior) == (False, 1.0, None)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_senseless_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        null_of(np.eye(40)).decide(np.zeros(3), np.zeros(3), rate)


def test_a_bank_too_small_for_a_rate_never_matches_at_it() -> None:
    bank, queries = made_up(50, phrases=40)
    decision = null_of(bank).decide(*closest_of(z_of(queries, bank)[0] + 50.0), 0.01)
    assert (decision.match, decision.verdict) == (False, "unsure")
    assert decision.p_value == pytest.approx(1 / 41)
    assert decision.single_threshold == np.inf


# --------------------------------------------------------------------------- rivals and near misses


def test_images_that_look_more_like_another_kind_make_no_match() -> None:
    bank, _ = made_up(500)
    odds = np.random.default_rng(0).normal(-2.0, 1.0, size=(200, 500))
    null, z = null_of(bank, odds), np.full(3, 8.0)
    own = null.decide(z, np.full(3, 2.0))
    assert (own.match, own.lost_to_rivals) == (True, False)
    assert own.posterior == pytest.approx(1 / (1 + np.exp(-2)))
    theirs = null.decide(z, np.full(3, -30.0))
    assert (theirs.match, theirs.lost_to_rivals) == (False, True)
    assert theirs.p_alone == own.p_alone <= 0.05 < theirs.p_value
    nothing = null.decide(np.zeros(3), np.full(3, -30.0))
    assert (nothing.verdict, nothing.lost_to_rivals) == ("none", False)


def test_a_match_needs_an_image_of_its_own_and_unsure_more_than_chance() -> None:
    bank, _ = made_up(500)
    null, z = null_of(bank, np.full((200, 500), -9.0)), np.full(3, 8.0)

    def verdict(*shares: float) -> str:
        return null.decide(z, np.log(shares) - np.log1p(np.negative(shares))).verdict

    assert verdict(0.01, 0.01, 0.66) == "match"
    assert verdict(0.64, 0.64, 0.64) == "unsure"
    assert verdict(0.05, 0.05, 0.05) == "unsure"
    assert verdict(0.04, 0.04, 0.04) == "none", "a twenty-first is what chance gives"


def test_the_lift_gives_many_views_no_head_start() -> None:
    rng = np.random.default_rng(0)
    views = rng.choice([1, 2, 4, 8, 16], 300)
    starts = np.cumsum([0, *views[:-1]])
    texts = rng.normal(size=(900, 24))
    pictures = 0.8 * np.repeat(rng.normal(size=(300, 24)), views, axis=0)
    pictures += 0.6 * rng.normal(size=pictures.shape)  # the views of an image resemble each other
    fused = np.maximum.reduceat(texts @ pictures.T, starts, axis=1)
    mean, sd = nomatch.background(fused[:400].T)

    def rho(scores: np.ndarray) -> float:
        ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
        return float(np.mean([np.corrcoef(row, np.log2(views))[0, 1] for row in ranks]))

    assert rho(fused[400:]) < -0.3
    assert abs(rho(nomatch.lift(fused[400:], mean))) < 0.05
    assert abs(rho(nomatch.zscore(fused[400:], mean, sd))) < 0.05


# ------------------------------------------------------------------------------ real CLIP vectors


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    data = os.environ.get("WORDSIGHT_DATA")
    if not data:
        pytest.skip("WORDSIGHT_DATA (a folder with clip-vectors/) is not set")
    folder = Path(data) / "clip-vectors"
    related = (Path(__file__).parents[1] / "benchmarks/lists/related.txt").read_text()
    words = {w for line in related.splitlines() if line[:1] != "#" for w in line.split()}
    names = json.loads((folder / "lvis_names.json").read_text())["names"]
    lvis = np.load(folder / "lvis_text_vectors.npy").astype(np.float32)
    coco = np.load(folder / "coco_text_vectors.npy").astype(np.float32)
    info = json.loads((folder / "cifar10_test500.json").read_text())
    images = np.load(folder / "cifar10_test500_image_vectors.npy")
    rows = [(coco if "coco" in r["vectors"] else lvis)[r["row"]] for r in info["text_rows"]]
    unrelated = [i for i, name in enumerate(names) if name not in words]
    spoken = [name.partition("_(")[0].replace("_", " ") for name in names]
    kinds = {word for group in kind_groups() for word in group}
    return {
        "images": images,
        "class_vectors": np.stack(rows),
        "unrelated_names": [spoken[i] for i in unrelated],
        "unrelated_vectors": lvis[unrelated],
        "kind_vectors": {n: v for n, v in zip(spoken, lvis, strict=True) if n in kinds},
        "labels": np.load(folder / "cifar10_test500_labels.npy"),
    }


def asked(
    images: np.ndarray, bank: np.ndarray, kinds: Kinds, texts: np.ndarray
) -> list[nomatch.Decision]:
    """The decisions on queries of these vectors [Q, D] over images [N, D]."""
    fused = images @ bank.T
    mean, sd = nomatch.background(fused)
    found = []
    for queries, z in (
        (bank, nomatch.leave_one_out(fused.T, mean, sd, len(bank))),
        (texts, nomatch.zscore(texts @ images.T, mean, sd)),
    ):
        odds = kinds.log_odds(queries, images[nomatch.closest(z)])
        found.append((np.take_along_axis(z, nomatch.closest(z), 1), odds))
    null = Null(*found[0])
    return [null.decide(*one) for one in zip(*found[1], strict=True)]


def split(real: dict[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bank and other unrelated names, as vectors; no kind is among them."""
    order = [
        i
        for i in np.random.default_rng(seed).permutation(len(real["unrelated_names"]))
        if real["unrelated_names"][i] not in real["kind_vectors"]
    ]
    vectors = real["unrelated_vectors"]
    return vectors[order[:400]], vectors[order[400:]]


def kinds_of(real: dict[str, Any]) -> Kinds:
    words = [
        (number, word == group[0], real["kind_vectors"][word])
        for number, group in enumerate(kind_groups())
        for word in group
        if word in real["kind_vectors"]
    ]
    number_of, above, vectors = (np.array(column) for column in zip(*words, strict=True))
    return Kinds(vectors, number_of, above, 100.0)


def test_real_classes_match_and_unrelated_names_do_so_at_the_stated_rate(
    real: dict[str, Any],
) -> None:
    kinds = kinds_of(real)
    rates: dict[float, list[float]] = {0.01: [], 0.05: [], 0.1: []}
    for seed in range(8):
        bank, others = split(real, seed)
        classes = asked(real["images"], bank, kinds, real["class_vectors"])
        assert all(decision.match for decision in classes)
        p = np.array([d.p_value for d in asked(real["images"], bank, kinds, others)])
        for rate, seen in rates.items():
            seen.append(float((p <= rate).mean()))
    for rate, seen in rates.items():
        assert np.mean(seen) == pytest.approx(rate, abs=0.02)


def test_real_galleries_that_lack_a_class_answer_no_match_to_its_name(
    real: dict[str, Any],
) -> None:
    kinds, answered = kinds_of(real), []
    for seed in range(5):
        bank, _ = split(real, seed)
        for number, vector in enumerate(real["class_vectors"]):
            others = real["images"][real["labels"] != number]
            (decision,) = asked(others, bank, kinds, vector[None])
            answered.append(decision.match)
    assert sum(answered) <= 1  # of fifty
