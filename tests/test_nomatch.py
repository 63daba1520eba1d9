"""The No match statistics: against naive forms, on made-up libraries, and on real CLIP vectors."""

from __future__ import annotations

import io
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
from wordsight.nomatch import Calibration
from wordsight.nomatch.rivals import Kinds, posterior


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


# -------------------------------------------------------------------------------- the calibration


@pytest.mark.parametrize("images", [1, 7, 20, 333])
def test_bank_statistics_from_bins_equal_those_from_scores(images: int) -> None:
    bank, _ = made_up(images)
    z = nomatch.leave_one_out(bank.T, *nomatch.background(bank), bank.shape[1])
    group, single = Calibration.from_fused(bank).bank_statistics()
    np.testing.assert_allclose(group, nomatch.group_statistic(z), atol=1 / 32)
    np.testing.assert_allclose(single, nomatch.single_statistic(z), atol=1 / 32)


@given(cuts=st.lists(st.integers(0, 60), max_size=5))
@settings(deadline=None, max_examples=30)
def test_parts_in_any_order_add_up_to_the_whole(cuts: list[int]) -> None:
    bank, _ = made_up(60)
    whole = Calibration.from_fused(bank)
    parts = [p for p in np.split(bank, sorted(cuts)) if len(p)]
    total = Calibration.empty(bank.shape[1])
    for part in reversed(parts):
        total = total.observe(part)
    np.testing.assert_array_equal(total.counts, whole.counts)
    assert total.images == 60


def test_calibration_survives_a_file() -> None:
    bank, queries = made_up(50)
    made = Calibration.from_fused(bank)
    file = io.BytesIO()
    np.savez(file, **made.to_arrays())
    file.seek(0)
    read = Calibration.from_arrays(np.load(file))
    np.testing.assert_array_equal(read.counts, made.counts)
    z = z_of(queries, bank)
    np.testing.assert_array_equal(read.null.p_value(z), made.null.p_value(z))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Calibration.empty(5), "at least 30 phrases"),
        (lambda: Calibration.empty(40).observe(np.zeros((2, 41))), r"\[n, 40\]"),
        (lambda: Calibration.from_fused(np.eye(40)).decide(np.zeros(40), 0.0), "between 0 and 1"),
    ],
)
def test_senseless_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------- the decision


