"""The page in a real browser: what people do with it, and what it looks like.

Screenshots are written to the folder that WORDSIGHT_SCREENSHOTS names, for people to look at.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from live import listening
from page_site import SIZES, paint, write_pictures
from PIL import Image

import wordsight
from wordsight.web.app import create_app

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
expect = sync_api.expect
expect.set_options(timeout=30_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Gated(ColourModel):
    """A model that encodes a batch of images only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.shut = False

    def encode_pixels(self, pixels: Any) -> Any:
        if self.shut:
            assert self.gate.acquire(timeout=60)
        return super().encode_pixels(pixels)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """240 pictures, one of two colours with crops, a tiny one; a folder that may be indexed."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORDSIGHT_CACHE", str(folder / "cache"))
        patch.setattr("wordsight.indexing.pipeline.BATCH", 8)
        model = Gated()
        library = wordsight.create(folder / "lib", model)  # type: ignore[arg-type]
        write_pictures(folder / "photos")
        library.index(folder / "photos", crops="none")
        both = Image.new("RGB", (900, 600), ANCHORS["black"])
        both.paste(paint("white", (386, 360)), (514, 240))  # the last tile
        (folder / "scenes").mkdir()
        both.save(folder / "scenes" / "both.png")
        library.index(folder / "scenes", crops="tiles")
        (folder / "tiny").mkdir()
        paint("white", (32, 32)).save(folder / "tiny" / "tiny.png")
        library.index(folder / "tiny", crops="none")
        new = folder / "new"
        new.mkdir()
        for n in range(40):
            paint("black", (64, 48), n).save(new / f"{n}.png")
        (new / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
        app = create_app(library, allow_index=[new])
        with listening(app) as url:
            yield url, model, folder


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with sync_api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield running
    running.close()


def is_fault(message: Any) -> bool:
    # The browser notes every answer of 4xx as an error; the page expects those.
    return message.type == "error" and "the server responded with a status of 4" not in message.text


@pytest.fixture
def open_page(site: Any, browser: Any) -> Iterator[Any]:
    """Open the page as some visitor; at the end, nothing may have gone wrong in it."""
    url = site[0]
    contexts, faults = [], []

    def make(path: str = "/", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if is_fault(m) else None)
        page.on(
            "request", lambda r: None if r.url.startswith((url, "blob:")) else faults.append(r.url)
        )
        page.goto(url + path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def shoot() -> Any:
    folder = os.environ.get("WORDSIGHT_SCREENSHOTS")

    def take(page: Any, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take


def find(page: Any, words: str) -> None:
    page.get_by_label("Search for").fill(words)
    page.get_by_label("Search for").press("Enter")


def hits(page: Any) -> Any:
    return page.locator("#hits .hit")


def status(page: Any) -> Any:
    return page.locator("#status")


def names(page: Any) -> list[str]:
    """What the pictures on the screen are called: "red", whatever their rank."""
    alts = page.locator("#hits img").evaluate_all("all => all.map((image) => image.alt)")
    return [alt.split(": ")[-1] for alt in alts]


class Held:
    """A route whose requests wait until they are let go, one by one."""

    def __init__(self, page: Any, url: Any, method: str = "GET") -> None:
        self._waiting: list[Any] = []
        self._page = page

        def hold(route: Any) -> None:
            if route.request.method == method:
                self._waiting.append(route)
            else:
                route.fallback()

        page.route(url, hold)

    def wait(self, number: int) -> None:
        """Until so many wait."""
        for _ in range(600):
            if len(self._waiting) >= number:
                return
            self._page.wait_for_timeout(50)
        raise AssertionError("it is not asked for")

    def go(self, place: int, **answer: Any) -> None:
        """Let one through, or answer it; the page has seen it when this ends."""
        route = self._waiting.pop(place)
        with self._page.expect_event("requestfinished", lambda r: r == route.request):
            route.fulfill(**answer) if answer else route.continue_()
        self._page.wait_for_timeout(100)


def told(status: int, **answer: Any) -> dict[str, Any]:
    """An answer of the API as a route fulfils it."""
    return {"status": status, "content_type": "application/json", "body": json.dumps(answer)}


def a_file(colour: str, name: str = "mine.png") -> Any:
    out = io.BytesIO()
    paint(colour, (200, 150)).save(out, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": out.getvalue()}


def drop(page: Any, *files: Any) -> None:
    page.evaluate(
        """files => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files)
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
          const event = new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
          document.body.dispatchEvent(event);
        }""",
        [[file["name"], list(file["buffer"])] for file in files],
    )


# -- the start


def test_the_start_shows_pictures_first(open_page: Any, shoot: Any) -> None:
    page = open_page()
    expect(status(page)).to_contain_text("242 images, newest first")
    expect(page.locator("#suggestions button").first).to_be_visible()
    expect(page.locator("#hits .heading").first).to_be_visible()  # months
    assert page.locator("#hits").bounding_box()["y"] < 150
    words = page.locator("#suggestions button").all_inner_texts()
    assert set(words) <= {"red", "green", "blue", "yellow", "white", "black"}  # its own labels
    shoot(page, "01-start")
    page.keyboard.press("/")
    page.keyboard.type("red")
    expect(page.get_by_label("Search for")).to_have_value("red")
    page.locator("#suggestions button", has_text=words[0]).click()
    expect(status(page)).to_contain_text(words[0])
    assert page.title() == f"{words[0]} - wordsight"
    expect(page.locator("#suggestions")).to_be_hidden()


def test_the_page_is_light(open_page: Any) -> None:
    """At most 60 kB are sent for it, without pictures and answers."""
    page = open_page()
    expect(hits(page).first).to_be_visible()
    sizes = page.evaluate(
        """() => [performance.getEntriesByType("navigation")[0],
          ...performance.getEntriesByType("resource").filter(({name}) => name.includes("/static/"))]
          .map(({transferSize}) => transferSize)"""
    )
    assert len(sizes) >= 6
    assert sum(sizes) <= 60_000


def test_the_small_model_is_told_of_once(open_page: Any) -> None:
    page = open_page()

    def small(route: Any) -> None:
        answer = route.fetch()
        about = answer.json()
        about["model"]["name"] = "starter"
        route.fulfill(response=answer, json=about)

    page.route("**/api/v1/library", small)
    page.reload()
    page.get_by_role("link", name="A larger one finds more.").click()
    expect(page.locator("#larger")).to_contain_text("wordsight models")
    expect(page.locator("#banner")).to_be_hidden()  # that says the same
    page.keyboard.press("1")
    page.get_by_role("button", name="Do not show this again").click()
    page.reload()
    expect(hits(page).first).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()


def test_an_empty_library_says_what_to_do_and_grows(browser: Any, tmp_path: Path) -> None:
    library = wordsight.create(tmp_path / "lib", ColourModel())  # type: ignore[arg-type]
    with listening(create_app(library)) as url:
        page = browser.new_page()
        page.goto(url)
        expect(status(page)).to_contain_text("The library is empty")
        expect(page.get_by_role("button", name="Evaluate")).to_be_hidden()  # it has no labels
        page.get_by_role("button", name="Go to the library").click()
        expect(page.locator("#no-folders")).to_contain_text("--allow-index")
        expect(page.locator("#facts")).to_contain_text("0 images")
        # Another process fills it; nothing is restarted.
        (tmp_path / "new").mkdir()
        for n in range(12):
            paint("red", (200, 150), n).save(tmp_path / "new" / f"{n}.png")
        wordsight.open(tmp_path / "lib", library.model).index(tmp_path / "new")
        page.locator("nav").get_by_role("button", name="Library").click()
        expect(page.locator("#facts")).to_contain_text("12 images")
        page.goto(url)
        expect(hits(page)).to_have_count(12)
        page.close()


# -- searching


def test_search_back_and_links(open_page: Any, shoot: Any) -> None:
    page = open_page()
    find(page, "red")
    expect(status(page)).to_contain_text("red")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    assert set(names(page)[:20]) == {"red"}
    shoot(page, "02-search")
    # The address says it all, and Back goes back.
    address = page.url
    find(page, "blue")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    page.go_back()
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    assert page.url == address
    expect(page.get_by_label("Search for")).to_have_value("red")
    page.go_back()
    expect(status(page)).to_contain_text("newest first")
    other = open_page("/" + address.split("/", 3)[3])
    expect(other.locator("#hits img").first).to_have_attribute("alt", "1: red")
    # A search that is emptied leaves the address, too.
    find(other, "")
    expect(status(other)).to_contain_text("newest first")
    assert "?" not in other.url


def test_no_match_says_what_to_try(open_page: Any, shoot: Any) -> None:
    page = open_page()
    expect(page.locator("#suggestions button").first).to_be_visible()
    change(page, lambda told: told["query"] == "yellow" or told.update(verdict="none"))
    find(page, "a legal contract")
    expect(status(page)).to_contain_text("No match for “a legal contract”")
    expect(status(page)).to_contain_text("or search with an image")
    expect(hits(page)).to_have_count(0)
    expect(page.locator("#suggestions button").first).to_be_visible()
    shoot(page, "03-no-match")
    page.get_by_role("button", name="Show the closest images").click()
    expect(hits(page).first).to_be_visible()
    expect(status(page)).to_contain_text("No match")
    # Words without a space do not make the page wider.
    find(page, "x" * 999)
    expect(status(page)).to_contain_text("xxx")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    # A slip of the finger is put right.
    find(page, "yelow")
    page.get_by_role("button", name="yellow", exact=True).first.click()
    expect(page.get_by_label("Search for")).to_have_value("yellow")
    # With a filter, that may be the reason; the choices may come after the click.
    choices: list[Any] = []

    def hold(route: Any) -> None:
        choices.append(route)

    page.route("**/api/v1/facets", hold)
    page.goto(page.url.split("?")[0] + "?q=a+legal+contract&camera=Camera+One")
    page.get_by_role("button", name="Search without filters").click()
    assert choices
    choices[0].continue_()
    expect(page.get_by_label("Camera")).to_have_value("")


def change(page: Any, edit: Any) -> None:
    """Change the answers to searches before the page has them."""

    def edited(route: Any) -> None:
        try:
            answer = route.fetch()
            told = answer.json()
        except sync_api.Error:  # the page asks for something else by now
            return
        edit(told)
        if told["verdict"] == "none" and "anyway" not in route.request.url:
            told["hits"] = []
        route.fulfill(response=answer, json=told)

    page.route("**/api/v1/search?*", edited)


def test_what_is_unsure_is_told(open_page: Any) -> None:
    page = open_page()
    change(page, lambda told: told.update(verdict="unsure", explanation="It may be a dog."))
    find(page, "red")
    expect(status(page)).to_contain_text("Not sure that anything here is “red”")
    expect(status(page)).to_contain_text("It may be a dog. These come closest:")
    expect(hits(page).first).to_be_visible()


def test_the_line_where_relevant_hits_end(open_page: Any, shoot: Any) -> None:
    page = open_page()

    def cut(told: Any) -> None:
        told["count"] = {"estimate": 9, "low": 7, "high": 12}
        for n, hit in enumerate(told["hits"]):
            hit.update(relevant=n < 9, probability=0.8 if n < 9 else 0.1)

    change(page, cut)
    find(page, "red")
    expect(status(page)).to_contain_text("About 9 images match “red”")
    expect(page.locator("#hits .heading")).to_contain_text("About 9 images match.")
    shown = page.locator("#hits li:not(.heading)")
    faint = shown.evaluate_all("all => all.map((item) => item.classList.contains('faint'))")
    assert faint == [False] * 9 + [True] * (len(faint) - 9)
    shoot(page, "04-where-hits-end")
    hits(page).first.click()
    expect(page.locator("#about")).to_contain_text("80 %")


def test_moments_play_in_place(open_page: Any) -> None:
    page = open_page()
    moment = {
        "rank": 1, "video": "/videos/front.mp4", "start": 83.48, "end": 91.2,
        "still": "static/icon.svg", "media": "api/v1/media/0123456789abcdef#t=83.48,91.20",
    }  # fmt: skip
    change(page, lambda told: told["hits"][0].update(path="/videos/front.mp4::t=85.000"))
    scores = {
        "video": "/videos/front.mp4",
        "times": [0, 80, 95], "untils": [80, 95, 4000], "z": [0, 9, -1],
    }  # fmt: skip
    answer = told(200, moments=[{**moment, "best": 85}], series=[scores], least=4.5)
    page.route("**/api/v1/moments?q=red", lambda r: r.fulfill(**answer))
    page.route("**/api/v1/media/*", lambda r: r.fulfill(status=206, content_type="video/mp4"))
    find(page, "red")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: front.mp4, 1:25")
    expect(hits(page).first.locator(".time")).to_have_text("1:25")
    page.get_by_role("button", name="Play front.mp4, 1:23 to 1:31").click()
    expect(page.locator("#moments video")).to_have_attribute("src", moment["media"])
    # The scores over time below it can be moved along, with keys too.
    place = page.get_by_role("slider", name="Time in front.mp4")
    expect(place).to_have_value("85")
    expect(page.locator("#moments path")).to_have_attribute(
        "d", "M0.0 40.0H8.0L8.0 2.0H9.5L9.5 40.0H400.0"
    )
    place.fill("3725")
    expect(place).to_have_attribute("aria-valuetext", "1:02:05")


def test_filters_are_chips(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=red&anyway=true")
    page.get_by_label("Camera").focus()
    page.get_by_label("Camera").select_option("Camera One")
    expect(page).to_have_url(re.compile("camera=Camera"))
    expect(page.get_by_label("Camera")).to_be_focused()
    page.get_by_label("Label").select_option("blue")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    page.get_by_label("Date").select_option("2023")
    expect(page).to_have_url(re.compile("after=2023&before=2024"))
    shoot(page, "05-filters")
    page.reload()
    expect(page.get_by_label("Date")).to_have_value("2023")
    expect(page.get_by_label("Label")).to_have_value("blue")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    page.get_by_label("Sort").select_option("-taken")
    expect(page).to_have_url(re.compile("sort=-taken"))
    # Without words they narrow the library.
    page.locator(".brand").click()
    page.get_by_label("Folder").select_option(label="photos/green (60)")
    expect(status(page)).to_have_text("60 images")
    page.get_by_label("Date").select_option(label="Between two dates …")
    page.get_by_label("Taken from").fill("2024-01-01")
    expect(status(page)).to_have_text("20 images")


def test_filters_that_nothing_passes(open_page: Any) -> None:
    """Also where the answer comes before the page knows the library."""
    page = open_page()
    held = Held(page, "**/api/v1/library")
    page.goto(page.url + "?after=2030-01-01")
    expect(status(page)).to_contain_text("Nothing in the library passes these filters.")
    held.wait(1)
    held.go(0)
    page.get_by_role("button", name="Show all images").click()
    expect(status(page)).to_contain_text("newest first")


def test_late_answers_do_not_stand_for_newer_ones(open_page: Any) -> None:
    page = open_page()
    held = Held(page, "**/api/v1/search?*")
    find(page, "red")
    held.wait(1)
    find(page, "blue")
    held.wait(2)
    held.go(0)
    expect(status(page)).to_have_text("Searching …")
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "true")
    held.go(0)
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    expect(page.locator("#hits")).not_to_have_attribute("aria-busy", "true")


def test_a_picture_is_dropped_and_has_an_address(open_page: Any) -> None:
    page = open_page()
    drop(page, a_file("blue"))
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    expect(page.locator("#parts li")).to_have_attribute("title", "like your image")
    expect(status(page)).not_to_contain_text("@")  # as queries name images
    assert re.search(r"like=[0-9a-f]{32}", page.url)
    page.reload()
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    expect(page.locator("#parts img")).to_have_js_property("complete", True)
    find(page, "red")
    expect(page.locator("#parts li")).to_have_count(1)  # words are added
    page.get_by_label("Remove: like your image").click()
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    expect(page.locator("#parts li")).to_have_count(0)


def test_a_picture_is_pasted(open_page: Any) -> None:
    page = open_page()
    page.evaluate(
        """bytes => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "x.png", {type: "image/png"}));
          document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
        }""",
        list(a_file("green")["buffer"]),
    )
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: green")


def test_what_is_no_picture_is_told(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_label("Search with an image").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"no image"}
    )
    expect(status(page)).to_contain_text("not an image")
    with (tmp_path / "x.tif").open("wb") as file:
        file.truncate(22_000_000)
    page.get_by_label("Search with an image").set_input_files(tmp_path / "x.tif")
    expect(status(page)).to_contain_text("x.tif is too large: 22.0 MB")
    # An upload that has expired.
    page.goto(page.url.split("?")[0] + f"?like={'0' * 32}")
    expect(status(page)).to_contain_text("has expired")


def test_what_the_page_cannot_use_does_not_stop_it(open_page: Any) -> None:
    """What another program left in the browser, answers of a proxy."""
    page = open_page()
    page.evaluate('localStorage.setItem("prompts", JSON.stringify({mine: 1}))')
    no = {"status": 404, "content_type": "text/html", "body": "<h1>No</h1>"}
    page.route("**/api/v1/classify", lambda route: route.fulfill(**no))
    page.reload()
    expect(status(page)).to_contain_text("newest first")
    page.locator("nav").get_by_role("button", name="Classify").click()
    expect(page.get_by_label("Your labels")).to_be_visible()  # without lists, one's own
    page.route("**/api/v1/search?*", lambda route: route.fulfill(**{**no, "status": 413}))
    find(page, "red")
    expect(status(page)).to_contain_text("413")


# -- rows


def test_ten_thousand_pictures_are_a_few_nodes(open_page: Any) -> None:
    page = open_page()
    expect(hits(page).first).to_be_visible()

    def plenty(route: Any) -> None:
        skip = int(re.search(r"skip=(\d+)", route.request.url)[1])  # type: ignore[index]
        found = [
            {"rank": n + 1, "id": f"{n:016x}", "path": f"/p/{n}.jpg", "label": None, "z": None,
             "score": 0.5, "width": SIZES[n % 4][0], "height": SIZES[n % 4][1], "metadata": {},
             "view": {"kind": "image", "box": None, "label": None}}
            for n in range(skip, min(10_000, skip + 100))
        ]  # fmt: skip
        route.fulfill(**told(200, query="many", verdict="match", notices=[], hits=found))

    page.route("**/api/v1/search?*", plenty)
    page.route("**/api/v1/thumbnails/*", lambda route: route.fulfill(**GREY))
    page.evaluate(
        """() => { window.long = []; new PerformanceObserver((list) => {
             window.long.push(...list.getEntries().map((entry) => entry.duration)); })
             .observe({type: "longtask"}); }"""
    )
    find(page, "many")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: 0.jpg")
    for _ in range(200):
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        if page.locator('#hits [data-place="9999"]').count():
            break
        page.wait_for_timeout(50)
    expect(page.locator('#hits [data-place="9999"] img')).to_have_attribute(
        "alt", "10000: 9999.jpg"
    )
    assert hits(page).count() < 120
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: 0.jpg")


def test_a_server_that_pauses_is_asked_again(open_page: Any) -> None:
    page = open_page()
    asked: list[str] = []

    def pause(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404, body="") if len(asked) == 1 else route.continue_()

    page.route("**/api/v1/images?*skip=100*", pause)
    page.reload()
    expect(hits(page).first).to_be_visible()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator('#hits [data-place="101"]')).to_have_count(1)
    assert len(asked) == 2


GREY = {"status": 200, "content_type": "image/png", "body": b""}
_grey = io.BytesIO()
Image.new("RGB", (32, 24), (90, 90, 90)).save(_grey, "PNG")
GREY["body"] = _grey.getvalue()


@pytest.mark.parametrize("width", [390, 1280])
def test_rows_are_justified_and_nothing_is_enlarged(open_page: Any, width: int) -> None:
    page = open_page("/?q=red", viewport={"width": width, "height": 800})
    expect(hits(page).first).to_be_visible()
    boxes = page.locator("#hits li").evaluate_all(
        "all => all.map((item) => [item.offsetTop, item.offsetLeft, item.offsetWidth,"
        " item.offsetHeight, item.querySelector('img').alt])"
    )
    rows: dict[float, list[Any]] = {}
    for top, *rest in boxes:
        rows.setdefault(top, []).append(rest)
    whole = list(rows.values())[:-1]
    full = page.locator("#hits").evaluate("list => list.clientWidth")
    for row in whole:
        assert len(row) <= (5 if width == 1280 else 2)
        assert row[-1][0] + row[-1][1] == pytest.approx(full, abs=3)
        assert max(height for _, _, height, _ in row) <= 361  # the lowest of its files' heights
    assert len(whole) > 2


def test_a_small_file_among_large_ones_keeps_its_size(open_page: Any) -> None:
    page = open_page()
    expect(hits(page).first).to_be_visible()
    sizes = [(200, 150) if n % 7 == 2 else (4000, 3000) for n in range(40)]

    def mixed(route: Any) -> None:
        found = [
            {"rank": n + 1, "id": f"{n:016x}", "path": f"/p/{n}.jpg", "label": None, "z": None,
             "score": 0.5, "width": width, "height": height, "metadata": {},
             "view": {"kind": "crop", "box": [0, 0, width / 2, height / 2], "label": None}}
            for n, (width, height) in enumerate(sizes)
        ]  # fmt: skip
        route.fulfill(**told(200, query="q", verdict="match", notices=[], hits=found))

    page.route("**/api/v1/search?*", mixed)
    page.route("**/api/v1/thumbnails/*", lambda route: route.fulfill(**GREY))
    find(page, "mixed")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: 0.jpg")
    shown = page.locator("#hits .inner").evaluate_all(
        """all => all.map((node) => {
             const { width, height } = node.getBoundingClientRect();
             const box = node.querySelector(".box").getBoundingClientRect();
             return [node.closest(".hit").dataset.place, width, height, box.width];
        })"""
    )
    heights = [height for place, _, height, _ in shown if sizes[int(place)][0] == 4000]
    assert min(heights) > 200  # a small one does not make its row low
    for place, width, height, box in shown:
        assert width <= sizes[int(place)][0] + 1
        assert height <= sizes[int(place)][1] + 1
        assert box == pytest.approx(width / 2, abs=2)


# -- one image


def test_the_viewer_steps_zooms_and_tells(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=red")
    hits(page).nth(1).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert dialog.get_by_role("button").first.get_attribute("aria-label") == "Close"
    image = page.locator("#view-image")
    expect(image).to_have_attribute("alt", "2: red")
    page.keyboard.press("ArrowRight")
    expect(image).to_have_attribute("alt", "3: red")
    dialog.get_by_role("button", name="Previous image").click()
    page.keyboard.press("ArrowLeft")
    expect(image).to_have_attribute("alt", "1: red")
    expect(dialog.locator(".back")).to_be_hidden()
    expect(page.locator("#about")).to_contain_text("Camera")
    expect(page.locator("#about .strip button").first).to_be_visible()
    shoot(page, "06-viewer")
    page.keyboard.press("+")
    expect(dialog).to_have_class(re.compile("zoomed"))
    page.keyboard.press("0")
    expect(dialog).not_to_have_class(re.compile("zoomed"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.place") == "0"  # where one was
    # The address names the picture, and Back closes it.
    hits(page).nth(2).click()
    expect(image).to_have_attribute("alt", "3: red")
    address = page.url
    page.go_back()
    expect(dialog).to_be_hidden()
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    other = open_page("/" + address.split("/", 3)[3])
    expect(other.locator("#view-image")).to_have_attribute("alt", "3: red")


def test_late_answers_about_a_picture_are_dropped(open_page: Any) -> None:
    page = open_page("/?q=red")
    held = Held(page, re.compile(r"/api/v1/regions/\w+$"))
    hits(page).nth(0).click()
    held.wait(1)
    page.keyboard.press("ArrowRight")
    held.wait(2)
    held.go(1)
    expect(page.locator("#about")).to_contain_text("kB")
    shown = page.locator("#about").inner_text()
    held.go(0, **told(404, detail="the first is gone"))
    expect(page.locator("#view-status")).to_have_text("")
    assert page.locator("#about .facts").inner_text() in shown


def test_a_picture_that_is_gone_is_told(open_page: Any) -> None:
    page = open_page("/?q=red")
    page.route("**/api/v1/images/*", lambda route: route.fulfill(**told(410, detail="gone")))
    hits(page).first.click()
    expect(page.locator("#view-status")).to_contain_text("missing")


def test_similar_and_unlike(open_page: Any) -> None:
    page = open_page("/?q=red")
    hits(page).first.click()
    page.get_by_role("button", name="Find similar").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#parts li")).to_have_attribute("title", "like this")
    expect(status(page)).to_contain_text("Most similar first")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    hits(page).nth(1).click()
    page.get_by_role("button", name="Not like this").click()
    expect(page.locator("#parts li")).to_have_count(2)
    page.get_by_label("Remove: like this", exact=True).click()
    expect(page.locator("#parts li")).to_have_count(1)
    page.go_back()
    expect(page.locator("#parts li")).to_have_count(2)


def test_a_part_is_searched_for(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=white&anyway=true")
    expect(hits(page).filter(has=page.locator(".box"))).to_have_count(1)
    hits(page).filter(has=page.locator(".box")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("button.box.won")).to_have_count(1)
    shoot(page, "07-part")
    dialog.locator("button.box.won").click()
    expect(page.locator("#parts li")).to_have_attribute("title", "like this part")
    assert re.search(r"like=[0-9a-f]{16}%3A\d", page.url)
    # One of one's own, with the mouse.
    page.goto(page.url.split("?")[0] + "?q=white&anyway=true")
    hits(page).filter(has=page.locator(".box")).click()
    expect(page.locator("#about")).to_contain_text("kB")
    page.get_by_role("button", name="Search in this image").click()
    frame = page.locator("#view-image").bounding_box()
    page.mouse.move(frame["x"] + 0.7 * frame["width"], frame["y"] + 0.55 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"], frame["y"] + frame["height"], steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Search for this part", exact=True).click()
    box = re.search(r"like=[0-9a-f]{16}%40(\d+)%2C(\d+)%2C(\d+)%2C(\d+)", page.url)
    assert box
    assert [int(v) for v in box.groups()] == pytest.approx([630, 330, 900, 600], abs=4)
    # And with the keyboard.
    page.go_back()
    hits(page).filter(has=page.locator(".box")).click()
    expect(page.locator("#about")).to_contain_text("kB")
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("like=.*%40270%2C150%2C720%2C480"))


def test_what_a_photograph_says_of_itself(open_page: Any) -> None:
    """When and with what is shown, where only to who asks for it."""
    page = open_page("/?q=red", permissions=["clipboard-read", "clipboard-write"])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    first = page.evaluate(
        "fetch('api/v1/images?near=48.2,11.05,1km&label=red').then((a) => a.json())"
    )
    assert first["total"] == 1
    page.goto(page.url + f"#{first['images'][0]['id']}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Camera Two")
    expect(dialog).to_contain_text("2022-01-01 12:00:00")
    # The same where the picture is opened by its address, beside hits that it is not among.
    page.goto(page.url.split("?")[0] + f"?q=green&label=green#{first['images'][0]['id']}")
    expect(dialog).to_contain_text("2022-01-01 12:00:00")
    expect(dialog).not_to_contain_text("48.2")
    assert not any("location" in url for url in asked)
    dialog.get_by_role("button", name="Copy path").click()
    expect(page.locator("#view-status")).to_have_text("Path copied.")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/red/00.jpg")
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "00.jpg"
    page.get_by_role("button", name="Where was it taken?").click()
    expect(dialog).to_contain_text("48.20000, 11.05000")
    page.get_by_role("button", name="Images taken near here").click()
    expect(status(page)).to_have_text("4 images")


# -- several pictures


def test_several_are_selected_saved_and_shared(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=red", permissions=["clipboard-read", "clipboard-write"])
    bar = page.get_by_role("toolbar", name="Selected images")
    hits(page).first.hover()
    page.get_by_role("button", name="Select 1: red").click()
    expect(bar).to_contain_text("1 selected")
    hits(page).nth(3).click(modifiers=["Shift"])
    expect(bar).to_contain_text("4 selected")
    hits(page).nth(1).click()  # among selected ones a click selects
    expect(bar).to_contain_text("3 selected")
    shoot(page, "08-selection")
    with page.expect_download() as saved:
        bar.get_by_role("button", name="Download").click()
    archive = zipfile.ZipFile(saved.value.path())
    assert len(archive.namelist()) == 3
    assert archive.testzip() is None
    bar.get_by_role("button", name="Copy paths").click()
    expect(bar).to_contain_text("Paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(paths) == 3
    assert all(Path(path).is_file() for path in paths)
    bar.get_by_role("button", name="Copy link").click()
    expect(bar).to_contain_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    bar.get_by_role("button", name="Clear selection").click()
    expect(bar).to_be_hidden()
    page.goto(link)
    expect(status(page)).to_have_text("3 images in this selection")
    expect(hits(page)).to_have_count(3)


# -- without a mouse, on a phone, in the dark


def test_with_the_keyboard_alone(open_page: Any) -> None:
    page = open_page()
    expect(hits(page).first).to_be_visible()

    def place() -> Any:
        return page.evaluate("document.activeElement.dataset.place")

    page.keyboard.press("/")
    page.keyboard.type("blue")
    page.keyboard.press("Enter")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    for key in ("Tab", "Enter"):  # to a link that leads there
        page.keyboard.press(key)
    assert place() == "0"
    page.keyboard.press("ArrowRight")
    assert place() == "1"
    page.keyboard.press("ArrowDown")
    assert int(place()) > 3
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_role("toolbar")).to_contain_text("2 selected")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("document.activeElement.ariaLabel") == "Close"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_role("toolbar")).to_be_hidden()
    page.keyboard.press("End")
    expect(page.locator(f'[data-place="{place()}"]')).to_be_in_viewport()


def test_what_a_screen_reader_is_told(open_page: Any) -> None:
    page = open_page("/?q=red")
    expect(hits(page).first).to_be_visible()
    expect(page.get_by_label("Camera")).to_be_visible()
    tree = page.locator("body").aria_snapshot()
    for line in (
        '- combobox "Search for": red',
        '- list "Images":',
        """- 'button "1: red"':""",
        '- button "Images" [pressed]',
        '- combobox "Camera":',
        "- status:",
    ):
        assert line in tree
    assert page.locator("#hits li").first.get_attribute("aria-posinset") == "1"


def test_on_a_phone(open_page: Any, shoot: Any) -> None:
    page = open_page(**PHONE)
    expect(page.locator("#suggestions button").first).to_be_visible()
    assert page.locator("#hits").bounding_box()["y"] < 200

    def fits() -> bool:
        wide: int = page.evaluate("document.documentElement.scrollWidth")
        return wide <= 390

    assert fits()
    shoot(page, "09-phone")
    find(page, "red")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: red")
    small = page.locator("button:visible, select:visible, input:visible").evaluate_all(
        """all => all.filter((node) => !node.closest("#hits") && node.offsetHeight < 44
             && !node.closest("label.file") && node.id !== "q").map((node) => node.outerHTML)"""
    )
    assert not small
    hits(page).first.tap()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    shoot(page, "10-phone-viewer")
    page.locator(".stage").evaluate(
        """stage => { for (const [kind, x] of [["down", 300], ["move", 150], ["up", 150]])
             stage.dispatchEvent(new PointerEvent(`pointer${kind}`, {pointerId: 1, clientX: x,
               clientY: 400, pointerType: "touch", bubbles: true})); }"""
    )  # a swipe
    expect(page.locator("#view-image")).to_have_attribute("alt", "2: red")
    dialog.get_by_role("button", name="Details").tap()
    expect(page.locator("#about")).to_contain_text("Camera")
    dialog.get_by_role("button", name="Close").tap()
    expect(dialog).to_be_hidden()
    for name in ("Classify", "Library", "Evaluate"):
        page.locator("nav").get_by_role("button", name=name).tap()
        expect(page.locator(f"#{name.lower()} h2").first).to_be_visible()
        assert fits(), name
    # Nor do words without a space push anything off the screen.
    page.goto(page.url.split("#")[0].split("?")[0] + "?q=" + "x" * 120)
    expect(status(page)).to_contain_text("xxx")
    assert fits()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(open_page: Any, scheme: str, shoot: Any) -> None:
    page = open_page("/?q=white&anyway=true", color_scheme=scheme)
    expect(hits(page).first).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = max(int(v) for v in re.findall(r"\d+", background)[:3]) < 60
    assert dark == (scheme == "dark")

    def check(state: str) -> None:
        found = axe.Axe().run(page).response["violations"]
        faults = {(fault["id"], node["html"]) for fault in found for node in fault["nodes"]}
        assert not faults, state

    check("search")
    shoot(page, f"11-{scheme}")
    hits(page).filter(has=page.locator(".box")).click()
    expect(page.locator("#about .strip button").first).to_be_visible()
    check("picture")
    shoot(page, f"12-{scheme}-viewer")
    page.keyboard.press("s")
    expect(page.locator(".own")).to_be_visible()
    check("parts")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    for name in ("Classify", "Library", "Evaluate"):
        page.locator("nav").get_by_role("button", name=name).click()
        expect(page.locator(f"#{name.lower()} h2").first).to_be_visible()
        check(name)


def test_text_is_pasted_and_dragged_as_text(open_page: Any) -> None:
    """Also where an office program puts a picture of it beside it."""
    page = open_page()
    kinds = page.get_by_label("Search for").evaluate(
        """(field, bytes) => {
          const both = new DataTransfer();
          both.setData("text/plain", "a ship");
          both.items.add(new File([new Uint8Array(bytes)], "x.png", {type: "image/png"}));
          const text = new DataTransfer();
          text.setData("text/plain", "a ship");
          const options = {bubbles: true, cancelable: true};
          return [
            field.dispatchEvent(new ClipboardEvent("paste", {clipboardData: both, ...options})),
            field.dispatchEvent(new DragEvent("drop", {dataTransfer: text, ...options})),
            field.dispatchEvent(new DragEvent("dragover", {dataTransfer: text, ...options})),
          ];
        }""",
        list(a_file("red")["buffer"]),
    )
    assert kinds == [True] * 3  # left to the browser
    page.wait_for_timeout(200)
    expect(page.locator("#parts li")).to_have_count(0)
    expect(status(page)).to_contain_text("newest first")


# -- classify, library, evaluate


def test_pictures_are_classified(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_page("/#classify")
    page.get_by_label("Labels", exact=True).select_option("")
    page.get_by_label("Your labels").fill("red, blue, green")
    drop(page, a_file("blue", "sea.png"), a_file("red", "=fire.png"))
    verdicts = page.locator("#verdicts li")
    expect(verdicts.nth(0)).to_contain_text("blue")
    expect(verdicts.nth(1).locator("meter")).to_have_count(3)
    expect(page.locator("#verdict")).to_have_text("2 of 2 classified")
    shoot(page, "13-classify")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith('"file","verdict","label 1","confidence 1"')
    assert lines[1].startswith('"sea.png","blue","blue",')
    assert lines[2].startswith('"\'=fire.png","red"')  # a spreadsheet takes it for text
    page.get_by_text("Prompt templates").click()
    expect(page.get_by_label("One template per line")).to_have_value("a photo of a {}.")
    page.get_by_role("button", name="Use prompt ensemble").click()
    assert len(page.get_by_label("One template per line").input_value().split("\n")) > 10
    page.get_by_label("Your labels").fill("violin, contract")
    page.get_by_role("button", name="Classify again").click()
    expect(verdicts.first).to_contain_text("None of these")


def test_a_late_verdict_is_dropped(open_page: Any) -> None:
    page = open_page("/#classify")
    held = Held(page, "**/api/v1/classify?*", "POST")
    for n, colour in enumerate(("red", "blue")):
        page.locator("#classify-image").set_input_files(a_file(colour, f"{colour}.png"))
        held.wait(n + 1)
    held.go(0, **told(400, detail="the first is no image"))
    verdict = page.locator("#verdicts li h3")
    expect(verdict).to_have_text("blue.png")
    held.go(0, **told(200, top=[{"label": "sea", "confidence": 1}], none_of_these=False))
    expect(verdict).to_have_text("sea")


def test_a_folder_is_indexed_with_progress_and_cancelled(
    open_page: Any, site: Any, shoot: Any
) -> None:
    _, model, _ = site
    page = open_page("/#library")
    expect(page.locator("#facts")).to_contain_text("242 images")
    model.shut = True
    try:
        page.get_by_label("Crops", exact=True).select_option("none")
        page.get_by_role("button", name="Index", exact=True).click()
        model.gate.release(2)  # two views, to open the encoder, and the rest of the first batch
        expect(page.locator("#job")).to_contain_text("of 41 images")
        expect(page.get_by_role("progressbar", name="Indexing")).to_be_visible()
        shoot(page, "14-indexing")
        # Searching goes on.
        other = open_page("/?q=red")
        expect(hits(other).first).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        model.gate.release(100)
        expect(page.locator("#job")).to_contain_text("Cancelled")
    finally:
        model.shut = False
    page.get_by_role("button", name="Index", exact=True).click()
    expect(page.locator("#job")).to_contain_text("Done")
    expect(page.locator("#facts")).to_contain_text("282 images")
    expect(page.locator("#skipped")).to_contain_text("broken.jpg")


def test_a_job_whose_end_was_missed(open_page: Any) -> None:
    """The connection was lost while it ran; the next look at the library tells what came of it."""
    page = open_page("/#library")
    page.route("**/events", lambda route: route.fulfill(**told(404, detail="lost")))
    index = page.get_by_role("button", name="Index", exact=True)
    index.click()
    expect(page.locator("#job")).to_contain_text("Connection lost")
    for _ in range(600):
        jobs = page.request.get(page.url.split("#")[0] + "api/v1/index/jobs").json()["jobs"]
        if jobs[0]["state"] != "running":
            break
        page.wait_for_timeout(100)
    page.locator("nav").get_by_role("button", name="Library").click()
    expect(page.locator("#job")).to_contain_text("Done")
    expect(page.locator("#progress")).to_be_hidden()
    expect(index).to_be_enabled()


def test_the_library_is_evaluated(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.locator("nav").get_by_role("button", name="Evaluate").click()  # it has labels
    page.get_by_role("button", name="Run evaluation").click()
    expect(page.locator("#figures tbody tr")).not_to_have_count(0)
    expect(page.locator("#plot meter").first).to_be_visible()
    shoot(page, "15-evaluate")


def test_an_older_evaluation_does_not_stand_for_a_newer(open_page: Any) -> None:
    page = open_page()
    old, new = Held(page, "**/api/v1/evaluation"), Held(page, "**/api/v1/evaluation", "POST")
    page.locator("nav").get_by_role("button", name="Evaluate").click()
    figures = {"methods": {"baseline": {"mrr": 0.5}}, "intervals": {}, "table_version": 1}
    old.wait(1)
    page.get_by_role("button", name="Run evaluation").click()
    new.wait(1)
    old.go(0, **told(200, queries=10, gallery=600, **figures))
    expect(page.locator("#evaluation-status")).to_contain_text("Measuring")
    new.go(0, **told(400, detail="no labels"))
    expect(page.locator("#evaluation-status")).to_have_text("no labels")


class Keyboard:
    """Somebody who has no mouse; ``steps`` counts keys, and words that are typed as one."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.steps = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self._page.keyboard.press(key)
            self.steps += 1

    def type(self, words: str) -> None:
        self._page.keyboard.type(words)
        self.steps += 1

    def tab_to(self, name: str) -> None:
        """Press Tab until what has the focus has this name."""
        for _ in range(40):
            self.press("Tab")
            if name in self._page.evaluate(
                "(({ariaLabel, textContent, labels, tagName}) => tagName === 'BODY' ? '' :"
                " ariaLabel || labels?.[0]?.textContent || textContent)(document.activeElement)"
            ):
                return
        raise AssertionError(f"Tab does not lead to {name}")

    def search(self, words: str) -> None:
        self.press("/")
        self.type(words)
        self.press("Enter")


