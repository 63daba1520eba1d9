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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live import listening
from PIL import Image

import wordsight
from wordsight.scenes import write_scenes
from wordsight.sources import Item, open_source
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


class Gated:
    """The starter model, which encodes a batch of images only when it is let."""

    def __init__(self) -> None:
        self._model = wordsight.load_model("starter")
        self.gate = threading.Semaphore(0)
        self.shut = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_pixels(self, pixels: Any) -> Any:
        if self.shut:
            assert self.gate.acquire(timeout=60)
        return self._model.encode_pixels(pixels)


class Part:
    """Some images of a data set."""

    root, name = "part", "part of CIFAR-10"
    problems: list[tuple[str, str]] = []  # noqa: RUF012

    def __init__(self, items: list[Item]) -> None:
        self._items = items

    def items(self) -> list[Item]:
        return self._items


@pytest.fixture(scope="module")
def items() -> list[Item]:
    folder = os.environ.get("WORDSIGHT_CIFAR10")
    if not folder or not (Path(folder) / "test.tar").is_file():
        pytest.skip("WORDSIGHT_CIFAR10 does not name a folder with test.tar")
    return open_source(Path(folder) / "test.tar").items()


@pytest.fixture(scope="module")
def site(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """600 images of CIFAR-10 and 12 scenes with crops, served; a folder that may be indexed."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORDSIGHT_CACHE", str(folder / "cache"))
        patch.setattr("wordsight.indexing.BATCH", 32)
        model = Gated()
        library = wordsight.create(folder / "lib", model)  # type: ignore[arg-type]
        library.index_sources([Part(items[::13][:600])])
        write_scenes(folder / "scenes", items[:500], 12)
        (folder / "scenes" / "instances.json").unlink()
        exif = Image.Exif()
        exif[0x0110] = "Camera One"
        exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (11.0, 3.0, 0.0)})
        scene = Image.open(folder / "scenes" / "scene-00003.png").convert("RGB")
        (folder / "photos").mkdir()
        scene.save(folder / "photos" / "photograph.jpg", exif=exif)
        library.index(folder / "scenes", crops="tiles")
        library.index(folder / "photos", crops="none")
        new = folder / "new"
        new.mkdir()
        for n, item in enumerate(items[5000:5120]):
            (new / f"{n}.png").write_bytes(item.read())
        (new / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
        app = create_app(library, allow_index=[new])
        with listening(app) as url:
            yield url, model, folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
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
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 850}, **options})
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
            page.wait_for_function(
                """() => [...document.images].every((image) =>
                     image.complete || !image.checkVisibility()
                     || image.getBoundingClientRect().top > innerHeight)"""
            )
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take


def find(page: Any, words: str) -> None:
    page.get_by_label("Search for").fill(words)
    page.get_by_label("Search for").press("Enter")


def hits(page: Any) -> Any:
    return page.locator("#hits .hit")


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


def a_dog(items: list[Item]) -> bytes:
    return next(item for item in items[1000:] if item.label == "dog").read()


def a_file(items: list[Item]) -> Any:
    return {"name": "dog.png", "mimeType": "image/png", "buffer": a_dog(items)}


def drop(page: Any, data: bytes) -> None:
    page.evaluate(
        """bytes => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
          const event = new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
          document.body.dispatchEvent(event);
        }""",
        list(data),
    )


def test_search_and_more(open_page: Any, shoot: Any) -> None:
    page = open_page()
    expect(page.locator("#status")).to_contain_text("Type what you are looking for")
    expect(page.locator("#banner")).to_be_visible()
    shoot(page, "01-empty")
    find(page, "a dog")
    expect(hits(page)).to_have_count(20)
    labels = page.locator("#hits .name").all_inner_texts()
    assert labels.count("dog") >= 14
    told = hits(page).first.get_attribute("title")
    assert re.match(r"score 0\.\d{4}, normalised \d+\.\d\n/", told)  # on hover
    shoot(page, "02-search")
    page.get_by_role("button", name="Show more").click()
    expect(hits(page)).to_have_count(40)
    # The address says it all, and Back goes back.
    address = page.url
    find(page, "a ship")
    expect(page.locator("#status")).to_contain_text("a ship")
    page.go_back()
    expect(page.locator("#status")).to_contain_text("a dog")
    assert page.url == address
    other = open_page("/" + address.split("/", 3)[3])
    expect(hits(other)).to_have_count(20)
    expect(other.get_by_label("Search for")).to_have_value("a dog")


def test_no_match_and_the_closest_anyway(open_page: Any, shoot: Any) -> None:
    page = open_page()
    find(page, "a legal contract")
    expect(page.locator("#status")).to_contain_text("No match")
    expect(hits(page)).to_have_count(0)
    shoot(page, "03-no-match")
    page.get_by_role("button", name="Show the closest images").click()
    expect(hits(page)).to_have_count(20)
    expect(page.locator("#status")).to_contain_text("No match")


def test_label_filter_slider_and_history(open_page: Any) -> None:
    page = open_page()
    page.get_by_text("Options").click()
    find(page, "an animal")
    page.get_by_label("Label", exact=True).select_option("horse")
    expect(page.locator("#hits .name").first).to_have_text("horse")
    assert set(page.locator("#hits .name").all_inner_texts()) <= {"horse"}
    assert "label=horse" in page.url
    page.get_by_label("Strictness").fill("0.2")
    expect(page.locator("#rate")).to_have_text("20 %")
    page.goto(page.url.split("?")[0])
    page.get_by_role("button", name="an animal").click()
    expect(page.get_by_label("Search for")).to_have_value("an animal")


def test_any_number_of_images_may_be_typed(open_page: Any) -> None:
    page = open_page("/?q=a+deer&k=9999")
    expect(hits(page)).to_have_count(500)
    expect(page.locator("#k")).to_have_value("500")
    page.locator("summary").click()
    for typed, taken in (("2.5", 3), ("-4", 1), ("", 20)):
        page.locator("#k").fill(typed)
        page.locator("#k").press("Enter")
        expect(hits(page)).to_have_count(taken)
        expect(page.locator("#k")).to_have_value(str(taken))


def test_back_and_reload_show_what_the_address_says(open_page: Any) -> None:
    """Options too: one that the address leaves out is as it is at first."""
    page = open_page()
    find(page, "a ship")
    expect(hits(page)).to_have_count(20)
    plain = page.locator("#hits .hit").evaluate_all("all => all.map((hit) => hit.title)")
    page.get_by_text("Options").click()
    label = page.get_by_label("Label", exact=True)
    label.select_option("ship")
    expect(page.locator("#hits .name").filter(has_not_text="ship")).to_have_count(0)
    page.get_by_label("Results", exact=True).fill("7")
    page.get_by_label("Results", exact=True).press("Enter")
    expect(hits(page)).to_have_count(7)
    page.go_back()
    expect(hits(page)).to_have_count(20)
    expect(label).to_have_value("ship")
    for again in (page.go_back, page.reload):
        again()
        expect(label).to_have_value("")
        expect(page.locator("#status")).to_contain_text("20 images")
        expect(page.get_by_label("Results", exact=True)).to_have_value("20")
        shown = page.locator("#hits .hit").evaluate_all("all => all.map((hit) => hit.title)")
        assert shown == plain
    page.get_by_text("Options").click()
    page.get_by_label("Sort by").select_option("z")
    page.get_by_label("Search in crops").uncheck()
    expect(page).to_have_url(re.compile("crops=false&rank_by=z"))
    for _ in range(3):  # order, search, the empty page
        page.go_back()
    expect(page.locator("#status")).to_contain_text("Type what you are looking for")
    expect(page.get_by_label("Sort by")).to_have_value("auto")
    expect(page.get_by_label("Search in crops")).to_be_checked()
    # A search that is emptied leaves the address, too.
    find(page, "a ship")
    expect(hits(page)).to_have_count(20)
    find(page, "")
    expect(page.locator("#status")).to_contain_text("Type what you are looking for")
    assert "?" not in page.url
    # Nothing is looked for with less than the address says.
    page.goto(page.url + "?q=a+ship&label=teapot&rank_by=odd&k=odd")
    expect(page.locator("#status")).to_contain_text("teapot")
    expect(hits(page)).to_have_count(0)
    expect(page.get_by_label("Sort by")).to_have_value("auto")
    page.get_by_role("button", name="Library").click()
    expect(page.locator("#facts")).to_contain_text("images")
    expect(label).to_have_value("teapot")


def test_late_answers_do_not_stand_for_newer_ones(open_page: Any) -> None:
    page = open_page()
    held = Held(page, "**/api/v1/search?*")
    find(page, "a ship")
    held.wait(1)
    find(page, "a frog")
    held.wait(2)
    held.go(0)
    expect(page.locator("#status")).to_have_text("Searching …")
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "true")
    held.go(0)
    expect(page.locator("#status")).to_contain_text("a frog")
    assert page.locator("#hits").get_attribute("aria-busy") is None


def test_late_answers_about_an_image_are_dropped(open_page: Any) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    find(page, "a ship")
    held = Held(page, re.compile(r"/api/v1/regions/\w+$"))
    places = Held(page, "**/api/v1/regions/*location=true")
    dialog, status = page.get_by_role("dialog"), page.locator("#view-status")
    paths = [hits(page).nth(n).get_attribute("title").split("\n")[1] for n in (0, 1)]
    # Another image is open by then.
    hits(page).nth(0).click()
    dialog.get_by_role("button", name="Location").click()
    page.evaluate(
        """() => {
          const late = new Promise((done) => { window.copied = done; });
          navigator.clipboard.writeText = () => late;
        }"""
    )
    dialog.get_by_role("button", name="Copy path").click()
    held.wait(1)
    places.wait(1)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    hits(page).nth(1).click()
    held.wait(2)
    held.go(1)
    expect(page.locator("#view-facts")).to_contain_text("File")
    expect(page.locator("#view-facts dd").last).to_have_text(paths[1])
    held.go(0)
    places.go(0)
    page.evaluate("window.copied()")
    expect(page.locator("#view-facts dd").last).to_have_text(paths[1])
    expect(status).to_have_text("")
    # A fault that is told late is no better.
    page.keyboard.press("Escape")
    hits(page).nth(0).click()
    held.wait(1)
    page.keyboard.press("Escape")
    expect(page.locator("#view-image")).not_to_have_attribute("src", re.compile("."))
    held.go(0, **told(404, detail="the first is gone"))
    expect(status).to_have_text("")
    # Those that come in time stand.
    hits(page).nth(1).click()
    held.wait(1)
    dialog.get_by_role("button", name="Location").click()
    places.wait(1)
    held.go(0)
    places.go(0)
    expect(status).to_contain_text("does not say")
    # Another search leaves no dialog open.
    page.go_back()
    expect(dialog).to_be_hidden()


def test_an_image_that_is_gone_is_told(open_page: Any) -> None:
    page = open_page("/?q=a+ship")
    page.route("**/api/v1/images/*", lambda route: route.fulfill(**told(410, detail="gone")))
    hits(page).first.click()
    expect(page.locator("#view-status")).to_contain_text("missing")


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_moves_when_the_image_comes(open_page: Any, tiny: bool, width: int) -> None:
    viewport = {"width": width, "height": 740}
    page = open_page("/?q=a+truck&k=200&anyway=true", viewport=viewport)
    images = Held(page, "**/api/v1/images/*")
    (hits(page) if tiny else hits(page).filter(has=page.locator(".box"))).first.click()
    expect(page.locator("#view-facts")).to_contain_text("File")
    images.wait(1)
    shown, close = page.locator("#view-image"), page.get_by_role("button", name="Close")
    before = shown.bounding_box(), close.bounding_box()
    images.go(0)
    page.wait_for_function("() => document.getElementById('view-image').complete")
    assert (shown.bounding_box(), close.bounding_box()) == before
    natural = shown.evaluate("image => image.naturalWidth / image.naturalHeight")
    box = before[0]
    assert box["width"] / box["height"] == pytest.approx(natural, rel=0.02)
    assert box["x"] + box["width"] <= width
    assert box["height"] <= 0.72 * 740 + 1


def test_the_dialog_closes_beside_it_alone(open_page: Any) -> None:
    page = open_page("/?q=a+ship")
    hits(page).first.click()
    dialog = page.get_by_role("dialog")
    expect(page.locator("#view-facts")).to_contain_text("File")
    place = dialog.bounding_box()
    # A path is selected, and the mouse let go outside.
    path = page.locator("#view-facts dd").last.bounding_box()
    page.mouse.move(path["x"] + 5, path["y"] + 5)
    page.mouse.down()
    page.mouse.move(place["x"] - 20, path["y"] + 5)
    page.mouse.up()
    expect(dialog).to_be_visible()
    page.mouse.click(place["x"] + 6, place["y"] + 6)  # its edge
    expect(dialog).to_be_visible()
    page.mouse.click(place["x"] - 20, place["y"] + 5)
    expect(dialog).to_be_hidden()


def test_why_nothing_matches_is_true(open_page: Any) -> None:
    page = open_page()
    answer: dict[str, Any] = {}

    def change(route: Any) -> None:
        real = route.fetch()
        route.fulfill(response=real, json={**real.json(), **answer})

    page.route("**/api/v1/search?*", change)
    status = page.locator("#status")
    find(page, "a legal contract")
    expect(status).to_contain_text("% of the time (limit 5 %)")
    # Where rivals made the decision, the share of unrelated prompts is not the reason.
    answer |= {"explanation": "The closest images look more like a dog."}
    find(page, "a legal contract")
    expect(status).to_contain_text(
        "The closest images look more like a dog. Try other words, or search with a picture of "
        "what you mean."
    )
    expect(status).not_to_contain_text("%")


def test_previews_are_given_back_to_the_browser(open_page: Any, items: list[Item]) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          const kept = new Set(), [make, free] = [URL.createObjectURL, URL.revokeObjectURL];
          const changed = () => { document.body.dataset.kept = kept.size; };
          URL.createObjectURL = (file) => {
            const url = make(file);
            kept.add(url);
            changed();
            return url;
          };
          URL.revokeObjectURL = (url) => { free(url); kept.delete(url); changed(); };
        }"""
    )
    parts, preview = page.locator("#parts img"), page.locator("#classify-preview")
    drop(page, a_dog(items))
    for words in ("a horse", "a frog"):
        find(page, words)
        expect(parts).to_have_js_property("naturalWidth", 32)
    page.get_by_role("button", name="Classify").first.click()
    for n in (0, 1):
        page.locator("#classify-image").set_input_files(
            {"name": f"{n}.png", "mimeType": "image/png", "buffer": items[n].read()}
        )
        expect(preview).to_have_js_property("naturalWidth", 32)
    expect(page.locator("#verdict .bar")).to_have_count(3)
    expect(page.locator("body")).to_have_attribute("data-kept", "0")


