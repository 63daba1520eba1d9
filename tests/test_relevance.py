"""Where the hits end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wordsight.search.relevance import Groups, count

NULL = (0.1, 0.02)  # mean and sd of unrelated phrases


def library(images: int, right: int, apart: float = 8.0, seed: int = 0) -> np.ndarray:
    """Values of images; the first ``right`` are ``apart`` deviations above the others."""
    values = np.random.default_rng(seed).normal(*NULL, images)
    values[:right] += apart * NULL[1]
    return values


@pytest.mark.parametrize(("images", "right"), [(40, 1), (300, 9), (300, 200), (5000, 700)])
def test_what_stands_apart_is_relevant_and_counted(images: int, right: int) -> None:
    values = library(images, right)
    groups = Groups.fit(values, NULL)
    order = np.argsort(-values)
    cut, counted = count(groups.probability(values[order]))
    relevant = np.isin(np.arange(images), order[:cut])
    assert relevant[:right].mean() > 0.99
    assert relevant[right:].mean() < 0.01
    assert counted.estimate == pytest.approx(right, rel=0.01)
    assert counted.low <= right <= counted.high


@pytest.mark.parametrize("images", [1, 2, 5])
def test_in_a_small_library_the_bank_says_what_unrelated_is(images: int) -> None:
    shown = np.full(images, NULL[0] + 10 * NULL[1])
    assert (Groups.fit(shown, NULL).probability(shown) >= 0.5).all()
    nothing = np.full(images, NULL[0])
    assert (Groups.fit(nothing, NULL).probability(nothing) < 0.5).all()


@given(st.integers(1, 60), st.integers(0, 1000), st.booleans())
def test_probabilities_rise_with_the_rank(images: int, seed: int, has_prior: bool) -> None:
    values = np.sort(library(images, seed % images, 3.0, seed))
    found = Groups.fit(values, NULL if has_prior else None).probability(values)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_the_scale_of_the_values_does_not_matter() -> None:
    values = library(500, 20, 4.0)
    a = Groups.fit(values).probability(values)
    b = Groups.fit(7 * values - 3).probability(7 * values - 3)
    assert a == pytest.approx(b, abs=1e-6)


def test_a_random_part_stands_for_the_rest() -> None:
    values = library(4000, 40)
    # The best, and one in twenty of the others.
    part = np.concatenate([values[:40], values[40::20]])
    weights = np.concatenate([np.ones(40), np.full(len(part) - 40, 20.0)])
    order = np.argsort(-part)
    probable = Groups.fit(part, NULL, weights).probability(part[order])
    assert count(probable, weights[order])[1].estimate == 40


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_cut_has_the_highest_expected_f1(chances: list[float]) -> None:
    probable = np.sort(chances)[::-1]

    def expected(k: int) -> float:
        return float(2 * probable[:k].sum() / (k + probable.sum()))

    cut, counted = count(probable)
    assert expected(cut) == pytest.approx(max(expected(k) for k in range(1, len(probable) + 1)))
    assert counted.low <= counted.estimate == cut <= counted.high


def test_a_sibling_is_not_relevant() -> None:
    values = library(300, 9, 4.0)
    groups = Groups.fit(values, NULL)
    against = np.where(np.arange(300) < 4, 3.0, -6.0)  # five of the nine are a rival's
    assert groups.probability(values, against)[:4].min() > 0.5
    assert groups.probability(values, against)[4:].max() < 0.5


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40),
    st.floats(-1, 1),
    st.floats(1e-6, 1),
)
def test_any_values_have_a_law(values: list[float], mean: float, sd: float) -> None:
    """Also where they lie on a few places, or far from what unrelated phrases get."""
    found = Groups.fit(np.array(values, np.float32), (mean, sd)).probability(np.array(values))
    assert ((found >= 0) & (found <= 1)).all()


@given(st.integers(8, 400), st.floats(2, 8), st.integers(0, 10))
def test_the_law_is_where_further_steps_lead_nowhere(right: int, apart: float, seed: int) -> None:
    """A law worked out from the probabilities that it gives is the same law."""
    values = library(800, right, apart, seed)
    groups = Groups.fit(values)
    mine = groups.probability(values)
    other = 1 - mine
    null = float(other @ values / other.sum())
    assert null == pytest.approx(groups.null, abs=0.05 * groups.width)
    odds = max(mine.sum() / other.sum(), 1 / 800)  # one image at least is relevant
    assert odds == pytest.approx(np.exp(groups.odds), rel=0.05)
