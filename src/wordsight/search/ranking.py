"""Fusion of views, background normalisation, and the order of the hits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from wordsight.search.result import Hit, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library import Snapshot

RankBy = Literal["auto", "score", "lift", "z"]


@dataclass(slots=True)
class Scores:
    """What Q queries score at the V views and N images of a snapshot."""

    snapshot: Snapshot
    crops: bool
    """Whether views of crops count."""
    views: NDArray[np.float32]
    """Cosines, [Q, V]."""
    images: NDArray[np.float32]
    """The highest cosine of each image's views, [Q, N]."""
    mean: NDArray[np.float32]
    """Of the images' background, [N]; so is ``sd``."""
    sd: NDArray[np.float32]
    z: NDArray[np.float32]
    """``images`` in deviations of the background, [Q, N]."""
    _unrelated: dict[RankBy, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, vectors: NDArray[np.float32], crops: bool) -> Scores:
        """Those of query vectors [Q, D], in one matrix product."""
        from wordsight.nomatch import zscore

        views = snapshot.scores(vectors)
        images, mean, sd = snapshot.fused(views, crops)
        return cls(snapshot, crops, views, images, mean, sd, zscore(images, mean, sd))

    def unrelated(self, rank_by: RankBy) -> tuple[float, float]:
        """Mean and sd of what unrelated words are ranked by."""
        if rank_by not in self._unrelated:
            middle = ranked_by(rank_by, self.mean, self.mean, self.sd)
            above = ranked_by(rank_by, self.mean + self.sd, self.mean, self.sd)
            self._unrelated[rank_by] = float(middle.mean()), float((above - middle).mean())
        return self._unrelated[rank_by]

    def limit_to(self, chosen: NDArray[np.bool_]) -> None:
        """Put the images that were not chosen, by a mask [N], behind all others."""
        import numpy as np

        self.images = np.where(chosen, self.images, -np.inf)
        self.z = np.where(chosen, self.z, -np.inf)


def ranked_by(
    rank_by: RankBy,
    fused: NDArray[np.float32],
    mean: NDArray[np.float32],
    sd: NDArray[np.float32],
) -> NDArray[Any]:
    """What images are ordered by, [N]."""
    from wordsight.nomatch import lift, zscore

    if rank_by == "score":
        return fused
    return lift(fused, mean) if rank_by == "lift" else zscore(fused, mean, sd)


def winning_rows(
    snapshot: Snapshot, order: NDArray[np.intp], view_scores: NDArray[np.float32], crops: bool
) -> list[int]:
    """For each image the place in the table of the view that won."""
    views = snapshot.winners(order, view_scores, crops)
    return [int(snapshot.rows[view]) for view in views]


def hits_of(
    order: NDArray[np.intp],
    rows: Sequence[dict[str, Any]],
    fused: NDArray[np.float32],
    z: NDArray[np.float32] | None,
    first: int = 1,
) -> list[Hit]:
    """The images at these places [k], in this order, with what the table says of the views.

    ``first`` is the rank of the first.
    """
    return [
        Hit(
            rank=rank,
            id=row["id"],
            path=row["path"],
            score=float(fused[n]),
            z=None if z is None else float(z[n]),
            label=row["label"],
            view=View(row["kind"], row["box"], row["region_label"]),
            width=row["width"],
            height=row["height"],
            metadata=row["metadata"],
        )
        for rank, (n, row) in enumerate(zip(order, rows, strict=True), start=first)
    ]


def by_time(hit: Hit, *, newest_first: bool) -> float:
    """Places hits in time; a time without its zone counts as one of this machine's zone."""
    try:
        time = datetime.fromisoformat(hit.metadata["taken"]).timestamp()
    except (KeyError, ValueError, OverflowError, OSError):
        return math.inf
    return -time if newest_first else time


_TOP_BLOCK = 128


def top(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Places of the k highest values, best first; ties in the order of the library."""
    import numpy as np

    k = min(k, len(values))
    if k == 0:
        return np.zeros(0, np.intp)
    if k == len(values):
        return _descending(values)
    # k blocks have a maximum of at least this, so the k-th highest value is no less. It leaves few,
    # and costs a quarter of a partition of all values.
    blocks = len(values) // _TOP_BLOCK
    some = values[: blocks * _TOP_BLOCK].reshape(blocks, -1).max(axis=1) if blocks > k else values
    least = np.partition(some, len(some) - k)[len(some) - k]
    kept = np.flatnonzero(values >= least)
    return kept[_descending(values[kept])][:k]


def _descending(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Places of values, highest first, ties in theirs: a stable argsort in a quarter of its time.

    The bits of a float rise with it, those of a negative one fall. With its place behind them they
    make one integer, and numpy sorts these with vector instructions.
    """
    import numpy as np

    negated = (0 - values).astype(np.float32, copy=False)  # not -values: 0 and -0 are equal
    bits = negated.view(np.int32)
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys = np.sort((rising << 32) | np.arange(len(values)))
    return (keys & 0xFFFFFFFF).astype(np.intp)
