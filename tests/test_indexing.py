"""What a run changes and leaves alone; the bounds on what is decoded at once, and that these
change no result.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight import regions
from wordsight.errors import LibraryError, SourceError
from wordsight.indexing import MemoryBudget, decoding, pipeline
from wordsight.sources import open_source
from wordsight.sources.base import Item


class Recorded(MemoryBudget):
    """Keeps what was asked for, of all budgets of a test."""

    asked: list[int]
    asked_first: list[int]
    made: list[MemoryBudget]

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.made.append(self)

    def hold(self, count: int, *, first: bool = False):  # type: ignore[no-untyped-def]
        (self.asked_first if first else self.asked).append(count)
        return super().hold(count, first=first)


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(decoding, "MemoryBudget", Recorded)
    Recorded.asked, Recorded.asked_first, Recorded.made = [], [], []
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


def test_who_goes_first_waits_for_nobody_else_that_waits() -> None:
    budget = MemoryBudget(10)
    order: list[str] = []

    def work(name: str, count: int, first: bool) -> None:
        with budget.hold(count, first=first):
            order.append(name)

    with ThreadPoolExecutor(4) as pool, budget.hold(6):
        pool.submit(work, "large", 20, False)
        pool.submit(work, "first", 10, True)
        while not budget._first:
            time.sleep(0.001)
        pool.submit(work, "small", 1, False)
        time.sleep(0.01)  # it would fit
        assert order == []
    assert order[0] == "first"
    assert sorted(order) == ["first", "large", "small"]


def test_who_goes_first_and_gives_up_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(10)

    def interrupted(_: Callable[[], bool]) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(budget._changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), budget.hold(1, first=True):
            pass
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
    monkeypatch.setattr(decoding, "DECODE_BYTES", 500_000)
    budgets.asked.clear()
    budgets.asked_first.clear()
    bounded = wordsight.create(tmp_path / "bounded", model)
    report = bounded.index(folder, crops=crops)
    assert budgets.asked_first == [250_000]  # while the encoder is opened
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
    monkeypatch.setattr(decoding, "LARGE_FILE", 20_000)
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
    assert budgets.asked.count(decoding.DECODE_BYTES) == len(large)
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
    monkeypatch.setattr(decoding, "reduced_side_for_crops", lambda _side: 70)
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


def test_regions_are_proposed_while_the_encoder_works(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 16th image's regions wait for the encoder, which waits for them in its first batch.

    That batch is of the first 13 images, with four tiles each.
    """
    encoding, proposed = threading.Event(), threading.Event()
    together: list[bool] = []
    propose, encode = regions.propose, model.encode_pixels

    def waiting_propose(images: list[Image.Image], proposer: Any) -> Any:
        if images[0].getpixel((0, 0)) == (15, 20, 20):
            together.append(encoding.wait(60))
            proposed.set()
        return propose(images, proposer)

    def waiting_encode(pixels: Any) -> Any:
        encoding.set()
        together.append(proposed.wait(60))
        return encode(pixels)

    monkeypatch.setattr(regions, "propose", waiting_propose)
    monkeypatch.setattr(model, "encode_pixels", waiting_encode)
    root = tmp_path / "large"
    root.mkdir()
    for i in range(20):
        Image.new("RGB", (160, 120), (i, 20, 20)).save(root / f"{i:02}.png")
    report = wordsight.create(tmp_path / "lib", model).index(root, crops="tiles")
    assert report.indexed == 20
    assert all(together)


def test_photographs_of_up_to_24_megapixels_keep_every_pixel_for_their_crops() -> None:
    for side in (32, 224, 336, 384):
        assert decoding.reduced_side_for_crops(side) > 4000 // 2


# What a run changes and what it leaves alone

Photos = Callable[..., Path]


def names(library: wordsight.Library) -> list[str]:
    return sorted(Path(entry.path).name for entry in library.store.entries())