def test_what_the_page_cannot_use_does_not_stop_it(open_page: Any, tmp_path: Path) -> None:
    """What another program left in the browser, answers of a proxy, too large a file."""
    page = open_page()
    page.evaluate('localStorage.setItem("prompts", JSON.stringify({mine: 1}))')
    page.route(
        "**/api/v1/classify",
        lambda route: route.fulfill(status=404, content_type="text/html", body="<h1>No</h1>"),
    )
    page.reload()
    expect(page.locator("#status")).to_contain_text("Type what you are looking for")
    page.get_by_role("button", name="Classify").first.click()
    expect(page.get_by_label("Your labels")).to_be_visible()  # without lists, one's own
    page.get_by_role("button", name="Library").click()
    with (tmp_path / "x.tif").open("wb") as file:
        file.truncate(22_000_000)
    page.locator("#query-image").set_input_files(tmp_path / "x.tif")
    expect(page.locator("#status")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("x.tif is too large: 22.0 MB")
    page.route(
        "**/api/v1/search?*",
        lambda route: route.fulfill(status=413, content_type="text/html", body="<h1>No</h1>"),
    )
    find(page, "a ship")
    expect(page.locator("#status")).to_contain_text("413")


def test_a_crop_that_won_is_shown_and_searched_for(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=a+truck&k=200&anyway=true")
    scene = hits(page).filter(has=page.locator(".box")).first
    expect(scene).to_be_visible()
    scene.scroll_into_view_if_needed()
    shoot(page, "04-crop-box")
    scene.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".box.won")).to_have_count(1)
    expect(dialog.locator("dd").first).to_contain_text("cosine")
    shoot(page, "05-image-with-regions")
    dialog.get_by_role("button", name=re.compile("best")).click()
    expect(page.locator("#parts")).to_contain_text("like region")
    assert re.search(r"like=[0-9a-f]{16}%3A\d", page.url)
    expect(hits(page).first).to_be_visible()
    # Without crops an image counts as a whole, and nothing is boxed.
    page.goto(page.url.split("?")[0] + "?q=a+truck&k=200&anyway=true")
    expect(page.locator("#hits .box").first).to_be_visible()
    page.get_by_text("Options").click()
    page.get_by_label("Search in crops").uncheck()
    expect(page.locator("#hits .box")).to_have_count(0)
    assert "crops=false" in page.url