def test_five_tasks_by_keyboard_alone(open_page: Any) -> None:
    """How many steps each takes, for whoever changes the page."""
    steps: dict[str, int] = {}
    page = open_page()
    expect(hits(page).first).to_be_visible()

    # Find a photograph, and send it: a file to attach.
    keyboard = Keyboard(page)
    keyboard.search("blue")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "1: blue")
    keyboard.press("Tab", "Enter", "Enter")  # to the images, and the first one opens
    expect(page.get_by_role("dialog")).to_be_visible()
    with page.expect_download() as saved:
        keyboard.press("d")
    assert saved.value.suggested_filename.endswith(".jpg")
    steps["find and send"] = keyboard.steps
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()

    # Compare the search with crops and the one without.
    keyboard = Keyboard(page)
    keyboard.search("white")
    expect(page.locator("#hits .box").first).to_be_visible()  # a part of one of them won
    keyboard.press("Tab", "Enter", "c")
    expect(page).to_have_url(re.compile("crops=false"))
    expect(page.locator("#hits .box")).to_have_count(0)
    expect(page.get_by_label("Crops")).to_have_value("false")
    steps["compare crops"] = keyboard.steps
    expect(hits(page).first).to_be_focused()
    page.keyboard.press("c")  # and back
    expect(page.locator("#hits .box").first).to_be_visible()

    # Find a moment in a video.
    moment = {
        "rank": 1, "video": "/v/front.mp4", "start": 83.48, "end": 91.2,
        "still": "static/icon.svg", "media": "api/v1/media/0123456789abcdef#t=83.48,91.20",
    }  # fmt: skip
    change(page, lambda told: told["hits"][0].update(path="/v/front.mp4::t=85.000"))
    page.route("**/api/v1/moments?q=red", lambda r: r.fulfill(**told(200, moments=[moment])))
    page.route("**/api/v1/media/*", lambda r: r.fulfill(status=206, content_type="video/mp4"))
    keyboard = Keyboard(page)
    keyboard.search("red")
    expect(page.locator("#moments li")).to_have_count(1)
    keyboard.press("Tab", "Tab", "Enter")  # past the link to the images
    expect(page.get_by_label("Play front.mp4")).to_be_focused()
    keyboard.press("Enter")
    expect(page.locator("#moments video")).to_be_focused()
    steps["find a moment"] = keyboard.steps

    # Classify ten pictures.
    page = open_page()
    expect(hits(page).first).to_be_visible()
    keyboard = Keyboard(page)
    keyboard.press("2")
    expect(page.locator("#classify h2")).to_be_visible()
    with page.expect_file_chooser() as chosen:  # from now on; it takes a moment to be in force
        keyboard.tab_to("Choose images")
        keyboard.press("Enter")
    chosen.value.set_files([a_file("blue", f"{n}.png") for n in range(10)])
    expect(page.locator("#verdict")).to_have_text("10 of 10 classified")
    steps["classify ten"] = keyboard.steps

    # Index a new folder.
    page = open_page()
    expect(hits(page).first).to_be_visible()
    keyboard = Keyboard(page)
    keyboard.press("3")
    expect(page.locator("#index-form")).to_be_visible()
    keyboard.tab_to("Index")
    keyboard.press("Enter")
    expect(page.locator("#job")).to_contain_text("Done")
    steps["index a folder"] = keyboard.steps
    assert steps == {
        "find and send": 7,
        "compare crops": 6,
        "find a moment": 7,
        "classify ten": 3,
        "index a folder": 5,
    }