def labels(library: wordsight.Library) -> dict[str, str | None]:
    return {Path(entry.path).name: entry.label for entry in library.store.entries()}


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def test_a_link_in_a_circle_stops_nothing(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    (folder / "loop").symlink_to("loop")
    report = wordsight.create(tmp_path / "lib", model).index(folder)
    assert report.images == 2
    assert [(Path(f.path).name, f.reason) for f in report.failed] == [
        ("loop", "a link that leads back to itself")
    ]


def test_a_source_that_cannot_be_listed_is_no_fault_of_the_library(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(photos(red=1))

    def refuse(_self: object) -> list[Item]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(source), "items", refuse)
    library = wordsight.create(tmp_path / "lib", model)
    with pytest.raises(SourceError, match="photos: no permission to read it"):
        library.index_sources([source])


def test_prune_of_a_file_is_of_that_file_alone(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    for seed, name in enumerate(("photo.png", "photo.png.webp", "photo.pngs/1.png")):
        picture(folder / name, seed)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "photo.png.webp").unlink()
    report = library.index(folder / "photo.png", prune=True)
    assert (report.removed, report.images) == (0, 3)
    assert library.index(folder, prune=True).removed == 1
    assert names(library) == ["1.png", "photo.png"]


def test_what_could_not_be_looked_into_keeps_no_namesakes(
    tmp_path: Path, model: ColourModel
) -> None:
    folder = tmp_path / "in"
    for seed, name in enumerate(("a.png", "album/1.png", "album2/2.png", "album.png")):
        picture(folder / name, seed)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    shutil.rmtree(folder / "album")
    (folder / "album").symlink_to("album")  # a problem of this listing
    shutil.rmtree(folder / "album2")
    (folder / "album.png").unlink()
    report = library.index(folder, prune=True)
    assert (len(report.failed), report.removed) == (1, 2)
    assert names(library) == ["1.png", "a.png"]


def test_prune_leaves_what_was_in_a_folder_that_is_empty(
    tmp_path: Path, model: ColourModel
) -> None:
    """As that of a drive that is not connected is."""
    for folder in ("drive", "home"):
        picture(tmp_path / folder / "a.png", 0)
        picture(tmp_path / folder / "b.png", 1 + (folder == "home"))
    library = wordsight.create(tmp_path / "lib", model)
    sources = [tmp_path / "drive", tmp_path / "home"]
    library.index(sources)
    for path in (tmp_path / "drive").iterdir():
        path.unlink()
    (tmp_path / "home" / "a.png").unlink()
    report = library.index(sources, prune=True)
    assert (report.removed, report.images) == (1, 3)
    (failure,) = report.failed
    assert failure.path == str(tmp_path / "drive")
    assert "the 2 images that the library has from it stay" in failure.reason
    (tmp_path / "drive" / "note.txt").write_text("all deleted")
    assert library.index(sources, prune=True).removed == 0
    assert library.index(sources, prune="force").removed == 2


def test_a_file_that_is_no_image_any_more_is_not_found(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    for i in range(3):
        picture(folder / f"{i}.png", i)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "0.png").write_text("no image")
    (folder / "1.png").chmod(0)
    report = library.index(folder)
    assert report.removed == 1
    assert "0.png" not in names(library)
    assert "1.png" in names(library)
    (folder / "1.png").chmod(0o600)


def test_prune_of_a_folder_that_holds_archives_alone(tmp_path: Path, model: ColourModel) -> None:
    picture(tmp_path / "in" / "a.png", 0)
    picture(tmp_path / "in" / "b.png", 1)
    with tarfile.open(tmp_path / "in" / "x.tar", "w") as tar:
        tar.add(tmp_path / "in" / "b.png", "c.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index([tmp_path / "in", tmp_path / "in" / "x.tar"])
    (tmp_path / "in" / "a.png").unlink()
    (tmp_path / "in" / "b.png").unlink()
    report = library.index(tmp_path / "in", prune="force")
    assert [failure.path for failure in report.failed] == [str(tmp_path / "in")]
    assert names(library) == ["x.tar::c.png"]


def test_prune_leaves_files_that_were_named_by_themselves(
    tmp_path: Path, model: ColourModel
) -> None:
    folder = tmp_path / "in"
    picture(folder / "a.png", 0)
    picture(folder / ".hidden" / "b.png", 1)
    picture(folder / "c.png", 2)
    (folder / "c.png").rename(folder / "c")  # of no suffix by which folders pick out images
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder, folder / ".hidden", folder / "c"])
    assert library.index(folder, prune=True).removed == 0
    (folder / "c").unlink()
    shutil.rmtree(folder / ".hidden")
    assert library.index(folder, prune="force").removed == 2
    assert names(library) == ["a.png"]


