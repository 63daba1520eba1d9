"""The library behind the routes. What blocks runs in threads, a few at once."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wordsight.classify import LABEL_SETS
from wordsight.errors import ImageError, QueryError
from wordsight.search import Query, Term, parse_query
from wordsight.web.batching import Batcher
from wordsight.web.guard import Problem
from wordsight.web.jobs import Jobs
from wordsight.web.schemas import Question, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from wordsight.api import Library
    from wordsight.classify import Classification, Classifier
    from wordsight.library import ImageRecord
    from wordsight.search import Result

T = TypeVar("T")

AT_ONCE = 4
"""Pictures and the like that are made at one time."""
PATIENCE = 10.0
"""Seconds that one more waits for its turn before it gets 503."""
JUDGING_PATIENCE = 60.0
"""The same for classifications, which are made one after the other."""
UPLOAD_SIDE = 2048
"""The short side, in pixels, at which a large upload is decoded: any encoder sees less of it."""
LARGE_UPLOAD = 200 << 20  # bytes of decoding: such uploads go one after the other
SKIPPED_SHOWN = 1000
_SCORES = 2**25  # scores in memory at once: queries times views
_TAKEN = {
    0x010F: "make", 0x0110: "camera", 0x9003: "taken", 0xA434: "lens",
    0x829A: "exposure", 0x829D: "aperture", 0x8827: "iso", 0x920A: "focal length",
}  # fmt: skip


class Service:
    """One library, its jobs, and its last evaluation."""

    def __init__(self, library: Library, folders: Iterable[Path] = ()) -> None:
        self.library = library
        self.jobs = Jobs(folders, self._open_again)
        self.batcher = Batcher[Query, Settings, bytes](self.search_many)
        self._turns = asyncio.Semaphore(AT_ONCE)
        # Labels that are new are encoded first, which can take half a minute: others go on beside.
        self._judging = asyncio.Semaphore(1)
        self._lock = threading.Lock()  # a library is not for several threads at once
        # Looking an image up does not wait for a search, nor the other way round.
        self._catalogue = library.store.open(library.path)
        self._catalogue_lock = threading.Lock()
        self._classifier = lru_cache(maxsize=8)(self._make_classifier)
        self._counted: tuple[Any, dict[str, Any]] | None = None
        self._evaluating = threading.Lock()
        self.evaluation: dict[str, Any] | None = None
        self.plot: bytes | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread when there is a turn; raises Problem when there is none in time."""
        return await self._run(work, self._turns, PATIENCE)

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
        options = settings.model_dump()
        step = max(1, _SCORES // max(1, self.library.store.count_views()))
        answers: list[bytes | Exception] = []
        for begin in range(0, len(queries), step):
            part = list(queries[begin : begin + step])
            try:
                with self._lock:
                    found = self.library.search(part, **options)
                answers += [json.dumps(_placeless(result)).encode() for result in found]
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
            terms.append(Term(1.0, image=_decode(upload)))
        terms += [self._term(place, 1.0) for place in question.like]
        terms += [self._term(place, -1.0) for place in question.unlike]
        if all(term.weight < 0 for term in terms):
            raise Problem(400, "also say what to look for, not only what to avoid")
        return Query(tuple(terms))

    def _term(self, place: str, weight: float) -> Term:
        """An image of the library, or a region of it, as a part of a query."""
        name, _, view = place.partition(":")
        record = self._record(name)
        if not view or view == "0":
            return Term(weight, image=self._open(record, 512))
        if int(view) >= len(record.views):
            raise Problem(404, f"the image {name} has no view {view}")
        box = record.views[int(view)].box
        image = self._open(record, None)
        return Term(weight, image=image.crop(box) if box else image)

    # -- images

    def picture(self, image: str, side: int, known: str | None = None) -> tuple[bytes | None, str]:
        """An image of the library as a JPEG of at most ``side`` pixels, and its ETag.

        None where the client has the one with the ETag ``known``.
        """
        record = self._record(image)
        etag = f'"{record.hash}-{record.mtime_ns}-{side}"'
        if known == etag:
            return None, etag
        small = self._open(record, side)
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=85)
        return out.getvalue(), etag

    def details(self, image: str, location: bool) -> dict[str, Any]:
        """What is known of an image, with all its views; where it was taken only if asked for."""
        record = self._record(image)
        return {
            "id": record.id,
            "path": record.path,
            "label": record.label,
            "width": record.width,
            "height": record.height,
            "bytes": record.size,
            "crops": record.crops,
            "taken": _taken(record),
            "location": _location(record) if location else None,
            "views": [
                {"kind": v.kind, "box": v.box, "label": v.label, "score": v.score}
                for v in record.views
            ],
        }

    def _record(self, image: str) -> ImageRecord:
        with self._catalogue_lock:
            self._catalogue.refresh()
            found = self._catalogue.images([image])
        if not found:
            raise Problem(404, f"the library has no image {image}")
        return found[0]

    def _open(self, record: ImageRecord, side: int | None) -> Image:
        from wordsight.images import open_image
        from wordsight.sources import read_location

        try:
            return open_image(read_location(record.path), min_side=side, name=record.path)
        except (ImageError, OSError) as error:
            raise Problem(410, f"the image is missing or unreadable ({error})") from None

    # -- classification

    def classify(
        self, data: bytes, labels: str, templates: Sequence[str], top: int, closed: bool
    ) -> dict[str, Any]:
        """What an uploaded image shows."""
        image = _decode(data)
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

    def info(self) -> dict[str, Any]:
        """Counts, model, size, labels, and which files were skipped."""
        with self._catalogue_lock:
            store = self._catalogue
            store.refresh()
            # Another library may be in its place by now, with as many versions.
            state = store.record.get("id"), store.version
            if self._counted is None or self._counted[0] != state:
                labels = Counter(label for label in store.labels().values() if label)
                crops = Counter(entry.crops for entry in store.entries())
                counts = {
                    "crops": dict(crops),
                    "labels": [
                        {"label": label, "images": count} for label, count in sorted(labels.items())
                    ],
                }
                self._counted = state, counts
            skipped = [
                {"path": path, "reason": reason} for path, reason in store.skipped()[:SKIPPED_SHOWN]
            ]
            return {**store.info(), **self._counted[1], "skipped": skipped}

    def count(self) -> int:
        """The number of images, with those that other processes have added."""
        with self._catalogue_lock:
            self._catalogue.refresh()
            return len(self._catalogue)

    def evaluate(self) -> dict[str, Any]:
        """Measure the library by its own labels; the result is kept until the next one."""
        from wordsight import render
        from wordsight.evaluate import DEFAULT_KS, evaluate, load_judgements

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
            return open_library(self.library.path, self.library.model)