def test_the_keys_are_told(open_page: Any) -> None:
    page = open_page()
    expect(hits(page).first).to_be_visible()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_contain_text("With crops, or whole images only")
    found = axe.Axe().run(page).response["violations"]
    assert not [(fault["id"], node["html"]) for fault in found for node in fault["nodes"]]
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    # Keys are letters where something is typed.
    page.keyboard.press("/")
    page.keyboard.type("c2?")
    expect(page.get_by_label("Search for")).to_have_value("c2?")
    expect(page.locator("#classify")).to_be_hidden()


def test_the_link_of_the_server_logs_in_from_another_site(
    browser: Any, tmp_path: Path, shoot: Any
) -> None:
    library = wordsight.create(tmp_path / "lib", ColourModel())  # type: ignore[arg-type]
    paint("red", (64, 48)).save(tmp_path / "red.png")
    library.index(tmp_path / "red.png")
    app = create_app(library, token="right")
    with listening(app) as url:
        here = url.replace("127.0.0.1", "localhost")
        context = browser.new_context()
        page = context.new_page()
        # A message in a web mail, on another site.
        page.route("http://mail.example/", lambda route: route.fulfill(
            content_type="text/html", body=f'<a href="{here}{app.state.guard.login_path}">open</a>'
        ))  # fmt: skip
        page.goto("http://mail.example/")
        page.get_by_text("open").click()
        expect(page.get_by_label("Search for")).to_be_visible()
        context.close()
        # A second browser has the link too late, and is asked for the token.
        context = browser.new_context(viewport={"width": 400, "height": 500})
        page = context.new_page()
        page.goto(f"{here}/login/late")
        shoot(page, "12-login")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        page.get_by_label("Token").fill("right")
        page.get_by_label("Token").press("Enter")
        expect(page.get_by_label("Search for")).to_be_visible()
        find(page, "red")
        expect(page.locator("#status")).not_to_be_empty()
        context.close()


