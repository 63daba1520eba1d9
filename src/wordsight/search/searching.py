"""One search: encode, score, decide, rank."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from wordsight.errors import QueryError
from wordsight.search.decision import Relevance, decide, reaching, relevance_of, unrelated
from wordsight.search.query import Query, as_query, combines, encode
from wordsight.search.ranking import (
    RankBy,
    by_time,
    fused_scores,
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
    encoded, text_vectors = encode(model, parsed)
    clock.lap("encode")
    store.loaded()
    clock.lap("load")
    matrix = np.stack([e.vector for e in encoded])
    if store.is_large:
        # The words of combinations are judged one by one, so what is near to them counts too.
        near = np.concatenate([matrix, text_vectors]) if combines(parsed) else matrix
        snapshot = store.around(near, k=k, crops=crops, where=chosen_by)
    else:
        snapshot = store.snapshot()
    if rank_by == "auto":
        rank_by = "lift" if crops and snapshot.has_crops else "score"
    # [Q, V]: one matrix product for all queries
    view_scores = snapshot.scores(matrix)
    fused, mean, sd = fused_scores(snapshot, view_scores, crops)
    z = fused - mean
    z /= sd
    clock.lap("score")
    chosen = None if chosen_by is None else store.matching(snapshot, chosen_by)
    decisions = decide(
        store, model, snapshot, encoded, text_vectors, view_scores, z, false_accept, crops, chosen
    )
    if chosen is not None:
        fused, z = np.where(chosen, fused, -np.inf), np.where(chosen, z, -np.inf)
    found = len(snapshot.ids) if chosen is None else int(chosen.sum())
    if not found and len(snapshot.ids):
        labelled = f"has the label '{label}'" if label is not None else ""
        fits = f"fits the filter: {filters.in_words(where)}" if where is not None else ""
        both = " and ".join(filter(None, (labelled, fits)))
        raise QueryError(f"no image in the library {both}.")
    clock.lap("decide")
    results = []
    ranked = []
    relevance: list[Relevance] = []
    for i, query in enumerate(encoded):
        decision = decisions[i]
        calibrated = bool(query.texts)
        kind: RankBy = rank_by if calibrated else "score"
        value = ranked_by(kind, fused[i], mean, sd)
        best = int(np.argmax(fused[i])) if found else None
        threshold: float | None
        if min_score is not None:
            reaches = fused[i] >= min_score
            order = top(np.where(reaches, value, -np.inf), min(k, int(reaches.sum())))
            decision, threshold, match = None, min_score, len(order) > 0
        else:
            order = top(value, min(k, found))
            threshold = decision.single_threshold if decision else None
            match = best is not None and (decision is None or decision.match)
        unsure = decision is not None and decision.verdict == "unsure"
        shown = order if match or unsure or anyway else order[:0]
        if min_score is not None and anyway and not match:
            shown = top(fused[i], min(k, found))
        shown = shown[skip:]
        ranked.append((shown, winning_rows(snapshot, shown, view_scores[i], crops)))
        prior = unrelated(kind, mean, sd) if calibrated and len(mean) else None
        relevance.append(relevance_of(store, snapshot, value, prior, chosen, decision))
        if min_score is not None:
            relevance[-1] = reaching(store, fused[i], min_score, relevance[-1].probability)
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
                count=relevance[-1].count,
            )
        )
    # One read of the table for all queries.
    wanted = sorted({place for _, places in ranked for place in places})
    rows = dict(zip(wanted, store.rows(wanted, snapshot.version), strict=True))
    for i, (result, (shown, places)) in enumerate(zip(results, ranked, strict=True)):
        calibrated_z = z[i] if encoded[i].texts else None
        found_rows = [rows[place] for place in places]
        hits = hits_of(shown, found_rows, fused[i], calibrated_z, first=skip + 1)
        result.hits = [
            replace(hit, relevant=bool(yes), probability=float(p))
            for hit, yes, p in zip(
                hits, relevance[i].relevant[shown], relevance[i].probability[shown], strict=True
            )
        ]
        if sort != "score":
            result.hits.sort(key=lambda hit: by_time(hit, newest_first=sort == "-taken"))
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
    order = top(scores, min(k, int(np.isfinite(scores).sum())))
    places = [int(row) for row in snapshot.rows[snapshot.starts[order]]]
    return hits_of(order, store.rows(places, snapshot.version), scores, None)


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