def test_more_like_this_and_not_like_this(open_page: Any, shoot: Any) -> None:
    page = open_page()
    find(page, "a ship")
    hits(page).first.click()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#parts")).to_contain_text("like this")
    expect(page.locator("#hits .name").first).to_have_text("ship")
    # Words and the image together, without another image.
    find(page, "an airplane")
    expect(page.locator("#status")).to_contain_text("most similar first")
    hits(page).nth(1).click()
    page.get_by_role("button", name="Not like this").click()
    expect(page.locator("#parts li")).to_have_count(2)
    expect(page.locator("#parts")).to_contain_text("not like this")
    shoot(page, "06-combined")
    page.get_by_role("button", name="Remove: like this", exact=True).click()
    expect(page.locator("#parts li")).to_have_count(1)


def test_the_path_is_copied(open_page: Any) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    find(page, "a frog")
    hits(page).first.click()
    page.get_by_role("button", name="Copy path").click()
    expect(page.locator("#view-status")).to_contain_text("copied")
    path = page.locator("#view-facts dd").last.inner_text()
    assert page.evaluate("navigator.clipboard.readText()") == path
    opened = page.request.get(page.locator("#open").evaluate("link => link.href"))
    assert opened.headers["content-type"] == "image/jpeg"


def test_what_a_photograph_says_of_itself(open_page: Any, site: Any, shoot: Any) -> None:
    """When and with what is shown, where only to who asks for it."""
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Search by image").set_input_files(site[2] / "photos" / "photograph.jpg")
    page.locator("#hits .hit", has_text="photograph.jpg").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Camera One")
    expect(dialog).not_to_contain_text("48.2")
    assert not any("location" in url for url in asked)
    page.get_by_role("button", name="Location").click()
    expect(dialog).to_contain_text("48.20000, 11.05000")
    shoot(page, "17-photograph")


