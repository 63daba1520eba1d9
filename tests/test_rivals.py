"""Rivals of a query, and what they leave it of an image."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight.nomatch.rivals import Kinds, posterior


@given(seed=st.integers(0, 999), images=st.integers(1, 6), rivals=st.integers(0, 5))
def test_posterior_equals_the_softmax(seed: int, images: int, rivals: int) -> None:
    rng = np.random.default_rng(seed)
    mine, theirs = rng.normal(size=images), rng.normal(size=(images, rivals))
    weights = np.exp(7.0 * np.column_stack([mine, theirs]))
    expected = weights[:, 0] / weights.sum(axis=1)
    np.testing.assert_allclose(posterior(mine, theirs, 7.0), expected, rtol=1e-9)


def test_posterior_survives_large_scales() -> None:
    share = posterior(np.array([1.0, -1.0]), np.array([[-1.0], [1.0]]), 1e6)
    np.testing.assert_array_equal(share, [1.0, 0.0])


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_rivals_are_the_nearest_kinds_beside_the_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(60 + 40 + 1, 12)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    words, bank, query = unit[:60], unit[60:100], unit[100]
    group = np.repeat(np.arange(6), 10)
    above = np.arange(60) % 10 == 0
    got = list(Kinds(words, group, above, bank).rivals(query))
    cosines = bank @ words.T
    nearness = (cosines - cosines.mean(0)) / cosines.std(0)
    mine = (words @ query - cosines.mean(0)) / cosines.std(0)
    if mine.max() < np.quantile(nearness.max(axis=1), 0.95):
        assert got == []
        return
    order = sorted(range(60), key=lambda i: -float(words[i] @ query))
    own = order[0]
    rivals = [
        i
        for i in order
        if not above[i] and i != own and not (above[own] and group[i] == group[own])
    ]
    assert got == rivals[:20]
