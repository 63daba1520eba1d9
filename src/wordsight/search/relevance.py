"""Where the hits end: which images of a ranking are what was asked for, and about how many.

Two things speak for an image. Over a library the values that a query ranks by fall into two groups:
many images that do not show it, and perhaps some that do. That is the two-groups model of
large-scale testing, with the null taken from the data themselves (Efron, JASA 2004; 2007): two
normal laws of one width, fitted by expectation and maximisation. One width for both makes the
posterior of the upper group rise with the rank. In a small library a few images say little of the
null. So what unrelated phrases get there (see :mod:`wordsight.nomatch`) counts as that of twenty
more images.

The upper group may be a sibling's: where there are dogs and no cats, "a cat" finds dogs. So the
odds of an image against the query's rivals (:mod:`wordsight.nomatch.rivals`) count too. An image's
log odds are the sum of both, as of independent evidence. They are not quite: the images of one
library resemble each other, and both rest on one cosine. So beside the rivals, the groups' log odds
count for 0.4.

The relevant hits are the first ones, as many as make the expected F1 the highest: with
probabilities p in the order of the ranking, the k that maximises

    2 (p_1 + ... + p_k) / (k + p_1 + ... + p_N)

(Lewis, SIGIR 1995; Nan et al., ICML 2012). The last one's probability is then about half of that
F1. It is one half only where all is certain; where little is, it is worth showing more.
Figures: ``benchmarks/photographs.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]

_Law = tuple[float, float, float, float]
"""Means of both groups, ln of their width, ln of the odds of the upper one; of scaled values."""

_LEAPS = 60
_CLOSE = 1e-3  # a fit is done when a step moves it less, by deviations of all values
_FEW = 1e-9
_BINS = 256
# Twenty images of the prior: quantiles of the standard normal law.
_PRIOR_X = np.array([-1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645])
_PRIOR_N = np.full(10, 2.0)
_APART = 2.0  # the groups' means lie at least so many deviations apart
_BESIDE_RIVALS = 0.4
_SURE = 0.95


@dataclass(frozen=True, slots=True)
class Count:
    """About how many images are relevant: as many as make the expected F1 the highest.

    ``low`` counts those that are at least 95 % probable, ``high`` those at least 5 %; both as far
    as they leave the estimate between them.
    """

    estimate: int
    low: int
    high: int

    def to_json(self) -> dict[str, int]:
        """The field ``count`` of a search's JSON."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Groups:
    """The fitted law: means of the two groups, their width, and ln of the odds of the upper one."""

    null: float
    relevant: float
    width: float
    odds: float

    @classmethod
    def fit(
        cls,
        values: Values,
        prior: tuple[float, float] | None = None,
        weights: Values | None = None,
    ) -> Groups:
        """Fit to the values [N] that a query ranks the images by (N at least 1).

        ``prior`` is the mean and sd of what unrelated phrases get. ``weights`` [N] say how many
        images each stands for; None: one.
        """
        x, n = _binned(np.asarray(values), weights)
        may = n  # how many may be relevant: of a prior's images, none
        if prior is not None:
            x, n = np.append(x, _PRIOR_X * prior[1] + prior[0]), np.append(n, _PRIOR_N)
            may = np.append(may, np.zeros(len(_PRIOR_X)))
            order = np.argsort(x, kind="stable")
            x, n, may = x[order], n[order], may[order]
        middle = float(n @ x) / float(n.sum())
        scale = max(math.sqrt(float(n @ (x - middle) ** 2) / float(n.sum())), 1e-6)
        x = (x - middle) / scale
        step = _Step(x, n, may)
        # Most of the images may be of either group; a leap from each beginning tells which.
        begins = [step.begin(quantile) for quantile in (0.5, 0.1)]
        laws = [_led(step, law, leaps=1) for law in begins]
        best = max(laws, key=lambda law: _likelihood(law, x, n))
        null, relevant, width, odds = _led(step, best)
        return cls(middle + scale * null, middle + scale * relevant, scale * math.exp(width), odds)

    def log_odds(self, values: Values) -> Float64:
        """ln of the odds that images of these values are of the upper group, as fitted."""
        slope, at_zero = _line(self.null, self.relevant, self.width, self.odds)
        odds: Float64 = slope * np.asarray(values, np.float64) + at_zero
        return odds

    def probability(self, values: Values, rivals: Values | None = None) -> Float64:
        """How probable it is that images of these values are relevant, [...] -> [...].

        ``rivals`` [...] are their log odds against the rivals, where there are any.
        """
        odds = self.log_odds(values)
        sure: Float64 = _expit(odds if rivals is None else _BESIDE_RIVALS * odds + rivals)
        return sure


