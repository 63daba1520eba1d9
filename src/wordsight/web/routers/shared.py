"""What routes have in common: parameters, descriptions of answers, answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import Path as InPath
from fastapi import Query, Request
from fastapi.responses import Response

from wordsight.web import schemas
from wordsight.web.guard import Problem

PREFIX = "/api/v1"
Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a hit.")]
KeptId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$", description="An id that was given.")]
K = Annotated[int, Query(ge=1, le=500, description="How many images.")]
Answer = dict[str, Any]
"""Checked against the response model."""
IMAGE = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""A request whose body is an image, for the OpenAPI document."""
_PROBLEM = {
    "description": "A problem, told as RFC 9457 says",
    "content": {"application/problem+json": {"schema": schemas.ProblemDetails.model_json_schema()}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "422": _PROBLEM, "5XX": _PROBLEM}


def gives(kind: str, text: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer that is no JSON."""
    return {200: {"description": text, "content": {kind: {}}}}


def json_response(data: bytes) -> Response:
    """An answer that is JSON already."""
    return Response(data, media_type="application/json")


def jpeg_response(data: bytes | None, etag: str) -> Response:
    """A picture that browsers keep for an hour; "not modified" without data."""
    headers = {"Cache-Control": "private, max-age=3600", "ETag": etag}
    if data is None:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


async def while_there(request: Request, work: Coroutine[Any, Any, bytes]) -> bytes:
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
