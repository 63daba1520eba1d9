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

**Decision.** Two tests ask of a query's z over the whole library

- *group*: is the mean of the best 15 % of the images large? It finds what the library holds many
  of, and it is not moved by a few look-alikes (a horse among the deer);
- *single*: is the one best image outstanding? It finds the needle.

Each bank phrase is itself a query that the library was not made for, so its own two values show
what an unrelated query gets *here*: in this library, at its size, under this model. A phrase is
judged against the others alone (leave one out), exactly as a new query is judged. A Gumbel law,
the limit law of maxima, is fitted to the bank's values of each test and turns a value into a tail
probability p. The evidence of a query is ``max(ln 0.65 - ln p_group, ln 0.35 - ln p_single)``: the
false-accept rate is spent to about two thirds on the first test, to one third on the second (a
weighted Bonferroni bound). A last law, fitted to the evidence of the bank phrases, takes up what
the two tests share, and gives the p-value: the share of unrelated queries that would look at least
as good. A query matches when that is at most the stated false-accept rate. Rates are small, so the
tail of this law counts: beyond its 90 % point it falls off as the bank's own top tenth does
(:class:`Tailed`). Under a model that draws every image to the few words it knows well, that is
nearly half as fast as a Gumbel law would have it.

A third of the bank are everyday things, as queries are: a thing that is in no picture is found
beside things that are, and gets more than an abstract phrase does. Some of these a library holds.

**Verdict.** Between a match and none lies "unsure": the stated rate is missed, but the p-value
still speaks for the query rather than for chance (:attr:`Decision.certainty` above one half, a
p-value below 1/e).

**Near misses.** A sibling of what is asked for looks like it: where there are dogs and no cats, "a
cat" finds dogs, far above anything unrelated. So a query that is close to an everyday kind of thing
(closer than 19 in 20 bank phrases are) is held against its rivals, the twenty kinds nearest to it
beside its own (:mod:`wordsight.nomatch.rivals`). Few unrelated queries are as close as that, so
that what rivals refuse hardly moves the false-accept rate. Over the images that seem to match the
softmax of the query against the rivals says which share of them is the query's. The group test
counts only if that is at least 0.17, the single test only if it is at least 0.65 over the images
that match alone. Rivals are few and near because a picture may show many things: "a traffic light"
must not lose to the bus behind it. So an absent class stays refused even when a tenth of its
neighbours is taken for it; the price is that a class with fewer images than the library has of such
look-alikes is refused too.

Some phrases of the bank may truly be in the library (kitchen words, photographs of kitchens) and
are no unrelated queries then: :mod:`wordsight.nomatch.tails` fits past them.
``benchmarks/no_match_study.py`` holds the measurements behind these choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wordsight.nomatch.tails import FloatArray, Gumbel, Tailed

GROUP_FRACTION = 0.15
GROUP_SHARE, SINGLE_SHARE = 0.65, 0.35
MIN_PHRASES = 30

Verdict = Literal["match", "unsure", "none"]

GROUP_POSTERIOR, SINGLE_POSTERIOR = 0.17, 0.65
_SEEMING_RATE = 0.05  # images that would match alone at this rate "seem to match"
# At least, and at most, so many of them are asked for the group; in a library of some ten images no
# more than it rests on, else two dogs among them count as a fifth of ten.
_FEW, _MANY = 10, 1000

# z is binned for the memory of the bank's values. Values outside are counted at the ends: below,
# they are never among the best; above, they are beyond the quantiles that the fits look at.
_Z_LOW, _BINS_PER_UNIT, _BINS = -4.0, 16, 512
_CENTRES = _Z_LOW + (np.arange(_BINS) + 0.5) / _BINS_PER_UNIT
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


Posteriors = Callable[[npt.NDArray[np.intp]], FloatArray]
"""The posteriors [n] of one query at these places [n] of its images."""


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


def group_statistic(z: FloatArray) -> FloatArray:
    """Return the mean of the best 15 % (at least one) of the images' z [..., N] -> [...]."""
    count = z.shape[-1]
    best = _group_size(count)
    top = np.partition(z, count - best, axis=-1)[..., count - best :]
    return np.asarray(top.mean(axis=-1, dtype=np.float64))


