"""Searching: by words, by images, by both; what to begin with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from wordsight.web import questions, schemas
from wordsight.web.guard import read_upload
from wordsight.web.routers.shared import (
    IMAGE,
    PREFIX,
    PROBLEMS,
    Answer,
    KeptId,
    json_response,
    while_there,
)
from wordsight.web.service import Service

Question = Annotated[questions.Question, Query()]


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=PREFIX, responses=PROBLEMS)

    @api.get("/search", response_model=schemas.SearchResult)
    async def search(request: Request, question: Question) -> Response:
        """Images that fit best: words, and images of the library to be like or unlike."""
        return json_response(await while_there(request, service.search(question)))

    @api.post("/search", response_model=schemas.SearchResult, openapi_extra=IMAGE)
    async def search_by_image(request: Request, question: Question) -> Response:
        """Images that look like the one in the body, combined with what else is asked."""
        data = await read_upload(request)
        return json_response(await while_there(request, service.search(question, data)))

    @api.post("/search/batch", response_model=schemas.SearchResults)
    async def search_batch(body: questions.SearchBatch) -> Response:
        """Several searches by words in one pass."""
        answers = await service.run(lambda: service.search_batch(body.queries, body.settings))
        return json_response(answers)

    @api.get("/suggestions", response_model=schemas.Suggestions)
    async def suggestions() -> Answer:
        """Words to begin with, each of which has an answer in this library."""
        return {"suggestions": await service.suggestions()}

    @api.post("/uploads", status_code=201, response_model=schemas.Upload, openapi_extra=IMAGE)
    async def upload(request: Request) -> Answer:
        """Keep the image in the body for a day, so that a search with it has an address."""
        data = await read_upload(request)
        return await service.run(lambda: service.keep(data))

    @api.get("/uploads/{upload}", responses={200: {"content": {"image/jpeg": {}}}})
    async def uploaded(upload: KeptId) -> Response:
        """An image that was uploaded."""
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(service.uploads.get(upload), media_type="image/jpeg", headers=headers)

    return api
