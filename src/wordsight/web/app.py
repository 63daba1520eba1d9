"""The application: an HTTP API over one library, and the page that uses it.

Images are named by their ids alone; no path from a client is ever opened. Searches run in threads,
a few at once; the rest wait a little and are then told to come again.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import anyio.to_thread
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from wordsight import __version__
from wordsight.errors import ImageError, LibraryError, ModelError, QueryError, WordsightError
from wordsight.web.guard import LOOPBACK, Guard, Problem, read_upload

if TYPE_CHECKING:
    from PIL.Image import Image

    from wordsight.api import Library
    from wordsight.classify import Classification
    from wordsight.library import ImageRecord

T = TypeVar("T")

AT_ONCE = 4
"""Searches and classifications that run at one time."""
PATIENCE = 10.0
"""Seconds that one more waits for its turn before it gets 503."""
MAX_UPLOAD_PIXELS = 50_000_000
LABEL_SETS = ("cifar10", "caltech101", "imagenet")

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="The id of a hit.")]
Words = Annotated[str, Query(max_length=1000, description="Words, or weighted terms.")]
K = Annotated[int, Query(ge=1, le=500, description="How many images.")]


def create_app(
    library: Library, *, hosts: frozenset[str] = LOOPBACK, token: str | None = None
) -> FastAPI:
    """The application for a library, to be run by any ASGI server.

    ``hosts`` are the names that the server goes by; with a ``token`` every request needs it. The
    path that logs a browser in is ``app.state.guard.login_path``.
    """
    service = _Service(library)
    guard = Guard(hosts, token)

    @asynccontextmanager
    async def ready(_app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.warm)
        yield

    app = FastAPI(
        title="wordsight",
        version=__version__,
        description="Find images by words.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page would be fetched from another host
        redoc_url=None,
        lifespan=ready,
    )
    app.state.guard = guard
    app.middleware("http")(guard)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(WordsightError, _problem)
    app.add_exception_handler(RequestValidationError, _problem)
    app.add_exception_handler(HTTPException, _problem)

    @app.get("/api/v1/search")
    async def search(
        q: Words,
        k: K = 20,
        crops: bool = True,
        rank_by: Literal["score", "z"] = "score",
        false_accept: Annotated[float, Query(gt=0, lt=1)] = 0.05,
        anyway: bool = False,
    ) -> dict[str, Any]:
        """Images that fit words best."""
        options = {
            "crops": crops, "rank_by": rank_by, "false_accept": false_accept, "anyway": anyway
        }  # fmt: skip
        return await service.run(lambda: service.search(q, None, k, options))

    @app.post("/api/v1/search")
    async def search_by_image(
        request: Request, q: Words = "", k: K = 20, crops: bool = True
    ) -> dict[str, Any]:
        """Images that look like the one in the body, and fit the words, if any."""
        data = await read_upload(request)
        return await service.run(lambda: service.search(q, data, k, {"crops": crops}))

    @app.get("/api/v1/images/{image}/similar")
    async def similar(image: Id, k: K = 20, crops: bool = True) -> dict[str, Any]:
        """Images that look like one of the library."""
        return await service.run(lambda: service.similar(image, k, crops))

    @app.post("/api/v1/classify")
    async def classify(
        request: Request,
        labels: Annotated[str, Query(max_length=5000)] = "cifar10",
        template: Annotated[str, Query(max_length=200)] = "a photo of a {}.",
        top: Annotated[int, Query(ge=1, le=20)] = 3,
        closed: bool = False,
    ) -> dict[str, Any]:
        """What the image in the body shows: a set of labels by name, or labels with commas."""
        data = await read_upload(request)
        return await service.run(lambda: service.classify(data, labels, template, top, closed))

    @app.get("/api/v1/images/{image}")
    async def picture(image: Id) -> Response:
        """An image of the library at no more than 1600 pixels, without its metadata."""
        return await service.run(lambda: service.picture(image, 1600))

    @app.get("/api/v1/thumbnails/{image}")
    async def thumbnail(image: Id) -> Response:
        """An image of the library at no more than 320 pixels, without its metadata."""
        return await service.run(lambda: service.picture(image, 320))

    @app.get("/api/v1/regions/{image}")
    async def regions(image: Id) -> dict[str, Any]:
        """The views of an image: the whole of it and its crops."""
        return await service.run(lambda: service.regions(image))

    @app.get("/api/v1/library")
    async def about() -> dict[str, Any]:
        """Counts, model, size: what ``wordsight info --json`` prints."""
        return await service.run(service.info)

    @app.get("/api/v1/health")
    async def health() -> dict[str, str]:
        """The server is up."""
        return {"status": "ok", "version": __version__}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response((_STATIC / "index.html").read_bytes(), media_type="text/html")

    app.mount("/static", StaticFiles(directory=str(_STATIC)), name="static")
    return app


_STATIC = files("wordsight.web") / "static"


async def _problem(_request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem(422, f"{where}: {first['msg']}").response()
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail)).response()
    if isinstance(error, (QueryError, ImageError)):
        return Problem(400, str(error)).response()
    if isinstance(error, (LibraryError, ModelError)):
        return Problem(503, str(error), {"Retry-After": "5"}).response()
    return error.response() if isinstance(error, Problem) else Problem(500, str(error)).response()


class _Service:
    """The library behind the routes; its methods block and run in threads."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._lock = threading.Lock()  # a library is not for several threads at once
        self._classifier = lru_cache(maxsize=8)(self._make_classifier)

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread when there is a turn; raises Problem when there is none in time."""
        try:
            await asyncio.wait_for(self._turns.acquire(), PATIENCE)
        except asyncio.TimeoutError:
            raise Problem(503, "too many searches at once", {"Retry-After": "2"}) from None
        try:
            return await anyio.to_thread.run_sync(work)
        finally:
            self._turns.release()

    def warm(self) -> None:
        """Load the model and the vectors before the first visitor."""
        if len(self.library):
            self.search("a photo", None, 1, {})

    def search(
        self, words: str, upload: bytes | None, k: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        from wordsight.search import Query, Term, parse_query

        terms = list(parse_query(words).terms) if words.strip() or upload is None else []
        if any(term.image is not None for term in terms):
            raise Problem(400, 'files are not opened by name here (@"..."); send the image itself')
        if upload is not None:
            terms.append(Term(1.0, image=_decode(upload)))
        with self._lock:
            return self.library.search(Query(tuple(terms)), k, **options).to_json()

    def similar(self, image: str, k: int, crops: bool) -> dict[str, Any]:
        from wordsight.search import Query, Term

        term = Term(1.0, image=self._open(self._record(image), 512))
        with self._lock:
            return self.library.search(Query((term,)), k, crops=crops).to_json()

    def classify(
        self, data: bytes, labels: str, template: str, top: int, closed: bool
    ) -> dict[str, Any]:
        image = _decode(data)
        # Never as a string that might name a file of the server.
        named = (labels,) if labels in LABEL_SETS else tuple(re.split(r"\s*,\s*", labels.strip()))
        judged: Classification = self._classifier(named, template, closed)([image], top)[0]
        return judged.to_json()

    def _make_classifier(self, labels: tuple[str, ...], template: str, closed: bool) -> Any:
        from wordsight.classify import Classifier

        chosen = labels[0] if labels[0] in LABEL_SETS and len(labels) == 1 else list(labels)
        return Classifier(self.library.model, chosen, templates=(template,), closed=closed)

    def picture(self, image: str, side: int) -> Response:
        record = self._record(image)
        small = self._open(record, side)
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=85)
        return Response(
            out.getvalue(),
            media_type="image/jpeg",
            headers={"Cache-Control": "private, max-age=3600", "ETag": f'"{record.hash}-{side}"'},
        )

    def regions(self, image: str) -> dict[str, Any]:
        record = self._record(image)
        return {
            "id": record.id,
            "path": record.path,
            "label": record.label,
            "width": record.width,
            "height": record.height,
            "views": [
                {"kind": v.kind, "box": v.box, "label": v.label, "score": v.score}
                for v in record.views
            ],
        }

    def info(self) -> dict[str, Any]:
        with self._lock:
            self.library.store.refresh()
            return self.library.info()

    def _record(self, image: str) -> ImageRecord:
        with self._lock:
            found = self.library.store.images([image])
        if not found:
            raise Problem(404, f"the library has no image {image}")
        return found[0]

    def _open(self, record: ImageRecord, side: int) -> Image:
        from wordsight.images import open_image
        from wordsight.sources import read_location

        try:
            return open_image(read_location(record.path), min_side=side, name=record.path)
        except (ImageError, OSError) as error:
            raise Problem(410, f"the image is gone or unreadable ({error})") from None


def _decode(data: bytes) -> Image:
    from wordsight.images import open_image

    return open_image(data, max_pixels=MAX_UPLOAD_PIXELS, name="the uploaded image")
