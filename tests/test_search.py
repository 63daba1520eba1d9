"""Queries and ranking, through the public API; the numbers against a naive reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import wordsight
from wordsight import render
from wordsight.errors import QueryError
from wordsight.library import (
    ImageRecord,
    ModelRecord,
    Snapshot,
    Store,
    ViewRecord,
    id_from_int,
)
from wordsight.nomatch import Decision
from wordsight.search import Query, Result, Term, parse_query, top

Photos = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path, photos: Photos, model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)
    made.index(photos(red=12, green=12, blue=12, yellow=12))
    return made


def names(result: wordsight.Result) -> list[str]:
    return [Path(hit.path).name for hit in result.hits]


def test_ranking_is_that_of_the_naive_loop(library: wordsight.Library, model: ColourModel) -> None:
    query = model.encode_texts(["something blue"])[0]
    naive = {
        image: sum(float(a) * float(b) for a, b in zip(vector, query, strict=True))
        for image, vector in zip(*library.vectors(), strict=True)
    }
    result = library.search("something blue", k=7)
    best = sorted(naive.values(), reverse=True)[:7]
    np.testing.assert_allclose([hit.score for hit in result.hits], best, atol=1e-5)
    np.testing.assert_allclose([naive[hit.id] for hit in result.hits], best, atol=1e-5)
    assert len({hit.id for hit in result.hits}) == 7
    assert [hit.rank for hit in result.hits] == list(range(1, 8))


def test_match_and_no_match(library: wordsight.Library) -> None:
    found = library.search("red")
    assert found.match
    assert found.threshold is not None
    assert all(name.startswith("red") for name in names(found))
    nothing = library.search("a phrase about nothing in it")
    assert not nothing.match
    assert nothing.hits == []
    assert nothing.top_score is not None
    assert nothing.explanation().startswith("Nothing stands out: unrelated words score this high ")
    assert nothing.explanation().endswith(" % of the time (limit 5 %).")
    anyway = library.search("a phrase about nothing in it", anyway=True)
    assert not anyway.match
    assert len(anyway.hits) == 10


def test_z_is_the_distance_from_the_images_own_background(
    library: wordsight.Library, model: ColourModel
) -> None:
    _, bank = library.store.bank()
    by_id = dict(zip(*library.vectors(), strict=True))
    for hit in library.search("red", k=5).hits:
        background = [float(by_id[hit.id] @ phrase) for phrase in bank]
        assert hit.z == pytest.approx(
            (hit.score - np.mean(background)) / np.std(background), abs=1e-2
        )


def test_a_rate_that_the_bank_cannot_tell_is_said(library: wordsight.Library) -> None:
    result = library.search("red", false_accept=0.001)
    assert result.verdict != "match"
    assert "tells rates from 0.00" in result.notices[0]
    told = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert told["threshold"] is None
    assert library.search("red", false_accept=0.003).verdict == "match"


def test_min_score_replaces_the_calibrated_decision(library: wordsight.Library) -> None:
    low = library.search("a phrase about nothing in it", min_score=-1.0)
    assert low.match
    assert (low.threshold, low.decision) == (-1.0, None)
    high = library.search("red", min_score=0.999)
    assert (high.match, high.hits) == (False, [])
    assert "below" in high.explanation()
    some = library.search("red", k=48, min_score=0.5)
    assert all(hit.score >= 0.5 for hit in some.hits)
    assert 0 < len(some.hits) < 48


def test_image_query_finds_itself_first(library: wordsight.Library, tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "green-3.png"
    for query in (photo, Image.open(photo), np.asarray(Image.open(photo))):
        result = library.search(query, k=3)
        assert result.match
        assert names(result)[0] == "green-3.png"
        assert result.hits[0].score == pytest.approx(1, abs=1e-3)
        assert (result.hits[0].z, result.threshold) == (None, None)


def test_combination_and_negation(library: wordsight.Library) -> None:
    both = library.search('"red" + "blue"', k=24, anyway=True)
    assert {name.split("-")[0] for name in names(both)} == {"red", "blue"}
    without = library.search('"red" + "blue" - 2*"blue"', k=12, anyway=True)
    assert {name.split("-")[0] for name in names(without)} == {"red"}


def test_combination_with_an_image(library: wordsight.Library, tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "green-3.png"
    result = library.search(f'0.2*@"{photo}" + "yellow"', k=3)
    assert all(name.startswith("yellow") for name in names(result))
    built = library.search(Query((Term(0.2, image=photo), Term(1, text="yellow"))), k=3)
    assert names(built) == names(result)


class ApartModel(ColourModel):
    """As in CLIP's space, words lie far from pictures: these differ more among each other."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().encode_texts(texts)
        vectors[:, -1] += 4
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        vectors = super().encode_pixels(pixels)
        vectors[:, -1] = 0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_words_without_a_picture_stay_near_the_words(photos: Any, tmp_path: Path) -> None:
    """A plain difference finds what is least like the picture: anything but red."""
    model = ApartModel()
    folder = photos(red=12, blue=12, green=12)
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(folder)
    query = f'"red" - @"{folder / "red-3.png"}"'
    result = library.search(query, k=11, anyway=True)
    assert all(name.startswith("red") for name in names(result))
    assert "red-3.png" not in names(result)  # nobody looks for the picture that he has


