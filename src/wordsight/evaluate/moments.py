"""How good moments are: judged against spans that people or a script wrote down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import WordsightError, reason
from wordsight.search.moments import Span, average_precision, overlap

if TYPE_CHECKING:
    from wordsight.evaluate.judged import JudgedLibrary
    from wordsight.search.recordings import Moments

_OVERLAPS = (0.5, 0.7)
_FORM = (
    'write {"queries": [{"query": "a dog", "moments": [{"file": "front.mp4", "start": 3, '
    '"end": 9.5}]}]}, or JSON lines as in QVHighlights, one query per line'
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A query and the stretches of videos that show it; ``video`` is where to look, or None."""

    query: str
    spans: tuple[Span, ...]
    video: str | None = None


def read_truth(path: Path) -> list[Judged]:
    """Read judgements of moments.

    Either one JSON object with ``queries`` (``query``, ``moments`` of ``file``, ``start``, ``end``
    in seconds), or QVHighlights' form (Lei et al. 2021), a JSON object a line with ``query``,
    ``vid`` and ``relevant_windows``. Raises WordsightError for what is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = _read(text)
    except (OSError, UnicodeDecodeError) as error:
        raise WordsightError(f"cannot read {path}: {reason(error)}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WordsightError(f"{path}: not judgements of moments ({error}); {_FORM}.") from None
    if not any(judged.spans for judged in found):
        raise WordsightError(f"{path}: contains no moments; {_FORM}.")
    return found


def _read(text: str) -> list[Judged]:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "queries" in whole:
        return [
            Judged(
                str(each["query"]),
                tuple(
                    (str(m["file"]), float(m["start"]), float(m["end"])) for m in each["moments"]
                ),
            )
            for each in whole["queries"]
        ]
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [
        Judged(
            str(each["query"]),
            tuple((str(each["vid"]), float(a), float(b)) for a, b in each["relevant_windows"]),
            str(each["vid"]),
        )
        for each in lines
    ]


@dataclass(slots=True)
class MomentEvaluation:
    """What :func:`evaluate_moments` found.

    ``figures`` are shares from 0 to 1: R1 and mAP at overlaps of 0.5 and 0.7, recall and precision
    of events (found: any overlap). ``borders`` are errors of starts and ends in seconds, median and
    90th percentile, of events that overlap by half. ``missed`` and ``false`` are (query, span).
    """

    queries: int
    true_moments: int
    shown_moments: int
    figures: dict[str, float]
    borders: dict[str, float]
    missed: list[tuple[str, Span]]
    false: list[tuple[str, Span]]

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight evaluate --moments --json`` prints."""

        def listed(those: Sequence[tuple[str, Span]]) -> list[dict[str, Any]]:
            return [
                {"query": q, "video": v, "start": round(a, 3), "end": round(b, 3)}
                for q, (v, a, b) in those
            ]

        return {
            "queries": self.queries,
            "moments": self.true_moments,
            "shown": self.shown_moments,
            **{name: round(value, 5) for name, value in self.figures.items()},
            "borders": {name: round(value, 3) for name, value in self.borders.items()},
            "missed": listed(self.missed),
            "false": listed(self.false),
        }


def evaluate_moments(library: JudgedLibrary, truth: Sequence[Judged]) -> MomentEvaluation:
    """Find the moments of every query, and hold them against the truth.

    A video's name in the truth is the end of its path in the library. Queries whose spans lie in no
    video of the library are left out. Raises WordsightError where none is left.
    """
    import numpy as np

    from wordsight.search.recordings import find_moments

    videos = sorted(set(library.store.frames().videos))
    names = {name for judged in truth for name, *_ in judged.spans}
    path_of = {
        name: video
        for name in names
        for video in videos
        if video.endswith(f"/{name}") or Path(video).stem == name
    }
    known = [
        (j.query, [(path_of[n], a, b) for n, a, b in j.spans if n in path_of], j.video)
        for j in truth
    ]
    known = [each for each in known if each[1]]
    if not known:
        raise WordsightError("none of the judged videos is in the library; index them first.")
    first: dict[float, list[bool]] = {least: [] for least in _OVERLAPS}
    precision: dict[float, list[float]] = {least: [] for least in _OVERLAPS}
    missed: list[tuple[str, Span]] = []
    false: list[tuple[str, Span]] = []
    errors: list[float] = []
    shown = 0
    for query, spans, within in known:
        found = find_moments(library.store, library.model, query, k=1000)
        ranked = _spans(found, path_of.get(within) if within else None)
        shown += len(ranked)
        for least in _OVERLAPS:
            first[least].append(any(overlap(one, s) >= least for one in ranked[:1] for s in spans))
            precision[least].append(average_precision(ranked, spans, least))
        for span in spans:
            best = max(ranked, key=lambda one: overlap(one, span), default=None)
            if best is None or not overlap(best, span):
                missed.append((query, span))
            elif overlap(best, span) >= _OVERLAPS[0]:
                errors += [abs(best[1] - span[1]), abs(best[2] - span[2])]
        false += [(query, one) for one in ranked if not any(overlap(one, s) for s in spans)]
    total = sum(len(spans) for _, spans, _ in known)
    figures = {f"R1@{least}": float(np.mean(first[least])) for least in _OVERLAPS}
    figures |= {f"mAP@{least}": float(np.mean(precision[least])) for least in _OVERLAPS}
    figures["event_recall"] = 1 - len(missed) / total
    figures["event_precision"] = 1 - len(false) / max(shown, 1)
    borders = {}
    if errors:
        low, high = np.percentile(errors, [50, 90])
        borders = {"median": float(low), "p90": float(high)}
    return MomentEvaluation(len(known), total, shown, figures, borders, missed, false)


def _spans(found: Moments, video: str | None) -> list[Span]:
    """The moments, best first, as a span for each file; that of the best frame first."""
    spans = []
    for moment in found.moments:
        parts = sorted(moment.parts, key=lambda part: part != moment.part)
        spans += [(p.video, p.start, p.end) for p in parts if video in (None, p.video)]
    return spans