def _words(text: str) -> Query:
    query = parse_query(text)
    if any(term.image is not None for term in query.terms):
        raise Problem(400, 'the server does not open files by name (@"..."); send the image itself')
    return query


def _decode(data: bytes) -> Image:
    from wordsight.images import open_image

    with contextlib.ExitStack() as held:

        def reserve(count: int) -> None:
            if count > LARGE_UPLOAD:
                held.enter_context(_LARGE_UPLOADS)

        return open_image(data, min_side=UPLOAD_SIDE, name="the uploaded image", reserve=reserve)


_LARGE_UPLOADS = threading.Lock()


def _tags(record: ImageRecord, folder: int) -> dict[int, Any]:
    """What a photograph says of itself in a folder of its EXIF tags; nothing when it is odd."""
    from PIL import Image

    from wordsight.sources import read_location

    try:
        with Image.open(io.BytesIO(read_location(record.path))) as image:
            exif = image.getexif()
            return {**exif, **exif.get_ifd(folder)}
    except Exception:  # odd metadata is no reason to show nothing
        return {}


def _placeless(result: Result) -> dict[str, Any]:
    """The answer to a search; where pictures were taken is told of one that is asked for alone."""
    answer = result.to_json()
    for hit in answer["hits"]:
        known = hit["metadata"].items()
        hit["metadata"] = {k: v for k, v in known if k not in ("latitude", "longitude")}
    return answer


def _taken(record: ImageRecord) -> dict[str, str]:
    """When and with what a photograph was taken; the tags that say where are never read."""
    tags = _tags(record, 0x8769)
    return {name: str(tags[tag]).strip("\0 ")[:100] for tag, name in _TAKEN.items() if tag in tags}


def _location(record: ImageRecord) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive (EXIF 2.32, section 4.6.6)."""
    tags = _tags(record, 0x8825)
    try:
        north, east = (
            float(degrees) + float(minutes) / 60 + float(seconds) / 3600
            for degrees, minutes, seconds in (tags[2], tags[4])
        )
        found = (-north if tags[1] == "S" else north, -east if tags[3] == "W" else east)
        return found if abs(north) <= 90 and abs(east) <= 180 else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
