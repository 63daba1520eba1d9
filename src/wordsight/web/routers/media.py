"""Videos for the page: moments as JSON, the files themselves, and single frames.

A video is named by the id of any frame of it; no path from a client is ever opened.
"""

from __future__ import annotations

import io
import mimetypes
import os
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from fastapi.responses import FileResponse, Response

from wordsight.errors import ImageError
from wordsight.sources.base import item_id
from wordsight.video import frame_path, split_frame
from wordsight.web.guard import Problem
from wordsight.web.routers.shared import PREFIX, PROBLEMS

if TYPE_CHECKING:
    from wordsight.web.service import Service

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$", description="The id of a frame of it.")]
Name = Annotated[str | None, Query(max_length=300)]
Time = Annotated[str | None, Query(max_length=40, description="ISO 8601")]

_TYPES = {
    ".mkv": "video/x-matroska",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".m4v": "video/mp4",
}
_FRAME: dict[int | str, dict[str, Any]] = {
    200: {"description": "The frame", "content": {"image/jpeg": {}}}
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The video", "content": {"video/*": {}}},
    206: {"description": "A part of it", "content": {"video/*": {}}},
}


def router(service: Service) -> APIRouter:
    """The routes below ``/api/v1`` that videos need."""
    api = APIRouter(prefix=PREFIX, responses=PROBLEMS)

    @api.get("/moments")
    async def moments(
        q: Annotated[str, Query(min_length=1, max_length=2000)],
        k: Annotated[int, Query(ge=1, le=500)] = 20,
        false_accept: Annotated[float, Query(gt=0, lt=1)] = 0.05,
        anyway: bool = False,
        camera: Name = None,
        start: Time = None,
        end: Time = None,
    ) -> dict[str, Any]:
        """Moments of videos for words, and the scores over time of each video that has one.

        ``frame`` of a moment is the id of its best frame, ``media`` and ``still`` are addresses.
        """

        asked: dict[str, Any] = {"false_accept": false_accept, "anyway": anyway}
        asked |= {"camera": camera, "start": start, "end": end}
        return await service.run(lambda: _moments(service, q, k, asked))

    @api.get("/cameras")
    async def cameras() -> dict[str, list[str]]:
        """The names of the cameras whose recordings the library holds."""

        def work() -> list[str]:
            with service._lock:
                service.library.store.refresh()
                return sorted({name for name in service.library.store.frames().cameras if name})

        return {"cameras": await service.run(work)}

    @api.get("/media/{frame}", responses=_FILE, response_class=FileResponse)
    async def media(frame: Id) -> FileResponse:
        """A video file, or a part of it (Range, RFC 9110, section 14)."""
        path = await service.run(lambda: _video(service, frame))
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
        kind = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = {"Cache-Control": "private, max-age=3600"}
        return FileResponse(path, media_type=kind, headers=headers)

    @api.get("/media/{frame}/frame", responses=_FRAME)
    async def still(
        frame: Id,
        t: Annotated[float, Query(ge=0, le=10_000_000, description="Seconds")],
        side: Annotated[int, Query(ge=16, le=1600)] = 320,
    ) -> Response:
        """What a video shows at a time, its longer side at most ``side`` pixels."""
        data = await service.run(lambda: _still(_video(service, frame), t, side))
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type="image/jpeg", headers=headers)

    return api


def _moments(service: Service, words: str, k: int, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer of ``/moments``; ``asked`` are options of ``Library.moments``."""
    with service._lock:
        found = service.library.moments(words, k, **asked)
    answer = found.to_json()
    for moment in answer["moments"]:
        frame = item_id(moment["thumbnail"])
        moment |= {
            "frame": frame,
            "media": f"api/v1/media/{frame}#t={moment['start']:.2f},{moment['end']:.2f}",
            "still": f"api/v1/media/{frame}/frame?t={moment['best']:.3f}",
        }
    shown = {moment["video"] for moment in answer["moments"]}
    answer["series"] = [each.to_json() for each in found.series if each.video in shown]
    answer["least"] = found.least if found.least < float("inf") else None
    return answer


def _video(service: Service, frame: str) -> str:
    """The file of the video that a frame is of. Raises Problem."""
    found = split_frame(service.catalogue.file(frame).path)
    if found is None:
        raise Problem(404, f"the image {frame} is not a frame of a video")
    if not os.path.isfile(found[0]):  # noqa: PTH113
        raise Problem(410, "the video is missing")
    return found[0]


def _still(video: str, time: float, side: int) -> bytes:
    from wordsight.video.frames import frame_at

    try:
        picture = frame_at(frame_path(video, time), side)
    except ImageError as error:
        raise Problem(410, str(error)) from None
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()
