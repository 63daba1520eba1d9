"""Indexing from the page: folders that the server's owner has allowed, one job at a time.

A folder is named by an id that is made here; no path from a client is ever opened. A job has a
library of its own to write to, so searches go on meanwhile and see what it has written.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wordsight.errors import WordsightError
from wordsight.web.guard import Problem

if TYPE_CHECKING:
    from wordsight.api import Library

State = Literal["running", "done", "cancelled", "failed"]
_KEPT = 20  # finished jobs that are remembered


class _Cancelled(Exception):
    """Raised inside an indexing run to end it."""


@dataclass(slots=True)
class Job:
    """One indexing run: how far it is, and what came of it."""

    id: str
    folder: str
    path: str
    crops: str | None
    state: State = "running"
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    report: dict[str, Any] | None = None
    error: str | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, Any]:
        """What the API says about it; ``report`` is that of ``wordsight index --json``."""
        return {
            "id": self.id,
            "folder": self.folder,
            "path": self.path,
            "crops": self.crops,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds": round(self.seconds, 1),
            "report": self.report,
            "error": self.error,
        }


class Jobs:
    """The folders that may be indexed, and the jobs that index them, each in a thread."""

    def __init__(self, folders: Iterable[Path], open_library: Callable[[], Library]) -> None:
        paths = [Path(folder).resolve() for folder in folders]
        self.folders = {
            hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest(): path for path in paths
        }
        self._open_library = open_library
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.stopping = False

    def history(self) -> Sequence[Job]:
        """The jobs of this run of the server, newest first."""
        return tuple(reversed(tuple(self._jobs.values())))

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return any(job.state == "running" for job in self.history())

    def start(self, folder: str, crops: str | None) -> Job:
        """Index a folder by its id. Raises Problem: 404 unknown folder, 409 another job runs."""
        path = self.folders.get(folder)
        if path is None:
            raise Problem(
                404,
                f"folder {folder} is not allowed; to allow folders: wordsight serve --allow-index",
            )
        with self._lock:
            if self.running:
                raise Problem(409, "another job is running; wait for it or cancel it")
            job = Job(secrets.token_hex(8), folder, str(path), crops)
            self._jobs[job.id] = job
            while len(self._jobs) > _KEPT:
                del self._jobs[next(iter(self._jobs))]
            self._thread = threading.Thread(target=self._run, args=(job, path), name="index")
            self._thread.start()
        return job

    def get(self, job: str) -> Job:
        """A job by its id; Problem 404 when it is unknown."""
        try:
            return self._jobs[job]
        except KeyError:
            raise Problem(404, f"no job {job} since the server started") from None

    def cancel(self, job: str) -> Job:
        """Ask a job to end; what it has written is kept."""
        found = self.get(job)
        found.cancel.set()
        return found

    def cancel_all(self) -> None:
        """Ask whatever runs to end, without waiting for it; nobody need follow it any more."""
        self.stopping = True
        for job in self.history():
            job.cancel.set()

    def close(self) -> None:
        """End what runs and wait for it."""
        self.cancel_all()
        if self._thread:
            self._thread.join()

    def _run(self, job: Job, path: Path) -> None:
        started = time.monotonic()

        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            job.seconds = time.monotonic() - started
            if job.cancel.is_set():
                raise _Cancelled

        state: State = "failed"
        try:
            if job.cancel.is_set():
                raise _Cancelled
            library = self._open_library()
            report = library.index(path, crops=job.crops, progress=progress)
            job.report = {**report.to_json(), "library": str(library.place)}
            state = "done"
        except _Cancelled:
            state = "cancelled"
        except WordsightError as error:
            job.error = str(error)
        except Exception as error:
            job.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            job.seconds = time.monotonic() - started
            job.state = state  # last: whoever follows the job looks no more once it has ended