def test_an_image_is_dropped_and_words_are_added(
    open_page: Any, items: list[Item], shoot: Any
) -> None:
    page = open_page()
    drop(page, a_dog(items))
    expect(page.locator("#parts")).to_contain_text("like your image")
    expect(hits(page)).to_have_count(20)
    assert page.locator("#hits .name").all_inner_texts().count("dog") >= 8
    find(page, "a horse")
    expect(page.locator("#hits .name").filter(has_text="horse").first).to_be_visible()
    shoot(page, "07-dropped-with-words")
    page.get_by_label("Remove: like your image").click()
    expect(page.locator("#status")).to_contain_text("for “a horse”")


def test_what_is_no_image_is_told(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_label("Search by image").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"no image"}
    )
    expect(page.locator("#status")).to_contain_text("not an image")
    with (tmp_path / "x.tif").open("wb") as file:
        file.truncate(22_000_000)
    page.get_by_label("Search by image").set_input_files(tmp_path / "x.tif")
    expect(page.locator("#status")).to_contain_text("x.tif is too large: 22.0 MB")


def test_an_image_is_pasted(open_page: Any, items: list[Item]) -> None:
    page = open_page()
    page.evaluate(
        """bytes => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "x.png", {type: "image/png"}));
          document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
        }""",
        list(a_dog(items)),
    )
    expect(page.locator("#parts")).to_contain_text("like your image")
    expect(hits(page)).to_have_count(20)


