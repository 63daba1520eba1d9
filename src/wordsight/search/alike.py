"""Does a library hold anything like an image? The decision on queries by image.

For words the bank says what unrelated queries get. Nobody has a bank of unrelated images, but a
library has images that belong: each is asked for in turn among the others (leave one out), and what
it gets says what an image gets that is at home here. A query is one more image. The share of the
library's own that get no more than it does is its conformal p-value for belonging (Vovk et al.,
Algorithmic Learning in a Random World, 2005). There is no match where that is at most the stated
rate, so that one in twenty images that belong is refused at 0.05; from 1/e on there is a match, and
between the two the query is "unsure", as it is between the two for words.

An image gets the mean z of its nearest five: cosines are counted in standard deviations of what a
library's image gets from the others, so that hubs near to everything say little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from wordsight.nomatch import Verdict, certainty, zscore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library import Snapshot, Store
    from wordsight.library.index.scoring import Scoring

_NEAREST = 5
_OWN = 256  # of the library's images are asked for: they tell rates from 0.004 on


@dataclass(frozen=True, slots=True)
class Likeness:
    """The answer for an image: does it belong to what the library holds?"""

    belonging: float
    """Share of the library's own images that are no nearer to the others, counting the query."""
    false_accept: float
    """The stated rate: where ``belonging`` is at most this, nothing is like the image."""

    @property
    def certainty(self) -> float:
        """How probable it is at least that the image belongs, at even odds."""
        return 1 - certainty(self.belonging)

    @property
    def verdict(self) -> Verdict:
        """ "match"; "unsure" where the nearest are rather far; "none"."""
        if self.belonging <= self.false_accept:
            return "none"
        return "match" if self.certainty > 0.5 else "unsure"

    @property
    def match(self) -> bool:
        """Whether the library holds something like the image."""
        return self.verdict == "match"


@dataclass(frozen=True, slots=True)
class Own:
    """Some of a library's images as queries, and what they get among the others."""

    vectors: NDArray[np.float32]
    """Of the whole images, [n, D]."""
    ids: NDArray[np.int64]
    nearness: NDArray[np.float32]
    """What each gets, [n]."""
    usual: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """Mean and sd of what an image gets from these, [N]; None: they are of each snapshot's own."""

    def each(
        self,
        snapshot: Snapshot,
        vectors: Sequence[NDArray[np.float32]],
        false_accept: float,
        *,
        crops: bool,
        chosen: NDArray[np.bool_] | None,
    ) -> list[Likeness]:
        """The decisions on images, by their vectors [D].

        Where only images ``chosen`` by a filter [N] count, all and these must fit.
        """
        import numpy as np

        scores, _, _ = snapshot.fused(snapshot.scores(np.stack(vectors)), crops)
        z = zscore(scores, *(self.usual or _usual(_asked(snapshot, self.vectors, self.ids, crops))))
        nearness = _nearness(z)
        if chosen is not None:
            nearness = np.minimum(nearness, _nearness(z[:, chosen]))
        beyond = (self.nearness <= nearness[:, None]).sum(axis=1)
        shares = (1 + beyond) / (1 + len(self.nearness))
        return [Likeness(float(share), false_accept) for share in shares]


_known: WeakKeyDictionary[Scoring, tuple[int, bool, Own]] = WeakKeyDictionary()
"""A store's scoring goes when another library takes its place, with as many versions perhaps."""


def own_images(store: Store, snapshot: Snapshot, *, crops: bool) -> Own:
    """Those of a library; asked once for each version of it.

    ``snapshot`` is one of the library's, with at least one image.
    """
    version, with_crops, own = _known.get(store.scoring, (None, None, None))
    if own is None or (version, with_crops) != (snapshot.version, crops):
        own = _ask(store, snapshot, crops)
        if snapshot.answered == 1:
            _known[store.scoring] = snapshot.version, crops, own
    return own


def _ask(store: Store, snapshot: Snapshot, crops: bool) -> Own:
    import numpy as np

    count = snapshot.sampled or len(snapshot.ids)
    places = np.unique(np.linspace(0, count - 1, _OWN).astype(np.intp))
    vectors = snapshot.vectors_of(snapshot.starts[places])
    ids = snapshot.ids[places]
    if store.is_large:
        snapshot = store.around(vectors, k=_NEAREST + 1, crops=crops)
    scores = _asked(snapshot, vectors, ids, crops)
    mean, sd = _usual(scores)
    nearness = _nearness(zscore(scores, mean, sd))
    return Own(vectors, ids, nearness, None if store.is_large else (mean, sd))


def _asked(
    snapshot: Snapshot, vectors: NDArray[np.float32], ids: NDArray[np.int64], crops: bool
) -> NDArray[np.float32]:
    """Scores [n, N] of a library's images as queries; nan where one meets itself."""
    import numpy as np

    scores, _, _ = snapshot.fused(snapshot.scores(vectors), crops)
    return np.where(snapshot.ids == ids[:, None], np.float32(np.nan), scores)


def _usual(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and sd [N] of scores [n, N]; 0 and 1 for the only image of a library."""
    import numpy as np

    if len(scores) == 1:
        return np.zeros(scores.shape[1], np.float32), np.ones(scores.shape[1], np.float32)
    return np.nanmean(scores, axis=0), np.nanstd(scores, axis=0)


def _nearness(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the best five of each row [Q, N]; -inf for rows of nothing but nan."""
    import numpy as np

    best = -np.sort(-z, axis=1)[:, :_NEAREST]  # nan come last
    found = np.isfinite(best)
    total = np.where(found, best, 0).sum(axis=1)
    count = found.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)
