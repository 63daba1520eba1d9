"""Fragments of the table that other processes write: the same rows, committed by the one writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel

import wordsight
from wordsight.library import ImageRecord, Store, ViewRecord
from wordsight.library.checksums import Checksums
from wordsight.library.table import METADATA, files_of


def records(count: int, first: int = 0) -> list[ImageRecord]:
    rng = np.random.default_rng(first)
    made = []
    for n in range(first, first + count):
        vectors = rng.normal(size=(1 + n % 3, ColourModel.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        views = [ViewRecord(vectors[0])]
        views += [ViewRecord(v, "crop", (0.0, 1.0, 8.0, 9.0), "dog", 0.5) for v in vectors[1:]]
        seen = {"media": "photo", "keywords": ["a", "b"], "camera": "X"}
        made.append(
            ImageRecord(
                f"{n:016x}", f"/p/{n}.jpg", "/p/", n, n, f"{n:032x}", 64, 48, None, "tiles", seen,
                views,
            )
        )  # fmt: skip
    return made


def columns(store: Store) -> dict[str, Any]:
    table = store.dataset.to_table().sort_by([("id", "ascending"), ("view", "ascending")])
    return {name: table[name].to_pylist() for name in sorted(table.column_names)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return wordsight.create(tmp_path / "lib", ColourModel()).store  # type: ignore[arg-type]


def test_they_are_rows_like_others(store: Store, tmp_path: Path) -> None:
    plain = wordsight.create(tmp_path / "plain", ColourModel()).store  # type: ignore[arg-type]
    with plain.lock():
        plain.put(records(9), replace=False)
    with store.lock():
        writer = store.fragment_writer()
        parts = [writer.write(records(4)), writer.write(records(5, first=4))]
        assert len(store) == 0
        before = store.version
        store.append(writer, parts)
        assert store.version == before + 1
        store.prepare()
    assert not (store.path / "incoming").exists()
    mine, theirs = columns(store), columns(plain)
    again = columns(Store.open(store.path))
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name not in ("vector", "mean", "sd", "image_mean", "image_sd"):
            assert mine[name] == theirs[name], name
    assert again == mine
    named = [name for part in store.dataset.get_fragments() for name in files_of(part)]
    kept = Checksums.load(store.path)
    assert kept.files.keys() >= set(named)
    assert kept.wrong(named) == []


def test_other_machines_send_the_file(store: Store, tmp_path: Path) -> None:
    with store.lock():
        writer = store.fragment_writer()
        part = replace(writer, place=tmp_path / "not here").write(records(3))
        assert part.content
        store.append(writer, [part, writer.write(records(2, first=3))])
    assert sorted(entry.path for entry in store.entries()) == [f"/p/{n}.jpg" for n in range(5)]


def test_what_was_not_committed_goes(store: Store) -> None:
    with store.lock():
        dead = store.fragment_writer()
        dead.write(records(3))
    with store.lock():
        writer = store.fragment_writer()
        assert not dead.place.exists()
        assert dead.write(records(3)).content  # it wrote elsewhere
        store.append(writer, [writer.write(records(2))])
        store.prepare()
    assert len(store) == 2
    assert not (store.path / "incoming").exists()


def test_a_table_that_got_its_columns_later(store: Store) -> None:
    with store.lock():
        store.put(records(2), replace=False)
        store.dataset.drop_columns(list(METADATA))
        store.add_metadata_columns()
        writer = store.fragment_writer()
        store.append(writer, [writer.write(records(2, first=2))])
    old, new = store.images(["0000000000000001", "0000000000000003"])
    assert old.metadata is None
    assert new.metadata == records(1, first=3)[0].metadata
    assert [view.box for view in new.views] == [view.box for view in records(1, first=3)[0].views]
