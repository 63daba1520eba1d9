"""Which images are worth comparing: those nearest to each, by the model's vectors and by prints.

Every image is held against every other one, a part of them in memory: as much as wordsight keeps
of vectors anywhere (1 GiB, or what ``WORDSIGHT_EXACT_MB`` says). Where they are more, they are read
from the disk once for each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from wordsight.library import Prints, Store, exact_bytes, image_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEIGHBOURS = 5
"""So many of the nearest images, by the vectors and by the prints, are compared with each."""

_DESCRIPTOR = 12  # pixels a side
_ROWS, _COLUMNS = 1024, 4096  # images whose scores are in memory at once

Space = Callable[[], "Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]"]
"""Reads numbers of images [n] and their vectors [n, D], of unit length, block by block."""


def candidates(
    store: Store, prints: Prints, hashes: Sequence[str], numbers: Mapping[int, int]
) -> NDArray[np.intp]:
    """Pairs of images [P, 2], the lower number first, of which one is near the other.

    An image's number is the place of its file's hash in ``hashes``; ``numbers`` has it by the id.
    """
    return pairs_in(lambda: _by_vectors(store, numbers), lambda: _by_prints(prints, hashes))


def pairs_in(*spaces: Space) -> NDArray[np.intp]:
    """Pairs of numbers [P, 2], the lower one first, of which one is near the other in a space."""
    import numpy as np

    found = [pairs for space in spaces for pairs in _near(space)]
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.intp)


def _by_vectors(
    store: Store, numbers: Mapping[int, int]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    import numpy as np

    for ids, vectors in image_vectors(store):
        known = np.array([numbers.get(image, -1) for image in ids.tolist()], np.intp)
        yield known[known >= 0], vectors[known >= 0]


def _by_prints(
    prints: Prints, hashes: Sequence[str]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Prints made tiny, less their mean: their cosine tells which are worth comparing."""
    import numpy as np
    from PIL import Image
    from PIL.Image import Resampling

    size = (_DESCRIPTOR, _DESCRIPTOR)
    for begin in range(0, len(hashes), _COLUMNS):
        some = {known: begin + n for n, known in enumerate(hashes[begin : begin + _COLUMNS])}
        numbers, tiny = [], []
        for known, each in prints.read(list(some)):
            numbers.append(some[known])
            small = Image.fromarray(each.grey).resize(size, Resampling.BOX)
            tiny.append(np.asarray(small, np.float32).ravel())
        vectors = np.array(tiny, np.float32).reshape(len(numbers), _DESCRIPTOR**2)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        yield np.array(numbers, np.intp), vectors


def _near(space: Space) -> Iterator[NDArray[np.intp]]:
    """Pairs [n, 2] of images and those nearest to them, for a part of the images at a time."""
    import numpy as np

    begin = 0
    while True:
        own, vectors = _held(space, begin)
        if not len(own):
            return
        scores = np.full((len(own), NEIGHBOURS), -np.inf, np.float32)
        nearest = np.full((len(own), NEIGHBOURS), -1, np.intp)
        for numbers, others in space():
            for at in range(0, len(numbers), _COLUMNS):
                some = slice(at, at + _COLUMNS)
                for first in range(0, len(own), _ROWS):
                    rows = slice(first, first + _ROWS)
                    scores[rows], nearest[rows] = _merged(
                        scores[rows],
                        nearest[rows],
                        vectors[rows] @ others[some].T,
                        np.where(own[rows, None] == numbers[some], -1, numbers[some]),
                    )
        pairs = np.stack([np.repeat(own, NEIGHBOURS), nearest.ravel()], axis=1)
        yield np.sort(pairs[pairs[:, 1] >= 0], axis=1)
        begin += len(own)


def _merged(
    scores: NDArray[np.float32],
    nearest: NDArray[np.intp],
    more: NDArray[np.float32],
    numbers: NDArray[np.intp],
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The best of those that were best so far and of more; number -1 is none."""
    import numpy as np

    more[numbers < 0] = -np.inf
    scores = np.concatenate([scores, more], axis=1)
    numbers = np.concatenate([nearest, numbers], axis=1)
    best = np.argpartition(-scores, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    return np.take_along_axis(scores, best, 1), np.take_along_axis(numbers, best, 1)


def _held(space: Space, begin: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Images from place ``begin`` on, as many as may be in memory; one block at least."""
    import numpy as np

    numbers: list[NDArray[np.intp]] = []
    vectors: list[NDArray[np.float32]] = []
    place, room = 0, exact_bytes()
    for own, some in space():
        skipped = max(begin - place, 0)
        place += len(own)
        if skipped >= len(own):
            continue
        fitting = max(room // (some.shape[1] * some.itemsize), 0 if numbers else 1)
        numbers.append(own[skipped : skipped + fitting])
        vectors.append(some[skipped : skipped + fitting])
        room -= vectors[-1].nbytes
        if skipped + fitting < len(own):
            break
    if not numbers:
        return np.zeros(0, np.intp), np.zeros((0, 1), np.float32)
    return np.concatenate(numbers), np.concatenate(vectors)
