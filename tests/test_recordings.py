"""Moments of a library's videos: found, timed by the clock, over files; cut out, drawn, judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from videos import write_video

import wordsight
from wordsight import models
from wordsight.cli import main
from wordsight.errors import QueryError, WordsightError
from wordsight.video.clip import cut
from wordsight.video.opening import Video
from wordsight.video.sampling import samples

HALL = [("white", 20), ("red", 5), ("white", 12), ("blue", 4), ("white", 10), ("red", 2)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> wordsight.Library:
    """A hall, and a gate whose recording goes over two files."""
    root = tmp_path_factory.mktemp("cams")
    write_video(root / "hall.mp4", HALL, rate=5)
    gate = [("black", 25), ("green", 5)], [("green", 3), ("black", 27)]
    write_video(root / "gate_20260301_083000Z.mp4", gate[0], rate=5)
    write_video(root / "gate_20260301_083030Z.mp4", gate[1], rate=5)
    made = wordsight.create(root / "a.lib", ColourModel())  # type: ignore[arg-type]
    made.index(root, every=1.0)
    return made


def spans(found: Any) -> list[tuple[str, float, float]]:
    return [(Path(m.part.video).name, m.part.start, m.part.end) for m in found.moments]


def test_moments_come_with_their_times(library: wordsight.Library) -> None:
    found = library.moments("red")
    assert sorted(spans(found)) == [
        ("hall.mp4", pytest.approx(19.5, abs=0.25), pytest.approx(24.5, abs=0.25)),
        ("hall.mp4", pytest.approx(50.5, abs=0.25), pytest.approx(53.0)),
    ]
    assert [m.rank for m in found.moments] == [1, 2]
    moment = found.moments[0]
    assert moment.camera == "hall"
    assert moment.recorded_start is None
    assert moment.certainty > 0.5
    assert moment.part.start <= moment.best <= moment.part.end
    assert moment.part.link.endswith(f"hall.mp4#t={moment.part.start:.2f},{moment.part.end:.2f}")


def test_an_event_goes_on_over_the_files_of_a_recording(library: wordsight.Library) -> None:
    (moment,) = library.moments("green").moments
    first, second = moment.parts
    assert (first.start, first.end) == pytest.approx((24.5, 30.0), abs=0.25)
    assert (second.start, second.end) == pytest.approx((0.0, 2.5), abs=0.25)
    assert moment.recorded_start is not None
    assert moment.recorded_start.startswith("2026-03-01T08:30:24.")
    assert moment.recorded_end is not None
    assert moment.recorded_end.startswith("2026-03-01T08:30:32.")
    assert moment.to_json()["parts"][1]["end"] == pytest.approx(2.5, abs=0.25)


def test_what_a_camera_always_shows_is_no_event(library: wordsight.Library) -> None:
    assert library.moments("white").moments == []


def test_a_query_is_encoded_once(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = library.model.encode_texts

    def counted(texts: Any) -> Any:
        asked.extend(texts)
        return encode(texts)

    monkeypatch.setattr(library.model, "encode_texts", counted)
    assert library.moments("red").moments
    assert asked.count("red") == 1


def test_what_is_not_there_has_no_moment(library: wordsight.Library) -> None:
    assert library.moments("yellow").moments == []


def test_one_camera_and_one_time(library: wordsight.Library) -> None:
    assert library.moments("green", camera="gate").moments
    assert library.moments("green", camera="hall").moments == []
    found = library.moments("green", start="2026-03-01T08:30:31Z", end="2026-03-01T09:00Z")
    assert [Path(m.part.video).name for m in found.moments] in (
        [],
        ["gate_20260301_083030Z.mp4"],
    )
    with pytest.raises(QueryError, match=r"no camera 'door'; it has: gate, hall"):
        library.moments("green", camera="door")
    with pytest.raises(QueryError, match=r"nothing was recorded"):
        library.moments("green", start="2030-01-01")
    with pytest.raises(QueryError, match=r"cannot read the time 'soon'"):
        library.moments("green", start="soon")
    with pytest.raises(QueryError, match=r"found by words"):
        library.moments('@"a.jpg"')


def test_without_videos_there_are_no_moments(tmp_path: Path, photos: Any) -> None:
    made = wordsight.create(tmp_path / "b.lib", ColourModel())  # type: ignore[arg-type]
    made.index(photos(red=2))
    with pytest.raises(QueryError, match=r"no frames of videos"):
        made.moments("red")


def test_a_timeline_is_drawn(library: wordsight.Library) -> None:
    drawn = library.timeline(library.moments("red"))
    assert drawn.width == 1000
    pixels = np.asarray(drawn)
    assert (pixels == (0, 114, 178)).all(axis=2).sum() > 500  # the curve
    assert library.timeline(library.moments("yellow")).height < drawn.height


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*words])
    return int(ended.value.code or 0)


def test_on_the_command_line(
    library: wordsight.Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "load_model", lambda *_, **__: ColourModel())
    monkeypatch.chdir(tmp_path)
    place = ("--library", str(library.path))
    assert run("search", "green", "--moments", "--json", *place) == 0
    (moment,) = json.loads(capsys.readouterr().out)["moments"]
    assert {"rank", "video", "camera", "start", "end", "best", "score", "z", "certainty"} <= set(
        moment
    )
    assert moment["thumbnail"].endswith("Z.mp4::t=" + f"{moment['best']:.3f}")
    assert run("search", "red", "--moments", "--timeline", "t.png", *place) == 0
    assert re.search(r"0:19\.\d to 0:24\.\d", capsys.readouterr().out)
    assert (tmp_path / "t.png").exists()
    assert run("search", "yellow", "--moments", "--exit-code", *place) == 1
    assert 'No moment shows "yellow"' in capsys.readouterr().out
    link = library.moments("blue").moments[0].part.link
    assert run("clip", link, "--out", "blue.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["end"] == pytest.approx(40.5, abs=0.25)
    assert run("clip", link, "--out", "blue.mp4") == 2
    assert "already exists" in capsys.readouterr().err
    truth = {
        "queries": [
            {
                "query": "red",
                "moments": [
                    {"file": "hall.mp4", "start": 20, "end": 25},
                    {"file": "hall.mp4", "start": 51, "end": 53},
                ],
            },
            {"query": "blue", "moments": [{"file": "hall.mp4", "start": 1, "end": 3}]},
        ]
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert run("evaluate", "--moments", "truth.json", "--json", *place) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["queries"], answer["moments"], answer["shown"]) == (2, 3, 3)
    assert answer["R1@0.7"] == 0.5
    assert answer["mAP@0.5"] == 0.5
    assert answer["event_recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert answer["event_precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert answer["borders"]["p90"] <= 0.5
    assert [each["query"] for each in answer["missed"]] == ["blue"]
    assert run("evaluate", "--moments", "truth.json", *place) == 0
    assert "event recall" in capsys.readouterr().out


@pytest.mark.parametrize("exact", [False, True])
def test_a_clip_holds_what_was_asked_for(tmp_path: Path, exact: bool) -> None:
    source = write_video(tmp_path / "a.mp4", [("red", 4), ("green", 4), ("blue", 4)], gop=30)
    begun, ended = cut(str(source), str(tmp_path / "b.mp4"), 4.5, 7.5, exact=exact)
    assert begun == pytest.approx(4.5 if exact else 3.0, abs=0.01)
    with Video(str(tmp_path / "b.mp4")) as video:
        last = list(samples(video, 0.5))[-1]
    assert begun + video.end == pytest.approx(7.5, abs=0.15)
    colour = np.asarray(last.picture, np.float32).mean(axis=(0, 1))
    assert colour.argmax() == 1
    assert ended == 7.5


@pytest.mark.parametrize("exact", [False, True])
def test_a_clip_ends_where_the_video_does(tmp_path: Path, exact: bool) -> None:
    source = write_video(tmp_path / "a.mp4", [("red", 4), ("green", 4)])
    _, ended = cut(str(source), str(tmp_path / "b.mp4"), 4.5, 60.0, exact=exact)
    assert ended == pytest.approx(8.0)


@pytest.mark.parametrize("exact", [False, True])
def test_a_clip_that_cannot_be_cut_leaves_nothing(tmp_path: Path, exact: bool) -> None:
    source = write_video(tmp_path / "a.mp4", [("red", 2)])
    for target, start, why in (
        (tmp_path / "b.mp4", 90.0, "shows nothing from 90 s"),
        (tmp_path / "b.xyz", 0.0, "cannot write"),
        (tmp_path / "no/b.mp4", 0.0, "cannot write"),
    ):
        with pytest.raises(WordsightError, match=why):
            cut(str(source), str(target), start, start + 1, exact=exact)
        assert not target.exists()
