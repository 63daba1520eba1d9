"""The application: an HTTP API over one library, and the page that uses it.

Images are named by their ids alone; no path from a client is ever opened. Every error has the form
of RFC 9457 (application/problem+json).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import StringConstraints
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from wordsight import __version__
from wordsight.classify import DEFAULT_TEMPLATE, ENSEMBLE, LABEL_SETS
from wordsight.errors import ImageError, LibraryError, ModelError, QueryError, WordsightError
from wordsight.web import media, schemas
from wordsight.web.address import Address
from wordsight.web.guard import LOOPBACK, Guard, Problem, read_upload
from wordsight.web.meter import CONTENT_TYPE_LATEST, Meter
from wordsight.web.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wordsight.api import Library

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a hit.")]
JobId = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a job.")]
K = Annotated[int, Query(ge=1, le=500, description="How many images.")]
Template = Annotated[str, StringConstraints(max_length=200)]
Question = Annotated[schemas.Question, Query()]
Answer = dict[str, Any]
"""Checked against the response model."""

_STATIC = files("wordsight.web") / "static"
_PROBLEM = {
    "description": "A problem, told as RFC 9457 says",
    "content": {"application/problem+json": {"schema": schemas.ProblemDetails.model_json_schema()}},
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "422": _PROBLEM, "5XX": _PROBLEM}
_IMAGE = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip  # noqa: E501
_EVENTS_EVERY = 0.25  # seconds between two looks at a job
_SIGN_OF_LIFE = 15.0
"""Seconds without news of a job after which its followers get a comment: proxies end what is silent
for a minute."""
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


def _gives(kind: str, text: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": text, "content": {kind: {}}}}


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
        images=("Images in the library.", service.count),
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

    app = FastAPI(
        title="wordsight",
        version=__version__,
        description="Find images by words.",
        openapi_url="/api/v1/openapi.json",
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
    app.include_router(_routes(app, service))
    app.include_router(media.routes(service, _PROBLEMS))

    @app.get("/metrics", responses=_gives("text/plain", "Prometheus' text format"))
    async def metrics() -> Response:
        """Requests, seconds, images, queue and jobs, for Prometheus."""
        return Response(await asyncio.to_thread(meter.text), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        page = (_STATIC / "index.html").read_bytes()
        return Response(page, media_type="text/html", headers=_ASK_AGAIN)

    app.mount("/static", _Static(directory=str(_STATIC)), name="static")
    return app


def _routes(app: FastAPI, service: Service) -> APIRouter:
    api = APIRouter(prefix="/api/v1", responses=_PROBLEMS)

    # -- search and classify

    @api.get("/search", response_model=schemas.SearchResult)
    async def search(request: Request, question: Question) -> Response:
        """Images that fit best: words, and images of the library to be like or unlike."""
        return _json(await _while_there(request, service.search(question)))

    @api.post("/search", response_model=schemas.SearchResult, openapi_extra=_IMAGE)
    async def search_by_image(request: Request, question: Question) -> Response:
        """Images that look like the one in the body, combined with what else is asked."""
        data = await read_upload(request)
        return _json(await _while_there(request, service.search(question, data)))

    @api.post("/search/batch", response_model=schemas.SearchResults)
    async def search_batch(body: schemas.SearchBatch) -> Response:
        """Several searches by words in one pass."""
        return _json(await service.run(lambda: service.search_batch(body.queries, body.settings)))

    @api.post("/classify", response_model=schemas.ClassifyResult, openapi_extra=_IMAGE)
    async def classify(
        request: Request,
        labels: Annotated[str, Query(max_length=5000)] = "cifar10",
        template: Annotated[list[Template], Query(max_length=32)] = [DEFAULT_TEMPLATE],  # noqa: B006
        top: Annotated[int, Query(ge=1, le=20)] = 3,
        closed: bool = False,
    ) -> Answer:
        """What the image in the body shows: a set of labels by name, or labels with commas.

        Several templates are averaged.
        """
        data = await read_upload(request)
        return await service.judge(lambda: service.classify(data, labels, template, top, closed))

    @api.get("/classify")
    async def wordings() -> schemas.Wordings:
        """What there is to classify with."""
        return schemas.Wordings(
            label_sets=list(LABEL_SETS), template=DEFAULT_TEMPLATE, ensemble=list(ENSEMBLE)
        )

    # -- images

    @api.get("/images/{image}/similar", response_model=schemas.SearchResult)
    async def similar(request: Request, image: Id, k: K = 20, crops: bool = True) -> Response:
        """Images that look like one of the library."""
        question = schemas.Question(like=[image], k=k, crops=crops)
        return _json(await _while_there(request, service.search(question)))

    @api.get("/images/{image}", responses=_gives("image/jpeg", "The image"))
    async def picture(request: Request, image: Id) -> Response:
        """An image of the library at no more than 1600 pixels, without its metadata."""
        known = request.headers.get("if-none-match")
        return _jpeg(*await service.run(lambda: service.picture(image, 1600, known)))

    @api.get("/thumbnails/{image}", responses=_gives("image/jpeg", "The image"))
    async def thumbnail(request: Request, image: Id) -> Response:
        """An image of the library at no more than 320 pixels, without its metadata."""
        known = request.headers.get("if-none-match")
        return _jpeg(*await service.run(lambda: service.picture(image, 320, known)))

    @api.get("/regions/{image}", response_model=schemas.ImageDetails)
    async def regions(image: Id, location: bool = False) -> Answer:
        """What is known of an image, with its views: the whole of it and its crops."""
        return await service.run(lambda: service.details(image, location))

    # -- the library

    @api.get("/library", response_model=schemas.LibraryInfo)
    async def about() -> Answer:
        """Counts, model, size, labels: what ``wordsight info --json`` prints, and more."""
        return await service.run(service.info)

    @api.get("/evaluation", response_model=schemas.EvaluationResult)
    async def evaluation() -> Answer:
        """The last evaluation since the server was started."""
        if service.evaluation is None:
            raise Problem(404, "no evaluation yet; POST here to make one")
        return service.evaluation

    @api.post("/evaluation", response_model=schemas.EvaluationResult)
    async def evaluate() -> Answer:
        """Measure the library by its own labels, each asked as a prompt."""
        return await service.run(service.evaluate)

    @api.get("/evaluation/plot", responses=_gives("image/png", "Recall@K by method"))
    async def evaluation_plot() -> Response:
        """Recall@K of the last evaluation as a picture."""
        if service.plot is None:
            raise Problem(404, "no evaluation yet; POST to /api/v1/evaluation to make one")
        return Response(service.plot, media_type="image/png", headers={"Cache-Control": "no-store"})

    # -- indexing

    @api.get("/index/folders")
    async def folders() -> schemas.Folders:
        """The folders that may be indexed from here (``wordsight serve --allow-index``)."""
        found = service.jobs.folders.items()
        return schemas.Folders(folders=[schemas.Folder(id=i, path=str(p)) for i, p in found])

    @api.get("/index/jobs")
    async def jobs() -> schemas.JobList:
        """The jobs since the server was started, newest first."""
        found = [schemas.Job(**job.to_json()) for job in service.jobs.history()]
        return schemas.JobList(jobs=found)

    @api.post("/index/jobs", status_code=201)
    async def start_job(wanted: schemas.JobRequest) -> schemas.Job:
        """Index a folder; one job runs at a time."""
        return schemas.Job(**service.jobs.start(wanted.folder, wanted.crops).to_json())

    @api.get("/index/jobs/{job}")
    async def job(job: JobId) -> schemas.Job:
        """How far a job is, and what came of it."""
        return schemas.Job(**service.jobs.get(job).to_json())

    @api.delete("/index/jobs/{job}")
    async def cancel_job(job: JobId) -> schemas.Job:
        """Ask a job to end; what it has written is kept."""
        return schemas.Job(**service.jobs.cancel(job).to_json())

    @api.get(
        "/index/jobs/{job}/events",
        responses=_gives("text/event-stream", "The job as JSON, each time that it has changed"),
    )
    async def job_events(job: JobId) -> StreamingResponse:
        """The job as server-sent events, until it ends."""
        followed = service.jobs.get(job)

        async def events() -> AsyncIterator[str]:
            last, said = None, time.monotonic()
            while True:
                now = followed.to_json()
                if now != last:
                    last, said = now, time.monotonic()
                    yield f"data: {json.dumps(now)}\n\n"
                elif time.monotonic() - said > _SIGN_OF_LIFE:
                    said = time.monotonic()
                    yield ":\n\n"
                if now["state"] != "running" or service.jobs.stopping:
                    return
                await asyncio.sleep(_EVENTS_EVERY)

        # The latter for nginx, which would keep events until it has a page of them.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    # -- the server

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


async def _while_there(request: Request, work: Coroutine[Any, Any, bytes]) -> bytes:
    """What ``work`` gives, which is not worked for any more when the client has gone."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    asked, gone = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            gone.result()  # raises what is wrong with the request, where that is why
            raise Problem(400, "the client disconnected")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")


def _jpeg(data: bytes | None, etag: str) -> Response:
    headers = {"Cache-Control": "private, max-age=3600", "ETag": etag}
    if data is None:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


async def _problem(_request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem(422, f"{where}: {first['msg']}").response()
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), error.headers).response()
    if isinstance(error, (QueryError, ImageError)):
        return Problem(400, str(error)).response()
    if isinstance(error, (LibraryError, ModelError)):
        return Problem(503, str(error), {"Retry-After": "5"}).response()
    if isinstance(error, WordsightError):
        return Problem(500, str(error)).response()
    return Problem(500, "something went wrong; see the server's log").response()
