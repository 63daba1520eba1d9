"""From scores to events; judged against spans."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wordsight.errors import WordsightError
from wordsight.evaluate.moments import read_truth
from wordsight.search.moments import Track, average_precision, empty_view, events, overlap


def track(
    scores: list[float], *, empty: list[int] | None = None, every: float = 1.0, end: float = 0.0
) -> Track:
    times = np.arange(len(scores)) * every
    untils = np.append(times[1:], end or times[-1] + every)
    marked = np.zeros(len(scores), bool)
    marked[empty or []] = True
    return Track(times, untils, np.array(scores, float), marked, every)


def test_borders_lie_half_way_between_samples() -> None:
    (event,) = events(track([0, 0, 0, 6, 8, 7, 0, 0]), 5)
    assert (event.start, event.end) == (2.5, 5.5)
    assert (event.best, event.score) == (4, 8.0)


def test_it_grows_down_to_half_of_the_peak() -> None:
    (event,) = events(track([0, 3.9, 4.1, 8, 4.1, 3.9, 0]), 5)
    assert (event.start, event.end) == (1.5, 4.5)


def test_short_dips_are_bridged_and_long_ones_are_not() -> None:
    assert [(e.start, e.end) for e in events(track([0, 8, 0, 0, 8, 0]), 5)] == [(0.5, 4.5)]
    found = events(track([0, 8, 0, 0, 0, 7, 0]), 2)
    assert [(e.start, e.end) for e in found] == [(0.5, 1.5), (4.5, 5.5)]


def test_the_best_comes_first_and_weak_ones_are_no_events() -> None:
    assert [e.score for e in events(track([6, 0, 0, 0, 9, 0, 0, 0, 5]), 2)] == [9.0, 6.0]


def test_what_one_sample_alone_shows_is_chance() -> None:
    assert events(track([0, 0, 8, 0, 0]), 5) == []
    assert len(events(track([0, 0, 8, 6, 4, 0, 0]), 6)) == 1
    assert events(track([0, 0, 8, 6, 3, 0, 0]), 6) == []
    assert len(events(track([8], end=1.0), 5)) == 1  # there is no other


def test_the_empty_view_starts_no_event_and_ends_others() -> None:
    assert events(track([8, 8, 8], empty=[0, 1, 2]), 5) == []
    (event,) = events(track([8, 8, 8, 9, 8, 8, 8, 8], empty=[0, 1, 2, 5, 6, 7]), 5)
    assert (event.start, event.end) == (2.5, 4.5)


def test_a_frame_that_stands_for_long_counts_with_its_time() -> None:
    long = Track(
        np.array([0.0, 10.0, 60.0]), np.array([10.0, 60.0, 70.0]), np.array([0.0, 8.0, 0.0]),
        np.zeros(3, bool), 1.0,
    )  # fmt: skip
    (event,) = events(long, 5)
    assert (event.start, event.end) == (9.5, 59.5)


def test_at_both_ends_of_a_recording_there_is_no_other_sample() -> None:
    (event,) = events(track([8, 8, 8], end=2.6), 5)
    assert (event.start, event.end) == (0.0, 2.6)


def test_events_never_go_over_what_was_not_recorded() -> None:
    gap = Track(
        np.array([0.0, 1.0, 30.0]), np.array([1.0, 2.0, 31.0]), np.array([8.0, 8.0, 8.0]),
        np.zeros(3, bool), 1.0,
    )  # fmt: skip
    assert [(e.start, e.end) for e in events(gap, 2)] == [(0.0, 2.0), (30.0, 31.0)]


def test_the_empty_view_is_what_is_shown_most_of_the_time() -> None:
    rng = np.random.default_rng(0)
    view, thing = np.eye(8)[:2]
    vectors = np.array([view, view, thing, thing, view]) + rng.normal(0, 0.01, (5, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seconds = np.array([50.0, 30.0, 5.0, 5.0, 20.0])
    assert empty_view(vectors, seconds).tolist() == [True, True, False, False, True]
    # A clip of one thing has no view without it.
    assert not empty_view(vectors[[0, 1, 4]], seconds[[0, 1, 4]]).any()
    assert empty_view(vectors[:0], seconds[:0]).shape == (0,)


def test_overlap_and_average_precision() -> None:
    assert overlap(("a", 0, 10), ("a", 5, 15)) == pytest.approx(1 / 3)
    assert overlap(("a", 0, 10), ("b", 0, 10)) == 0
    assert overlap(("a", 0, 1), ("a", 2, 3)) == 0
    truth = [("a", 0.0, 10.0), ("a", 20.0, 30.0)]
    ranked = [("a", 0.0, 9.0), ("a", 50.0, 60.0), ("a", 21.0, 30.0), ("a", 0.0, 10.0)]
    assert average_precision(ranked, truth, 0.5) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([], truth, 0.5) == 0


def test_two_forms_of_truth(tmp_path: Path) -> None:
    own = tmp_path / "truth.json"
    own.write_text(
        json.dumps(
            {"queries": [{"query": "a", "moments": [{"file": "x.mp4", "start": 1, "end": 2}]}]}
        )
    )
    highlights = tmp_path / "truth.jsonl"
    highlights.write_text(
        '{"qid": 1, "query": "a", "vid": "x", "relevant_windows": [[1, 2]], "duration": 9}\n'
    )
    (one,), (other,) = read_truth(own), read_truth(highlights)
    assert one.spans == (("x.mp4", 1.0, 2.0),)
    assert other.spans == (("x", 1.0, 2.0),)
    assert other.video == "x"
    for content in ("{}", "[1]", "no", '{"queries": []}'):
        own.write_text(content)
        with pytest.raises(WordsightError, match=r"truth\.json: "):
            read_truth(own)
