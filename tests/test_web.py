"""The web page's server: answers, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from fastapi.testclient import TestClient
from PIL import Image

import wordsight
from wordsight.classify import read_labels
from wordsight.cli import main
from wordsight.errors import LibraryError
from wordsight.web import app as web
from wordsight.web import batching, guard, kept, schemas, service

Photos = Callable[..., Path]
HERE = "http://localhost"


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, kind)
    return out.getvalue()


def shapes(seed: int) -> Image.Image:
    """A picture that is like no other one."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((480, 360))


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
    assert answer.keys() == schemas.SearchResult.model_fields.keys()  # what is documented
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


def test_several_templates_are_averaged(client: TestClient) -> None:
    about = client.get("/api/v1/classify").json()
    assert "cifar10" in about["label_sets"]
    assert about["template"] in about["ensemble"]
    params = {"labels": "blue,red", "template": ["{}", "a {} thing"]}
    found = client.post("/api/v1/classify", content=picture((220, 20, 20)), params=params).json()
    assert found["top"][0]["label"] == "red"
    bad = client.post("/api/v1/classify", content=picture((1, 1, 1)), params={"template": "x"})
    assert bad.status_code == 400


def keys(value: Any) -> Any:
    """The names in a JSON value, all the way down; a list as what its first element is."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else None


def test_the_json_is_that_of_the_command_line(
    tmp_path: Path, photos: Photos, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> Any:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--json"])
        assert end.value.code == 0
        return json.loads(capfd.readouterr().out)

    (tmp_path / "set").mkdir()
    for colour in ("red", "blue"):
        photos(f"set/{colour}", **{colour: 3})
    place = str(tmp_path / "lib")
    index = ("index", str(tmp_path / "set"), "--library", place, "--model", "starter")
    report = command(*index)
    app = web.create_app(wordsight.open(place), allow_index=[tmp_path / "set"])
    image = next((tmp_path / "set" / "red").iterdir())
    with TestClient(app, base_url=HERE) as client:

        def get(path: str) -> Any:
            return keys(client.get(f"/api/v1/{path}").json())

        asked = command("search", "a dog", "--library", place, "--anyway")
        assert get("search?q=a+dog&anyway=true") == keys(asked)
        answer = client.post("/api/v1/classify?labels=dog,cat", content=image.read_bytes()).json()
        (judged,) = command("classify", str(image), "--labels", "dog,cat", "--model", "starter")
        assert {**keys(answer), "path": None} == keys(judged)
        info = command("info", "--library", place)
        assert keys(info).items() <= get("library").items()
        (folder,) = client.get("/api/v1/index/folders").json()["folders"]
        job = client.post("/api/v1/index/jobs", json={"folder": folder["id"]}).json()["id"]
        assert keys(wait_for(client, job)["report"]) == keys(report)
        measured = command("evaluate", "--library", place, "--queries", "labels")
        made = client.post("/api/v1/evaluation").json()
        assert keys(made) == {**keys(measured), "table_version": None}


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
        assert body.headers["cache-control"] == "no-cache"  # or an old script meets a new page
        text = body.text.replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
        assert not re.search(r"(?:https?:)?//[a-z]", text), path
    assert not re.search(r"<script>|style=|\son[a-z]+=", page.text)


# -- the library without a query, filters, what is kept ------------------------------------------


@pytest.fixture
def dated(tmp_path: Path, model: ColourModel) -> Iterator[tuple[TestClient, Path]]:
    """Six pictures of two cameras in two folders, two of one name, one that says where."""
    for n, (folder, colour) in enumerate([(f, c) for f in "ab" for c in ((220, 20, 20), (20, 20, 220), (20, 200, 20))]):  # fmt: skip  # noqa: E501
        exif = Image.Exif()
        exif[0x0110] = f"Camera {n % 2}"
        exif.get_ifd(0x8769)[0x9003] = f"202{n % 3}:05:01 12:00:00"
        if n == 1:
            exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (11.0, 3.0, 0.0)})
        (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (90, 60) if n else (60, 90), colour)
        picture.save(tmp_path / "in" / folder / f"{n % 3}.jpg", exif=exif)
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(tmp_path / "in")
    with TestClient(web.create_app(made), base_url=HERE) as client:
        yield client, tmp_path / "in"


def test_images_are_listed_newest_first_and_filtered(dated: tuple[TestClient, Path]) -> None:
    client, folder = dated

    def listed(**params: Any) -> list[str]:
        answer = client.get("/api/v1/images", params=params).json()
        names = ["/".join(image["path"].split("/")[-2:]) for image in answer["images"]]
        assert answer["total"] >= len(names)
        return names

    assert [name[2] for name in listed()] == ["2", "2", "1", "1", "0", "0"]
    assert listed(skip=1, k=2) == listed()[1:3]
    assert listed(after="2022") == listed()[:2]
    assert listed(before="2021", camera="Camera 0") == ["a/0.jpg"]
    assert set(listed(folder=str(folder / "b"))) == {"b/0.jpg", "b/1.jpg", "b/2.jpg"}
    assert listed(near="48.2,11.05,1km") == ["a/1.jpg"]
    assert listed(orientation="portrait") == ["a/0.jpg"]
    assert listed(label="a", before="2021") == ["a/0.jpg"]
    assert client.get("/api/v1/images?after=soon").status_code == 400
    found = client.get("/api/v1/search?q=red&anyway=true&after=2020&before=2021").json()["hits"]
    assert {hit["path"][-5:] for hit in found} == {"0.jpg"}
    assert client.get("/api/v1/search?q=red&before=1990").status_code == 400
    first = client.get("/api/v1/search?q=red&anyway=true&k=2").json()["hits"]
    assert client.get("/api/v1/search?q=red&anyway=true&k=1&skip=1").json()["hits"] == first[1:]
    facets = client.get("/api/v1/facets").json()
    assert facets["cameras"] == [{"value": f"Camera {n}", "images": 3} for n in (0, 1)]
    assert [year["value"] for year in facets["years"]] == ["2020", "2021", "2022"]
    assert [one["value"] for one in facets["folders"]] == [str(folder / "a"), str(folder / "b")]
    assert facets["located"] == 1


def test_files_are_saved_alone_and_as_an_archive(dated: tuple[TestClient, Path]) -> None:
    client, folder = dated
    images = client.get("/api/v1/images").json()["images"]
    saved = client.get(f"/api/v1/originals/{images[0]['id']}")
    assert saved.content == Path(images[0]["path"]).read_bytes()
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''2.jpg"
    assert saved.headers["content-type"] == "application/octet-stream"  # never shown
    ids = [image["id"] for image in images]
    kept = client.post("/api/v1/selections", json={"images": ids}).json()["id"]
    listed = client.get(f"/api/v1/selections/{kept}").json()
    assert [image["id"] for image in listed["images"]] == ids
    (folder / "b" / "0.jpg").unlink()
    answer = client.get(f"/api/v1/selections/{kept}/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = ["0.jpg", "1 (2).jpg", "1.jpg", "2 (2).jpg", "2.jpg", "not included.txt"]
        assert sorted(archive.namelist()) == names
        assert "b/0.jpg" in archive.read("not included.txt").decode()
        assert archive.testzip() is None
    assert client.get(f"/api/v1/selections/{'0' * 32}").status_code == 404
    assert client.post("/api/v1/selections", json={"images": ["../x"]}).status_code == 422


def test_an_upload_is_kept_for_a_day(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    both = Image.new("RGB", (400, 200), (20, 20, 220))
    both.paste((220, 20, 20), (200, 0, 400, 200))
    both.save(out, "PNG")
    given = client.post("/api/v1/uploads", content=out.getvalue())
    assert given.status_code == 201
    upload = given.json()
    assert (upload["width"], upload["height"]) == (400, 200)
    shown = client.get(f"/api/v1/uploads/{upload['id']}")
    assert Image.open(io.BytesIO(shown.content)).size == (400, 200)
    for part, colour in (("@210,10,390,190", "red"), ("@0,0,190,200", "blue")):
        found = client.get("/api/v1/search", params={"like": upload["id"] + part, "k": 3}).json()
        assert all(f"{colour}-" in hit["path"] for hit in found["hits"])
    odd = client.get("/api/v1/search", params={"like": upload["id"] + "@900,0,910,9"})
    assert odd.status_code == 400
    monkeypatch.setattr(kept.time, "monotonic", lambda: time.time() + 1e9)
    assert client.get(f"/api/v1/uploads/{upload['id']}").status_code == 404


def test_what_is_kept_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    things = kept.Kept[str]("thing")
    first, second = things.put("a", 60), things.put("b", 30)
    assert (things.get(first), things.get(second)) == ("a", "b")
    third = things.put("c", 20)
    assert things.get(third) == "c"
    assert things.get(second) == "b"
    with pytest.raises(guard.Problem):
        things.get(first)


def test_a_part_of_an_image_is_searched_for(tmp_path: Path, model: ColourModel) -> None:
    both = Image.new("RGB", (400, 200), (20, 20, 220))
    both.paste((220, 20, 20), (200, 0, 400, 200))
    both.save(tmp_path / "both.png")
    Image.new("RGB", (64, 64), (220, 20, 20)).save(tmp_path / "red.png")
    Image.new("RGB", (64, 64), (20, 20, 220)).save(tmp_path / "blue.png")
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(tmp_path, crops="none")
    with TestClient(web.create_app(library), base_url=HERE) as client:
        images = client.get("/api/v1/images").json()["images"]
        (whole,) = [image["id"] for image in images if image["path"].endswith("both.png")]
        for part, name in (("@200,0,400,200", "red.png"), ("@0,0,200,200", "blue.png")):
            found = client.get("/api/v1/search", params={"like": whole + part}).json()["hits"]
            assert found[0]["path"].endswith(name)


def test_words_are_suggested_that_have_an_answer(
    labelled: wordsight.Library, client: TestClient
) -> None:
    with TestClient(web.create_app(labelled), base_url=HERE) as own:
        told = own.get("/api/v1/suggestions").json()["suggestions"]
        known = {label for label in labelled.store.labels().values() if label}
        assert {one["text"] for one in told} <= known
        for one in told:
            hits = own.get("/api/v1/search", params={"q": f"a photo of {one['text']}"}).json()
            assert hits["match"]
            assert hits["hits"][0]["id"] == one["image"]
    for one in client.get("/api/v1/suggestions").json()["suggestions"]:  # without labels
        assert one["text"] in read_labels("everyday")


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/search?q=", 400),
        ("/api/v1/search?q=red&k=0", 422),
        ("/api/v1/search?q=red&k=100000", 422),
        ("/api/v1/search?q=red&false_accept=2", 422),
        ("/api/v1/search?q=red&false_accept=1e-320", 422),
        ("/api/v1/search?q=" + "x" * 1001, 422),
        # What is not known would leave out nothing.
        ("/api/v1/search?q=red&where=width>5", 422),
        ("/api/v1/images?lable=red", 422),
        ('/api/v1/search?q=@"/etc/hostname"', 400),
        ("/api/v1/images/0123456789abcdef", 404),
        ("/api/v1/images/..%2f..%2fetc%2fpasswd", 404),
        ("/api/v1/thumbnails/zz", 422),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/guard.py", 404),
        ("/nowhere", 404),
        ("DELETE /api/v1/search?q=red", 405),
        ("BREW /", 405),
        ("POST /api/v1/search/batch", 422),
        ("POST /api/v1/classify", 400),
    ],
)
def test_bad_requests_are_told_in_one_form(client: TestClient, path: str, status: int) -> None:
    method, _, rest = path.rpartition(" ")
    response = client.request(method or "GET", rest)
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
    assert [c["label"] for c in response.json()["top"]] == [str(secret)]  # a label like any other
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


def test_what_hides_in_an_image_is_not_served(
    client: TestClient, library: wordsight.Library, tmp_path: Path
) -> None:
    """Images that are pages or archives too, for those who read them so."""
    folder = tmp_path / "polyglot"
    folder.mkdir()
    page = b"<html><script>alert(1)</script></html>"
    (folder / "after.png").write_bytes(picture((220, 20, 20)) + page)
    (folder / "page.html.jpg").write_bytes(picture((20, 20, 220), "JPEG") + b"PK\x03\x04" + page)
    comment = b"\xff\xfe" + (len(page) + 2).to_bytes(2, "big") + page
    plain = picture((20, 160, 20), "JPEG")
    (folder / "comment.jpg").write_bytes(plain[:2] + comment + plain[2:])
    (folder / "script.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'>%s</svg>" % page)
    (folder / "svg.png").write_bytes((folder / "script.svg").read_bytes())
    library.index(folder)
    found = [e for e in library.store.entries() if "polyglot" in e.path]
    assert {Path(e.path).name for e in found} == {"after.png", "page.html.jpg", "comment.jpg"}
    for entry in found:
        for kind in ("images", "thumbnails"):
            response = client.get(f"/api/v1/{kind}/{entry.id}")
            assert response.headers["content-type"] == "image/jpeg"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert b"script" not in response.content
            assert b"PK" not in response.content[-64:]
            assert Image.open(io.BytesIO(response.content)).format == "JPEG"
        answer = client.post("/api/v1/search?k=1", content=Path(entry.path).read_bytes())
        assert answer.json()["hits"][0]["id"] == entry.id  # it is still an image


@pytest.mark.parametrize(("kind", "size"), [("HEIC", (8064, 6048)), ("JPEG", (12_000, 9_000))])
def test_photographs_of_48_and_108_megapixels_are_taken(
    client: TestClient, kind: str, size: tuple[int, int]
) -> None:
    out, colour = io.BytesIO(), (20, 20, 220)
    if kind == "HEIC":
        heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
        if not heif.libheif_info()["HEIF"]:
            pytest.skip("libheif has no encoder for HEIC here")
        made = heif.from_pillow(Image.new("RGB", size, colour))
        made.save(out, quality=30, enc_params={"preset": "ultrafast"})
    else:
        Image.new("RGB", size, colour).save(out, kind)
    searched = client.post("/api/v1/search", content=out.getvalue(), params={"k": 3})
    assert searched.status_code == 200, searched.text
    assert all("blue" in hit["path"] for hit in searched.json()["hits"])
    named = client.post("/api/v1/classify", params={"labels": "red,blue"}, content=out.getvalue())
    assert named.json()["top"][0]["label"] == "blue", named.text


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
    part = b"x" * 2**20
    content = b"x" * (guard.MAX_BODY + 1) if told else iter([part] * 64)
    response = client.post("/api/v1/search", content=content)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


def test_other_hosts_and_other_sites_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
        assert client.get("/api/v1/health", headers={"host": host}).status_code == 400
    assert client.get("/api/v1/health", headers={"host": "127.0.0.1:8000"}).status_code == 200
    body = picture((1, 2, 3))
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
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
        assert stranger.get("/login/wrong").headers["refresh"] == "0; url=../"  # which asks
        assert not stranger.cookies
        with_token = {"authorization": "Bearer right"}
        assert stranger.get("/api/v1/search?q=red", headers=with_token).status_code == 200
    with TestClient(app, base_url=HERE) as browser:
        landed = browser.get(login)
        assert landed.status_code == 200
        # No redirect: with one, a click in a mail would lead to the page without the cookie.
        assert not landed.history
        assert landed.headers["refresh"] == "0; url=../"
        cookie = landed.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/api/v1/search?q=red").status_code == 200
        assert browser.get(login).status_code == 200  # to the page; there is nothing to log in
    with TestClient(app, base_url=HERE) as late:
        late.get(login)
        assert late.get("/api/v1/search?q=red").status_code == 401  # the link works once


def test_a_token_may_have_any_letters(library: wordsight.Library) -> None:
    app = web.create_app(library, token="geheim-ü")
    with TestClient(app, base_url=HERE) as client:
        for given, status in ((b"Bearer geheim-\xc3\xbc", 200), (b"Bearer geheim-\xff", 401)):
            answer = client.get("/api/v1/search?q=red", headers={"authorization": given})
            assert answer.status_code == status


def test_with_a_token_an_address_will_do_for_a_name(library: wordsight.Library) -> None:
    with TestClient(web.create_app(library, token="right"), base_url=HERE) as client:
        bearer = {"authorization": "Bearer right"}
        for host, status in (
            ("192.168.1.5:8000", 200),
            ("[fe80::1]:8000", 200),
            ("evil.example", 400),
        ):
            answer = client.get("/api/v1/health", headers={**bearer, "host": host})
            assert answer.status_code == status
        assert "--name evil.example" in answer.json()["detail"]
    with TestClient(web.create_app(library), base_url=HERE) as client:
        assert client.get("/api/v1/health", headers={"host": "192.168.1.5"}).status_code == 400


def test_a_picture_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    hit = client.get("/api/v1/search?q=red").json()["hits"][0]["id"]
    first = client.get(f"/api/v1/thumbnails/{hit}")
    known = {"if-none-match": first.headers["etag"]}
    again = client.get(f"/api/v1/thumbnails/{hit}", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(f"/api/v1/images/{hit}", headers=known).status_code == 200


def test_new_labels_hold_up_no_pictures(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, go = ColourModel.encode_texts, threading.Event()
    encoded = []

    def slow(self: ColourModel, texts: Any) -> Any:
        if len(texts) > 100:
            encoded.append(len(texts))
            assert go.wait(60)
        return encode(self, texts)

    monkeypatch.setattr(ColourModel, "encode_texts", slow)
    go.set()
    with TestClient(web.create_app(library), base_url=HERE) as client:
        hit = client.get("/api/v1/search?q=red").json()["hits"][0]["id"]
        go.clear()
        encoded.clear()
        with ThreadPoolExecutor(4) as pool:
            path = "/api/v1/classify?labels=red,blue&template=an image of {label}"
            asked = [pool.submit(client.post, path, content=picture((200, 0, 0))) for _ in range(4)]
            until = time.monotonic() + 60
            while not encoded:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert client.get(f"/api/v1/thumbnails/{hit}").status_code == 200
            go.set()
            assert [answer.result().status_code for answer in asked] == [200] * 4
    assert len(encoded) == 1


def test_a_browser_is_asked_for_the_token(library: wordsight.Library) -> None:
    app = web.create_app(library, token="right")
    page = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for late in (False, True):  # the token logs in as many browsers as know it
        with TestClient(app, base_url=HERE) as browser:
            asked = browser.get("/?q=red", headers=page)
            assert asked.status_code == 401
            assert '<form method="post" action="./login">' in asked.text
            assert browser.get("/static/style.css").status_code == 200
            for wrong in ("wrong", "", "right" + " " * 5000):
                refused = browser.post("/login", data={"token": wrong})
                assert refused.status_code == 401
                assert "That is not the token." in refused.text
            assert browser.get("/api/v1/search?q=red", headers=page).status_code == 401, late
            other = browser.post(
                "/login", data={"token": "right"}, headers={"origin": "https://evil.example"}
            )
            assert other.status_code == 403
            landed = browser.post("/login", data={"token": " right "}, headers={"origin": HERE})
            assert landed.status_code == 200
            assert landed.url.path == "/"
            assert "httponly" in landed.history[0].headers["set-cookie"].lower()
            assert browser.get("/api/v1/search?q=red").status_code == 200


def test_two_servers_of_one_machine_keep_their_logins(library: wordsight.Library) -> None:
    apps = {port: web.create_app(library, token="right") for port in (8000, 8001)}
    kept: dict[str, str] = {}  # a browser sends the cookies of a host to each of its ports
    for visit in ("log in", "come back"):
        for port, app in apps.items():
            here = f"http://localhost:{port}"
            with TestClient(app, base_url=here, cookies=kept) as browser:
                if visit == "log in":
                    browser.get(app.state.guard.login_path)
                    kept |= dict(browser.cookies.items())
                assert browser.get("/api/v1/search?q=red").status_code == 200


@pytest.mark.parametrize("token", ["", " ", "\n"])
def test_an_empty_token_lets_nobody_in(
    library: wordsight.Library,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    token: str,
) -> None:
    with pytest.raises(ValueError, match="token is empty"):
        web.create_app(library, token=token)

    def served(*_: Any) -> None:
        raise AssertionError("it is served")

    monkeypatch.setattr("wordsight.web.server.serve", served)
    command = ["serve", "--library", str(library.path), "--port", "0"]
    for options, variable in ((["--token", token], None), ([], token)):
        if variable is not None:
            monkeypatch.setenv("WORDSIGHT_TOKEN", variable)
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(SystemExit) as end:
                main([*command, "--host", host, *options])
            assert end.value.code == 2
            told = capfd.readouterr()
            assert not told.out
            (line,) = told.err.splitlines()
            assert "the token is empty" in line
            assert "unset WORDSIGHT_TOKEN" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])  # taken; not of this machine
def test_an_address_that_is_not_to_be_had_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], host: str
) -> None:
    library = wordsight.create(tmp_path / "lib", "starter")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(SystemExit) as end:
            main(["serve", "--library", str(library.path), "--host", host, "--port", port])
    assert end.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.count(host) == 1
    assert line.endswith("choose another --port or --host.")


def test_a_library_that_needs_no_fleet_is_told_so_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything that would have to be installed for one."""
    library = wordsight.create(tmp_path / "lib", "starter")
    with pytest.raises(SystemExit) as end:
        main(["serve", "--library", str(library.path), "--shards", "2"])
    assert end.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "fits into the memory of one process" in line
    assert "serve it without --shards" in line