def test_a_picture_in_a_combination_is_no_hit_and_alone_it_is(
    library: wordsight.Library, tmp_path: Path
) -> None:
    photo = tmp_path / "photos" / "green-3.png"
    together = library.search(f'"green" + @"{photo}"', k=11)
    assert [hit.rank for hit in together.hits] == list(range(1, 12))
    assert "green-3.png" not in names(together)
    further = library.search(f'"green" + @"{photo}"', k=11, skip=4)
    assert names(further) == names(together)[4:]
    assert names(library.search(f'@"{photo}"', k=1)) == ["green-3.png"]


def test_a_line_where_thumbnails_come_first(tmp_path: Path, model: ColourModel) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(12):
        Image.new("RGB", (32, 32), ANCHORS["red"]).save(tmp_path / "photos" / f"red-{n}.png")
        Image.new("RGB", (800, 600), ANCHORS["blue"]).save(tmp_path / "photos" / f"blue-{n}.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(tmp_path / "photos")
    (line,) = library.search("red", k=10, anyway=True).notices
    assert "the filter width > 128" in line
    assert not library.search("blue", k=10, anyway=True).notices
    assert not library.search("red", k=10, anyway=True, where="width > 128").notices


def test_many_queries_at_once_are_the_single_ones(library: wordsight.Library) -> None:
    queries = ["red", "blue", '"green" - "blue"', "nothing at all of this"]
    together = library.search(queries, k=4, anyway=True)
    for query, result in zip(queries, together, strict=True):
        alone = library.search(query, k=4, anyway=True)
        assert names(result) == names(alone)
        assert result.match == alone.match
        assert result.top_score == pytest.approx(alone.top_score, abs=1e-5)


def test_no_queries_have_no_answers(library: wordsight.Library) -> None:
    assert library.search([]) == []


def test_empty_library_matches_nothing(tmp_path: Path, model: ColourModel) -> None:
    result = wordsight.create(tmp_path / "lib", model).search("red")
    assert (result.match, result.hits) == (False, [])
    assert result.explanation() == "The library is empty."


def test_small_library_still_decides(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=1, blue=1))
    assert library.search("red").match
    assert not library.search("some other thing").match


def test_notice_of_a_long_prompt(library: wordsight.Library) -> None:
    assert library.search("red " * 31).notices
    assert not library.search("red").notices


def test_hits_end_where_the_thing_asked_for_does(library: wordsight.Library) -> None:
    found = library.search("red", k=48)
    assert [name.startswith("red") for name in names(found)] == [h.relevant for h in found.hits]
    assert found.count is not None
    assert found.count.estimate == 12
    assert "12 match" in found.how_many()
    chances = [hit.probability for hit in found.hits]
    assert chances == sorted(chances, reverse=True)


