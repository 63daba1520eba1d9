"""Memory: a budget for what is decoded at once; what was freed goes back to the system."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import lru_cache


class MemoryBudget:
    """Bytes that several threads may hold between them; who needs more than all of it goes alone.

    ``peak`` is the most that was held at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        self._held = 0
        self._first = 0  # how many wait that go first
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, count: int, *, first: bool = False) -> Iterator[None]:
        """Wait until ``count`` bytes are free, or nobody holds any; hold them meanwhile.

        With ``first``, before all others that wait. A thread that holds some already must not ask
        for more: two such could wait for ever.
        """

        def may_go() -> bool:
            fits = not self._held or self._held + count <= self.limit
            return fits and (first or not self._first)

        with self._changed:
            self._first += first
            try:
                self._changed.wait_for(may_go)
            finally:
                if first:
                    self._first -= 1
                    self._changed.notify_all()
            self._held += count
            self.peak = max(self.peak, self._held)
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()


@lru_cache(maxsize=1)
def return_freed_memory() -> None:
    """Have glibc give freed pixels back to the system; elsewhere nothing happens.

    Once a large block was freed it keeps blocks of up to 32 MiB for later, in every thread: 1.6 GB
    resident where 0.8 are in use (``benchmarks/memory.py``). A fixed threshold, which is what this
    sets for the process, stops that (mallopt(3), M_MMAP_THRESHOLD). What it has kept so far
    is given back too: 280 MB, where a ViT-B/32's text tower was just used for the first time.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 20)
        libc.malloc_trim(0)