def test_white_space_around_a_token_does_not_count(library: wordsight.Library) -> None:
    """As it comes from a file, say; a header cannot carry it."""
    with TestClient(web.create_app(library, token=" right\n"), base_url=HERE) as client:
        right = {"authorization": "Bearer right"}
        assert client.get("/api/v1/library", headers=right).status_code == 200
        for header in ("Bearer", "Bearer ", "Bearer wrong"):
            refused = client.get("/api/v1/library", headers={"authorization": header})
            assert refused.status_code == 401


def test_when_all_turns_are_taken_one_is_told_to_come_again(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "QUEUE", 0)
    with TestClient(web.create_app(library), base_url=HERE) as client:
        response = client.get("/api/v1/search?q=red")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/api/v1/health").status_code == 200


def test_who_waits_too_long_is_told_to_come_again(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the queue, that is: once it is being worked for, an answer comes however late."""
    monkeypatch.setattr(batching, "PATIENCE", 0.3)
    busy, go = threading.Event(), threading.Event()
    plain = library.search

    def held(*args: Any, **options: Any) -> Any:
        busy.set()
        assert go.wait(60)
        return plain(*args, **options)

    with TestClient(web.create_app(library), base_url=HERE) as client, ThreadPoolExecutor() as pool:
        library.search = held  # type: ignore[method-assign]
        first = pool.submit(client.get, "/api/v1/search?q=red")
        assert busy.wait(60)
        second = client.get("/api/v1/search?q=blue")
        assert second.status_code == 503
        assert int(second.headers["retry-after"]) > 0
        assert second.headers["content-type"] == "application/problem+json"
        go.set()
        assert first.result().status_code == 200


def test_those_who_ask_again_and_again_stay_together() -> None:
    sizes: list[int] = []

    def answer(questions: list[int], _: None) -> list[int]:
        sizes.append(len(questions))
        time.sleep(0.2)
        return questions

    async def run() -> None:
        batcher = batching.Batcher[int, None, int](answer)
        batcher.start()

        async def client(number: int) -> None:
            await asyncio.sleep(0.05 * (number % 3))  # they come in three groups
            for _ in range(6):
                assert await batcher.ask(number, None) == number

        await asyncio.gather(*(client(number) for number in range(12)))
        await batcher.stop()

    asyncio.run(run())
    assert sum(sizes) == 72
    assert sizes.count(12) >= 3


def test_stopping_turns_away_all_who_wait() -> None:
    """Those of the batch under way too, with whatever settings."""
    busy, go = threading.Event(), threading.Event()

    def answer(questions: list[int], _: str) -> list[int]:
        busy.set()
        assert go.wait(60)
        return questions

    async def run() -> list[Any]:
        batcher = batching.Batcher[int, str, int](answer)
        batcher.start()
        asked = [asyncio.ensure_future(batcher.ask(n, f"settings {n}")) for n in range(3)]
        assert await asyncio.to_thread(busy.wait, 60)
        threading.Timer(0.1, go.set).start()
        await batcher.stop()
        done, _ = await asyncio.wait(asked, timeout=10)
        assert len(done) == 3
        return [one.exception() for one in done]

    for error in asyncio.run(run()):
        assert isinstance(error, guard.Problem)
        assert error.status_code == 503


def test_a_turn_is_taken_until_its_thread_has_ended(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nobody waits any more: who asks and goes away gets no more threads than others."""
    monkeypatch.setattr(service, "AT_ONCE", 1)
    monkeypatch.setattr(service, "PATIENCE", 0.1)
    busy, go = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        assert go.wait(60)

    async def run() -> None:
        served = service.Service(library)
        gone = asyncio.ensure_future(served.run(work))
        assert await asyncio.to_thread(busy.wait, 60)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(guard.Problem):
            await served.run(lambda: None)
        go.set()
        monkeypatch.setattr(service, "PATIENCE", 60)
        await served.run(lambda: None)

    asyncio.run(run())


def test_another_library_in_its_place_is_served(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    place = tmp_path / "lib"
    (tmp_path / "in").mkdir()
    photos("in/dog", red=2)
    photos("in/cat", blue=1)
    wordsight.create(place, model).index(tmp_path / "in")
    served = service.Service(wordsight.open(place, model))
    assert [row["images"] for row in served.catalogue.info(0)["labels"]] == [1, 2]
    shutil.rmtree(place)
    wordsight.create(place, model).index(photos("new", blue=4))
    assert served.catalogue.info(0)["labels"] == []
    assert served.catalogue.info(0)["images"] == served.catalogue.count() == 4


def test_too_much_is_told_while_the_search_is_under_way(library: wordsight.Library) -> None:
    go = threading.Event()
    plain = library.search

    def held(*args: Any, **options: Any) -> Any:
        assert go.wait(60)
        return plain(*args, **options)

    with TestClient(web.create_app(library), base_url=HERE) as client:
        library.search = held  # type: ignore[method-assign]
        content = iter([b"x" * 2**20] * 32)
        response = client.request("GET", "/api/v1/search?q=red", content=content)
        go.set()
    assert response.status_code == 413


# -- combinations, labels, batches ----------------------------------------------------------------


def test_images_of_the_library_count_for_and_against(client: TestClient) -> None:
    (blue,) = client.get("/api/v1/search?q=blue&k=1&anyway=true").json()["hits"]
    (red,) = client.get("/api/v1/search?q=red&k=1&anyway=true").json()["hits"]
    like = client.get("/api/v1/search", params={"like": [blue["id"]], "k": 12}).json()
    assert like["hits"][0]["id"] == blue["id"]
    both = {"q": '"red" + "blue"', "unlike": [red["id"]], "k": 12, "anyway": True}
    hits = client.get("/api/v1/search", params=both).json()["hits"]
    assert all("blue" in hit["path"] for hit in hits)
    alone = client.get("/api/v1/search", params={"unlike": [red["id"]]})
    assert alone.status_code == 400
    assert "what to look for" in alone.json()["detail"]


def test_a_region_is_searched_for(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    picture_ = Image.new("RGB", (240, 120), (220, 20, 20))
    picture_.paste((20, 20, 220), (120, 0, 240, 120))
    picture_.save(folder / "both.png")
    for name, colour in {"red": (220, 20, 20), "blue": (20, 20, 220)}.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(folder, crops="tiles")
    (both,) = [e for e in library.store.entries() if e.path.endswith("both.png")]
    with TestClient(web.create_app(library), base_url=HERE) as client:
        views = client.get(f"/api/v1/regions/{both.id}").json()["views"]
        right = max(range(1, len(views)), key=lambda n: views[n]["box"][0])  # 0 is the whole image
        params = {"like": [f"{both.id}:{right}"], "crops": False}
        hits = client.get("/api/v1/search", params=params).json()["hits"]
        assert hits[0]["path"].endswith("blue.png")
        missing = client.get("/api/v1/search", params={"like": [f"{both.id}:999"]})
        assert missing.status_code == 404


@pytest.fixture
def labelled(tmp_path: Path, photos: Photos, model: ColourModel) -> wordsight.Library:
    (tmp_path / "set").mkdir()
    for colour in ("red", "green", "blue"):
        photos(f"set/{colour}", **{colour: 6})
    made = wordsight.create(tmp_path / "labelled", model)  # type: ignore[arg-type]
    made.index(tmp_path / "set")
    return made


def test_a_label_narrows_the_search(labelled: wordsight.Library) -> None:
    with TestClient(web.create_app(labelled), base_url=HERE) as client:
        about = client.get("/api/v1/library").json()
        assert {row["label"]: row["images"] for row in about["labels"]} == {
            "red": 6, "green": 6, "blue": 6
        }  # fmt: skip
        params = {"q": "red", "label": "blue", "anyway": True}
        hits = client.get("/api/v1/search", params=params).json()["hits"]
        assert [hit["label"] for hit in hits] == ["blue"] * 6
        assert client.get("/api/v1/search?q=red&label=none").status_code == 400


def test_a_batch_answers_as_single_searches_do(
    client: TestClient, library: wordsight.Library
) -> None:
    queries = ["red", "blue", "nonsense", '"green" - "red"']
    body = {"queries": queries, "k": 3, "anyway": True}
    results = client.post("/api/v1/search/batch", json=body).json()["results"]
    assert [result["query"] for result in results] == queries
    for query, result in zip(queries, results, strict=True):
        alone = library.search(query, 3, anyway=True).to_json()
        assert [hit["id"] for hit in result["hits"]] == [hit["id"] for hit in alone["hits"]]
        assert result["match"] == alone["match"]
    bad = client.post("/api/v1/search/batch", json={"queries": ["red", '"red" - "red"']})
    assert bad.status_code == 400
    assert client.post("/api/v1/search/batch", json={"queries": ['@"/etc/passwd"']}).is_error


def test_concurrent_searches_share_batches(library: wordsight.Library) -> None:
    expected = {q: library.search(q, 5, anyway=True) for q in ("red", "green", "blue", "black")}
    sizes: list[int] = []
    plain = library.search

    def watched(query: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(query))
        return plain(query, *args, **options)

    library.search = watched  # type: ignore[method-assign]
    with TestClient(web.create_app(library), base_url=HERE) as client:

        def ask(query: str) -> Any:
            return client.get("/api/v1/search", params={"q": query, "k": 5, "anyway": True}).json()

        queries = list(expected) * 8
        # One that deserves an error takes nobody with it.
        with ThreadPoolExecutor(len(queries) + 1) as pool:
            answers = [pool.submit(ask, query) for query in queries]
            bad = pool.submit(ask, '"red" - "red"')
        assert bad.result()["status"] == 400
        for query, answer in zip(queries, answers, strict=True):
            got = answer.result()
            assert [hit["id"] for hit in got["hits"]] == [hit.id for hit in expected[query].hits]
            assert [hit["score"] for hit in got["hits"]] == pytest.approx(
                [hit.score for hit in expected[query].hits], abs=1e-4
            )
    assert max(sizes) > 1


# -- indexing jobs --------------------------------------------------------------------------------


def wait_for(client: TestClient, job: str) -> dict[str, Any]:
    """Follow a job's events to its end; its last state."""
    events = client.get(f"/api/v1/index/jobs/{job}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    return json.loads(events.text.strip().split("\n\n")[-1].removeprefix("data: "))


def test_a_folder_is_indexed_and_found_without_a_restart(
    library: wordsight.Library, photos: Photos
) -> None:
    folder = photos("more", yellow=5)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    with TestClient(web.create_app(library, allow_index=[folder]), base_url=HERE) as client:
        (allowed,) = client.get("/api/v1/index/folders").json()["folders"]
        assert allowed["path"] == str(folder)
        started = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]})
        assert started.status_code == 201
        last = wait_for(client, started.json()["id"])
        assert last["state"] == "done"
        assert (last["done"], last["total"]) == (6, 6)
        assert last["report"]["indexed"] == 5
        hits = client.get("/api/v1/search?q=yellow&k=5&anyway=true").json()["hits"]
        assert all("yellow" in hit["path"] for hit in hits)
        about = client.get("/api/v1/library").json()
        assert about["images"] == 41
        assert [Path(s["path"]).name for s in about["skipped"]] == ["broken.jpg"]
        assert about["skipped"][0]["reason"]
        assert client.get("/api/v1/index/jobs").json()["jobs"][0]["id"] == last["id"]
        # They are forgotten when they are no more.
        (folder / "broken.jpg").unlink()
        again = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]}).json()["id"]
        assert wait_for(client, again)["state"] == "done"
        assert client.get("/api/v1/library").json()["skipped"] == []


