"""The library behind the routes. What blocks runs in threads, a few at once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wordsight.classify import LABEL_SETS
from wordsight.errors import QueryError
from wordsight.library import Store
from wordsight.search import Query, Term, parse_query
from wordsight.web import pictures
from wordsight.web.batching import Batcher
from wordsight.web.catalogue import Catalogue
from wordsight.web.duplicates import Finding
from wordsight.web.guard import Problem
from wordsight.web.jobs import Jobs
from wordsight.web.kept import Kept
from wordsight.web.questions import UPLOAD_DIGITS, Question, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from wordsight.api import Library
    from wordsight.classify import Classification, Classifier
    from wordsight.search import Result

T = TypeVar("T")

AT_ONCE = 4
"""Pictures and the like that are made at one time."""
DRAWN_AT_ONCE = max(1, (os.cpu_count() or 1) - 1)
"""Thumbnails: the first one soon rather than many at last, and a core for what answers requests."""
PATIENCE = 10.0
"""Seconds that one more waits for its turn before it gets 503."""
JUDGING_PATIENCE = 60.0
"""The same for classifications, which are made one after the other."""
SUGGESTED = 12
"""Words that are suggested at most."""
_SCORES = 2**25  # scores in memory at once: queries times views


class Service:
    """One library, its jobs, and its last evaluation."""

    def __init__(self, library: Library, folders: Iterable[Path] = ()) -> None:
        self.library = library
        self.jobs = Jobs(folders, self._open_again)
        self.batcher = Batcher[Query, Settings, bytes](self.search_many)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._drawing = asyncio.Semaphore(DRAWN_AT_ONCE)
        # Labels that are new are encoded first, which can take half a minute: others go on beside.
        self._judging = asyncio.Semaphore(1)
        self._lock = threading.Lock()  # a library is not for several threads at once
        self.catalogue = Catalogue(Store.open(library.place))
        self.uploads = Kept[bytes]("image")
        self.selections = Kept[list[str]]("selection")
        self.duplicates = Finding(lambda: Store.open(library.place))
        self._suggesting = asyncio.Lock()
        self._suggested: tuple[Any, list[dict[str, str]]] | None = None
        self._classifier = lru_cache(maxsize=8)(self._make_classifier)
        self._evaluating = threading.Lock()
        self.evaluation: dict[str, Any] | None = None
        self.plot: bytes | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread when there is a turn; raises Problem when there is none in time."""
        return await self._run(work, self._turns, PATIENCE)

    async def draw(self, work: Callable[[], T]) -> T:
        """As :meth:`run`, with turns of their own: for thumbnails."""
        return await self._run(work, self._drawing, PATIENCE)

    async def judge(self, work: Callable[[], T]) -> T:
        """As :meth:`run`, with a turn of its own: for classifying."""
        return await self._run(work, self._judging, JUDGING_PATIENCE)

    async def _run(self, work: Callable[[], T], turns: asyncio.Semaphore, patience: float) -> T:
        """Run in a thread when there is a turn.

        A thread works on when nobody waits for it any more: the turn is its own until it ends.
        """
        try:
            await asyncio.wait_for(turns.acquire(), patience)
        except asyncio.TimeoutError:
            raise Problem(503, "too many requests at once", {"Retry-After": "2"}) from None
        working = asyncio.ensure_future(asyncio.to_thread(work))
        working.add_done_callback(lambda _: turns.release())
        return await asyncio.shield(working)

    def warm(self) -> None:
        """Load the model and the vectors before the first visitor."""
        if len(self.library):
            self.search_many([_words("a photo")], Settings(k=1))

    # -- search

    async def search(self, question: Question, upload: bytes | None = None) -> bytes:
        """The answer to a question as JSON; those that come at the same time share a batch."""
        if question.like or question.unlike or upload is not None:
            query = await self.run(lambda: self._combined(question, upload))
        else:
            query = _words(question.q)
        return await self.batcher.ask(query, question.settings)

    def search_many(self, queries: Sequence[Query], settings: Settings) -> list[bytes | Exception]:
        """Answers to queries, as JSON, in one pass; an error where a query deserves one."""
        step = max(1, _SCORES // max(1, self.library.store.count_views()))
        answers: list[bytes | Exception] = []
        for begin in range(0, len(queries), step):
            part = list(queries[begin : begin + step])
            try:
                with self._lock:
                    last = settings.skip + settings.k
                    found = self.library.search(part, last, **settings.options)
                answers += [_told(result) for result in found]
                self.catalogue.expect([hit.id for result in found for hit in result.hits])
            except QueryError as error:
                if len(part) == 1:
                    answers.append(error)
                else:  # find out whose it is
                    answers += [self.search_many([query], settings)[0] for query in part]
        return answers

    def search_batch(self, texts: Sequence[str], settings: Settings) -> bytes:
        """Answers to several prompts as JSON; the first error among them is raised."""
        answers = []
        for answer in self.search_many([_words(text) for text in texts], settings):
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
        return b'{"results": [%s]}' % b", ".join(answers)

    def _combined(self, question: Question, upload: bytes | None) -> Query:
        terms = list(_words(question.q).terms) if question.q.strip() else []
        if upload is not None:
            terms.append(Term(1.0, image=pictures.decode(upload)))
        terms += [self._term(place, 1.0) for place in question.like]
        terms += [self._term(place, -1.0) for place in question.unlike]
        if all(term.weight < 0 for term in terms):
            raise Problem(400, "also say what to look for, not only what to avoid")
        # Those of the library that it is made of; in other places they are none of its ids.
        places = [re.split("[:@]", place)[0] for place in (*question.like, *question.unlike)]
        return Query(tuple(terms), frozenset(p for p in places if len(p) != UPLOAD_DIGITS))

    def _term(self, place: str, weight: float) -> Term:
        """An image of the library, one that was uploaded, or a part of either, in a query."""
        name, kind, part = re.fullmatch(r"(\w+)([:@]?)(.*)", place).groups()  # type: ignore[union-attr]
        if len(name) == UPLOAD_DIGITS:
            image = pictures.decode(self.uploads.get(name))
            return Term(weight, image=_part(image, _box(part)) if part else image)
        record = self.catalogue.record(name)
        if kind == "@":
            return Term(weight, image=_part(pictures.opened(record.path, None), _box(part)))
        if not part or part == "0":
            return Term(weight, image=pictures.opened(record.path, 512))
        if int(part) >= len(record.views):
            raise Problem(404, f"the image {name} has no view {part}")
        box = record.views[int(part)].box
        image = pictures.opened(record.path, None)
        return Term(weight, image=_part(image, box) if box else image)

    def keep(self, data: bytes) -> dict[str, Any]:
        """Keep an uploaded image for a day, to be searched with."""
        small, (width, height) = pictures.kept(pictures.decode(data))
        return {"id": self.uploads.put(small, len(small)), "width": width, "height": height}

    async def suggestions(self) -> list[dict[str, str]]:
        """Words that the library has an answer to, each with the image that answers it best.

        They are of its own labels and what a detector saw in it, or else everyday things.
        """
        async with self._suggesting:
            info = await self.run(lambda: self.catalogue.info(0))
            state = info["library"], info["table_version"], info["created"]
            if self._suggested is None or self._suggested[0] != state:
                words = await self.run(self.catalogue.words)
                question = Settings(k=1)
                asked = [self.batcher.ask(_words(f"a photo of {word}"), question) for word in words]
                answers = await asyncio.gather(*asked, return_exceptions=True)
                self._suggested = state, _answered(words, answers)
            return self._suggested[1]

    def expect_no_fleet(self, verb: str) -> None:
        """Raise Problem for what needs all of the library in one process, where a fleet has it."""
        if self.library.store.fleet is not None:
            raise Problem(
                501,
                "a fleet answers searches alone; for this run "
                f"`wordsight {verb} --library {self.library.place}`",
            )

    # -- classification

    def classify(
        self, data: bytes, labels: str, templates: Sequence[str], top: int, closed: bool
    ) -> dict[str, Any]:
        """What an uploaded image shows."""
        image = pictures.decode(data)
        # Never as a string that might name a file of the server.
        named = (labels,) if labels in LABEL_SETS else tuple(re.split(r"\s*,\s*", labels.strip()))
        judged: Classification = self._classifier(named, tuple(templates), closed)([image], top)[0]
        return judged.to_json()

    def _make_classifier(
        self, labels: tuple[str, ...], templates: tuple[str, ...], closed: bool
    ) -> Classifier:
        from wordsight.classify import Classifier

        chosen = labels[0] if labels[0] in LABEL_SETS and len(labels) == 1 else list(labels)
        return Classifier(self.library.model, chosen, templates=templates, closed=closed)

    # -- the library as a whole

    def evaluate(self) -> dict[str, Any]:
        """Measure the library by its own labels; the result is kept until the next one."""
        from wordsight import render
        from wordsight.evaluate import DEFAULT_KS, evaluate, load_judgements

        self.expect_no_fleet("evaluate")
        if not self._evaluating.acquire(blocking=False):
            raise Problem(409, "an evaluation is already running; wait for it")
        try:
            library = self._open_again()
            found = evaluate(library, load_judgements(library, "labels"))
            recall = {
                name: {
                    k: (e.value, e.low, e.high) for k in DEFAULT_KS for e in [row[f"recall@{k}"]]
                }
                for name, row in found.methods.items()
            }
            out = io.BytesIO()
            render.recall_plot(recall, title="Recall@K").savefig(out, format="png", dpi=110)
            self.plot = out.getvalue()
            self.evaluation = {**found.to_json(), "table_version": library.store.version}
            return self.evaluation
        finally:
            self._evaluating.release()

    def _open_again(self) -> Library:
        """The same library and model, for a thread of its own."""
        from wordsight.api import open as open_library

        with self._lock:
            self.library.store.refresh()  # its model may be another one by now
            return open_library(self.library.place, self.library.model)


def _words(text: str) -> Query:
    query = parse_query(text)
    if any(term.image is not None for term in query.terms):
        raise Problem(400, 'the server does not open files by name (@"..."); send the image itself')
    return query


def _box(part: str) -> tuple[float, ...]:
    return tuple(float(number) for number in part.split(","))


def _part(image: Image, box: Sequence[float]) -> Image:
    """A part of an image, x0, y0, x1, y1 in pixels. Raises Problem 400 when it is too small."""
    x0, y0 = max(0, round(box[0])), max(0, round(box[1]))
    x1, y1 = min(image.width, round(box[2])), min(image.height, round(box[3]))
    if x1 <= x0 or y1 <= y0:
        raise Problem(400, "this part is not inside the image")
    return image.crop((x0, y0, x1, y1))


def _told(result: Result) -> bytes:
    """The answer to a search as JSON."""
    answer = result.to_json()
    answer["hits"] = [pictures.placeless(hit) for hit in answer["hits"]]
    return json.dumps(answer).encode()


def _answered(words: Sequence[str], answers: Sequence[Any]) -> list[dict[str, str]]:
    """The words that make the surest matches, no two of them by one image."""
    matches: list[tuple[float, str, str]] = []
    for word, answer in zip(words, answers, strict=True):
        told: Any = json.loads(answer) if isinstance(answer, bytes) else None
        if told and told["verdict"] == "match":
            matches.append((told["certainty"] or 0.0, word, str(told["hits"][0]["id"])))
    matches.sort(key=lambda match: -match[0])
    found: dict[str, str] = {}
    for _, word, image in matches:
        found.setdefault(image, word)
    return [{"text": word, "image": image} for image, word in found.items()][:SUGGESTED]
