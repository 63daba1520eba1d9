"""The MCP server, asked by the package's own client: what an agent sees and what it cannot do."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import ColourModel
from PIL import Image

import wordsight
from wordsight.cli import main

pytest.importorskip("mcp", reason='pip install "wordsight[mcp]"')
anyio = pytest.importorskip("anyio")

Photos = Callable[..., Path]


@pytest.fixture
def library(photos: Photos, model: ColourModel, tmp_path: Path) -> wordsight.Library:
    made = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    made.index(photos(red=3, blue=2))
    return made


def ask(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Results of tools, from a client in this process; without calls the tools."""
    from mcp import Client

    async def talk() -> list[Any]:
        async with Client(server) as client:
            if not calls:
                return list((await client.list_tools()).tools)
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(talk)  # type: ignore[no-any-return]


def tools(library: wordsight.Library, **options: Any) -> Any:
    from wordsight.agent import create_server

    return create_server(library, **options)


def test_tools_are_described_without_indentation(library: wordsight.Library) -> None:
    for tool in ask(tools(library)):
        assert tool.description
        assert "\n  " not in tool.description


def test_search_says_match_or_no_match(library: wordsight.Library) -> None:
    found, nothing, anyway = ask(
        tools(library),
        ("search", {"query": "red", "k": 2}),
        ("search", {"query": "a zebra"}),
        ("search", {"query": "a zebra", "anyway": True, "k": 1}),
    )
    assert found.structured_content["verdict"] == "match"
    assert [Path(hit["path"]).name[:3] for hit in found.structured_content["hits"]] == ["red"] * 2
    assert json.loads(found.content[0].text) == found.structured_content
    assert nothing.structured_content["verdict"] == "no match"
    assert nothing.structured_content["hits"] == []
    assert len(anyway.structured_content["hits"]) == 1


def test_filters_and_images_as_queries(library: wordsight.Library, tmp_path: Path) -> None:
    blue = next(e.id for e in library.store.entries() if "blue" in e.path)
    like, filtered, elsewhere = ask(
        tools(library),
        ("search", {"like": [blue], "k": 2}),
        ("search", {"query": "red", "where": "path like '%red-1%'", "anyway": True}),
        ("search", {"query": "red", "folder": str(tmp_path / "other")}),
    )
    assert {Path(h["path"]).name[:4] for h in like.structured_content["hits"]} == {"blue"}
    assert [Path(h["path"]).name for h in filtered.structured_content["hits"]] == ["red-1.png"]
    assert elsewhere.is_error
    assert "no image in the library fits the filter" in elsewhere.content[0].text


def test_a_picture_is_image_content(library: wordsight.Library) -> None:
    image, missing = ask(
        tools(library),
        ("picture", {"id": library.store.entries()[0].id, "side": 16}),
        ("picture", {"id": "0" * 16}),
    )
    content = image.content[0]
    assert (content.type, content.mime_type) == ("image", "image/jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(content.data))).size == (16, 12)
    assert missing.is_error
    assert "no image 0000000000000000" in missing.content[0].text


def test_moments_of_videos(model: ColourModel, tmp_path: Path) -> None:
    pytest.importorskip("av", reason='pip install "wordsight[video]"')
    from videos import write_video

    write_video(tmp_path / "hall.mp4", [("white", 20), ("red", 5), ("white", 12)], rate=5)
    library = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    library.index(tmp_path / "hall.mp4", every=1.0)
    server = tools(library)
    found, nothing = ask(server, ("moments", {"query": "red"}), ("moments", {"query": "a zebra"}))
    moment = found.structured_content["moments"][0]
    assert found.structured_content["verdict"] == "match"
    assert (moment["start"], moment["end"]) == (pytest.approx(20, abs=1), pytest.approx(25, abs=1))
    assert nothing.structured_content["verdict"] == "no match"
    (frame,) = ask(server, ("picture", {"id": moment["id"], "side": 32}))
    assert frame.content[0].type == "image"


def test_classify_and_info(library: wordsight.Library) -> None:
    red = next(e.id for e in library.store.entries() if "red" in e.path)
    judged, info = ask(
        tools(library), ("classify", {"ids": [red], "labels": ["red", "blue"]}), ("info", {})
    )
    (one,) = judged.structured_content["images"]
    assert (one["id"], one["top"][0]["label"]) == (red, "red")
    assert info.structured_content["images"] == 5
    assert info.structured_content["may_index"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "say what to look for"),
        ({"query": '@"/etc/passwd"'}, "files cannot be opened"),
        ({"query": '"a" + '}, "cannot read the query"),
        ({"query": "red", "where": "nonsense ="}, "the filter cannot be read"),
        ({"query": "red", "k": 0}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_told(
    library: wordsight.Library, arguments: dict[str, Any], told: str
) -> None:
    (answer,) = ask(tools(library), ("search", arguments))
    assert answer.is_error
    assert told in answer.content[0].text


def test_it_reads_only_unless_a_folder_is_allowed(
    library: wordsight.Library, photos: Photos, tmp_path: Path
) -> None:
    assert all(tool.annotations.read_only_hint for tool in ask(tools(library)))
    (unknown,) = ask(tools(library), ("index", {"folder": str(tmp_path)}))
    assert unknown.is_error
    more, other = photos("more", green=2), photos("other", green=1)
    server = tools(library, allow_index=[more])
    names = {tool.name: tool.annotations.read_only_hint for tool in ask(server)}
    assert names == dict.fromkeys(("search", "moments", "picture", "classify", "info"), True) | {
        "index": False
    }
    done, refused, way_round = ask(
        server,
        ("index", {"folder": str(more)}),
        ("index", {"folder": str(other)}),
        ("index", {"folder": str(more / "../other")}),
    )
    assert done.structured_content["indexed"] == 2
    assert refused.is_error
    assert "may not be indexed" in refused.content[0].text
    assert way_round.is_error
    assert len(wordsight.open(library.path, library.model)) == 7


def test_over_standard_input_and_output(
    photos: Photos, tmp_path: Path, starter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a client starts it: with what --json says, in a process of its own."""
    from mcp import Client, StdioServerParameters, stdio_client

    folder = photos(red=2)
    made = wordsight.create(tmp_path / "L", starter)
    made.index(folder)
    with pytest.raises(SystemExit):
        main(["mcp", "--library", str(made.path), "--json"])
    entry = json.loads(capsys.readouterr().out)["mcpServers"]["wordsight"]

    started = StdioServerParameters(**entry, env=dict(os.environ))  # the tests' own caches

    async def talk() -> Any:
        async with Client(stdio_client(started)) as client:
            return await client.call_tool("search", {"query": "red", "anyway": True})

    answer = anyio.run(talk)
    assert len(answer.structured_content["hits"]) == 2


def test_without_the_package_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "wordsight.agent", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["mcp"])
    assert end.value.code == 2
    assert 'pip install "wordsight[mcp]"' in capsys.readouterr().err
