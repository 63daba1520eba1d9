"""Images in the rows of Parquet and Arrow files: the hub's data sets, img2dataset's output.

A row's image is the bytes in a column: that of Hugging Face's ``Image`` (a struct of ``bytes`` and
``path``), or a binary one named as img2dataset names it; else what is at the address in a column,
fetched when the image is read. Of a Parquet file the row groups that were last read stay in memory,
two of them; an Arrow file is mapped.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError, SourceError, StorageError
from wordsight.images import unreadable_reason
from wordsight.privacy import is_offline
from wordsight.sources.base import Item, item_id
from wordsight.sources.download import fetch_image
from wordsight.sources.files import State, opened_for_parts, place_of, state_of
from wordsight.storage import is_url

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
_CAPTIONS = ("caption", "text", "txt", "TEXT", "sentence")
_LABELS = ("label", "labels", "fine_label", "class", "cls")
_ADDRESSES = ("url", "URL", "image_url")


class TableSource:
    """The images of one or more files, in the order of their rows; none of them is decoded.

    ``path`` of an item is that of the file, "::" and the row's number from 0. Captions and labels
    come from the columns that usually hold them.
    """

    def __init__(
        self, files: Sequence[str | Path], *, name: str | None = None, root: str | None = None
    ) -> None:
        """``root``: a folder with all of them, for more than one."""
        self._files = [place_of(file) for file in files]
        self.name = name or str(files[0])
        self.root = f"{self._files[0]}::" if root is None else root
        self.problems: list[tuple[str, str]] = []

    def items(self) -> list[Item]:
        """List the rows. Raises SourceError for a file that has no images."""
        self.problems = []
        return [item for file in self._files for item in self._of(file)]

    def _of(self, file: str) -> list[Item]:
        try:
            state = state_of(file)  # before it is read: see TarSource
            table = open_rows(file, state)
            captions, labels = table.texts(_CAPTIONS), table.texts(_LABELS)
        except StorageError as error:
            raise SourceError(f"{file}: {error}") from None
        except OSError as error:
            raise SourceError(f"{file}: {unreadable_reason(error)}") from error
        if table.has_addresses and is_offline():
            raise SourceError(
                f"{file}: contains addresses of images, not images, and HF_HUB_OFFLINE forbids the "
                "network; unset it, or download them with img2dataset."
            )
        read = _Reader(file, state)
        items = []
        for row in range(table.rows):
            path = f"{file}::{row}"
            items.append(
                Item(
                    item_id(path),
                    path,
                    0,  # unread
                    (state.changed_ns + state.size) % (1 << 63),
                    labels[row] if labels else None,
                    self.root,
                    read,
                    caption=captions[row] if captions else None,
                )
            )
        return items


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a row's image; what is known of its file spares a look at each."""

    file: str
    state: State

    def __call__(self, item: Item) -> bytes:
        return read_row(item.path, self.state)


def read_row(path: str, state: State | None = None) -> bytes:
    """The bytes of the image in a row, by an item's path. Raises ImageError."""
    file, _, row = path.rpartition("::")
    try:
        table = open_rows(file, state or state_of(file))
        data = table.image(int(row)) if int(row) < table.rows else None
    except OSError as error:
        raise ImageError(f"{path}: {unreadable_reason(error)}") from error
    except (SourceError, StorageError) as error:
        raise ImageError(f"{path}: {error}") from error
    if not data:
        raise ImageError(f"{path}: the row holds no image")
    return data


class _Rows:
    """One file, opened: how many rows, the column of images, and how to read from it."""

    def __init__(self, schema: pa.Schema, rows: int, read: Callable[[str], Any]) -> None:
        self.schema = schema
        self.rows = rows
        self.column = _image_column(schema)
        self.has_addresses = self.column in _ADDRESSES
        self._read = read
        self._lock = threading.Lock()
        self.group: Callable[[int], tuple[Any, int]] | None = None

    def image(self, row: int) -> bytes | None:
        assert self.group is not None
        with self._lock:  # threads that decode ask for one group at the same time
            column, first = self.group(row)
        cell = column[row - first].as_py()
        if isinstance(cell, str):
            return fetch_image(cell)
        if isinstance(cell, dict):
            if not cell.get("bytes") and cell.get("path"):
                return Path(cell["path"]).read_bytes()
            cell = cell.get("bytes")
        return cell  # type: ignore[no-any-return]

    def texts(self, names: Sequence[str]) -> list[str | None] | None:
        """The first of these columns that there is, as texts; classes by their names."""
        name = next((name for name in names if name in self.schema.names), None)
        if name is None:
            return None
        classes = _features(self.schema).get(name, {}).get("names")
        values = self._read(name).to_pylist()
        if classes:
            known = range(len(classes))
            return [classes[v] if v in known else None for v in values]
        texts = [value if isinstance(value, str) else None for value in values]
        return texts if any(texts) else None


@lru_cache(maxsize=4)
def open_rows(file: str, state: State) -> _Rows:
    """A Parquet or Arrow file; its state makes a changed file another one.

    Raises SourceError for what cannot be read or has no images.
    """
    del state
    import pyarrow as pa

    try:
        return _parquet(file) if file.endswith(".parquet") else _arrow(file)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise SourceError(f"{file}: no {Path(file).suffix[1:]} file ({first})") from error
    except LookupError as error:
        raise SourceError(f"{file}: {error.args[0]}") from error


def _parquet(file: str) -> _Rows:
    import numpy as np
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(opened_for_parts(file) if is_url(file) else file, memory_map=True)
    sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
    firsts = np.cumsum([0, *sizes])
    rows = _Rows(
        opened.schema_arrow, int(firsts[-1]), lambda name: opened.read([name]).column(name)
    )

    @lru_cache(maxsize=2)
    def read(number: int) -> Any:
        table = opened.read_row_group(number, columns=[rows.column], use_threads=False)
        return table.column(rows.column)

    def group(row: int) -> tuple[Any, int]:
        number = int(np.searchsorted(firsts, row, side="right")) - 1
        return read(number), int(firsts[number])

    rows.group = group
    return rows


def _arrow(file: str) -> _Rows:
    import pyarrow as pa

    mapped = pa.memory_map(file)
    try:
        table = pa.ipc.open_stream(mapped).read_all()  # as Hugging Face's library writes them
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(mapped).read_all()
    rows = _Rows(table.schema, table.num_rows, table.column)
    rows.group = lambda row: (table.column(rows.column), 0)
    return rows


def _image_column(schema: pa.Schema) -> str:
    """The column with the images, or their addresses. Raises LookupError, with the reason."""
    import pyarrow as pa

    for field in schema:
        if pa.types.is_struct(field.type):
            inside = {field.type.field(i).name for i in range(field.type.num_fields)}
            if {"bytes", "path"} <= inside and "sampling_rate" not in inside:
                return str(field.name)
    for name in _IMAGES:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return name
    for name in _ADDRESSES:
        if name in schema.names and pa.types.is_string(schema.field(name).type):
            return name
    raise LookupError(f"has no column of images (columns: {', '.join(schema.names)[:200]})")


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What Hugging Face's library says of the columns."""
    told = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(told)["info"]["features"] if told else {}
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def saved_files(folder: str | Path) -> list[Path]:
    """The Arrow files of a data set that ``Dataset.save_to_disk`` wrote here; empty for none."""
    try:
        state = json.loads((Path(folder) / "state.json").read_text("utf-8"))
        return [Path(folder) / part["filename"] for part in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []
