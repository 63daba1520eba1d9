"""From scores of frames to events: when a video shows what was asked for. Pure functions.

A recording is a series of frames, each of which stands for a stretch of time. An event grows from a
peak of the scores to both sides down to half of it, over dips that are no longer than
:data:`BRIDGE`. Its borders lie half way between the sample that is in it and the one that is not.
What a camera shows most of the time (its empty view) starts no event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BRIDGE = 2.5
"""Seconds that an event goes on over frames that do not show it, and between files of a recording:
people pass behind things, and cameras close one file before they open the next."""
_POOLED = 3
"""Samples of an event that speak for it together. This, and what they need
(:mod:`wordsight.search.recordings`), was chosen on composed footage (``benchmarks/footage.py``)."""
_STOOD = 1.5
"""A frame that was shown for more than so many samples stood still."""
_EMPTY = 0.9
_DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True)
class Track:
    """The frames of one recording, in the order of time.

    ``times`` and ``untils`` [n] are seconds: frame i stands for ``times[i]`` to ``untils[i]``.
    ``scores`` [n] are counted from what unrelated frames get, ``empty`` [n] marks those that show
    the empty view and nothing that moves. ``every`` is how far samples lie apart at most, in
    seconds.
    """

    times: Floats
    untils: Floats
    scores: Floats
    empty: NDArray[np.bool_]
    every: float


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a track, in seconds; ``best`` is the place of its best frame."""

    start: float
    end: float
    best: int
    score: float


def events(track: Track, least: float) -> list[Event]:
    """The events of a track whose best samples score at least ``least`` (above 0), best first.

    The mean of the best three counts: what is there is there for more than one sample, and chance
    is not. A frame that stood still counts for all three.
    """
    scores = np.asarray(track.scores, np.float64)
    free = ~np.asarray(track.empty, bool)
    found = []
    taken = np.zeros(len(scores), bool)
    for peak in np.argsort(-scores, kind="stable"):
        if scores[peak] < least:
            break
        if taken[peak] or not free[peak]:
            continue
        inside = (scores >= scores[peak] / 2) & free & ~taken
        first = _grown(track, inside, int(peak), -1)
        last = _grown(track, inside, int(peak), 1)
        taken[first : last + 1] = True
        if _pooled(track, first, last, int(peak)) < least:
            continue
        start, end = _borders(track, first, last)
        found.append(Event(start, end, int(peak), float(scores[peak])))
    return found


def _pooled(track: Track, first: int, last: int, peak: int) -> float:
    """The mean of an event's best samples; those that it lacks count as 0."""
    scores = np.asarray(track.scores, np.float64)
    if track.untils[peak] - track.times[peak] > _STOOD * track.every:
        return float(scores[peak])
    best = np.sort(scores[first : last + 1])[-_POOLED:]
    return float(best.sum()) / min(_POOLED, len(scores))


def _grown(track: Track, inside: NDArray[np.bool_], place: int, step: int) -> int:
    """The last frame to one side that belongs to the event."""
    last = place
    while 0 <= place + step < len(inside):
        place += step
        low, high = (place, last) if step < 0 else (last, place)
        if track.times[high] - track.untils[low] > BRIDGE:
            break  # nothing was recorded, or nothing shows it, for too long
        if inside[place]:
            gap = track.times[max(last, place)] - track.untils[min(last, place)]
            if gap > BRIDGE:
                break
            last = place
    return last


def _borders(track: Track, first: int, last: int) -> tuple[float, float]:
    times, untils = track.times, track.untils
    start, end = float(times[first]), float(untils[last])
    if first and start - untils[first - 1] < track.every:
        start -= min(track.every, start - float(times[first - 1])) / 2
    if last + 1 < len(times) and times[last + 1] - end < track.every:
        end -= min(track.every, end - float(times[last])) / 2
    return start, end


def empty_view(vectors: Floats, seconds: Floats) -> NDArray[np.bool_]:
    """Which frames [n] show what their camera shows most of the time.

    ``vectors`` [n, D] are of unit length, ``seconds`` [n] how long each was shown. The empty view
    is the median vector; a frame shows it when its cosine to it is at least 0.9, and not far
    below that of others. Where all frames do, nothing tells an empty view from a subject: none do.
    """
    if not len(vectors):
        return np.zeros(0, bool)
    middle = np.array([_median(column, seconds) for column in np.asarray(vectors, np.float64).T])
    length = float(np.linalg.norm(middle))
    if length < 1e-6:
        return np.zeros(len(vectors), bool)
    cosines = np.asarray(vectors @ (middle / length), np.float64)
    usual = _median(cosines, seconds)
    spread = 1.4826 * _median(np.abs(cosines - usual), seconds)
    shown = cosines >= max(_EMPTY, usual - _DEVIATIONS * max(spread, 0.005))
    return np.zeros(len(vectors), bool) if shown.all() else shown


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])


# -- how good moments are ----------------------------------------------------------------------

Span = tuple[str, float, float]
"""A stretch of a video: its name, start and end in seconds."""


def overlap(one: Span, other: Span) -> float:
    """Temporal intersection over union, 0 to 1; 0 for stretches of different videos."""
    if one[0] != other[0]:
        return 0.0
    shared = min(one[2], other[2]) - max(one[1], other[1])
    return max(0.0, shared) / max(one[2] - one[1] + other[2] - other[1] - shared, 1e-9)


def average_precision(ranked: Sequence[Span], truth: Sequence[Span], least: float) -> float:
    """AP of ranked moments: each true one counts once, found where the overlap is ``least``.

    As in QVHighlights (Lei et al. 2021) and ActivityNet: the precision at each true moment that is
    found, over their number.
    """
    left = list(truth)
    precisions: list[float] = []
    for rank, moment in enumerate(ranked, start=1):
        best = max(left, key=lambda true: overlap(moment, true), default=None)
        if best is not None and overlap(moment, best) >= least:
            left.remove(best)
            precisions.append((len(precisions) + 1) / rank)
    return sum(precisions) / len(truth) if truth else 0.0