def test_an_empty_library_says_what_to_do_and_grows(
    browser: Any, items: list[Item], tmp_path: Path, shoot: Any
) -> None:
    library = wordsight.create(tmp_path / "lib", "starter")
    with listening(create_app(library)) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#status")).to_contain_text("The library is empty")
        shoot(page, "18-empty-library")
        page.get_by_role("button", name="Evaluate").click()
        page.get_by_role("button", name="Run evaluation").click()
        expect(page.locator("#evaluation-status")).to_contain_text("label")
        page.get_by_role("button", name="Search", exact=True).first.click()
        page.get_by_role("button", name="Go to the library").click()
        expect(page.locator("#no-folders")).to_contain_text("--allow-index")
        expect(page.locator("#facts")).to_contain_text("0 images")
        # Another process fills it; nothing is restarted.
        (tmp_path / "new").mkdir()
        for n, item in enumerate(items[:40]):
            (tmp_path / "new" / f"{n}.png").write_bytes(item.read())
        wordsight.open(tmp_path / "lib", library.model).index(tmp_path / "new")
        page.get_by_role("button", name="Library").click()
        expect(page.locator("#facts")).to_contain_text("40 images")
        find_tab = page.locator("nav").get_by_role("button", name="Search")
        find_tab.click()
        expect(page.locator("#status")).to_contain_text("Type what you are looking for")
        find(page, "an animal")
        page.get_by_role("button", name="Library").click()
        expect(page.locator("#facts")).to_contain_text("40 images")
        page.goto(url + "/?q=an+animal&anyway=true")
        expect(hits(page)).to_have_count(20)
        page.close()


