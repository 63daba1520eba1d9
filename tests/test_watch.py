"""``index --watch``: what changes is indexed, what is written in the library does not count."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli import Cli, run  # noqa: F401  (a fixture)

from wordsight.cli.changes import changes

Photos = Callable[..., Path]


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Stands for watchfiles.watch: each entry is done, and then counts as a change."""
    watchfiles = pytest.importorskip("watchfiles", reason="needs the extra watch")
    steps: list[Any] = []

    def watch(*places: str, watch_filter: Any, **_options: Any) -> Iterator[set[Any]]:
        for path, step in steps:
            step()
            if watch_filter(1, path):
                yield {(1, path)}
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", watch)
    return steps  # type: ignore[return-value]


def test_what_changes_is_indexed(run: Cli, photos: Photos, changed: list[Any]) -> None:  # noqa: F811
    root = photos(red=2)
    new, library = root / "new.png", root / ".wordsight"

    def add() -> None:
        shutil.copy(root / "red-0.png", new)

    def spoil() -> None:
        (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")

    changed += [
        (str(new), add),
        (str(library / "views.lance/data/x.lance"), lambda: None),  # what we write ourselves
        (str(root / "broken.png"), spoil),
        (str(root / "red-0.png"), (root / "red-0.png").unlink),
    ]
    watched = run("index", root, "--watch", "--prune")
    assert watched.code == 130
    said = watched.out.splitlines()
    assert said[0].startswith("2 images indexed")
    assert [line for line in said if "reused" in line or "removed" in line] == [
        *(line for line in said if line.startswith("0 images indexed, 2 unchanged, 1 reused")),
        *(line for line in said if "1 removed" in line),
    ]
    assert sum("removed" in line for line in said) == 1
    assert "watching" in watched.err


def test_what_is_gone_is_said_once(run: Cli, photos: Photos, changed: list[Any]) -> None:  # noqa: F811
    root = photos(red=5)
    changed += [
        (str(root / "red-0.png"), (root / "red-0.png").unlink),
        (str(root / "a.txt"), (root / "a.txt").touch),
        (str(root / "red-1.png"), (root / "red-1.png").unlink),
    ]
    watched = run("index", root, "--watch")
    gone = [line for line in watched.err.splitlines() if line.endswith("add --prune.")]
    assert [line[:23] for line in gone] == [
        "1 image of the library ", "2 images of the library"
    ]  # fmt: skip
    assert watched.err.count("Next, try:") == 1
    said = run("index", root)
    assert "Nothing to do: 3 images unchanged." in said.out
    assert "to remove them, add --prune." in said.err
    assert "--prune" not in run("index", root, "--prune").err
    assert json.loads(run("index", root, "--json").out)["gone"] == 0


def test_an_error_ends_nothing(run: Cli, photos: Photos, changed: list[Any]) -> None:  # noqa: F811
    root = photos(red=2)
    other = photos("other", blue=1)
    away = root.parent / "away"
    changed += [
        (str(other), lambda: other.rename(away)),
        (str(other), lambda: away.rename(other)),
        (str(root / "new.png"), lambda: shutil.copy(root / "red-0.png", root / "new.png")),
    ]
    watched = run("index", root, other, "--library", root / "lib", "--watch", "--json")
    assert watched.code == 130
    reports = [json.loads(line) for line in watched.out.splitlines()]
    assert [report["images"] for report in reports] == [3, 4]
    assert "other" in watched.err


def test_what_cannot_be_watched_is_said_first(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert 'pip install "wordsight[watch]"' in run("index", "nowhere", "--watch").err
    monkeypatch.undo()


def test_changes_are_seen_for_real(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="needs the extra watch")
    inside = tmp_path / ".wordsight"
    inside.mkdir()
    done = threading.Event()

    def write() -> None:  # until one is seen: the watch may begin later than the first
        number = 0
        while not done.wait(2.5):
            number += 1
            (tmp_path / f"{number}.txt").touch()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        next(changes([str(tmp_path)], inside))
    finally:
        done.set()
        writer.join()
    assert len(list(tmp_path.iterdir())) > 1


def test_killed_while_it_watches_it_continues(photos: Photos) -> None:
    pytest.importorskip("watchfiles", reason="needs the extra watch")
    root = photos(red=2)
    index = [sys.executable, "-m", "wordsight", "index", str(root), "--model", "starter"]
    with subprocess.Popen([*index, "--watch"], stderr=subprocess.PIPE, text=True) as watched:
        assert watched.stderr
        assert any("watching" in line for line in watched.stderr)
        for number in range(20):
            shutil.copy(root / "red-0.png", root / f"{number}.png")
        watched.kill()
    report = json.loads(subprocess.check_output([*index, "--json"], text=True))
    assert (report["images"], report["failed"]) == (22, [])
