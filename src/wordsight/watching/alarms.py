"""When a watched camera raises an alarm, and how often it does so for nothing. Pure functions.

What a prompt may score here by chance is told by the bank's neutral phrases: each is a prompt that
is not meant. Their greatest scores over the camera's own history, each counted from what that
phrase usually gets from this camera, follow the law of :mod:`wordsight.watching.tails`, which is
fitted so that the few phrases that truly occur do not count. The cut-off is the height at which a
prompt that never occurs exceeds it as often as false alarms are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wordsight.search.moments import BRIDGE
from wordsight.watching.tails import Tailed

Floats = NDArray[np.floating[Any]]

DAY = 86_400.0
LEARNING = 3600.0
"""Seconds of history below which a camera is still learning."""


def usual(values: Floats, seconds: Floats) -> Floats:
    """What each column of ``values`` [n, C] is half of the time [C], frames counted by seconds."""
    order = np.argsort(values, axis=0)
    summed = np.cumsum(np.asarray(seconds)[order], axis=0)
    middle = (summed < summed[-1] / 2).sum(axis=0)
    columns = np.arange(values.shape[1])
    found: Floats = values[order[middle, columns], columns]
    return found


def cutoff(maxima: Floats, seconds: float, per_day: float) -> float:
    """The height that one prompt that never occurs exceeds ``per_day`` times a day.

    ``maxima`` [B] are the greatest scores of the bank's phrases over ``seconds`` of history, each
    counted from its usual.
    """
    exceeded = -np.expm1(-per_day * max(seconds, 1.0) / DAY)  # at least once, events being rare
    return Tailed.fit(maxima).quantile(float(np.clip(exceeded, 1e-9, 0.5)))


@dataclass(frozen=True, slots=True)
class Alarm:
    """An event begins, or has ended; times in seconds, ``best`` is that of the highest score."""

    kind: Literal["begin", "end"]
    begin: float
    end: float
    best: float
    score: float


class Episode:
    """The state of one prompt at one camera: feed it scores in the order of time."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self.seen = 0.0  # when it was last above half of its peak
        self.best = 0.0
        self.peak = 0.0

    def feed(self, time: float, score: float, least: float) -> list[Alarm]:
        """What a sample at this time means; ``score`` is counted from the usual."""
        if self.begin is None:
            if score < least:
                return []
            self.begin, self.seen, self.best, self.peak = time, time, time, score
            return [self._alarm("begin", time)]
        if score >= self.peak / 2:
            self.seen = time
            if score > self.peak:
                self.peak, self.best = score, time
            return []
        return self.stop() if time - self.seen > BRIDGE else []

    def stop(self) -> list[Alarm]:
        """The event ends where it was last seen: nothing is known of what comes now."""
        if self.begin is None:
            return []
        ended = self._alarm("end", self.seen)
        self.begin = None
        return [ended]

    def _alarm(self, kind: Literal["begin", "end"], end: float) -> Alarm:
        assert self.begin is not None
        return Alarm(kind, self.begin, end, self.best, self.peak)
