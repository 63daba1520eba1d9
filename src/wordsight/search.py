"""Queries: text, image, combinations of both; fusion, background normalisation, No match."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from wordsight.errors import QueryError
from wordsight.paths import expanded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.library import Snapshot, Store
    from wordsight.models.clip import ClipModel
    from wordsight.nomatch import Decision, Kinds, Verdict

RankBy = Literal["auto", "score", "lift", "z"]
Sort = Literal["score", "taken", "-taken"]


class SearchOptions(TypedDict, total=False):
    """The options of :func:`search`, for those who pass them on."""

    min_score: float | None
    false_accept: float
    rank_by: RankBy
    crops: bool
    anyway: bool
    label: str | None
    where: str | None
    sort: Sort
    skip: int


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
    keywords, caption (see :class:`wordsight.images.Metadata`).
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


@dataclass(slots=True)
class Result:
    """The answer to one query.

    ``verdict`` is "match", "unsure" or "none"; ``match`` says whether it is the first. ``hits`` is
    empty for "none", unless ``anyway`` was asked for. ``decision`` is what the calibrated decision
    rests on (None where it does not apply: image queries, ``min_score``); ``threshold`` is the z
    at which one image alone makes a match, or ``min_score``. ``top_score`` and ``top_z`` are those
    of the best image whether it matched or not. ``notices`` are for the user to read.
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

    @property
    def verdict(self) -> Verdict:
        """Whether the library holds what was asked for, as far as can be told."""
        if self.match or self.min_score is not None or self.decision is None:
            return "match" if self.match else "none"
        return self.decision.verdict

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
        if self.decision is None:
            return "Only words are judged; images and excluded words are just ranked."
        d = self.decision
        if self.lost_to_rivals:
            return f"The closest images look more like {d.rival or 'something else'}."
        often = f"words score this high {_often(d)} (limit {_percent(d.false_accept)})."
        none = self.verdict == "none"
        return f"Nothing stands out: unrelated {often}" if none else f"Unrelated {often}"

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight search --json`` prints."""
        return {
            "query": self.query,
            "match": self.match,
            "verdict": self.verdict,
            "certainty": _rounded(self.decision.certainty) if self.decision else None,
            "threshold": _rounded(self.threshold),
            "p_value": _rounded(self.decision.p_value) if self.decision else None,
            "false_accept": self.decision.false_accept if self.decision else None,
            "posterior": _rounded(self.decision.posterior) if self.decision else None,
            "rivals": self.lost_to_rivals,
            "rival": self.decision.rival if self.decision else None,
            "min_score": self.min_score,
            "top_score": _rounded(self.top_score),
            "top_z": _rounded(self.top_z),
            "explanation": self.explanation(),
            "model": self.model,
            "hits": [
                {
                    "rank": hit.rank,
                    "id": hit.id,
                    "path": hit.path,
                    "score": _rounded(hit.score),
                    "z": _rounded(hit.z),
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
    return None if value is None else round(float(value), 5)


# -- queries ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a query: words or an image, with a weight (negative: "not like this")."""

    weight: float
    text: str | None = None
    image: Any = None  # a PIL image, an array, or a path

    def __str__(self) -> str:
        name = f'"{self.text}"' if self.text is not None else f'@"{_image_name(self.image)}"'
        return name if self.weight == 1 else f"{self.weight:g}*{name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A weighted combination of words and images."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        if len(self.terms) == 1 and self.terms[0].weight == 1 and self.terms[0].text is not None:
            return self.terms[0].text
        text = " + ".join(str(term) for term in self.terms)
        return text.replace("+ -1*", "- ").replace("+ -", "- ")


