"""Shards with captions, and tables with a column of images, as sources."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight.errors import SourceError
from wordsight.sources import open_source

COLOURS = ["red", "green", "blue", "yellow"]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": COLOURS, "_type": "ClassLabel"}}


def _png(colour: str, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.array(ANCHORS[colour]) + rng.integers(-15, 15, (24, 32, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _hub_table() -> pa.Table:
    """As the hub's data sets lie in files."""
    images = [{"bytes": _png(colour), "path": None} for colour in COLOURS]
    told = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    table = pa.table({"image": images, "label": [0, 1, 2, 3]})
    return table.replace_schema_metadata(told)


@pytest.fixture
def library(tmp_path: Path, model: ColourModel) -> wordsight.Library:
    return wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]


def _first(library: wordsight.Library, words: str) -> Any:
    return library.search(words, 1, anyway=True).hits[0]


def test_shards_with_captions(library: wordsight.Library, tmp_path: Path) -> None:
    for shard, colours in enumerate((["red", "green"], ["blue", "yellow"])):
        with tarfile.open(tmp_path / f"s-{shard:02}.tar", "w") as tar:
            for i, colour in enumerate(colours):
                beside = ("txt", f"a {colour}\nthing".encode())
                if shard:
                    said = {"caption": f"a {colour} thing", "url": "https://example.org/x"}
                    beside = ("json", json.dumps(said).encode())
                for suffix, data in (("png", _png(colour)), beside):
                    info = tarfile.TarInfo(f"{i:05}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    pattern = str(tmp_path / "s-{00..01}.tar")
    report = library.index(pattern)
    assert (report.indexed, report.failed) == (4, [])
    for colour in COLOURS:
        assert _first(library, colour).metadata["caption"] == f"a {colour} thing"
    blue = library.search("blue", 1, where="caption like '%blue%'", anyway=True).hits[0]
    assert blue.path.endswith("s-01.tar::00000.png")
    assert library.to_arrow()["caption"].to_pylist()[0] == "a red thing"
    assert library.index(pattern).unchanged == 4


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrow file"])
def test_tables_of_the_hub(library: wordsight.Library, tmp_path: Path, kind: str) -> None:
    place = tmp_path / f"test-00000.{kind.partition(' ')[0]}"
    if kind == "parquet":
        pq.write_table(_hub_table(), place, row_group_size=3)
    else:
        writer = pa.ipc.new_stream if kind == "arrow" else pa.ipc.new_file
        with pa.OSFile(str(place), "wb") as file, writer(file, _hub_table().schema) as out:
            out.write_table(_hub_table())
    report = library.index(place)
    assert (report.indexed, report.failed) == (4, [])
    hit = _first(library, "yellow")
    assert (hit.path, hit.label) == (f"{place.resolve()}::3", "yellow")
    assert library.image(hit).size == (32, 24)  # read again, from its row
    assert library.index(place).unchanged == 4


def test_parquet_of_img2dataset(library: wordsight.Library, tmp_path: Path) -> None:
    rows = {
        "key": ["0", "1", "2"],
        "url": ["https://example.org/a", "https://example.org/b", "https://example.org/c"],
        "status": ["success", "failed_to_download", "success"],
        "caption": ["a red thing", "gone", None],
        "jpg": pa.array([_png("red"), None, _png("blue")], pa.binary()),
    }
    pq.write_table(pa.table(rows), tmp_path / "00000.parquet")
    report = library.index(tmp_path / "00000.parquet")
    assert report.indexed == 2
    assert [failure.reason for failure in report.failed] == ["the row holds no image"]
    assert _first(library, "red").metadata["caption"] == "a red thing"
    assert "caption" not in _first(library, "blue").metadata


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"url": ["https://example.org/a"], "text": ["x"]}, "download them with img2dataset"),
        ({"number": [1]}, "no column of images \\(columns: number\\)"),
        (None, "no parquet file"),
    ],
)
def test_tables_without_images(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    place = tmp_path / "x.parquet"
    if columns:
        pq.write_table(pa.table(columns), place)
    else:
        place.write_bytes(b"nothing")
    with pytest.raises(SourceError, match=told):
        open_source(place).items()


def test_hugging_face_data_sets(library: wordsight.Library, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="make test-connect installs it")
    from wordsight.adapters.datasets import source

    pq.write_table(_hub_table(), tmp_path / "x.parquet")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "x.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert library.index_sources([source(loaded)]).indexed == 4
    hit = _first(library, "green")
    assert hit.label == "green"
    assert library.image(hit).size == (32, 24)
    few = loaded.filter(lambda row: row["label"] < 2, keep_in_memory=True)
    with pytest.raises(SourceError, match="save_to_disk"):
        source(few)
    few.save_to_disk(tmp_path / "saved")
    again = wordsight.create(tmp_path / "L2", library.model)
    assert again.index(tmp_path / "saved").indexed == 2
    assert _first(again, "red").path.startswith(str(tmp_path / "saved"))
