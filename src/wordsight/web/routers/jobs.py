"""Indexing from the page: folders that are allowed, jobs and their progress."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from wordsight.web import questions, schemas
from wordsight.web.jobs import Job, Jobs
from wordsight.web.routers.shared import PREFIX, PROBLEMS, gives
from wordsight.web.service import Service

JobId = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a job.")]
_EVENTS_EVERY = 0.25  # seconds between two looks at a job
_SIGN_OF_LIFE = 15.0
"""Seconds without news of a job after which its followers get a comment: proxies end what is silent
for a minute."""


def router(service: Service) -> APIRouter:
    """The routes over a service."""
    api = APIRouter(prefix=f"{PREFIX}/index", responses=PROBLEMS)

    @api.get("/folders")
    async def folders() -> schemas.Folders:
        """The folders that may be indexed from here (``wordsight serve --allow-index``)."""
        found = service.jobs.folders.items()
        return schemas.Folders(folders=[schemas.Folder(id=i, path=str(p)) for i, p in found])

    @api.get("/jobs")
    async def jobs() -> schemas.JobList:
        """The jobs since the server was started, newest first."""
        found = [schemas.Job(**job.to_json()) for job in service.jobs.history()]
        return schemas.JobList(jobs=found)

    @api.post("/jobs", status_code=201)
    async def start_job(wanted: questions.JobRequest) -> schemas.Job:
        """Index a folder; one job runs at a time."""
        return schemas.Job(**service.jobs.start(wanted.folder, wanted.crops).to_json())

    @api.get("/jobs/{job}")
    async def job(job: JobId) -> schemas.Job:
        """How far a job is, and what came of it."""
        return schemas.Job(**service.jobs.get(job).to_json())

    @api.delete("/jobs/{job}")
    async def cancel_job(job: JobId) -> schemas.Job:
        """Ask a job to end; what it has written is kept."""
        return schemas.Job(**service.jobs.cancel(job).to_json())

    @api.get(
        "/jobs/{job}/events",
        responses=gives("text/event-stream", "The job as JSON, each time that it has changed"),
    )
    async def job_events(job: JobId) -> StreamingResponse:
        """The job as server-sent events, until it ends."""
        events = _events(service.jobs, service.jobs.get(job))
        # The latter for nginx, which would keep events until it has a page of them.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    return api


async def _events(jobs: Jobs, job: Job) -> AsyncIterator[str]:
    last, said = None, time.monotonic()
    while True:
        now = job.to_json()
        if now != last:
            last, said = now, time.monotonic()
            yield f"data: {json.dumps(now)}\n\n"
        elif time.monotonic() - said > _SIGN_OF_LIFE:
            said = time.monotonic()
            yield ":\n\n"
        if now["state"] != "running" or jobs.stopping:
            return
        await asyncio.sleep(_EVENTS_EVERY)
