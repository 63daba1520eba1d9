"""How right a classifier is, and how well its confidences say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class ClassificationReport:
    """How right a classifier is, and how well its confidences say so.

    ``confusion`` is int64 [L, L], rows true, columns predicted. The bins are those of
    :func:`wordsight.evaluate.calibration.reliability_bins`; ``ece`` is the expected calibration
    error.
    """

    images: int
    accuracy: float
    top3_accuracy: float
    ece: float
    confusion: NDArray[np.int64]
    bin_confidence: NDArray[np.float64]
    bin_accuracy: NDArray[np.float64]
    bin_count: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """The figures, and the confusion matrix as lists."""
        return {
            "images": self.images,
            "accuracy": round(self.accuracy, 5),
            "top3_accuracy": round(self.top3_accuracy, 5),
            "ece": round(self.ece, 5),
            "confusion": self.confusion.tolist(),
        }


def classification_report(
    confidences: NDArray[np.float32], truth: NDArray[np.int64]
) -> ClassificationReport:
    """Measure confidences [N, L] against the places [N] of the right labels (N at least 1)."""
    import numpy as np

    from wordsight.evaluate.calibration import expected_calibration_error, reliability_bins

    count = confidences.shape[1]
    predicted = confidences.argmax(axis=1)
    right = predicted == truth
    best = np.clip(confidences.max(axis=1), 0, 1)
    top3 = np.argsort(-confidences, axis=1, kind="stable")[:, :3]
    bins = reliability_bins(best, right)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return ClassificationReport(
        images=len(truth),
        accuracy=float(right.mean()),
        top3_accuracy=float((top3 == truth[:, None]).any(axis=1).mean()),
        ece=expected_calibration_error(best, right),
        confusion=confusion,
        bin_confidence=bins.confidence,
        bin_accuracy=bins.accuracy,
        bin_count=bins.count,
    )
