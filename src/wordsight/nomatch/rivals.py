"""Which everyday kinds a query is held against, and how much of an image is the query's.

Where there are dogs and no cats, "a cat" finds dogs, far above anything unrelated. So a query has
rivals: the kinds nearest to it beside its own. They are few and near because a picture may show
many things: "a traffic light" must not lose to the bus behind it. See :mod:`wordsight.nomatch` for
what they do to the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RIVALS = 20
CHANCE = 1 / (1 + RIVALS)
"""The share of an image that a query has where nothing speaks for it or for a rival."""
OWN = 0.65
"""From this share on an image is the query's."""


@dataclass(frozen=True)
class Kinds:
    """Everyday kinds of things as text vectors: who the rivals of a query are.

    ``vectors`` is float32 [W, D] of unit length, ``group`` int [W] the group of each word,
    ``above`` bool [W] marks the words that stand above a whole group; ``scale`` is the model's
    logit scale.
    """

    vectors: npt.NDArray[np.float32] = field(repr=False)
    group: npt.NDArray[np.intp] = field(repr=False)
    above: npt.NDArray[np.bool_] = field(repr=False)
    scale: float

    def rivals(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which kinds are rivals of queries, [Q, D] -> [Q, W]: the twenty nearest.

        The query's own kind is the nearest word; if that stands above a group, the whole group is.
        """
        cosines = queries @ self.vectors.T
        return self._nearest(cosines, self._barred(cosines))

    def rivals_of(self, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The vectors of the rivals of one query, [D] -> [R, D]."""
        return np.asarray(self.vectors[self.rivals(query[None])[0]])

    def _barred(self, cosines: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which kinds cannot be rivals of queries with these cosines to all [Q, W]."""
        own = cosines.argmax(axis=1)[:, None]
        akin = (self.group == self.group[own]) & self.above[own]
        return np.asarray(self.above | akin | (np.arange(len(self.vectors)) == own))

    def _nearest(
        self, cosines: npt.NDArray[np.float32], barred: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """The twenty kinds with the highest cosines [..., W] that are not barred [..., W]."""
        allowed = np.where(barred, -np.inf, cosines)
        last = max(len(self.vectors) - RIVALS, 0)
        least = np.partition(allowed, last, axis=-1)[..., last, None]
        return np.asarray((allowed >= least) & ~barred)

    def log_odds(
        self,
        queries: npt.NDArray[np.float32],
        images: npt.NDArray[np.float32],
        *,
        lookalikes: bool = False,
    ) -> npt.NDArray[np.float64]:
        """The odds that images show a query rather than its rivals: their logarithms [Q, n].

        Of the softmax over the query and its rivals (the model's own scale is MCM's inverse
        temperature); ``queries`` [Q, D], ``images`` [Q, n, D] are vectors of unit length. With
        ``lookalikes`` the twenty kinds that an image looks most like are rivals too.
        """
        near = queries @ self.vectors.T
        barred = self._barred(near)
        rivals = self._nearest(near, barred)
        odds = np.empty(images.shape[:2])
        for i, (query, seen) in enumerate(zip(queries, images, strict=True)):
            if lookalikes:
                cosines = seen @ self.vectors.T
                among = rivals[i] | self._nearest(cosines, barred[i])
                theirs = np.where(among, cosines, -np.inf)
            else:
                theirs = seen @ self.vectors[rivals[i]].T
            odds[i] = self._log_odds(theirs, seen @ query)
        return odds

    def against_rivals(
        self, query: npt.NDArray[np.float32]
    ) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
        """:meth:`log_odds` of one query [D], for images [n, D] that come in several lots."""
        rivals = self.rivals_of(query)

        def odds(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            return self._log_odds(images @ rivals.T, images @ query)

        return odds

    def _log_odds(
        self, theirs: npt.NDArray[np.float32], own: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """From images' cosines to the rivals [n, R] and to the query [n], -> [n]."""
        above = self.scale * (theirs - own[:, None])
        most = above.max(axis=-1, initial=-np.inf)
        return np.asarray(-np.log(np.exp(above - most[:, None]).sum(axis=-1)) - most, np.float64)

    def most_like(self, query: npt.NDArray[np.float32], images: npt.NDArray[np.float32]) -> int:
        """The place of the rival of a query [D] that images [n, D] look most like."""
        likeness = (images @ self.vectors.T).mean(axis=0)
        return int(np.where(self.rivals(query[None])[0], likeness, -np.inf).argmax())
