"""Work that takes time, told on standard error: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

LINE_SECONDS = 4.0
"""In a pipe, how long work goes on without a line about it."""

FIRST_SECONDS = 2.0
"""How long it goes on without the first one, from the last word that was said."""

_spoken = time.monotonic()  # when something was last said; before that, when the program began

Report = Callable[[int, "int | None"], None]
"""Takes how much is done, and how much there is in all, if that is known."""


def said() -> None:
    """Note that something was said just now, so that the next line about work may wait."""
    global _spoken  # noqa: PLW0603
    _spoken = time.monotonic()


def _first_pause() -> float:
    """Seconds until a first line: what is done soon is not told of, however long it was silent."""
    return max(FIRST_SECONDS / 4, FIRST_SECONDS - (time.monotonic() - _spoken))


def size(number: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what is waited for, every few seconds until it is there; nothing if that is soon."""
    with lines(lambda done, total: text):
        yield


@contextmanager
def lines(line: Callable[[int, int | None], str]) -> Iterator[Report]:
    """Say a line about what was last reported every few seconds, whether or not it changed."""
    last: tuple[int, int | None] = (0, None)
    finished = threading.Event()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        last = (done, total)

    def tell() -> None:
        pause = _first_pause()
        while not finished.wait(pause):
            print(line(*last), file=sys.stderr, flush=True)
            said()
            pause = LINE_SECONDS

    teller = threading.Thread(target=tell, daemon=True, name="progress")
    teller.start()
    try:
        yield report
    finally:
        finished.set()
        teller.join()


@contextmanager
def bar(title: str, *columns: ProgressColumn) -> Iterator[Report]:
    """Show a bar on the terminal, with these columns between it and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    every = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*every, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def transfer(title: str, had: int = 0) -> Iterator[Report]:
    """Show bytes that come; ``had`` of them were here before."""
    with _bytes(title) if sys.stderr.isatty() else _rates(title, had) as report:
        yield report


@contextmanager
def _bytes(title: str) -> Iterator[Report]:
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with bar(title, DownloadColumn(), TransferSpeedColumn()) as report:
        yield report


@contextmanager
def _rates(title: str, had: int) -> Iterator[Report]:
    before, began = had, time.monotonic()  # at the last line

    def line(done: int, total: int | None) -> str:
        nonlocal before, began
        now = time.monotonic()
        rate, before, began = (done - before) / (now - began), done, now
        if total is None or rate <= 0:
            return f"{title}: {size(max(done, had))} are here; waiting for the server"
        left = _left((total - done) / rate)
        return f"{title}: {size(done)} of {size(total)}, {size(rate)}/s, {left}"

    with lines(line) as report:
        yield report


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"
