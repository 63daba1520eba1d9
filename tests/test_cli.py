"""The command line as people use it: what it prints, where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes import ColourModel
from PIL import Image

import wordsight.models
from wordsight import render
from wordsight.classify import Classifier, fit_on
from wordsight.cli import main
from wordsight.errors import ModelError, QueryError
from wordsight.sources import open_source

Photos = Callable[..., Path]

LONG = "x" * 300  # more than a file's name may have


class Run(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Run]:
    """Run ``wordsight`` in this process, with the stand-in model under the name "colours"."""
    monkeypatch.chdir(tmp_path)
    loaded: list[str] = []

    def load_model(name: str | Path = "auto", **_options: str) -> ColourModel:
        loaded.append(str(name))
        if name in ("auto", "starter", "colours"):
            return ColourModel()
        if name == "other":
            return ColourModel("0ther0ther0ther0")
        raise ModelError(f"unknown model '{name}'; see: wordsight models")

    monkeypatch.setattr(wordsight.models, "load_model", load_model)

    def call(*arguments: str | Path, stdin: str | bytes | None = None) -> Run:
        if stdin is not None:
            data = stdin if isinstance(stdin, bytes) else stdin.encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Run(int(stop.value.code or 0), captured.out, captured.err)

    return call


Cli = Callable[..., Run]


def test_index_then_search(run: Cli, photos: Photos) -> None:
    folder = photos(red=3, blue=3)
    first = run("index", folder)
    assert first.code == 0
    assert "6 images indexed" in first.out
    assert "Library: photos/.wordsight (6 images)" in first.out
    assert "images/s" not in first.out  # so few say nothing of the speed
    assert first.err == 'Next, try: wordsight search "a dog" --library photos\n'
    again = run("index", folder)
    assert (again.code, again.out.splitlines()[0]) == (0, "Nothing to do: 6 images unchanged.")
    found = run("search", "red", "-k", "3", "--library", folder)
    assert found.code == 0
    lines = found.out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all("red-" in line for line in lines)


def test_new_labels_are_no_nothing(run: Cli, photos: Photos) -> None:
    folder = photos(red=2)
    (folder / "dog").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "dog" / path.name)
    assert run("index", folder).code == 0
    (folder / "cat").mkdir()
    (folder / "cat/1.png").write_bytes((folder / "dog/red-0.png").read_bytes()[:-1] + b"x")
    said = run("index", folder).out.splitlines()[0]
    assert "2 unchanged, 2 of them with a new label" in said


def test_labels_make_a_column_and_no_control_characters(run: Cli, photos: Photos) -> None:
    folder = photos(red=3)
    for label, path in zip(
        ("an emperor penguin", "ox", "x\x1b[2J"), folder.glob("*.png"), strict=True
    ):
        (folder / label).mkdir()
        path.rename(folder / label / path.name)
    run("index", folder)
    lines = run("search", "red", "--library", folder).out.splitlines()
    assert len(lines) == 3
    assert len({line.index("photos/") for line in lines}) == 1  # the paths stand below each other
    assert not any("\x1b" in line for line in lines)


def test_index_json_has_the_documented_fields(run: Cli, photos: Photos) -> None:
    folder = photos(red=2)
    (folder / "bad.jpg").write_text("no")
    answer = run("index", folder, "--json")
    assert answer.code == 0
    report = answer.json
    assert (report["indexed"], report["unchanged"], report["removed"]) == (2, 0, 0)
    assert (report["images"], report["views"]) == (2, 2)
    assert report["seconds"] > 0
    assert report["images_per_second"] > 0
    assert [Path(f["path"]).name for f in report["failed"]] == ["bad.jpg"]
    assert report["failed"][0]["reason"]


def test_skipped_files_get_a_line_each(run: Cli, photos: Photos) -> None:
    folder = photos(red=1)
    (folder / "empty.png").write_bytes(b"")
    answer = run("index", folder)
    assert answer.code == 0
    assert answer.err.splitlines() == [
        "Skipped photos/empty.png: the file is empty",
        'Next, try: wordsight search "a dog" --library photos',
    ]


def test_only_bad_files_is_an_error(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "bad.jpg").write_text("no")
    answer = run("index", tmp_path / "p")
    assert (answer.code, answer.out) == (2, "")
    assert "nothing was indexed" in answer.err
    report = run("index", tmp_path / "p", "--json")
    assert (report.code, len(report.json["failed"])) == (2, 1)


def test_what_was_pruned_is_told_beside_a_bad_file(run: Cli, photos: Photos) -> None:
    root = photos(red=3)
    run("index", root)
    (root / "bad.jpg").write_text("no image")
    said = run("index", root, "--exclude", "*.png", "--prune")
    assert (said.code, "3 removed" in said.out) == (0, True)
    assert "nothing was indexed" not in said.err


def test_an_empty_folder_is_not_the_one_above(run: Cli, tmp_path: Path) -> None:
    assert f"no image found in {tmp_path}." in run("index", ".").err


def test_a_run_without_images_leaves_no_library_behind(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.jpg").write_text("no")
    for place in ("missing", "empty", "bad"):
        assert run("index", tmp_path / place, "--library", "lib").code == 2
        assert not (tmp_path / "lib").exists()


def test_search_json(run: Cli, photos: Photos) -> None:
    folder = photos(red=3, blue=3)
    run("index", folder)
    answer = run("search", "blue", "--json", "-k", "2", "-L", folder).json
    assert answer["match"] is True
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
    nothing = run("search", "the quiet of the evening", "--json", "-L", folder)
    assert nothing.code == 0
    assert nothing.json["match"] is False
    assert nothing.json["hits"] == []


def test_no_match_in_words_and_anyway(run: Cli, photos: Photos) -> None:
    folder = photos(red=3, blue=3)
    run("index", folder)
    answer = run("search", "the quiet of the evening", "-L", folder)
    assert answer.code == 0
    assert answer.out.startswith('No match for "the quiet of the evening"')
    closest = run("search", "the quiet of the evening", "-L", folder, "--anyway", "-k", "2")
    assert "Closest images:" in closest.out
    assert len(closest.out.splitlines()) == 4
    cut = run("search", "red", "-L", folder, "--min-score", "0.9999", "--json").json
    assert (cut["match"], cut["hits"]) == (False, [])


def test_search_by_image_file(run: Cli, photos: Photos) -> None:
    folder = photos(red=2, blue=2)
    run("index", folder)
    answer = run("search", folder / "blue-1.png", "-k", "1", "-L", folder)
    assert "blue-1.png" in answer.out
    missing = run("search", folder / "nothing.png", "-L", folder)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "no such file" in missing.err


def test_grid_is_a_picture(run: Cli, photos: Photos, tmp_path: Path) -> None:
    folder = photos(red=3)
    run("index", folder)
    assert run("search", "red", "-L", folder, "--grid", tmp_path / "g.png").code == 0
    assert Image.open(tmp_path / "g.png").width > 300
    run("search", "the quiet of it", "-L", folder, "--grid", tmp_path / "n.png")
    assert Image.open(tmp_path / "n.png").width > 300
    bad = run("search", "red", "-L", folder, "--grid", tmp_path / "g.xyz")
    assert bad.code == 2


def test_grid_survives_a_file_that_is_gone(run: Cli, photos: Photos, tmp_path: Path) -> None:
    folder = photos(red=2)
    run("index", folder)
    (folder / "red-0.png").unlink()
    assert run("search", "red", "-L", folder, "--grid", tmp_path / "g.png").code == 0


def test_loop_in_a_pipe(run: Cli, photos: Photos) -> None:
    folder = photos(red=3, blue=3)
    run("index", folder)
    prompts = 'red\n\n"oops\nthe quiet of the evening\nblue\nexit\nnever reached\n'
    answer = run("search", "-k", "1", "-L", folder, stdin=prompts)
    assert answer.code == 0
    lines = answer.out.splitlines()
    # Each answer says what it answers.
    assert lines[::2][:2] == ["> red", '> "oops']
    assert "red-" in lines[1]
    assert lines[3] == "> the quiet of the evening"
    assert lines[4].startswith("No match")
    assert lines[5] == "> blue"
    assert "blue-" in lines[6]
    assert len(lines) == 7
    assert "cannot read the query" in answer.err
    answer = run("search", "-k", "1", "-L", folder, "--paths", stdin="red\nblue\n")
    assert ">" not in answer.out


def test_commands_of_the_prompt(
    run: Cli, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=3, blue=3)
    for label, color in (("sky", "blue"), ("rose", "red")):
        (folder / label).mkdir()
        for path in folder.glob(f"{color}-*.png"):
            path.rename(folder / label / path.name)
    run("index", folder)
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)

    def say(*lines: str) -> Run:
        answer = run("search", "-k", "2", "-L", folder, stdin="\n".join(lines))
        assert answer.code == 0
        found = [line for line in answer.out.splitlines() if not line.startswith("> ")]
        return answer._replace(out="\n".join(found))

    assert ":save FILE" in say(":help").err
    more = say("red", ":more", ":more", ":more").out.splitlines()
    ranks = [line.split()[0] for line in more]
    assert ranks == ["1", "2", "3", "--", "4", "5", "6"]  # the line where relevant hits end
    assert "no more results" in say("red", ":more", ":more", ":more").err
    nothing = say("the quiet of the evening")
    assert (len(nothing.out.splitlines()), ":anyway shows" in nothing.err) == (1, True)
    closest = say("the quiet of the evening", ":anyway", ":more").out
    assert [line.split()[0] for line in closest.splitlines() if "photos" in line] == list("1234")
    say("red", ":open 2")
    assert Path(opened[0]).name.startswith("red-")
    sky = say(":label sky", "red", ":anyway").out.splitlines()[-2:]
    assert ["sky" in line for line in sky] == [True, True]
    assert "red-" in say(":label sky", "red", ":label").out
    kept = say("red", ":label sea", ":more")
    assert "no image in the library has the label 'sea': there are rose, sky." in kept.err
    assert kept.out == say("red", ":more").out
    assert say("red", ":save grid.png").err == "(3 match; :more shows more.)\nSaved grid.png.\n"
    assert Image.open(tmp_path / "grid.png").width > 300


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":nonsense", ":help lists them"),
        (":more", "search for something first"),
        ("red\n:open x", "for example: :open 1"),
        ("red\n:open 9", "there is no result 9: 2 results"),
        ("red\n:save", "for example: :save grid.png"),
        ("red\n:save x.doc", "use one of"),
        (":label nowhere", "no image in the library has the label 'nowhere': none of them has"),
    ],
)
def test_commands_say_what_to_type(run: Cli, photos: Photos, line: str, message: str) -> None:
    folder = photos(red=2)
    run("index", folder)
    answer = run("search", "-L", folder, stdin=line)
    assert (answer.code, message in answer.err) == (0, True)
    assert "Traceback" not in answer.err


def test_loop_json_is_a_line_a_prompt(run: Cli, photos: Photos) -> None:
    folder = photos(red=2)
    run("index", folder)
    answer = run("search", "--json", "-L", folder, stdin="red\nquit\n")
    assert [json.loads(line)["query"] for line in answer.out.splitlines()] == ["red"]


def test_library_is_found_from_below(
    run: Cli, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=2)
    (folder / "deep" / "er").mkdir(parents=True)
    run("index", folder)
    monkeypatch.chdir(folder / "deep" / "er")
    assert "red-" in run("search", "red").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "red"], "no library in"),
        (["search", "red", "--library", "nowhere"], "no library at"),
        (["search", "red", "--library", "LIB/../red-0.png"], "is a file; name a library's"),
        (["search", "", "--library", "LIB"], "query is empty"),
        (["search", "a", "dog", "--library", "LIB"], "in quotes: wordsight search 'a dog'"),
        (["search", "sea", "-", "sand"], """: wordsight search '"sea" - "sand"'"""),
        (["search", "a cat", "-dog"], """in quotes: wordsight search '"beach" - "dog"'"""),
        (["search", "typo.jpg", "--library", "LIB"], "typo.jpg: no such file"),
        (["search", "red", "--library", "LIB", "--grid", "x.foo"], "as '.foo'; use one of"),
        (["search", "red", "--library", "LIB", "--model", "other"], "was made with the model"),
        (["search", "red", "--library", "LIB", "--false-accept", "2"], "between 0 and 1"),
        (["index", "missing"], "no such file or folder"),
        (["index", "EMPTY"], "no image found"),
        (["index", "LIB/..", "--model", "nonsense", "--library", "new"], "unknown model"),
        (["info"], "no library in"),
        (["classify", "LIB/../red-0.png", "--labels", ","], "no labels given"),
        (["classify", "LIB/../red-0.png", "--labels", "a,b,a"], "given twice: a"),
        (["classify", "LIB/../red-0.png", "--labels", "nowhere.txt"], "no label file nowhere.txt"),
        (["classify", "LIB/../red-0.png", "--template", "a photo"], "no place for the label"),
        (["classify", "LIB/../red-0.png", "--output", "x.doc"], "must end in .csv or .jsonl"),
        (["classify", "LIB/../red-0.png", "--temperature", "inf"], "between 1e-6 and 1e6"),
        (["search", "red", "--library", "LIB", "--min-score", "nan"], "must be a number"),
        (["classify", "https://example.org/a.jpg"], "download the images first"),
        (["classify", "LIB/../red-0.png", "--grid", "x"], "without a suffix; use one of"),
        (["evaluate", "--library", "LIB", "--queries", "labels"], "the library has no labels"),
        (["evaluate", "--library", "LIB", "--queries", "labels", "--plot", "x.gif"], "'.gif'"),
        (["evaluate", "--library", "LIB", "--queries", "labels", "--k", "x"], "--k takes"),
        (["evaluate", "--library", "LIB", "--queries", "no.csv"], "cannot be read: No such"),
        (["search", "red", "--library", LONG], ": File name too long"),
        (["search", f"{LONG}.jpg", "--library", "LIB"], "no such file"),
        (["index", "LIB/..", "--library", LONG], "File name too long"),
        (["index", "LIB/..", "--crops", LONG], "no such detector"),
        (["classify", "LIB/../red-0.png", "--labels", "cifar100"], "did you mean cifar10?"),
    ],
)
def test_errors_are_one_line_and_exit_2(
    run: Cli, photos: Photos, tmp_path: Path, arguments: list[str], message: str
) -> None:
    library = photos(red=1) / ".wordsight"
    run("index", library.parent)
    (tmp_path / "empty").mkdir()
    given = [
        a.replace("LIB", str(library)).replace("EMPTY", str(tmp_path / "empty")) for a in arguments
    ]
    answer = run(*given)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_a_demo_that_cannot_write_says_so(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    answer = run("demo", "--out", "file/demo")
    assert answer.code == 2
    assert answer.err.endswith("choose another --out.\n")
    assert "Traceback" not in answer.err


def test_a_long_prompt_is_cut_with_a_notice(run: Cli, photos: Photos) -> None:
    folder = photos(red=1)
    run("index", folder)
    answer = run("search", "red " * 40, "-L", folder)
    assert answer.code == 0
    assert "too long for the model" in answer.err


def test_info_names_crops_videos_and_texts(run: Cli, tmp_path: Path) -> None:
    pytest.importorskip("av", reason='pip install "wordsight[video]"')
    from videos import write_video

    from wordsight.library import Store
    from wordsight.library.lines import Written

    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (900, 600), "red").save(folder / "red.jpg")
    write_video(folder / "clip.mp4", [("red", 2), ("blue", 2)])
    run("index", folder, "--crops", "tiles")
    store = Store.open(folder)
    (red,) = [entry for entry in store.entries() if entry.path.endswith("red.jpg")]
    store.lines.add([Written(red.hash, [], [])])
    said = run("info", "-L", folder).out
    facts = run("info", "-L", folder, "--json").json
    assert f"videos    1 video, {facts['frames']} frames of these images" in said
    assert f"crops     tiles, in context: {facts['images']} images" in said
    assert "text      read in 1 image\n" in said
    assert (facts["videos"], facts["texts"]) == (1, 1)
    assert facts["frames"] == facts["images"] - 1


def test_info_and_compact(run: Cli, photos: Photos) -> None:
    folder = photos(red=4)
    run("index", folder)
    assert "images    4" in run("info", "-L", folder).out
    assert "crops" not in run("info", "-L", folder).out
    assert run("info", "-L", folder, "--json").json["images"] == 4
    sizes = run("compact", "-L", folder, "--json").json
    assert sizes["bytes_after"] <= sizes["bytes_before"]


def test_compare_crops_with_whole_images(run: Cli, photos: Photos, tmp_path: Path) -> None:
    folder = photos(white=2)
    Image.new("RGB", (96, 64), (250, 250, 250)).save(folder / "w.png")
    patched = Image.open(folder / "w.png")
    patched.paste((220, 20, 20), (0, 0, 24, 24))
    patched.save(folder / "patch.png")
    run("index", folder)
    refused = run("search", "red", "-L", folder, "--crops")
    assert (refused.code, "no crops" in refused.err) == (2, True)
    added = run("index", folder, "--crops", "tiles", "--plot", tmp_path / "h.png")
    assert "Crops by tiles" in added.out
    assert Image.open(tmp_path / "h.png").width > 300
    again = run("index", folder, "--plot", tmp_path / "again.png")
    assert (again.code, "made no crops" in again.err) == (0, True)
    assert not (tmp_path / "again.png").exists()
    options = ("-L", folder, "--compare", "--anyway", "-k", "2", "--rank-by", "score")
    text = run("search", "red", *options, "--grid", tmp_path / "c.png")
    assert "Baseline" in text.out
    assert "moved up, " in text.out
    assert Image.open(tmp_path / "c.png").width > 600
    both = run("search", "red", *options, "--json").json
    assert both["baseline"]["hits"][0]["view"]["kind"] == "image"
    assert both["crop_aware"]["hits"][0]["view"]["kind"] == "crop"


def test_classify_files(run: Cli, photos: Photos) -> None:
    folder = photos(red=1, blue=1)
    labels = "--labels=red,green,blue"
    answer = run("classify", folder / "red-0.png", folder / "blue-0.png", labels, "--json").json
    assert [row["top"][0]["label"] for row in answer] == ["red", "blue"]
    assert [len(row["top"]) for row in answer] == [3, 3]
    assert [row["none_of_these"] for row in answer] == [False, False]
    plain = run("classify", folder / "red-0.png", labels, "--top", "1")
    assert "red-0.png:  red" in plain.out


def test_classify_none_of_these_and_closed(run: Cli, photos: Photos) -> None:
    picture = photos(red=1) / "red-0.png"
    labels = "--labels=green,blue"
    assert run("classify", picture, labels, "--json").json[0]["none_of_these"] is True
    said = run("classify", picture, labels).out
    assert "none of these (closest: " in said
    assert "%" not in said  # no confidence in what was just turned down
    assert run("classify", picture, labels, "--json", "--closed").json[0]["none_of_these"] is False


def test_one_label_is_told_from_what_it_is_not(run: Cli, photos: Photos) -> None:
    folder = photos(red=1, blue=1)
    said = run("classify", folder, "--labels=red").out
    assert "red-0.png:  red " in said
    assert "blue-0.png:  not a red\n" in said
    rows = run("classify", folder, "--labels=red", "--json").json
    sure = {Path(row["path"]).stem: row["top"][0]["confidence"] for row in rows}
    assert sure["red-0"] > 0.5 > sure["blue-0"]


def test_photographs_get_everyday_labels(run: Cli, photos: Photos) -> None:
    found = run("classify", photos(red=1), "--json", "--closed", "--top", "300").json[0]["top"]
    assert len(found) > 200
    assert {"dog", "teddy bear"} <= {candidate["label"] for candidate in found}


def test_classify_goes_on_after_a_bad_image(run: Cli, photos: Photos) -> None:
    folder = photos(red=1)
    (folder / "a-bad.png").write_text("no")
    answer = run("classify", folder, "--labels=red,blue")
    assert answer.code == 0
    assert "red-0.png:  red" in answer.out
    assert "Skipped" in answer.err
    alone = run("classify", folder / "a-bad.png", "--labels=red,blue")
    assert alone.code == 2


def test_classify_standard_input_and_file_url(run: Cli, photos: Photos) -> None:
    picture = photos(blue=1) / "blue-0.png"
    given = run("classify", "-", "--labels=red,blue", "--json", stdin=picture.read_bytes()).json
    assert (given[0]["path"], given[0]["top"][0]["label"]) == ("-", "blue")
    url = run("classify", picture.as_uri(), "--labels=red,blue", "--json").json
    assert url[0]["top"] == given[0]["top"]


def labelled(photos: Photos, tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for colour in ("red", "blue"):
        for i in range(12):
            source = photos(f"raw{i}", **{colour: 1}) / f"{colour}-0.png"
            target = root / colour / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    return root


def test_classify_a_labelled_folder_to_files(run: Cli, photos: Photos, tmp_path: Path) -> None:
    root = labelled(photos, tmp_path)
    table = tmp_path / "out.csv"
    answer = run("classify", root, "--labels=red,blue,green", "--output", table)
    assert answer.code == 0
    assert "24 images with known labels: accuracy 1.0000" in answer.err
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["label1"] for row in rows} == {"red", "blue"}
    lines = tmp_path / "out.jsonl"
    run("classify", root, "--labels=red,blue", "--output", lines, "--grid", tmp_path / "g.png")
    assert len(lines.read_text().splitlines()) == 24
    assert Image.open(tmp_path / "g.png").width > 300


def test_classify_with_a_fitted_temperature(run: Cli, photos: Photos, tmp_path: Path) -> None:
    root = labelled(photos, tmp_path)
    answer = run("classify", root, "--labels=red,blue", "--temperature", root, "--json")
    assert "Temperature fitted" in answer.err
    # All right and far from the border: confidence goes up to match.
    assert min(row["top"][0]["confidence"] for row in answer.json) > 0.99
    warm = run("classify", root, "--labels=red,blue", "--temperature", "100", "--json").json
    assert max(row["top"][0]["confidence"] for row in warm) < 0.6


def test_a_temperature_fitted_twice_is_the_same(photos: Photos, tmp_path: Path) -> None:
    items = open_source(labelled(photos, tmp_path)).items()
    classifier = Classifier(ColourModel(), ["red", "blue"])
    first = fit_on(classifier, items)
    assert first != pytest.approx(1)
    classifier.temperature = first
    assert fit_on(classifier, items) == pytest.approx(first)


def test_no_temperature_for_a_model_of_sigmoids(photos: Photos, tmp_path: Path) -> None:
    model = ColourModel()
    model.logit_bias = -10.0
    items = open_source(labelled(photos, tmp_path)).items()
    with pytest.raises(QueryError, match="with a sigmoid"):
        fit_on(Classifier(model, ["red", "blue"]), items)


def test_files_of_labels_may_begin_with_a_byte_order_mark(
    run: Cli, photos: Photos, tmp_path: Path
) -> None:
    root = labelled(photos, tmp_path)
    (tmp_path / "labels.txt").write_text("red\nblue\n", encoding="utf-8-sig")
    (tmp_path / "synonyms.txt").write_text("red: crimson\n", encoding="utf-8-sig")
    answer = run("classify", root, "--labels", tmp_path / "labels.txt")
    assert "24 images with known labels" in answer.err
    run("index", root, "--library", "lib")
    answer = run(
        *("evaluate", "--queries", "labels", "--library", "lib", "--json"),
        *("--synonyms", tmp_path / "synonyms.txt"),
    )
    assert answer.json["queries"] == 3


def test_failures_show_what_the_figures_are_about(
    run: Cli, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", labelled(photos, tmp_path), "--library", "lib")
    run("index", photos("more", red=6), "--library", "lib")  # without labels: not judged
    shown = []
    monkeypatch.setattr(
        wordsight.render,
        "sections",
        lambda parts, **_: shown.extend(parts) or Image.new("RGB", (9, 9)),
    )
    run("evaluate", "--queries", "labels", "--library", "lib", "--failures", "f.png")
    assert [text for text, _ in shown] == ["blue", "red"]
    for _, tiles in shown:
        assert [tile.highlight for tile in tiles] == ["good"] * 5


def test_evaluate_labels(run: Cli, photos: Photos, tmp_path: Path) -> None:
    root = labelled(photos, tmp_path)
    run("index", root, "--library", "lib")
    answer = run("evaluate", "--queries", root, "--library", "lib", "--json", "--k", "1,5").json
    assert answer["queries"] == 2
    assert answer["gallery"] == 24
    for method in ("baseline", "normalised"):
        assert answer["methods"][method]["recall@1"] == 1
        assert answer["methods"][method]["mrr"] == 1
        assert answer["methods"][method]["map"] == pytest.approx(1)
    table = run("evaluate", "--queries", "labels", "--library", "lib", "--k", "1,5").out
    assert "baseline" in table
    rows = [line for line in table.splitlines() if line.startswith("recall@5")]
    assert rows[0].split() == ["recall@5", *2 * ["1.000", "[1.000,", "1.000]"]]
    assert max(map(len, table.splitlines())) <= 80


def test_evaluate_writes_pictures_and_lines(run: Cli, photos: Photos, tmp_path: Path) -> None:
    root = labelled(photos, tmp_path)
    run("index", root, "--library", "lib")
    answer = run(
        *("evaluate", "--queries", "labels", "--library", "lib", "--plot", "r.png"),
        *("--per-query", "q.jsonl", "--failures", "f.png"),
    )
    assert answer.code == 0
    assert Image.open(tmp_path / "r.png").width > 300
    assert Image.open(tmp_path / "f.png").width > 300
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert {row["query"] for row in rows} == {"red", "blue"}
    assert rows[0]["first_rank"]["baseline"] == 1


def test_evaluate_synonyms_and_csv(run: Cli, photos: Photos, tmp_path: Path) -> None:
    root = labelled(photos, tmp_path)
    run("index", root, "--library", "lib")
    (tmp_path / "words.txt").write_text("# more words\nred: a red thing, so red\n")
    arguments = ("evaluate", "--library", "lib", "--json", "--queries")
    assert run(*arguments, "labels", "--synonyms", "words.txt").json["queries"] == 4
    (tmp_path / "j.csv").write_text(
        f"query,relevant-id\nred,{root}/red/1.png\nred,{root}/red/2.png\nblue,feedfeedfeedfeed\n"
    )
    answer = run(*arguments, "j.csv")
    assert answer.json["queries"] == 1
    assert answer.json["missing"] == 1
    assert "feedfeedfeedfeed" in answer.err


def test_evaluate_captions(run: Cli, photos: Photos, tmp_path: Path) -> None:
    folder = photos(red=1, blue=1)
    run("index", folder)
    names = ["red-0.png", "blue-0.png", "gone.png"]
    captions = {
        "images": [
            {"id": i, "file_name": name, "width": 32, "height": 24} for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": i, "image_id": i, "caption": f"all {name[:4].strip('-')}"}
            for i, name in enumerate(names)
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    answer = run("evaluate", "--library", folder, "--queries", "captions.json", "--json").json
    assert (answer["queries"], answer["missing"]) == (2, 1)
    assert answer["methods"]["baseline"]["recall@1"] == 1
    assert answer["image_to_text"]["recall@1"] == 1


def test_help_has_an_example_for_every_command(run: Cli) -> None:
    listing = run("--help")
    assert listing.code == 0
    commands = ["index", "search", "classify", "evaluate", "demo", "info", "models", "compact"]
    for command in commands:
        assert command in listing.out
        text = run(command, "--help").out
        assert "Example" in text
        assert f"wordsight {command}" in " ".join(text.split())
        assert "--json" in text


def test_timings_say_where_the_time_went(run: Callable[..., Run], photos: Photos) -> None:
    run("index", photos(red=2), "--model", "colours")
    plain = run("search", "red", "--library", "photos", "--anyway")
    timed = run("search", "red", "--library", "photos", "--anyway", "--timings")
    assert timed.out == plain.out
    told = dict(line.split()[:2] for line in timed.err.splitlines() if " ms" in line)
    assert {"encode", "load", "score", "decide", "hits", "process"} <= told.keys()
    assert all(float(value) >= 0 for value in told.values())


def test_a_model_whose_files_changed_is_not_named_as_its_own_cure(
    run: Callable[..., Run], photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", photos(red=2), "--model", "colours")
    monkeypatch.setattr(
        wordsight.models, "load_model", lambda *_, **__: ColourModel("1111111111111111")
    )
    found = run("search", "red", "--library", "photos")
    assert found.code == 2
    assert "its files have changed since" in found.err
    assert "--model" not in found.err


@pytest.mark.parametrize("words", [["--help"], ["search", "red", "--library", "nowhere"]])
def test_help_and_options_load_nothing_heavy(words: list[str]) -> None:
    heavy = "numpy PIL lance pyarrow openvino onnxruntime tokenizers ftfy matplotlib faiss "
    heavy += "huggingface_hub fastapi pydantic"
    code = (
        "import sys, wordsight.cli\n"
        f"try: wordsight.cli.main({words!r})\n"
        "except SystemExit: pass\n"
        f"loaded = [m for m in {heavy.split()!r} if m in sys.modules]\n"
        "print('LOADED', loaded)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_any_name_is_printed_in_any_encoding(photos: Photos, tmp_path: Path, encoding: str) -> None:
    folder = photos(red=1)
    (folder / "red-0.png").rename(folder / "日本.png")
    library = wordsight.create(tmp_path / "lib", "starter")
    library.index(folder)
    command = [sys.executable, "-m", "wordsight", "search", "röt", "--anyway"]
    command += ["--library", str(library.path)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

    def answer(*words: str) -> str:
        done = subprocess.run([*command, *words], capture_output=True, check=True, env=environment)
        return done.stdout.decode(encoding)

    assert "\\u65e5\\u672c.png" in answer()
    found = json.loads(answer("--json"))
    assert (found["query"], Path(found["hits"][0]["path"]).name) == ("röt", "日本.png")


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for buffering in ("", "1"):  # of which the first is what people have
        for words in (["--help"], ["models"]):
            done = subprocess.run(
                [sys.executable, "-m", "wordsight", *words],
                stdout=writer,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONUNBUFFERED": buffering},
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, b"")
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("buffering", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(buffering: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "wordsight", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": buffering},
            text=True,
            check=False,
        )
    said = "wordsight: could not write the output (No space left on device).\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(photos: Photos, tmp_path: Path, closed: str) -> None:
    library = wordsight.create(tmp_path / "lib", "starter")
    library.index(photos(red=1))
    command = f"{sys.executable} -m wordsight search --library {library.path} {closed}"
    done = subprocess.run(command, shell=True, input=b"red", capture_output=True, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert bool(done.stdout) == (closed == "2>&-")


def test_ctrl_c_says_what_became_of_the_work(
    run: Cli, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    folder = photos(red=1)
    with monkeypatch.context() as patch:
        patch.setattr(wordsight.Library, "index_sources", pressed)
        answer = run("index", folder)
    assert answer.code == 130
    kept, stopped = answer.err.splitlines()
    assert kept == "What is indexed so far is kept. Run the same command again to continue."
    assert stopped == "wordsight: stopped."
    with monkeypatch.context() as patch:  # nothing of a classification is kept
        patch.setattr(Classifier, "judge", pressed)
        answer = run("classify", folder, "--labels", "a,b", "--output", "x.csv")
    assert (answer.code, answer.err) == (130, "wordsight: stopped.\n")
    with monkeypatch.context() as patch:
        patch.setattr("wordsight.cli.app", pressed)
        answer = run("models")
    assert (answer.code, answer.err) == (130, "wordsight: stopped.\n")


def test_a_model_that_fails_late_loses_nothing(
    run: Cli, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=100)
    encode = ColourModel.encode_pixels

    def failing(self: ColourModel, pixels: Any) -> Any:
        if self.encoded_images >= 64:
            raise ModelError("the vectors are not finite")
        return encode(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ColourModel, "encode_pixels", failing)
        answer = run("index", folder)
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith("What is indexed so far is kept")
    assert "64 unchanged" in run("index", folder).out


def test_the_prompt_on_a_terminal(photos: Photos, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    folder, state = photos(red=2), tmp_path / "state"
    env = {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm"}
    env |= {"PROMPT_TOOLKIT_NO_CPR": "1", "HF_HUB_OFFLINE": "1"}
    wordsight_ = [sys.executable, "-m", "wordsight"]
    subprocess.run([*wordsight_, "index", folder, "--model", "starter"], check=True, env=env)
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*wordsight_, "search", "--library", folder, "--anyway"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""

    def answer_to(typed: bytes, wanted: bytes) -> None:
        nonlocal said
        os.write(ours, typed)
        said = b""
        until = time.monotonic() + 60
        while wanted not in said:
            assert select.select([ours], [], [], until - time.monotonic())[0], said
            said += os.read(ours, 4096)

    try:
        answer_to(b"", b">")
        answer_to(b"a ship\r", b"red-1.png")
        answer_to(b"\x1b[A", b"a ship")  # the arrow up brings it back
        answer_to(b"\x15exit\r", b"exit")  # Ctrl-U empties the line
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
        os.close(ours)
    history = state / "wordsight" / "history"
    assert history.read_text().splitlines()[-1] == "+exit"
    assert "+a ship" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_prompt_that_is_no_text_ends_nothing(run: Cli, photos: Photos) -> None:
    folder = photos(red=2)
    run("index", folder)
    answer = run("search", "--library", folder, "-k", "1", stdin=b"red\ncaf\xe9\nred\n")
    assert answer.code == 0
    assert answer.out.count("red-") >= 2


def test_examples_in_the_help_stand_on_lines_of_their_own(run: Cli) -> None:
    lines = [line.strip() for line in run("search", "--help").out.splitlines()]
    assert 'wordsight search \'"beach" + "sunset" - 0.5*"people"\'' in lines
    top = run("--help").out
    assert "..." not in top.split("Commands:")[1]  # no verb's line is cut


def test_the_process_ends_with_all_of_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wordsight"]
    done = subprocess.run([*command, "models", "--json"], capture_output=True, check=True)
    assert len(json.loads(done.stdout)) > 1
    done = subprocess.run(
        [*command, "info", "--library", str(tmp_path)], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"wordsight: no library at ")


def test_the_worst_queries_are_written_in_full(
    run: Cli, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelled(photos, tmp_path)
    run("index", root, "--library", "lib")
    long = "a thing that is red or of another colour, seen from far away in the evening"
    (tmp_path / "j.csv").write_text(f'"{long}",{root}/red/1.png\n')
    headings: list[str] = []
    draw = render.sections

    def sections(parts: Any, **named: Any) -> Any:
        headings.extend(heading for heading, _ in parts)
        return draw(parts, **named)

    monkeypatch.setattr(render, "sections", sections)
    failures = ("--failures", "f.png", "--library", "lib")
    assert run("evaluate", "--queries", "j.csv", *failures).code == 0
    assert headings == [long]
    (root / "red" / "2.png").unlink()  # one that is gone does not stop the picture
    (tmp_path / "f.png").unlink()
    assert run("evaluate", "--queries", "j.csv", *failures).code == 0
    assert (tmp_path / "f.png").exists()


def test_where_lines_go_is_looked_at_before_the_work(
    run: Cli, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelled(photos, tmp_path)
    run("index", root, "--library", "lib")
    classify = ("classify", root / "red", "--labels", "red,blue", "--output")
    evaluate = ("evaluate", "--queries", "labels", "--library", "lib", "--per-query")
    assert run(*classify, "new/folder/r.csv").code == 0
    assert run(*evaluate, "new/other/q.jsonl").code == 0
    assert (tmp_path / "new/folder/r.csv").exists()
    assert (tmp_path / "new/other/q.jsonl").exists()

    def work(*_arguments: object, **_options: object) -> None:
        raise AssertionError("it is done in vain")

    monkeypatch.setattr(ColourModel, "encode_texts", work)
    (tmp_path / "taken").write_text("a file, no folder")
    for words in (classify, evaluate):
        answer = run(*words, "taken/r.jsonl")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "cannot write taken/r.jsonl" in answer.err


def test_deprecations_of_libraries_are_not_shown(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class SomeDeprecationWarning(UserWarning):
        """As FastAPI's, which Python does not leave out by itself."""

    def warn() -> list[object]:
        warnings.warn("call another", SomeDeprecationWarning, stacklevel=1)
        warnings.warn("the disk is old", UserWarning, stacklevel=1)
        return []

    monkeypatch.setattr("wordsight.models.registry.models_info", warn)
    assert run("models").err == "note: the disk is old\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_a_name_does_not_command_the_terminal(run: Cli, photos: Photos) -> None:
    folder = photos(red=1)
    name = "a\x1b[31m\nb\u2028\u202egpj\u202f日.png"
    escaped = r"a\x1b[31m\nb\u2028\u202egpj" + "\u202f日.png"
    (folder / "red-0.png").rename(folder / name)
    (folder / "no\x07.png").write_text("no")
    index = run("index", folder)
    search = run("search", "red", "--anyway", "--library", folder)
    classify = run("classify", folder, "--labels", "red,blue")
    assert r"no\x07.png: " in index.err
    assert r"no\x07.png: " in classify.err
    for text in (search.out, classify.out):
        assert escaped in text
        assert text.count("\n") == len(text.splitlines())
    assert not {"\x1b", "\x07", "\u202e"} & {*index.err, *search.out, *classify.out, *classify.err}
    found = run("search", "red", "--anyway", "--library", folder, "--json").json
    assert Path(found["hits"][0]["path"]).name == name
