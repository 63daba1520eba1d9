"""The library: what is kept, found again, refused, and what survives accidents."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel
from PIL import Image

import wordsight
from wordsight.errors import (
    LibraryChangedError,
    LibraryError,
    ModelError,
    ModelMismatchError,
    SourceError,
    StorageError,
)
from wordsight.library import Store, default_location, files, find, id_from_int, id_to_int
from wordsight.search import make_kinds

Photos = Callable[..., Path]


def by_name(library: wordsight.Library) -> dict[str, np.ndarray]:
    paths = {e.id: Path(e.path).name for e in library.store.entries()}
    ids, vectors = library.vectors()
    return {paths[i]: v for i, v in zip(ids, vectors, strict=True)}


def test_index_twice_does_nothing_the_second_time(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=3, blue=2)
    library = wordsight.create(tmp_path / "lib", model)
    first = library.index(folder)
    assert (first.indexed, first.unchanged, first.images, first.views) == (5, 0, 5, 5)
    assert len(library) == 5
    encoded = model.encoded_images
    second = library.index(folder)
    assert (second.indexed, second.unchanged, second.images) == (0, 5, 5)
    assert model.encoded_images == encoded


def test_vectors_are_those_of_the_model(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    folder = photos(red=2, green=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    for name, vector in by_name(library).items():
        expected = model.encode_images([Image.open(folder / name)])[0]
        np.testing.assert_allclose(vector, expected, atol=1e-3)  # stored as float16


def test_large_photographs_are_decoded_small_and_recorded_whole(
    tmp_path: Path, model: ColourModel
) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (2400, 1600), (200, 30, 30)).save(tmp_path / "in" / "a.jpg", exif=exif)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(tmp_path / "in")
    (entry,) = library.store.images([library.search("red").hits[0].id])
    assert (entry.width, entry.height) == (1600, 2400)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_small_decoding_keeps_the_vectors_of_photographs(
    tmp_path: Path, data: Path, suffix: str
) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(data / "coco-captions" / "images.tar") as tar:
        members = [m for m in tar if m.isfile()][::40]
        for member in members:
            file = tar.extractfile(member)
            assert file
            photo = Image.open(file).convert("RGB")
            # As large as a camera's, so that the small decoding has something to leave out.
            photo = photo.resize((photo.width * 3, photo.height * 3), Image.Resampling.BICUBIC)
            file_name = Path(member.name).with_suffix(suffix).name
            photo.save(tmp_path / "in" / file_name, quality=90, compress_level=1)
    model = wordsight.load_model("starter", runtime="onnxruntime")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(tmp_path / "in")
    for name, vector in by_name(library).items():
        with Image.open(tmp_path / "in" / name) as photo:
            assert float(model.encode_images([photo])[0] @ vector) > 0.995


def test_touched_file_is_unchanged(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    encoded = model.encoded_images
    os.utime(folder / "red-0.png", ns=(1, 1))
    assert library.index(folder).unchanged == 2
    assert model.encoded_images == encoded
    assert library.index(folder).unchanged == 2


def test_copied_file_reuses_vectors(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    encoded = model.encoded_images
    shutil.copy(folder / "red-0.png", folder / "copy.png")
    report = library.index(folder)
    assert (report.reused, report.indexed, report.images) == (1, 0, 3)
    assert model.encoded_images == encoded
    vectors = by_name(library)
    np.testing.assert_array_equal(vectors["copy.png"], vectors["red-0.png"])


def test_moved_file_leaves_its_old_place(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    encoded = model.encoded_images
    (folder / "sub").mkdir()
    (folder / "red-0.png").rename(folder / "sub" / "moved.png")
    report = library.index(folder)
    assert (report.reused, report.removed, report.images) == (1, 1, 2)
    assert model.encoded_images == encoded
    assert set(by_name(library)) == {"moved.png", "red-1.png"}


def test_changed_file_is_replaced(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    folder = photos(red=2, blue=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    Image.new("RGB", (30, 30), (20, 200, 20)).save(folder / "red-0.png")
    report = library.index(folder)
    assert (report.indexed, report.unchanged, report.images) == (1, 2, 3)
    assert Path(library.search("green").hits[0].path).name == "red-0.png"


def test_files_that_swap_contents_swap_vectors(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=1, blue=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    red, blue = folder / "red-0.png", folder / "blue-0.png"
    red.rename(folder / "x")
    blue.rename(red)
    (folder / "x").rename(blue)
    for path in (red, blue):
        os.utime(path, ns=(5, 5))
    library.index(folder)
    assert Path(library.search("blue").hits[0].path).name == "red-0.png"
    assert Path(library.search("red").hits[0].path).name == "blue-0.png"


def test_swap_where_one_side_is_new_content(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    """The donor of a reused vector is itself replaced in the same run."""
    folder = photos(red=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    (folder / "red-0.png").rename(folder / "z-moved.png")
    Image.new("RGB", (9, 9), (20, 20, 220)).save(folder / "red-0.png")
    library.index(folder)
    assert Path(library.search("red", anyway=True).hits[0].path).name == "z-moved.png"
    assert Path(library.search("blue", anyway=True).hits[0].path).name == "red-0.png"


def test_deleted_files_go_with_prune_only(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder, other = photos(red=3), photos("other", blue=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder, other])
    (folder / "red-1.png").unlink()
    shutil.rmtree(other)
    assert library.index(folder).images == 5
    report = library.index(folder, prune=True)
    assert (report.removed, report.images) == (1, 4)  # what lies elsewhere is left alone


def test_prune_of_a_folder_leaves_the_archives_in_it(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2, blue=1)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        tar.add(folder / "blue-0.png", "sky/1.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index([folder, folder / "shard.tar"])
    report = library.index(folder, prune=True)
    assert (report.removed, report.images) == (0, 4)


def test_bad_files_are_reported_and_stop_nothing(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=2)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    whole = (folder / "red-0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    library = wordsight.create(tmp_path / "lib", model)
    report = library.index(folder)
    assert report.indexed == 2
    assert sorted(Path(f.path).name for f in report.failed) == ["cut.png", "empty.jpg", "text.png"]
    assert all(f.reason and str(folder) not in f.reason for f in report.failed)


def test_a_place_without_images_is_an_error(tmp_path: Path, model: ColourModel) -> None:
    (tmp_path / "none").mkdir()
    library = wordsight.create(tmp_path / "lib", model)
    with pytest.raises(SourceError, match="no image found"):
        library.index(tmp_path / "none")
    with pytest.raises(SourceError, match="nothing to index: give a folder"):
        library.index([])


def test_background_statistics_follow_every_change(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=3, blue=3)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    Image.new("RGB", (30, 30), (20, 200, 20)).save(folder / "red-0.png")
    (folder / "blue-0.png").unlink()
    library.index(folder, prune=True)
    snapshot = library.store.snapshot()
    _, bank = library.store.bank()
    scores = snapshot.vectors @ bank.T
    np.testing.assert_allclose(snapshot.mean, scores.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(snapshot.sd, scores.std(axis=1), atol=1e-5)


def test_remove(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=3))
    ids, _ = library.vectors()
    assert library.remove(ids[:2]) == 2
    assert library.remove(ids[:2]) == 0
    assert library.remove(ids[2]) == 1  # one id is one, not its letters
    assert len(library) == 0
    with pytest.raises(LibraryError, match="not an image id"):
        library.remove(["rex.jpg"])


def test_add_images_in_memory(tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    red, blue = Image.new("RGB", (9, 9), (220, 20, 20)), np.full((9, 9, 3), (20, 20, 220), np.uint8)
    library.add([red, blue], ["one", "two"], labels=[None, "sky"])
    hit = library.search("blue", k=1, anyway=True).hits[0]
    assert (hit.path, hit.label) == ("two", "sky")
    library.add([red], ["two"])
    assert len(library) == 2


@pytest.mark.parametrize(
    "address",
    ["s3:/bucket/lib", "S3:/lib", "ftp://host/lib", "https:/x", "file://host/lib", "file:~/lib"],
)
def test_a_mistyped_url_makes_no_directory(
    address: str, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for do in (lambda: wordsight.create(address, model), lambda: wordsight.open(address)):
        with pytest.raises(StorageError, match=f"{address}: no address that wordsight knows"):
            do()
    assert not any(tmp_path.iterdir())


def test_places_as_people_write_them(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wordsight.create((tmp_path / "a b").as_uri(), model)
    wordsight.create("~/c", model)
    wordsight.create("./d:/e", model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "c", "d:"]
    assert default_location("~/c") == default_location((tmp_path / "c").as_uri())
    assert default_location("~/c").parent == tmp_path / "c"
    for place in ((tmp_path / "a b").as_uri(), "~/c", "./d:/e"):
        assert len(wordsight.open(place)) == 0


def test_another_model_is_refused(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    wordsight.create(tmp_path / "lib", model).index(photos(red=1))
    other = ColourModel("0ther0ther0ther0")
    with pytest.raises(ModelMismatchError, match=r"c0104250.*0ther0ther"):
        wordsight.open(tmp_path / "lib", other)


def test_newer_format_damaged_and_missing(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    with pytest.raises(LibraryError, match="no library at"):
        wordsight.open(tmp_path / "lib")
    wordsight.create(tmp_path / "lib", model)
    with pytest.raises(LibraryError, match="already holds a library"):
        wordsight.create(tmp_path / "lib", model)
    file = tmp_path / "lib" / "library.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(LibraryError, match=r"format 99.*upgrade"):
        wordsight.open(tmp_path / "lib")
    file.write_text("{")
    with pytest.raises(LibraryError, match="damaged"):
        wordsight.open(tmp_path / "lib")


def test_create_does_not_overwrite_what_is_not_a_library(
    tmp_path: Path, model: ColourModel
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(LibraryError, match="not a library"):
        wordsight.create(tmp_path / "mine", model)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_what_killed_processes_left_behind_is_in_nobodys_way(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    """They are killed as they write, before the file gets its name."""
    code = """
        import os, sys
        from fakes import ColourModel
        import wordsight, wordsight.library.store
        def kill(_file): os._exit(9)
        wordsight.library.store.sync = lambda *_: None  # of the table's files
        library = wordsight.open(sys.argv[1], ColourModel()) if len(sys.argv) > 2 else None
        os.fsync = kill
        library.index(sys.argv[2]) if library else wordsight.create(sys.argv[1], ColourModel())
    """
    place = tmp_path / "lib"

    def die(*arguments: Path) -> None:
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        there = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.run(command, env=there, check=False).returncode == 9

    die(place)
    assert len(list(place.glob("*.new"))) == 1
    library = wordsight.create(place, model)
    library.index(photos(red=1))
    die(place, photos(red=2))
    assert list(place.glob("*.new"))
    assert library.index(photos(red=3)).images == 3
    assert not list(place.glob("*.new"))


def test_a_path_that_is_no_text_is_a_plain_error(tmp_path: Path, model: ColourModel) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(LibraryError, match="not valid UTF-8"):
        wordsight.create(place, model)
    with pytest.raises(LibraryError, match="no library at"):
        wordsight.open(place, model)


def test_full_disk_is_a_plain_error(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=2))

    def full(*_args: object, **_kw: object) -> None:
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(type(library.store.dataset), "insert", full)
    with pytest.raises(LibraryError, match="no space left"):
        library.index(photos("more", blue=2))
    monkeypatch.undo()
    assert len(wordsight.open(tmp_path / "lib", model)) == 2


def test_one_writer_at_a_time(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    folder = photos(red=2)
    other = wordsight.open(tmp_path / "lib", model)
    with library.store.lock(), pytest.raises(LibraryError, match="another process"):
        other.index(folder)
    assert other.index(folder).indexed == 2
    assert len(library.search("red").hits) == 2  # the first handle sees what the other wrote


def test_killed_run_loses_nothing_and_the_next_goes_on(tmp_path: Path, photos: Photos) -> None:
    folder = photos(red=40)
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import wordsight, wordsight.indexing.pipeline as pipeline
        from fakes import ColourModel
        pipeline.BATCH = pipeline.WRITE_EVERY = 4
        class Slow(ColourModel):
            def encode_pixels(self, pixels):
                time.sleep(0.15)
                return super().encode_pixels(pixels)
        library = wordsight.create({str(tmp_path / "lib")!r}, Slow())
        library.index({str(folder)!r}, progress=lambda done, total: print(done, flush=True))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if int(line) >= 12:
            break
    process.kill()
    process.wait()
    model = ColourModel()
    library = wordsight.open(tmp_path / "lib", model)
    kept = len(library)
    assert 8 <= kept < 40  # all but the batch that was being written is there
    report = library.index(folder)
    assert (report.unchanged, report.indexed, report.images) == (kept, 40 - kept, 40)
    assert model.encoded_images == 40 - kept


@pytest.mark.parametrize("opened", [True, False])
def test_another_library_in_its_place_is_seen(
    tmp_path: Path, photos: Photos, model: ColourModel, opened: bool
) -> None:
    """It has as many versions as the one that was there."""
    place = tmp_path / "lib"
    wordsight.create(place, model).index(photos("old", red=3))
    reader = wordsight.open(place, model)
    assert reader.search("red").match
    if opened:
        reader.store.labels()
    shutil.rmtree(place)
    wordsight.create(place, model).index(photos("new", blue=2))
    found = reader.search("blue", anyway=True)
    assert [Path(hit.path).parent.name for hit in found.hits] == ["new", "new"]
    assert len(reader) == 2
    shutil.rmtree(place)
    wordsight.create(place, ColourModel("f" * 16)).index(photos("other", green=2))
    with pytest.raises(ModelError, match="unknown model 'colours'"):  # it asks for its own one
        reader.search("green")


def test_readers_search_while_an_index_runs(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=1))
    reader = wordsight.open(tmp_path / "lib", model)
    seen = []

    def look(done: int, total: int) -> None:
        seen.append(len(reader.search("red", k=500, anyway=True).hits))

    from wordsight.indexing import pipeline

    before = pipeline.BATCH, pipeline.WRITE_EVERY
    pipeline.BATCH, pipeline.WRITE_EVERY = 2, 2
    try:
        library.index(photos("more", red=20), progress=look)
    finally:
        pipeline.BATCH, pipeline.WRITE_EVERY = before
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    assert len(reader.search("red", k=500, anyway=True).hits) == 21


def test_compaction_keeps_everything_and_open_readers_going(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    for i in range(5):
        library.index(photos(f"p{i}", red=1, blue=1))
    reader = wordsight.open(tmp_path / "lib", model)
    before = [(h.id, h.score) for h in reader.search("red", anyway=True).hits]
    size = library.info()["bytes"]
    library.compact()
    assert library.info()["bytes"] < size
    assert [(h.id, h.score) for h in reader.search("red", anyway=True).hits] == before


READS: dict[str, Callable[[wordsight.Library], object]] = {
    "len": len,
    "info": lambda library: library.info()["images"],
    "vectors": lambda library: sorted(library.vectors()[0]),
    "labels": lambda library: library.store.labels(),
    "entries": lambda library: sorted(entry.id for entry in library.store.entries()),
    "search": lambda library: [hit.path for hit in library.search("red", anyway=True).hits],
}


def test_nothing_of_another_model_is_written_to_a_library_in_its_place(
    tmp_path: Path, photos: Photos
) -> None:
    first, second = ColourModel("a" * 16), ColourModel("b" * 16)
    folder = photos(red=2)
    library = wordsight.create(tmp_path / "lib", first)
    library.index(folder)
    shutil.rmtree(tmp_path / "lib")
    wordsight.create(tmp_path / "lib", second)
    with pytest.raises(LibraryChangedError):
        library.index(folder)
    with pytest.raises(ModelError, match="unknown model 'colours'"):
        library.add([Image.new("RGB", (9, 9))], ["x"])
    assert len(wordsight.open(tmp_path / "lib", second)) == 0


def test_what_was_chosen_for_crops_says_nothing_of_the_rest(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    red, blue = photos("red", red=2), photos("blue", blue=6)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(red)
    assert len(library.search("red", k=20, anyway=True).hits) == 2
    shutil.rmtree(tmp_path / "lib")
    wordsight.create(tmp_path / "lib", model).index(blue)  # another one with as many versions
    assert library.store.crops == "none"
    hits = library.search("blue", k=20, anyway=True).hits
    assert {Path(hit.path).parent for hit in hits} == {blue}
    assert len(hits) == len(library) == 6


def test_many_small_additions_are_merged(tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    for i in range(70):
        library.add([Image.new("RGB", (9, 9), (i, 0, 0))], [f"frame {i}"])
    assert len(list((tmp_path / "lib/views.lance/data").iterdir())) < 20
    assert len(library) == 70
    assert len(wordsight.open(tmp_path / "lib", model).search("red", k=99, anyway=True).hits) == 70


def test_a_wrong_id_removes_nothing(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=3))
    ids, _ = library.vectors()
    with pytest.raises(LibraryError, match="'zz' is not an image id"):
        library.remove([*ids * 2000, "zz"])
    assert len(library) == 3


def test_one_of_those_that_create_at_once_does(tmp_path: Path, model: ColourModel) -> None:
    ready = threading.Barrier(4)

    def create(_: int) -> str | None:
        ready.wait()
        try:
            return wordsight.create(tmp_path / "lib", model).store.record["id"]
        except LibraryError:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(create, range(4)))
    assert [one for one in made if one] == [
        wordsight.open(tmp_path / "lib", model).store.record["id"]
    ]


@pytest.mark.parametrize("read", READS)
def test_every_read_outlives_the_compaction_of_another_process(
    tmp_path: Path, model: ColourModel, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    for number in range(3):
        library.add([np.full((8, 8, 3), 60 * number, np.uint8)], [f"{number}.png"])
    reader = wordsight.open(tmp_path / "lib", model)
    assert reader.store.version == library.store.version  # this version's files go now
    library.add([np.full((8, 8, 3), 250, np.uint8)], ["3.png"])
    library.compact()
    monkeypatch.setattr(Store, "refresh", lambda store: False)
    assert READS[read](reader) == READS[read](library)


def test_a_search_begins_again_when_its_version_is_taken_away(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.add([np.full((8, 8, 3), (220, 20, 20), np.uint8)], ["red.png"])
    reader = wordsight.open(tmp_path / "lib", model)
    snapshot = Store.snapshot

    def then_compacted(store: Store) -> object:
        found = snapshot(store)
        if store is reader.store:
            monkeypatch.setattr(Store, "snapshot", snapshot)
            library.add([np.full((8, 8, 3), (210, 20, 20), np.uint8)], ["redder.png"])
            library.compact()
            store.reload()
        return found

    monkeypatch.setattr(Store, "snapshot", then_compacted)
    found = reader.search("red", anyway=True)
    assert {hit.path for hit in found.hits} == {"red.png", "redder.png"}


@pytest.mark.parametrize("read", READS)
def test_a_library_that_was_moved_away_is_a_plain_error(
    tmp_path: Path, model: ColourModel, read: str
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.add([np.zeros((8, 8, 3), np.uint8)], ["black.png"])
    reader = wordsight.open(tmp_path / "lib", model)
    assert reader.store.version
    (tmp_path / "lib").rename(tmp_path / "elsewhere")
    with pytest.raises(LibraryError, match=r"cannot read .*lib|lib.*damaged or missing"):
        READS[read](reader)


@pytest.mark.parametrize("damage", [b"", b"PK", b"nothing that numpy wrote"])
def test_damaged_files_beside_the_table(tmp_path: Path, model: ColourModel, damage: bytes) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.add([np.zeros((8, 8, 3), np.uint8)], ["black.png"])
    before = library.search("black", anyway=True)
    (tmp_path / "lib" / "closest.npz").write_bytes(damage)
    again = wordsight.open(tmp_path / "lib", model).search("black", anyway=True)
    assert again.decision == before.decision
    (tmp_path / "lib" / "closest.npz").unlink()
    (tmp_path / "lib" / "bank.npz").write_bytes(damage)
    with pytest.raises(LibraryError, match=r"bank\.npz is damaged or missing .* index again"):
        wordsight.open(tmp_path / "lib", model).search("black")


def test_found_from_below_like_a_repository(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=1)
    (folder / "a" / "b").mkdir(parents=True)
    assert default_location(folder) == folder / ".wordsight"
    assert default_location(folder / "red-0.png") == folder / ".wordsight"
    wordsight.create(default_location(folder), model)
    assert find(folder / "a" / "b") == folder / ".wordsight"
    monkeypatch.chdir(folder / "a")
    assert wordsight.open(model=model).path == folder / ".wordsight"
    with pytest.raises(LibraryError, match=r"no library in .*wordsight index"):
        find(tmp_path)


def test_read_only_folder_falls_back_to_the_users_data(
    photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=1)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and real(path, mode))
    place = default_location(folder)
    assert folder not in place.parents
    wordsight.create(place, model)
    assert find(folder) == place
    assert wordsight.open(folder, model).path == place


def test_ids_round_trip() -> None:
    for image_id in (
        "0000000000000000",
        "ffffffffffffffff",
        "8000000000000000",
        "0123456789abcdef",
    ):
        assert id_from_int(id_to_int(image_id)) == image_id


@pytest.mark.parametrize(
    "text", ["", "12", "g" * 16, "0x23456789abcdef", "+" + "1" * 15, "1_2" * 5 + "f"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(LibraryError, match="not an image id"):
        id_to_int(text)


def test_info(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=2))
    info = Store.open(tmp_path / "lib").info()
    assert (info["images"], info["views"], info["model"]["name"]) == (2, 2, "colours")
    assert info["bytes"] > 0
    assert (info["crops"], info["frames"], info["texts"]) == ({"none": 2}, 0, None)
    assert time.strptime(info["created"][:19], "%Y-%m-%dT%H:%M:%S")


def test_what_is_read_ahead_is_what_is_read(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    wordsight.create(tmp_path / "lib", model).index(photos(red=3, blue=2))
    ahead, plain = Store.open(tmp_path / "lib"), Store.open(tmp_path / "lib")
    ahead.preload()
    ahead.loaded()
    assert ahead.in_memory
    ahead.loaded()  # nothing to wait for
    np.testing.assert_array_equal(ahead.snapshot().vectors, plain.snapshot().vectors)
    np.testing.assert_array_equal(ahead.snapshot().ids, plain.snapshot().ids)
    kinds = make_kinds(model)
    np.testing.assert_array_equal(ahead.null(kinds).z, plain.null(kinds).z)
    np.testing.assert_array_equal(ahead.null(kinds).odds, plain.null(kinds).odds)


def test_a_library_of_before_is_judged_as_one_of_now(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=3, blue=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    before = library.search("red", anyway=True).decision
    (tmp_path / "lib" / "closest.npz").rename(tmp_path / "lib" / "statistics.npz")
    assert wordsight.open(tmp_path / "lib", model).search("red", anyway=True).decision == before
    photos(green=1)
    library.index(folder)
    assert not list((tmp_path / "lib").glob("statistics*")), "nothing reads it any more"


def test_what_goes_wrong_while_reading_ahead_is_raised_where_it_is_needed(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    wordsight.create(tmp_path / "lib", model).index(photos(red=3))
    store = Store.open(tmp_path / "lib")
    (tmp_path / "lib" / "bank.npz").write_bytes(b"damaged")
    (tmp_path / "lib" / "closest.npz").unlink()
    store.preload()
    with pytest.raises(LibraryError, match=r"bank\.npz is damaged"):
        store.loaded()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Not found: a/b.lance, src/rust/lance-io/src/local.rs:273:40", "Not found: a/b.lance"),
        ("full\nand more", "full"),
        ("", "OSError"),
    ],
)
def test_what_the_store_says_is_shown_without_its_sources(said: str, shown: str) -> None:
    assert files.short(OSError(said)) == shown


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_told(
    tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Network drives may answer so (LibrePhotos issue 167)."""
    fcntl = pytest.importorskip("fcntl")
    library = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        LibraryError, match=r"does not support file locks.*another drive with --library DIR"
    ):
        library.add([Image.new("RGB", (9, 9))], ["a"])
    with pytest.raises(LibraryError, match="does not support file locks"):
        wordsight.create(tmp_path / "M", model)  # type: ignore[arg-type]
    assert len(wordsight.open(tmp_path / "L", model)) == 0  # type: ignore[arg-type]
