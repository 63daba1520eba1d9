"""Text in pictures: what is read once and found again, alone and beside what pictures show."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image, ImageDraw, ImageFont
from test_cli import Cli, run  # noqa: F401  (a fixture)

import wordsight
from wordsight.errors import LibraryError, QueryError
from wordsight.models.ocr import Line
from wordsight.search import Result
from wordsight.search.hints import as_combination, put_right
from wordsight.search.text import read_texts, text_of

WORDS: dict[str, list[str]] = {
    f"{colour}-{n}.png": [] for colour in ("red", "blue") for n in range(12)
}
WORDS |= {
    "red-1.png": ["Invoice 2023", "Total"],
    "blue-0.png": ["invoice no 17", "from 2023"],
    "blue-1.png": ["A red herring"],
}


class FakeReader:
    """Reads in a picture what a test says, by the size of the picture."""

    def __init__(self, words: dict[int, list[str]]) -> None:
        self.words = words
        self.read_images = 0

    def read(self, image: Image.Image) -> list[Line]:
        self.read_images += 1
        lines = self.words[image.width]
        return [Line(text, 0.9, (1, 10 * n, 9, 10 * n + 9)) for n, text in enumerate(lines)]


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader({40 + n: lines for n, lines in enumerate(WORDS.values())})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for n, name in enumerate(WORDS):
        Image.new("RGB", (40 + n, 30), ANCHORS[name.partition("-")[0]]).save(place / name)
    return place


@pytest.fixture
def library(
    folder: Path, tmp_path: Path, model: ColourModel, reader: FakeReader
) -> wordsight.Library:
    made = wordsight.create(tmp_path / "library", model)
    made.index(folder)
    report = read_texts(made.store, reader)  # type: ignore[arg-type]
    assert (report.read, report.with_text, report.failed) == (24, 3, [])
    return made


def names(result: Result) -> list[str]:
    return [Path(hit.path).name for hit in result.hits]


def test_all_words_count_wherever_they_are(library: wordsight.Library) -> None:
    result = library.search('text:"invoice 2023"')
    assert names(result) == ["red-1.png", "blue-0.png"]
    assert (result.match, result.verdict) == (True, "match")
    assert [hit.line for hit in result.hits] == ["Invoice 2023", "invoice no 17"]
    first = result.to_json()["hits"][0]
    assert all(hit.relevant for hit in result.hits)
    assert (first["line"], first["line_box"]) == ("Invoice 2023", [1.0, 0.0, 9.0, 9.0])
    assert names(library.search("text:TOTAL")) == ["red-1.png"]
    nothing = library.search("text:receipt")
    assert (nothing.verdict, nothing.hits) == ("none", [])
    assert "none of the images" in nothing.explanation()


def test_filters_and_k_count(library: wordsight.Library) -> None:
    only = library.search("text:invoice", where="path like '%blue%'")
    assert names(only) == ["blue-0.png"]
    assert library.search("text:invoice", where="path like '%nothing%'").verdict == "none"
    assert len(library.search("text:invoice", k=1).hits) == 1


def test_a_plain_prompt_finds_what_shows_it_and_what_says_it(library: wordsight.Library) -> None:
    fused = library.search("red", k=3)
    assert set(names(fused)) >= {"blue-1.png"}
    assert {hit.line for hit in fused.hits} == {None, "A red herring"}
    assert [hit.rank for hit in fused.hits] == [1, 2, 3]
    # Words that no picture shows match where they are written.
    said = library.search("invoice")
    assert (said.verdict, names(said)[0]) == ("match", "red-1.png")
    assert said.hits[0].relevant
    assert said.count is None
    # A cut-off on the cosine, an order of one's own and combinations are about pictures alone.
    for query, options in (("red", {"min_score": 0.1}), ('"red" - "blue"', {})):
        result = library.search(query, k=3, **options)  # type: ignore[arg-type]
        assert all(hit.line is None for hit in result.hits)


def test_only_what_is_new_is_read(
    library: wordsight.Library, folder: Path, reader: FakeReader
) -> None:
    (folder / "red-1.png").rename(folder / "moved.png")
    reader.words[90] = ["Invoice 2024"]
    Image.new("RGB", (90, 30), ANCHORS["red"]).save(folder / "new.png")
    library.index(folder)
    before = reader.read_images
    assert read_texts(library.store, reader).read == 1  # type: ignore[arg-type]
    assert reader.read_images == before + 1
    assert set(names(library.search("text:invoice"))) == {"moved.png", "new.png", "blue-0.png"}
    # Of images that are gone nothing stays.
    (folder / "new.png").unlink()
    library.index(folder, prune=True)
    assert set(names(library.search("text:invoice"))) == {"moved.png", "blue-0.png"}
    read_texts(library.store, reader)  # type: ignore[arg-type]
    assert len(library.store.lines.hashes()) == 24


def test_another_model_leaves_what_was_read(library: wordsight.Library, reader: FakeReader) -> None:
    library.store.text = True
    library.remodel(ColourModel("0ther0ther0ther0"))  # type: ignore[arg-type]
    assert library.store.text
    assert set(names(library.search("text:invoice"))) == {"red-1.png", "blue-0.png"}
    assert read_texts(library.store, reader).read == 0  # type: ignore[arg-type]


def test_a_run_that_is_stopped_goes_on(
    folder: Path, tmp_path: Path, model: ColourModel, reader: FakeReader
) -> None:
    made = wordsight.create(tmp_path / "library", model)
    made.index(folder)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_texts(made.store, reader, progress=stop)  # type: ignore[arg-type]
    assert len(made.store.lines.hashes()) == 2
    assert read_texts(made.store, reader).read == 22  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["data", "_versions", "_indices"])
def test_damage_is_seen_and_made_good(
    library: wordsight.Library, reader: FakeReader, which: str
) -> None:
    table = library.path / "lines.lance"
    for file in (table / which).rglob("*"):
        if file.is_file() and file.suffix != ".json":
            file.write_bytes(b"\0" * file.stat().st_size)
    fresh = wordsight.open(library.path, library.model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = names(fresh.search("text:invoice"))
        assert found == [] if which != "_indices" else set(found) == {"red-1.png", "blue-0.png"}
        assert any("reads it again" in str(w.message) for w in said) == (which != "_indices")
        read_texts(fresh.store, reader)  # type: ignore[arg-type]
    assert set(names(fresh.search("text:invoice"))) == {"red-1.png", "blue-0.png"}


def test_a_library_without_text(folder: Path, tmp_path: Path, model: ColourModel) -> None:
    made = wordsight.create(tmp_path / "plain", model)
    made.index(folder)
    assert made.search("red").match
    with pytest.raises(LibraryError, match="wordsight index FOLDER --text"):
        made.search("text:invoice")
    with pytest.raises(QueryError, match="which words"):
        made.search('text:""')


def test_without_the_extra_a_line_says_how(
    run: Cli,  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    from wordsight.models import ocr

    ocr._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    refused = run("index", folder, "--text")
    assert refused.code == 2
    assert 'pip install "wordsight[ocr]"' in refused.err
    assert not (folder / ".wordsight").exists()


def test_real_text_is_read(run: Cli, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("rapidocr", reason="needs the extra ocr")
    place = tmp_path / "signs"
    place.mkdir()
    image = Image.new("RGB", (640, 240), "white")
    font = ImageFont.load_default(48)
    ImageDraw.Draw(image).text((40, 80), "Invoice 2023", font=font, fill="black")
    image.save(place / "sign.png")
    Image.new("RGB", (64, 48), "red").save(place / "red.png")
    indexed = run("index", place, "--text")
    assert indexed.code == 0
    assert "Text in 1 of 2 images" in indexed.out
    found = run("search", 'text:"invoice 2023"', "--library", place)
    assert (found.code, found.out.count("\n")) == (0, 1)
    assert "sign.png  \u201cInvoice 2023\u201d" in found.out
    # Remembered; and what was read is not read again.
    assert run("index", place, "--json").json["text"]["read"] == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("text:invoice", "invoice"),
        ('text: "Invoice 2023" ', "Invoice 2023"),
        ("Text:\u201ca b\u201d", "a b"),
        ("a text: in a book", None),
    ],
)
def test_queries_for_text(query: str, words: str | None) -> None:
    assert text_of(query) == words


@pytest.mark.parametrize(
    "query",
    [
        'text:"a" + "b"',
        'text:"a" - "b"',
        '"a red sign" + text:"stop"',
        'text:"a" + text:"b"',
        "text:stop - text:go",
    ],
)
def test_text_is_not_combined(query: str) -> None:
    with pytest.raises(QueryError, match="cannot be combined"):
        text_of(query)


def test_signs_in_a_text_are_part_of_it() -> None:
    assert text_of('text:"C++"') == "C++"
    assert text_of('text:"1 + 1"') == "1 + 1"
    assert text_of("text:a - b") == "a - b"


# -- how queries are written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "written"),
    [
        ("beach + sunset - people", '"beach" + "sunset" - "people"'),
        ("a cat -dog", '"a cat" - "dog"'),
        ("a t-shirt", None),
        ("-dog", None),
        ("route 66 - 2020", None),
    ],
)
def test_signs_without_quotes(query: str, written: str | None) -> None:
    assert as_combination(query) == written


@pytest.mark.parametrize(
    ("query", "better"),
    [
        ("a dgo", "a dog"),
        ("a mountian lake", "a mountain lake"),
        ("umbrela", "umbrella"),
        ("dogs", None),
        ("a cat", None),
        ("the hit", None),
    ],
)
def test_words_misspelt(query: str, better: str | None) -> None:
    assert put_right(query) == better


def test_lines_beside_a_result(run: Cli, photos) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    root = photos(red=12, blue=12)
    run("index", root)
    said = run("search", "a dgo", "--library", root)
    assert said.out.startswith('No match for "a dgo"')
    assert 'note: did you mean "a dog"?' in said.err
    combined = run("search", "red + blue -green", "--library", root)
    assert 'to combine, write: "red" + "blue" - "green"' in combined.err
    quoted = run("search", '"a dog" - "a cat"', "--library", root)
    assert quoted.out.startswith('No match for "a dog" - "a cat".')
    # What matches is spelt as it is meant.
    assert "did you mean" not in run("search", "red", "--library", root).err