class _Step:
    """A step of expectation and maximisation, from a law to one that is likelier.

    Of rising values [B], of which there are so many [B] and so many may be relevant [B]. Sums over
    all values are plain floats, for numpy's scalars would take most of the time; and who is
    relevant is worked out in float32, whose exponential takes a fifth of the time.
    """

    def __init__(self, x: Float64, n: Float64, may: Float64) -> None:
        self.values, self.below = x.tolist(), np.cumsum(n)
        self.total, self.first, self.second = float(n.sum()), float(n @ x), float(n @ x**2)
        self.x = x.astype(np.float32)
        self.sums = np.stack([may, may * x], axis=1).astype(np.float32)
        self.least = math.inf  # ln of a group's width

    def begin(self, quantile: float) -> _Law:
        """A law to begin with, its null group about this quantile; widths are measured by these."""
        shares = np.array((quantile, 0.32 * quantile, 0.99)) * self.total
        places = np.minimum(np.searchsorted(self.below, shares), len(self.values) - 1)
        null, low, top = (self.values[place] for place in places)
        width = max(null - low, 1e-6)
        self.least = min(self.least, math.log(width / 4))
        return self.within(null, top, math.log(width), math.log(0.05 / 0.95))

    def __call__(self, law: _Law) -> _Law:
        null, relevant, width, odds = law
        slope, at_zero = _line(null, relevant, math.exp(width), odds)
        many, moment = (_expit(slope * self.x + at_zero) @ self.sums).tolist()
        other, others = self.total - many, self.first - moment
        null = others / max(other, _FEW)
        relevant = moment / many if many > _FEW else relevant
        spread = self.second - 2 * (relevant * moment + null * others)
        spread += many * relevant**2 + other * null**2
        deviation = math.sqrt(max(spread / self.total, _FEW))
        if relevant - null < _APART * deviation:
            null, relevant, deviation = self.apart(many, moment)
        odds = math.log(max(many, _FEW) / max(other, _FEW))
        return self.within(null, relevant, math.log(deviation), odds)

    def apart(self, many: float, moment: float) -> tuple[float, float, float]:
        """The likeliest means and width whose means are just as far apart as they must be.

        With the mean of all values m, their sum of squares S about it, and D = moment - many m, the
        likelihood is highest where total w**2 + _APART D w = S.
        """
        middle = self.first / self.total
        shift = _APART * (moment - many * middle)
        about = max(self.second - self.first * middle, _FEW)
        deviation = (math.sqrt(shift**2 + 4 * self.total * about) - shift) / (2 * self.total)
        null = middle - _APART * deviation * many / self.total
        return null, null + _APART * deviation, deviation

    def within(self, null: float, relevant: float, width: float, odds: float) -> _Law:
        """The nearest law that may be, for leaps go anywhere.

        Both means are among the values, or as far apart as they must be; no group is wider than all
        values are, and each has one image at least.
        """
        low, high, most = self.values[0], self.values[-1], math.log(self.total)
        width = max(min(width, 0.0), self.least)
        null = min(max(null, low), high)
        relevant = max(min(relevant, high), null + _APART * math.exp(width))
        return null, relevant, width, min(max(odds, -most), most)


def _led(step: _Step, law: _Law, leaps: int = _LEAPS) -> _Law:
    """The law that steps from this one lead to, with so many leaps on the way at most.

    Two steps tell how fast the steps shrink, and so how far to leap (SQUAREM: Varadhan and Roland,
    Scandinavian Journal of Statistics 2008): 15 to 30 steps where it took 60 and more without. How
    far may grow fourfold each time. Else a step that hardly bends would lead anywhere, and back.
    """
    furthest = 4.0
    for _ in range(leaps):
        once = step(law)
        twice = step(once)
        moved = [b - a for a, b in zip(law, once, strict=True)]
        bent = [c - b - m for b, c, m in zip(once, twice, moved, strict=True)]
        far = math.hypot(*moved)
        if far < _CLOSE:
            return twice
        ahead = far / max(math.hypot(*bent), _FEW)
        if ahead > furthest:
            ahead, furthest = furthest, 4 * furthest
        if ahead <= 1:
            law = twice
            continue
        leap = (a + ahead * (2 * m + ahead * b) for a, m, b in zip(law, moved, bent, strict=True))
        law = step(step.within(*leap))
    return law


def _likelihood(law: _Law, x: Float64, n: Float64) -> float:
    """ln of how likely a law makes values [B], of which there are so many [B]."""
    null, relevant, width, odds = law
    near, far = (-((x - mean) ** 2) / (2 * math.exp(2 * width)) for mean in (null, relevant))
    return float(n @ (np.logaddexp(near, far + odds) - np.logaddexp(0, odds) - width))


def _line(null: float, relevant: float, width: float, odds: float) -> tuple[float, float]:
    """Slope, and value at zero, of the log odds: with one width they rise in a straight line."""
    slope = (relevant - null) / width**2
    return slope, odds - slope * (relevant + null) / 2


def count(probable: Float64, weights: Values | None = None) -> tuple[int, Count]:
    """How many of the first images of a ranking are relevant, and how many these stand for.

    From their probabilities [N], best first. ``weights`` [N] say how many images each stands for;
    None: one.
    """
    n = np.ones(len(probable)) if weights is None else np.asarray(weights, np.float64)
    right = n * probable
    expected = 2 * np.cumsum(right) / (np.cumsum(n) + right.sum())
    cut = int(np.argmax(expected)) + 1
    estimate, low, high = (
        round(float(some.sum()))
        for some in (n[:cut], n[probable >= _SURE], n[probable >= 1 - _SURE])
    )
    return cut, Count(estimate, min(low, estimate), max(high, estimate))


def _expit(x: Values) -> Any:
    return 1 / (1 + np.exp(np.minimum(-x, 50)))


def _binned(values: Values, weights: Values | None) -> tuple[Float64, Float64]:
    """Values in rising order and how many images have each; many values in bins."""
    if len(values) <= _BINS:
        order = np.argsort(values, kind="stable")
        n = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
        return values[order].astype(np.float64), n[order]
    low, high = float(values.min()), float(values.max())
    width = max(high - low, 1e-12) / _BINS
    bins = np.minimum(((values - low) / width).astype(np.int32), _BINS - 1)
    middles = low + width * (np.arange(_BINS, dtype=np.float64) + 0.5)
    return middles.astype(np.float64), np.bincount(bins, weights, _BINS).astype(np.float64)
