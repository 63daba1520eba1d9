"""The web page's server: answers, and what it refuses."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import ColourModel
from fastapi.testclient import TestClient
from PIL import Image

import wordsight
from wordsight.web import app as web
from wordsight.web import batching, guard

Photos = Callable[..., Path]
HERE = "http://localhost"


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, kind)
    return out.getvalue()


@pytest.fixture
def library(tmp_path: Path, photos: Photos, model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(photos(red=12, blue=12, green=12))
    return made


@pytest.fixture
def client(library: wordsight.Library) -> Iterator[TestClient]:
    with TestClient(web.create_app(library), base_url=HERE) as client:
        yield client


def test_search_answers_as_the_command_does(client: TestClient, library: wordsight.Library) -> None:
    answer = client.get("/api/v1/search", params={"q": "red", "k": 5, "anyway": True}).json()
    expected = library.search("red", 5, anyway=True).to_json()
    assert {k: v for k, v in answer.items() if k != "timings_ms"} == {
        k: v for k, v in expected.items() if k != "timings_ms"
    }
    assert len(answer["hits"]) == 5


def test_no_match_is_said(client: TestClient) -> None:
    answer = client.get("/api/v1/search", params={"q": "nonsense", "false_accept": 0.01}).json()
    assert not answer["match"]
    assert answer["hits"] == []


def test_search_by_image_alone_and_with_words(client: TestClient) -> None:
    answer = client.post("/api/v1/search", content=picture((20, 20, 220)), params={"k": 3}).json()
    assert all("blue" in hit["path"] for hit in answer["hits"])
    answer = client.post(
        "/api/v1/search", content=picture((20, 20, 220)), params={"k": 3, "q": '- "blue" + "red"'}
    ).json()
    assert len(answer["hits"]) == 3


def test_more_like_this_begins_with_the_image_itself(client: TestClient) -> None:
    (hit,) = client.get("/api/v1/search?q=green&k=1&anyway=true").json()["hits"]
    answer = client.get(f"/api/v1/images/{hit['id']}/similar?k=2").json()
    assert answer["hits"][0]["id"] == hit["id"]


def test_pictures_come_without_metadata(
    client: TestClient, library: wordsight.Library, tmp_path: Path
) -> None:
    (tmp_path / "exif").mkdir()
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    Image.new("RGB", (900, 600), (220, 20, 20)).save(tmp_path / "exif" / "x.jpg", exif=exif)
    library.index(tmp_path / "exif")
    (entry,) = [e for e in library.store.entries() if e.path.endswith("x.jpg")]
    for kind, side in (("thumbnails", 320), ("images", 900)):
        response = client.get(f"/api/v1/{kind}/{entry.id}")
        assert response.headers["content-type"] == "image/jpeg"
        assert b"SECRET" not in response.content
        assert max(Image.open(io.BytesIO(response.content)).size) == side


def test_a_library_that_grows_is_seen(client: TestClient, library: wordsight.Library) -> None:
    other = wordsight.open(library.path, library.model)
    other.add([Image.new("RGB", (16, 16), (230, 220, 20))], ["sun"])
    (hit,) = client.get("/api/v1/search?q=yellow&k=1&anyway=true").json()["hits"]
    assert hit["path"] == "sun"
    assert client.get("/api/v1/library").json()["images"] == 37
    # What was added from memory has no file to show.
    assert client.get(f"/api/v1/images/{hit['id']}").status_code == 410


def test_classify_names_the_colour(client: TestClient) -> None:
    answer = client.post(
        "/api/v1/classify",
        content=picture((220, 20, 20)),
        params={"labels": "blue, red ,green", "template": "{}", "top": 2},
    ).json()
    assert answer["top"][0]["label"] == "red"
    assert len(answer["top"]) == 2


def test_facts_and_regions(client: TestClient) -> None:
    assert client.get("/api/v1/health").json()["status"] == "ok"
    (hit,) = client.get("/api/v1/search?q=red&k=1&anyway=true").json()["hits"]
    about = client.get(f"/api/v1/regions/{hit['id']}").json()
    assert [view["kind"] for view in about["views"]] == ["image"]


def test_the_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ["/", *re.findall(r'(?:src|href)="([^"]+)"', page.text)]:
        body = client.get(path)
        assert body.status_code == 200, path
        assert not re.search(r"(?:https?:)?//[a-z]", body.text), path
    assert not re.search(r"<script>|style=|\son[a-z]+=", page.text)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/search?q=", 400),
        ("/api/v1/search?q=red&k=0", 422),
        ("/api/v1/search?q=red&k=100000", 422),
        ("/api/v1/search?q=red&false_accept=2", 422),
        ("/api/v1/search?q=" + "x" * 1001, 422),
        ('/api/v1/search?q=@"/etc/hostname"', 400),
        ("/api/v1/images/0123456789abcdef", 404),
        ("/api/v1/images/..%2f..%2fetc%2fpasswd", 404),
        ("/api/v1/thumbnails/zz", 422),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/guard.py", 404),
        ("/nowhere", 404),
    ],
)
def test_bad_requests_are_told_in_one_form(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]


def test_labels_never_name_a_file(client: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "labels.txt"
    secret.write_text("alpha\nbeta\n", encoding="utf-8")
    response = client.post(
        "/api/v1/classify", content=picture((1, 1, 1)), params={"labels": str(secret)}
    )
    assert response.status_code == 400
    assert "alpha" not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 400),
        (b"GIF89a<script>alert(1)</script>", 400),
        (picture((1, 2, 3))[:60], 400),
    ],
    ids=["empty", "svg", "polyglot", "truncated"],
)
def test_what_is_no_image_is_refused(client: TestClient, body: bytes, status: int) -> None:
    assert client.post("/api/v1/search", content=body).status_code == status


def test_a_decompression_bomb_is_refused(client: TestClient) -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    response = client.post("/api/v1/classify", content=out.getvalue())
    assert response.status_code == 400
    assert "too large" in response.json()["detail"]


@pytest.mark.parametrize("told", [True, False])
def test_too_large_an_upload_is_cut_off(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b"x" * 2**20

    content = b"x" * (guard.MAX_UPLOAD + 1) if told else body()
    assert client.post("/api/v1/search", content=content).status_code == 413


def test_other_hosts_and_other_sites_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
        assert client.get("/api/v1/health", headers={"host": host}).status_code == 400
    assert client.get("/api/v1/health", headers={"host": "127.0.0.1:8000"}).status_code == 200
    body = picture((1, 2, 3))
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert client.post("/api/v1/search", content=body, headers=headers).status_code == 403
    own = client.post("/api/v1/search", content=body, headers={"origin": HERE})
    assert own.status_code == 200


def test_a_token_is_needed_where_there_is_one(library: wordsight.Library) -> None:
    app = web.create_app(library, token="right")
    login = app.state.guard.login_path
    with TestClient(app, base_url=HERE) as stranger:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"}):
            response = stranger.get("/api/v1/search?q=red", headers=headers)
            assert response.status_code == 401
            assert response.headers["content-type"] == "application/problem+json"
        assert stranger.get("/").status_code == 401
        assert stranger.get("/login/wrong").status_code == 401
        with_token = {"authorization": "Bearer right"}
        assert stranger.get("/api/v1/search?q=red", headers=with_token).status_code == 200
    with TestClient(app, base_url=HERE) as browser:
        landed = browser.get(login)
        assert landed.status_code == 200
        cookie = landed.history[0].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/api/v1/search?q=red").status_code == 200
    with TestClient(app, base_url=HERE) as late:
        assert late.get(login).status_code == 401  # the link works once


def test_when_all_turns_are_taken_one_is_told_to_come_again(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "QUEUE", 0)
    with TestClient(web.create_app(library), base_url=HERE) as client:
        response = client.get("/api/v1/search?q=red")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/api/v1/health").status_code == 200
