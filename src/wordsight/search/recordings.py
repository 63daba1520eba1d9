"""Moments: when the recordings of a library show what is asked for.

The scores of frames come from the library, the decision whether it holds the thing at all from
:mod:`wordsight.search`, events from :mod:`wordsight.search.moments`. Files of one camera that
follow each other are one recording.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from wordsight.errors import QueryError
from wordsight.library import frames_where
from wordsight.nomatch import certainty, zscore
from wordsight.search import as_query, search
from wordsight.search.decision import kinds_of, null_of
from wordsight.search.moments import BRIDGE, Event, Track, empty_view, events
from wordsight.video import frame_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wordsight.library import Frames, Store
    from wordsight.models.clip import ClipModel
    from wordsight.nomatch import Null, Verdict
    from wordsight.search import Query, Result


_POOLED = 0.75
"""Several frames together need so much of the z that one alone needs."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a video file, in seconds from its first frame."""

    video: str
    start: float
    end: float

    @property
    def link(self) -> str:
        """The file with a temporal media fragment (W3C Media Fragments 1.0): ``...#t=1.5,9``."""
        return f"{quote(self.video)}#t={self.start:.2f},{self.end:.2f}"


@dataclass(frozen=True, slots=True)
class Moment:
    """An event: ``part`` is the stretch of the file that holds its best frame, at ``best`` seconds.

    ``parts`` are those of all files that it goes over. ``score`` is the best frame's cosine, ``z``
    counts deviations of its background, ``certainty`` says how sure it is that the frame shows
    what was asked for (see :attr:`wordsight.nomatch.Decision.certainty`). ``recorded_start`` and
    ``recorded_end`` are ISO 8601 in UTC, where that is known.
    """

    rank: int
    part: Part
    parts: tuple[Part, ...]
    camera: str | None
    best: float
    score: float
    z: float
    certainty: float
    recorded_start: str | None
    recorded_end: str | None

    @property
    def thumbnail(self) -> str:
        """The path of the best frame."""
        return frame_path(self.part.video, self.best)

    def to_json(self) -> dict[str, Any]:
        """One of ``moments`` in the JSON of a search."""
        answer: dict[str, Any] = {
            "rank": self.rank,
            "video": self.part.video,
            "camera": self.camera,
            "start": round(self.part.start, 3),
            "end": round(self.part.end, 3),
            "best": round(self.best, 3),
            "score": round(self.score, 5),
            "z": round(self.z, 5),
            "certainty": round(self.certainty, 5),
            "recorded_start": self.recorded_start,
            "recorded_end": self.recorded_end,
            "link": self.part.link,
            "thumbnail": self.thumbnail,
        }
        if len(self.parts) > 1:
            answer["parts"] = [
                {"video": p.video, "start": round(p.start, 3), "end": round(p.end, 3)}
                for p in self.parts
            ]
        return answer


@dataclass(frozen=True, slots=True)
class Series:
    """The scores of a video's frames, for a timeline: ``times``, ``untils`` and ``z`` [n]."""

    video: str
    times: NDArray[np.float64]
    untils: NDArray[np.float64]
    z: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """One of ``series`` in the JSON of the server."""
        rounded = {name: getattr(self, name).round(3).tolist() for name in ("times", "untils", "z")}
        return {"video": self.video, **rounded}


