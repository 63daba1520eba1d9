"""Libraries whose vectors do not fit the memory that they may take: the approximate index."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from numpy.typing import NDArray

import wordsight
from wordsight.api import Library
from wordsight.errors import LibraryError, QueryError
from wordsight.library import ImageRecord, Snapshot, Store, ViewRecord, id_from_int
from wordsight.library.index import ann
from wordsight.library.index import large as large_module
from wordsight.library.index.ann import ApproximateIndex
from wordsight.library.index.large import Answers, LargeVersion
from wordsight.library.index.slices import Slice
from wordsight.search import relevance


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say from now on whether libraries are large, whatever their size."""
    return lambda wanted: monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0" if wanted else "1024")


def random_library(place: Path, model: ColourModel, images: int, crops: int = 0) -> Library:
    """Random vectors, so that every query has one right order."""
    library = wordsight.create(place, model)
    add_random(library, range(images), crops)
    return library


def add_random(library: Library, numbers: range, crops: int = 0) -> None:
    rng = np.random.default_rng(numbers.start)
    records = []
    for i in numbers:
        vectors = rng.standard_normal((1 + crops, library.model.dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        record = ImageRecord(
            id=hashlib.blake2b(str(i).encode(), digest_size=8).hexdigest(),
            path=f"/p/{i}.jpg",
            root="/p/",
            size=1,
            mtime_ns=1,
            hash=f"{i:x}",
            width=9,
            height=9,
            label=f"l{i % 10}",
        )
        record.views = [ViewRecord(vectors[0])]
        record.views += [ViewRecord(v, "crop", (0, 0, 4, 4)) for v in vectors[1:]]
        records.append(record)
    with library.store.lock():
        library.store.put(records, replace=False)
        library.store.prepare()


def test_few_images_of_very_many_views(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    """None of these three would fall into the random part by its share of the views."""
    large(False)
    library = wordsight.create(tmp_path / "lib", model)
    add_random(library, range(14, 17), crops=9000)
    exact = library.search("red", k=3, anyway=True)
    large(True)
    library = wordsight.open(tmp_path / "lib", model)
    found = library.search("red", k=3, anyway=True)
    assert [hit.id for hit in found.hits] == [hit.id for hit in exact.hits]
    assert found.match == exact.match


WORDS = ["red", "a dog", "grand piano", "blue and white", "something else"]


@pytest.mark.parametrize("crops", [0, 3])
def test_a_large_library_answers_as_a_small_one(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None], crops: int
) -> None:
    large(False)
    library = random_library(tmp_path / "lib", model, 2000, crops)
    options = [{}, {"crops": False}, {"label": "l3"}, {"rank_by": "score"}]
    exact = [library.search(WORDS, k=10, anyway=True, **one) for one in options]
    large(True)
    library = wordsight.open(tmp_path / "lib", model)
    near = [library.search(WORDS, k=10, anyway=True, **one) for one in options]
    assert list((tmp_path / "lib").glob("views-*.ann"))
    for ours, theirs in zip(chain(*near), chain(*exact), strict=True):
        assert [hit.id for hit in ours.hits] == [hit.id for hit in theirs.hits]
        assert [hit.view for hit in ours.hits] == [hit.view for hit in theirs.hits]
        np.testing.assert_allclose(
            [hit.score for hit in ours.hits], [hit.score for hit in theirs.hits], atol=1e-6
        )
        np.testing.assert_allclose(
            [hit.z for hit in ours.hits], [hit.z for hit in theirs.hits], atol=1e-4
        )
        assert ours.top_score == pytest.approx(theirs.top_score, abs=1e-6)


def test_the_decision_of_a_large_library_is_near_that_of_a_small_one(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None], photos: Callable[..., Path]
) -> None:
    large(False)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=100, blue=100, green=150))
    exact = library.search([*WORDS, "yellow"], anyway=True)
    large(True)
    near = wordsight.open(tmp_path / "lib", model).search([*WORDS, "yellow"], anyway=True)
    assert [r.match for r in near] == [r.match for r in exact]
    assert {r.match for r in near} == {True, False}


def test_combinations_and_images_in_a_large_library(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None], photos: Callable[..., Path]
) -> None:
    large(True)
    folder = photos(red=160, blue=160)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    result = library.search('"red" - 0.5*"blue"')
    assert result.match
    assert {Path(hit.path).name.rstrip("0123456789.png-_") for hit in result.hits} == {"red"}
    picture = next(folder.glob("blue*"))
    hits = library.search(picture, k=3).hits
    assert Path(hits[0].path) == picture
    library = random_library(tmp_path / "random", model, 400)
    labelled = library.search('"red" + "blue"', label="l4", k=50, anyway=True)
    assert [hit.label for hit in labelled.hits] == ["l4"] * 40
    with pytest.raises(QueryError, match="no image in the library has the label 'pink'"):
        library.search("red", label="pink")