# Phones and word processors type curly quotes and U+2212 (minus). Words may hold the other kind.
_QUOTES, _SIGNS = "\u201c\u201d\u201e\u201f", "+\\-\u2212"
_TERM = re.compile(
    rf"""\s*(?P<sign>[{_SIGNS}])?\s*(?:(?P<weight>\d+(?:\.\d+)?|\.\d+)\s*\*\s*)?(?P<at>@)?"""
    rf"""(?:"(?P<straight>[^"]*)"|[{_QUOTES}](?P<curly>[^{_QUOTES}]*)[{_QUOTES}])\s*"""
)
_TERMS = re.compile(rf'[{_SIGNS}]?\s*(?:[\d.]+\s*\*\s*)?@?["{_QUOTES}]')


def parse_query(text: str) -> Query:
    """Read a query as typed: words, or terms in double quotes joined by + and -.

    ``a dog`` is plain text. ``"beach" + "sunset" - 0.5*"people"`` weighs terms; ``@"photo.jpg"``
    is an image. Curly quotes and the minus sign U+2212 count as straight ones. Raises QueryError
    when it is empty or the terms cannot be read.
    """
    stripped = text.strip()
    if not stripped:
        raise QueryError('the query is empty; type what to look for, for example: "a dog".')
    if not _TERMS.match(stripped):
        return Query((Term(1.0, text=stripped),))
    terms: list[Term] = []
    position = 0
    while position < len(stripped):
        found = _TERM.match(stripped, position)
        if not found or (terms and not found["sign"]):
            raise QueryError(
                f"cannot read the query at: {stripped[position:].strip()[:40]}  "
                '(write terms like this: "beach" + "sunset" - 0.5*"people")'
            )
        value = found["straight"] if found["curly"] is None else found["curly"]
        if not value.strip():
            raise QueryError('a term of the query is empty; write for example "beach" + "sunset".')
        weight = float(found["weight"] or 1) * (1 if found["sign"] in (None, "+") else -1)
        # Names of files keep their spaces.
        term = Term(weight, image=value) if found["at"] else Term(weight, text=value.strip())
        terms.append(term)
        position = found.end()
    return Query(tuple(terms))


def as_query(query: str | Path | Query | Image | NDArray[Any]) -> Query:
    """Any accepted form of a query: text (see :func:`parse_query`), a path, an image, a Query."""
    if isinstance(query, Query):
        return query
    if isinstance(query, str):
        return parse_query(query)
    return Query((Term(1.0, image=query),))


def _image_name(image: Any) -> str:
    return str(image) if isinstance(image, (str, Path)) else "image"


_LARGEST_WEIGHT = 1000.0


@dataclass(slots=True)
class _Encoded:
    query: Query
    vector: NDArray[np.float32]  # [D], unit length
    texts: list[int]  # rows of the positive words among the encoded texts


def _encode(
    model: ClipModel, queries: Sequence[Query]
) -> tuple[list[_Encoded], NDArray[np.float32]]:
    """Vectors of the queries, and the text vectors [T, D] that their decisions rest on."""
    import numpy as np

    from wordsight.images import open_image

    texts = list(dict.fromkeys(t.text for q in queries for t in q.terms if t.text is not None))
    text_vectors = model.encode_texts(texts) if texts else np.zeros((0, model.dim), np.float32)
    row = {text: i for i, text in enumerate(texts)}
    encoded = []
    for query in queries:
        total = np.zeros(model.dim, np.float32)
        for term in query.terms:
            if not abs(term.weight) <= _LARGEST_WEIGHT:  # nan too
                raise QueryError(
                    f"the weight {term.weight:g} in the query must be a number up to "
                    f"{_LARGEST_WEIGHT:g} (0 to 1 is usual)."
                )
            if term.text is not None:
                total += term.weight * text_vectors[row[term.text]]
            else:
                is_file = isinstance(term.image, (str, Path))
                image = open_image(expanded(term.image)) if is_file else term.image
                total += term.weight * model.encode_images([image])[0]
        length = float(np.linalg.norm(total))
        if length < 1e-6:
            raise QueryError(f"the terms of the query cancel out: {query}")
        positive = [row[t.text] for t in query.terms if t.text is not None and t.weight > 0]
        if any(t.image is not None and t.weight > 0 for t in query.terms):
            positive = []  # image to image: its scores are not those of words
        encoded.append(_Encoded(query, (total / length).astype(np.float32), positive))
    return encoded, text_vectors


