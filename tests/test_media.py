"""Videos over HTTP: moments, files with Range, frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import ColourModel
from fastapi.testclient import TestClient
from PIL import Image
from videos import write_video

import wordsight
from wordsight import web

HERE = "http://127.0.0.1:8765"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(
        tmp_path / "cams/hall.mp4", [("white", 20), ("red", 4), ("white", 9)], rate=5
    )


@pytest.fixture
def client(tmp_path: Path, video: Path) -> Iterator[TestClient]:
    library = wordsight.create(tmp_path / "lib", ColourModel())  # type: ignore[arg-type]
    Image.new("RGB", (40, 30), (20, 20, 220)).save(video.parent / "blue.png")
    library.index(video.parent)
    with TestClient(web.create_app(library), base_url=HERE) as client:
        yield client


def test_a_moment_is_found_and_played(client: TestClient, video: Path) -> None:
    answer = client.get("/api/v1/moments", params={"q": "red"}).json()
    (moment,) = answer["moments"]
    (series,) = answer["series"]
    assert series["video"] == moment["video"] == str(video)
    assert len(series["times"]) == len(series["z"])
    address = "/" + moment["media"].partition("#")[0]
    whole = client.get(address)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.content == video.read_bytes()
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == video.read_bytes()[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    assert client.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    picture = client.get("/" + moment["still"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert "media-src 'self'" in picture.headers["content-security-policy"]
    assert client.get("/api/v1/cameras").json() == {"cameras": ["hall"]}


def test_no_other_file_is_given_out(client: TestClient, video: Path) -> None:
    (hit,) = client.get("/api/v1/search", params={"q": "blue", "k": 1}).json()["hits"]
    assert client.get(f"/api/v1/media/{hit['id']}").status_code == 404
    assert client.get("/api/v1/media/0123456789abcdef").status_code == 404
    (moment,) = client.get("/api/v1/moments", params={"q": "red"}).json()["moments"]
    assert client.get(f"/api/v1/media/{moment['frame']}/frame?t=1").status_code == 200
    assert client.get(f"/api/v1/media/{moment['frame']}/frame?t=nan").status_code == 422
    assert client.get("/api/v1/moments", params={"q": "red", "camera": "x"}).status_code == 400
    video.unlink()
    assert client.get(f"/api/v1/media/{moment['frame']}").status_code == 410
    assert client.get(f"/api/v1/media/{moment['frame']}/frame?t=1").status_code == 410
