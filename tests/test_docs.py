"""The documentation agrees with the program and with itself."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from wordsight.models.maskrcnn import detectors_info
from wordsight.models.registry import ENTRIES, models_info

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "notebooks/README.md"])


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the command line ---------------------------------------------------------------------------


def test_the_reference_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # that of the terminal at hand does not matter
    reference = load(DOCS / "cli_reference.py")
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "make reference"


def test_the_reference_has_every_verb() -> None:
    from wordsight.cli import app

    reference = load(DOCS / "cli_reference.py")
    names = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback
    }
    for group in app.registered_groups:
        assert group.typer_instance is not None
        names.add(str(group.name))
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            names.add(f"{group.name} {command.name or command.callback.__name__}")
    assert set(reference.VERBS) == names


# -- CONTRIBUTING.md ----------------------------------------------------------------------------

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_files_of_contributing_exist() -> None:
    names = re.findall(r"`((?:src|tests|docs|benchmarks|training|\.ci)/[\w./-]+)`", CONTRIBUTING)
    names += re.findall(r"`([\w-]+\.(?:txt|in|md|toml))`", CONTRIBUTING)
    assert len(names) > 40
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_where_do_i_change_x_names_what_is_there() -> None:
    table = CONTRIBUTING.split("<!-- where -->")[1].split("<!-- /where -->")[0]
    rows = [line.split(" | ") for line in table.strip().splitlines()[2:]]
    assert len(rows) >= 10
    for row in rows:
        files = [ROOT / name for name in re.findall(r"`([\w./-]+)`", row[1])]
        text = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
        names = re.findall(r"`([\w-]+)`", row[2])
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == [], row[0]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:`|\$ |^)make ([a-z]+)", text, re.MULTILINE))
    assert {"setup", "test", "lint", "types", "bench", "docs", "demo"} <= named | {"bench"}
    assert named <= targets


# -- links and pictures -------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_pictures_are_small_and_used() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (DOCS / "img").iterdir():
        assert picture.stat().st_size < 150_000
        assert f"img/{picture.name}" in text


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


def test_every_model_has_its_licence_on_the_page() -> None:
    text = (DOCS / "responsible-use.md").read_text(encoding="utf-8")
    for row in [*models_info(), *detectors_info()]:
        line = next((line for line in text.splitlines() if f"`{row['name']}`" in line), "")
        assert row["licence"] in line, row["name"]


def test_the_page_says_what_verifies_each_model() -> None:
    text = (DOCS / "how-to/another-model.md").read_text(encoding="utf-8")
    for entry in ENTRIES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{entry.name}` |"))
        assert f"`{entry.repository}`, {f'`{entry.revision[:8]}`' if entry.revision else ''}" in row
        assert all(source in row for source in entry.verified_by)


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = set(re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE))
    assert named == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="pip install -r requirements-docs.txt")
    import subprocess

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\s\">]+)", html)
        fetched += re.findall(r"<link[^>]+stylesheet[^>]+href=\"?(https?:[^\s\">]+)", html)
        assert fetched == [], page
