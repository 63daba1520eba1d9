"""Laws of maxima: fits, tails and quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight.watching.tails import Gumbel, Tailed


@given(st.floats(-3, 3), st.floats(0.1, 3))
def test_gumbel_tail_and_quantile_are_inverse(location: float, scale: float) -> None:
    law = Gumbel(location, scale)
    for tail in (0.9, 0.5, 0.05, 1e-6):
        assert float(np.exp(law.log_tail(np.array(law.quantile(tail))))) == pytest.approx(tail)


def test_gumbel_tail_is_finite_and_falls_everywhere() -> None:
    tails = Gumbel(0.0, 1.0).log_tail(np.array([-1e6, 0.0, 10.0, 29.9, 30.1, 500.0, 1e6]))
    assert np.isfinite(tails).all()
    assert (np.diff(tails) < 0).all()


def test_gumbel_fit_finds_the_law_and_a_tenth_of_outliers_moves_it_little() -> None:
    rng = np.random.default_rng(0)
    sample = rng.gumbel(2.0, 0.6, size=4000)
    clean = Gumbel.fit(sample)
    assert clean.location == pytest.approx(2.0, abs=0.05)
    assert clean.scale == pytest.approx(0.6, abs=0.05)
    sample[:400] += 20.0
    soiled = Gumbel.fit(sample)
    assert soiled.quantile(0.05) == pytest.approx(clean.quantile(0.05), rel=0.3)


@given(seed=st.integers(0, 999), size=st.integers(30, 700))
@settings(deadline=None, max_examples=30)
def test_the_tail_is_the_slope_of_the_top_tenth_within_bounds(seed: int, size: int) -> None:
    sample = np.random.default_rng(seed).gumbel(size=size) ** 2
    law, body = Tailed.fit(sample), Gumbel.fit(sample)
    ordered = sorted(sample)
    points = [
        (-np.log(-np.log((i + 0.5) / size)), ordered[i])
        for i in range(size)
        if (i + 0.5) / size >= 0.9
    ]
    slopes = [(d - b) / (c - a) for n, (a, b) in enumerate(points) for c, d in points[n + 1 :]]
    assert law.body == body
    expected = min(max(float(np.median(slopes)), body.scale), 2 * body.scale)
    assert law.tail.scale == pytest.approx(expected)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(1, 2))
def test_tailed_tail_and_quantile_are_inverse_and_meet_at_a_tenth(
    location: float, scale: float, wider: float
) -> None:
    law = Tailed.of(Gumbel(location, scale), wider * scale)
    for tail in (0.9, 0.5, 0.1, 0.05, 1e-6):
        assert float(np.exp(law.log_tail(np.array(law.quantile(tail))))) == pytest.approx(tail)
    x = np.linspace(location - 3 * scale, location + 9 * scale, 200)
    assert (np.diff(law.log_tail(x)) <= 0).all()
    assert (law.log_tail(x) >= law.body.log_tail(x) - 1e-9).all(), "never thinner than the body"


def test_tailed_fit_follows_a_wide_tail_and_few_outliers_widen_it_little() -> None:
    rng = np.random.default_rng(0)
    plain = rng.gumbel(2.0, 0.6, size=4000)
    assert Tailed.fit(plain).quantile(0.01) == pytest.approx(np.quantile(plain, 0.99), rel=0.05)
    wide = np.where(plain > np.quantile(plain, 0.9), np.quantile(plain, 0.9), plain)
    wide[plain > np.quantile(plain, 0.9)] += rng.exponential(1.0, size=400)
    assert Tailed.fit(wide).quantile(0.01) == pytest.approx(np.quantile(wide, 0.99), rel=0.05)
    plain[:200] += 20.0
    soiled = Tailed.fit(plain)
    assert soiled.tail.scale <= 2 * soiled.body.scale
