"""How alike two pictures are, pixel for pixel: small grey prints, laid over each other.

A print is a grey thumbnail. Two of them are compared by their details (what is left once a blurred
copy is taken off), so that a bright sky above a dark ground makes no two pictures alike. The middle
of one is looked for in the other, at several sizes, by the Fourier transform (normalised
cross-correlation: J. P. Lewis, "Fast Template Matching", 1995); then one is shifted, turned and
scaled over the other until they agree best, and the correlation of what they share is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SIDE = 64
"""The long side of a print, in pixels."""

_SHORTEST = 16
_BLUR = SIDE / 24
_MIDDLE = 0.8  # of each side of the one that is looked for in the other
_SIZES = (0.6, 0.66, 0.72, 0.79, 0.86, 0.93, 1.0, 1.075, 1.15)
_WORTH_FITTING = 0.3
_SHARED = 0.45  # of the smaller one's area; less in common is too little to judge by
_FLAT = 1.0  # grey levels; details below that are noise of the compression
_Place = tuple[float, float, float, float]  # scale, angle, and shift to the right and down


def print_of(image: Image) -> NDArray[np.uint8]:
    """The print of a picture: grey, uint8 [height, width], the longer side :data:`SIDE`."""
    import numpy as np
    from PIL.Image import Resampling

    scale = SIDE / max(image.size)
    width, height = (max(_SHORTEST, round(side * scale)) for side in image.size)
    how = Resampling.BOX if scale < 1 else Resampling.BICUBIC
    return np.asarray(image.convert("L").resize((width, height), how), np.uint8)


def sharpness(image: Image) -> float:
    """How much of a picture's contrast lies in its finest details (variance of the Laplacian,
    against that of the grey itself); comparable between pictures of one scene and size.
    """
    import numpy as np

    grey = np.asarray(image.convert("L"), np.float32)
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(4 * middle - around) / (np.var(grey) + 1.0))


class Details:
    """A print made ready to be compared."""

    def __init__(self, grey: NDArray[np.uint8]) -> None:
        import numpy as np
        from PIL import Image as pil

        pixels = grey.astype(np.float32)
        details = pixels - _blurred(pixels)
        self.pixels: NDArray[np.float32] = details - details.mean()
        self.height, self.width = self.pixels.shape
        self.image = pil.fromarray(self.pixels)
        self.waves = np.fft.rfft2(self.pixels, (SIDE, SIDE))
        self.energy = np.zeros((self.height + 1, self.width + 1))
        self.energy[1:, 1:] = np.square(self.pixels, dtype=np.float64).cumsum(0).cumsum(1)
        self.is_flat = bool(self.pixels.std() < _FLAT)

    @cached_property
    def middles(self) -> _Middles:
        """The middle of the print at all sizes at which it is looked for in others."""
        import numpy as np
        from PIL.Image import Resampling

        x, y = self.width * (1 - _MIDDLE) / 2, self.height * (1 - _MIDDLE) / 2
        box = (x, y, self.width - x, self.height - y)
        shapes, lengths, waves = [], [], []
        for size in _SIZES:
            height, width = (round(side * _MIDDLE * size) for side in (self.height, self.width))
            small = self.image.resize((width, height), Resampling.BILINEAR, box)
            pixels = np.asarray(small)
            shapes.append((height, width))
            lengths.append(float(np.linalg.norm(pixels)))
            waves.append(np.conj(np.fft.rfft2(pixels, (SIDE, SIDE))).astype(np.complex64))
        return _Middles(shapes, lengths, np.stack(waves))


@dataclass(frozen=True, slots=True)
class _Middles:
    shapes: list[tuple[int, int]]
    lengths: list[float]
    waves: NDArray[np.complex64]  # [sizes, SIDE, SIDE // 2 + 1]


def likeness(a: Details, b: Details) -> float:
    """The correlation of two pictures' details where they agree best, up to 1: the same picture.

    One may be a part of the other, to six tenths of its sides, turned by some degrees, brighter
    or smaller. Mirrored pictures, and those on their side, are different ones.
    """
    if a.is_flat or b.is_flat:
        return 0.0
    score, place = _found(a, b)
    other, elsewhere = _found(b, a)
    if other > score:
        a, b, score, place = b, a, other, elsewhere
    return score if score < _WORTH_FITTING else _fitted(a, b, place)


def _blurred(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    reach = round(3 * _BLUR)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _BLUR**2)).astype(np.float32)
    bell /= bell.sum()
    padded = np.pad(pixels, reach, mode="edge")
    for axis in (0, 1):
        padded = np.lib.stride_tricks.sliding_window_view(padded, len(bell), axis) @ bell
    return padded


def _found(a: Details, b: Details) -> tuple[float, _Place]:
    """Where in ``a`` the middle of ``b`` fits best, and how well."""
    import numpy as np

    middles = b.middles
    fits = [
        k
        for k, (height, width) in enumerate(middles.shapes)
        if height <= a.height and width <= a.width
    ]
    best: tuple[float, _Place] = (-1.0, (1.0, 0.0, 0.0, 0.0))
    if not fits:
        return best
    products = np.fft.irfft2(a.waves * middles.waves[fits], (SIDE, SIDE), axes=(1, 2))
    total = a.energy
    for k, product in zip(fits, products, strict=True):
        height, width = middles.shapes[k]
        down, across = a.height - height + 1, a.width - width + 1
        energy = (
            total[height : height + down, width : width + across]
            - total[:down, width : width + across]
        )
        energy = energy - total[height : height + down, :across] + total[:down, :across]
        least = _FLAT**2 * height * width
        scores = product[:down, :across] / np.sqrt(np.maximum(energy, least))
        at = int(scores.argmax())
        score = float(scores.flat[at]) / max(middles.lengths[k], 1e-6)
        if score > best[0]:
            y, x = divmod(at, across)
            scale = height / (b.height * _MIDDLE)
            edge = scale * (1 - _MIDDLE) / 2
            best = score, (scale, 0.0, x - edge * b.width, y - edge * b.height)
    return best


def _fitted(a: Details, b: Details, place: _Place) -> float:
    """The best score around a place, one of scale, angle and shift changed at a time."""
    best = _score_at(a, b, place)
    steps = [0.03, 0.025, 0.6, 0.6]
    for _ in range(4):
        for which, step in enumerate(steps):
            for sign in (1, -1):
                trial = _moved(b, place, which, sign * step)
                score = _score_at(a, b, trial)
                if score > best:
                    best, place = score, trial
                    break
        steps = [0.6 * step for step in steps]
    return best


def _moved(b: Details, place: _Place, which: int, step: float) -> _Place:
    scale, angle, x, y = place
    if which == 0:  # about the middle, or it would be a shift too
        change = scale * step
        return scale + change, angle, x - change * b.width / 2, y - change * b.height / 2
    return (scale, angle + step * (which == 1), x + step * (which == 2), y + step * (which == 3))


def _score_at(a: Details, b: Details, place: _Place) -> float:
    """The correlation over all that both show, with ``b`` laid over ``a`` at a place."""
    import math

    import numpy as np
    from PIL.Image import Resampling, Transform

    scale, angle, x, y = place
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    middle_x, middle_y = a.width / 2, a.height / 2
    to_b = (
        cos, sin, (middle_x - x) / scale - cos * middle_x - sin * middle_y,
        -sin, cos, (middle_y - y) / scale + sin * middle_x - cos * middle_y,
    )  # fmt: skip
    laid = np.asarray(
        b.image.transform(
            (a.width, a.height), Transform.AFFINE, to_b, Resampling.BILINEAR, fillcolor=1e9
        )
    )
    shared = laid < 1e8
    area = min(a.pixels.size, b.pixels.size * scale**2)
    if shared.sum() < _SHARED * area:
        return -1.0
    one, two = a.pixels[shared], laid[shared]
    length = math.sqrt(float(one @ one) * float(two @ two))
    return float(one @ two) / max(length, _FLAT**2 * len(one))
