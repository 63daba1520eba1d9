"""The pipeline's bounds: what is decoded at once, and that bounds change no result."""

from __future__ import annotations

import random
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight import indexing
from wordsight.indexing import MemoryBudget
from wordsight.sources.base import Item


class Recorded(MemoryBudget):
    """Keeps what was asked for, of all budgets of a test."""

    asked: list[int]
    made: list[MemoryBudget]

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.made.append(self)

    def hold(self, count: int):  # type: ignore[no-untyped-def]
        self.asked.append(count)
        return super().hold(count)


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(indexing, "MemoryBudget", Recorded)
    Recorded.asked, Recorded.made = [], []
    return Recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes and formats."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i, (colour, suffix) in enumerate(
        (colour, suffix) for colour in ANCHORS for suffix in ("png", "jpg", "tif", "bmp")
    ):
        shape = (150 + 40 * (i % 5), 200 + 30 * (i % 4), 3)
        pixels = np.array(ANCHORS[colour]) + rng.integers(-15, 15, shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{i}.{suffix}")
    return root


def vectors(library: wordsight.Library) -> dict[str, np.ndarray]:
    ids = [entry.id for entry in library.store.entries()]
    return {
        Path(image.path).name: np.stack([view.vector for view in image.views])
        for image in library.store.images(ids)
    }


def test_the_budget_is_kept_by_many_threads() -> None:
    budget = MemoryBudget(100)
    rng = random.Random(0)
    held: list[int] = []
    lock = threading.Lock()
    seen: list[tuple[int, int]] = []

    def work(count: int) -> None:
        with budget.hold(count):
            with lock:
                held.append(count)
                seen.append((sum(held), len(held)))
            time.sleep(0.0005)
            with lock:
                held.remove(count)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [rng.choice([1, 30, 60, 100, 250]) for _ in range(300)]))
    assert all(total <= 100 or alone == 1 for total, alone in seen)
    assert budget.peak == 250
    with budget.hold(100):  # all was given back
        pass


def test_the_budget_is_given_back_after_an_error() -> None:
    budget = MemoryBudget(10)
    with pytest.raises(RuntimeError), budget.hold(10):
        raise RuntimeError
    with budget.hold(10):
        pass


@pytest.mark.parametrize("crops", ["none", "tiles"])
def test_a_small_budget_is_kept_and_changes_nothing(
    folder: Path,
    tmp_path: Path,
    model: ColourModel,
    budgets: type[Recorded],
    monkeypatch: pytest.MonkeyPatch,
    crops: str,
) -> None:
    plain = wordsight.create(tmp_path / "plain", model)
    plain.index(folder, crops=crops)
    monkeypatch.setattr(indexing, "DECODE_BYTES", 500_000)
    budgets.asked.clear()
    bounded = wordsight.create(tmp_path / "bounded", model)
    report = bounded.index(folder, crops=crops)
    assert report.indexed == 24
    assert not report.failed
    assert len(budgets.asked) == 24
    assert min(budgets.asked) < 250_000  # two fit
    assert max(budgets.asked) > 400_000
    assert budgets.made[-1].peak <= max(500_000, *budgets.asked)
    one, two = vectors(plain), vectors(bounded)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_large_files_are_decoded_from_the_disk_alone(
    folder: Path,
    tmp_path: Path,
    model: ColourModel,
    budgets: type[Recorded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = wordsight.create(tmp_path / "plain", model)
    plain.index(folder)
    monkeypatch.setattr(indexing, "LARGE_FILE", 20_000)
    large = {file.name for file in folder.iterdir() if file.stat().st_size > 20_000}
    assert 6 <= len(large) < 24
    read = Item.read
    whole: list[str] = []

    def noted(item: Item) -> bytes:
        whole.append(Path(item.path).name)
        return read(item)

    monkeypatch.setattr(Item, "read", noted)
    budgets.asked.clear()
    streamed = wordsight.create(tmp_path / "streamed", model)
    assert streamed.index(folder).indexed == 24
    assert not large & set(whole)
    assert budgets.asked.count(indexing.DECODE_BYTES) == len(large)
    one, two = vectors(plain), vectors(streamed)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    # In an archive too they go alone, and are known by their bytes.
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(folder, "photos")
    report = streamed.index(tmp_path / "photos.tar")
    assert (report.reused, report.failed) == (24, [])


def test_boxes_of_crops_are_in_pixels_of_the_original(
    folder: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = wordsight.create(tmp_path / "full", model)
    full.index(folder, crops="tiles")
    monkeypatch.setattr(indexing, "reduced_side_for_crops", lambda _side: 70)
    reduced = wordsight.create(tmp_path / "reduced", model)
    reduced.index(folder, crops="tiles")
    ids = [entry.id for entry in full.store.entries()]
    pairs = zip(full.store.images(ids), reduced.store.images(ids), strict=True)
    compared = 0
    for one, two in pairs:
        assert (one.width, one.height) == (two.width, two.height)
        # Coarse levels of tiles are the same; fine ones need the pixels that were left out.
        for a, b in zip(one.views[1:7], two.views[1:7], strict=False):
            assert a.box is not None
            assert b.box is not None
            assert np.abs(np.subtract(a.box, b.box)).max() <= 5
            assert b.box[2] <= two.width
            assert b.box[3] <= two.height
            compared += 1
    assert compared > 50


def test_photographs_of_up_to_24_megapixels_keep_every_pixel_for_their_crops() -> None:
    for side in (32, 224, 336, 384):
        assert indexing.reduced_side_for_crops(side) > 4000 // 2