def test_prune_of_links_to_a_folder_that_moved_in(tmp_path: Path, model: ColourModel) -> None:
    picture(tmp_path / "in" / "a.png", 0)
    picture(tmp_path / "out" / "b.png", 1)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    library = wordsight.create(tmp_path / "lib", model)
    assert library.index(tmp_path / "in").images == 2
    (tmp_path / "out").rename(tmp_path / "in" / "out")
    (tmp_path / "in" / "link").unlink()
    (tmp_path / "in" / "link").symlink_to("out")
    assert library.index(tmp_path / "in", prune=True).images == 2  # under its own name alone
    assert {Path(e.path).parent.name for e in library.store.entries()} == {"in", "out"}


def test_what_was_skipped_is_kept_once_and_for_its_place_alone(
    tmp_path: Path, model: ColourModel
) -> None:
    folder = tmp_path / "in"
    picture(folder / "good.png", 0)
    for name in ("bad.png", "bad.png.jpg"):
        (folder / name).write_bytes(b"no image")
    tar = folder / "x.tar"
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder / "good.png", "good.png")
        archive.add(folder / "bad.png", "inner.png")
    whole = tar.read_bytes()
    tar.write_bytes(whole[:2048])  # without an end mark
    library = wordsight.create(tmp_path / "lib", model)

    def skipped() -> list[str]:
        return sorted(Path(path).name for path, _ in library.store.skipped())

    library.index([folder, folder])
    assert skipped() == ["bad.png", "bad.png.jpg"]
    library.index(tar)
    everything = ["bad.png", "bad.png.jpg", "x.tar", "x.tar::inner.png"]
    assert skipped() == everything
    library.index(tar)
    assert skipped() == everything
    picture(folder / "bad.png", 1)
    library.index(folder / "bad.png")
    assert skipped() == everything[1:]
    library.index(folder)
    assert "x.tar::inner.png" in skipped()
    tar.write_bytes(whole)
    library.index(tar)
    assert skipped() == ["bad.png.jpg", "x.tar::inner.png"]


def test_files_of_a_far_future_are_indexed(
    folder: Path, tmp_path: Path, model: ColourModel
) -> None:
    """Some file systems keep times that are more nanoseconds than an int64 holds."""

    class Late:
        name, root, problems = str(folder), str(folder / "_")[:-1], ()
        later = 0

        def items(self) -> list[Item]:
            listed = open_source(folder).items()
            return [dataclasses.replace(i, mtime_ns=14 * 10**18 + self.later) for i in listed]

    library, source = wordsight.create(tmp_path / "lib", model), Late()
    indexed = library.index_sources([source]).indexed
    assert indexed == len(library) == len(list(folder.iterdir()))
    seen: list[int] = []
    report = library.index_sources([source], progress=lambda _, todo: seen.append(todo))
    assert (report.unchanged, seen) == (indexed, [])
    source.later = 1
    library.index_sources([source], progress=lambda _, todo: seen.append(todo))
    assert set(seen) == {indexed}


