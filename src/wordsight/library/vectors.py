"""A library's images and their vectors, as tables and files for other programs.

The files are those that clip-retrieval's ``clip_inference`` writes, which its ``clip_index``,
autofaiss and embedding_reader read: ``img_emb/img_emb_N.npy`` ([rows, D], unit length) and, row by
row beside it, ``metadata/metadata_N.parquet`` with the column ``image_path``
(https://github.com/rom1504/clip-retrieval#clip-inference).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wordsight.errors import LibraryError, reason
from wordsight.library import filters
from wordsight.library.files import is_unread, short
from wordsight.library.records import id_from_int
from wordsight.library.table import BLOCK, STATISTICS, matrix_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library import Store

PART = 1_000_000
"""Rows in a file of vectors: 1 GB of 512 dimensions in float16."""

_INTERNAL = {"root", "mtime_ns", "hash", "crops", "view", "vector"}
_OF_VIEWS = {"kind", "box", "region_label", "region_score"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What :func:`export` wrote: rows and dimensions of the vectors, in how many parts."""

    to: str
    rows: int
    dim: int
    dtype: str
    parts: int

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight export-vectors --json`` prints."""
        return asdict(self)


def table(
    store: Store, *, where: str | None = None, vectors: bool = True, crops: bool = False
) -> Any:
    """The images as a ``pyarrow.Table``: a row an image, or with ``crops`` a row a view.

    Columns: ``id`` (16 hexadecimal digits), ``path``, ``label``, size, what is known of the file,
    and ``vector``, float32 of unit length in a list of fixed size. ``where`` is a filter as in a
    search. Raises QueryError where it cannot be read.
    """
    import numpy as np
    import pyarrow as pa

    count, batches = _scan(store, where, crops)
    tables, matrices = [], [np.empty((0, store.model.dim), np.float32)]
    for facts, matrix in batches:
        tables.append(facts)
        matrices.append(matrix.astype(np.float32))
    facts = pa.concat_tables(tables)
    assert len(facts) == count
    if not vectors:
        return facts
    flat = pa.array(np.concatenate(matrices).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, store.model.dim)
    return facts.append_column("vector", column)


def image_vectors(store: Store) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Ids of the images as numbers [n], and the vectors of the whole images [n, D], in blocks.

    In the table's order, read from the disk as they are asked for. Raises LibraryError where that
    fails.
    """
    dataset = store.dataset
    try:
        for batch in dataset.to_batches(["id", "vector"], filter="view = 0", batch_size=BLOCK):
            yield batch["id"].to_numpy(), matrix_of(batch["vector"])
    except (OSError, ValueError) as error:
        if not is_unread(error):
            raise
        raise LibraryError(
            f"the library {store.place} changed or could not be read ({short(error)}); try again."
        ) from None


def export(
    store: Store,
    to: str | Path,
    *,
    where: str | None = None,
    crops: bool = False,
    dtype: Literal["float16", "float32"] = "float16",
    part: int = PART,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write vectors and metadata into a new folder, a bounded number of rows in memory.

    Vectors are kept in float16; float32 is for readers that take nothing else. The folder is there
    when all of it is written. Raises LibraryError when there is something in it already or it
    cannot be written, QueryError as :func:`table`.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise LibraryError(f"{to} already exists; name a new folder.")
    count, batches = _scan(store, where, crops)
    making = to.with_name(f".{to.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    try:
        for name in ("img_emb", "metadata"):
            (making / name).mkdir(parents=True)
        parts = _write(making, batches, count, store.model.dim, dtype, part, progress)
        if to.exists():
            to.rmdir()  # empty
        making.rename(to)
    except OSError as error:
        raise LibraryError(f"cannot write {to}: {reason(error)}.") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Exported(str(to), count, store.model.dim, dtype, parts)


def _write(
    folder: Path,
    batches: Iterator[tuple[Any, NDArray[np.float16]]],
    count: int,
    dim: int,
    dtype: str,
    part: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write all batches, so many rows a file; the number of parts."""
    import numpy as np
    import pyarrow.parquet as pq

    parts = -(-count // part)
    digits = len(str(max(parts - 1, 0)))
    done = 0
    facts, matrix = next(batches)
    for number in range(parts):
        rows = min(part, count - done)
        name = f"{number:0{digits}}"
        file = folder / "img_emb" / f"img_emb_{name}.npy"
        out = np.lib.format.open_memmap(file, "w+", np.dtype(dtype), (rows, dim))
        with pq.ParquetWriter(folder / "metadata" / f"metadata_{name}.parquet", facts.schema) as to:
            filled = 0
            while filled < rows:
                if not len(facts):
                    facts, matrix = next(batches)
                taken = min(rows - filled, len(facts))
                out[filled : filled + taken] = matrix[:taken]
                to.write_table(facts.slice(0, taken))
                facts, matrix = facts.slice(taken), matrix[taken:]
                filled += taken
                done += taken
                if progress:
                    progress(done, count)
        out.flush()
        del out  # unmapped: nothing of it stays in memory
    return parts


def _scan(
    store: Store, where: str | None, crops: bool
) -> tuple[int, Iterator[tuple[Any, NDArray[np.float16]]]]:
    """How many rows there are, and they, some at a time: a table of facts, and the vectors.

    The first table has no rows: its schema holds for all.
    """
    import pyarrow as pa

    store.refresh()
    dataset = store.dataset
    if where is not None:
        filters.matching(dataset, where)  # says what is wrong with it
    chosen = filters.joined(where, None if crops else "view = 0")
    left_out = {*_INTERNAL, *STATISTICS, *(set() if crops else _OF_VIEWS)}
    names = [name for name in dataset.schema.names if name not in left_out]
    fields = [dataset.schema.field(name) for name in names if name != "id"]
    schema = pa.schema([pa.field("id", pa.string()), pa.field("image_path", pa.string()), *fields])

    def batches() -> Iterator[tuple[Any, NDArray[np.float16]]]:
        yield schema.empty_table(), _empty(store.model.dim)
        for batch in dataset.to_batches(columns=[*names, "vector"], filter=chosen):
            columns = {name: batch.column(name) for name in names}
            columns["id"] = pa.array([id_from_int(i) for i in columns["id"].to_pylist()])
            columns["image_path"] = columns["path"]
            flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
            facts = pa.table([columns[name] for name in schema.names], schema=schema)
            yield facts, flat.reshape(-1, store.model.dim)

    return int(dataset.count_rows(filter=chosen)), batches()


def _empty(dim: int) -> NDArray[np.float16]:
    import numpy as np

    return np.empty((0, dim), np.float16)