def single_statistic(z: FloatArray) -> FloatArray:
    """Return the z of the one best image, [..., N] -> [...]."""
    return np.asarray(z.max(axis=-1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one query, with what it rests on (all z in standard deviations)."""

    match: bool
    p_value: float
    """Share of unrelated queries that would look at least as good in this library."""
    p_against_rivals: float
    """The same for what rivals leave the query of its evidence: never less than ``p_value``."""
    false_accept: float
    """The stated rate; the query matches when ``p_against_rivals`` is at most this."""
    single: float
    """z of the best image."""
    single_threshold: float
    """z at which one image alone makes a match."""
    group: float
    """Mean z of the best 15 % of the images."""
    group_threshold: float
    """Mean z at which they together make a match."""
    posterior: float | None = None
    """Share of the seemingly matching images that is the query's rather than its rivals'; None
    where it has no rivals."""
    rival: str | None = None
    """Where rivals turned a match down: the one that the closest images look most like."""

    @property
    def lost_to_rivals(self) -> bool:
        """Whether the verdict would be better without rivals."""
        if self.match:
            return False
        unsure_without = certainty(self.p_value) > 0.5 and self.verdict == "none"
        return self.p_value <= self.false_accept or unsure_without

    @property
    def certainty(self) -> float:
        """How probable it is at most that the library holds what was asked for, at even odds.

        See :func:`certainty`.
        """
        return certainty(self.p_against_rivals)

    @property
    def verdict(self) -> Verdict:
        """ "match"; "unsure" where the scores speak for a match, but not enough; "none"."""
        if self.match:
            return "match"
        return "unsure" if self.certainty > 0.5 else "none"


@dataclass(frozen=True, slots=True)
class Null:
    """What unrelated queries get in one library: the fitted laws (see the module's text)."""

    group: Gumbel
    single: Gumbel
    evidence: Tailed

    @classmethod
    def fit(cls, group: FloatArray, single: FloatArray) -> Null:
        """Fit to the bank phrases' own statistics, each [B]."""
        first, second = Gumbel.fit(group), Gumbel.fit(single)
        evidence = Tailed.fit(_evidence(first.log_tail(group), second.log_tail(single)))
        return cls(first, second, evidence)

    def p_value(self, z: FloatArray) -> FloatArray:
        """Return the p-value of queries from their z over the library, [N] -> [], [Q, N] -> [Q]."""
        if z.shape[-1] == 0:
            return np.ones(z.shape[:-1])
        log_group = self.group.log_tail(group_statistic(z))
        return self._tail_of(log_group, self.single.log_tail(single_statistic(z)))

    def _tail_of(self, log_group: FloatArray, log_single: FloatArray) -> FloatArray:
        return np.asarray(np.exp(self.evidence.log_tail(_evidence(log_group, log_single))))

    def thresholds(self, false_accept: float) -> tuple[float, float]:
        """Return the (group, single) z at which either test makes a match by itself."""
        _check_rate(false_accept)
        needed = self.evidence.quantile(false_accept)
        # Evidence may need less than a test's whole share: then any value of that test would do.
        group = min(GROUP_SHARE * float(np.exp(-needed)), 1 - 1e-9)
        single = min(SINGLE_SHARE * float(np.exp(-needed)), 1 - 1e-9)
        return self.group.quantile(group), self.single.quantile(single)

    def decide(
        self,
        z: FloatArray,
        false_accept: float = 0.05,
        posteriors: Posteriors | None = None,
        sampled: int | None = None,
    ) -> Decision:
        """Decide one query from its z [N] over the library's images (N = 0 never matches).

        With ``posteriors``, each test counts only where the images that it rests on are the
        query's rather than its rivals' (see the module's text). With ``sampled``, the first so
        many images are a random part of the library, which the group test rests on, and the rest
        are those that score highest; else the images are the whole library.
        """
        group_needed, single_needed = self.thresholds(false_accept)
        if len(z) == 0:
            nothing = float("-inf")
            return Decision(
                False, 1.0, 1.0, false_accept, nothing, single_needed, nothing, group_needed
            )
        group, single = group_statistic(z[:sampled]), single_statistic(z)
        log_group, log_single = self.group.log_tail(group), self.single.log_tail(single)
        p_value = left = float(self._tail_of(log_group, log_single))
        share = None
        if posteriors is not None:
            seeming = self._seeming(z)
            found = np.asarray(posteriors(seeming))
            alone = max(1, int((z[seeming] >= self.thresholds(_SEEMING_RATE)[1]).sum()))
            share = float(found.mean())
            log_group = log_group if share >= GROUP_POSTERIOR else np.zeros_like(log_group)
            if found[:alone].mean() < SINGLE_POSTERIOR:
                log_single = np.zeros_like(log_single)
            left = float(self._tail_of(log_group, log_single))
        return Decision(
            match=left <= false_accept,
            p_value=p_value,
            p_against_rivals=left,
            false_accept=false_accept,
            single=float(single),
            single_threshold=single_needed,
            group=float(group),
            group_threshold=group_needed,
            posterior=share,
        )

    def _seeming(self, z: FloatArray) -> npt.NDArray[np.intp]:
        """Places of the images that seem to match, best first; evenly thinned where many."""
        few = min(_FEW, _group_size(len(z)))
        count = max(int((z >= self.thresholds(_SEEMING_RATE)[1]).sum()), few)
        best = np.argpartition(-z, count - 1)[:count]
        best = best[np.argsort(-z[best], kind="stable")]
        return best[:: -(-count // _MANY)]


@dataclass(frozen=True)
class Calibration:
    """The bank's z over a library, as one histogram a phrase: small, additive, order-free.

    Images are added with :meth:`observe`, some at a time. About 1 MB for 500 phrases whatever the
    size of the library. ``counts`` is int64 [B, bins], with bins of 1/16 of a standard deviation.
    """

    counts: npt.NDArray[np.int64] = field(repr=False)

    @classmethod
    def empty(cls, phrases: int) -> Calibration:
        """Return the calibration of a library without images, for a bank of that many phrases."""
        if phrases < MIN_PHRASES:
            raise ValueError(f"a bank needs at least {MIN_PHRASES} phrases, not {phrases}")
        return cls(np.zeros((phrases, _BINS), dtype=np.int64))

    @classmethod
    def from_fused(cls, fused: FloatArray) -> Calibration:
        """Return the calibration of images with these fused bank scores [N, B]."""
        return cls.empty(fused.shape[1]).observe(fused)

    def observe(self, fused: FloatArray) -> Calibration:
        """Return the calibration with more images, given their fused bank scores [n, B]."""
        if fused.ndim != 2 or fused.shape[1] != self.phrases:
            raise ValueError(f"expected bank scores [n, {self.phrases}], got {fused.shape}")
        z = leave_one_out(fused.T, *background(fused), self.phrases)
        bins = ((z.T - _Z_LOW) * _BINS_PER_UNIT).astype(np.int64)
        np.clip(bins, 0, _BINS - 1, out=bins)
        bins += np.arange(self.phrases) * _BINS
        added = np.bincount(bins.ravel(), minlength=self.counts.size)
        return Calibration(self.counts + added.reshape(self.counts.shape))

    @property
    def phrases(self) -> int:
        """Size B of the bank."""
        return len(self.counts)

    @property
    def images(self) -> int:
        """Number N of images counted."""
        return int(self.counts[0].sum())

    @cached_property
    def null(self) -> Null:
        """What unrelated queries get in this library (fitted on first use)."""
        return Null.fit(*self.bank_statistics())

    def bank_statistics(self) -> tuple[FloatArray, FloatArray]:
        """Return the bank phrases' own (group [B], single [B]) statistics."""
        if self.images == 0:
            zero = np.zeros(self.phrases)
            return zero, zero
        best = _group_size(self.images)
        downwards = self.counts[:, ::-1]
        reached = np.cumsum(downwards, axis=1)
        taken = np.clip(best - (reached - downwards), 0, downwards)
        group: FloatArray = taken @ _CENTRES[::-1] / best
        single: FloatArray = _CENTRES[::-1][np.argmax(downwards > 0, axis=1)]
        return group, single

    def decide(
        self, z: FloatArray, false_accept: float = 0.05, posteriors: Posteriors | None = None
    ) -> Decision:
        """Decide one query from its z [N]; see :meth:`Null.decide`."""
        return self.null.decide(z, false_accept, posteriors)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return arrays to store (``np.savez``), sparse: most bins are empty."""
        flat = self.counts.ravel()
        used = np.flatnonzero(flat)
        return {
            "shape": np.array(self.counts.shape, dtype=np.int64),
            "bins": used.astype(np.int32),
            "counts": flat[used],
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Calibration:
        """Return the calibration that :meth:`to_arrays` wrote."""
        phrases, bins = (int(n) for n in arrays["shape"])
        if bins != _BINS:
            raise ValueError(f"expected {_BINS} bins, got {bins}")
        counts = np.zeros(phrases * bins, dtype=np.int64)
        counts[arrays["bins"]] = arrays["counts"]
        return cls(counts.reshape(phrases, bins))


def certainty(p_value: float) -> float:
    """From the least Bayes factor of chance that a p-value allows, ``-e p ln p``.

    (Sellke, Bayarri and Berger, The American Statistician 2001.) From 1/e on the scores speak for
    chance, and the factor goes on as ``e p``.
    """
    p = max(p_value, np.finfo(float).tiny)
    return float(1 / (1 + np.e * p * max(1.0, -np.log(p))))


def _evidence(log_group: FloatArray, log_single: FloatArray) -> FloatArray:
    log_p = np.minimum(log_group - np.log(GROUP_SHARE), log_single - np.log(SINGLE_SHARE))
    return np.asarray(-log_p)


def _group_size(images: int) -> int:
    return max(1, int(np.ceil(GROUP_FRACTION * images)))


def _check_rate(false_accept: float) -> None:
    if not 0.0 < false_accept < 1.0:
        raise ValueError(f"a false-accept rate lies between 0 and 1, not {false_accept}")
