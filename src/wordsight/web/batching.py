"""Micro-batching: questions that come at about the same time are answered by one call.

A text tower and a matrix product cost little more for many prompts than for one. While a batch is
being answered the next one gathers. Who is alone never waits. Who was just answered in company may
well ask again at once, so the next batch is held back until as many are there as were before, but
for no more than a quarter of the time that a batch took: without this, those who ask again and
again part into two groups that wait for each other, and each batch does half the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wordsight.web.guard import Problem

Q = TypeVar("Q")
S = TypeVar("S", bound=Hashable)
R = TypeVar("R")

WAIT = 0.004
"""Seconds after a batch for which the next one may always be held back."""
SHARE = 0.25
"""The same as a share of the time that batches took of late, where that is longer."""
LOOK = 0.002
"""Seconds between two looks at how many have come."""
MOST = 64
"""Questions in one batch."""
QUEUE = 512
"""Questions that may wait; one more gets 503."""
PATIENCE = 20.0
"""Seconds that a question waits for its batch to begin before it gets 503."""


@dataclass(slots=True)
class _Waiting(Generic[Q, S, R]):
    question: Q
    settings: S
    answer: asyncio.Future[R]
    patience: asyncio.TimerHandle

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher(Generic[Q, S, R]):
    """Gathers questions for ``answer``, which runs in a thread of its own, one call at a time.

    ``answer`` takes questions that share their settings and gives, for each, its answer or the
    exception that this one question deserves.
    """

    def __init__(self, answer: Callable[[list[Q], S], Sequence[R | Exception]]) -> None:
        self._answer = answer
        self._waiting: list[_Waiting[Q, S, R]] = []
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1)  # always the same: each keeps memory of its own

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Q, settings: S) -> R:
        """The answer to one question; raises Problem when there is none in time."""
        if len(self._waiting) >= QUEUE:
            raise _busy()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        patience = loop.call_later(PATIENCE, _give_up, answer)
        self._waiting.append(_Waiting(question, settings, answer, patience))
        self._wake.set()
        return await answer

    def start(self) -> None:
        """Begin to answer; needs a running event loop."""
        self._wake = asyncio.Event()  # one belongs to the loop that it was first used in
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Let the batch under way finish and turn away the rest."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._waiting:
            waiting.patience.cancel()
            waiting.fail(Problem(503, "the server is shutting down"))
        self._waiting.clear()
        self._thread.shutdown()

    async def _work(self) -> None:
        company, took, until = 1, 0.0, 0.0
        while True:
            await self._wake.wait()
            while len(self._waiting) < company and time.monotonic() < until:
                await asyncio.sleep(LOOK)
            started = time.monotonic()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            for waiting in batch:
                waiting.patience.cancel()
            # Whoever gave up meanwhile is not worked for.
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            groups: dict[S, list[_Waiting[Q, S, R]]] = {}
            for waiting in batch:
                groups.setdefault(waiting.settings, []).append(waiting)
            try:
                for settings, group in groups.items():
                    await self._settle(group, settings)
            except asyncio.CancelledError:
                self._waiting = [*batch, *self._waiting]  # for stop() to turn away
                raise
            company = min(MOST, len(batch) + len(self._waiting))
            ended = time.monotonic()
            took = max(ended - started, took / 2)  # a small batch after a large one counts less
            until = ended + max(WAIT, SHARE * took)
            if not self._waiting:
                self._wake.clear()

    async def _settle(self, group: list[_Waiting[Q, S, R]], settings: S) -> None:
        answers: Sequence[R | Exception]
        try:
            questions = [waiting.question for waiting in group]
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._thread, self._answer, questions, settings)
        except Exception as error:
            answers = [error] * len(group)
        for waiting, answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                waiting.fail(answer)
            elif not waiting.answer.done():
                waiting.answer.set_result(answer)


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(_busy())


def _busy() -> Problem:
    return Problem(503, "too many searches at once", {"Retry-After": "2"})