def test_a_source_that_is_named_twice_counts_once(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    (folder / "bad.png").symlink_to("nowhere")
    report = wordsight.create(tmp_path / "lib", model).index([folder, folder, folder / "red-0.png"])
    assert (report.indexed, report.unchanged, len(report.failed)) == (2, 0, 1)


def test_names_may_hold_the_mark_of_members(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    for seed, name in enumerate(("a::b.png", "c::d.png", "e.png", "f::g/h.png")):
        picture(folder / name, seed)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (tmp_path / "copies").mkdir()
    shutil.copy(folder / "a::b.png", tmp_path / "copies" / "copy.png")
    report = library.index(tmp_path / "copies")
    assert (report.reused, report.removed, report.images) == (1, 0, 5)
    assert library.index(folder, prune=True).removed == 0
    (folder / "c::d.png").unlink()
    shutil.rmtree(folder / "f::g")
    assert library.index(folder, prune=True).removed == 2
    assert names(library) == ["a::b.png", "copy.png", "e.png"]
    (folder / "a::b.png").rename(folder / "moved.png")
    report = library.index(folder)
    assert (report.reused, report.removed) == (1, 1)


def test_copies_move_together(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    for name in ("1.png", "2.png", "3.png"):
        picture(folder / "old" / name, 0)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "old").rename(folder / "new")
    report = library.index(folder)
    assert (report.reused, report.removed, report.images) == (3, 3, 3)
    os.utime(folder / "new" / "1.png", ns=(1, 1))
    report = library.index(folder)
    assert (report.unchanged, report.reused, report.images) == (3, 0, 3)


def test_members_go_with_their_archive(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "holi::days"
    picture(folder / "a.png", 0)
    picture(tmp_path / "b.png", 1)
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(tmp_path / "b.png", "b::c.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder, folder / "x.tar"])
    assert library.index(folder, prune=True).removed == 0
    shutil.copy(tmp_path / "b.png", folder / "copy.png")
    assert library.index(folder).removed == 0  # the member is there still
    (folder / "x.tar").unlink()
    assert library.index(folder, prune=True).removed == 1
    assert names(library) == ["a.png", "copy.png"]


def test_what_cannot_be_looked_at_has_not_moved(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (tmp_path / "copies").mkdir()
    shutil.copy(folder / "red-0.png", tmp_path / "copies" / "copy.png")
    stat = os.stat

    def refuse(path: str, **options: bool) -> os.stat_result:
        if str(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refuse)
        report = library.index(tmp_path / "copies")
    assert (report.reused, report.removed) == (1, 0)


def test_a_stopped_run_leaves_no_old_place_of_what_it_moved(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "red-0.png").rename(folder / "moved-0.png")
    (folder / "red-1.png").rename(folder / "moved-1.png")

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.index(folder, progress=stop)
    assert names(library) == ["moved-0.png", "red-1.png"]
    library.index(folder)
    assert names(library) == ["moved-0.png", "moved-1.png"]


def test_a_write_that_fails_removes_no_old_place(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "red-0.png").rename(folder / "moved.png")

    def full(*_args: object, **_kw: object) -> None:
        raise LibraryError("no space left")

    monkeypatch.setattr(pipeline, "WRITE_EVERY", 1)
    monkeypatch.setattr(type(library.store), "put", full)
    with pytest.raises(LibraryError, match="no space left"):
        library.index(folder)
    monkeypatch.undo()
    assert names(library) == ["red-0.png", "red-1.png"]


def test_labels_follow_the_folders(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    picture(folder / "dog" / "1.png", 1)
    picture(folder / "dog" / "2.png", 2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    before = vectors(library)
    assert labels(library) == {"1.png": None, "2.png": None}
    picture(folder / "cat" / "3.png", 3)
    read = Item.read
    seen: list[str] = []

    def noted(item: Item) -> bytes:
        seen.append(Path(item.path).name)
        return read(item)

    monkeypatch.setattr(Item, "read", noted)
    encoded = model.encoded_images
    report = library.index(folder)
    assert (report.indexed, report.unchanged, report.images, report.views) == (1, 2, 3, 3)
    assert report.relabelled == report.to_json()["relabelled"] == 2
    assert seen == ["3.png"]  # labels need no image
    assert model.encoded_images == encoded + 1
    assert labels(library) == {"1.png": "dog", "2.png": "dog", "3.png": "cat"}
    assert len(library.search("red", label="dog", anyway=True).hits) == 2
    after = vectors(library)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    version = library.store.version
    report = library.index(folder)
    assert (report.unchanged, report.relabelled) == (3, 0)
    assert library.store.version == version  # nothing to do the second time
    shutil.rmtree(folder / "cat")
    report = library.index(folder, prune=True)
    assert (report.unchanged, report.removed) == (2, 1)
    assert labels(library) == {"1.png": None, "2.png": None}


def test_labels_stay_while_a_part_cannot_be_seen(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive = tmp_path / "in", tmp_path / "x.tar"
    for number, place in enumerate(("dog/1.png", "dog/2.png", "wolf/3.png")):
        picture(folder / place, number)
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "dog", "dog")
        middle = tar.offset
        tar.add(folder / "wolf", "wolf")
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder, archive])
    before = library.store.labels()
    assert set(before.values()) == {"dog", "wolf"}
    scandir = os.scandir

    def refuse(place: str) -> object:
        if place == str(folder / "wolf"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    whole = archive.read_bytes()
    archive.write_bytes(whole[: middle + 100])
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        report = library.index([folder, archive], prune=True)
    assert (len(report.failed), report.relabelled, report.removed) == (2, 0, 0)
    assert library.store.labels() == before
    archive.write_bytes(whole)
    shutil.rmtree(folder / "wolf")
    report = library.index([folder, archive], prune=True)
    assert (report.relabelled, report.removed) == (2, 1)  # now it is seen that there is one class


def test_labels_with_crops(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "dog").mkdir()
    Image.new("RGB", (300, 200), (220, 20, 20)).save(folder / "dog" / "1.png")
    library = wordsight.create(tmp_path / "lib", model)
    views = library.index(folder, crops="tiles").views
    assert views > 1
    picture(folder / "cat" / "2.png", 2)
    report = library.index(folder)
    assert (report.unchanged, report.images, report.views) == (1, 2, views + 1)
    assert report.crops is not None
    assert report.crops.per_image == [0]
    assert labels(library) == {"1.png": "dog", "2.png": "cat"}


def test_a_source_that_knows_no_labels_leaves_them(tmp_path: Path, model: ColourModel) -> None:
    folder = tmp_path / "in"
    picture(folder / "dog" / "1.png", 1)
    picture(folder / "cat" / "2.png", 2)
    known = {"1.png": "dog", "2.png": "cat"}
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    one = folder / "dog" / "1.png"
    for place in (one, folder / "dog", [folder, one], [one, folder], tmp_path):
        version = library.store.version
        library.index(place)
        assert labels(library) == known
        assert library.store.version == version
    picture(one, 3)
    assert library.index(one).indexed == 1
    assert labels(library) == known
    picture(one, 4)
    assert library.index(folder / "dog").indexed == 1
    assert labels(library) == known
    shutil.rmtree(folder / "cat")
    library.index(folder, prune=True)  # the source that gave the label takes it back
    assert labels(library) == {"1.png": None}
    fresh = wordsight.create(tmp_path / "fresh", model)
    picture(folder / "cat" / "2.png", 2)
    fresh.index([folder, folder / "cat", one])
    assert labels(fresh) == known


# Images in memory


def test_of_a_name_that_is_added_twice_the_last_image_counts(
    tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    red, green, blue = (Image.new("RGB", (9, 9), ANCHORS[c]) for c in ("red", "green", "blue"))
    ids = library.add([red, green, blue], ["n", "m", "n"], ["1", "2", "3"])
    assert ids[0] == ids[2] != ids[1]
    assert len(library) == 2
    assert labels(library) == {"n": "3", "m": "2"}
    assert library.search("blue", anyway=True).hits[0].path == "n"
    assert len(library.add([red], ["n"])) == 1
    assert len(library) == 2
    assert library.remove(ids[:1]) == 1


@pytest.mark.parametrize(
    ("names", "labels", "why"),
    [
        (["a"], None, "1 names for 2 images"),
        (["a", "b", "c"], None, "3 names for 2 images"),
        (["a", "b"], ["x"], "1 labels for 2 images"),
        (["a", "b\udcff"], None, "names: .* is not valid UTF-8"),
        (["a", "b"], [None, "\ud800"], "labels: .* is not valid UTF-8"),
    ],
)
def test_what_cannot_be_added_is_refused_before_it_is_embedded(
    tmp_path: Path, model: ColourModel, names: list[str], labels: list[str] | None, why: str
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    image = Image.new("RGB", (9, 9))
    with pytest.raises(ValueError, match=why):
        library.add([image, image], names, labels)
    assert model.encoded_images == 0
    assert len(library) == 0