def test_a_small_image_is_classified(open_page: Any, items: list[Item], shoot: Any) -> None:
    page = open_page()
    page.get_by_role("button", name="Classify").first.click()
    data = a_dog(items)
    assert Image.open(io.BytesIO(data)).size == (32, 32)
    page.locator("#classify-image").set_input_files(
        {"name": "dog.png", "mimeType": "image/png", "buffer": data}
    )
    page.get_by_label("Labels", exact=True).select_option("cifar10")
    page.locator("#classify-form").get_by_role("button", name="Classify").click()
    expect(page.locator("#verdict .no-match")).to_have_text("dog")
    expect(page.locator("#verdict .bar")).to_have_count(3)
    shoot(page, "08-classify")
    page.get_by_label("Labels", exact=True).select_option("")
    page.get_by_label("Your labels").fill("violin, contract")
    assert page.locator("#labels").bounding_box()["width"] > 200  # room for some words
    expect(page.get_by_label("One template per line")).to_have_value("a photo of a {}.")
    page.get_by_role("button", name="Use prompt ensemble").click()
    assert len(page.get_by_label("One template per line").input_value().split("\n")) > 10
    page.get_by_label("One template per line").fill("a picture of a {}.\n{}")
    page.locator("#classify-form").get_by_role("button", name="Classify").click()
    expect(page.locator("#verdict")).to_contain_text("None of these")
    expect(page.locator("#verdict .bar")).to_have_count(0)


def test_a_late_verdict_is_dropped(open_page: Any, items: list[Item]) -> None:
    page = open_page("/#classify")
    held = Held(page, "**/api/v1/classify?*", "POST")
    for n, kind in enumerate(("ship", "frog")):
        image = next(item for item in items[1000:] if item.label == kind).read()
        page.locator("#classify-image").set_input_files(
            {"name": f"{kind}.png", "mimeType": "image/png", "buffer": image}
        )
        held.wait(n + 1)
    verdict = page.locator("#verdict")
    held.go(0, **told(400, detail="the first is no image"))
    expect(verdict).to_have_text("Classifying …")
    page.locator("#classify-form").get_by_role("button", name="Classify").click()
    held.wait(2)
    held.go(1, **told(200, top=[{"label": "frog", "confidence": 1}], none_of_these=False))
    expect(verdict.locator(".no-match")).to_have_text("frog")
    held.go(0, **told(200, top=[{"label": "ship", "confidence": 1}], none_of_these=False))
    expect(verdict.locator(".no-match")).to_have_text("frog")


