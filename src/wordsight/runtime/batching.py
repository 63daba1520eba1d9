"""Graphs that were exported for one batch size, run on any number of rows.

Where the graph allows it the batch is left open; whether it does is tried once for each graph:
exporters may have written the size into the graph's middle, too. Else parts of
that size run beside each other, one a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from wordsight.runtime.graph import Graph, Tensor

    Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of a row's length: fp32 sums in another order differ by some 1e-6


class Parts:
    """A graph of a fixed batch as one of any batch: parts of that size, some at once.

    Args:
        graph: what runs a part; thread-safe, as all graphs are.
        batch: rows of a part; the last part is filled up with copies of its last row.
        at_once: how many parts run beside each other.
    """

    def __init__(self, graph: Graph, batch: int, at_once: int) -> None:
        self.path: Path = graph.path
        self.runtime = graph.runtime
        self.precision = graph.precision
        self.inputs = {name: _open_first(tensor) for name, tensor in graph.inputs.items()}
        self.outputs = {name: _open_first(tensor) for name, tensor in graph.outputs.items()}
        self._graph = graph
        self._batch = batch
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="parts")

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on all rows: arrays by input name -> new arrays by output name."""
        import numpy as np

        count = len(next(iter(feeds.values())))

        def part(start: int) -> dict[str, Array]:
            rows = {name: array[start : start + self._batch] for name, array in feeds.items()}
            if missing := start + self._batch - min(count, start + self._batch):
                rows = {
                    name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
                    for name, array in rows.items()
                }
            return self._graph(rows)

        found = list(self._pool.map(part, range(0, count, self._batch)))
        return {name: np.concatenate([one[name] for one in found])[:count] for name in found[0]}


def _open_first(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=(None, *tensor.shape[1:]))


def allows_free_batch(batch: int, as_it_is: Graph, free: Graph) -> bool:
    """Whether a graph gives the same vectors with an open batch as with its own size.

    Both are opened in fp32.
    """
    return _same_rows(Parts(as_it_is, batch, 1), free, 2 * batch + 1)


def _same_rows(fixed: Graph, free: Graph, count: int) -> bool:
    import numpy as np

    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for name, tensor in fixed.inputs.items():
        shape = (count, *(side or 16 for side in tensor.shape[1:]))
        is_real = tensor.dtype.startswith("float")
        feeds[name] = rng.standard_normal(shape) if is_real else rng.integers(1, 9, shape)
    expected, found = fixed(feeds), free(feeds)
    for name, rows in expected.items():
        if found[name].shape != rows.shape:
            return False
        a, b = (array.reshape(count, -1).astype(np.float64) for array in (rows, found[name]))
        allowed = _TOLERANCE * np.linalg.norm(a, axis=1)
        if not (np.linalg.norm(a - b, axis=1) <= allowed).all():
            return False
    return True
