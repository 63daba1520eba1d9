"""Empty and odd arguments: refused in one line, or understood as they were meant."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ColourModel
from PIL import Image

import wordsight
from wordsight.cli import main
from wordsight.errors import LibraryError, QueryError, SourceError, WordsightError
from wordsight.search import parse_query
from wordsight.sources import open_source

Photos = Callable[..., Path]
UNREAD = ["собака", "собака на снегу", "狗", "كلب", "🐕", "🐕🐈"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    try:
        main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def library(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a library of two colours by the starter, which is the current folder."""
    folder = photos(red=2, blue=1)
    monkeypatch.chdir(folder)
    wordsight.create(folder / ".wordsight", "starter").index(folder)
    return folder


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_empty_paths_are_refused(
    empty: str,
    photos: Photos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: ColourModel,
) -> None:
    monkeypatch.chdir(photos(red=1))
    for command in (["index", empty], ["index", ".", empty], ["classify", empty]):
        status, out, err = _run(capsys, *command, "--model", "starter")
        assert (status, out) == (2, "")
        assert "path is empty" in err
        assert err.count("\n") == 1
    assert not Path(".wordsight").exists()
    library = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    for paths in (empty, [empty], ["red-0.png", empty]):
        with pytest.raises(SourceError, match="path is empty"):
            library.index(paths)
    assert len(library) == 0
    with pytest.raises(SourceError, match="path is empty"):
        open_source(empty)
    for images in (empty, [empty]):
        with pytest.raises(QueryError, match="path is empty"):
            wordsight.classify(images, ["red", "blue"], model=model)  # type: ignore[arg-type]
    with pytest.raises(LibraryError, match="path is empty"):
        wordsight.create(empty, model)  # type: ignore[arg-type]
    with pytest.raises(LibraryError, match="path is empty"):
        wordsight.open(empty)


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    "command",
    [
        ["index", ".", "--library"],
        ["index", ".", "--model"],
        ["index", ".", "--crops"],
        ["index", ".", "--plot"],
        ["index", "--undo-prune", "-L"],
        ["search", "red", "--library"],
        ["search", "red", "--grid"],
        ["search", "red", "--model"],
        ["info", "-L"],
        ["compact", "--library"],
        ["serve", "--library"],
        ["serve", "--host"],
        ["classify", ".", "--output"],
        ["classify", ".", "--grid"],
        ["classify", ".", "--model"],
        ["evaluate", "--queries", "labels", "--library"],
        ["evaluate", "--queries", "labels", "--synonyms"],
        ["evaluate", "--queries", "labels", "--plot"],
        ["evaluate", "--queries", "labels", "--per-query"],
        ["evaluate", "--queries", "labels", "--failures"],
        ["demo", "--out"],
        ["export", "red-0.png", "--out"],
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_options_that_were_given_nothing_are_refused(
    command: list[str],
    empty: str,
    photos: Photos,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A variable that is not set in a script: nothing is done to the folder it happens to be in."""
    monkeypatch.chdir(photos(red=1))
    before = sorted(Path.cwd().rglob("*"))
    status, out, err = _run(capsys, *command, empty)
    assert (status, out) == (2, "")
    assert "is empty" in err
    assert err.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_variable_of_the_environment_may_be_empty(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORDSIGHT_LIBRARY", "")
    status, out, _ = _run(capsys, "info", "--json")
    assert status == 0
    assert str(library) in out


def test_an_existing_path_is_an_image_or_an_error(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), "red").save(library / "picture", "JPEG")
    Image.new("RGB", (32, 32), "red").save(library / " lead.png")
    (library / "IMG_1.CR3").write_bytes(b"\0\0\0\x18ftypcrx " * 40)
    (library / "notes.txt").write_text("a dog")
    (library / "dogs").mkdir()
    for name in ("picture", " lead.png", "red-0.png", " red-0.png ", str(library / "picture")):
        status, out, _ = _run(capsys, "search", name)
        assert status == 0, name
        assert ".png" in out
    for name in ("IMG_1.CR3", "notes.txt", "dogs", "./dogs/", ".", "gone.jpg"):
        status, out, err = _run(capsys, "search", name)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1
        assert name.strip("./") in err
    assert _run(capsys, "search", '"dogs"', "--anyway")[0] == 0  # the words, as the error says
    status, _, _ = _run(capsys, "search", '@" lead.png" + "red"')
    assert status == 0


def test_addresses_of_files_are_taken_and_those_of_the_web_are_not(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(library / "red-0.png", library / "a 50%.png")
    address = (library / "a 50%.png").as_uri()
    for query in (address, f'@"{address}"'):
        status, out, _ = _run(capsys, "search", query, "-k", "1")
        assert (status, out[:11]) == (0, "  1  1.0000")
    assert len(open_source(library.as_uri()).items()) == 4
    for command in ("search", "index", "classify"):
        status, out, err = _run(capsys, command, "https://example.org/dog.jpg")
        assert (status, out) == (2, "")
        assert "download the image" in err


def test_the_prompt_expands_the_home_and_keeps_spaces(
    library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    shutil.copy(library / "red-0.png", home / "x.jpg")
    shutil.copy(library / "red-0.png", library / " lead.png")
    typed = '~/x.jpg\n lead.png\n@"~/x.jpg" + "red"\n~/gone.jpg\nexit \nred\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    status, out, err = _run(capsys, "search", "--json")
    assert status == 0
    assert out.count('{"query"') == 3
    assert "~/gone.jpg: no such file" in err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("“dog”", '"dog"'),
        ("„dog“", '"dog"'),
        ("“a” + “b”", '"a" + "b"'),
        ("“a” \u2212 0.5*“b”", '"a" - 0.5*"b"'),
        ('\u2212“a” + "b"', '-"a" + "b"'),
        ("@“my photo.jpg” - “snow”", '@"my photo.jpg" - "snow"'),
    ],
)
def test_curly_quotes_and_the_minus_sign(typed: str, meant: str) -> None:
    assert parse_query(typed) == parse_query(meant)


def test_words_keep_what_their_quotes_hold() -> None:
    assert parse_query('"a “fine” day" + "b"').terms[0].text == "a “fine” day"
    assert parse_query('“5" tyre”').terms[0].text == '5" tyre'
    assert parse_query("rock \u2212 paper").terms[0].text == "rock \u2212 paper"
    assert parse_query('@" lead.png"').terms[0].image == " lead.png"
    with pytest.raises(QueryError, match="empty"):
        parse_query("“ ”")


@pytest.mark.parametrize("prompt", UNREAD)
def test_prompts_that_the_model_cannot_read_are_told(
    prompt: str, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = wordsight.open(library / ".wordsight")
    (notice,) = opened.search(prompt).notices
    assert "cannot read" in notice
    _, _, err = _run(capsys, "search", prompt)
    assert err.count("cannot read") == 1
    with pytest.raises(WordsightError, match=f"cannot read these labels: {prompt}"):
        wordsight.classify(library / "red-0.png", ["red", prompt], model=opened.model)


@pytest.mark.parametrize("prompt", ["a dog", "café", "zxqv", "собака dog", "42"])
def test_prompts_that_it_can_read_are_not(prompt: str) -> None:
    assert not wordsight.load_model("starter").unreadable(prompt)


@pytest.mark.parametrize(
    ("prompt", "unread"),
    [
        ("a dog собака", ["собака"]),
        ("собака на снегу and a dog 🐕, red", ["собака на снегу", "🐕"]),
        ("dog,собака;cat", ["собака"]),
        ("a black — “white” dog… <b> & €", []),
        ("a dog", []),
        ("café", []),
    ],
)
def test_words_that_the_model_cannot_read_are_told(
    prompt: str, unread: list[str], library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = wordsight.open(library / ".wordsight")
    assert opened.model.unread(prompt) == unread
    notices = opened.search(prompt).notices
    assert [", ".join(unread) in notice for notice in notices] == [True] * bool(unread)
    _, _, err = _run(capsys, "search", prompt)
    assert err.count("cannot read") == bool(unread)


def test_byte_level_tokenizers_read_all(test_models: Path) -> None:
    read = 0
    for config in test_models.glob("**/textual/tokenizer.json"):
        if "ByteLevel" in config.read_text(encoding="utf-8"):
            model = wordsight.load_model(config.parent.parent)
            assert not any(map(model.unreadable, [*UNREAD, "a dog"]))
            assert not any(map(model.unread, [*UNREAD, "a dog собака"]))
            read += 1
    if not read:
        pytest.skip("no model with a byte-level tokenizer is here")


def test_the_page_is_told_too(library: Path) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from wordsight.web.app import create_app

    app = create_app(wordsight.open(library / ".wordsight"))
    with testclient.TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/api/v1/search", params={"q": "собака"})
        if answer.status_code == 405:
            answer = client.post("/api/v1/search", json={"query": "собака"})
        assert answer.status_code == 200, answer.text
        assert "cannot read any of this prompt" in answer.text
