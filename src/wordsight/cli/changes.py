"""``wordsight index --watch``: again whenever something changes in the folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wordsight.errors import WordsightError
from wordsight.paths import expanded

_QUIET_MS = 1000  # files that are being copied change all the time: wait until nothing does
_MOST_MS = 10_000  # but no longer than this


def check(paths: Sequence[str]) -> None:
    """Raise WordsightError where these cannot be watched: none is on the disk, or no extra."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise WordsightError(
            '--watch needs watchfiles; install it with: pip install "wordsight[watch]"'
        ) from None
    for path in paths:
        if not os.path.exists(expanded(path)):  # noqa: PTH110  (whatever was typed)
            raise WordsightError(f"{path} cannot be watched: no such file or folder.")


def changes(paths: Sequence[str], library: Path) -> Iterator[None]:
    """Yield whenever something has changed in these places, and is quiet again.

    What is written in the library, which may lie in one of them, does not count.
    """
    from watchfiles import watch

    inside = os.path.join(os.path.realpath(library), "")  # noqa: PTH118

    def counts(_change: object, path: str) -> bool:
        return not os.path.join(path, "").startswith(inside)  # noqa: PTH118

    places = [os.path.realpath(expanded(path)) for path in paths]
    for _ in watch(*places, watch_filter=counts, step=_QUIET_MS, debounce=_MOST_MS):
        yield
