"""From logits to confidences: softmax, sigmoid, and the temperature that makes them honest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    import numpy as np

    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function, without overflow."""
    import numpy as np

    result: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * logits))
    return result


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.integer[Any]]) -> float:
    """The temperature T > 0 for which softmax(logits / T) has the lowest log loss.

    ``logits`` [N, L], ``truth`` [N] the right labels' places. Source: Guo et al. 2017, "On
    Calibration of Modern Neural Networks", section 4.2. A golden-section search over log T
    between 1/100 and 100; the loss has one minimum there.
    """
    import numpy as np

    def loss(log_t: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_t)
        scaled -= scaled.max(axis=1, keepdims=True)
        right = scaled[np.arange(len(truth)), truth]
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - right))

    low, high = -np.log(100), np.log(100)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))
