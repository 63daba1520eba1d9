"""Shards with captions, and tables with a column of images, as sources."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import ANCHORS, ColourModel
from hub_standin import COMMIT, StandIn, serve
from PIL import Image

import wordsight
from wordsight.errors import SourceError
from wordsight.sources import open_source
from wordsight.sources.hub import _listed

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
        ({"url": ["https://example.org/a"], "text": ["x"]}, "HF_HUB_OFFLINE forbids the network"),
        ({"number": [1]}, "no column of images \\(columns: number\\)"),
        (None, "no parquet file"),
    ],
)
def test_tables_without_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], told: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "x.parquet"
    if columns:
        pq.write_table(pa.table(columns), place)
    else:
        place.write_bytes(b"nothing")
    with pytest.raises(SourceError, match=told):
        open_source(place).items()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A web server with a picture of each colour."""
    folder = tmp_path / "web"
    folder.mkdir()
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(_png(colour))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_addresses_in_a_table(
    library: wordsight.Library, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    urls = [f"{address}/{colour}.png" for colour in COLOURS]
    urls += [f"{address}/gone.png", f"file://{tmp_path}/web/red.png", None]
    pq.write_table(
        pa.table({"url": urls, "caption": [f"number {n}" for n in range(7)]}),
        tmp_path / "x.parquet",
    )
    report = library.index(tmp_path / "x.parquet")
    assert report.indexed == 4
    assert [failure.reason.partition(": ")[2] for failure in report.failed] == [
        "the server answered 404 File not found",
        "not an http or https address",
        "",
    ]
    assert report.failed[2].reason == "the row holds no image"
    hit = _first(library, "blue")
    assert hit.metadata["caption"] == "number 2"
    assert library.image(hit).size == (32, 24)
    assert library.index(tmp_path / "x.parquet").unchanged == 4


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """A data set on a stand-in for the hub, a table and a shard."""
    pq.write_table(_hub_table(), tmp_path / "table.parquet", row_group_size=3)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        info = tarfile.TarInfo("red.png")
        info.size = len(_png("red"))
        tar.addfile(info, io.BytesIO(_png("red")))
    files = {
        "data/test-00000.parquet": (tmp_path / "table.parquet").read_bytes(),
        "shards/0.tar": (tmp_path / "shard.tar").read_bytes(),
        "README.md": b"# Colours",
    }
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serve(StandIn("owner/colours", files, kind="datasets")) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        monkeypatch.setattr("wordsight.sources.hub._listed", _listed.__wrapped__)
        yield stand_in


def test_data_sets_on_the_hub(library: wordsight.Library, hub: StandIn) -> None:
    place = "hf://datasets/owner/colours"
    report = library.index(f"{place}/data/*.parquet")
    assert (report.indexed, report.failed) == (4, [])
    hit = _first(library, "yellow")
    assert (hit.path, hit.label) == (f"{place}/data/test-00000.parquet::3", "yellow")
    assert library.image(hit).size == (32, 24)
    assert library.index(f"{place}/data/").unchanged == 4
    assert library.index(place).reused == 1  # a data set with shards is read as those
    paths = {entry.path for entry in library.store.entries()}
    assert f"{place}/shards/0.tar::red.png" in paths
    pinned = f"{place}@{COMMIT}/data/test-00000.parquet"
    assert library.index(pinned).reused == 4
    hub.files["data/test-00000.parquet"] = hub.files["data/test-00000.parquet"][:-9]
    with pytest.raises(SourceError, match="no parquet file"):
        library.index(f"{place}/data/")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("hf://datasets/owner/other", "the hub has no such data set"),
        ("hf://datasets/owner/colours@v2", "it has no revision v2"),
        ("hf://datasets/owner/colours/*.arrow", "no .tar shard or .parquet table is there"),
        ("hf://datasets/owner/colours/x.parquet", "x.parquet: no such file"),
        ("hf://datasets/owner/colours/README.md", "only .tar shards and .parquet tables"),
        ("hf://owner/colours", "write hf://datasets/OWNER/NAME"),
    ],
)
def test_what_the_hub_has_not(
    library: wordsight.Library, hub: StandIn, place: str, told: str
) -> None:
    with pytest.raises(SourceError, match=told):
        library.index(place)


def test_the_hub_is_not_asked_offline(
    library: wordsight.Library, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE forbids the network"):
        library.index("hf://datasets/owner/colours")
    assert hub.requests == []


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
