"""Vectors that are read from where they lie in the files of the table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wordsight.library.index.flat import FlatVectors, widen

DIM = 128


def write(place: Path, counts: list[int], dim: int = DIM) -> tuple[Any, np.ndarray]:
    """A table of as many fragments, and its vectors."""
    rng = np.random.default_rng(len(counts))
    vectors = rng.standard_normal((sum(counts), dim)).astype(np.float16)
    begin = 0
    for count in counts:
        part = pa.array(vectors[begin : begin + count].ravel())
        columns = {
            "path": pa.array([f"{i}.jpg" for i in range(begin, begin + count)]),
            "vector": pa.FixedSizeListArray.from_arrays(part, dim),
        }
        mode = "append" if begin else "create"
        lance.write_dataset(pa.table(columns), str(place), mode=mode)
        begin += count
    return lance.dataset(str(place)), vectors


def test_every_finite_number_is_widened_as_numpy_does() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = every[np.isfinite(every)].reshape(-1, 2)
    found = np.full(halves.shape, np.nan, np.float32)
    widen(halves, found)
    assert np.array_equal(found.view(np.uint32), halves.astype(np.float32).view(np.uint32))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, np.ndarray]:
    return write(tmp_path_factory.mktemp("flat") / "t.lance", [500, 1, 7000, 30])


@settings(deadline=None)
@given(rows=st.sets(st.integers(0, 7530), max_size=200))
def test_what_is_read_is_what_the_table_gives(
    table: tuple[Any, np.ndarray], rows: set[int]
) -> None:
    dataset, vectors = table
    flat = FlatVectors.find(dataset, DIM)
    assert flat is not None
    places = np.array(sorted(rows), np.int64)
    read = flat.read(places)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, vectors[places].astype(np.float32))


def test_places_outlive_a_move(tmp_path: Path) -> None:
    dataset, vectors = write(tmp_path / "a.lance", [40, 60])
    flat = FlatVectors.find(dataset, DIM)
    assert flat is not None
    np.savez(tmp_path / "flat.npz", **flat.to_arrays())
    shutil.move(tmp_path / "a.lance", tmp_path / "b.lance")
    with np.load(tmp_path / "flat.npz") as file:
        moved = FlatVectors.from_arrays(file, tmp_path / "b.lance", DIM)
    np.testing.assert_array_equal(moved.read(np.arange(100)), vectors.astype(np.float32))


def test_deleted_rows_are_left_out(tmp_path: Path) -> None:
    dataset, vectors = write(tmp_path / "t.lance", [40, 60, 500])
    gone = [0, 3, 39, 99, 100, 101, 350]
    dataset.delete("path in ({})".format(",".join(f"'{i}.jpg'" for i in gone)))
    dataset = lance.dataset(str(tmp_path / "t.lance"))
    flat = FlatVectors.find(dataset, DIM)
    assert flat is not None
    np.savez(tmp_path / "flat.npz", **flat.to_arrays())
    with np.load(tmp_path / "flat.npz") as file:
        again = FlatVectors.from_arrays(file, tmp_path / "t.lance", DIM)
    left = np.delete(vectors, gone, axis=0).astype(np.float32)
    np.testing.assert_array_equal(again.read(np.arange(len(left))), left)
    np.testing.assert_array_equal(again.read(np.array([1, 38, 92, 93])), left[[1, 38, 92, 93]])


def test_a_file_that_is_gone_or_cut_short_while_it_is_in_use(tmp_path: Path) -> None:
    dataset, vectors = write(tmp_path / "t.lance", [400])
    flat = FlatVectors.find(dataset, DIM)
    assert flat is not None
    np.testing.assert_array_equal(flat.read(np.arange(400)), vectors.astype(np.float32))
    (file,) = (tmp_path / "t.lance" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:1000])  # a memory map would end the process now
    with pytest.raises(OSError, match="not all there"):
        flat.read(np.arange(400))
    file.write_bytes(file.read_bytes() + b"LANC")
    with pytest.raises(OSError, match="shorter than it was"):
        flat.read(np.arange(400))
    file.unlink()
    with pytest.raises(FileNotFoundError):
        flat.read(np.arange(3))


def test_more_vectors_than_are_read_at_once(tmp_path: Path) -> None:
    dataset, vectors = write(tmp_path / "t.lance", [9000])
    flat = FlatVectors.find(dataset, DIM)
    assert flat is not None
    np.testing.assert_array_equal(flat.read(np.arange(9000)), vectors.astype(np.float32))
    some = np.delete(np.arange(9000), np.arange(5, 9000, 1001))
    np.testing.assert_array_equal(flat.read(some), vectors[some].astype(np.float32))


def test_tables_that_lie_otherwise_are_left_to_their_reader(tmp_path: Path) -> None:
    # Narrow vectors are kept in blocks of many.
    narrow, _ = write(tmp_path / "narrow.lance", [5000], dim=8)
    assert FlatVectors.find(narrow, 8) is None
    assert FlatVectors.find(write(tmp_path / "other.lance", [40])[0], DIM // 2) is None
