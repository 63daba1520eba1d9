"""Draws the pictures of the web page for the documentation: ``python docs/page_pictures.py``.

Chromium shows the page over the photographs of the package, with the best model that is here (a
folder or a name may be given). Needs Chromium and Playwright, as the tests of the page do.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

import wordsight
from wordsight.web.app import create_app

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT.parent / "tests"))
from live import listening  # noqa: E402

PHOTOGRAPHS = ROOT.parent / "src/wordsight/photographs"


def elsewhere(route: Route) -> None:
    """Answer as if the photographs were in somebody's own folder."""
    answer = route.fetch()
    told = answer.text().replace(str(PHOTOGRAPHS), "/home/ada/Pictures")
    route.fulfill(response=answer, body=told)


def keep(page: Page, name: str) -> None:
    """Save what the page shows as a small picture."""
    page.wait_for_timeout(1000)
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    with tempfile.TemporaryDirectory() as work:
        page.screenshot(path=Path(work) / "page.png")
        image = Image.open(Path(work) / "page.png").convert("RGB")
    path = ROOT / "img" / name
    image.save(path, quality=70, optimize=True)
    print(f"{name}  {image.width} x {image.height}  {path.stat().st_size / 1000:.0f} kB")


def main(model: str = "starter") -> None:
    """Index, serve, search and draw."""
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        library = wordsight.create(Path(work) / "library", model=model)
        library.index(PHOTOGRAPHS, crops="none")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with listening(create_app(library)) as url:
            page = browser.new_page(viewport={"width": 1000, "height": 640})
            page.add_init_script("localStorage.setItem('banner', 'seen')")
            page.route("**/api/v1/search?*", elsewhere)
            page.route("**/api/v1/regions/*", elsewhere)
            page.goto(f"{url}/?q=a+cup+of+coffee&anyway=true")
            page.locator("#hits .hit").first.wait_for()
            keep(page, "page-search.jpg")
            page.locator("#hits .hit").first.click()
            page.locator("#about .strip").wait_for()
            keep(page, "page-viewer.jpg")
            phone = browser.new_page(viewport={"width": 390, "height": 640}, color_scheme="dark")
            phone.add_init_script("localStorage.setItem('banner', 'seen')")
            phone.goto(url)
            phone.locator("#suggestions button").first.wait_for()
            keep(phone, "page-phone.jpg")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
