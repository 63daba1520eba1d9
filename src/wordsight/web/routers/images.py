"""The library and its images: listings, pictures, originals, selections."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from wordsight.web import pictures, questions, schemas
from wordsight.web.routers.shared import (
    PREFIX,
    PROBLEMS,
    Answer,
    Id,
    K,
    KeptId,
    gives,
    jpeg_response,
    json_response,
    while_there,
)
from wordsight.web.service import Service

SKIPPED_SHOWN = 1000


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=PREFIX, responses=PROBLEMS)
    _listings(api, service)
    _pictures(api, service)
    _selections(api, service)
    return api


def _listings(api: APIRouter, service: Service) -> None:
    catalogue = service.catalogue

    @api.get("/library", response_model=schemas.LibraryInfo)
    async def about() -> Answer:
        """Counts, model, size, labels: what ``wordsight info --json`` prints, and more."""
        return await service.run(lambda: catalogue.info(SKIPPED_SHOWN))

    @api.get("/facets", response_model=schemas.Facets)
    async def facets() -> Answer:
        """What images may be filtered by; of each kind the 100 values that most images have."""
        return await service.run(catalogue.facets)

    @api.get("/images", response_model=schemas.Images)
    async def images(
        only: Annotated[questions.Listing, Query()],
    ) -> Answer:
        """Images without a search, the newest first: by capture time, or else the file's."""
        return await service.run(lambda: catalogue.newest(only.all_where, only.skip, only.k))

    @api.get("/images/{image}/similar", response_model=schemas.SearchResult)
    async def similar(request: Request, image: Id, k: K = 20, crops: bool = True) -> Response:
        """Images that look like one of the library."""
        question = questions.Question(like=[image], k=k, crops=crops)
        return json_response(await while_there(request, service.search(question)))

    @api.get("/regions/{image}", response_model=schemas.ImageDetails)
    async def regions(image: Id, location: bool = False) -> Answer:
        """What is known of an image, with its views: the whole of it and its crops."""
        return await service.run(lambda: pictures.details(catalogue.record(image), location))


def _pictures(api: APIRouter, service: Service) -> None:
    file = service.catalogue.file

    @api.get("/images/{image}", responses=gives("image/jpeg", "The image"))
    async def picture(request: Request, image: Id, full: bool = False) -> Response:
        """An image of the library as a JPEG without its metadata.

        At no more than 1600 pixels, or 8000 with ``full``.
        """
        side = pictures.WHOLE if full else pictures.LARGE
        known = request.headers.get("if-none-match")
        return jpeg_response(*await service.run(lambda: pictures.jpeg(file(image), side, known)))

    @api.get("/thumbnails/{image}", responses=gives("image/jpeg", "The image"))
    async def thumbnail(
        request: Request, image: Id, side: Literal["320", "640"] = "320"
    ) -> Response:
        """An image of the library at no more than 320 or 640 pixels, without its metadata."""
        known = request.headers.get("if-none-match")
        small = await service.draw(lambda: pictures.jpeg(file(image), int(side), known))
        return jpeg_response(*small)

    @api.get("/originals/{image}", responses=gives("application/octet-stream", "The file"))
    async def original(image: Id) -> Response:
        """An image's file as it is, with its metadata, to be saved and never shown."""

        def read() -> tuple[bytes, str]:
            found = file(image)
            return pictures.original(found.path), found.name

        data, name = await service.run(read)
        return Response(data, media_type="application/octet-stream", headers=_saved_as(name))


def _selections(api: APIRouter, service: Service) -> None:
    @api.post("/selections", status_code=201)
    async def select(wanted: questions.SelectionRequest) -> schemas.Selection:
        """Keep a selection of images for a day, to be shared or saved."""
        size = 16 * len(wanted.images)
        return schemas.Selection(id=service.selections.put(wanted.images, size))

    @api.get("/selections/{selection}", response_model=schemas.Images)
    async def selected(selection: KeptId) -> Answer:
        """The images of a selection."""
        ids = service.selections.get(selection)
        found = await service.run(lambda: service.catalogue.some(ids))
        return {"total": len(found), "images": found}

    @api.get("/selections/{selection}/zip", responses=gives("application/zip", "The images' files"))
    async def saved(selection: KeptId) -> StreamingResponse:
        """The files of a selection as a zip archive."""
        ids = service.selections.get(selection)
        parts = pictures.zipped(service.catalogue.files(ids))
        return StreamingResponse(
            parts, media_type="application/zip", headers=_saved_as("wordsight.zip")
        )


def _saved_as(name: str) -> dict[str, str]:
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Cache-Control": "no-store",
    }
