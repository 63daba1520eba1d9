"""What a search answers: hits, and what the decision on them rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.nomatch import Decision, Verdict
    from wordsight.search.alike import Likeness
    from wordsight.search.relevance import Count

ANSWERS = {"match": "match", "unsure": "not sure", "none": "no match"}
"""The verdicts in the words that people and agents read."""


@dataclass(frozen=True, slots=True)
class View:
    """What won: the whole image (``box`` None) or a crop, x0, y0, x1, y1 in original pixels."""

    kind: str
    box: tuple[float, float, float, float] | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked image. ``score`` is a cosine; ``z`` counts the image's background deviations.

    ``width`` and ``height`` are those of the upright original, in pixels. ``metadata`` is what is
    known of its file, by name: taken, camera, lens, latitude, longitude, orientation, media,
    keywords, caption (see :class:`wordsight.images.Metadata`). ``probability`` is that of showing
    what was asked for, ``relevant`` whether the hit counts as showing it (see
    :mod:`wordsight.search.relevance`).
    """

    rank: int
    id: str
    path: str
    score: float
    z: float | None
    label: str | None
    view: View
    width: int = 0
    height: int = 0
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    line: str | None = None
    """The line of text in the image that was asked for, and where it is."""
    line_box: tuple[float, float, float, float] | None = None
    relevant: bool = True
    probability: float | None = None


@dataclass(slots=True)
class Result:
    """The answer to one query.

    ``verdict`` is "match", "unsure" or "none"; ``match`` says whether it is the first. ``hits`` is
    empty for "none", unless ``anyway`` was asked for. ``decision`` is what the calibrated decision
    on words rests on, ``likeness`` that on an image; both are None where neither applies
    (``min_score``, a query of excluded terms alone). ``threshold`` is the z that the best image of
    unrelated words reaches at the stated rate, or ``min_score``. ``top_score`` and ``top_z`` are
    those of the best image whether it matched or not. ``count`` says about how many images of the
    library are relevant (None where that cannot be told: an empty library, a filter in a large
    one).
    ``notices`` are for the user to read.
    """

    query: str
    match: bool
    threshold: float | None
    hits: list[Hit]
    model: str
    timings_ms: dict[str, float]
    decision: Decision | None = None
    min_score: float | None = None
    top_score: float | None = None
    top_z: float | None = None
    notices: list[str] = field(default_factory=list)
    by_text: bool = False
    """Whether words that are written in images made this a match (see text.py)."""
    count: Count | None = None
    likeness: Likeness | None = None
    answered: float = 1.0
    """The share of the library's views that were looked at: below 1 where slices of a fleet were
    away."""
    vector: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """The query's [D], of unit length."""

    @property
    def verdict(self) -> Verdict:
        """Whether the library holds what was asked for, as far as can be told."""
        judged = self.decision or self.likeness
        if self.match or self.min_score is not None or judged is None:
            return "match" if self.match else "none"
        return judged.verdict

    @property
    def certainty(self) -> float | None:
        """How probable it is that the library holds what was asked for, at even odds.

        At most so for words, at least so for an image; None where nothing was judged.
        """
        judged = self.decision or self.likeness
        return None if judged is None else judged.certainty

    @property
    def lost_to_rivals(self) -> bool:
        """Whether there is less of a match because the images look more like another kind."""
        return self.decision is not None and self.decision.lost_to_rivals

    def explanation(self) -> str:
        """Say in a sentence why this is, or is not, a match."""
        if self.by_text:
            return f"The words are written in {'' if self.match else 'none of the '}images."
        if self.top_score is None:
            return "The library is empty."
        if self.min_score is not None:
            relation = "reaches" if self.match else "is below"
            return (
                f"The best score, {self.top_score:.3f}, {relation} the cut-off {self.min_score:g}."
            )
        if self.likeness is not None:
            rare = f"{_percent(self.likeness.belonging)} of the library's own images"
            if self.verdict == "none":
                return f"Nothing is like it: only {rare} are as far from all others."
            return f"{rare[0].upper()}{rare[1:]} are as far from all others, or farther."
        if self.decision is None:
            return "A query that only excludes has no verdict; the images are just ranked."
        d = self.decision
        if self.lost_to_rivals:
            return f"The closest images look more like {d.rival or 'something else'}."
        often = f"words score this high {_often(d)} (limit {_percent(d.false_accept)})."
        none = self.verdict == "none"
        return f"Nothing stands out: unrelated {often}" if none else f"Unrelated {often}"

    def how_many(self) -> str:
        """Say in a few words where the hits end: ``about 9 match (5 to 14)``."""
        if self.count is None:
            return "these match"
        about, low, high = self.count.estimate, self.count.low, self.count.high
        exact, unsure = low == about == high, self.verdict == "unsure"
        if exact:
            return f"perhaps {about:,} match" if unsure else f"{about:,} match"
        roughly = "perhaps" if unsure else "about"
        return f"{roughly} {about:,} match ({low:,} to {high:,})"

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight search --json`` prints."""
        judged = self.decision or self.likeness
        return {
            "query": self.query,
            "match": self.match,
            "verdict": self.verdict,
            "answer": ANSWERS[self.verdict],
            "certainty": _rounded(self.certainty),
            "threshold": _rounded(self.threshold),
            "p_value": _rounded(self.decision.p_value) if self.decision else None,
            "false_accept": judged.false_accept if judged else None,
            "belonging": _rounded(self.likeness.belonging) if self.likeness else None,
            "posterior": _rounded(self.decision.posterior) if self.decision else None,
            "rivals": self.lost_to_rivals,
            "rival": self.decision.rival if self.decision else None,
            "min_score": self.min_score,
            "top_score": _rounded(self.top_score),
            "top_z": _rounded(self.top_z),
            "explanation": self.explanation(),
            "model": self.model,
            "count": self.count.to_json() if self.count else None,
            "partial": self.answered < 1,
            "answered": _rounded(self.answered),
            "hits": [
                {
                    "rank": hit.rank,
                    "id": hit.id,
                    "path": hit.path,
                    "score": _rounded(hit.score),
                    "z": _rounded(hit.z),
                    "relevant": hit.relevant,
                    "probability": _rounded(hit.probability),
                    "label": hit.label,
                    "width": hit.width,
                    "height": hit.height,
                    "metadata": hit.metadata,
                    "view": {
                        "kind": hit.view.kind,
                        "box": [round(v, 1) for v in hit.view.box] if hit.view.box else None,
                        "label": hit.view.label,
                    },
                    "line": hit.line,
                    "line_box": [round(v, 1) for v in hit.line_box] if hit.line_box else None,
                }
                for hit in self.hits
            ],
            "notices": self.notices,
            "timings_ms": {key: round(value, 2) for key, value in self.timings_ms.items()},
        }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _often(decision: Decision) -> str:
    """How often unrelated words score this high; a rate above the limit never looks like it."""
    if decision.p_value < 0.001:
        return "less than 0.1 % of the time"
    rate, limit = _percent(decision.p_value), _percent(decision.false_accept)
    above = decision.p_value > decision.false_accept and rate == limit
    return f"{'just over ' if above else ''}{rate} of the time"


def _rounded(value: float | None) -> float | None:
    """As JSON has it, which knows nothing infinite."""
    return None if value is None or not math.isfinite(value) else round(float(value), 5)
