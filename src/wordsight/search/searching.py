"""One search: encode, score, decide, rank."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from wordsight.bank import bank_phrases
from wordsight.errors import QueryError
from wordsight.search.alike import Likeness
from wordsight.search.decision import (
    Relevance,
    decide,
    odds_against_rivals,
    reaching,
    relevance_of,
)
from wordsight.search.query import Encoded, Query, as_query, combines, encode, pictures_of
from wordsight.search.ranking import (
    RankBy,
    Scores,
    by_time,
    hits_of,
    ranked_by,
    top,
    winning_rows,
)
from wordsight.search.result import Hit, Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.library import Store
    from wordsight.models.clip import ClipModel
    from wordsight.nomatch import Decision

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
    asked = _Asked(
        k=k,
        min_score=min_score,
        false_accept=false_accept,
        rank_by=rank_by,
        crops=crops,
        anyway=anyway,
        label=label,
        where=where,
        sort=sort,
        skip=skip,
    )
    parsed = [as_query(query) for query in queries]
    store.check_model(model.name, model.hash)
    return _answer(store, model, parsed, asked) if parsed else []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The options of one :func:`search`, checked."""

    k: int
    min_score: float | None
    false_accept: float
    rank_by: RankBy
    crops: bool
    anyway: bool
    label: str | None
    where: str | None
    sort: Sort
    skip: int
    chosen_by: str | None = field(init=False)
    """``where`` and ``label`` as one filter."""

    def __post_init__(self) -> None:
        from wordsight.library import filters

        if self.k < 1:
            raise QueryError(f"k must be at least 1, not {self.k}.")
        rate, cut = self.false_accept, self.min_score
        if not 0 < rate < 1:
            raise QueryError(f"the false-accept rate must be between 0 and 1, not {rate:g}.")
        if cut is not None and not math.isfinite(cut):
            raise QueryError(f"the cut-off on the score must be a number, not {cut:g}.")
        for order, orders in ((self.rank_by, get_args(RankBy)), (self.sort, get_args(Sort))):
            if order not in orders:
                raise QueryError(f"cannot sort by {order!r}; use one of {', '.join(orders)}.")
        labelled = None if self.label is None else filters.with_label(self.label)
        object.__setattr__(self, "chosen_by", filters.joined(self.where, labelled))


def _answer(
    store: Store, model: ClipModel, queries: Sequence[Query], asked: _Asked
) -> list[Result]:
    import numpy as np

    clock = _Clock()
    store.preload(crops=asked.crops)
    encoded, text_vectors = encode(model, queries)
    clock.lap("encode")
    store.loaded()
    clock.lap("load")
    matrix = np.stack([e.vector for e in encoded])
    if store.is_large:
        # The words of combinations are judged one by one, so what is near to them counts too.
        near = np.concatenate([matrix, text_vectors]) if combines(queries) else matrix
        snapshot = store.around(near, k=asked.k, crops=asked.crops, where=asked.chosen_by)
    else:
        snapshot = store.snapshot()
    scores = Scores.of(snapshot, matrix, asked.crops)
    clock.lap("score")
    chosen = None if asked.chosen_by is None else store.matching(snapshot, asked.chosen_by)
    decisions = decide(store, model, encoded, text_vectors, scores, asked.false_accept, chosen)
    if chosen is not None:
        scores.limit_to(chosen)
        if not chosen.any() and len(snapshot.ids):
            raise QueryError(_none_fits(store, asked))
    clock.lap("decide")
    rankings = [
        _ranking(store, scores, i, query, asked, decision, chosen)
        for i, (query, decision) in enumerate(zip(encoded, decisions, strict=True))
    ]
    results = [
        _result(model, scores, i, query, asked, ranking)
        for i, (query, ranking) in enumerate(zip(encoded, rankings, strict=True))
    ]
    _add_hits(store, scores, encoded, asked, rankings, results)
    clock.lap("hits")
    for result in results:
        result.timings_ms = clock.laps
    return results


