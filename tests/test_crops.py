"""Crops in the library: made, kept, reused, searched by max fusion."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight.errors import LibraryError, ModelError
from wordsight.models.maskrcnn import load_detector


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four white pictures, two of them with a small patch of colour."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, patch in {"a": "red", "b": "blue", "c": None, "d": None}.items():
        pixels = np.full((120, 160, 3), 250) + rng.integers(-5, 5, (120, 160, 3))
        if patch:
            pixels[5:35, 5:45] = ANCHORS[patch]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{name}.png")
    return root


def test_a_small_object_is_found_by_its_crop(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    report = library.index(folder, crops="tiles")
    assert report.indexed == 4
    assert report.views > 4
    assert library.has_crops
    hit = library.search("red", k=1, anyway=True, rank_by="score").hits[0]
    assert Path(hit.path).name == "a.png"
    assert hit.view.kind == "crop"
    assert hit.view.box is not None
    x0, y0, x1, y1 = hit.view.box
    assert 0 <= x0 < x1 <= 160
    assert 0 <= y0 < y1 <= 120
    assert x0 < 45
    assert y0 < 35
    plain = library.search("red", k=1, anyway=True, crops=False).hits[0]
    assert plain.view.kind == "image"
    assert plain.score < hit.score


def test_statistics_of_the_crops(folder: Path, tmp_path: Path, model: ColourModel) -> None:
    report = wordsight.create(tmp_path / "lib", model).index(folder, crops="tiles")
    assert report.crops is not None
    facts = report.crops.to_json()
    assert (facts["proposer"], facts["images"]) == ("tiles", 4)
    assert facts["crops"] == report.views - 4
    assert facts["min"] <= facts["median"] <= facts["max"]
    assert report.to_json()["crops"] == facts


def test_adding_crops_embeds_only_the_crops(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    before = dict(zip(*library.vectors(), strict=True))
    encoded = model.encoded_images
    report = library.index(folder, crops="tiles")
    assert report.crops is not None
    assert model.encoded_images - encoded == sum(report.crops.per_image)
    after = dict(zip(*library.vectors(), strict=True))
    for image_id, vector in before.items():
        np.testing.assert_array_equal(after[image_id], vector)
    fresh = wordsight.create(tmp_path / "fresh", ColourModel())
    fresh.index(folder, crops="tiles")
    for query in ("red", "blue"):
        here, there = (lib.search(query, anyway=True).hits for lib in (library, fresh))
        assert [h.id for h in here][:1] == [h.id for h in there][:1]
        np.testing.assert_allclose([h.score for h in here], [h.score for h in there], atol=1e-3)


def test_later_runs_keep_the_librarys_choice(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder, crops="tiles")
    assert library.index(folder).unchanged == 4
    Image.new("RGB", (160, 120), (20, 20, 220)).save(folder / "e.png")
    report = wordsight.open(tmp_path / "lib", model).index(folder)
    assert report.indexed == 1
    assert report.crops is not None
    assert report.crops.per_image[0] > 0


def test_a_choice_of_another_process_is_kept(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    """A server keeps its library open while crops are chosen on the command line."""
    server = wordsight.create(tmp_path / "lib", model)
    wordsight.open(tmp_path / "lib", model).index(folder, crops="tiles")
    Image.new("RGB", (160, 120), ANCHORS["red"]).save(folder / "e.png")
    report = server.index(folder)
    assert report.crops is not None
    assert report.crops.per_image
    server.index(folder, crops="none")
    assert wordsight.open(tmp_path / "lib", model).store.crops == "none"


def test_a_choice_that_could_not_be_written_is_made_again(
    folder: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "lib", model)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("wordsight.library.settings.write_atomically", full)
        with pytest.raises(LibraryError, match="no space left"):
            library.index(folder, crops="tiles")
    library.index(folder, crops="tiles")
    assert wordsight.open(tmp_path / "lib", model).store.crops == "tiles"


def test_a_detectors_directory_is_found_from_everywhere(
    folder: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = load_detector("starter-maskrcnn").path
    (tmp_path / "mine").symlink_to(starter, target_is_directory=True)
    library = wordsight.create(tmp_path / "lib", model)
    monkeypatch.chdir(tmp_path)
    library.index(folder, crops="mine")
    monkeypatch.chdir(folder)
    Image.new("RGB", (160, 120), ANCHORS["red"]).save("e.png")
    report = library.index(folder)
    assert report.crops is not None
    assert report.crops.proposer == "starter-maskrcnn"
    library.index(folder, crops="starter-maskrcnn")
    assert library.store.crops == "starter-maskrcnn"  # a name stays one


def test_a_copy_reuses_the_crops_too(folder: Path, tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder, crops="tiles")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    encoded = model.encoded_images
    report = library.index(folder)
    assert report.reused == 1
    assert model.encoded_images == encoded
    best = library.search("red", k=2, anyway=True, rank_by="score").hits
    assert {Path(h.path).name for h in best} == {"a.png", "copy.png"}
    assert best[0].view.box == best[1].view.box


def test_background_statistics_are_those_of_the_fused_score(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    library.index(folder, crops="tiles")
    snapshot = library.store.snapshot()
    _, bank = library.store.bank()
    fused = snapshot.fuse(bank @ snapshot.vectors.T)  # [B, N]
    np.testing.assert_allclose(snapshot.mean, fused.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(snapshot.sd, fused.std(axis=0), atol=1e-5)
    whole = bank @ snapshot.vectors[snapshot.starts].T
    np.testing.assert_allclose(snapshot.image_mean, whole.mean(axis=0), atol=1e-5)


def test_tiny_images_have_no_crops_and_no_error(tmp_path: Path, model: ColourModel) -> None:
    (tmp_path / "p").mkdir()
    Image.new("RGB", (20, 20), (220, 20, 20)).save(tmp_path / "p" / "a.png")
    library = wordsight.create(tmp_path / "lib", model)
    report = library.index(tmp_path / "p", crops="tiles")
    assert (report.indexed, report.views) == (1, 1)
    assert library.index(tmp_path / "p").unchanged == 1


def test_images_no_larger_than_the_encoders_input_gain_nothing(
    tmp_path: Path, model: ColourModel
) -> None:
    (tmp_path / "p").mkdir()
    Image.new("RGB", (300, 200), (220, 20, 20)).save(tmp_path / "p" / "a.png")
    model.image_size = (200, 200)
    report = wordsight.create(tmp_path / "lib", model).index(tmp_path / "p", crops="tiles")
    assert (report.indexed, report.views) == (1, 1)


def test_an_unknown_proposer_is_an_error(folder: Path, tmp_path: Path, model: ColourModel) -> None:
    with pytest.raises(ModelError):
        wordsight.create(tmp_path / "lib", model).index(folder, crops="nonsense")
    assert not wordsight.open(tmp_path / "lib", model).has_crops
