"""The order of the hits, and the views that won there, against plain sorting and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wordsight.library import Snapshot
from wordsight.search.ranking import top

# Few different values, so that many are equal; with what filters put last.
values = st.lists(st.sampled_from([-np.inf, -1.5, -0.25, 0.0, 1e-30, 0.25, 0.2500001, 2.0]))


@given(values, st.integers(0, 60))
def test_the_highest_come_first_and_equal_ones_in_the_librarys_order(
    some: list[float], k: int
) -> None:
    scores = np.array(some, np.float32)
    assert top(scores, k).tolist() == np.argsort(-scores, kind="stable")[:k].tolist()


@pytest.mark.parametrize("k", [1, 300, 5000, 40_000])
def test_many_are_ordered_as_few(k: int) -> None:
    scores = np.random.default_rng(0).normal(size=40_000).astype(np.float32).round(3)
    assert (top(scores, k) == np.argsort(-scores, kind="stable")[:k]).all()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_the_view_that_won_is_the_first_of_the_best(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    starts = np.cumsum([0, *counts[:-1]])
    zero = np.zeros(len(counts), np.float32)
    snapshot = Snapshot(
        1, np.zeros((total, 2), np.float32), starts, np.arange(total), np.arange(len(counts)),
        zero, zero, zero, zero,
    )  # fmt: skip
    scores = np.array(data.draw(st.lists(st.sampled_from([-0.1, 0.0, 0.3]), min_size=total,
                                         max_size=total)), np.float32)  # fmt: skip
    images = np.array(data.draw(st.lists(st.integers(0, len(counts) - 1))), np.intp)
    expected = [starts[n] + int(np.argmax(scores[starts[n] :][: counts[n]])) for n in images]
    assert snapshot.winners(images, scores, crops=True).tolist() == expected
    assert snapshot.winners(images, scores, crops=False).tolist() == starts[images].tolist()


@given(st.integers(0, 3), st.lists(st.integers(0, 6), max_size=9))
def test_vectors_of_a_part_lie_in_two_places(near: int, views: list[int]) -> None:
    both = np.arange(14, dtype=np.float32).reshape(7, 2)
    zero = np.zeros(7, np.float32)
    snapshot = Snapshot(
        1, both[: 7 - near], np.arange(7), np.arange(7), np.arange(7), zero, zero, zero, zero,
        sampled=7 - near, near=both[7 - near :],
    )  # fmt: skip
    assert (snapshot.vectors_of(np.array(views, np.intp)) == both[views]).all()