def test_nothing_is_relevant_where_there_is_no_match(library: wordsight.Library) -> None:
    anyway = library.search("a phrase about nothing in it", anyway=True)
    assert not any(hit.relevant for hit in anyway.hits)
    assert anyway.count is not None
    assert anyway.count.estimate == 0


def test_a_cut_off_says_how_many_reach_it(library: wordsight.Library) -> None:
    scores = sorted((h.score for h in library.search("red", k=48).hits), reverse=True)
    cut = scores[6] - 1e-4
    found = library.search("red", k=5, min_score=cut)
    assert found.how_many() == f"{sum(score >= cut for score in scores)} match"
    assert all(hit.relevant for hit in found.hits)


def test_an_image_as_a_query_ends_too(library: wordsight.Library, tmp_path: Path) -> None:
    picture = library.image(library.search("red", k=1).hits[0])
    found = library.search(picture, k=48)
    assert [name.startswith("red") for name in names(found)] == [h.relevant for h in found.hits]


def test_json_has_the_documented_fields(library: wordsight.Library) -> None:
    answer = library.search("red", k=1).to_json()
    assert {"query", "match", "threshold", "model", "count", "hits", "timings_ms"} <= set(answer)
    assert set(answer["count"]) == {"estimate", "low", "high"}
    hit = answer["hits"][0]
    assert {"rank", "id", "path", "score", "z", "label", "view"} <= set(hit)
    assert hit["relevant"] is True
    assert 0.5 < hit["probability"] <= 1
    assert hit["view"]["kind"] == "image"
    assert hit["view"]["box"] is None


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a dog", [(1, "a dog")]),
        ("  t-shirt + jeans ", [(1, "t-shirt + jeans")]),
        ('"beach"', [(1, "beach")]),
        ('"beach" + "sunset" - "people"', [(1, "beach"), (1, "sunset"), (-1, "people")]),
        ('0.5*"a" - 2 * "b"', [(0.5, "a"), (-2, "b")]),
        ('- "b" + "a"', [(-1, "b"), (1, "a")]),
    ],
)
def test_parse_query(text: str, terms: list[tuple[float, str]]) -> None:
    assert [(t.weight, t.text) for t in parse_query(text).terms] == terms


def test_parse_query_image_term() -> None:
    first, second = parse_query('@"my photo.jpg" - "snow"').terms
    assert (first.image, first.text) == ("my photo.jpg", None)
    assert (second.weight, second.text) == (-1, "snow")


@pytest.mark.parametrize("text", ["", "   ", '"a" "b"', '"a" + ', '"a" + b', '""', '"a" * "b"'])
def test_bad_queries_say_why(library: wordsight.Library, text: str) -> None:
    with pytest.raises(QueryError):
        library.search(text)


def test_bad_options_say_why(library: wordsight.Library) -> None:
    with pytest.raises(QueryError, match="at least 1"):
        library.search("red", k=0)
    with pytest.raises(QueryError, match="false-accept"):
        library.search("red", false_accept=1.5)
    for cut in (float("nan"), float("inf")):
        with pytest.raises(QueryError, match=f"must be a number, not {cut}"):
            library.search("red", min_score=cut)
    with pytest.raises(QueryError, match="'cosine'; use one of auto, score, lift, z"):
        library.search("red", rank_by="cosine")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="cancel"):
        library.search('"red" - "red"')


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 40))
def test_top_is_a_stable_sort(values: list[int], k: int) -> None:
    array = np.array(values, np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert top(array, k).tolist() == expected


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 50), st.integers(1, 40))
def test_top_of_many_is_a_stable_sort(seed: int, size: int, kinds: int, k: int) -> None:
    array = np.random.default_rng(seed).integers(0, kinds, size).astype(np.float32)
    assert top(array, k).tolist() == np.argsort(-array, kind="stable")[:k].tolist()


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 2**31))
def test_fusion_is_the_max_over_an_images_views(counts: list[int], seed: int) -> None:
    total = sum(counts)
    scores = np.random.default_rng(seed).normal(size=(3, total)).astype(np.float32)
    starts = np.cumsum([0, *counts[:-1]])
    empty: NDArray[np.float32] = np.zeros(0, np.float32)
    rows, ids = (np.arange(count, dtype=np.int64) for count in (total, len(counts)))
    snapshot = Snapshot(
        1, np.zeros((total, 4), np.float32), starts, rows, ids, empty, empty, empty, empty
    )
    naive = [[max(row[s : s + c]) for s, c in zip(starts, counts, strict=True)] for row in scores]
    np.testing.assert_array_equal(snapshot.fuse(scores), np.array(naive, np.float32))