def test_a_folder_is_indexed_with_progress_and_cancelled(
    open_page: Any, site: Any, shoot: Any
) -> None:
    _, model, _ = site
    page = open_page("/#library")
    expect(page.locator("#facts")).to_contain_text("613 images")
    model.shut = True
    try:
        page.get_by_label("Crops", exact=True).select_option("none")
        page.get_by_role("button", name="Index", exact=True).click()
        model.gate.release(2)  # two views, to open the encoder, and the rest of the first batch
        expect(page.locator("#job")).to_contain_text("of 121 images")
        expect(page.get_by_role("progressbar", name="Indexing")).to_be_visible()
        shoot(page, "09-indexing")
        # Searching goes on, and another visitor sees the job.
        other = open_page("/?q=a+cat")
        expect(hits(other)).to_have_count(20)
        page.get_by_role("button", name="Cancel").click()
        model.gate.release(100)
        expect(page.locator("#job")).to_contain_text("Cancelled")
    finally:
        model.shut = False
    page.get_by_role("button", name="Index", exact=True).click()
    expect(page.locator("#job")).to_contain_text("Done")
    expect(page.locator("#facts")).to_contain_text("733 images")
    expect(page.locator("#skipped")).to_contain_text("broken.jpg")
    shoot(page, "10-library")


def test_a_job_whose_end_was_missed(open_page: Any) -> None:
    """The connection was lost while it ran; the next look at the library tells what came of it."""
    page = open_page("/#library")
    page.route("**/events", lambda route: route.fulfill(**told(404, detail="lost")))
    index = page.get_by_role("button", name="Index", exact=True)
    index.click()
    expect(page.locator("#job")).to_contain_text("Connection lost")
    for _ in range(600):
        if (
            page.request.get(page.url.split("#")[0] + "api/v1/index/jobs").json()["jobs"][0][
                "state"
            ]
            != "running"
        ):
            break
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Library").click()
    expect(page.locator("#job")).to_contain_text("Done")
    expect(page.locator("#progress")).to_be_hidden()
    expect(index).to_be_enabled()


def test_an_older_evaluation_does_not_stand_for_a_newer(open_page: Any) -> None:
    page = open_page()
    old, new = Held(page, "**/api/v1/evaluation"), Held(page, "**/api/v1/evaluation", "POST")
    figures = {"methods": {"baseline": {"mrr": 0.5}}, "intervals": {}, "table_version": 1}
    page.get_by_role("button", name="Evaluate").click()
    old.wait(1)
    page.get_by_role("button", name="Run evaluation").click()
    new.wait(1)
    old.go(0, **told(200, queries=10, gallery=600, **figures))
    expect(page.locator("#evaluation-status")).to_contain_text("Measuring")
    new.go(0, **told(400, detail="no labels"))
    expect(page.locator("#evaluation-status")).to_have_text("no labels")


def test_the_library_is_evaluated(open_page: Any, shoot: Any) -> None:
    page = open_page("/#evaluate")
    page.get_by_role("button", name="Run evaluation").click()
    expect(page.locator("#figures tbody tr")).to_have_count(4)
    expect(page.locator("#plot")).to_have_js_property("complete", True)
    assert page.locator("#plot").evaluate("image => image.naturalWidth") > 100
    shoot(page, "11-evaluate")


def test_on_a_phone(open_page: Any, items: list[Item], shoot: Any) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    find(page, "an airplane")
    expect(hits(page)).to_have_count(20)

    def fits() -> bool:
        wide: int = page.evaluate("document.documentElement.scrollWidth")
        return wide <= 360

    assert fits()
    shoot(page, "12-phone")
    hits(page).first.tap()
    expect(page.get_by_role("dialog")).to_be_visible()
    shoot(page, "13-phone-image")
    page.get_by_role("button", name="Close").tap()
    for name in ("Classify", "Library", "Evaluate"):
        page.locator("nav").get_by_role("button", name=name).tap()
        assert fits(), name
    shoot(page, "14-phone-evaluate")

    # Nor do words without a space push anything off the screen.
    def lengthen(route: Any) -> None:
        response = route.fetch()
        answer = response.json()
        for hit in answer["hits"]:
            hit.update(label=None, path=f"/{'long_name_' * 20}.jpg")
        route.fulfill(response=response, json=answer)

    page.route("**/api/v1/search?*", lengthen)
    page.locator("nav").get_by_role("button", name="Search").tap()
    for word in ("airplane", "x" * 120):
        find(page, word)
        expect(page.locator("#status")).to_contain_text(word)
        assert fits(), word
    page.locator("nav").get_by_role("button", name="Classify").tap()
    page.get_by_label("Labels", exact=True).select_option("")
    page.get_by_label("Your labels, separated by commas").fill(f"cat, dog, {'x' * 60}")
    page.set_input_files("#classify-image", files=[a_file(items)])
    expect(page.locator("#verdict .bar")).to_have_count(3)
    assert fits()
    shoot(page, "19-phone-long-label")


