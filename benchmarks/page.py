"""From the Enter key to the first image: the page in Chromium over a large library.

    python -m benchmarks.page [--images 100000] [--searches 20] [--megapixels 0.2 12]
        [--scroll 10000]

Each image lies at random around the text vector of an everyday word, so that these words, the
prompts, have matches; each is encoded and scored anew, and its images have not been drawn before.
The files are the package's photographs, enlarged to each of ``--megapixels``. The server is a
process of its own. The clock is the browser's: *answer* is when the hits are laid out, *first* when
one image is decoded, *screen* when all that are on the screen are. The first two searches are not
counted. Processor time is the server's, from the key until the page is at rest. *Weight* is what is
sent for the page itself, without images and answers. Then the wheel moves a screen every tenth of a
second through ``--scroll`` hits: *long tasks* are those that hold the browser up for 50 ms or more.
Needs Chromium and Playwright, as the tests of the page do.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import wordsight
from benchmarks.common import finish, parser
from benchmarks.serve import processor_ms, started_server
from wordsight.classify import read_labels
from wordsight.library import ImageRecord, ViewRecord

PHOTOGRAPHS = Path(wordsight.__file__).parent / "photographs"
UNCOUNTED = 2
_WATCH = """words => new Promise((done) => {
  const field = document.getElementById("q"), list = document.getElementById("hits");
  const old = new Set(list.querySelectorAll("img"));
  const onScreen = (image) => image.getBoundingClientRect().top < innerHeight;
  const told = {}, started = performance.now();
  const since = () => performance.now() - started;
  const look = () => {
    const fresh = [...list.querySelectorAll("img")].filter((one) => !old.has(one));
    const images = fresh.filter(onScreen);
    if (images.length) told.answer ??= since();
    const ready = images.filter((one) => one.complete && one.naturalWidth).length;
    if (ready) told.first ??= since();
    if (images.length && ready === images.length) done({ ...told, screen: since() });
    else requestAnimationFrame(look);
  };
  field.value = words;
  field.form.requestSubmit();
  requestAnimationFrame(look);
})"""


_WEIGHT = """() => [performance.getEntriesByType("navigation")[0],
  ...performance.getEntriesByType("resource").filter(({name}) => name.includes("/static/"))]
  .reduce((sum, {transferSize}) => sum + transferSize, 0)"""

_LONG_TASKS = """() => {
  window.tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration)))
    .observe({type: "longtask"});
}"""

_LAST = (
    "() => Math.max(...[...document.querySelectorAll('#hits .hit')].map((n) => +n.dataset.place))"
)


def photographs(folder: Path, megapixels: float) -> list[tuple[Path, tuple[int, int]]]:
    """The package's photographs at so many megapixels, with their sizes."""
    found = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        large = image.resize((round(image.width * factor), round(image.height * factor)))
        large.save(folder / path.name, quality=90)
        found.append((folder / path.name, large.size))
    return found


def make_library(place: Path, images: int, files: list[tuple[Path, tuple[int, int]]]) -> None:
    """A library of so many images, whose files are these, in turn."""
    library = wordsight.create(place, "starter")
    rng = np.random.default_rng(0)
    words = library.model.encode_texts(read_labels("everyday"))

    def record(i: int) -> ImageRecord:
        path, (width, height) = files[i % len(files)]
        noise = rng.normal(size=library.model.dim, scale=library.model.dim**-0.5)
        vector = 0.3 * words[i % len(words)] + noise
        made = ImageRecord(f"{i:016x}", str(path), f"{path.parent}/", 1, 1, "", width, height)
        made.views = [ViewRecord((vector / np.linalg.norm(vector)).astype(np.float32))]
        return made

    with library.store.lock():
        for begin in range(0, images, 5000):
            end = min(begin + 5000, images)
            library.store.put([record(i) for i in range(begin, end)], replace=False)
        library.store.prepare()
    library.compact()


def at_rest(page: Page) -> None:
    """Wait until every picture that was asked for is there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")


def scrolled(page: Page, hits: int) -> dict[str, float]:
    """Move the wheel through so many hits: those that passed, and the longest task in ms."""
    page.evaluate(_LONG_TASKS)
    page.mouse.move(640, 500)
    last = 0
    for _ in range(hits):  # a screen shows more than one
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(100)
        last = page.evaluate(_LAST)
        if last >= hits - 1:
            break
    tasks: list[float] = page.evaluate("() => tasks")
    return {"hits": last + 1, "long_tasks": len(tasks), "longest_ms": max(tasks, default=0)}


def searched(
    url: str, pid: int, number: int, scroll: int
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """What the browser's clock says of so many searches, in ms, and of scrolling.

    Two searches come first that are not counted.
    """
    found = []
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        at_rest(page)
        weight: float = page.evaluate(_WEIGHT)
        for words in read_labels("everyday")[: UNCOUNTED + number]:
            before = processor_ms(pid)
            row: dict[str, float] = page.evaluate(_WATCH, words)
            at_rest(page)
            found.append({**row, "processor": processor_ms(pid) - before})
        more = {"weight_kb": weight / 1000, **scrolled(page, scroll)}
        browser.close()
    return found[UNCOUNTED:], more


def measure(options: argparse.Namespace, place: Path, megapixels: float) -> dict[str, Any]:
    """Percentiles of so many searches, in ms, over the library of this place, made if need be."""
    library = place / "library"
    if not library.exists():
        (folder := place / "photographs").mkdir(parents=True)
        make_library(library, options.images, photographs(folder, megapixels))
    with started_server(library) as (url, pid):
        found, more = searched(url, pid, options.searches, options.scroll)
    rows: dict[str, Any] = {"megapixels": megapixels, **more}
    for name in found[0]:
        p50, p90 = np.percentile([row[name] for row in found], (50, 90))
        rows[name] = {"p50_ms": float(p50), "p90_ms": float(p90)}
    return rows


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=100_000)
    arguments.add_argument("--searches", type=int, default=20)
    arguments.add_argument("--megapixels", type=float, nargs="+", default=[0.2, 12])
    arguments.add_argument("--scroll", type=int, default=10_000)
    arguments.add_argument("--keep", type=Path, help="where libraries are, or stay")
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for megapixels in options.megapixels:
            place = (options.keep or Path(work)) / f"{options.images}-{megapixels:g}"
            row = measure(options, place, megapixels)
            rows.append(row)
            times = ", ".join(
                f"{name} {row[name]['p50_ms']:.0f} ({row[name]['p90_ms']:.0f})"
                for name in ("answer", "first", "screen", "processor")
            )
            print(f"{megapixels:g} megapixels, p50 (p90) in ms: {times}", flush=True)
            print(
                f"weight {row['weight_kb']:.1f} kB; {row['long_tasks']:.0f} long tasks in "
                f"{row['hits']:,.0f} hits, the longest {row['longest_ms']:.0f} ms",
                flush=True,
            )
    finish(options, {"images": options.images, "rows": rows})


if __name__ == "__main__":
    main()
