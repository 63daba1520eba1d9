"""The sidecar: a search in a fresh process reads it instead of the table, and gets the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel
from hypothesis import given
from hypothesis import strategies as st

import wordsight
from wordsight.errors import LibraryError
from wordsight.library import ImageRecord, Store, ViewRecord
from wordsight.library.index.sidecar import Sidecar, _Words

Photos = Callable[..., Path]


def image(number: int, path: str, crops: int = 0, label: str | None = None) -> ImageRecord:
    rng = np.random.default_rng(number)
    vectors = rng.normal(size=(1 + crops, ColourModel.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    record = ImageRecord(f"{number:016x}", path, "/p", 1, 2, f"{number:x}", 640, 480, label)
    record.views = [ViewRecord(vectors[0])]
    for i, vector in enumerate(vectors[1:]):
        record.views.append(ViewRecord(vector, "crop", (i, 0.5, 9, 9), "thing" if i else None, 0.9))
    return record


@pytest.fixture
def library(tmp_path: Path, model: ColourModel) -> wordsight.Library:
    """Images with and without crops and labels, in several files of the table, some taken out."""
    made = wordsight.create(tmp_path / "lib", model)
    parts = [
        [image(1, "/p/dog/ä b.png", 2, "dog"), image(2, "/p/2.png")],
        [image(3, "/p/x.tar::in/3.png", 0, "dog"), image(4, "name only.png", 1)],
        [image(n, f"/p/{n}.png") for n in range(5, 40)],
    ]
    with made.store.lock():
        for part in parts:
            made.store.put(part, replace=False)
        made.store.remove([f"{n:016x}" for n in (2, 7, 39)])
        made.store.prepare()
    return made


def looked_at(store: Store) -> bool:
    """Whether the table itself was opened."""
    return store.opened is not None


def test_it_says_what_the_table_says(library: wordsight.Library, model: ColourModel) -> None:
    fresh = Store.open(library.path)
    assert (len(fresh), fresh.count_views()) == (len(library), library.store.count_views())
    mine = fresh.snapshot()
    places = range(len(mine.rows))
    rows = fresh.rows(places, mine.version)
    assert not looked_at(fresh)
    (library.path / "sidecar.npz").unlink()
    other = Store.open(library.path)
    theirs = other.snapshot()
    assert looked_at(other)
    for name in ("version", "vectors", "starts", "rows", "ids", "mean", "sd", "image_mean"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name))
    assert rows == other.rows(places, theirs.version)
    assert {row["path"] for row in rows} >= {
        "/p/dog/ä b.png",
        "/p/x.tar::in/3.png",
        "name only.png",
    }


def test_what_came_since_is_seen(
    tmp_path: Path, photos: Photos, model: ColourModel, library: wordsight.Library
) -> None:
    reader = wordsight.open(library.path, model)
    reader.search("red", anyway=True)
    assert not looked_at(reader.store)
    writer = wordsight.open(library.path, model)
    writer.add([np.full((8, 8, 3), (220, 20, 20), np.uint8)], ["new"])
    assert reader.search("red", anyway=True).hits[0].path == "new"
    late = wordsight.open(library.path, model)
    assert late.search("red", anyway=True).hits[0].path == "new"
    assert looked_at(late.store)  # the sidecar is of the version before
    late.index(photos(blue=1))
    newest = wordsight.open(library.path, model)
    assert newest.search("red", anyway=True).hits[0].path == "new"
    assert not looked_at(newest.store)


def test_statistics_are_kept_for_the_version_they_are_of(
    library: wordsight.Library, model: ColourModel
) -> None:
    reader = wordsight.open(library.path, model).store
    version, mine = reader.scoring.found()
    library.add([np.full((8, 8, 3), n, np.uint8) for n in range(9)], [f"{n}" for n in range(9)])
    reader.labels()  # now the reader has the newer table in view
    later, theirs = reader.scoring.found()
    assert later > version
    assert not np.array_equal(mine.z, theirs.z)
    (library.path / "closest.npz").unlink()
    _, fresh = wordsight.open(library.path, model).store.scoring.found()
    np.testing.assert_array_equal(theirs.z, fresh.z)
    np.testing.assert_array_equal(theirs.vectors, fresh.vectors)


def test_a_compaction_in_between_takes_nothing_away(
    library: wordsight.Library, model: ColourModel
) -> None:
    reader = wordsight.open(library.path, model)
    assert len(reader) == len(library)  # the sidecar is read, the vectors are not
    wordsight.open(library.path, model).compact()
    found = reader.search("red", k=3, anyway=True)
    assert [hit.id for hit in found.hits] == [
        hit.id for hit in library.search("red", k=3, anyway=True).hits
    ]
    after = wordsight.open(library.path, model)
    after.search("red", anyway=True)
    assert not looked_at(after.store)


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_without_it_the_table_is_read(
    library: wordsight.Library, model: ColourModel, damage: bytes | None
) -> None:
    expected = library.search("red", k=5, anyway=True)
    if damage is None:
        (library.path / "sidecar.npz").unlink()
    else:
        (library.path / "sidecar.npz").write_bytes(damage)
    found = wordsight.open(library.path, model).search("red", k=5, anyway=True)
    assert [hit.id for hit in found.hits] == [hit.id for hit in expected.hits]


@pytest.mark.parametrize("there", [0, 10, 2000])
@pytest.mark.parametrize("space", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_a_table_that_is_copied_in_part_is_no_table(
    library: wordsight.Library, model: ColourModel, there: int, space: bool, beside: bool
) -> None:
    """Some programs take all the space before they copy: a file then has its size, and zeros."""
    for file in (library.path / "views.lance/data").iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:there].ljust(len(whole) if space else 0, b"\0"))
    if not beside:
        (library.path / "sidecar.npz").unlink()
    with pytest.raises(LibraryError, match=r"cannot read the table|the table .* cannot be read"):
        wordsight.open(library.path, model).search("red", anyway=True)
    with pytest.raises(LibraryError, match=r"cannot read the table|the table .* cannot be read"):
        wordsight.open(library.path, model).vectors()


def test_a_copied_library_is_read_where_it_is(
    library: wordsight.Library, model: ColourModel, tmp_path: Path
) -> None:
    expected = library.search("red", k=5, anyway=True)
    shutil.copytree(library.path, tmp_path / "copy")
    shutil.rmtree(library.path)
    copy = wordsight.open(tmp_path / "copy", model)
    found = copy.search("red", k=5, anyway=True)
    assert [hit.id for hit in found.hits] == [hit.id for hit in expected.hits]
    assert not looked_at(copy.store)


def test_another_table_in_its_place_is_seen(
    library: wordsight.Library, model: ColourModel, tmp_path: Path
) -> None:
    other = wordsight.create(tmp_path / "other", model)
    with other.store.lock():
        while other.store.version < library.store.version:
            n = 100 + other.store.version
            other.store.put([image(n, f"/other/{n}.png")], replace=False)
        other.store.prepare()
    assert len(other) != len(library)
    expected = other.search("red", k=2, anyway=True)
    shutil.rmtree(library.path / "views.lance")
    shutil.copytree(other.path / "views.lance", library.path / "views.lance")
    assert len(wordsight.open(library.path, model)) == len(other)
    found = wordsight.open(library.path, model).search("red", k=2, anyway=True)
    assert [hit.path for hit in found.hits] == [hit.path for hit in expected.hits]


def test_the_sidecar_of_a_copy_that_went_another_way_is_not_taken(
    library: wordsight.Library, model: ColourModel, tmp_path: Path
) -> None:
    """Both have the same files and the same number of versions; other images were taken out."""
    shutil.copytree(library.path, tmp_path / "copy")
    copy = wordsight.open(tmp_path / "copy", model)
    for one, gone in ((library, 1), (copy, 5)):
        with one.store.lock():
            one.store.remove([f"{gone:016x}"])
            one.store.prepare()
    assert copy.store.version == library.store.version
    shutil.copy(copy.path / "sidecar.npz", library.path)
    fresh = wordsight.open(library.path, model)
    assert fresh.vectors()[0] == library.vectors()[0]
    assert looked_at(fresh.store)
    with library.store.lock():
        library.store.prepare()
    again = wordsight.open(library.path, model)
    assert again.vectors()[0] == library.vectors()[0]
    assert not looked_at(again.store)


def test_a_search_in_a_fresh_process_does_not_import_the_tables_reader(
    tmp_path: Path, photos: Photos
) -> None:
    wordsight.create(tmp_path / "lib", "starter").index(photos(red=2, blue=2))
    words = ["search", "a ship", "--anyway", "--library", str(tmp_path / "lib")]
    code = (
        "import sys, json, wordsight.cli\n"
        f"try: wordsight.cli.main({words!r})\n"
        "except SystemExit: pass\n"
        "print(json.dumps([m for m in ('lance', 'pyarrow') if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert "red-0.png" in done.stdout


def test_an_empty_library_has_none(tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    with library.store.lock():
        library.store.prepare()
    assert wordsight.open(library.path, model).search("red").hits == []


def test_narrow_vectors_are_read_from_the_table(tmp_path: Path) -> None:
    """Lance packs values of few bytes: there is no sidecar, and nobody misses it."""

    class Narrow(ColourModel):
        dim = 48

        def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return super().encode_pixels(pixels)[:, : self.dim]

        def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
            return super().encode_texts(texts)[:, : self.dim]

    library = wordsight.create(tmp_path / "lib", Narrow())
    library.add([np.full((8, 8, 3), (220, 20, 20), np.uint8)], ["only"])
    with library.store.lock():
        library.store.prepare()
    assert not (library.path / "sidecar.npz").exists()
    fresh = wordsight.open(library.path, Narrow())
    assert fresh.search("red", anyway=True).hits[0].path == "only"


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))))
def test_words_are_those_that_were_put_in(texts: list[str | None]) -> None:
    words = _Words.of(texts)
    kept = _Words.from_arrays(words.to_arrays("x"), "x")
    assert [kept[place] for place in range(len(texts))] == texts


def test_arrays_that_lack_one_are_no_sidecar(library: wordsight.Library) -> None:
    arrays = Sidecar.arrays(library.store.dataset, ColourModel.dim)
    assert arrays is not None
    arrays.pop("label.codes")
    with pytest.raises(KeyError):
        Sidecar.from_arrays(arrays, 1, library.path / "views.lance", ColourModel.dim)