@given(seed=st.integers(0, 50), rate=st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(deadline=None, max_examples=40)
def test_a_query_matches_where_one_of_its_values_reaches_its_threshold(
    seed: int, rate: float
) -> None:
    bank, queries = made_up(40, seed=seed, queries=30)
    calibration = Calibration.from_fused(bank)
    for z in z_of(queries, bank):
        decision = calibration.decide(z, rate)
        reached = (
            decision.single >= decision.single_threshold
            or decision.group >= decision.group_threshold
        )
        assert decision.match == (decision.p_against_rivals <= rate) == reached
        assert decision.p_value == decision.p_against_rivals


def test_a_better_match_never_has_a_larger_p_value() -> None:
    bank, queries = made_up(80)
    null = Calibration.from_fused(bank).null
    z = z_of(queries, bank)
    assert (null.p_value(z + 0.3) <= null.p_value(z)).all()
    raised = z.copy()
    raised[:, 5] += 3.0
    assert (null.p_value(raised) <= null.p_value(z)).all()


@pytest.mark.parametrize("images", [20, 100, 3000])
def test_unrelated_queries_are_accepted_at_the_stated_rate(images: int) -> None:
    rates = {0.01: [], 0.05: [], 0.1: []}
    for seed in range(6):
        bank, queries = made_up(images, phrases=400, queries=1000, seed=seed)
        p = Calibration.from_fused(bank).null.p_value(z_of(queries, bank))
        for rate, seen in rates.items():
            seen.append((p <= rate).mean())
    for rate, seen in rates.items():
        assert np.mean(seen) == pytest.approx(rate, abs=0.02)


def test_a_needle_and_a_large_group_are_both_found_and_nothing_is_not() -> None:
    bank, queries = made_up(500)
    calibration = Calibration.from_fused(bank)
    z = z_of(queries, bank)
    plain = z[np.argsort(calibration.null.p_value(z))[len(z) // 2]]
    assert not calibration.decide(plain).match
    needle = plain.copy()
    needle[7] = 9.0
    assert calibration.decide(needle).match
    group = plain.copy()
    group[:75] += 3.0
    assert calibration.decide(group).match


def test_hub_images_do_not_make_a_match() -> None:
    bank, queries = made_up(100)
    calibration = Calibration.from_fused(bank)
    z = z_of(queries, bank)
    hub_bank, hub_queries = bank.copy(), queries.copy()
    hub_bank[3] += 0.2  # one image scores higher for everything
    hub_queries[:, 3] += 0.2
    np.testing.assert_allclose(z_of(hub_queries, hub_bank), z, atol=1e-3)
    same = Calibration.from_fused(hub_bank).null.p_value(z_of(hub_queries, hub_bank))
    np.testing.assert_allclose(same, calibration.null.p_value(z), atol=0.02)


def test_bank_phrases_that_are_truly_there_do_not_raise_the_threshold_much() -> None:
    bank, _ = made_up(300, phrases=400)
    clean = Calibration.from_fused(bank).null.thresholds(0.05)
    sd = bank.std(axis=1)
    for phrase in range(20):  # a twentieth of the bank, each truly in twenty pictures
        there = slice(phrase * 15, phrase * 15 + 20)
        bank[there, phrase] += 6 * sd[there]
    soiled = Calibration.from_fused(bank).null.thresholds(0.05)
    assert soiled[0] < 1.2 * clean[0]
    assert soiled[1] < 1.25 * clean[1]


def test_an_empty_library_matches_nothing() -> None:
    decision = Calibration.empty(40).decide(np.zeros(0))
    assert not decision.match
    assert decision.p_value == 1.0


def test_one_image_is_judged_too() -> None:
    bank, queries = made_up(1)
    null = Calibration.from_fused(bank).null
    p = null.p_value(z_of(queries, bank))
    assert ((p >= 0) & (p <= 1)).all()
    assert null.decide(np.array([12.0])).match


# --------------------------------------------------------------------------- rivals and near misses


def group_of(bank: np.ndarray, queries: np.ndarray) -> tuple[Calibration, np.ndarray]:
    """A calibration, and the z of a query that 75 of 500 images clearly fit."""
    calibration = Calibration.from_fused(bank)
    z = z_of(queries, bank)
    plain = z[np.argsort(calibration.null.p_value(z))[len(z) // 2]].copy()
    plain[:75] = 8.0 + 0.01 * np.arange(75)
    return calibration, plain


def test_images_that_look_more_like_another_kind_make_no_match() -> None:
    calibration, z = group_of(*made_up(500))
    asked: list[np.ndarray] = []

    def won(share: float) -> Any:
        def posteriors(places: np.ndarray) -> np.ndarray:
            asked.append(places)
            return np.full(len(places), share)

        return posteriors

    assert calibration.decide(z, 0.05).match
    refused = calibration.decide(z, 0.05, won(0.1))
    assert (refused.match, refused.posterior) == (False, pytest.approx(0.1))
    free = calibration.decide(z, 0.05)
    assert refused.p_value == free.p_value == free.p_against_rivals
    assert refused.p_against_rivals > 0.05
    assert set(asked[0]) == set(range(75)), "the images that seem to match are asked about"
    assert list(asked[0]) == sorted(range(75), key=lambda i: -z[i]), "best first"
    half = calibration.decide(z, 0.05, won(0.5))
    assert half.match, "half of them is a group, though not enough for one image alone"
    assert half.p_against_rivals >= free.p_against_rivals
    assert calibration.decide(z, 0.05, won(1.0)).p_against_rivals == free.p_value


def test_a_needle_needs_to_be_surer_than_a_group() -> None:
    bank, queries = made_up(500)
    calibration = Calibration.from_fused(bank)
    z = z_of(queries, bank)
    needle = z[np.argsort(calibration.null.p_value(z))[len(z) // 2]].copy()
    needle[7] = 9.0

    def posteriors(places: np.ndarray) -> np.ndarray:
        return np.where(places == 7, 0.9, 0.0)

    assert calibration.decide(needle, 0.05, posteriors).match
    assert not calibration.decide(needle, 0.05, lambda places: 0.6 * posteriors(places)).match


def test_in_a_small_library_few_images_are_a_group() -> None:
    bank, queries = made_up(20)
    calibration = Calibration.from_fused(bank)
    z = z_of(queries, bank)
    plain = z[np.argsort(calibration.null.p_value(z))[len(z) // 2]].copy()
    plain[:2] = 8.0, 7.0
    plain[2:] = np.minimum(plain[2:], 1.0)

    def posteriors(places: np.ndarray) -> np.ndarray:
        # Not sure enough for one image alone.
        return np.where(places < 2, 0.5, 0.0)

    # Three images are 15 % of the library: two of them are a third of what the group rests on.
    decision = calibration.decide(plain, 0.05, posteriors)
    assert decision.match
    assert decision.posterior == pytest.approx(1 / 3)
    assert not calibration.decide(plain, 0.05, lambda places: 0.4 * posteriors(places)).match


def test_no_more_than_a_thousand_images_are_asked_about() -> None:
    bank, queries = made_up(4000, phrases=60, queries=10)
    z = z_of(queries, bank)[0] * 0 + 20.0
    seen: list[int] = []
    Calibration.from_fused(bank).decide(
        z, 0.05, lambda places: seen.append(len(places)) or np.ones(len(places))
    )
    assert seen == [1000]


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
        "classes": np.stack(rows) @ images.T,
        "unrelated": lvis[unrelated] @ images.T,
        "labels": np.load(folder / "cifar10_test500_labels.npy"),
    }


def split(real: dict[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(real["unrelated"]))
    return real["unrelated"][order[:400]].T, real["unrelated"][order[400:]]


def test_real_classes_match_and_unrelated_names_do_so_at_the_stated_rate(
    real: dict[str, Any],
) -> None:
    rates: dict[float, list[float]] = {0.01: [], 0.05: [], 0.1: []}
    for seed in range(8):
        bank, others = split(real, seed)
        null = Calibration.from_fused(bank).null
        assert (null.p_value(z_of(real["classes"], bank)) <= 0.05).all()
        p = null.p_value(z_of(others, bank))
        for rate, seen in rates.items():
            seen.append(float((p <= rate).mean()))
    for rate, seen in rates.items():
        assert np.mean(seen) == pytest.approx(rate, abs=0.02)


def test_real_galleries_that_lack_a_class_answer_no_match_to_its_name(
    real: dict[str, Any],
) -> None:
    wrong = []
    for seed in range(5):
        # No kind is a phrase of the bank.
        order = [
            i
            for i in np.random.default_rng(seed).permutation(len(real["unrelated"]))
            if real["unrelated_names"][i] not in real["kind_vectors"]
        ][:300]
        bank = real["unrelated"][order].T
        words = [
            (number, word == group[0], real["kind_vectors"][word])
            for number, group in enumerate(kind_groups())
            for word in group
            if word in real["kind_vectors"]
        ]
        number_of, above, vectors = (np.array(column) for column in zip(*words, strict=True))
        kinds = Kinds(vectors, number_of, above, real["unrelated_vectors"][order])
        kind_scores = real["images"] @ vectors.T
        for number in range(10):
            rivals = kinds.rivals(real["class_vectors"][number])
            scores = real["classes"][number]

            def decide(
                images: np.ndarray,
                scores: np.ndarray = scores,
                rivals: np.ndarray = rivals,
                bank: np.ndarray = bank,
                kind_scores: np.ndarray = kind_scores,
            ) -> bool:
                null = Calibration.from_fused(bank[images]).null
                mine, theirs = scores[images], kind_scores[images][:, rivals]
                z = z_of(mine[None], bank[images])[0]
                return null.decide(
                    z, 0.05, lambda some: posterior(mine[some], theirs[some], 100.0)
                ).match

            assert decide(np.arange(len(scores)))
            if decide(np.flatnonzero(real["labels"] != number)):
                wrong.append((seed, number))
    assert len(wrong) <= 1  # of fifty