# -- search -------------------------------------------------------------------------------------


def search(
    store: Store,
    model: ClipModel,
    queries: Sequence[str | Path | Query | Image | NDArray[Any]],
    *,
    k: int = 10,
    min_score: float | None = None,
    false_accept: float = 0.05,
    rank_by: RankBy = "auto",
    crops: bool = True,
    anyway: bool = False,
    label: str | None = None,
    where: str | None = None,
    sort: Sort = "score",
    skip: int = 0,
) -> list[Result]:
    """Rank the images of a library for each query.

    An image's score is the highest cosine of its views (of the whole image alone without
    ``crops``). ``rank_by`` orders the hits of words by that cosine ("score"), by its lift above
    the image's background ("lift", see :func:`wordsight.nomatch.lift`) or in deviations of it
    ("z"); "auto" takes the lift where crops count, so that many crops are no head start, and the
    cosine elsewhere. Hits of images are ordered by cosine. ``min_score`` replaces the calibrated
    decision by a fixed cut-off on the cosine.
    With a ``label``, or a filter in ``where`` (an expression in Lance's SQL over the columns of the
    table: "taken >= '2023-07' and camera like 'Pixel%'"), only these images are ranked, and a match
    needs both the library and these images to fit, so that the stated rate still holds.
    ``sort`` puts the ``k`` hits in the order of their capture times, "-taken" the newest first;
    those without one come last, and ranks stay those of the ranking. ``skip`` leaves out so many of
    these hits, the best, for whoever has them already.
    Raises QueryError for empty queries and options that make no sense, and where a filter cannot
    be read or lets no image pass; ModelMismatchError for another model.
    """
    import numpy as np

    from wordsight.library import filters

    if k < 1:
        raise QueryError(f"k must be at least 1, not {k}.")
    if not 0 < false_accept < 1:
        raise QueryError(f"the false-accept rate must be between 0 and 1, not {false_accept:g}.")
    if min_score is not None and not math.isfinite(min_score):
        raise QueryError(f"the cut-off on the score must be a number, not {min_score:g}.")
    if rank_by not in get_args(RankBy):
        raise QueryError(f"cannot sort by {rank_by!r}; use one of {', '.join(get_args(RankBy))}.")
    if sort not in get_args(Sort):
        raise QueryError(f"cannot sort by {sort!r}; use one of {', '.join(get_args(Sort))}.")
    chosen_by = filters.joined(where, None if label is None else filters.with_label(label))
    parsed = [as_query(query) for query in queries]
    store.check_model(model.name, model.hash)
    if not parsed:
        return []
    clock = _Clock()
    store.preload(crops=crops)
    encoded, text_vectors = _encode(model, parsed)
    clock.lap("encode")
    store.loaded()
    clock.lap("load")
    matrix = np.stack([e.vector for e in encoded])
    if store.is_large:
        # The words of combinations are judged one by one, so what is near to them counts too.
        near = np.concatenate([matrix, text_vectors]) if _combines(parsed) else matrix
        snapshot = store.around(near, k=k, crops=crops, where=chosen_by)
    else:
        snapshot = store.snapshot()
    if rank_by == "auto":
        rank_by = "lift" if crops and snapshot.has_crops else "score"
    # [Q, V]: one matrix product for all queries
    view_scores = snapshot.scores(matrix)
    fused, mean, sd = _fused(snapshot, view_scores, crops)
    z = fused - mean
    z /= sd
    clock.lap("score")
    chosen = None if chosen_by is None else store.matching(snapshot, chosen_by)
    decisions = _decide(
        store, model, snapshot, encoded, text_vectors, view_scores, z, false_accept, crops, chosen
    )
    if chosen is not None:
        fused, z = np.where(chosen, fused, -np.inf), np.where(chosen, z, -np.inf)
    found = len(snapshot.ids) if chosen is None else int(chosen.sum())
    if not found and len(snapshot.ids):
        labelled = f"has the label '{label}'" if label is not None else ""
        fits = f"fits the filter: {where}" if where is not None else ""
        both = " and ".join(filter(None, (labelled, fits)))
        raise QueryError(f"no image in the library {both}.")
    clock.lap("decide")
    results = []
    ranked = []
    for i, query in enumerate(encoded):
        decision = decisions[i]
        calibrated = bool(query.texts)
        value = _ranked_by(rank_by if calibrated else "score", fused[i], mean, sd)
        best = int(np.argmax(fused[i])) if found else None
        threshold: float | None
        if min_score is not None:
            reaches = fused[i] >= min_score
            order = _top(np.where(reaches, value, -np.inf), min(k, int(reaches.sum())))
            decision, threshold, match = None, min_score, len(order) > 0
        else:
            order = _top(value, min(k, found))
            threshold = decision.single_threshold if decision else None
            match = best is not None and (decision is None or decision.match)
        unsure = decision is not None and decision.verdict == "unsure"
        shown = order if match or unsure or anyway else order[:0]
        if min_score is not None and anyway and not match:
            shown = _top(fused[i], min(k, found))
        shown = shown[skip:]
        ranked.append((shown, _winners(snapshot, shown, view_scores[i], crops)))
        results.append(
            Result(
                query=str(query.query),
                match=match,
                threshold=threshold,
                hits=[],
                model=model.name,
                timings_ms={},
                decision=decision,
                min_score=min_score,
                top_score=None if best is None else float(fused[i][best]),
                top_z=float(np.max(z[i])) if best is not None and calibrated else None,
                notices=_notices(model, query.query),
            )
        )
    # One read of the table for all queries.
    wanted = sorted({place for _, places in ranked for place in places})
    rows = dict(zip(wanted, store.rows(wanted, snapshot.version), strict=True))
    for i, (result, (shown, places)) in enumerate(zip(results, ranked, strict=True)):
        calibrated_z = z[i] if encoded[i].texts else None
        result.hits = _hits(
            shown, [rows[place] for place in places], fused[i], calibrated_z, first=skip + 1
        )
        if sort != "score":
            result.hits.sort(key=lambda hit: _by_time(hit, newest_first=sort == "-taken"))
    clock.lap("hits")
    for result in results:
        result.timings_ms = clock.laps
    return results


