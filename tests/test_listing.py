"""What a listing leaves out, what it counts, and what becomes of images that are left out later."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ColourModel

import wordsight
from wordsight.cli import main
from wordsight.errors import SourceError
from wordsight.images import IMAGE_SUFFIXES
from wordsight.sources import open_source
from wordsight.sources.folder import FolderSource
from wordsight.sources.tar import TarSource

Photos = Callable[..., Path]


def write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def listed(folder: Path, *exclude: str) -> list[str]:
    source = FolderSource(folder)
    source.exclude = exclude
    return [item.path.removeprefix(source.root) for item in source.items()]


def run(*arguments: object, status: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert (end.value.code or 0) == status


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where neither RAW files nor JPEG XL nor videos can be opened."""
    for module in ("indexing.footage", "indexing.run"):
        monkeypatch.setattr(f"wordsight.{module}.is_available", lambda: False)
    for module in ("folder", "tar", "listing"):
        monkeypatch.setattr(f"wordsight.sources.{module}.readable_suffixes", lambda: IMAGE_SUFFIXES)


@pytest.fixture
def with_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra ``raw`` is installed."""
    suffixes = IMAGE_SUFFIXES | {".cr3", ".dng"}
    for module in ("folder", "tar", "listing"):
        monkeypatch.setattr(f"wordsight.sources.{module}.readable_suffixes", lambda: suffixes)


def tar_of(folder: Path) -> TarSource:
    file = folder.parent / "all.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(folder, arcname="")
    return TarSource(file)


def members(source: TarSource) -> list[str]:
    return sorted(item.path.removeprefix(source.root) for item in source.items())


# left out by themselves


def test_folders_of_waste_and_previews_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    waste = ("#recycle", "@Recycle", "@eaDir", "#snapshot", ".thumbnails", "lost+found")
    write(folder, "a.png", *(f"deep/{name}/b.png" for name in waste))
    photos = "My Photos.photoslibrary"
    write(folder, f"{photos}/originals/0/c.png", f"{photos}/resources/derivatives/0/c.png")
    write(folder, f"{photos}/Thumbnails/c.png", "resources/d.png")
    expected = ["a.png", f"{photos}/originals/0/c.png", "resources/d.png"]
    assert listed(folder) == sorted(expected)
    assert members(tar_of(folder)) == sorted(expected)
    assert listed(folder / "deep" / "#recycle") == ["b.png"]  # named by the user
    assert listed(folder / photos) == ["originals/0/c.png"]


@pytest.mark.usefixtures("with_raw")
def test_a_raw_file_beside_its_jpeg_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "1.CR3", "1.JPG", "2.dng", "2.heic", "3.cr3", "4.dng", "4.png", "a/3.jpg")
    expected = ["1.JPG", "2.heic", "3.cr3", "4.dng", "4.png", "a/3.jpg"]
    assert listed(folder) == expected
    assert members(tar_of(folder)) == expected
    assert listed(folder, "*.JPG") == ["1.CR3", *expected[1:]]  # alone, then


# counted


@pytest.mark.usefixtures("without_extras")
def test_files_of_other_kinds_are_counted(
    tmp_path: Path, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(red=2)
    (folder / "red-0.png").rename(folder / "red-0.jpg")  # the bytes say what it is
    write(folder, "a.CR3", "b.dng", "c/d.nef", "clip.mp4", "c/clip.MOV", "x.jxl", "x.psd")
    write(folder, "red-0.dng", "notes.txt", "red-1.xmp", ".hidden.mp4", "@eaDir/e.mp4")
    (folder / "folder.mp4").mkdir()
    place = tmp_path / "lib"
    run("index", folder, folder / "c", "--library", place, "--json")
    counts = {"RAW": 3, "video": 2, "JPEG XL": 1, "PSD": 1}
    assert json.loads(capsys.readouterr().out)["not_read"] == counts  # "c" is counted once
    run("index", folder, "--library", place)
    assert (
        "Not read: 3 RAW, 2 videos, 1 JPEG XL, 1 PSD "
        "(RAW, JPEG XL and video: pip install 'wordsight[raw,jxl,video]').\n"
    ) in capsys.readouterr().out
    run("index", folder, "--library", place, "--exclude", "*.mp4", "--exclude", "c/", "--json")
    assert json.loads(capsys.readouterr().out)["not_read"]["RAW"] == 2
    source = tar_of(folder)
    assert len(source.items()) == 2
    assert sorted(source.not_read.values()) == sorted(
        kind for kind, count in counts.items() for _ in range(count)
    )


@pytest.mark.usefixtures("with_raw")
def test_what_can_be_read_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.cr3", "b.nef", "c.mp4")
    source = FolderSource(tmp_path)
    assert [Path(item.path).name for item in source.items()] == ["a.cr3"]
    assert {Path(path).name: kind for path, kind in source.not_read.items()} == {
        "b.nef": "RAW",
        "c.mp4": "video",
    }
    source.items()
    assert len(source.not_read) == 2  # of the last listing


@pytest.mark.usefixtures("without_extras")
def test_a_folder_of_nothing_else_says_what_it_holds(tmp_path: Path, model: ColourModel) -> None:
    write(tmp_path / "in", "a.cr3", "b.mp4", "c.mp4")
    library = wordsight.create(tmp_path / "lib", model)
    with pytest.raises(SourceError, match=r"no image found in .*not read: 2 videos, 1 RAW"):
        library.index(tmp_path / "in")
    write(tmp_path / "in", "a.png")
    with pytest.raises(SourceError, match=r"no image found in .*excluded: \*\.png"):
        library.index(tmp_path / "in", exclude=["*.png"])


# patterns


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["thumbs/"], ["a.gif", "a.png", "b/a.gif", "b/b.png"]),
        (["*.gif"], ["a.png", "b/b.png", "b/thumbs/c.png", "thumbs/c.png"]),
        (["/thumbs", "b/*.gif"], ["a.gif", "a.png", "b/b.png", "b/thumbs/c.png"]),
        (["*.gif", "!b/a.gif", "thumbs"], ["a.png", "b/a.gif", "b/b.png"]),
        (["b/**/c.png"], ["a.gif", "a.png", "b/a.gif", "b/b.png", "thumbs/c.png"]),
        ([" ", "# a comment"], ["a.gif", "a.png", "b/a.gif", "b/b.png", "b/thumbs/c.png",
                                "thumbs/c.png"]),
    ],
)  # fmt: skip
def test_patterns_are_those_of_gitignore(
    tmp_path: Path, patterns: list[str], left: list[str]
) -> None:
    folder = tmp_path / "in"
    write(folder, "a.png", "a.gif", "b/a.gif", "b/b.png", "b/thumbs/c.png", "thumbs/c.png")
    assert listed(folder, *patterns) == left
    archive = tar_of(folder)
    archive.exclude = patterns
    assert members(archive) == left
    (folder / ".wordsightignore").write_text("\n".join(patterns))
    assert listed(folder) == left


def test_the_nearest_ignore_file_decides(tmp_path: Path) -> None:
    write(tmp_path, "a.gif", "b/a.gif", "b/c/a.gif", "b/c/d.png", "d.png")
    (tmp_path / ".wordsightignore").write_text("*.gif\n/d.png\n")
    (tmp_path / "b" / ".wordsightignore").write_bytes(b"\xef\xbb\xbf!a.gif\r\n")
    (tmp_path / "b" / "c" / ".wordsightignore").write_text("/a.gif")
    assert listed(tmp_path) == ["b/a.gif", "b/c/d.png"]
    assert listed(tmp_path / "b") == ["a.gif", "c/d.png"]
    assert listed(tmp_path, "b/") == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ignore_files_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, "été/a.png", "b.png")
    (tmp_path / ".wordsightignore").write_bytes("# von mir\r\nété/\r\n".encode(encoding))
    assert listed(tmp_path) == ["b.png"]


def test_paths_that_would_leave_nothing_out_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "a.png", "thumbs/b.png")
    for pattern in ("./thumbs", "../in/thumbs", "!./thumbs", f"{folder.resolve()}/thumbs"):
        with pytest.raises(SourceError, match="would exclude nothing"):
            listed(folder, pattern)
        archive = tar_of(folder)
        archive.exclude = [pattern]
        if pattern.lstrip("!").startswith("."):
            with pytest.raises(SourceError, match="would exclude nothing"):
                archive.items()
    assert listed(folder, "/thumbs", str(tmp_path / "other")) == ["a.png"]


def test_links_to_folders_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "loop").symlink_to("loop")
    assert listed(tmp_path / "in", "link/", "loop") == ["a.png"]
    source = FolderSource(tmp_path / "in")
    source.exclude = ["loop"]
    assert len(source.items()) == 2
    assert source.problems == []


def test_what_is_left_out_has_no_say_in_labels(tmp_path: Path) -> None:
    write(tmp_path, "dog/1.png", "cat/1.png", "other.png", "cat/thumbs/1.png")
    assert {item.label for item in open_source(tmp_path).items()} == {None}
    source = FolderSource(tmp_path)
    source.exclude = ["/*.png", "thumbs/"]
    assert [item.label for item in source.items()] == ["cat", "dog"]


def test_what_is_no_pattern(
    tmp_path: Path, photos: Photos, capsys: pytest.CaptureFixture[str], model: ColourModel
) -> None:
    folder, place = photos(red=2), tmp_path / "lib"
    run("index", folder, "--library", place, "--exclude", "!", status=2)
    assert "--exclude: Invalid git pattern: '!'" in capsys.readouterr().err
    assert not place.exists()
    (folder / ".wordsightignore").write_text("!\nred-0.png")
    library = wordsight.create(place, model)
    report = library.index(folder)
    assert report.images == 2
    [failure] = report.failed
    assert failure.path == os.path.realpath(folder / ".wordsightignore")
    assert "nothing is left out by it" in failure.reason


# remembered, and pruned


def test_the_library_remembers_the_patterns(
    tmp_path: Path, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, place = photos(red=3, blue=2), tmp_path / "lib"
    run("index", folder, "--library", place, "--exclude", "blue-*", "--exclude", "red-0.png")
    run("index", folder, "--library", place)
    assert "Nothing to do: 2 images unchanged" in capsys.readouterr().out
    run("info", "--library", place)
    assert "excluded  blue-*, red-0.png\n" in capsys.readouterr().out
    run("info", "--library", place, "--json")
    assert json.loads(capsys.readouterr().out)["exclude"] == ["blue-*", "red-0.png"]
    run("index", folder, "--library", place, "--exclude", "blue-0.png")  # instead of those
    run("index", folder, "--library", place, "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 4
    run("index", folder, "--library", place, "--exclude", "")
    run("info", "--library", place)
    said = capsys.readouterr().out
    assert "images    5 " in said
    assert "excluded" not in said


def test_images_that_are_left_out_later_go_with_prune_alone(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=1, blue=3)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    report = library.index(folder, exclude=["blue-*"])
    assert (report.unchanged, report.removed, report.images) == (1, 0, 4)
    report = library.index(folder, prune=True)  # most of the folder: their drive is there
    assert (report.removed, report.images, report.failed) == (3, 1, [])
    assert library.undo_prune() == 3
    (folder / ".wordsightignore").write_text("*")
    report = library.index(folder, exclude=[], prune=True)
    assert (report.removed, report.images) == (4, 0)


def test_what_is_gone_beside_what_is_left_out_is_held_as_ever(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=4, blue=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    for i in range(3):
        (folder / f"red-{i}.png").unlink()
    report = library.index(folder, exclude=["blue-*"], prune=True)
    assert (report.removed, report.to_json()["kept"]) == (1, 3)
    report = library.index(folder, prune="force")
    assert (report.removed, report.images) == (3, 1)


def test_a_file_that_was_named_by_itself_stays(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder / "red-0.png", folder], exclude=["red-0.png"])
    report = library.index(folder, prune=True)
    assert (report.removed, report.images) == (0, 2)


@pytest.mark.usefixtures("without_extras")
def test_images_that_only_an_extra_lists_stay_without_it(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=3)
    shutil.move(folder / "red-0.png", folder / "red-0.dng")  # a PNG by its bytes
    suffixes = IMAGE_SUFFIXES | {".dng"}
    library = wordsight.create(tmp_path / "lib", model)
    with monkeypatch.context() as patch:
        patch.setattr("wordsight.sources.folder.readable_suffixes", lambda: suffixes)
        assert library.index(folder).images == 3
    monkeypatch.setattr("wordsight.indexing.pruning.readable_suffixes", lambda: IMAGE_SUFFIXES)
    report = library.index(folder, prune=True)
    assert (report.removed, report.images, dict(report.not_read)) == (0, 3, {"RAW": 1})


def test_a_folder_that_was_named_by_itself_stays(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    inner = photos("photos/inner", blue=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index([inner])
    report = library.index(folder, exclude=["inner/"], prune=True)
    assert (report.removed, report.images) == (0, 4)
