"""Groups of near-duplicates. Nothing is deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from wordsight.duplicates import FALSE_MERGE
from wordsight.web import schemas
from wordsight.web.routers.shared import PREFIX, PROBLEMS, Answer
from wordsight.web.service import Service


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=f"{PREFIX}/duplicates", responses=PROBLEMS)

    @api.get("", response_model=schemas.Duplicates)
    async def duplicates() -> Answer:
        """What the last search found, or how far the one that is under way is."""
        return service.duplicates.to_json()

    @api.post("", response_model=schemas.Duplicates, status_code=202)
    async def find_duplicates(
        false_merge: Annotated[
            float, Query(gt=0, lt=1, description="The share of images that may be grouped wrongly.")
        ] = FALSE_MERGE,
    ) -> Answer:
        """Begin to look for near-duplicates in the whole library; one search runs at a time."""
        service.expect_no_fleet("duplicates")
        return service.duplicates.start(false_merge)

    return api
