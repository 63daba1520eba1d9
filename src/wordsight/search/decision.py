"""Match, unsure or no match, against rivals; and which hits are relevant."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wordsight.search.alike import Likeness, own_images
from wordsight.search.query import Encoded
from wordsight.search.ranking import Scores, top

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library import Snapshot, Store
    from wordsight.models.clip import ClipModel
    from wordsight.nomatch import Decision, Null
    from wordsight.nomatch.rivals import Kinds
    from wordsight.search.relevance import Count, Groups

    Odds = Callable[[NDArray[np.intp]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which of the N images count as showing what was asked for."""

    relevant: NDArray[np.bool_]
    probability: NDArray[np.float64]
    count: Count | None


_JUDGED = 256  # images at least
_OF_DOUBLING = 64


def relevance_of(
    store: Store,
    snapshot: Snapshot,
    value: NDArray[np.float32],
    prior: tuple[float, float] | None,
    chosen: NDArray[np.bool_] | None,
    decision: Decision | Likeness | None,
    rivals: Odds | None,
) -> Relevance:
    """Where the hits of a query end that ranks the images by ``value`` [N]."""
    import numpy as np

    from wordsight.search.relevance import Groups, count

    among = slice(None) if chosen is None else chosen
    found = len(value[among])
    relevant, probability = np.zeros(len(value), bool), np.zeros(len(value))
    if not found:
        return Relevance(relevant, probability, None)
    weights = None
    if snapshot.sampled:  # those of the random part stand for all that are not near
        others = len(store) - (len(value) - snapshot.sampled)
        each = max(1.0, others / snapshot.sampled)
        weights = np.where(np.arange(len(value)) < snapshot.sampled, each, 1.0)
    groups = Groups.fit(value[among], prior, None if weights is None else weights[among])
    # Where nothing matches nothing is counted, and the first hits tell how probable they are.
    none = decision is not None and decision.verdict == "none"
    ranked, probable = _judged(groups, value, min(found, _JUDGED) if none else found, rivals)
    probability[ranked] = probable
    cut, counted = count(probable, None if weights is None else weights[ranked])
    relevant[ranked[:cut]] = True
    if none:
        relevant[:] = False
        counted = replace(counted, estimate=0, low=0)
    if decision is not None and not isinstance(decision, Likeness):
        probability *= decision.certainty
    return Relevance(relevant, probability, counted if weights is None or chosen is None else None)


