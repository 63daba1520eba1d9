"""How well scores and confidences tell right from wrong, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wordsight.evaluate.ranking import FloatArray, IntArray


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, a tie counting one half."""
    pos, neg = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if len(pos) == 0 or len(neg) == 0:
        raise ValueError("AUROC needs positives and negatives")
    neg = np.sort(neg)
    below = np.searchsorted(neg, pos, side="left")
    upto = np.searchsorted(neg, pos, side="right")
    return float((below + upto).mean() / 2.0 / len(neg))


def fpr_at_95_tpr(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the share of negatives accepted where at least 95 % of the positives are.

    A score is accepted when it is not below the cut; the cut is the highest that suffices.
    """
    pos, neg = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if len(pos) == 0 or len(neg) == 0:
        raise ValueError("FPR95 needs positives and negatives")
    needed = -(-95 * len(pos) // 100)  # ceil(0.95 n), in whole numbers
    cut = np.sort(pos)[len(pos) - needed]
    return float((neg >= cut).mean())


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Confidence against accuracy in equal-width bins, arrays [bins]; empty bins hold NaN."""

    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def reliability_bins(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15
) -> ReliabilityBins:
    """Return the reliability diagram of predictions with confidences in 0..1.

    Bins are half open, ``[low, high)``, the last one closed.
    """
    conf, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if conf.shape != right.shape or conf.ndim != 1 or len(conf) == 0:
        raise ValueError("confidences and outcomes must be equally many, and some")
    if not ((conf >= 0) & (conf <= 1)).all():
        raise ValueError("a confidence lies between 0 and 1")
    edges = np.arange(bins + 1) / bins  # exact quotients: 0.6 belongs to the bin from 3/5
    place = np.minimum(np.searchsorted(edges, conf, side="right") - 1, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, weights=conf, minlength=bins) / count
        accuracy = np.bincount(place, weights=right, minlength=bins) / count
    return ReliabilityBins(edges, count, mean_confidence, accuracy)


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over bins (Guo et al., ICML 2017)."""
    table = reliability_bins(confidence, correct, bins)
    used = table.count > 0
    gap = np.abs(table.confidence[used] - table.accuracy[used])
    return float((gap * table.count[used]).sum() / table.count.sum())
