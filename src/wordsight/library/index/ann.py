"""An approximate index: the vectors of a large library in four bits a dimension, scanned whole.

Vectors are rotated onto their principal components (at most 256 of them, then turned at random so
that each carries as much), and every component is kept as one of 16 values: product quantisation
with one dimension a code (Jégou et al., 2011), scored with tables that stay in the processor's
registers (Quicker ADC, André et al., 2019; faiss calls it fast scan). That is 128 bytes a view
against 2,048 in float32. The caller scores the best few hundred exactly.

The whole index is scanned, so no view is ever out of reach. Indexes that look at a part of the
vectors only (inverted lists, graphs) lean on queries that lie among them; words do not lie among
images in CLIP's space. ARCHITECTURE.md has what Lance's and faiss's find in equal time
(``python -m benchmarks.vector_indexes``).
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wordsight.paths import drafted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_COMPONENTS = 256
TRAINING_VECTORS = 40_000
"""As many are enough to learn the components and the values from."""
PART = 1 << 16
"""Vectors in a part of an index, at least; small ones, so that no core waits long for the other."""


class ApproximateIndex:
    """Places of the vectors that score highest for a query, nearly always right.

    ``mean`` is float32 [D], what all vectors have in common; it only shifts the scores of a query.
    ``parts`` share what was learnt and hold the vectors in order: one scan uses one core, so each
    part has its own. The first of them is the vector of row ``begin``.
    """

    def __init__(self, parts: Sequence[Any], mean: NDArray[np.float32], begin: int = 0) -> None:
        self._parts = list(parts)
        self._mean = mean
        self.begin = begin
        self._pool = ThreadPoolExecutor(min(len(self._parts), os.cpu_count() or 1) or 1, "scan")

    def __len__(self) -> int:
        return sum(int(part.ntotal) for part in self._parts)

    @classmethod
    def build(
        cls, sample: NDArray[np.float32], vectors: Iterable[NDArray[np.float32]]
    ) -> ApproximateIndex:
        """Learn from a random sample [n, D] (16 at least), then take in the vectors [*, D]."""
        faiss = _faiss()

        mean = sample.mean(axis=0)
        components = min(MOST_COMPONENTS, sample.shape[1], len(sample))
        components -= components % 2  # two codes make a byte
        empty: Any = faiss.index_factory(
            sample.shape[1],
            f"PCAR{components},PQ{components}x4fs",
            faiss.METRIC_INNER_PRODUCT,
        )
        # Small libraries have fewer vectors than faiss asks for; its warning would help no user.
        codes: Any = faiss.downcast_index(empty.index)
        codes.pq.cp.min_points_per_centroid = 1
        empty.train(sample - mean)
        parts = [faiss.clone_index(empty)]
        for some in vectors:
            if parts[-1].ntotal >= PART:
                parts.append(faiss.clone_index(empty))
            parts[-1].add(some - mean)
        return cls(parts, mean)

    def search(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the ``count`` best, queries [Q, D] -> [Q, count] each.

        Fewer end with scores of -inf and rows of -1.
        """
        import numpy as np

        asked = np.ascontiguousarray(queries, np.float32)
        found = list(self._pool.map(lambda part: part.search(asked, count), self._parts))
        begins = np.cumsum([self.begin, *(int(part.ntotal) for part in self._parts[:-1])])
        rows = [
            np.where(places >= 0, places + begin, -1)
            for begin, (_, places) in zip(begins, found, strict=True)
        ]
        return best_of([scores for scores, _ in found], rows, count)

    def save(self, path: Path) -> None:
        """Write to a file that appears whole or not at all. Raises OSError."""
        import numpy as np

        faiss = _faiss()

        with drafted(path) as draft, draft.open("wb") as file:
            np.save(file, self._mean)
            np.save(file, np.int64(len(self._parts)))
            crc = zlib.crc32(self._mean.data)
            table = []
            for part in self._parts:
                codes = faiss.serialize_index(part)
                np.save(file, codes)
                crc = zlib.crc32(codes, crc)
                table.append((int(part.ntotal), zlib.crc32(codes)))
            np.save(file, np.int64(crc))
            np.save(file, np.array(table, np.int64).reshape(-1, 2))  # for those who read some
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path, share: tuple[int, int] = (0, 1)) -> ApproximateIndex:
        """Read what :meth:`save` wrote; with a ``share`` (n, of) the n-th of so many slices of it.

        Raises OSError, or ValueError when it is damaged or cannot be cut so.
        """
        import numpy as np

        faiss = _faiss()

        n, of = share
        try:
            with path.open("rb") as file:
                mean, count = np.load(file), int(np.load(file))
                begins = [_skip(file) for _ in range(count)]
                whole = int(np.load(file))
                table = np.load(file) if _is_more(file) else None
                if count < of or (of > 1 and table is None):
                    raise ValueError(f"{path} cannot be cut into {of} slices")
                chosen = range(n * count // of, (n + 1) * count // of)
                crc, parts = zlib.crc32(mean.data), []
                for i in chosen:
                    file.seek(begins[i])
                    codes = np.load(file)
                    crc = zlib.crc32(codes, crc)
                    if table is not None and zlib.crc32(codes) != table[i, 1]:
                        raise ValueError(f"{path} is damaged")
                    parts.append(faiss.deserialize_index(codes))
                if of == 1 and crc != whole:
                    raise ValueError(f"{path} is damaged")
            return cls(parts, mean, 0 if table is None else int(table[: chosen.start, 0].sum()))
        except (EOFError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path} is no whole index: {error}") from None


def best_of(
    scores: Sequence[NDArray[np.float32]], rows: Sequence[NDArray[np.int64]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``count`` best of several answers [Q, *], ties in their order: scores and rows.

    Of answers of answers too: it does not matter which were put together first.
    """
    import numpy as np

    all_rows = np.concatenate(rows, axis=1)
    all_scores = np.where(all_rows >= 0, np.concatenate(scores, axis=1), np.float32(-np.inf))
    best = np.argsort(-all_scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(all_scores, best, 1), np.take_along_axis(all_rows, best, 1)


def parts_of(path: Path) -> int:
    """How many parts an index has that :meth:`ApproximateIndex.save` wrote. Raises OSError."""
    import numpy as np

    with path.open("rb") as file:
        _skip(file)
        return int(np.load(file))


def _skip(file: BinaryIO) -> int:
    """Go past an array in a file; where it begins."""
    import numpy as np

    begin = file.tell()
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    file.seek(math.prod(shape) * dtype.itemsize, os.SEEK_CUR)
    return begin


def _is_more(file: BinaryIO) -> bool:
    """Whether anything follows; earlier versions of wordsight wrote no table of the parts."""
    more = bool(file.read(1))
    file.seek(-more, os.SEEK_CUR)
    return more


def _faiss() -> Any:
    """The faiss module; its threads sleep while they wait for each other.

    By default they spin, and on a busy machine they then take the cores that the others need: an
    index of 3,000 vectors took minutes there, and 12 s so.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import faiss

    return faiss