def _judged(
    groups: Groups, value: NDArray[np.float32], found: int, rivals: Odds | None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The first images of a ranking by ``value`` [N], as far down as any are likely to be relevant.

    Of the ``found`` images that count, their places [n] and how probable they are [n]. The ranking
    is followed until its second half adds less than a twentieth. From rank 256 on, 64 images of a
    doubling are judged; what is probable of those between lies between.
    """
    import numpy as np

    n, ranks, odds = 0, np.zeros(0, np.intp), np.zeros(0)
    while True:
        n, before = min(max(8 * n, _JUDGED), found), n
        places = top(value, n)
        further = _some(before, n)
        ranks = np.concatenate([ranks, further])
        if rivals is not None:
            odds = np.concatenate([odds, rivals(places[further])])
        of_ranks = groups.probability(value[places[ranks]], None if rivals is None else odds)
        probable = np.interp(np.arange(n), ranks, of_ranks)
        if n == found or probable[n // 2 :].sum() < 0.05 * probable.sum():
            return places, probable


def _some(begin: int, end: int) -> NDArray[np.intp]:
    """Ranks from ``begin`` to ``end``: all of the first 256, and 64 of each doubling after."""
    import numpy as np

    if begin < _JUDGED:
        return np.arange(begin, end)
    some = math.ceil(math.log2(end / begin) * _OF_DOUBLING)
    return np.unique(np.geomspace(begin, end - 1, some).astype(np.intp))


def odds_against_rivals(store: Store, scores: Scores, i: int, query: Encoded) -> Odds | None:
    """What gives images, by their places [n], query ``i``'s log odds against its rivals [n].

    None for queries that are not one phrase.
    """
    kinds = store.kinds
    if kinds is None or len(query.query.terms) != 1 or not query.texts:
        return None

    against, snapshot = kinds.against_rivals(query.vector), scores.snapshot

    def odds(places: NDArray[np.intp]) -> NDArray[np.float64]:
        views = snapshot.winners(places, scores.views[i], scores.crops)
        return against(snapshot.vectors_of(views))

    return odds


def reaching(
    store: Store,
    fused: NDArray[np.float32],
    min_score: float,
    probability: NDArray[np.float64],
) -> Relevance:
    """The same where a fixed cut-off says it."""
    from wordsight.search.relevance import Count

    reaches = fused >= min_score
    found = int(reaches.sum())
    count = None if store.is_large else Count(found, found, found)
    return Relevance(reaches, probability, count)


def decide(
    store: Store,
    model: ClipModel,
    encoded: Sequence[Encoded],
    text_vectors: NDArray[np.float32],
    scores: Scores,
    false_accept: float,
    chosen: NDArray[np.bool_] | None,
) -> list[Decision | Likeness | None]:
    """The calibrated decision on each query; None for one that only says what is not wanted.

    What is known is what single phrases and images get, so a combination is judged by the best of
    its positive terms, each on its own.
    """
    snapshot, crops = scores.snapshot, scores.crops
    if not len(snapshot.ids):
        return [None] * len(encoded)
    judge = own = None
    if any(query.texts for query in encoded):
        kinds, null = kinds_of(store, model), null_of(store, model, crops=crops)
        judge = _Judge(snapshot, crops, null, kinds, false_accept, chosen)
    if any(query.images for query in encoded):
        own = own_images(store, snapshot, crops=crops)
    decisions: list[Decision | Likeness | None] = []
    for i, query in enumerate(encoded):
        each: list[Decision | Likeness] = []
        if judge and query.texts and len(query.query.terms) == 1:
            each.append(judge(scores.z[i], query.vector, scores.views[i]))
        elif judge and query.texts:
            each += judge.each(text_vectors[query.texts])
        if own and query.images:
            each += own.each(snapshot, query.images, false_accept, crops=crops, chosen=chosen)
        decisions.append(max(each, key=_strength, default=None))
    return decisions


def _strength(decision: Decision | Likeness) -> tuple[int, float]:
    return ("none", "unsure", "match").index(decision.verdict), decision.certainty


@dataclass(frozen=True, slots=True)
class _Judge:
    """Decides on one phrase at a time."""

    snapshot: Snapshot
    crops: bool
    null: Null
    kinds: Kinds
    false_accept: float
    chosen: NDArray[np.bool_] | None

    def __call__(
        self, z: NDArray[np.float32], vector: NDArray[np.float32], views: NDArray[np.float32]
    ) -> Decision:
        """The decision on a phrase, from its z [N], its vector [D] and its cosines [V].

        Where only some images count, all and these must match, so that the stated rate holds.
        """
        import numpy as np

        decision = self._among(np.arange(len(z)), z, vector, views)
        if self.chosen is None or not self.chosen.any():
            return decision
        among = self._among(np.flatnonzero(self.chosen), z, vector, views)
        return among if among.p_value > decision.p_value else decision

    def each(self, vectors: NDArray[np.float32]) -> list[Decision]:
        """The decisions on several phrases, by their vectors [Q, D]."""
        from wordsight.nomatch import zscore

        views = self.snapshot.scores(vectors)
        z = zscore(*self.snapshot.fused(views, self.crops))
        return [self(*one) for one in zip(z, vectors, views, strict=True)]

    def _among(
        self,
        places: NDArray[np.intp],
        z: NDArray[np.float32],
        vector: NDArray[np.float32],
        views: NDArray[np.float32],
    ) -> Decision:
        """The decision by the images at these places alone."""
        from wordsight.bank import kind_texts
        from wordsight.nomatch import closest

        some = places[closest(z[places])]
        found = self.snapshot.vectors_of(self.snapshot.winners(some, views, self.crops))
        odds = self.kinds.log_odds(vector[None], found[None])[0]
        decision = self.null.decide(z[some], odds, self.false_accept)
        if not decision.lost_to_rivals:
            return decision
        return replace(decision, rival=kind_texts()[self.kinds.most_like(vector, found)])


def null_of(store: Store, model: ClipModel, *, crops: bool = True) -> Null:
    """What unrelated queries get in a library."""
    return store.null(kinds_of(store, model), crops=crops)


def kinds_of(store: Store, model: ClipModel) -> Kinds:
    """The kinds that queries are held against; made with the model once, kept with the library."""
    if store.kinds is None:
        store.kinds = make_kinds(model)
    return store.kinds


def make_kinds(model: ClipModel) -> Kinds:
    """The everyday kinds as a model sees them."""
    import numpy as np

    from wordsight.bank import kind_groups, kind_texts
    from wordsight.models.texts import encode_texts_cached
    from wordsight.nomatch.rivals import Kinds

    groups = kind_groups()
    return Kinds(
        encode_texts_cached(model, kind_texts()),
        np.repeat(np.arange(len(groups)), [len(group) for group in groups]),
        np.array([word == group[0] for group in groups for word in group]),
        model.logit_scale,
    )