def test_best_crop_wins_and_says_where(tmp_path: Path, model: ColourModel) -> None:
    bank = [f"neutral phrase {i}" for i in range(40)]
    record = ModelRecord("colours", "colours", model.hash, model.dim, "none")
    store = Store.create(tmp_path / "lib", record, bank, model.encode_texts(bank))
    colour = dict(
        zip(("red", "blue", "white"), model.encode_texts(["red", "blue", "white"]), strict=True)
    )

    def image(number: int, *views: ViewRecord) -> ImageRecord:
        return ImageRecord(
            f"{number:016x}", f"/{number}.jpg", "/", 1, 1, str(number), 100, 80, views=list(views)
        )

    store.put(
        [
            image(
                1,
                ViewRecord(colour["white"]),
                ViewRecord(colour["red"], "crop", (1, 2, 30, 40), "ball"),
            ),
            image(2, ViewRecord(colour["blue"])),
            image(3, ViewRecord(colour["white"]), ViewRecord(colour["blue"], "crop", (5, 5, 9, 9))),
        ],
        replace=False,
    )
    library = wordsight.Library(store, model)  # type: ignore[arg-type]
    assert (len(library), store.count_views()) == (3, 5)
    hit = library.search("red", k=1, anyway=True).hits[0]
    assert (hit.path, hit.view.kind, hit.view.box, hit.view.label) == (
        "/1.jpg",
        "crop",
        (1, 2, 30, 40),
        "ball",
    )
    assert hit.score == pytest.approx(1, abs=1e-3)
    assert library.search("blue", k=2, anyway=True).hits[1].view.kind in ("crop", "image")
    plain = library.search("red", k=3, anyway=True, crops=False)
    assert {h.view.kind for h in plain.hits} == {"image"}
    assert max(h.score for h in plain.hits) < 0.5
    # The fused background: the mean over the bank of the best view's score.
    snapshot = store.snapshot()
    scores = snapshot.vectors @ model.encode_texts(bank).T
    np.testing.assert_allclose(snapshot.mean[0], np.maximum(scores[0], scores[1]).mean(), atol=1e-3)
    np.testing.assert_allclose(snapshot.image_mean[0], scores[0].mean(), atol=1e-3)


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("a dog", "“a dog”"),
        ('@"/home/me/photos/rex.jpg"', "More like rex.jpg"),
        ('@"image"', "More like this image"),
        ('@"/home/me/rex.jpg" + 2*"snow"', '“rex.jpg + 2*"snow"”'),
    ],
)
def test_pictures_are_headed_by_the_query_without_folders(
    query: str, title: str, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(render, "grid", lambda *_tiles, title, **_more: shown.append(title))
    library = wordsight.create(tmp_path / "lib", model)
    library.grid(wordsight.Result(query, True, None, [], "colours", {}))
    assert shown == [title]


def test_words_are_ranked_by_lift_where_crops_count(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        pixels = rng.integers(0, 256, (2, 3, 3)).astype(np.uint8)
        picture = Image.fromarray(pixels).resize((96 + 32 * n, 96), Image.Resampling.NEAREST)
        picture.save(folder / f"{n}.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)

    def order(**options: Any) -> list[str]:
        return [hit.id for hit in library.search("red", 6, anyway=True, **options).hits]

    assert order() == order(rank_by="score")
    library.index(folder, crops="tiles")
    assert order() == order(rank_by="lift")
    assert order(crops=False) == order(rank_by="score", crops=False)
    snapshot = library.store.snapshot()
    fused = snapshot.fuse(model.encode_texts(["red"])[0] @ snapshot.vectors.T)
    expected = np.argsort(-(fused - snapshot.mean - 0.5 * snapshot.sd), kind="stable")
    assert order() == [id_from_int(snapshot.ids[n]) for n in expected]
    image = library.search(folder / "3.png", 6).hits
    assert [hit.score for hit in image] == sorted((hit.score for hit in image), reverse=True)


def test_a_near_miss_is_explained() -> None:
    decision = Decision(
        p_value=0.8,
        p_alone=0.001,
        false_accept=0.05,
        single=9.0,
        single_threshold=5.0,
        posterior=0.07,
    )
    result = Result("a cat", False, 5.0, [], "m", {}, decision, top_score=0.5, top_z=9.0)
    assert result.explanation() == "The closest images look more like something else."
    named = replace(result, decision=replace(decision, rival="a horse"))
    assert named.explanation() == "The closest images look more like a horse."
    assert result.to_json()["posterior"] == 0.07
    assert result.to_json()["rivals"] is True
    # Without rivals it would not be a match, but "unsure": they decided here too.
    near = Result("a cat", False, 5.0, [], "m", {}, replace(decision, p_alone=0.061), None, 0.5)
    assert near.explanation() == "The closest images look more like something else."
    alone = Result(
        "a cat", False, 5.0, [], "m", {}, replace(decision, p_value=0.5, p_alone=0.5), None, 0.5
    )
    assert alone.explanation() == (
        "Nothing stands out: unrelated words score this high 50 % of the time (limit 5 %)."
    )
    assert alone.to_json()["rivals"] is False


@pytest.mark.parametrize(
    ("p_value", "often"),
    [
        (0.0002, "less than 0.1 %"),
        (0.012, "1.2 %"),
        (0.0503, "just over 5 %"),  # else it would look as if it were allowed
        (0.534, "53 %"),
    ],
)
def test_rates_are_said_in_per_cent(p_value: float, often: str) -> None:
    decision = Decision(p_value, p_value, 0.05, 5.0, 5.0, posterior=0.9)
    result = Result("a cat", decision.match, 5.0, [], "m", {}, decision, top_score=0.5)
    said = f"nrelated words score this high {often} of the time (limit 5 %)."
    assert result.explanation().endswith(said)


def test_a_cut_off_finds_whatever_reaches_it_in_any_order(library: wordsight.Library) -> None:
    """The order by z or lift must not push out images that the cosine lets in."""
    for query in ("red", "blue and white", "a dog"):
        scores = sorted(
            (h.score for h in library.search(query, 48, anyway=True).hits), reverse=True
        )
        cut = scores[2] - 1e-6
        for order in ("auto", "score", "lift", "z"):
            found = library.search(query, 3, min_score=cut, rank_by=order)
            assert found.match
            assert sorted((h.score for h in found.hits), reverse=True) == scores[:3]


def test_only_words_to_be_found_are_judged(library: wordsight.Library) -> None:
    result = library.search('- "red" - "blue"')
    assert result.match
    assert result.explanation() == (
        "A query that only excludes has no verdict; the images are just ranked."
    )


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -2000.0])
def test_weights_without_measure_are_refused(library: wordsight.Library, weight: float) -> None:
    with pytest.raises(QueryError, match="must be a number up to 1000"):
        library.search(Query((Term(weight, text="red"),)))
    with pytest.raises(QueryError, match="the weight inf"):
        library.search("1" * 400 + '*"red"')


def test_no_score_is_above_one(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=20, blue=20, green=20))
    snapshot = library.store.snapshot()
    longer = snapshot.vectors * np.float32(1 + 1e-5)  # rounding does less, and not everywhere
    assert snapshot.scores(longer).max() == 1
    assert snapshot.scores(-longer).min() == -1
    folder = tmp_path / "photos"
    assert max(library.search(path, k=1).top_score for path in sorted(folder.iterdir())) <= 1