def nearest(
    store: Store,
    vector: NDArray[np.float32],
    k: int = 10,
    *,
    without: Sequence[int] | NDArray[np.int64] = (),
) -> list[Hit]:
    """The ``k`` images that are as a whole nearest to a vector [D] of unit length.

    ``without`` are places of images in the store's snapshot that do not count.
    """
    import numpy as np

    snapshot = store.snapshot()
    scores = snapshot.scores(vector)[snapshot.starts]
    scores[np.asarray(without, np.int64)] = -np.inf
    order = _top(scores, min(k, int(np.isfinite(scores).sum())))
    places = [int(row) for row in snapshot.rows[snapshot.starts[order]]]
    return _hits(order, store.rows(places, snapshot.version), scores, None)


def _combines(queries: Sequence[Query]) -> bool:
    return any(len(query.terms) > 1 for query in queries)


def _fused(
    snapshot: Snapshot, view_scores: NDArray[np.float32], crops: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Scores of the images [..., N] and the background mean and sd [N] that belong to them."""
    import numpy as np

    floor = np.float32(1e-6)
    if crops:
        return snapshot.fuse(view_scores), snapshot.mean, np.maximum(snapshot.sd, floor)
    whole = view_scores[..., snapshot.starts] if snapshot.has_crops else view_scores
    return whole, snapshot.image_mean, np.maximum(snapshot.image_sd, floor)


def _ranked_by(
    rank_by: RankBy,
    fused: NDArray[np.float32],
    mean: NDArray[np.float32],
    sd: NDArray[np.float32],
) -> NDArray[Any]:
    """What images are ordered by, [N]."""
    from wordsight.nomatch import lift, zscore

    if rank_by == "score":
        return fused
    return lift(fused, mean) if rank_by == "lift" else zscore(fused, mean, sd)


_CLOSEST = 5
"""So many of the best images tell which rival they look like."""


def _decide(
    store: Store,
    model: ClipModel,
    snapshot: Snapshot,
    encoded: Sequence[_Encoded],
    text_vectors: NDArray[np.float32],
    view_scores: NDArray[np.float32],
    z: NDArray[np.float32],
    false_accept: float,
    crops: bool,
    chosen: NDArray[np.bool_] | None,
) -> list[Decision | None]:
    """The calibrated decision on each query; None where no calibration applies.

    The calibration is one of single phrases, so a combination is judged by the best of its
    positive words, each on its own.
    """
    import numpy as np

    from wordsight.bank import kind_texts
    from wordsight.library.large import FAIR
    from wordsight.nomatch import posterior

    if not len(snapshot.ids) or not any(e.texts for e in encoded):
        return [None] * len(encoded)
    null = store.null(crops=crops)
    kinds = _kinds(store, model)
    # Of a large library, as the store gave them: all that were chosen, or a part drawn at random.
    drawn = 0 if chosen is None else int(chosen[: snapshot.sampled or 0].sum())

    def judge(
        row: NDArray[np.float32], vector: NDArray[np.float32], views: NDArray[np.float32]
    ) -> Decision:
        names = kinds.rivals(vector)
        rivals = kinds.vectors[names]

        def posteriors(images: NDArray[np.intp]) -> NDArray[np.floating[Any]]:
            won = _winning_views(snapshot, images, views, crops)
            return posterior(views[won], snapshot.vectors_of(won) @ rivals.T, model.logit_scale)

        def named(decision: Decision, places: NDArray[np.intp]) -> Decision:
            if not decision.lost_to_rivals:
                return decision
            closest = places[np.argsort(-row[places])[:_CLOSEST]]
            won = snapshot.vectors_of(_winning_views(snapshot, closest, views, crops))
            rival = names[int((won @ rivals.T).mean(axis=0).argmax())]
            return replace(decision, rival=kind_texts()[rival])

        decision = null.decide(
            row, false_accept, posteriors if len(rivals) else None, snapshot.sampled
        )
        if chosen is None:
            return named(decision, np.arange(len(row)))
        places = np.flatnonzero(chosen)
        among = null.decide(
            row[places],
            false_accept,
            (lambda some: posteriors(places[some])) if len(rivals) else None,
            drawn if drawn >= FAIR else None,
        )
        if among.p_against_rivals > decision.p_against_rivals:
            return named(among, places)
        return named(decision, np.arange(len(row)))

    decisions: list[Decision | None] = []
    for i, query in enumerate(encoded):
        if not query.texts:
            decisions.append(None)
        elif len(query.query.terms) == 1:
            decisions.append(judge(z[i], query.vector, view_scores[i]))
        else:
            vectors = text_vectors[query.texts]
            alone = snapshot.scores(vectors)
            fused, mean, sd = _fused(snapshot, alone, crops)
            each = [judge(*one) for one in zip((fused - mean) / sd, vectors, alone, strict=True)]
            decisions.append(min(each, key=lambda decision: decision.p_against_rivals))
    return decisions


def _kinds(store: Store, model: ClipModel) -> Kinds:
    """The kinds that queries are held against; made with the model once, kept with the library."""
    import numpy as np

    from wordsight.bank import everyday_things, kind_groups, kind_texts
    from wordsight.models.texts import encode_texts_cached
    from wordsight.nomatch import Kinds

    if store.kinds is None:
        groups = kind_groups()
        phrases, bank = store.bank()
        store.kinds = Kinds(
            encode_texts_cached(model, kind_texts()),
            np.repeat(np.arange(len(groups)), [len(group) for group in groups]),
            np.array([word == group[0] for group in groups for word in group]),
            bank[~np.isin(phrases, everyday_things())],
        )
    return store.kinds


def _winning_views(
    snapshot: Snapshot,
    images: NDArray[np.intp],
    view_scores: NDArray[np.float32],
    crops: bool,
) -> list[int]:
    """For each of these images the view that won, by its place in the snapshot."""
    import numpy as np

    if not crops or not snapshot.has_crops:
        return [int(snapshot.starts[n]) for n in images]
    ends = np.append(snapshot.starts[1:], len(snapshot.rows))
    return [
        int(snapshot.starts[n] + np.argmax(view_scores[snapshot.starts[n] : ends[n]]))
        for n in images
    ]


def _winners(
    snapshot: Snapshot, order: NDArray[np.intp], view_scores: NDArray[np.float32], crops: bool
) -> list[int]:
    """For each image the place in the table of the view that won."""
    views = _winning_views(snapshot, order, view_scores, crops)
    return [int(snapshot.rows[view]) for view in views]


def _hits(
    order: NDArray[np.intp],
    rows: Sequence[dict[str, Any]],
    fused: NDArray[np.float32],
    z: NDArray[np.float32] | None,
    first: int = 1,
) -> list[Hit]:
    return [
        Hit(
            rank=rank,
            id=row["id"],
            path=row["path"],
            score=float(fused[n]),
            z=None if z is None else float(z[n]),
            label=row["label"],
            view=View(row["kind"], row["box"], row["region_label"]),
            width=row["width"],
            height=row["height"],
            metadata=row["metadata"],
        )
        for rank, (n, row) in enumerate(zip(order, rows, strict=True), start=first)
    ]


def _by_time(hit: Hit, *, newest_first: bool) -> float:
    """Places hits in time; a time without its zone counts as one of this machine's zone."""
    try:
        time = datetime.fromisoformat(hit.metadata["taken"]).timestamp()
    except (KeyError, ValueError, OverflowError, OSError):
        return math.inf
    return -time if newest_first else time


_TOP_BLOCK = 128


def _top(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Places of the k highest values, best first; ties in the order of the library."""
    import numpy as np

    k = min(k, len(values))
    if k == 0:
        return np.zeros(0, np.intp)
    # k blocks have a maximum of at least this, so the k-th highest value is no less. It leaves few,
    # and costs a quarter of a partition of all values.
    blocks = len(values) // _TOP_BLOCK
    some = values[: blocks * _TOP_BLOCK].reshape(blocks, -1).max(axis=1) if blocks > k else values
    least = np.partition(some, len(some) - k)[len(some) - k]
    kept = np.flatnonzero(values >= least)
    return kept[np.argsort(-values[kept], kind="stable")][:k]


def _notices(model: ClipModel, query: Query) -> list[str]:
    notices = []
    for text in [term.text for term in query.terms if term.text is not None]:
        if model.truncated(text):
            notices.append(
                f"the prompt is too long for the model; only its beginning counts: {text[:60]}..."
            )
        if model.unreadable(text):
            notices.append(
                f"the model {model.name} cannot read any of this prompt, so the results mean "
                f"nothing; write it in a language that the model knows: {text[:60]}"
            )
        elif unread := model.unread(text):
            notices.append(
                f"the model {model.name} cannot read {', '.join(unread)[:60]!r} and ignores it."
            )
    return notices


class _Clock:
    """Milliseconds of named steps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.start = self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = (now - self.last) * 1000
        self.laps["total"] = (now - self.start) * 1000
        self.last = now
