"""Filters and sorting by what is known of a picture; old libraries gain it without embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fakes import ANCHORS, ColourModel
from test_large import random_library
from test_metadata import bag, exif, xmp

import wordsight
from wordsight.errors import QueryError
from wordsight.library import Store, filters
from wordsight.library.table import METADATA
from wordsight.search import Sort

MUNICH = ((48, 8, 15), "N", (11, 34, 30), "E")
SYDNEY = ((33, 51, 24), "S", (151, 12, 54), "E")
TRIPS: dict[str, dict[str, Any]] = {
    "munich": {"camera": "Pixel 7", "where": MUNICH, "year": 2023, "zone": "+02:00"},
    "sydney": {"camera": "ILCE-7M3", "where": SYDNEY, "year": 2021, "zone": None},
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two trips of six photographs each in red and in blue, a month apart, and two plain files."""
    rng = np.random.default_rng(0)
    for trip, facts in TRIPS.items():
        folder = tmp_path / "photos" / trip
        folder.mkdir(parents=True)
        for colour in ("red", "blue"):
            for month in range(1, 7):
                pixels = np.array(ANCHORS[colour]) + rng.integers(-15, 15, (24, 32, 3))
                image = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                made = exif(
                    f"{facts['year']}:{month:02}:14 18:03:22",
                    facts["zone"],
                    camera=facts["camera"],
                    where=facts["where"],
                )
                keywords = xmp(bag(colour, "Zoë's")) if month == 1 else b""
                image.save(folder / f"{colour}-{month}.jpg", exif=made.tobytes(), xmp=keywords)
    for n in range(2):
        PIL.Image.new("RGB", (20, 30), (200 + n, 20, 20)).save(tmp_path / f"photos/plain-{n}.png")
    return tmp_path / "photos"


@pytest.fixture
def library(tmp_path: Path, photos: Path, model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(photos)
    return made


@pytest.fixture(params=["in memory", "large", "fresh"])
def each_way(
    request: pytest.FixtureRequest,
    library: wordsight.Library,
    model: ColourModel,
    monkeypatch: pytest.MonkeyPatch,
) -> wordsight.Library:
    """The library as it is searched in memory, by an index, and in a process of its own."""
    if request.param == "large":
        monkeypatch.setattr("wordsight.library.index.scoring.NEAREST", 1)
        monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0.001")
        assert library.store.is_large
    if request.param == "fresh":
        return wordsight.open(library.path, model)  # type: ignore[arg-type]
    return library


def names(result: wordsight.Result) -> list[str]:
    return [f"{Path(hit.path).parent.name}/{Path(hit.path).stem}" for hit in result.hits]


def found(library: wordsight.Library, where: str | None, **options: Any) -> list[str]:
    return sorted(names(library.search("red", 50, where=where, anyway=True, **options)))


def trip(name: str, *colours: str, months: range = range(1, 7)) -> list[str]:
    return sorted(f"{name}/{c}-{m}" for c in colours or ("red", "blue") for m in months)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("taken >= '2023-03' and camera like 'Pixel%'", trip("munich", months=range(3, 7))),
        ("camera = 'ILCE-7M3' and path like '%red%'", trip("sydney", "red")),
        ("array_has(keywords, 'Zoë''s')", [*trip("munich", months=range(1, 2)),
                                           *trip("sydney", months=range(1, 2))]),
        ("orientation = 'portrait'", ["photos/plain-0", "photos/plain-1"]),
        ("taken is null and media = 'photo'", ["photos/plain-0", "photos/plain-1"]),
        ("latitude < 0", trip("sydney")),
        (filters.near("48.1,11.6,5km"), trip("munich")),
        (filters.near("-33.8567, 151.2150, 100m"), trip("sydney")),
        (filters.near("-33.8567,-151.2,100km"), None),
        (filters.after("2023-05"), trip("munich", months=range(5, 7))),
        (filters.before("2021-02-14 18:03:22"), trip("sydney", months=range(1, 2))),
        (filters.joined(filters.after("2021-06"), filters.before("2023-01-15")),
         sorted([*trip("sydney", months=range(6, 7)), *trip("munich", months=range(1, 2))])),
        ("1=1) or (1=1", sorted([*trip("munich"), *trip("sydney"), "photos/plain-0",
                                 "photos/plain-1"])),
    ],
)  # fmt: skip
def test_what_filters_let_pass(
    each_way: wordsight.Library, where: str, expected: list[str] | None
) -> None:
    if expected is None:
        with pytest.raises(QueryError, match="no image in the library fits the filter"):
            found(each_way, where)
    else:
        assert found(each_way, where) == expected


