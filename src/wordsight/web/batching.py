"""Micro-batching: questions that come at about the same time are answered by one call.

A text tower and a matrix product cost little more for many prompts than for one. While a batch is
being answered the next one gathers. Who is alone never waits: only when the last batch had company
is a new one held back, for as long as others keep coming within milliseconds of each other, and for
no more than a tenth of the time that the last one took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from wordsight.web.guard import Problem

Q = TypeVar("Q")
S = TypeVar("S", bound=Hashable)
R = TypeVar("R")

WAIT = 0.004
"""Seconds that a batch is held back for one more to come."""
SHARE = 0.1
"""What holding back may add, all in all, to the time of a batch."""
MOST = 64
"""Questions in one batch."""
QUEUE = 512
"""Questions that may wait; one more gets 503."""
PATIENCE = 10.0
"""Seconds that a question waits for its answer before it gets 503."""


@dataclass(slots=True)
class _Waiting(Generic[Q, S, R]):
    question: Q
    settings: S
    answer: asyncio.Future[R]


class Batcher(Generic[Q, S, R]):
    """Gathers questions for ``answer``, which runs in a thread, one call at a time.

    ``answer`` takes questions that share their settings and gives, for each, its answer or the
    exception that this one question deserves.
    """

    def __init__(self, answer: Callable[[list[Q], S], Sequence[R | Exception]]) -> None:
        self._answer = answer
        self._waiting: list[_Waiting[Q, S, R]] = []
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Q, settings: S) -> R:
        """The answer to one question; raises Problem when there is none in time."""
        if len(self._waiting) >= QUEUE:
            raise _busy()
        waiting = _Waiting[Q, S, R](question, settings, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        try:
            return await asyncio.wait_for(waiting.answer, PATIENCE)
        except asyncio.TimeoutError:
            raise _busy() from None

    def start(self) -> None:
        """Begin to answer; needs a running event loop."""
        self._wake = asyncio.Event()  # one belongs to the loop that it was first used in
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Let the batch under way finish and turn away the rest."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._waiting:
            if not waiting.answer.done():
                waiting.answer.set_exception(Problem(503, "the server is shutting down"))
        self._waiting.clear()

    async def _work(self) -> None:
        company = False
        took = 0.0
        while True:
            await self._wake.wait()
            started = time.monotonic()
            if company:
                await self._gather(started + max(WAIT, SHARE * took))
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            if not self._waiting:
                self._wake.clear()
            # Whoever gave up meanwhile is not worked for.
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            company = len(batch) > 1
            groups: dict[S, list[_Waiting[Q, S, R]]] = {}
            for waiting in batch:
                groups.setdefault(waiting.settings, []).append(waiting)
            for settings, group in groups.items():
                await self._settle(group, settings)
            took = time.monotonic() - started

    async def _gather(self, until: float) -> None:
        before = 0
        while before < len(self._waiting) < MOST and time.monotonic() < until:
            before = len(self._waiting)
            await asyncio.sleep(WAIT)

    async def _settle(self, group: list[_Waiting[Q, S, R]], settings: S) -> None:
        answers: Sequence[R | Exception]
        try:
            questions = [waiting.question for waiting in group]
            answers = await asyncio.to_thread(self._answer, questions, settings)
        except Exception as error:
            answers = [error] * len(group)
        except asyncio.CancelledError:
            self._waiting = [*group, *self._waiting]  # for stop() to turn away
            raise
        for waiting, answer in zip(group, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)


def _busy() -> Problem:
    return Problem(503, "too many searches at once", {"Retry-After": "2"})
