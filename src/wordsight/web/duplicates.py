"""Near-duplicates for the page: looked for in a thread, one search at a time, its answer kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from wordsight.duplicates import find, read_prints
from wordsight.duplicates.prints import Progress
from wordsight.errors import WordsightError
from wordsight.web.guard import Problem

if TYPE_CHECKING:
    from wordsight.library import Store

State = Literal["none", "reading", "comparing", "done", "failed"]


class _Ended(Exception):
    """Raised inside a search to end it."""


class Finding:
    """The last search for duplicates since the server was started, or the one that is under way."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._state: State = "none"
        self._done = self._total = 0
        self._error: str | None = None
        self._found: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """How far it is; ``found`` is what ``wordsight duplicates --json`` prints, once it is."""
        return {
            "state": self._state,
            "done": self._done,
            "total": self._total,
            "error": self._error,
            "found": self._found,
        }

    def start(self, false_merge: float) -> dict[str, Any]:
        """Begin a search. Raises Problem 409 while another one is under way."""
        with self._lock:
            if self._state in ("reading", "comparing"):
                raise Problem(409, "a search for duplicates is already running; wait for it")
            self._at("reading")(0, 0)
            self._error = self._found = None
            self._thread = threading.Thread(
                target=self._run, args=(false_merge,), name="duplicates"
            )
            self._thread.start()
        return self.to_json()

    def close(self) -> None:
        """End what runs and wait for it."""
        self._ending.set()
        if self._thread:
            self._thread.join()

    def _at(self, state: State) -> Progress:
        def progress(done: int, total: int) -> None:
            if self._ending.is_set():
                raise _Ended
            self._state, self._done, self._total = state, done, total

        return progress

    def _run(self, false_merge: float) -> None:
        state: State = "failed"
        try:
            store = self._open_store()
            prints, skipped = read_prints(store, progress=self._at("reading"))
            found = find(store, prints, false_merge=false_merge, progress=self._at("comparing"))
            found.skipped = skipped
            self._found = {**found.to_json(), "table_version": store.version}
            state = "done"
        except _Ended:
            self._error = "the server was stopped"
        except WordsightError as error:
            self._error = str(error)
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._state = state  # last: whoever follows looks no more then