def _none_fits(store: Store, asked: _Asked) -> str:
    from wordsight.library import filters

    if asked.where is None and asked.label is not None:
        return filters.unknown_label(asked.label, store.labels().values())
    labelled = f"has the label '{asked.label}'" if asked.label is not None else ""
    fits = f"fits the filter: {filters.in_words(asked.where)}" if asked.where is not None else ""
    both = " and ".join(filter(None, (labelled, fits)))
    return f"no image in the library {both}."


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What one query shows of the N images."""

    match: bool
    decision: Decision | Likeness | None
    shown: NDArray[np.intp]
    """Places of the images [k], best first."""
    places: list[int]
    """Places in the table of the views that won there."""
    relevance: Relevance


def _ranking(
    store: Store,
    scores: Scores,
    i: int,
    query: Encoded,
    asked: _Asked,
    decision: Decision | Likeness | None,
    chosen: NDArray[np.bool_] | None,
) -> _Ranking:
    """That of query ``i``: by a cut-off if one was asked for, else by the decision."""
    import numpy as np

    from wordsight.library import id_to_int

    snapshot, fused, mean, sd = scores.snapshot, scores.images[i], scores.mean, scores.sd
    kind = _rank_by(scores, query, asked)
    value = ranked_by(kind, fused, mean, sd)
    found = len(fused) if chosen is None else int(chosen.sum())
    own = [id_to_int(image) for image in pictures_of(query.query)]
    k = asked.k + len(own)
    if asked.min_score is not None:
        decision = None
        reaches = fused >= asked.min_score
        shown = top(np.where(reaches, value, -np.inf), min(k, int(reaches.sum())))
        match = len(shown) > 0
        if asked.anyway and not match:
            shown = top(fused, min(k, found))
    else:
        shown = top(value, min(k, found))
        match = found > 0 and (decision is None or decision.match)
        unsure = decision is not None and decision.verdict == "unsure"
        if not (match or unsure or asked.anyway):
            shown = shown[:0]
    if own:
        shown = shown[~np.isin(snapshot.ids[shown], own)]
    shown = shown[asked.skip : asked.k]
    prior = scores.unrelated(kind) if query.in_words and len(mean) else None
    rivals = odds_against_rivals(store, scores, i, query)
    relevance = relevance_of(store, snapshot, value, prior, chosen, decision, rivals)
    if asked.min_score is not None:
        relevance = reaching(store, fused, asked.min_score, relevance.probability)
    places = winning_rows(snapshot, shown, scores.views[i], asked.crops)
    return _Ranking(match, decision, shown, places, relevance)


def _rank_by(scores: Scores, query: Encoded, asked: _Asked) -> RankBy:
    """What a query's hits are ordered by; without words there is no background to lift them."""
    if not query.in_words:
        return "score"
    if asked.rank_by == "auto":
        return "lift" if asked.crops and scores.snapshot.has_crops else "score"
    return asked.rank_by


def _result(
    model: ClipModel, scores: Scores, i: int, query: Encoded, asked: _Asked, ranking: _Ranking
) -> Result:
    """A query's result, still without hits and timings."""
    fused, decision = scores.images[i], ranking.decision
    best = float(fused.max()) if len(fused) else None
    threshold = asked.min_score
    if threshold is None and decision and not isinstance(decision, Likeness):
        threshold = decision.single_threshold
    return Result(
        query=str(query.query),
        match=ranking.match,
        threshold=threshold,
        hits=[],
        model=model.name,
        timings_ms={},
        decision=None if isinstance(decision, Likeness) else decision,
        likeness=decision if isinstance(decision, Likeness) else None,
        min_score=asked.min_score,
        top_score=best,
        top_z=float(scores.z[i].max()) if best is not None and query.in_words else None,
        notices=_notices(model, query.query, scores.snapshot.answered, threshold),
        answered=scores.snapshot.answered,
        count=ranking.relevance.count,
        vector=query.vector,
    )


def _add_hits(
    store: Store,
    scores: Scores,
    encoded: Sequence[Encoded],
    asked: _Asked,
    rankings: Sequence[_Ranking],
    results: Sequence[Result],
) -> None:
    """Give each result its hits, by one read of the table for all of them."""
    wanted = sorted({place for ranking in rankings for place in ranking.places})
    rows = dict(zip(wanted, store.rows(wanted, scores.snapshot.version), strict=True))
    for i, (result, ranking) in enumerate(zip(results, rankings, strict=True)):
        shown, relevance = ranking.shown, ranking.relevance
        z = scores.z[i] if encoded[i].in_words else None
        found = [rows[place] for place in ranking.places]
        hits = hits_of(shown, found, scores.images[i], z, first=asked.skip + 1)
        result.hits = [
            replace(hit, relevant=bool(yes), probability=float(p))
            for hit, yes, p in zip(
                hits, relevance.relevant[shown], relevance.probability[shown], strict=True
            )
        ]
        if asked.sort != "score":
            result.hits.sort(key=lambda hit: by_time(hit, newest_first=asked.sort == "-taken"))


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
    order = top(scores, min(k, int(np.isfinite(scores).sum())))
    places = [int(row) for row in snapshot.rows[snapshot.starts[order]]]
    return hits_of(order, store.rows(places, snapshot.version), scores, None)


def _notices(model: ClipModel, query: Query, answered: float, threshold: float | None) -> list[str]:
    notices = []
    if threshold == math.inf:
        least = math.ceil(1000 / (1 + len(bank_phrases()))) / 1000
        notices.append(
            "nothing can match at a false-accept rate this small; the bank of unrelated phrases "
            f"tells rates from {least} up."
        )
    if answered < 1:
        notices.append(
            f"only {answered:.0%} of the library answered; the rest is being started again."
        )
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