@dataclass(slots=True)
class Moments:
    """The answer to one query over recordings; ``result`` is the search's decision on it.

    ``least`` is the mean z that the best frames of a moment need.
    """

    result: Result
    moments: list[Moment]
    series: list[Series] = field(repr=False)
    least: float

    @property
    def query(self) -> str:
        """What was asked for."""
        return self.result.query

    @property
    def verdict(self) -> Verdict:
        """Whether the recordings show it, as far as can be told."""
        return self.result.verdict

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight search --moments --json`` prints."""
        answer = self.result.to_json()
        del answer["hits"]
        return {**answer, "moments": [moment.to_json() for moment in self.moments]}


def find_moments(
    store: Store,
    model: ClipModel,
    query: str | Query,
    *,
    k: int = 10,
    false_accept: float = 0.05,
    anyway: bool = False,
    camera: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> Moments:
    """The ``k`` best moments of a library's recordings for words, best first.

    ``camera`` is the name of one, ``start`` and ``end`` times in ISO 8601 (without a zone: of this
    machine's clock) between which it was recorded. The best frames of a moment together reach
    three quarters of what one frame needs to match at the stated ``false_accept`` rate, and the
    best one is nearer to the words than to their rivals (:mod:`wordsight.nomatch.rivals`); with
    ``anyway``, what one needs that more likely than not shows it.

    Raises QueryError for what is no query of words or no time, and where the library has no frames
    of videos (of that camera and time).
    """
    parsed = as_query(query)
    if any(term.text is None for term in parsed.terms):
        raise QueryError("moments are found by words, not by images.")
    frames = store.frames()
    chosen = camera, _utc(start), _utc(end)
    kept = frames.chosen(*chosen)
    if not kept.any():
        raise QueryError(_nothing(frames, camera))
    (result,) = search(
        store,
        model,
        [parsed],
        k=1,
        false_accept=false_accept,
        anyway=True,
        where=frames_where(*chosen),
    )
    result.hits = []
    assert result.decision is not None
    assert result.vector is not None
    null, kinds = null_of(store, model), kinds_of(store, model)
    rivals = kinds.rivals_of(result.vector)
    scores = frames.scores(result.vector)
    z = zscore(scores, frames.mean, frames.sd).astype(np.float64)
    least = _least(null, result, anyway=anyway)
    files = _files(frames, kept)
    found: list[Moment] = []
    for recording in _recordings(files):
        for event in _events_of(frames, recording, z, least, store.every):
            place = int(recording.places[event.best])
            best = frames.best_view(place, result.vector)
            if anyway or best @ result.vector >= (rivals @ best).max(initial=-1.0):
                sure = certainty(null.p_single(event.score))
                found.append(_moment(frames, recording, event, float(scores[place]), sure))
    found.sort(key=lambda moment: -moment.z)
    ranked = [replace(moment, rank=rank) for rank, moment in enumerate(found[:k], start=1)]
    return Moments(result, ranked, [_series(frames, file, z) for file in files], least)


def _series(frames: Frames, file: _File, z: NDArray[np.float64]) -> Series:
    at = file.places
    return Series(file.video, frames.times[at], frames.untils[at], z[at])


def _utc(said: str | None) -> str | None:
    """A time as the table's columns write it; a date alone begins at midnight."""
    if said is None:
        return None
    try:
        time = datetime.fromisoformat(said.strip().replace("Z", "+00:00"))
    except ValueError:
        raise QueryError(
            f"cannot read the time {said!r}: write it like 2026-03-01 or 2026-03-01T08:30"
        ) from None
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def _nothing(frames: Frames, camera: str | None) -> str:
    if not frames.videos:
        return (
            "the library holds no frames of videos; index some: wordsight index FOLDER "
            "(needs the extra video: pip install 'wordsight[video]')"
        )
    known = sorted({name for name in frames.cameras if name})
    if camera is not None and camera not in known:
        return f"the library has no camera '{camera}'; it has: {', '.join(known[:20])}."
    return "nothing was recorded in that time, as far as the recordings say when they were made."


# -- recordings --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    """A video's frames by their places among all; ``began`` is the first's time (POSIX)."""

    video: str
    camera: str | None
    began: float | None
    places: NDArray[np.intp]
    end: float


@dataclass(frozen=True, slots=True)
class _Recording:
    """Files that follow each other, and when each begins, on the clock of the first one."""

    files: list[_File]
    offsets: list[float]
    places: NDArray[np.intp]
    shifts: NDArray[np.float64]


def _files(frames: Frames, kept: NDArray[np.bool_]) -> list[_File]:
    places: dict[str, list[int]] = defaultdict(list)
    for place in np.flatnonzero(kept):
        places[frames.videos[place]].append(int(place))
    files = []
    for video, those in places.items():
        first = those[0]
        said = frames.recorded[first]
        time = datetime.fromisoformat(said).timestamp() - frames.times[first] if said else None
        end = float(frames.untils[those[-1]])
        files.append(_File(video, frames.cameras[first], time, np.array(those, np.intp), end))
    return files


def _recordings(files: list[_File]) -> list[_Recording]:
    """Files of one camera, each of which begins when the one before it ends, are one recording."""
    groups: list[list[_File]] = []
    last: _File | None = None
    for file in sorted(files, key=lambda f: (f.camera or "", f.began or 0.0, f.video)):
        follows = (
            last is not None
            and last.camera == file.camera
            and last.began is not None
            and file.began is not None
            and abs(last.began + last.end - file.began) <= BRIDGE
        )
        if follows:
            groups[-1].append(file)
        else:
            groups.append([file])
        last = file
    return [_joined(group) for group in groups]


def _joined(files: list[_File]) -> _Recording:
    # Names of files tell the second alone, so each begins where the one before it ends.
    offsets = np.cumsum([0.0, *(file.end for file in files[:-1])])
    shifts = np.repeat(offsets, [len(file.places) for file in files])
    places = np.concatenate([file.places for file in files])
    return _Recording(files, offsets.tolist(), places, shifts)


def _events_of(
    frames: Frames, recording: _Recording, z: NDArray[np.float64], least: float, every: str
) -> list[Event]:
    places = recording.places
    if z[places].max() < least:
        return []
    times, untils = frames.times[places], frames.untils[places]
    track = Track(
        times + recording.shifts,
        untils + recording.shifts,
        z[places],
        empty_view(frames.whole[places], untils - times) & ~frames.moves[places],
        1.0 if every == "keyframes" else float(every),
    )
    return events(track, max(least, 1e-3))


def _moment(
    frames: Frames, recording: _Recording, event: Event, score: float, certainty: float
) -> Moment:
    place = int(recording.places[event.best])
    parts, clocks = [], []
    for file, offset in zip(recording.files, recording.offsets, strict=True):
        start, end = max(event.start - offset, 0.0), min(event.end - offset, file.end)
        if end > start or file.video == frames.videos[place]:
            parts.append(Part(file.video, start, max(start, end)))
            clocks.append(file.began)
    return Moment(
        rank=0,
        part=next(part for part in parts if part.video == frames.videos[place]),
        parts=tuple(parts),
        camera=frames.cameras[place],
        best=float(frames.times[place]),
        score=score,
        z=event.score,
        certainty=certainty,
        recorded_start=_clock(clocks[0], parts[0].start),
        recorded_end=_clock(clocks[-1], parts[-1].end),
    )


def _clock(began: float | None, seconds: float) -> str | None:
    if began is None:
        return None
    return datetime.fromtimestamp(began + seconds, timezone.utc).isoformat(timespec="milliseconds")


# -- how sure ----------------------------------------------------------------------------------


def _least(null: Null, result: Result, *, anyway: bool) -> float:
    """The mean z that the best frames of a moment need."""
    assert result.decision is not None
    least = _POOLED * result.decision.single_threshold
    if anyway:
        return min(least, null.threshold(float(np.exp(-1))))  # more likely than not
    return float("inf") if result.verdict == "none" else least
