"""The guided tour, over the 20 images that a machine without CIFAR-10 has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import wordsight
from wordsight import demo, render
from wordsight.api import Library
from wordsight.errors import LibraryError
from wordsight.sources import Item, cifar10


@pytest.mark.parametrize("name", ["library", "scenes", "scenes-library"])
def test_what_the_demo_has_not_made_is_left_alone(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name / "work.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(LibraryError, match=f"{name} already exists and was not made by"):
        demo.run(wordsight.load_model("starter"), NoImages(), "here", tmp_path)
    assert mine.read_text() == "mine"


class NoImages:
    def items(self) -> list[Item]:
        return []


def test_the_tour_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("foolbox", reason="no sample images")
    monkeypatch.delenv("WORDSIGHT_CIFAR10", raising=False)
    monkeypatch.setattr(demo._Tour, "crops", lambda *_: None)  # tests/test_crops.py has these
    drawn = []
    grid = Library.grid

    def noted(library: Library, result: Any, **options: Any) -> Any:
        drawn.append(result)
        return grid(library, result, **options)

    def save(picture: Any, path: Path) -> Path:
        assert shown[-1] != "done", f"{path.name} is drawn in silence"
        return render_save(picture, path)

    render_save = render.save
    monkeypatch.setattr(render, "save", save)
    monkeypatch.setattr(Library, "grid", noted)
    source = cifar10.load("test")
    said: list[str] = []
    shown: list[str] = []

    @contextmanager
    def show(title: str) -> Iterator[Callable[[int, int], None]]:
        assert shown[-1:] in ([], ["done"]), "a terminal has room for one bar"
        shown.append(title)
        last = []
        yield lambda done, total: last.append((done, total))
        assert not last or last[-1][0] == last[-1][1]
        shown.append("done")

    facts = demo.run(
        wordsight.load_model("starter"),
        source,
        source.origin,
        tmp_path / "out",
        say=said.append,
        show=show,
    )
    assert shown[::2] == [
        "encoding images",
        "searching",
        "searching",
        "classifying",
        "encoding photographs",
    ]
    # No bird is among the twenty, and no piano; two of them are of each of the others.
    verdicts = [search["verdict"] for search in facts["searches"]]
    assert verdicts.count("match") >= 4
    assert "match" not in verdicts[-2:]
    assert verdicts[-1] == "none"
    assert len(facts["searches"]) == len(demo.PROMPTS)
    assert all(Path(picture).is_file() for picture in facts["pictures"])
    # What "No match" is shown with: a thing that none of the images is of.
    assert drawn[-1].query == "a grand piano"
    assert not drawn[-1].match
    assert any("accuracy" in line for line in said)


def test_without_options_it_writes_into_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wordsight.cli import main

    asked: list[Path] = []

    def run(_model: Any, _source: Any, _origin: str, out: Path, **_options: Any) -> dict[str, Any]:
        asked.append(out)
        return {}

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(cifar10, "load", lambda *_, **__: cifar10.Cifar10("", "here", list))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    assert not ended.value.code
    assert asked == [Path("demo")]
