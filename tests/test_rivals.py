"""Rivals of a query, and what they leave it of an image."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight.nomatch.rivals import Kinds


def made_up(seed: int, scale: float = 7.0) -> tuple[Kinds, np.ndarray]:
    """Sixty kinds in six groups, and two queries with three images each."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(60 + 8, 12)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return Kinds(unit[:60], np.repeat(np.arange(6), 10), np.arange(60) % 10 == 0, scale), unit[60:]


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_rivals_are_the_nearest_kinds_beside_the_own(seed: int) -> None:
    kinds, vectors = made_up(seed)
    words, group, above = kinds.vectors, kinds.group, kinds.above
    for query, got in zip(vectors, kinds.rivals(vectors), strict=True):
        order = sorted(range(60), key=lambda i: -float(words[i] @ query))
        own = order[0]
        rivals = [
            i
            for i in order
            if not above[i] and i != own and not (above[own] and group[i] == group[own])
        ]
        assert sorted(np.flatnonzero(got)) == sorted(rivals[:20])


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_log_odds_are_those_of_the_softmax(seed: int) -> None:
    kinds, vectors = made_up(seed)
    queries, images = vectors[:2], vectors[2:].reshape(2, 3, -1)
    rivals = kinds.rivals(queries)
    for query, theirs, pictures, got in zip(
        queries, rivals, images, kinds.log_odds(queries, images), strict=True
    ):
        weights = np.exp(7.0 * pictures @ np.vstack([query, kinds.vectors[theirs]]).T)
        share = weights[:, 0] / weights.sum(axis=1)
        np.testing.assert_allclose(got, np.log(share / (1 - share)), rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_lookalikes_are_the_kinds_nearest_to_an_image(seed: int) -> None:
    kinds, vectors = made_up(seed)
    query, image = vectors[0], vectors[1]
    rival = kinds.rivals(query[None])[0]
    cosines = kinds.vectors @ query
    own = int(cosines.argmax())
    others = ~kinds.above & (np.arange(60) != own)
    if kinds.above[own]:
        others &= kinds.group != kinds.group[own]
    order = sorted(np.flatnonzero(others), key=lambda i: -float(kinds.vectors[i] @ image))
    rival[order[:20]] = True
    weights = np.exp(7.0 * np.vstack([query, kinds.vectors[rival]]) @ image)
    share = weights[0] / weights.sum()
    got = kinds.log_odds(query[None], image[None, None], lookalikes=True)[0, 0]
    np.testing.assert_allclose(got, np.log(share / (1 - share)), rtol=1e-4, atol=1e-4)
    assert got <= kinds.log_odds(query[None], image[None, None])[0, 0]


def test_log_odds_survive_large_scales() -> None:
    kinds, vectors = made_up(0, scale=1e6)
    assert np.isfinite(kinds.log_odds(vectors[:1], vectors[None, 1:])).all()


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_most_like_is_a_rival(seed: int) -> None:
    kinds, vectors = made_up(seed)
    like = kinds.most_like(vectors[0], vectors[1:4])
    rivals = np.flatnonzero(kinds.rivals(vectors[:1])[0])
    likeness = (vectors[1:4] @ kinds.vectors.T).mean(axis=0)
    assert like == max(rivals, key=lambda i: likeness[i])
