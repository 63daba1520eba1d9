"""Does a library hold anything that a query asks for? The statistics behind "No match".

Everything here is a pure function of scores; which vectors they came from is not its business.

**Scores.** ``s(image, query)`` is an image's fused cosine: the greatest over its views. Every image
is measured against a bank of neutral phrases, and a query's score is counted in standard deviations
of the image's own bank scores, ``z = (s - mean) / sd`` (:func:`background`). Hubs, cluttered
pictures and pictures with many crops score high for everything, and z takes that away. The idea is
that of ID-versus-background scores in zero-shot out-of-distribution detection (MCM, Ming et al.
2022; GL-MCM, Miyai et al. 2023; NegLabel, Jiang et al. 2024, whose negative labels are our bank)
and of query banks in retrieval (QB-Norm, Bogolin et al. 2022).

The other normal form is for ranking: the lift, the cosine above the image's own background
(:func:`lift`).

**Evidence.** A query is judged by the three images that are closest to it: by their mean z, and by
the best of the log odds that an image shows what is asked for rather than a rival, one of the
everyday kinds nearest to it (:mod:`wordsight.nomatch.rivals`). Where there are dogs and no cats,
"a cat" finds dogs, far above anything unrelated; the odds say that they are dogs. Both are counted
in standard deviations of what the bank's phrases get, and the evidence is their sum: weights that
were fitted to one set of photographs and judged on another decided no better.

**Decision.** Each phrase of the bank is itself a query that the library was not made for, so its
evidence shows what an unrelated query gets *here*: in this library, at its size, by this way of
cropping, under this model. A phrase is judged against the others alone (leave one out) and has
rivals of its own, exactly as a new query is judged and has. The share of the bank that gets at
least as much evidence, counting the query itself, is its conformal p-value (Vovk et al.,
Algorithmic Learning in a Random World, 2005): the share of unrelated queries that would look at
least as good. A query matches when that is at most the stated false-accept rate. No law is fitted,
and with B phrases no p-value is below 1 / (B + 1).

The bank knows what unrelated queries get, not what a sibling of something that is there gets. So a
match also needs an image that is the query's rather than its rivals' (:data:`~.rivals.OWN`), and
where the three are no more the query's than chance would have it, nothing speaks for it: the
p-value is 1. Both can only lower the rate.

A third of the bank are everyday things, as queries are: a thing that is in no picture is found
beside things that are, and gets more than an abstract phrase does. Some of these a library holds;
that makes the decision stricter than stated, never looser.

**Verdict.** Between a match and none lies "unsure": the stated rate is missed, but the p-value
still speaks for the query rather than for chance (:attr:`Decision.certainty` above one half, a
p-value below 1/e).

``benchmarks/photographs.py`` and ``benchmarks/no_match_study.py`` hold the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wordsight.nomatch.rivals import CHANCE, OWN

FloatArray = npt.NDArray[np.floating[Any]]
Verdict = Literal["match", "unsure", "none"]

CLOSEST = 3
"""So many images are judged: one alone may be an accident."""

_SD_FLOOR = 1e-6
_LIFT_MEAN = 0.87


def background(fused: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return each image's background (mean [N], sd [N]) from its fused bank scores [N, B]."""
    fused = np.asarray(fused, dtype=np.float64)
    return fused.mean(axis=1).astype(np.float32), fused.std(axis=1).astype(np.float32)


