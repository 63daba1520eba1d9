"""Cut-offs from a camera's own history, and events from scores as they come."""

from __future__ import annotations

import numpy as np
import pytest

from wordsight.watching.alarms import DAY, Episode, cutoff, usual


def test_what_is_usual_is_the_median_by_time() -> None:
    values = np.array([[1.0, 5.0], [9.0, 6.0], [2.0, 7.0]])
    assert usual(values, np.array([1.0, 1.0, 10.0])).tolist() == [2.0, 7.0]
    assert usual(values, np.array([1.0, 10.0, 1.0])).tolist() == [9.0, 6.0]


@pytest.mark.parametrize("hours", [1, 24])
def test_the_stated_rate_holds(hours: int) -> None:
    """Prompts that never occur, over days that nothing was known of when the cut-off was made."""
    rng = np.random.default_rng(0)
    samples = hours * 360  # independent ones, six a minute

    def maxima(prompts: int, count: int) -> np.ndarray:
        return -np.log(-np.log(rng.random(prompts))) * 0.5 + np.log(count) * 0.5  # of exponentials

    least = cutoff(maxima(500, samples), hours * 3600.0, 0.05)
    found = [(maxima(20, 24 * 360) > least).sum() for _ in range(200)]
    assert 0.2 < np.mean(found) < 3.0  # one a day for twenty prompts


def test_phrases_that_do_occur_do_not_count() -> None:
    rng = np.random.default_rng(1)
    maxima = rng.gumbel(4, 0.5, 500)
    plain = cutoff(maxima, DAY, 0.05)
    maxima[:10] = 15.0  # what the camera really sees
    assert cutoff(maxima, DAY, 0.05) < plain + 3
    assert cutoff(maxima, DAY, 0.01) > cutoff(maxima, DAY, 0.5)


def test_an_event_has_a_begin_and_an_end() -> None:
    episode = Episode()
    found = []
    for time, score in enumerate([0, 6, 9, 5, 1, 5, 1, 1, 1, 1, 0]):
        found += episode.feed(float(time), float(score), 5.5)
    begin, end = found
    assert (begin.kind, begin.begin, begin.score) == ("begin", 1.0, 6.0)
    assert (end.kind, end.begin, end.end, end.best, end.score) == ("end", 1.0, 5.0, 2.0, 9.0)
    assert episode.stop() == []
    episode.feed(20.0, 8.0, 5.5)
    (cut,) = episode.stop()
    assert (cut.kind, cut.end) == ("end", 20.0)
