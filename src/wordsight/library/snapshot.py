"""Views in memory, ready to be scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wordsight.library.table import STATISTICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All views of one version of a library, in memory and ready to be scored.

    ``vectors`` is float32 [V, D]; the views of image ``i`` are the rows from ``starts[i]`` to
    ``starts[i + 1]`` (the last one: to V), its whole image first. ``rows`` [V] are the places
    of the views in the table. ``ids`` [N] are the images; ``labels`` [N] their labels or None.
    ``mean`` and ``sd`` float32 [N] are the background statistics of the fused score,
    ``image_mean`` and ``image_sd`` those of the whole image alone.

    Of a large library it holds a part: ``sampled`` images, drawn at random, at the front, and
    behind them those that are near to a query. An image there has the views that are near, which
    need not be all; their vectors are ``near`` [n, D], the last n of the V. Elsewhere ``sampled``
    and ``near`` are None. ``answered`` is the share of the library's views that were looked at:
    below 1 where slices of a fleet were away.
    """

    version: int
    vectors: NDArray[np.float32]
    starts: NDArray[np.intp]
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    image_mean: NDArray[np.float32]
    image_sd: NDArray[np.float32]
    sampled: int | None = None
    near: NDArray[np.float32] | None = None
    answered: float = 1.0

    @property
    def has_crops(self) -> bool:
        """Whether any image has more than its whole-image view."""
        return len(self.rows) > len(self.ids)

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine of every view with every query, in -1..1: [..., D] -> [..., V]."""
        import numpy as np

        scores = self._products(queries)
        return np.clip(scores, -1, 1, out=scores)  # by rounding they reach beyond

    def _products(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        if self.near is None:
            scores: NDArray[np.float32] = queries @ self.vectors.T
            return scores
        # Not by BLAS: its threads wait busily for 25 ms after a product, and the next scan of the
        # index would share the cores with them: 27 ms instead of 13 over a million views.
        parts = (self.vectors, self.near)
        return np.concatenate([np.einsum("...d,vd->...v", queries, p) for p in parts], axis=-1)

    def vectors_of(self, views: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors of these views: [n] -> [n, D]."""
        import numpy as np

        if self.near is None:
            return self.vectors[views]
        found = np.empty((len(views), self.near.shape[1]), np.float32)
        behind = views >= len(self.vectors)
        found[~behind] = self.vectors[views[~behind]]
        found[behind] = self.near[views[behind] - len(self.vectors)]
        return found

    def fuse(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best score of each image's views: [..., V] -> [..., N] (max fusion)."""
        import numpy as np

        if not self.has_crops or not len(self.ids):
            return scores
        return np.maximum.reduceat(scores, self.starts, axis=-1)

    def fused(
        self, scores: NDArray[np.float32], crops: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Scores of the images [..., N], and the background mean and sd [N] that belong to them.

        ``scores`` [..., V] are those of the views; without ``crops`` whole images alone count.
        """
        if crops:
            return self.fuse(scores), self.mean, self.sd
        whole = scores[..., self.starts] if self.has_crops else scores
        return whole, self.image_mean, self.image_sd

    def winners(
        self, images: NDArray[np.intp], scores: NDArray[np.float32], crops: bool
    ) -> NDArray[np.intp]:
        """For each of these images [n] the view that won by its score, of the views' scores [V]."""
        import numpy as np

        begins = self.starts[images]
        if not crops or not self.has_crops or not len(images):
            return begins
        counts = np.append(self.starts[1:], len(self.rows))[images] - begins
        # The views of all these images one behind another, and where those of each begin.
        firsts = np.cumsum(counts) - counts
        views = np.arange(counts.sum()) + np.repeat(begins - firsts, counts)
        best = np.repeat(np.maximum.reduceat(scores[views], firsts), counts)
        winning = np.flatnonzero(scores[views] == best)
        _, first = np.unique(np.repeat(np.arange(len(images)), counts)[winning], return_index=True)
        won: NDArray[np.intp] = views[winning[first]]
        return won


def joined(sample: Snapshot, others: Snapshot) -> Snapshot:
    """A sample and other images behind it. The sample's vectors are not copied: 16 MB."""
    import numpy as np

    def both(name: str) -> Any:
        return np.concatenate([getattr(sample, name), getattr(others, name)])

    names = ("rows", "ids", *STATISTICS)
    return replace(
        sample,
        starts=np.concatenate([sample.starts, others.starts + len(sample.vectors)]),
        sampled=len(sample.ids),
        near=others.vectors,
        answered=others.answered,
        **{name: both(name) for name in names},
    )
