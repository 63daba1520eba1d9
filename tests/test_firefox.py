"""The page in Firefox: the keyboard alone, what a screen reader is told, axe.

Playwright drives only a Firefox of its own; Marionette, Mozilla's driver, drives any, so that
Debian's is tested as people use it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ColourModel
from live import listening
from page_site import write_pictures

import wordsight
from wordsight.web.app import create_app

driver = pytest.importorskip(
    "marionette_driver.marionette", reason="marionette-driver is not installed"
)
keys = pytest.importorskip("marionette_driver.keys")
waiting = pytest.importorskip("marionette_driver.wait")
axe = pytest.importorskip("axe_playwright_python", reason="no axe-core")

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
pytestmark = pytest.mark.skipif(not FIREFOX, reason="Firefox is not installed")
KEYS = keys.Keys
AXE = Path(axe.__file__).parent / "axe.min.js"


class Page:
    """The page as somebody uses it who has no mouse."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def press(self, *keys: str) -> None:
        """Press keys one after the other, whatever has the focus."""
        for key in keys:
            self._browser.actions.sequence("key", "keyboard").send_keys(key).perform()

    def one(self, selector: str) -> Any:
        """The first node of a selector, waited for."""
        return self.all(selector)[0]

    def all(self, selector: str) -> list[Any]:
        """The nodes of a selector, at least one, waited for."""
        found: list[Any] = waiting.Wait(self._browser, timeout=30).until(
            lambda b: b.find_elements("css selector", selector)
        )
        return found

    def wait(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        waiting.Wait(self._browser, timeout=30).until(
            lambda b: b.execute_script(f"return Boolean({script})"), message=script
        )

    def focused(self) -> Any:
        """The node that has the focus."""
        return self._browser.get_active_element()

    def faults(self) -> list[Any]:
        """What axe finds: rules with the nodes that break them."""
        found = self._browser.execute_async_script(
            AXE.read_text(encoding="utf-8")
            + "; const done = arguments[0]; axe.run(document).then((told) => "
            "done(JSON.stringify(told.violations)), (error) => done(JSON.stringify(`${error}`)))",
            script_timeout=60_000,
        )
        return [(rule["id"], node["html"]) for rule in json.loads(found) for node in rule["nodes"]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    library = wordsight.create(folder / "lib", ColourModel())  # type: ignore[arg-type]
    write_pictures(folder / "photos", each=12)
    library.index(folder / "photos", crops="none")
    with listening(create_app(library)) as address:
        yield address


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    browser = driver.Marionette(
        bin=FIREFOX, headless=True, startup_timeout=120, gecko_log="-", port=0
    )
    browser.start_session()
    browser.set_window_rect(width=1280, height=900)
    browser.navigate(url)
    yield Page(browser)
    browser.quit()
    browser.cleanup()


def test_the_keyboard_is_enough_in_firefox(page: Page) -> None:
    page.one("#suggestions button img")
    page.press("/", *"blue", KEYS.ENTER)
    page.wait("document.querySelector('#hits img')?.alt === '1: blue'")
    page.press(KEYS.TAB, KEYS.ENTER)  # to the link there
    assert page.focused().computed_label == "1: blue"
    page.press(KEYS.ARROW_RIGHT, "x")
    assert page.one("#selection [role=status]").text == "1 selected"
    page.press(KEYS.ENTER)
    page.wait("document.getElementById('view-image').alt === '2: blue'")
    assert page.focused().computed_label == "Close"
    page.press(KEYS.ARROW_RIGHT)
    page.wait("document.getElementById('view-image').alt === '3: blue'")
    page.press(KEYS.ESCAPE)
    page.wait("!document.getElementById('view').open")
    assert page.focused().computed_label == "3: blue"  # where one left it
    page.press(KEYS.ESCAPE)
    page.wait("document.getElementById('selection').hidden")


def test_what_a_screen_reader_is_told_in_firefox(page: Page) -> None:
    page.press("/", *"blue", KEYS.ENTER)
    page.wait("document.querySelector('#hits img')?.alt === '1: blue'")
    told = {
        "#q": ("combobox", "Search for"),
        "#hits": ("list", "Images"),
        "#hits .hit": ("button", "1: blue"),
        "#hits .tick": ("button", "Select 1: blue"),
        "#filters select": ("combobox", "Date"),
        "#status": ("status", ""),
        "nav": ("navigation", "Sections"),
        "form": ("search", ""),
    }
    for selector, (role, label) in told.items():
        node = page.one(selector)
        assert (node.computed_role, node.computed_label) == (role, label), selector
    assert not page.faults()
    page.press(KEYS.TAB, KEYS.ENTER, KEYS.ENTER)
    page.one("#about .strip button")
    view = page.one("#view")
    assert (view.computed_role, view.computed_label) == ("dialog", "blue")
    assert not page.faults()