def test_folders(
    each_way: wordsight.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(each_way, filters.inside(photos / "munich")) == trip("munich")
    monkeypatch.chdir(photos)
    assert found(each_way, filters.inside("sydney/")) == trip("sydney")
    assert len(found(each_way, filters.inside("/"))) == 26
    assert found(each_way, filters.inside("sydney/red-1.jpg")) == ["sydney/red-1"]
    with pytest.raises(QueryError, match="no image"):
        found(each_way, filters.inside("syd"))


@pytest.mark.parametrize(
    "wrong",
    [
        "nope > 3", "taken >", "taken = 3", "id", "", "taken > '2023' -- ", "x; drop table t",
        "select 1", "camera like", "vector", "no_function(id) = 1", "1", "(((", "'", "\0",
        "cast(camera as int) = 1", "1 / 0 = 1", "taken > timestamp 'x'", "taken > 'x",
        "regexp_like(path, '(')",
    ],
)  # fmt: skip
def test_a_wrong_expression_is_one_line(each_way: wordsight.Library, wrong: str) -> None:
    with pytest.raises(QueryError) as raised:
        found(each_way, wrong)
    said = str(raised.value)
    assert "filter" in said
    assert "\n" not in said
    assert ".rs" not in said
    assert not any(word in said for word in ("_row", "FROM t", "Column:", "mtime_ns"))
    assert found(each_way, "camera = 'Pixel 7'") == trip("munich")  # as well as before


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "14.7.2023",
        "2023-7",
        "2023-07-14T",
        "2023-13",
        "2023-02-31",
        "2023-07-14T25:00",
    ],
)
def test_dates_are_read_or_refused(date: str) -> None:
    with pytest.raises(QueryError, match="cannot read the date"):
        filters.after(date)


@pytest.mark.parametrize("place", ["", "48.1,11.6", "91,0,5km", "0,181,5km", "a,b,c", "1,2,5miles"])
def test_places_are_read_or_refused(place: str) -> None:
    with pytest.raises(QueryError, match="cannot read the place"):
        filters.near(place)


def test_no_match_among_what_a_filter_lets_pass(each_way: wordsight.Library) -> None:
    assert each_way.search("red", where="camera = 'Pixel 7'").match
    greenless = each_way.search("a phrase about nothing in it", where="camera = 'Pixel 7'")
    assert (greenless.match, greenless.hits) == (False, [])
    only_blue = each_way.search("red", where="path like '%blue%'")
    assert not only_blue.match  # there is red in the library, but not among these


def test_unrelated_queries_get_no_more_answers_among_a_part(library: wordsight.Library) -> None:
    queries = [f"something unrelated number {n}" for n in range(400)]
    for where in ("camera = 'Pixel 7'", "path like '%red%'", "taken < '2021-03'"):
        matched = [result.match for result in library.search(queries, where=where)]
        assert np.mean(matched) <= 0.05 + 0.03  # the rate, and two deviations of 400