def test_in_the_dark(open_page: Any, shoot: Any) -> None:
    page = open_page("/?q=a+deer", color_scheme="dark")
    expect(hits(page)).to_have_count(20)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in re.findall(r"\d+", background)[:3]) < 60
    shoot(page, "15-dark")
    hits(page).first.click()
    shoot(page, "16-dark-image")


def test_with_the_keyboard_alone(open_page: Any) -> None:
    page = open_page()
    page.keyboard.type("a bird")  # the field has the focus from the start
    page.keyboard.press("Enter")
    expect(hits(page)).to_have_count(20)

    def focused() -> str:
        name: str = page.evaluate("document.activeElement.id || document.activeElement.className")
        return name

    for _ in range(10):
        if focused() == "hit":
            break
        page.keyboard.press("Tab")
    assert focused() == "hit"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert focused() == "like"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert focused() == "hit"  # back where one was
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#parts")).to_contain_text("like this")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(open_page: Any, scheme: str) -> None:
    page = open_page("/?q=a+truck&k=200&anyway=true", color_scheme=scheme)
    expect(hits(page).first).to_be_visible()

    def check(state: str) -> None:
        found = axe.Axe().run(page).response["violations"]
        serious = {
            (fault["id"], node["html"])
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        }
        assert not serious, state

    check("search")
    hits(page).filter(has=page.locator(".box")).first.click()
    expect(page.get_by_role("dialog").locator(".box.won")).to_have_count(1)
    check("image")
    page.keyboard.press("Escape")
    for name in ("Classify", "Library", "Evaluate"):
        page.locator("nav").get_by_role("button", name=name).click()
        page.wait_for_function("() => document.querySelector('#hits img').complete")
        check(name)


def test_text_is_pasted_and_dragged_as_text(open_page: Any, items: list[Item]) -> None:
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
        list(a_dog(items)),
    )
    assert kinds == [True] * 3  # left to the browser
    page.wait_for_timeout(200)
    expect(page.locator("#parts li")).to_have_count(0)
    expect(hits(page)).to_have_count(0)


@pytest.mark.parametrize("size", [(3000, 300), (90, 12), (200, 1200), (640, 480)])
def test_hits_keep_their_proportions(open_page: Any, size: tuple[int, int]) -> None:
    width, height = size
    page = open_page()
    buffer = io.BytesIO()
    small = max(size) / 320 if max(size) > 320 else 1
    Image.new("RGB", (round(width / small), round(height / small))).save(buffer, "JPEG")
    picture = {"status": 200, "content_type": "image/jpeg", "body": buffer.getvalue()}
    page.route("**/api/v1/thumbnails/*", lambda route: route.fulfill(**picture))

    def of_this_size(route: Any) -> None:
        answer = route.fetch().json()
        for hit in answer["hits"]:
            hit |= {"width": width, "height": height}
        route.fulfill(**told(200, **answer))

    page.route("**/api/v1/search?*", of_this_size)
    find(page, "a dog")
    expect(hits(page)).to_have_count(20)
    image = hits(page).first.locator("img")
    page.wait_for_function("() => document.querySelector('#hits img').complete")
    box, frame = image.bounding_box(), hits(page).first.locator(".frame").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.03)
    assert box == frame  # where boxes are drawn
    assert box["height"] <= 145
    assert box["width"] > 20


def test_the_link_of_the_server_logs_in_from_another_site(
    items: list[Item], browser: Any, tmp_path: Path, shoot: Any
) -> None:
    library = wordsight.create(tmp_path / "lib", "starter")
    library.index_sources([Part(items[:40])])
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
        find(page, "a dog")
        expect(page.locator("#status")).not_to_be_empty()
        context.close()
