"""What makes a pair of pictures a duplicate: it is alike, and it stands out from its neighbours.

Most pairs of neighbours are *different* pictures of similar things, and how their likeness falls
off says how often two such reach any value by chance. The cut-off is where that happens to no more
than a stated share of the images, or where copies themselves would be lost; then the result says
how many wrong ones to expect.

Ten motorcycles on white are more alike than ten holiday photographs, and a library that has both
is given one cut-off. So a pair is held against the other neighbours of both its pictures too: their
median likeness is the background from which it has to stand out, as by the density of a point's
neighbourhood in outlier detection (Breunig et al., "LOF: Identifying Density-Based Local Outliers",
2000) and by the second nearest neighbour in matching (Lowe, "Distinctive Image Features from
Scale-Invariant Keypoints", 2004). How far it must stand out has a cut-off made in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEW = 2  # neighbours; fewer tell no background
_USUAL = 0.25  # then: that of photographs, as an artanh
_TAIL = 0.05  # the share of different pictures that tells how they fall off
_ENOUGH = 400  # pairs; fewer do not tell


@dataclass(frozen=True, slots=True)
class Measure:
    """What is known of a measure of pairs, from 0 (nothing alike) to 1, before they are seen.

    Hardly any copy is below ``copies``; the cut-off is between ``least``, below which no
    photographs are duplicates, and ``most``, above which copies are lost. ``typical`` is how
    photographs mixed with catalogue pictures fall off: begin and fall of a :class:`Tail`.
    """

    copies: float
    least: float
    most: float
    typical: tuple[float, float]


LIKENESS = Measure(0.85, 0.65, 0.89, (0.36, 0.137))
DISTINCTION = Measure(0.72, 0.6, 0.8, (0.15, 0.125))


def standing_out(pairs: NDArray[np.intp], alike: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """How much more alike the pictures of each pair are than their other neighbours [P], up to 1.

    ``pairs`` [P, 2] are numbers of images, ``alike`` [P] their likeness. On the scale of the
    likeness: where the others are not alike at all, it is the likeness itself.
    """
    import numpy as np

    z = np.arctanh(np.clip(alike, -0.999, 0.999))
    neighbours: dict[int, list[int]] = {}  # pairs of an image, but for those of its copies
    for n in np.flatnonzero(alike < LIKENESS.copies).tolist():
        for image in pairs[n].tolist():
            neighbours.setdefault(image, []).append(n)

    def background(image: int, pair: int) -> float:
        others = [z[n] for n in neighbours.get(image, ()) if n != pair]
        return float(np.median(others)) if len(others) >= _FEW else _USUAL

    behind = [max(background(a, n), background(b, n)) for n, (a, b) in enumerate(pairs.tolist())]
    distinct: NDArray[np.float64] = np.tanh(z - np.array(behind))
    return distinct


@dataclass(frozen=True, slots=True)
class Tail:
    """How a measure of ``pairs`` pairs of different pictures falls off towards 1.

    Of the artanh of it, a share of 0.05 is above ``begin``, and less and less beyond, by an
    exponential of the scale ``fall``.
    """

    measure: Measure
    pairs: int
    begin: float
    fall: float

    @classmethod
    def of(cls, measure: Measure, values: NDArray[np.floating[Any]]) -> Tail:
        """That of the pairs that were compared [P], duplicates among them.

        What is below ``measure.copies`` is taken for different pictures.
        """
        import numpy as np

        z = np.arctanh(np.clip(values, -0.999, 0.999))
        end = math.atanh(measure.copies)
        different = z[z < end]
        begin, fall = measure.typical
        if len(different) >= _ENOUGH:
            begin = float(np.quantile(different, 1 - _TAIL))
            fall = _fall_off(different[different > begin] - begin, end - begin)
        return cls(measure, len(different), begin, fall)

    def cut_off(self, expected: float) -> float:
        """The value that so many pairs are ``expected`` to reach by chance, within limits."""
        z = self.begin + self.fall * math.log(max(_TAIL * self.pairs / expected, 1.0))
        return min(max(math.tanh(z), self.measure.least), self.measure.most)

    def expected(self, cut_off: float) -> float:
        """How many pairs are expected to reach a value by chance."""
        return _TAIL * self.pairs * math.exp(-(math.atanh(cut_off) - self.begin) / self.fall)


def _fall_off(excess: NDArray[np.floating[Any]], end: float) -> float:
    """The likeliest scale of an exponential of which only what is below ``end`` was seen."""
    mean = float(excess.mean()) if len(excess) else 0.0
    low, high = 1e-3, 10.0
    for _ in range(50):
        scale = (low + high) / 2
        cut = end / math.expm1(end / scale) if end / scale < 500 else 0.0
        low, high = (scale, high) if scale - cut < mean else (low, scale)
    return low
