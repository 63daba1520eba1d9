"""What the bank's phrases find in a library: the null of the "No match" decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library.snapshot import Snapshot

_CELLS = 8_000_000  # scores in memory at once


@dataclass(frozen=True, slots=True)
class Found:
    """The images closest to each of B phrases (see :func:`wordsight.nomatch.closest`).

    ``z`` is float32 [B, 3], each phrase judged against the others; ``vectors`` [B, 3, D] are those
    of the views that won.
    """

    z: NDArray[np.float32] = field(repr=False)
    vectors: NDArray[np.float32] = field(repr=False)


def closest_of_bank(
    snapshot: Snapshot, bank: NDArray[np.float32], *, crops: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """z and views [B, 3] of the images closest to each of the bank's phrases [B, D]."""
    import numpy as np

    step = max(16, _CELLS // max(1, len(snapshot.rows)))
    parts = [
        closest_of(snapshot, bank[begin : begin + step], len(bank), crops=crops)
        for begin in range(0, len(bank), step)
    ]
    return np.concatenate([z for z, _ in parts]), np.concatenate([views for _, views in parts])


def closest_of(
    snapshot: Snapshot, phrases: NDArray[np.float32], bank: int, *, crops: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """z and views [P, 3] of the images closest to some phrases [P, D] of a bank of so many.

    Each phrase is judged against the others.
    """
    import numpy as np

    from wordsight.nomatch import closest, leave_one_out

    scores = snapshot.scores(phrases)
    fused, mean, sd = snapshot.fused(scores, crops)
    z = leave_one_out(fused, mean, sd, bank)
    images = closest(z)
    views = [
        snapshot.winners(those, each, crops) for those, each in zip(images, scores, strict=True)
    ]
    best = np.take_along_axis(z, images, axis=1).astype(np.float32)
    return best, np.array(views, np.int64).reshape(images.shape)
