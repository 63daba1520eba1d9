"""The application: an HTTP API over one library, and the page that uses it.

Images are named by their ids alone; no path from a client is ever opened. Every error has the form
of RFC 9457 (application/problem+json).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from wordsight import __version__
from wordsight.errors import ImageError, LibraryError, ModelError, QueryError, WordsightError
from wordsight.web import schemas
from wordsight.web.address import Address
from wordsight.web.guard import LOOPBACK, Guard, Problem
from wordsight.web.meter import CONTENT_TYPE_LATEST, Meter
from wordsight.web.routers import classify, duplicates, evaluate, images, jobs, media, search
from wordsight.web.routers.shared import PREFIX, PROBLEMS, gives
from wordsight.web.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wordsight.api import Library

_STATIC = files("wordsight.web") / "static"
_ASK_AGAIN = {"Cache-Control": "no-cache"}
"""Or browsers would guess for how long to use the files of a version that is no more."""


class _Static(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_ASK_AGAIN)
        return response


def _heads_too(app: ASGIApp) -> ASGIApp:
    """The application, which answers HEAD as it does GET, without the body (RFC 9110, 9.3.2)."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            if ended:
                return
            if message["type"] == "http.response.body":
                ended = True  # a stream of events would go on
                message = {**message, "body": b"", "more_body": False}
            await send(message)

        inner = {**scope, "method": "GET"}
        try:
            await app(inner, receive, send_head)
        finally:
            scope["route"] = inner.get("route")

    return answered


def create_app(
    library: Library,
    *,
    hosts: frozenset[str] = LOOPBACK,
    token: str | None = None,
    allow_index: Iterable[Path] = (),
    address: Address | None = None,
) -> FastAPI:
    """The application for a library, to be run by any ASGI server.

    ``hosts`` are the names that the server goes by; with a ``token`` every request needs it. The
    path that logs a browser in is ``app.state.guard.login_path``. The folders of ``allow_index``
    may be indexed from the page. ``address`` says where browsers find it behind a proxy
    (:meth:`wordsight.web.address.Address.of`). Raises ValueError for an empty token.
    """
    guard = Guard(hosts, token, address)
    service = Service(library, allow_index)
    meter = Meter(
        images=("Images in the library.", service.catalogue.count),
        queue=("Searches that wait for their batch.", lambda: len(service.batcher)),
        jobs=("Indexing jobs under way.", lambda: service.jobs.running),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.warm)
        service.batcher.start()
        app.state.ready = True
        yield
        app.state.ready = False
        await service.batcher.stop()
        await asyncio.to_thread(service.jobs.close)
        await asyncio.to_thread(service.duplicates.close)

    app = FastAPI(
        title="wordsight",
        version=__version__,
        description="Find images by words.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page would be fetched from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.guard = guard
    app.state.jobs = service.jobs
    app.state.ready = False
    app.add_middleware(_heads_too)
    app.add_middleware(guard.around)
    app.add_middleware(meter.around)
    for kind in (WordsightError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _problem)
    for subject in (search, images, classify, jobs, duplicates, evaluate, media):
        app.include_router(subject.router(service))
    app.include_router(_health(app, service))

    _add_metrics(app, meter)
    _add_page(app)
    return app


def _add_metrics(app: FastAPI, meter: Meter) -> None:
    @app.get("/metrics", responses=gives("text/plain", "Prometheus' text format"))
    async def metrics() -> Response:
        """Requests, seconds, images, queue and jobs, for Prometheus."""
        return Response(await asyncio.to_thread(meter.text), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        page = (_STATIC / "index.html").read_bytes()
        return Response(page, media_type="text/html", headers=_ASK_AGAIN)

    static = _Static(directory=str(_STATIC))
    app.mount("/static", GZipMiddleware(static, minimum_size=500), name="static")


def _health(app: FastAPI, service: Service) -> APIRouter:
    api = APIRouter(prefix=PREFIX, responses=PROBLEMS)

    @api.get("/health")
    async def health() -> schemas.Health:
        """The server is up."""
        return schemas.Health(status="ok", version=__version__)

    @api.get("/ready")
    async def ready() -> schemas.Health:
        """The model and the vectors are loaded, and searches are answered."""
        if not app.state.ready:
            raise Problem(503, "not ready", {"Retry-After": "1"})
        if not await asyncio.to_thread((service.library.path / "library.json").is_file):
            raise Problem(503, "the library is missing", {"Retry-After": "10"})
        return schemas.Health(status="ready", version=__version__)

    return api


async def _problem(_request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        told = f"there is none; see {PREFIX}/openapi.json" if unknown else first["msg"]
        return Problem(422, f"{where}: {told}").response()
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), error.headers).response()
    if isinstance(error, (QueryError, ImageError)):
        return Problem(400, str(error)).response()
    if isinstance(error, (LibraryError, ModelError)):
        return Problem(503, str(error), {"Retry-After": "5"}).response()
    if isinstance(error, WordsightError):
        return Problem(500, str(error)).response()
    return Problem(500, "something went wrong; see the server's log").response()
