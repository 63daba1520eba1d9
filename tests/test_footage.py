"""Videos in a library: what is kept of them, resumed, reused, removed, and shown again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from PIL import Image
from videos import av, write_passing, write_video

import wordsight
from wordsight import models
from wordsight.cli import main
from wordsight.errors import SourceError
from wordsight.indexing import footage
from wordsight.video import split_frame

SCENES = [("red", 4.0), ("green", 4.0), ("blue", 4.0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "cams/gate_20260301_083000.mp4", SCENES)
    return tmp_path / "cams"


def library(tmp_path: Path, model: ColourModel) -> wordsight.Library:
    return wordsight.create(tmp_path / "a.lib", model)  # type: ignore[arg-type]


def times(opened: wordsight.Library) -> list[float]:
    found = (split_frame(entry.path) for entry in opened.store.entries())
    return sorted(frame[1] for frame in found if frame)


def test_a_kept_frame_stands_for_the_still_ones(
    tmp_path: Path, folder: Path, model: ColourModel
) -> None:
    opened = library(tmp_path, model)
    report = opened.index(folder)
    assert (report.indexed, report.videos, report.failed) == (3, 1, [])
    (hit,) = opened.search("green", k=1).hits
    assert hit.path == f"{folder}/gate_20260301_083000.mp4::t=4.000"
    assert hit.metadata["time"] == 4.0
    assert hit.metadata["until"] == pytest.approx(8.0, abs=0.1)
    assert hit.metadata["camera"] == "gate"
    assert hit.metadata["media"] == "video"
    assert hit.metadata["video"] == f"{folder}/gate_20260301_083000.mp4"
    assert hit.metadata["recorded"].startswith("2026-03-01T")
    assert hit.metadata["recorded"].endswith("30:04.000+00:00")
    assert (hit.width, hit.height) == (96, 54)
    picture = np.asarray(opened.image(hit), np.float32).mean(axis=(0, 1))
    assert picture[1] > 2 * picture[0]
    found = opened.search("green", k=3, anyway=True)
    assert opened.grid(found).width
    assert opened._tiles(found)[0].caption[1] == "0:04, gate_20260301_083000.mp4"
    assert [h.metadata["time"] for h in opened.search("red", where="time < 4", k=5).hits] == [0.0]


def test_an_unchanged_video_is_not_read(
    tmp_path: Path, folder: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = library(tmp_path, model)
    opened.index(folder)
    monkeypatch.setattr("wordsight.video.opening.Video.__init__", None)
    report = opened.index(folder)
    assert (report.indexed, report.unchanged, report.videos) == (0, 3, 0)


def test_a_touched_or_moved_video_lends_its_vectors(
    tmp_path: Path, folder: Path, model: ColourModel
) -> None:
    opened = library(tmp_path, model)
    opened.index(folder)
    before = model.encoded_images
    path = folder / "gate_20260301_083000.mp4"
    os.utime(path, (1, 1))
    report = opened.index(folder)
    assert (report.indexed, report.removed, model.encoded_images) == (0, 0, before)
    path.rename(folder / "yard.mp4")
    report = opened.index(folder)
    assert (report.reused, report.removed, len(opened)) == (3, 3, 3)
    assert model.encoded_images == before
    (hit,) = opened.search("blue", k=1).hits
    assert hit.metadata["video"] == f"{folder}/yard.mp4"
    assert hit.metadata["camera"] == "yard"
    assert opened.index(folder).unchanged == 3


def test_a_growing_video_goes_on_where_it_ended(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_video(tmp_path / "x.mkv", [("red", 5), ("green", 5), ("blue", 9)], moves=True)
    data = whole.read_bytes()
    growing = tmp_path / "cams/x.mkv"
    growing.parent.mkdir()
    growing.write_bytes(data[: len(data) * 6 // 10])
    opened = library(tmp_path, model)
    report = opened.index(growing.parent)
    assert report.notices
    some = times(opened)
    assert len(some) > 3
    growing.write_bytes(data)
    report = opened.index(growing.parent)
    assert not report.notices
    assert times(opened)[: len(some)] == some
    again = wordsight.create(tmp_path / "b.lib", ColourModel())  # type: ignore[arg-type]
    again.index(growing.parent)
    assert times(opened) == times(again)
    assert report.indexed <= len(times(opened)) - len(some) + 1
    untils = [
        [row["until"] for row in sorted(rows, key=lambda row: row["time"])]
        for rows in (
            each.store.dataset.to_table(columns=["time", "until"]).to_pylist()
            for each in (opened, again)
        )
    ]
    assert untils[0] == untils[1]


def test_a_killed_run_is_resumed(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_video(tmp_path / "cams/a.mp4", [("red", 30)], moves=True).parent
    opened = library(tmp_path, model)
    monkeypatch.setattr("wordsight.indexing.pipeline.WRITE_EVERY", 8)
    monkeypatch.setattr("wordsight.indexing.pipeline.BATCH", 4)

    class Killed(BaseException):
        pass

    put = opened.store.put

    def put_once(images: Any, *, replace: bool) -> None:
        put(images, replace=replace)
        if images:
            monkeypatch.setattr(opened.store, "put", killed)

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(opened.store, "put", put_once)
    with pytest.raises(Killed):
        opened.index(folder)
    monkeypatch.setattr(opened.store, "put", put)
    opened.store.refresh()
    written = times(opened)
    assert 0 < len(written) < 30
    report = opened.index(folder)
    assert len(times(opened)) == 30
    assert times(opened)[: len(written)] == written
    assert report.indexed == 31 - len(written)  # the last one is read again
    assert report.removed == 0
    assert opened.index(folder).unchanged == 30


def test_a_video_that_became_another_leaves_nothing(
    tmp_path: Path, folder: Path, model: ColourModel
) -> None:
    opened = library(tmp_path, model)
    opened.index(folder)
    write_video(folder / "gate_20260301_083000.mp4", [("yellow", 3.0)])
    report = opened.index(folder)
    assert (report.indexed, report.removed) == (1, 2)
    assert times(opened) == [0.0]
    assert opened.index(folder, every=0.5).indexed == 1
    assert opened.index(folder).unchanged == 1  # the interval is remembered


def test_frames_go_with_their_video(tmp_path: Path, folder: Path, model: ColourModel) -> None:
    write_video(folder / "other.mp4", [("white", 2.0)])
    write_video(folder / "third.mp4", [("black", 2.0)])
    opened = library(tmp_path, model)
    opened.index(folder)
    (folder / "other.mp4").unlink()
    assert opened.index(folder, videos=False, prune=True).removed == 0
    assert opened.index(folder, prune=True).removed == 1
    report = opened.index(folder, prune=True, exclude=["third*"])
    assert (report.removed, len(opened)) == (1, 3)


def test_content_decides_not_the_name(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.move(write_video(tmp_path / "v.mp4", [("red", 1)]), folder / "video.jpg")
    Image.new("RGB", (64, 48), (20, 200, 20)).save(folder / "picture.mp4", "JPEG")
    (folder / "code.ts").write_text("export const one = 1;\n")
    (folder / "noise.mkv").write_bytes(os.urandom(5000))
    opened = library(tmp_path, model)
    report = opened.index(folder)
    assert {entry.path for entry in opened.store.entries()} == {
        f"{folder}/video.jpg::t=0.000",
        f"{folder}/picture.mp4",
    }
    (failure,) = report.failed
    assert failure.path == f"{folder}/noise.mkv"
    assert opened.index(folder).unchanged == 2
    single = wordsight.create(tmp_path / "b.lib", model)  # type: ignore[arg-type]
    assert single.index(folder / "video.jpg").indexed == 1


def test_without_the_package_videos_are_counted(
    tmp_path: Path, folder: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("indexing.footage", "indexing.run"):
        monkeypatch.setattr(f"wordsight.{module}.is_available", lambda: False)
    opened = library(tmp_path, model)
    with pytest.raises(SourceError, match=r"1 video \(video: pip install 'wordsight\[video\]'\)"):
        opened.index(folder)


def test_another_model_keeps_the_times(tmp_path: Path, folder: Path, model: ColourModel) -> None:
    opened = library(tmp_path, model)
    opened.index(folder)
    opened.remodel(ColourModel("0ther0ther0ther0"))  # type: ignore[arg-type]
    (hit,) = opened.search("green", k=1).hits
    assert (hit.metadata["time"], hit.metadata["camera"]) == (4.0, "gate")
    assert opened.index(folder).unchanged == 3


def test_what_moves_is_a_view_of_its_own(tmp_path: Path, model: ColourModel) -> None:
    folder = write_passing(tmp_path / "cams/a.mp4", "red").parent
    opened = library(tmp_path, model)
    opened.index(folder)

    def red() -> tuple[float, Any]:
        hit = opened.search("red", k=1).hits[0]
        return hit.metadata["time"], hit.view

    time, view = red()
    assert view.kind == "moving"
    assert 8 <= time < 13
    left = 10 + round(12 * (time - 8))  # see write_passing; a cell is 1.5 pixels, the margin 0.1
    assert view.box == pytest.approx((left - 2, 14, left + 22, 38), abs=2.5)
    (moment,) = opened.moments("red").moments
    assert (moment.part.start, moment.part.end) == pytest.approx((8, 13), abs=0.6)
    opened.remodel(ColourModel("0ther0ther0ther0"))  # type: ignore[arg-type]
    again, view = red()
    assert (view.kind, 8 <= again < 13) == ("moving", True)
    assert opened.search("red", k=1, crops=False).hits == []


def test_reading_that_goes_on_knows_the_usual_view(tmp_path: Path, model: ColourModel) -> None:
    whole = write_passing(tmp_path / "x.mkv", "red")
    data = whole.read_bytes()
    growing = tmp_path / "cams/x.mkv"
    growing.parent.mkdir()
    with av.open(str(whole)) as container:
        at = next(p.pos for p in container.demux(video=0) if p.pts and p.pts * p.time_base > 10)
    growing.write_bytes(data[:at])
    opened = library(tmp_path, model)
    opened.index(growing.parent)
    assert 8 < max(times(opened)) <= 10
    growing.write_bytes(data)
    opened.index(growing.parent)
    again = wordsight.create(tmp_path / "b.lib", ColourModel())  # type: ignore[arg-type]
    again.index(growing.parent)
    boxes = [
        [(row["time"], row["box"]) for row in sorted(rows, key=lambda row: row["time"])]
        for rows in (
            each.store.dataset.to_table(filter="kind = 'moving'").to_pylist()
            for each in (opened, again)
        )
    ]
    assert len(boxes[0]) >= 5
    assert boxes[0] == boxes[1]


def test_crops_of_frames(tmp_path: Path, model: ColourModel) -> None:
    folder = write_video(tmp_path / "cams/a.mp4", SCENES).parent
    opened = library(tmp_path, model)
    report = opened.index(folder, crops="tiles")
    assert report.images == 3
    assert report.views > 3
    assert opened.index(folder).unchanged == 3


def test_frames_are_no_duplicates(tmp_path: Path, folder: Path, model: ColourModel) -> None:
    opened = library(tmp_path, model)
    assert opened.index(folder).images == 3
    found = opened.duplicates()
    assert (found.groups, found.images, found.skipped) == ([], 0, [])


def test_on_the_command_line(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "load_model", lambda *_, **__: ColourModel())
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*words])
        return int(ended.value.code or 0)

    assert run("index", "cams", "--every", "2", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["indexed"], answer["videos"], answer["notices"]) == (3, 1, [])
    assert run("index", "cams", "--library", "other", "--every", "2") == 0
    assert "3 images indexed, 1 video read, 0 unchanged in" in capsys.readouterr().out
    assert run("index", "cams", "--every", "never") == 2
    assert "--every never is not an interval" in capsys.readouterr().err
    assert run("search", "blue", "--library", "cams", "--copy-to", "out") == 0
    assert any(path.suffix == ".jpg" for path in (tmp_path / "out").iterdir())


def test_intervals() -> None:
    assert footage.read_every("0.5") == 0.5
    assert footage.read_every("keyframes") == "keyframes"
    for text in ("nan", "-1", "0", "x"):
        with pytest.raises(ValueError, match=r".*"):
            footage.read_every(text)
