"""The table of views: its columns, and what goes into it and comes out again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.library.records import ImageRecord, ViewRecord, id_from_int, id_to_int

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STATISTICS = ("mean", "sd", "image_mean", "image_sd")
NUMBERS = ("id", "view", *STATISTICS)
DESCRIPTION = ["id", "path", "label", "width", "height", "kind", "box", "region_label"]
"""Columns that say of a view what it is and where."""

METADATA = (
    "media", "orientation", "taken", "camera", "lens", "latitude", "longitude", "keywords",
    "time", "until", "recorded", "video",
    "caption",
)  # fmt: skip
"""Columns for what an image's file says of it; ``media`` is null where that was not read yet."""

BLOCK = 65_536
"""Rows that are read at once where all are passed through."""

_IMAGE_COLUMNS = ["path", "root", "size", "mtime_ns", "hash", "width", "height", "label", "crops"]


def import_lance() -> Any:
    """The Lance module; its log of ordinary events is kept off the user's terminal."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lance

    return lance


def open_table(library: Path, version: int | None = None) -> Any:
    """A version of a library's table, the newest for None (a ``lance.LanceDataset``)."""
    return import_lance().dataset(str(library / "views.lance"), version=version)


def create_table(library: Path, dim: int) -> None:
    """Make the empty table of a library, for vectors of this dimension."""
    schema = _schema(dim)
    place = library / "views.lance"
    mode = "overwrite" if place.exists() else "create"
    import_lance().write_dataset(schema.empty_table(), str(place), schema=schema, mode=mode)


def files_of(fragment: Any) -> list[str]:
    """The files that a fragment of the table consists of, named from the table's folder."""
    deletions = fragment.metadata.deletion_file
    names = [f"data/{part.path}" for part in fragment.data_files()]
    return names + ([deletions.path(fragment.fragment_id)] if deletions else [])


def drop_fragments(dataset: Any, numbers: Sequence[int]) -> Any:
    """The table's next version, without these fragments and without what is left of their images.

    Raises ValueError or OSError where the others cannot be read.
    """
    import numpy as np

    lance = import_lance()
    drop = lance.LanceOperation.Delete([], list(numbers), "true")
    dataset = lance.LanceDataset.commit(dataset, drop, read_version=dataset.version)
    rows = dataset.to_table(columns=["id", "view"])
    ids, view = rows["id"].to_numpy(), rows["view"].to_numpy()
    orphans = np.setdiff1d(ids, ids[view == 0])  # crops whose whole image was in a fragment
    if len(orphans):
        dataset.delete(f"id in ({','.join(map(str, orphans))})")
    return dataset


def add_metadata_columns(dataset: Any) -> None:
    """Give a table that was made before there were such columns empty ones.

    Its files stay as they are: the next version names the columns.
    """
    import pyarrow as pa

    missing = [field for field in _metadata_fields() if field.name not in dataset.schema.names]
    if missing:
        dataset.add_columns(pa.schema(missing))


def columns_of(dataset: Any, names: Sequence[str]) -> list[str]:
    """Those of these columns that a table has; an older one has none of :data:`METADATA`."""
    there = set(dataset.schema.names)
    return [name for name in names if name in there]


def _metadata_fields() -> list[Any]:
    import pyarrow as pa

    types = {name: pa.float64() for name in ("latitude", "longitude", "time", "until")}
    types["keywords"] = pa.list_(pa.string())
    return [pa.field(name, types.get(name, pa.string())) for name in METADATA]


def _schema(dim: int) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("view", pa.int32(), nullable=False),
            pa.field("kind", pa.string()),
            pa.field("path", pa.string()),
            pa.field("root", pa.string()),
            pa.field("label", pa.string()),
            pa.field("size", pa.int64()),
            pa.field("mtime_ns", pa.int64()),
            pa.field("hash", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("crops", pa.string()),
            pa.field("box", pa.list_(pa.float32(), 4)),
            pa.field("region_label", pa.string()),
            pa.field("region_score", pa.float32()),
            pa.field("mean", pa.float32()),
            pa.field("sd", pa.float32()),
            pa.field("image_mean", pa.float32()),
            pa.field("image_sd", pa.float32()),
            *_metadata_fields(),
            pa.field("vector", pa.list_(pa.float16(), dim)),
        ]
    )


def to_table(images: Sequence[ImageRecord], bank: NDArray[np.float32], dim: int) -> Any:
    """Records as a ``pyarrow.Table``, with the background statistics of their views.

    ``bank`` [B, D] are the vectors of the neutral phrases.
    """
    import numpy as np
    import pyarrow as pa

    from wordsight.nomatch import background

    views = [(image, number, view) for image in images for number, view in enumerate(image.views)]
    vectors = np.stack([view.vector for _, _, view in views]).astype(np.float16)
    # Statistics of what is stored (float16), so that they hold for what will be searched.
    scores = vectors.astype(np.float32) @ bank.T
    starts = np.cumsum([0, *(len(image.views) for image in images[:-1])])
    fused = np.maximum.reduceat(scores, starts, axis=0)
    counts = [len(image.views) for image in images]

    def spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(values, counts)

    mean, sd = background(fused)
    image_mean, image_sd = background(scores[starts])
    columns: dict[str, Any] = {
        "id": [id_to_int(image.id) for image, _, _ in views],
        "view": [number for _, number, _ in views],
        "kind": [view.kind for _, _, view in views],
        "box": [list(view.box) if view.box else None for _, _, view in views],
        "region_label": [view.label for _, _, view in views],
        "region_score": [view.score for _, _, view in views],
        "mean": spread(mean),
        "sd": spread(sd),
        "image_mean": spread(image_mean),
        "image_sd": spread(image_sd),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
    }
    for name in _IMAGE_COLUMNS:
        columns[name] = [getattr(image, name) for image, _, _ in views]
    for name in METADATA:
        columns[name] = [(image.metadata or {}).get(name) for image, _, _ in views]
    return pa.table(columns, schema=_schema(dim))


def to_records(table: Any) -> list[ImageRecord]:
    """The inverse of :func:`to_table`, for rows in any order that are all those of their images."""
    import numpy as np

    records: dict[int, ImageRecord] = {}
    for row in sorted(table.to_pylist(), key=lambda row: (row["id"], row["view"])):
        record = records.get(row["id"])
        if record is None:
            record = records[row["id"]] = ImageRecord(
                id=id_from_int(row["id"]),
                **{key: row[key] for key in _IMAGE_COLUMNS},
                metadata=known_of(row) or None,
            )
        record.views.append(
            ViewRecord(
                vector=np.asarray(row["vector"], np.float32),
                kind=row["kind"],
                box=tuple(row["box"]) if row["box"] else None,
                label=row["region_label"],
                score=row["region_score"],
            )
        )
    return list(records.values())


def known_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its image's file, without what is not known."""
    return {name: row[name] for name in METADATA if row.get(name) is not None}


def matrix_of(column: Any, matrix: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """A column of vectors as float32 [n, D], written into ``matrix`` where there is one."""
    import numpy as np

    from wordsight.library.index.flat import widen

    if matrix is None:
        matrix = np.empty((len(column), column.type.list_size), np.float32)
    begin = 0
    for chunk in getattr(column, "chunks", [column]):
        part = chunk.flatten().to_numpy(zero_copy_only=False)
        widen(part.reshape(-1, matrix.shape[1]), matrix[begin : begin + len(chunk)])
        begin += len(chunk)
    return matrix
