"""Zero-shot classification of images that are sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import StringConstraints

from wordsight.classify import DEFAULT_TEMPLATE, ENSEMBLE, LABEL_SETS
from wordsight.web import schemas
from wordsight.web.guard import read_upload
from wordsight.web.routers.shared import IMAGE, PREFIX, PROBLEMS, Answer
from wordsight.web.service import Service

Template = Annotated[str, StringConstraints(max_length=200)]


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=PREFIX, responses=PROBLEMS)

    @api.post("/classify", response_model=schemas.ClassifyResult, openapi_extra=IMAGE)
    async def classify(
        request: Request,
        labels: Annotated[str, Query(max_length=5000)] = "everyday",
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

    return api