def test_a_filter_and_a_label(tmp_path: Path, model: ColourModel) -> None:
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    images = [PIL.Image.new("RGB", (8, 8), ANCHORS["red"])] * 4
    made.add(images, ["a", "b", "c", "d"], ["x", "x", "y's", "y's"])
    for where in ("path > 'a'", None):
        hits = made.search("red", label="x", where=where, anyway=True).hits
        assert {hit.path for hit in hits} == ({"b"} if where else {"a", "b"})
    assert {hit.path for hit in made.search("red", label="y's", anyway=True).hits} == {"c", "d"}
    with pytest.raises(QueryError, match="has the label 'z' and fits the filter: path > 'a'"):
        made.search("red", label="z", where="path > 'a'")
    assert made.search("red", anyway=True).hits[0].metadata == {}


def test_hits_say_what_is_known(each_way: wordsight.Library) -> None:
    result = each_way.search(
        "red", 1, where="camera = 'Pixel 7' and taken < '2023-02'", anyway=True
    )
    hits = json.loads(json.dumps(result.to_json()))["hits"]
    assert hits[0]["metadata"] == {
        "media": "photo",
        "orientation": "landscape",
        "taken": "2023-01-14T18:03:22+02:00",
        "camera": "Pixel 7",
        "lens": "Pixel 7 back camera 6.81mm f/1.85",
        "latitude": pytest.approx(48.1375),
        "longitude": pytest.approx(11.575),
        "keywords": [Path(result.hits[0].path).stem[:-2], "Zoë's"],
    }
    plain = each_way.search("red", 1, where="orientation = 'portrait'", anyway=True).hits[0]
    assert plain.metadata == {"media": "photo", "orientation": "portrait"}
    assert hash(plain) is not None


def test_sorting_by_time(each_way: wordsight.Library) -> None:
    ranked = each_way.search("red", 50, anyway=True)
    orders: tuple[Sort, Sort] = ("taken", "-taken")
    for order in orders:
        hits = each_way.search("red", 50, anyway=True, sort=order).hits
        times = [hit.metadata.get("taken") for hit in hits]
        assert times[-2:] == [None, None]
        assert times[:-2] == sorted(filter(None, times), reverse=order == "-taken")
        assert sorted(hits, key=lambda hit: hit.rank) == ranked.hits
    with pytest.raises(QueryError, match="cannot sort by 'size'"):
        each_way.search("red", sort="size")  # type: ignore[call-overload]


def test_times_are_ordered_by_their_zones(tmp_path: Path, model: ColourModel) -> None:
    for name, zone in (("east", "+10:00"), ("west", "-08:00"), ("middle", "+01:00")):
        image = PIL.Image.new("RGB", (8, 8), ANCHORS["red"])
        image.save(tmp_path / f"{name}.jpg", exif=exif(zone=zone).tobytes())
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(tmp_path)
    hits = made.search("red", sort="taken", anyway=True).hits
    assert [Path(hit.path).stem for hit in hits] == ["east", "middle", "west"]


