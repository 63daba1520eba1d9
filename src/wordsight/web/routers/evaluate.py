"""The library, measured by its own labels."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from wordsight.web import schemas
from wordsight.web.guard import Problem
from wordsight.web.routers.shared import PREFIX, PROBLEMS, Answer, gives
from wordsight.web.service import Service


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=f"{PREFIX}/evaluation", responses=PROBLEMS)

    @api.get("", response_model=schemas.EvaluationResult)
    async def evaluation() -> Answer:
        """The last evaluation since the server was started."""
        if service.evaluation is None:
            raise Problem(404, "no evaluation yet; POST here to make one")
        return service.evaluation

    @api.post("", response_model=schemas.EvaluationResult)
    async def evaluate() -> Answer:
        """Measure the library by its own labels, each asked as a prompt."""
        return await service.run(service.evaluate)

    @api.get("/plot", responses=gives("image/png", "Recall@K by method"))
    async def evaluation_plot() -> Response:
        """Recall@K of the last evaluation as a picture."""
        if service.plot is None:
            raise Problem(404, "no evaluation yet; POST to /api/v1/evaluation to make one")
        return Response(service.plot, media_type="image/png", headers={"Cache-Control": "no-store"})

    return api
