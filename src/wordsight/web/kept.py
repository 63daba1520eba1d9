"""What visitors hand in and come back for within a day: images to search with, selections."""

from __future__ import annotations

import secrets
import time
from typing import Generic, TypeVar

from wordsight.web.guard import Problem

T = TypeVar("T")

SECONDS = 86_400.0
"""How long a thing is kept, unless others push it out."""
MOST_BYTES = 64 << 20


class Kept(Generic[T]):
    """Things by a name that nobody can guess; the oldest go when there are too many bytes.

    They are in memory: nothing of a visitor's is left when the server ends.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._things: dict[str, tuple[float, int, T]] = {}

    def put(self, thing: T, size: int) -> str:
        """Keep a thing of ``size`` bytes; its name, 32 hexadecimal digits."""
        name = secrets.token_hex(16)
        self._things[name] = time.monotonic() + SECONDS, size, thing
        total = sum(size for _, size, _ in self._things.values())
        for old, (until, its_size, _) in list(self._things.items()):
            if old == name or (until > time.monotonic() and total <= MOST_BYTES):
                break
            self._things.pop(old, None)
            total -= its_size
        return name

    def get(self, name: str) -> T:
        """A thing by its name. Raises Problem 404 when it is kept no more."""
        until, _, thing = self._things.get(name, (0.0, 0, None))
        if thing is None or until < time.monotonic():
            raise Problem(404, f"this {self._what} has expired; it was kept for a day at most")
        return thing