class SlowModel(ColourModel):
    """Encodes only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def encode_pixels(self, pixels: Any) -> Any:
        assert self.go.wait(60)
        return super().encode_pixels(pixels)


def test_a_job_is_cancelled_and_keeps_what_it_wrote(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wordsight.indexing.pipeline.BATCH", 4)
    model = SlowModel()
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(photos(red=3))
    folder = photos("more", blue=20)
    with TestClient(web.create_app(library, allow_index=[folder]), base_url=HERE) as client:
        (allowed,) = client.get("/api/v1/index/folders").json()["folders"]
        model.go.clear()
        job = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]}).json()["id"]
        second = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]})
        assert second.status_code == 409
        # Searches are answered while the job waits.
        assert client.get("/api/v1/search?q=red&anyway=true").json()["hits"]
        assert b"wordsight_jobs 1.0" in client.get("/metrics").content
        assert client.delete(f"/api/v1/index/jobs/{job}").status_code == 200
        model.go.set()
        assert wait_for(client, job)["state"] == "cancelled"
        assert 3 <= client.get("/api/v1/library").json()["images"] < 23
        # The next one goes on from there.
        job = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]}).json()["id"]
        assert wait_for(client, job)["state"] == "done"
        assert client.get("/api/v1/library").json()["images"] == 23


def test_shutting_down_ends_a_job(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wordsight.indexing.pipeline.BATCH", 4)
    model = SlowModel()
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    app = web.create_app(library, allow_index=[photos("more", blue=20)])
    with TestClient(app, base_url=HERE) as client:
        (folder,) = app.state.jobs.folders
        model.go.clear()
        client.post("/api/v1/index/jobs", json={"folder": folder})
        app.state.jobs.cancel_all()
        model.go.set()
    (job,) = app.state.jobs.history()
    assert job.state == "cancelled"


def test_only_allowed_folders_are_indexed(client: TestClient) -> None:
    assert client.get("/api/v1/index/folders").json() == {"folders": []}
    for folder in ("/etc", "../..", "0", ""):
        refused = client.post("/api/v1/index/jobs", json={"folder": folder})
        assert refused.status_code == 404
        assert refused.headers["content-type"] == "application/problem+json"
    for crops in ("/etc", "someone/model"):
        body = {"folder": "0", "crops": crops}
        assert client.post("/api/v1/index/jobs", json=body).status_code == 422
    assert client.get("/api/v1/index/jobs/0123456789abcdef").status_code == 404
    cross = client.delete(
        "/api/v1/index/jobs/0123456789abcdef", headers={"origin": "https://evil.example"}
    )
    assert cross.status_code == 403


def test_a_job_that_fails_says_why(library: wordsight.Library, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with TestClient(web.create_app(library, allow_index=[empty]), base_url=HERE) as client:
        (allowed,) = client.get("/api/v1/index/folders").json()["folders"]
        job = client.post("/api/v1/index/jobs", json={"folder": allowed["id"]}).json()["id"]
        last = wait_for(client, job)
        assert last["state"] == "failed"
        assert "no image found" in last["error"]
        assert client.get(f"/api/v1/index/jobs/{job}").json() == last


# -- evaluation, metrics, readiness ---------------------------------------------------------------


def test_a_labelled_library_is_evaluated(labelled: wordsight.Library, client: TestClient) -> None:
    with TestClient(web.create_app(labelled), base_url=HERE) as own:
        assert own.get("/api/v1/evaluation").status_code == 404
        assert own.get("/api/v1/evaluation/plot").status_code == 404
        made = own.post("/api/v1/evaluation").json()
        assert made["methods"]["baseline"]["recall@1"] == 1.0
        assert (made["queries"], made["gallery"]) == (3, 18)
        assert own.get("/api/v1/evaluation").json() == made
        plot = own.get("/api/v1/evaluation/plot")
        assert Image.open(io.BytesIO(plot.content)).format == "PNG"
    unlabelled = client.post("/api/v1/evaluation")
    assert unlabelled.status_code == 400
    assert "class folders" in unlabelled.json()["detail"]


def test_metrics_and_readiness(library: wordsight.Library) -> None:
    app = web.create_app(library)
    early = TestClient(app, base_url=HERE)  # not started
    assert early.get("/api/v1/health").status_code == 200
    assert early.get("/api/v1/ready").status_code == 503
    with TestClient(app, base_url=HERE) as client:
        assert client.get("/api/v1/ready").json()["status"] == "ready"
        client.get("/api/v1/search?q=red")
        client.get("/nowhere/made-up")
        text = client.get("/metrics").text
        library.path.rename(library.path.with_name("away"))
        assert client.get("/api/v1/ready").status_code == 503  # searches answer so too
        assert client.get("/api/v1/health").status_code == 200
        library.path.with_name("away").rename(library.path)
        assert client.get("/api/v1/ready").status_code == 200
    assert "wordsight_images 36.0" in text
    assert 'wordsight_requests_total{method="GET",route="/api/v1/search",status="200"} 1.0' in text
    assert "wordsight_request_seconds_bucket" in text
    assert "made-up" not in text


def test_location_and_other_metadata_stay_here(
    client: TestClient, library: wordsight.Library, tmp_path: Path
) -> None:
    folder = tmp_path / "exif"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0110] = "Camera One"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 5.0), 3: "E", 4: (11.0, 3.0, 7.0)})
    exif[0x010E] = "SECRET PLACE"
    Image.new("RGB", (90, 60), (220, 20, 20)).save(folder / "x.jpg", exif=exif)
    library.index(folder)
    (entry,) = [e for e in library.store.entries() if e.path.endswith("x.jpg")]
    details = client.get(f"/api/v1/regions/{entry.id}").json()
    assert details["taken"] == {"camera": "Camera One", "taken": "2024:05:01 12:00:00"}
    assert details["location"] is None
    found = client.get("/api/v1/search?q=red&k=50&anyway=true").json()["hits"]
    (known,) = [hit["metadata"] for hit in found if hit["id"] == entry.id]
    assert known == details["metadata"]
    assert known == {
        "media": "photo",
        "orientation": "landscape",
        "taken": "2024-05-01T12:00:00",
        "camera": "Camera One",
    }
    # Who asks for it gets it.
    asked = client.get(f"/api/v1/regions/{entry.id}?location=true").json()
    assert asked["location"] == pytest.approx([48.20139, 11.05194], abs=1e-5)
    (plain,) = client.get("/api/v1/search?q=blue&k=1&anyway=true").json()["hits"]
    assert client.get(f"/api/v1/regions/{plain['id']}?location=true").json()["location"] is None


def test_an_unforeseen_error_tells_nothing(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("inner secret")

    app = web.create_app(library)
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        monkeypatch.setattr(library, "search", fail)
        response = client.get("/api/v1/search?q=red")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


# -- near-duplicates ------------------------------------------------------------------------------


def found_duplicates(client: TestClient) -> dict[str, Any]:
    """The answer of a search for duplicates once it has ended."""
    while (answer := client.get("/api/v1/duplicates").json())["state"] in ("reading", "comparing"):
        time.sleep(0.05)
    return dict(answer)


def test_duplicates_are_found_as_the_command_finds_them(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for seed in range(4):
        shapes(seed).save(folder / f"{seed}.png")
    shapes(0).save(folder / "0 again.jpg")
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(folder)
    with TestClient(web.create_app(library), base_url=HERE) as client:
        assert client.get("/api/v1/duplicates").json()["state"] == "none"
        assert client.post("/api/v1/duplicates?false_merge=0").status_code == 422
        assert client.post("/api/v1/duplicates").status_code == 202
        answer = found_duplicates(client)
        assert answer["state"] == "done"
        expected = {**library.duplicates().to_json(), "table_version": library.store.version}
        assert answer["found"] == expected
        (group,) = answer["found"]["groups"]
        assert [Path(image["path"]).name for image in group["images"]] == ["0.png", "0 again.jpg"]
    assert len(list(folder.iterdir())) == 5


def test_one_search_for_duplicates_runs_at_a_time(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def broken(*_: Any, progress: Callable[[int, int], None], **__: Any) -> None:
        progress(1, 2)
        assert go.wait(60)
        raise LibraryError("the library is gone")

    monkeypatch.setattr("wordsight.web.duplicates.read_prints", broken)
    with TestClient(web.create_app(library), base_url=HERE) as client:
        client.post("/api/v1/duplicates")
        assert client.post("/api/v1/duplicates").status_code == 409
        go.set()
        answer = found_duplicates(client)
        assert (answer["state"], answer["error"]) == ("failed", "the library is gone")
        assert client.post("/api/v1/duplicates").status_code == 202  # and can be tried again
        found_duplicates(client)
