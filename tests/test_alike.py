"""The decision on queries by image: what belongs to a library matches, what does not is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel

import wordsight
from wordsight.library import ImageRecord, ModelRecord, Store, ViewRecord, id_to_int
from wordsight.search.alike import own_images

Photos = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path, photos: Photos, model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)
    made.index(photos(red=30, blue=30))
    return made


@pytest.fixture
def asked(photos: Photos) -> Path:
    """Pictures that the library does not hold."""
    return photos("asked", red=1, green=1, yellow=1)


def test_an_image_matches_where_the_library_holds_the_like(
    library: wordsight.Library, asked: Path
) -> None:
    result = library.search(asked / "red-0.png", 5)
    assert result.verdict == "match"
    assert all(Path(hit.path).name.startswith("red") for hit in result.hits)
    assert "of the library's own images are as far" in result.explanation()
    told = result.to_json()
    assert told["match"]
    assert told["certainty"] > 0.5
    assert told["belonging"] > 0.05
    assert told["false_accept"] == 0.05


def test_an_image_of_what_is_not_there_gets_no_hits(
    library: wordsight.Library, asked: Path
) -> None:
    result = library.search(asked / "green-0.png", 5)
    assert (result.verdict, result.hits) == ("none", [])
    assert result.explanation().startswith("Nothing is like it")
    assert result.to_json()["certainty"] < 0.5
    assert len(library.search(asked / "green-0.png", 5, anyway=True).hits) == 5


def test_another_library_in_the_same_place_is_judged_by_its_own_images(
    library: wordsight.Library, asked: Path, photos: Photos, model: ColourModel, tmp_path: Path
) -> None:
    assert library.search(asked / "red-0.png").verdict == "match"
    version = library.store.version
    shutil.rmtree(library.path)
    made = wordsight.create(library.path, model)
    made.index(photos("others", green=20, yellow=20))
    assert made.store.version == version
    assert library.search(asked / "red-0.png").verdict == "none"
    assert library.search(asked / "green-0.png").verdict == "match"


def test_a_combination_matches_by_the_best_of_its_terms(
    library: wordsight.Library, asked: Path
) -> None:
    green, red = (f'@"{asked / f"{colour}-0.png"}"' for colour in ("green", "red"))
    assert library.search(f'{green} + "red"').match
    assert library.search(f'{red} + "a trombone"').match
    assert library.search(f'{green} + "a trombone"').verdict != "match"


def test_of_a_part_of_the_library_both_must_fit(library: wordsight.Library, asked: Path) -> None:
    red = asked / "red-0.png"
    assert library.search(red, where="path like '%red-%'").match
    assert library.search(red, where="path like '%blue-%'").verdict == "none"


def test_few_images_are_no_reason_to_refuse(
    tmp_path: Path, photos: Photos, model: ColourModel, asked: Path
) -> None:
    """Of ten images none can say what one in twenty gets."""
    for count in (1, 2, 10):
        made = wordsight.create(tmp_path / f"few-{count}", model)
        made.index(photos(f"few-{count}-photos", red=count))
        assert made.search(asked / "green-0.png").verdict != "none"


def test_a_large_library_answers_the_same(
    library: wordsight.Library, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [asked / f"{colour}-0.png" for colour in ("red", "green", "yellow")]
    small = [library.search(picture).verdict for picture in pictures]
    monkeypatch.setattr(Store, "is_large", True)
    again = wordsight.open(library.path, model=library.model)
    assert [again.search(picture).verdict for picture in pictures] == small


def test_of_real_vectors_few_that_belong_are_refused_and_most_that_do_not_are_no_match(
    tmp_path: Path, data: Path
) -> None:
    """CIFAR-10 by ViT-B/32: each image asked for without itself, and without all of its class."""
    vectors = np.load(data / "clip-vectors/cifar10_test500_image_vectors.npy").astype(np.float32)
    labels = np.load(data / "clip-vectors/cifar10_test500_labels.npy")
    records = [
        ImageRecord(f"{i:016x}", f"/{i}", "/", 1, 1, str(i), 32, 32, views=[ViewRecord(vector)])
        for i, vector in enumerate(vectors)
    ]
    model = ModelRecord("ViT", "ViT", "0" * 16, 512, "none")
    words = [f"word {i}" for i in range(30)]  # not asked for
    store = Store.create(tmp_path / "real", model, words, vectors[:30])
    store.put(records, replace=False)
    snapshot = store.snapshot()
    own = own_images(store, snapshot, crops=True)
    place = {int(number): at for at, number in enumerate(snapshot.ids)}
    order = np.array([place[id_to_int(record.id)] for record in records])
    there, absent = [], []
    for i, vector in enumerate(vectors):
        for places, verdicts in ((order[[i]], there), (order[labels == labels[i]], absent)):
            chosen = np.ones(len(vectors), bool)
            chosen[places] = False
            (fit,) = own.each(snapshot, [vector], 0.05, crops=True, chosen=chosen)
            verdicts.append(fit.verdict)
    assert np.mean(np.array(there) == "none") < 0.08
    assert np.mean(np.array(there) == "match") > 0.55
    assert np.mean(np.array(absent) == "match") < 0.2
    assert np.mean(np.array(absent) == "none") > 0.35
