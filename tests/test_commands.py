"""Everything that a reader may type was run: the commands and Python blocks of README and how-tos.

Each page runs from top to bottom in a folder of its own, offline, with the starter model and a few
pictures. A comment ``<!-- not run: reason -->`` above a block excuses it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/quick-start.md",
    *sorted((ROOT / "docs/how-to").glob("*")),
]
LANGUAGES = {"sh", "bash", "console", "python"}
# Of other programs; tests/test_address.py runs these.
CONFIGURATIONS = {"nginx", "caddyfile", "ini", "yaml"}
EXCUSES = {
    "cluster.md": 6,
    "filters.md": 5,
    "README.md": 3,
    "quick-start.md": 3,
    "air-gapped.md": 1,
    "another-model.md": 5,
    "connect.md": 5,
    "evaluate.md": 1,
    "object-storage.md": 6,
    "container.md": 2,
    "reverse-proxy.md": 2,
    "text.md": 2,
    "video.md": 2,
    "watch.md": 2,
    "web.md": 2,
}
"""How many blocks of a page are excused."""

_BLOCK = re.compile(r"^(<!-- not run: (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    """(language, text, excused) of every block of a page."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, text, bool(reason)) for _, reason, language, text in found]


def as_shell(language: str, text: str) -> str:
    """What to type: of a console block the lines after $; a Python block as a here-document."""
    if language == "python":
        return f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
    if language == "console":
        lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        return "\n".join(lines) + "\n"
    return text


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder in which the pages' file names mean something: photos, frames, examples, a home."""
    rng = np.random.default_rng(0)

    def picture(name: str, colour: tuple[int, int, int]) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.array(colour) + rng.integers(-40, 40, (480, 640, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for folder in ("photos", "home/Pictures", "frames"):
        for i, colour in enumerate([(200, 40, 40), (40, 160, 40), (40, 60, 200), (120, 120, 120)]):
            picture(f"{folder}/{i:06}.jpg", colour)
    for i in range(10):
        picture(f"examples/dog/{i}.jpg", (180, 140, 60 + 12 * i))
        picture(f"examples/cat/{i}.jpg", (60 + 12 * i, 60, 60))
    for name in ("photo.jpg", "home/Pictures/holiday.jpg", "home/Pictures/rex.jpg"):
        picture(name, (90, 140, 200))
    picture("coco/1.jpg", (30, 120, 60))
    if find_spec("av"):
        from videos import write_video

        scenes = [("white", 2.0), ("red", 2.0), ("white", 2.0)]
        write_video(tmp_path / "recordings/front_20260301_083000.mp4", scenes)
    (tmp_path / "captions.json").write_text(
        '{"images": [{"id": 1, "file_name": "1.jpg", "width": 128, "height": 96}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "grass from above"}]}'
    )
    return tmp_path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all pages: the bank is encoded once, as on a reader's machine."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(page: Path, sandbox: Path, cache: Path) -> None:
    steps = [
        as_shell(language, text)
        for language, text, excused in blocks(page)
        if language in LANGUAGES and not excused
    ]
    script = "".join(f"cd {sandbox}\n{step}\n" for step in steps)
    environment = {
        **os.environ,
        "HOME": str(sandbox / "home"),
        "WORDSIGHT_CACHE": str(cache),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_excuses_are_few_and_blocks_have_a_language(page: Path) -> None:
    found = blocks(page)
    assert sum(excused for *_, excused in found) == EXCUSES.get(page.name, 0)
    assert {language for language, *_ in found} <= {*LANGUAGES, *CONFIGURATIONS, "text"}
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(found)
