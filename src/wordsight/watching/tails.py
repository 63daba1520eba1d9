"""Laws of how high unrelated scores reach, fitted so that a few outliers count little.

The greatest of many values follows a Gumbel law in the limit. :class:`Gumbel` is fitted to a
sample's upper half but for its top, because some of the sample may be no chance at all: phrases of
the bank that truly occur. :class:`Tailed` adds what the top tenth says of the tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

_FIT_RANGE = (0.50, 0.95)
_TAIL = 0.1
_WIDEST_TAIL = 2.0
_LEAST_SCALE = 1 / 64  # of zero (all values equal) would make any difference infinitely telling


@dataclass(frozen=True, slots=True)
class Gumbel:
    """A Gumbel law: ``P(X <= x) = exp(-exp(-(x - location) / scale))``."""

    location: float
    scale: float

    @classmethod
    def fit(cls, sample: FloatArray) -> Gumbel:
        """Fit a line to the quantile plot from 50 % to 95 %.

        The slope is the median of the slopes of all pairs (Theil-Sen), the offset a median too:
        the top may be outliers.
        """
        x, y = _quantile_plot(sample, *_FIT_RANGE)
        slope = max(_slope(x, y), _LEAST_SCALE)
        return cls(float(np.median(y - slope * x)), slope)

    def log_tail(self, x: FloatArray) -> FloatArray:
        """Return ln P(X >= x), exact far out in the tail too."""
        u = np.maximum((np.asarray(x, dtype=np.float64) - self.location) / self.scale, -30.0)
        return np.log(-np.expm1(-np.exp(-np.minimum(u, 30.0)))) - np.maximum(u - 30.0, 0.0)

    def quantile(self, tail: float) -> float:
        """Return the x with P(X >= x) = tail, for 0 < tail < 1."""
        return self.location - self.scale * float(np.log(-np.log1p(-tail)))


@dataclass(frozen=True, slots=True)
class Tailed:
    """A Gumbel law up to its 90 % point, and beyond it the tail of another that meets it there.

    A model may have a heavier tail than its body tells; what exceeds a high threshold is judged by
    the excesses alone (peaks over threshold, Pickands 1975).
    """

    body: Gumbel
    tail: Gumbel

    @classmethod
    def of(cls, body: Gumbel, tail_scale: float) -> Tailed:
        """Return the law with this body, and a tail of this scale."""
        meeting = Gumbel(0.0, tail_scale).quantile(_TAIL)
        return cls(body, Gumbel(body.quantile(_TAIL) - meeting, tail_scale))

    @classmethod
    def fit(cls, sample: FloatArray) -> Tailed:
        """Fit the body as :meth:`Gumbel.fit` does, the tail's scale to the top tenth.

        The tail is at least as wide as the body, at most twice.
        """
        body = Gumbel.fit(sample)
        wide = _slope(*_quantile_plot(sample, 1.0 - _TAIL, 1.0))
        return cls.of(body, float(np.clip(wide, body.scale, _WIDEST_TAIL * body.scale)))

    def log_tail(self, x: FloatArray) -> FloatArray:
        """Return ln P(X >= x)."""
        beyond = np.asarray(x, dtype=np.float64) > self.body.quantile(_TAIL)
        return np.where(beyond, self.tail.log_tail(x), self.body.log_tail(x))

    def quantile(self, tail: float) -> float:
        """Return the x with P(X >= x) = tail, for 0 < tail < 1."""
        return (self.tail if tail < _TAIL else self.body).quantile(tail)


def _quantile_plot(sample: FloatArray, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """The standard Gumbel law's and the sample's quantiles from ``low`` to ``high``.

    Evenly thinned where there are many.
    """
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    rank = (np.arange(len(ordered)) + 0.5) / len(ordered)
    used = np.flatnonzero((rank >= low) & (rank <= high))
    used = used[:: -(-len(used) // 256)]  # 32,000 pairs are plenty
    return -np.log(-np.log(rank[used])), ordered[used]


def _slope(x: FloatArray, y: FloatArray) -> float:
    """Median of the slopes of all pairs of points (Theil-Sen)."""
    i, j = np.triu_indices(len(x), k=1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))