def test_an_open_large_library_sees_what_was_added(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    library = random_library(tmp_path / "lib", model, 500)
    reader = wordsight.open(tmp_path / "lib", model)
    assert len(reader.search("red", k=450, anyway=True).hits) == 450
    new = wordsight.open(tmp_path / "lib", model)
    vector = model.encode_texts(["red"])[0]
    record = ImageRecord("f" * 16, "/p/new.jpg", "/p/", 1, 1, "new", 9, 9)
    record.views = [ViewRecord(vector)]
    with new.store.lock():
        new.store.put([record], replace=True)
        # Not yet prepared: searches see the version before, whole.
        assert reader.search("red", anyway=True).hits[0].path != "/p/new.jpg"
        new.store.prepare()
    assert reader.search("red", anyway=True).hits[0].path == "/p/new.jpg"
    assert len(list((tmp_path / "lib").glob("views-*.ann"))) == 1
    library.compact()
    assert reader.search("red", anyway=True).hits[0].path == "/p/new.jpg"
    new.remove(["f" * 16])
    new.store.prepare()
    assert reader.search("red", anyway=True).hits[0].path != "/p/new.jpg"


def test_what_is_added_and_removed_by_hand_counts_at_once(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    library = random_library(tmp_path / "lib", model, 400)
    reader = wordsight.open(tmp_path / "lib", model)
    red = np.full((8, 8, 3), (220, 20, 20), np.uint8)
    (number,) = library.add([red], ["red one"])
    for one in (library, reader):
        assert one.search("red", anyway=True).hits[0].path == "red one"
    library.remove([number])
    for one in (library, reader):
        assert one.search("red", anyway=True).hits[0].path != "red one"


def test_what_is_added_counts_where_the_library_is_large_to_readers_alone(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    library = random_library(tmp_path / "lib", model, 400)
    reader = wordsight.open(tmp_path / "lib", model)
    reader.search("red", anyway=True)
    large(False)
    (number,) = library.add([np.full((8, 8, 3), (220, 20, 20), np.uint8)], ["red one"])
    large(True)
    for one in (wordsight.open(tmp_path / "lib", model), reader):
        assert one.search("red", anyway=True).hits[0].path == "red one"
    large(False)
    library.remove([number])
    large(True)
    for one in (wordsight.open(tmp_path / "lib", model), reader):
        assert one.search("red", anyway=True).hits[0].path != "red one"


class WideModel(ColourModel):
    """Vectors wide enough for the table to keep them one behind another."""

    dim = 160

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        narrow = super().encode_texts(texts)
        return np.pad(narrow, ((0, 0), (0, self.dim - narrow.shape[1])))


@pytest.mark.parametrize("crops", [True, False])
def test_as_many_hits_as_are_asked_for(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None], crops: bool
) -> None:
    """Also where each image has many views that are like one another."""
    library = wordsight.create(tmp_path / "lib", model)
    rng = np.random.default_rng(1)
    records = []
    for i in range(300):
        whole = rng.standard_normal(model.dim)
        record = ImageRecord(f"{i:016x}", f"/p/{i}.jpg", "/p/", 1, 1, f"{i:x}", 9, 9)
        for _ in range(21):
            vector = whole + 0.3 * rng.standard_normal(model.dim)
            kind = ("crop", (0, 0, 4, 4)) if record.views else ("image", None)
            record.views.append(ViewRecord(vector / np.linalg.norm(vector), *kind))
        records.append(record)
    with library.store.lock():
        library.store.put(records, replace=False)
    queries = ["red", "blue", "a thing"]
    for k in (5, 60, 400):
        found = {}
        for wanted in (False, True):
            large(wanted)
            results = wordsight.open(library.path, model).search(
                queries, k=k, anyway=True, crops=crops
            )
            found[wanted] = [[hit.id for hit in result.hits] for result in results]
        for exact, through_index in zip(found[False], found[True], strict=True):
            assert len(through_index) == len(exact) == min(k, 300)
            assert len({*exact} & {*through_index}) >= 0.98 * len(exact)


def test_a_label_that_is_no_text_is_not_there(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    library = random_library(tmp_path / "lib", model, 300)
    for wanted in (False, True):
        large(wanted)
        with pytest.raises(QueryError, match="no image in the library has the label"):
            wordsight.open(library.path, model).search("red", label="\udcff")


def test_vectors_are_read_in_place_where_the_table_allows_it(
    tmp_path: Path, large: Callable[[bool], None]
) -> None:
    large(True)
    model = WideModel()
    library = random_library(tmp_path / "lib", model, 2000, crops=2)
    add_random(library, range(2000, 3000))
    places = tmp_path / "lib" / "flat.npz"

    def answers() -> list[object]:
        found = wordsight.open(tmp_path / "lib", model).search(WORDS, anyway=True)
        return [(result.match, result.hits) for result in found]

    in_place = answers()
    places.unlink()
    assert answers() == in_place
    library.remove([library.search("red", anyway=True).hits[0].id])
    shorter = answers()
    assert shorter != in_place
    places.unlink()
    assert answers() == shorter
    library.compact()
    assert places.exists()
    assert answers() == shorter


def test_paths_are_of_the_images_that_were_scored(
    tmp_path: Path,
    model: ColourModel,
    large: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process removes images and makes the next index in the middle of a search."""
    large(True)
    random_library(tmp_path / "lib", model, 600)
    reader = wordsight.open(tmp_path / "lib", model)
    before = reader.search("red", k=5, anyway=True)
    around = Store.around

    def then_removed(store: Store, *args: Any, **kwargs: Any) -> Any:
        found = around(store, *args, **kwargs)
        if store is reader.store:
            monkeypatch.setattr(Store, "around", around)
            other = wordsight.open(tmp_path / "lib", model)
            first = sorted(entry.id for entry in other.store.entries())
            other.remove([i for i in first if i not in {hit.id for hit in before.hits}][:50])
            store.reload()
        return found

    monkeypatch.setattr(Store, "around", then_removed)
    after = reader.search("red", k=5, anyway=True)
    assert [(hit.id, hit.path) for hit in after.hits] == [(h.id, h.path) for h in before.hits]


@pytest.mark.parametrize("damage", [b"", b"PK", b"nothing that numpy wrote"])
def test_damaged_sidecar_files_are_made_again(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None], damage: bytes
) -> None:
    large(True)
    random_library(tmp_path / "lib", model, 400)
    before = wordsight.open(tmp_path / "lib", model).search("red", anyway=True)
    for name in ("nearby", "flat"):
        (tmp_path / "lib" / f"{name}.npz").write_bytes(damage)
    again = wordsight.open(tmp_path / "lib", model).search("red", anyway=True)
    assert [hit.id for hit in again.hits] == [hit.id for hit in before.hits]
    assert again.decision == before.decision


def test_a_damaged_or_missing_index_is_made_again(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    random_library(tmp_path / "lib", model, 400)
    (index,) = (tmp_path / "lib").glob("views-*.ann")
    before = wordsight.open(tmp_path / "lib", model).search("red", anyway=True)
    for damage in (index.read_bytes()[:300], b"", b"no index"):
        index.write_bytes(damage)
        again = wordsight.open(tmp_path / "lib", model).search("red", anyway=True)
        assert [hit.id for hit in again.hits] == [hit.id for hit in before.hits]
        assert index.stat().st_size > 1000
    index.unlink()
    again = wordsight.open(tmp_path / "lib", model).search("red", anyway=True)
    assert [hit.id for hit in again.hits] == [hit.id for hit in before.hits]


def test_a_library_that_fits_again_keeps_no_index(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    library = random_library(tmp_path / "lib", model, 400)
    assert list((tmp_path / "lib").glob("views-*.ann"))
    large(False)
    library.compact()
    assert not list((tmp_path / "lib").glob("views-*.ann"))


def test_an_empty_large_library_says_so(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    result = wordsight.create(tmp_path / "lib", model).search("red")
    assert not result.match
    assert result.explanation() == "The library is empty."


@pytest.mark.parametrize("wrong", ["lots", "inf", "1e400", "nan"])
def test_a_budget_that_is_no_number(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    library = random_library(tmp_path / "lib", model, 400)
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", wrong)
    with pytest.raises(LibraryError, match=f"WORDSIGHT_EXACT_MB='{wrong}': give a number of MiB"):
        library.search("red")


def test_recall_on_vectors_like_real_ones(data: Path, tmp_path: Path) -> None:
    """Words among the vectors of real images: the ten nearest are named nearly always."""
    folder = data / "clip-vectors"
    real = np.load(folder / "cifar10_test500_image_vectors.npy").astype(np.float32)
    words = np.load(folder / "lvis_text_vectors.npy").astype(np.float32)[:200]
    rng = np.random.default_rng(0)
    weights = rng.dirichlet((1.0, 1.0, 1.0), 8000)
    vectors = np.einsum("nk,nkd->nd", weights, real[rng.integers(0, 500, (8000, 3))])
    vectors = (vectors + rng.normal(scale=0.004, size=(8000, 512))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = ApproximateIndex.build(vectors[:2000], np.array_split(vectors, 3))
    index.save(tmp_path / "index")
    _, found = ApproximateIndex.load(tmp_path / "index").search(words, 200)
    best = np.argsort(-(words @ vectors.T), axis=1)[:, :10]
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)]
    assert np.mean(shares) > 0.98


def test_slices_answer_as_the_whole(
    tmp_path: Path,
    model: ColourModel,
    large: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large(True)
    monkeypatch.setattr(ann, "PART", 128)
    monkeypatch.setattr(large_module, "BLOCK", 128)
    place = random_library(tmp_path / "lib", model, 500, 2).path
    (version,) = large_module.indexed_versions(place)
    whole = LargeVersion.open(place, version)
    slices = [Slice.open(place, version, (n, 4)) for n in range(4)]
    assert [len(one) > 0 for one in slices] == [True] * 4

    def ask(name: str, *args: Any) -> Answers:
        return Answers([getattr(one, name)(*args) for one in slices], 1.0)

    cut = replace(whole, ask=ask, _nearby={})
    words = model.encode_texts(WORDS)
    for crops in (True, False):
        near, other = whole.nearest(words, 10, crops), cut.nearest(words, 10, crops)
        for name, column in near.known.items():
            np.testing.assert_array_equal(column, other.known[name])
        np.testing.assert_array_equal(whole.sample(crops), cut.sample(crops))
        one, many = whole.snapshot(near), cut.snapshot(other)
        for name in ("vectors", "starts", "rows", "ids", "mean", "sd"):
            np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    with pytest.raises(ValueError, match="cannot be cut into 100 slices"):
        Slice.open(place, version, (0, 100))


def test_an_index_of_an_earlier_version_is_read_whole(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    file = tmp_path / "index"
    index = ApproximateIndex.build(vectors, [vectors])
    index.save(file)
    table = 128 + 16  # bytes of what follows the checksum since
    file.write_bytes(file.read_bytes()[:-table])
    _, rows = ApproximateIndex.load(file).search(vectors[:3], 5)
    np.testing.assert_array_equal(rows, index.search(vectors[:3], 5)[1])
    with pytest.raises(ValueError, match="cannot be cut"):
        ApproximateIndex.load(file, (0, 2))


def test_the_command_line_searches_a_large_library(
    large: Callable[[bool], None], photos: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from wordsight.cli import main

    large(True)
    folder = str(photos(red=160, blue=160))
    for command in (
        ["index", folder, "--model", "starter", "--json"],
        ["search", "a ship", "--library", folder, "--anyway", "--json"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0
    assert list((Path(folder) / ".wordsight").glob("views-*.ann"))
    assert len(json.loads(capfd.readouterr().out.splitlines()[-1])["hits"]) == 10


def test_what_is_around_queries_names_its_rows(
    tmp_path: Path, model: ColourModel, large: Callable[[bool], None]
) -> None:
    large(True)
    random_library(tmp_path / "lib", model, 12_000)
    store = Store.open(tmp_path / "lib")
    snapshot = store.around(model.encode_texts(["red", "blue"]), k=5)
    assert snapshot.sampled is not None
    assert 7000 < snapshot.sampled < len(snapshot.ids) < 8700
    assert len(set(snapshot.ids.tolist())) == len(snapshot.ids)
    some = [0, 5, snapshot.sampled, -1]
    rows = store.rows(snapshot.rows[some].tolist(), snapshot.version)
    assert [row["id"] for row in rows] == [id_from_int(snapshot.ids[i]) for i in some]
    whole = store.snapshot()
    place = {int(number): i for i, number in enumerate(whole.ids)}
    chosen = [place[int(number)] for number in snapshot.ids]
    every = snapshot.vectors_of(np.arange(len(snapshot.rows)))
    np.testing.assert_array_equal(every, whole.vectors[chosen])
    query = model.encode_texts(["green"])
    np.testing.assert_allclose(snapshot.scores(query), query @ every.T, atol=1e-6)
    np.testing.assert_array_equal(snapshot.mean, whole.mean[chosen])


def test_what_a_search_does_does_not_grow_with_the_library(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the product, and the order of its scores. Work is counted, since no test asks for
    times: vectors that are looked at once more, and steps of the fit that says where hits end.
    """
    done = Counter[str]()
    vectors_of, step = Snapshot.vectors_of, relevance._Step.__call__

    def counting_vectors(snapshot: Snapshot, views: NDArray[np.intp]) -> NDArray[np.float32]:
        done["vectors"] += len(views)
        return vectors_of(snapshot, views)

    def counting_steps(fit: relevance._Step, law: Any) -> Any:
        done["steps"] += 1
        return step(fit, law)

    library = random_library(tmp_path / "lib", model, 10_000)
    library.search(WORDS)
    monkeypatch.setattr(Snapshot, "vectors_of", counting_vectors)
    monkeypatch.setattr(relevance._Step, "__call__", counting_steps)
    library.search(WORDS, anyway=True)
    assert 0 < done["vectors"] <= 700 * len(WORDS)
    assert 0 < done["steps"] <= 100 * len(WORDS)
