"""Which everyday kinds a query is held against, and how much of an image is the query's.

Where there are dogs and no cats, "a cat" finds dogs, far above anything unrelated. So a query that
is close to an everyday kind of thing has rivals: the kinds nearest to it beside its own. See
:mod:`wordsight.nomatch` for what they do to its decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wordsight.nomatch.statistics import background, zscore
from wordsight.nomatch.tails import FloatArray

RIVALS = 20
RELATED = 0.95
"""A query has rivals when it is nearer to a kind than this share of the bank phrases is."""


def posterior(scores: FloatArray, rivals: FloatArray, scale: float) -> npt.NDArray[np.float64]:
    """Return the softmax share [n] of cosines [n] against those of R rivals [n, R].

    ``scale`` is the model's logit scale (MCM's inverse temperature).
    """
    x = scale * (np.asarray(rivals, np.float64) - np.asarray(scores, np.float64)[:, None])
    shift = np.maximum(x.max(axis=1, initial=0.0), 0.0)
    mine = np.exp(-shift)
    share: npt.NDArray[np.float64] = mine / (mine + np.exp(x - shift[:, None]).sum(axis=1))
    return share


@dataclass(frozen=True)
class Kinds:
    """Everyday kinds of things as text vectors: who the rivals of a query are.

    ``vectors`` is float32 [W, D] of unit length, ``group`` int [W] the group of each word,
    ``above`` bool [W] marks the words that stand above a whole group; ``bank`` float32 [B, D] are
    the bank's text vectors, against which nearness is measured.
    """

    vectors: npt.NDArray[np.float32] = field(repr=False)
    group: npt.NDArray[np.intp] = field(repr=False)
    above: npt.NDArray[np.bool_] = field(repr=False)
    bank: npt.NDArray[np.float32] = field(repr=False)

    @cached_property
    def _nearness(self) -> tuple[FloatArray, FloatArray, float]:
        cosines = self.bank @ self.vectors.T
        mean, sd = background(cosines.T)
        nearest = zscore(cosines, mean, sd).max(axis=1)
        return mean, sd, float(np.quantile(nearest, RELATED))

    def rivals(self, query: FloatArray) -> npt.NDArray[np.intp]:
        """Return the places of a query's rivals, nearest first; none for a query apart from all.

        The query's own kind is the nearest word; if that stands above a group, the whole group is.
        """
        mean, sd, least = self._nearness
        cosine = self.vectors @ query
        if zscore(cosine, mean, sd).max() < least:
            return np.zeros(0, np.intp)
        own = int(np.argmax(cosine))
        rival = ~self.above
        rival[own] = False
        if self.above[own]:
            rival &= self.group != self.group[own]
        places = np.flatnonzero(rival)
        return places[np.argsort(-cosine[places], kind="stable")][:RIVALS]
