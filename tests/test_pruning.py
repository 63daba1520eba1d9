"""What `--prune` may forget, and how it comes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ColourModel

import wordsight
from wordsight.cli import main

Photos = Callable[..., Path]


def two_folders(photos: Photos) -> Path:
    """m2 with eight images, and m2/b with four more."""
    folder = photos("m2", red=8)
    photos("m2/b", blue=4)
    return folder


@pytest.mark.parametrize("left", [None, "readme.txt", "lost+found", "new.png"])
def test_what_was_under_a_mount_stays(
    tmp_path: Path,
    photos: Photos,
    model: ColourModel,
    mount: Callable[[Path], None],
    left: str | None,
) -> None:
    folder = two_folders(photos)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    mount(folder / "b")
    if left == "new.png":
        shutil.copy(folder / "red-0.png", folder / "b" / left)
    elif left:
        (folder / "b" / left).touch()
    for _ in range(2):  # what the first run saw does not count as known in the second
        report = library.index(folder, prune=True)
        assert (report.removed, report.to_json()["kept"]) == (0, 4)
        assert report.failed[-1].path == str(folder / "b")
        assert "the 4 images" in report.failed[-1].reason


@pytest.mark.parametrize("left", [".marker", "lost+found", "readme.txt"])
def test_a_source_without_images_keeps_them(
    tmp_path: Path, photos: Photos, model: ColourModel, left: str
) -> None:
    folder = photos(red=3)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / left).touch()
    assert library.index(folder, prune=True).images == 3
    assert library.index(folder, prune="force").images == 0
    assert library.undo_prune() == 3
    assert len(library) == 3


def test_an_unmounted_folder_with_a_readme_below(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By numbers of devices that are made up; other numbers for the same device change nothing."""
    folder = two_folders(photos)
    devices = {"b": 9}
    stat = os.stat

    def fake(path: str, **options: object) -> os.stat_result:
        real = list(stat(path, **options))  # type: ignore[call-overload]
        real[2] = devices.get(Path(os.fspath(path)).name, 8 + devices.get("all", 0))
        return os.stat_result(real)

    monkeypatch.setattr("wordsight.indexing.pruning.os.stat", fake)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "red-0.png").unlink()
    (folder / "b" / "blue-0.png").unlink()
    devices.update({"b": 19, "all": 10})
    assert library.index(folder, prune=True).removed == 2  # images beside them are there still
    for path in (folder / "b").iterdir():
        path.unlink()
    (folder / "b" / "readme.txt").touch()
    del devices["b"]
    report = library.index(folder, prune=True)
    assert (report.removed, report.to_json()["kept"]) == (0, 3)
    assert "on another device" in report.failed[-1].reason


def test_most_of_a_source_goes_with_force_alone(
    tmp_path: Path, photos: Photos, capsys: pytest.CaptureFixture[str], model: ColourModel
) -> None:
    folder = photos(red=4)
    place = str(tmp_path / "lib")
    main_(["index", str(folder), "--library", place])
    for i in range(3):
        (folder / f"red-{i}.png").unlink()
    capsys.readouterr()
    main_(["index", "--prune", str(folder), "--library", place])
    said = capsys.readouterr().err
    assert "3 of its 4 images are gone at once" in said
    assert "--prune=force" in said
    with pytest.raises(SystemExit, match="2"):
        main(["index", "--prune=forc", str(folder), "--library", place])
    assert "--prune=forc: write --prune, or --prune=force" in capsys.readouterr().err
    main_(["index", "--prune=force", str(folder), "--library", place, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["removed"], report["kept"]) == (3, 0)
    main_(["index", "--undo-prune", "--library", place, "--json"])
    assert json.loads(capsys.readouterr().out)["restored"] == 3
    main_(["index", "--undo-prune", str(folder), "--library", place])
    assert capsys.readouterr().out.startswith("0 images restored")


def main_(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code


def test_pruned_images_come_back_as_they_were_until_compact(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=8)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    before = dict(zip(*library.vectors(), strict=True))
    for i in range(2):
        (folder / f"red-{i}.png").unlink()
        assert library.index(folder, prune=True).removed == 1
    moved = (folder / "red-2.png").rename(folder / "moved.png")
    for i in range(12):  # many small changes are merged on the way
        shutil.copy(folder / "red-3.png", folder / f"copy-{i}.png")
        library.index(folder)
    assert library.undo_prune() == 2
    paths = {Path(entry.path).name for entry in library.store.entries()}
    assert {"red-0.png", "red-1.png", moved.name} <= paths
    assert "red-2.png" not in paths  # it was moved, not pruned
    after = dict(zip(*library.vectors(), strict=True))
    assert all((after[i] == before[i]).all() for i in before.keys() & after.keys())
    library.index(folder, prune=True)
    library.compact()
    assert library.undo_prune() == 0


def test_recheck_finds_a_file_of_the_same_size_and_time(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2, blue=1)
    a, b = folder / "red-0.png", folder / "blue-0.png"
    size = max(a.stat().st_size, b.stat().st_size)
    for path in (a, b):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        os.utime(path, ns=(5, 5))
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    a.write_bytes(b.read_bytes())
    os.utime(a, ns=(5, 5))
    assert library.index(folder).unchanged == 3
    report = library.index(folder, recheck=True)
    assert (report.unchanged, report.indexed + report.reused) == (2, 1)
    hits = library.search("blue", k=2, anyway=True).hits
    assert {Path(hit.path).name for hit in hits} == {"red-0.png", "blue-0.png"}
