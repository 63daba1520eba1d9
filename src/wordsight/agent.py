"""A library as the tools of an MCP server, for programs that act on their own.

The protocol: https://modelcontextprotocol.io/specification. All tools read only, but ``index``,
which is there for folders that the server's owner allows. Needs the package ``mcp``.
"""

from __future__ import annotations

import functools
import inspect
import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from wordsight import __version__
from wordsight.classify import classify as classified
from wordsight.errors import QueryError, WordsightError
from wordsight.library import filters
from wordsight.search import ANSWERS, Query, Sort, Term, parse_query
from wordsight.sources.base import item_id

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from wordsight.api import Library

P = ParamSpec("P")
T = TypeVar("T")

INSTRUCTIONS = """\
Search a library of images on this machine. Look at `verdict` first: "match" means that the library
holds what was asked for, "not sure" that the closest images may be it, "no match" that nothing fits
(there are then no hits, and naming any image would be wrong). `picture` shows an image by its id.
Words describe what can be seen; several can be combined: "beach" + "sunset" - 0.5*"people"."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

Id = Annotated[str, Field(description="The id of an image, as search gives it.")]
Ids = Annotated[list[str], Field(max_length=32)]


def create_server(library: Library, *, allow_index: Sequence[str | Path] = ()) -> MCPServer:
    """A server over a library; run it with its own ``run()`` (standard input and output).

    Folders of ``allow_index`` and those in them may be indexed by a tool; without any there is no
    such tool. Errors that a caller can mend come as results with ``is_error``, in one line.
    """
    server = MCPServer(
        "wordsight", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    tools = _Tools(library, [Path(folder).resolve() for folder in allow_index])
    for tool in (tools.search, tools.moments, tools.picture, tools.classify, tools.info):
        server.add_tool(
            _guarded(tool, tools.lock), description=inspect.getdoc(tool), annotations=_READS
        )
    if tools.folders:
        server.add_tool(
            _guarded(tools.index, tools.lock),
            description=inspect.getdoc(tools.index),
            annotations=_ADDS,
        )
    return server


def _guarded(tool: Callable[P, T], lock: threading.Lock) -> Callable[P, T]:
    """One call at a time; what a user can mend is told, all else is a fault of ours."""

    @functools.wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with lock:
                return tool(*args, **kwargs)
        except WordsightError as error:
            raise ToolError(str(error)) from error

    return call


class _Tools:
    """The tools. Their signatures and docstrings are what a client reads."""

    def __init__(self, library: Library, folders: Sequence[Path]) -> None:
        self.library = library
        self.folders = folders
        self.lock = threading.Lock()  # a library is not for several threads at once

    def search(
        self,
        query: Annotated[str, Field(description='Words, or "a" + "b" - 0.5*"c".')] = "",
        k: Annotated[int, Field(ge=1, le=100)] = 10,
        like: Ids = [],  # noqa: B006
        unlike: Ids = [],  # noqa: B006
        where: Annotated[
            str | None,
            Field(
                description="A filter in SQL over taken, camera, lens, latitude, longitude, "
                "orientation, media, keywords, caption, path, label, width, height, size: "
                "\"taken >= '2023-07' and camera like 'Pixel%'\""
            ),
        ] = None,
        after: Annotated[
            str | None, Field(description="Only images taken on this date or later: 2023, 2023-07")
        ] = None,
        before: Annotated[
            str | None, Field(description="Only images taken before this date")
        ] = None,
        folder: Annotated[str | None, Field(description="Only images in this folder")] = None,
        near: Annotated[
            str | None, Field(description="Only images taken near this place: 48.1,11.6,5km")
        ] = None,
        label: Annotated[str | None, Field(description="Only images with this label")] = None,
        sort: Sort = "score",
        false_accept: Annotated[
            float, Field(gt=0, lt=1, description="How often unrelated words may match")
        ] = 0.05,
        anyway: Annotated[
            bool, Field(description="Give the closest, whatever the verdict")
        ] = False,
    ) -> dict[str, Any]:
        """Find the images that fit words best, or are like (unlike) images of the library.

        `verdict` is "match", "not sure" or "no match"; `explanation` says why.
        """
        terms = list(parse_query(query).terms) if query.strip() else []
        terms += [Term(1.0, image=self._image(image)) for image in like]
        terms += [Term(-1.0, image=self._image(image)) for image in unlike]
        if all(term.weight < 0 for term in terms):
            raise QueryError("say what to look for: words in query, or ids of images in like.")
        if any(isinstance(term.image, str) for term in terms):
            raise QueryError("files cannot be opened from here; give ids of images in like.")
        result = self.library.search(
            Query(tuple(terms)),
            k,
            false_accept=false_accept,
            anyway=anyway,
            label=label,
            where=filters.joined(
                where,
                after and filters.after(after),
                before and filters.before(before),
                folder and filters.inside(folder),
                near and filters.near(near),
            ),
            sort=sort,
        )
        return {**result.to_json(), "verdict": ANSWERS[result.verdict]}

    def moments(
        self,
        query: Annotated[str, Field(description="Words for what can be seen")],
        k: Annotated[int, Field(ge=1, le=100)] = 10,
        camera: Annotated[str | None, Field(description="Only this camera")] = None,
        start: Annotated[
            str | None, Field(description="From this time on: 2026-03-01T08:00")
        ] = None,
        end: Annotated[str | None, Field(description="Until this time")] = None,
        false_accept: Annotated[float, Field(gt=0, lt=1)] = 0.05,
        anyway: Annotated[
            bool, Field(description="Give the closest, whatever the verdict")
        ] = False,
    ) -> dict[str, Any]:
        """Find when the library's videos show something: seconds in a file, and by the clock.

        `id` of a moment is its best frame, for `picture`.
        """
        found = self.library.moments(
            query,
            k,
            false_accept=false_accept,
            anyway=anyway,
            camera=camera,
            start=start,
            end=end,
        )
        answer = found.to_json()
        for told, moment in zip(answer["moments"], found.moments, strict=True):
            told["id"] = item_id(moment.thumbnail)
        return {**answer, "verdict": ANSWERS[found.verdict]}

    def picture(self, id: Id, side: Annotated[int, Field(ge=16, le=2048)] = 768) -> Image:
        """An image of the library, as a JPEG whose longer side is at most `side` pixels."""
        image = self._image(id, side)
        image.thumbnail((side, side))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        return Image(data=out.getvalue(), format="jpeg")

    def classify(
        self,
        ids: Ids,
        labels: Annotated[list[str], Field(min_length=1, max_length=1000)],
        top: Annotated[int, Field(ge=1, le=20)] = 3,
    ) -> dict[str, Any]:
        """Which of these labels each image shows, with confidences, or none of these."""
        images = [self._image(image) for image in ids]
        found = classified(images, labels, model=self.library.model, top=top)
        return {"images": [{"id": i, **one.to_json()} for i, one in zip(ids, found, strict=True)]}

    def info(self) -> dict[str, Any]:
        """What the library holds: counts, model, folders that may be indexed."""
        self.library.store.refresh()
        return {**self.library.info(), "may_index": [str(folder) for folder in self.folders]}

    def index(
        self,
        folder: Annotated[str, Field(description="A folder that info lists, or one inside it")],
    ) -> dict[str, Any]:
        """Bring the library up to date with a folder. Removes nothing."""
        path = Path(folder).expanduser().resolve()
        if not any(path.is_relative_to(allowed) for allowed in self.folders):
            allowed = ", ".join(map(str, self.folders))
            raise WordsightError(f"{folder} may not be indexed from here; allowed: {allowed}.")
        return self.library.index([path]).to_json()

    def _image(self, identity: str, side: int = 512) -> Picture:
        from wordsight.images import open_image
        from wordsight.sources import read_location

        self.library.store.refresh()
        records = self.library.store.images([identity])
        if not records:
            raise QueryError(f"the library has no image {identity}.")
        path = records[0].path
        return open_image(read_location(path), min_side=side, name=path)