def test_a_filter_that_most_of_a_large_library_passes(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither read whole, nor taken for less than it is."""
    monkeypatch.setattr("wordsight.library.index.large._SAMPLE", 400)
    library = random_library(tmp_path / "lib", model, 4000)
    where, queries = "label <> 'l3'", ["red", *(f"unrelated {n}" for n in range(99))]
    exact = library.search(queries, 5, where=where, anyway=True)
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0.1")
    large = wordsight.open(tmp_path / "lib", model)  # type: ignore[arg-type]
    assert large.store.is_large
    vectors = model.encode_texts(["red"])
    assert len(large.store.around(vectors, k=5, where=where).rows) < 1000
    near = large.search(queries, 5, where=where, anyway=True)
    same = [a.hits[0].id == b.hits[0].id for a, b in zip(near, exact, strict=True)]
    assert np.mean(same) > 0.9
    assert all(hit.label != "l3" for result in near for hit in result.hits)
    assert np.mean([result.match for result in near[1:]]) <= 0.05 + 0.05


# Libraries of before


def age(library: wordsight.Library) -> None:
    """Make it one of before metadata were kept."""
    library.store.dataset.drop_columns(list(METADATA))
    library.store.reload()
    with library.store.lock():
        library.store.compact()
    library.store.reload()
    assert not set(METADATA) & set(library.store.dataset.schema.names)


def test_an_older_library_is_searched_as_before(
    library: wordsight.Library, model: ColourModel
) -> None:
    age(library)
    for opened in (library, wordsight.open(library.path, model)):  # type: ignore[arg-type]
        result = opened.search("red", 3)
        assert result.match
        assert result.hits[0].metadata == {}
        with pytest.raises(QueryError, match="wordsight index FOLDER adds it, without"):
            opened.search("red", where="taken > '2023'")
        assert opened.search("red", where="path like '%red%'").match


@pytest.mark.parametrize("large", [False, True])
def test_an_older_library_gains_metadata_without_embedding(
    library: wordsight.Library,
    photos: Path,
    model: ColourModel,
    monkeypatch: pytest.MonkeyPatch,
    large: bool,
) -> None:
    if large:
        monkeypatch.setattr("wordsight.library.index.scoring.NEAREST", 1)
        monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0.001")
    ids, vectors = library.vectors() if not large else ([], np.zeros(0))
    age(library)
    model.encoded_images = 0
    report = library.index(photos / "munich")  # one folder now, the other later
    assert (report.unchanged, report.described, report.indexed) == (12, 12, 0)
    assert report.to_json()["described"] == 12
    assert found(library, "taken is not null") == trip("munich")
    report = library.index(photos)
    assert (report.unchanged, report.described, report.removed) == (26, 14, 0)
    assert library.index(photos).described == 0
    assert model.encoded_images == 0
    assert found(library, filters.before("2022")) == trip("sydney")
    if not large:
        assert library.vectors()[0] == ids
        np.testing.assert_array_equal(library.vectors()[1], vectors)
        assert (library.path / "sidecar.npz").exists()
    fresh = wordsight.open(library.path, model)  # type: ignore[arg-type]
    assert fresh.search("red", 1, where="taken >= '2023'", anyway=True).hits[0].metadata["camera"]
    new = photos / "new.jpg"
    PIL.Image.new("RGB", (8, 8), "red").save(new, exif=exif(camera="new").tobytes())
    assert library.index(photos).indexed == 1
    assert found(library, "camera = 'new'") == ["photos/new"]


def test_what_was_pruned_before_comes_back(library: wordsight.Library, photos: Path) -> None:
    age(library)
    moved = photos.with_name("elsewhere")
    (photos / "munich").rename(moved)
    store = Store.open(library.path)
    gone = [entry.id for entry in store.entries() if "/munich/" in entry.path]
    with store.lock():
        store.prune(gone)
    library.store.refresh()
    library.index(photos)
    assert library.undo_prune() == 12
    assert len(library) == 26
    moved.rename(photos / "munich")
    assert library.index(photos).described == 12


def test_moved_and_touched_files_keep_what_is_known(
    library: wordsight.Library, photos: Path, model: ColourModel
) -> None:
    model.encoded_images = 0
    (photos / "munich").rename(photos / "moved")
    for path in (photos / "sydney").iterdir():
        path.touch()
    report = library.index(photos)
    assert (report.reused, report.unchanged, model.encoded_images) == (12, 14, 0)
    assert found(library, "camera = 'Pixel 7'") == trip("moved")


def test_rechecking_reads_metadata_again(library: wordsight.Library, photos: Path) -> None:
    store: Any = library.store
    store.dataset.update({"camera": "'wrong'"})
    store.reload()
    assert library.index(photos, recheck=True).unchanged == 26
    assert found(library, "camera = 'Pixel 7'") == trip("munich")


def test_filters_in_words() -> None:
    place, folder = filters.near("48.1,11.6,5km"), filters.below("/it's here")
    assert filters.in_words(place) == "near 48.1,11.6"
    assert filters.in_words(folder) == "in '/it''s here'"
    several = filters.joined(folder, place, filters.after("2023"))
    assert several is not None
    assert filters.in_words(several) == (
        "(in '/it''s here') and (near 48.1,11.6) and (taken >= '2023')"
    )
    assert filters.in_words("width > 500") == "width > 500"