# -- near-duplicates


@pytest.fixture
def copies(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page over eight pictures: one with a small copy and a crop, one with a copy."""
    folder = tmp_path / "album"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("boat", "tree", "house", "street", "cat"):
        shapes = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        noise = rng.normal(0, 12, (480, 640, 3))
        pixels = (np.asarray(shapes.resize((640, 480))) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    boat = Image.open(folder / "boat.jpg")
    boat.resize((320, 240)).save(folder / "boat small.jpg")
    boat.crop((40, 30, 620, 470)).save(folder / "boat crop.jpg")
    Image.open(folder / "tree.jpg").save(folder / "tree again.jpg", quality=30)
    library = wordsight.create(tmp_path / "lib", ColourModel())  # type: ignore[arg-type]
    library.index(folder)
    with listening(create_app(library)) as url:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        context.set_default_timeout(30_000)
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url}/#duplicates")
        yield page, folder
        context.close()
    assert not faults


def test_duplicates_side_by_side(copies: Any, shoot: Any) -> None:
    page, folder = copies
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    page.get_by_role("button", name="Find duplicates").click()
    expect(page.locator("#duplicates-status")).to_have_text(
        "2 groups in 8 images; 3 besides the best ones."
    )
    first = page.locator(".group").first
    expect(first.locator("h3")).to_contain_text("3 images, likeness 0.9")
    kept = first.locator("li").first
    expect(kept).to_contain_text("Keep boat.jpg")
    expect(kept).to_contain_text("640 × 480")
    expect(first.get_by_text("Keep", exact=True)).to_have_count(1)
    shoot(page, "20-duplicates")
    found = axe.Axe().run(page).response["violations"]
    assert not [(fault["id"], node["html"]) for fault in found for node in fault["nodes"]]

    bar = page.get_by_role("toolbar", name="Selected images")
    first.get_by_role("button", name="Select the others").click()
    expect(bar).to_contain_text("2 selected")
    page.get_by_role("button", name="Select all but the best").click()
    expect(bar).to_contain_text("3 selected")
    page.get_by_role("button", name="Select boat crop.jpg").click()  # that one is kept too
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Copy paths").click()
    expect(bar).to_contain_text("Paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert {Path(path).name for path in paths} == {"boat small.jpg", "tree again.jpg"}
    with page.expect_download() as saved:
        bar.get_by_role("button", name="Download").click()
    assert len(zipfile.ZipFile(saved.value.path()).namelist()) == 2
    shoot(page, "21-duplicates-selected")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    page.get_by_role("button", name="Open boat.jpg").click()
    expect(page.locator("#view-title")).to_have_text("boat.jpg")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-title")).to_contain_text("boat ")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(first).to_be_visible()
    page.reload()  # what was found is still there
    expect(page.locator(".group")).to_have_count(2)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    shoot(page, "22-duplicates-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_failed_search_for_duplicates_is_told(open_page: Any) -> None:
    page = open_page()
    failed = {"state": "failed", "done": 0, "total": 0, "error": "no room", "found": None}
    page.route("**/api/v1/duplicates", lambda route: route.fulfill(**told(200, **failed)))
    page.locator("nav").get_by_role("button", name="Duplicates").click()
    expect(page.locator("#duplicates-status")).to_have_text("Failed: no room")
    expect(page.get_by_role("button", name="Find duplicates")).to_be_enabled()