def zscore(fused: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return ``(fused - mean) / sd`` for one query's fused scores [N], or those of many [Q, N].

    Images whose bank scores are all equal divide by next to nothing, not by zero.
    """
    return (fused - mean) / np.maximum(sd, _SD_FLOOR, dtype=sd.dtype)


def lift(fused: FloatArray, mean: FloatArray) -> FloatArray:
    """Return ``fused - 0.87 * mean``: how far the cosine lies above the image's background.

    This is what images are ranked by where crops count: taking the background off removes the head
    start of many views. Not all of it, because the bank says a little too much: what lifts an
    image for neutral phrases lifts it somewhat less for the next query, and the whole mean would
    put images with many views low. In ``benchmarks/scenes.py`` rank and number of views correlate
    by less than 0.05 up to 0.88, among images that chance alone tells apart from 0.86 on.
    Dividing by sd too (:func:`zscore`) ranks a little worse.
    """
    return fused - _LIFT_MEAN * mean


def leave_one_out(
    fused: FloatArray, mean: FloatArray, sd: FloatArray, phrases: int
) -> npt.NDArray[np.float64]:
    """Return z [P, N] of P of the bank's phrases, each against mean and sd of the *other* phrases.

    ``fused`` [P, N] are their scores, ``mean`` and ``sd`` [N] the images' background over all
    ``phrases``. With deviations d from the full mean, taking a phrase out moves the mean by
    -d / (B - 1) and the variance to ``B / (B - 1) * (var - d ** 2 / (B - 1))``, so no second pass
    is needed.
    """
    rest = phrases / (phrases - 1)
    deviation = np.asarray(fused, dtype=np.float64) - mean
    variance = rest * (np.square(sd, dtype=np.float64) - deviation**2 / (phrases - 1))
    return deviation * rest / np.sqrt(np.maximum(variance, _SD_FLOOR**2))


def closest(z: FloatArray) -> npt.NDArray[np.intp]:
    """Return the places of the three images that are closest to a query, best first.

    From z [..., N] of the images to [..., 3], or [..., N] where there are fewer.
    """
    count = min(CLOSEST, z.shape[-1])
    some = np.argpartition(-z, count - 1, axis=-1)[..., :count] if count else np.argsort(-z)
    order = np.argsort(-np.take_along_axis(z, some, -1), axis=-1, kind="stable")
    return np.take_along_axis(some, order, -1)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one query, with what it rests on."""

    p_value: float
    """Share of unrelated queries that would look at least as good in this library."""
    p_alone: float
    """The same by z alone, without rivals."""
    false_accept: float
    """The stated rate; a match needs a ``p_value`` of at most this."""
    single: float
    """z of the best image."""
    single_threshold: float
    """z that the best image has for the stated share of unrelated queries."""
    posterior: float | None = None
    """The greatest share that rivals leave the query of one of the closest images; None without
    images."""
    rival: str | None = None
    """Where rivals turned a match down: the one that the closest images look most like."""

    @property
    def match(self) -> bool:
        """Whether the library holds what was asked for."""
        return self.verdict == "match"

    @property
    def lost_to_rivals(self) -> bool:
        """Whether the verdict would be better without rivals."""
        order = ("none", "unsure", "match")
        alone = _verdict(self.p_alone, self.false_accept, 1.0)
        return order.index(alone) > order.index(self.verdict)

    @property
    def certainty(self) -> float:
        """How probable it is at most that the library holds what was asked for, at even odds.

        See :func:`certainty`.
        """
        return certainty(self.p_value)

    @property
    def verdict(self) -> Verdict:
        """ "match"; "unsure" where the scores speak for a match, but not enough; "none"."""
        return _verdict(self.p_value, self.false_accept, self.posterior or 0.0)


@dataclass(frozen=True)
class Null:
    """What unrelated queries get in one library: the bank's phrases, each as a query.

    ``z`` and ``odds`` [B, 3] are z and log odds of the three images that are closest to each (of
    fewer in a library that has no three; see the module's text).
    """

    z: FloatArray = field(repr=False)
    odds: FloatArray = field(repr=False)

    def evidence(self, z: FloatArray, odds: FloatArray) -> FloatArray:
        """Return the evidence of queries from their closest images', [..., n] -> [...]."""
        return _standing(z.mean(axis=-1), self._alone) + _standing(
            odds.max(axis=-1), self.odds.max(axis=1)
        )

    @cached_property
    def _alone(self) -> FloatArray:
        """The phrases' mean z [B]."""
        return np.asarray(self.z.mean(axis=1))

    @cached_property
    def _of_bank(self) -> FloatArray:
        """The phrases' evidence [B]."""
        return self.evidence(self.z, self.odds)

    def p_value(self, z: FloatArray, odds: FloatArray) -> float:
        """Return the p-value of a query from z and log odds [n] of its closest images."""
        return _p_value(self.evidence(z, odds), self._of_bank)

    def p_single(self, z: float) -> float:
        """Return the p-value of one image by its z alone: how often the best one has as much."""
        return _p_value(np.float64(z), self.z.max(axis=1))

    def threshold(self, false_accept: float) -> float:
        """Return the z from which on :meth:`p_single` is at most this rate.

        It is infinite where the bank is too small to tell.
        """
        best = np.sort(self.z.max(axis=1))[::-1] if self.z.size else np.zeros(0)
        allowed = int(false_accept * (len(best) + 1)) - 1  # phrases that may have as much
        return float("inf") if allowed < 0 else float(np.nextafter(best[allowed], np.inf))

    def decide(self, z: FloatArray, odds: FloatArray, false_accept: float = 0.05) -> Decision:
        """Decide one query from z and log odds [n] of its closest images (none never match)."""
        if not 0.0 < false_accept < 1.0:
            raise ValueError(f"a false-accept rate lies between 0 and 1, not {false_accept}")
        threshold = self.threshold(false_accept)
        if len(z) == 0:
            return Decision(1.0, 1.0, false_accept, float("-inf"), threshold)
        shares = 1 / (1 + np.exp(-np.asarray(odds, np.float64)))
        return Decision(
            p_value=self.p_value(z, odds) if shares.mean() >= CHANCE else 1.0,
            p_alone=_p_value(z.mean(), self._alone),
            false_accept=false_accept,
            single=float(z.max()),
            single_threshold=threshold,
            posterior=float(shares.max()),
        )


def certainty(p_value: float) -> float:
    """From the least Bayes factor of chance that a p-value allows, ``-e p ln p``.

    (Sellke, Bayarri and Berger, The American Statistician 2001.) From 1/e on the scores speak for
    chance, and the factor goes on as ``e p``.
    """
    p = max(p_value, np.finfo(float).tiny)
    return float(1 / (1 + np.e * p * max(1.0, -np.log(p))))


def _verdict(p_value: float, false_accept: float, posterior: float) -> Verdict:
    if p_value <= false_accept and posterior >= OWN:
        return "match"
    return "unsure" if certainty(p_value) > 0.5 else "none"


def _standing(values: FloatArray, of_bank: FloatArray) -> FloatArray:
    """Values [...] counted in standard deviations of the bank's [B]."""
    usual = np.asarray(of_bank, np.float64)
    return np.asarray((values - usual.mean()) / max(usual.std(), _SD_FLOOR))


def _p_value(value: FloatArray, of_bank: FloatArray) -> float:
    """Share of the bank [B] that has at least this value, counting the query itself."""
    return float((1 + np.count_nonzero(of_bank >= value)) / (1 + len(of_bank)))
