"""Weights that an ONNX graph keeps in files beside it, as its tensors name them.

Graphs above 2 GB must, under any name. The graph's protobuf is walked without the package onnx, and
without reading the weights it holds itself (field numbers: ``onnx.proto``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wordsight.errors import ModelError
from wordsight.runtime.cache import writable_cache

# Messages that lead to a tensor: message -> field -> message.
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_data(graph: Path) -> list[str]:
    """Return the files that a graph's tensors name, relative to its folder, each once.

    Raises ModelError for a file that cannot be read, or a name that leads out of the folder.
    """
    try:
        with graph.open("rb") as stream:
            found = dict.fromkeys(_locations(stream, graph.stat().st_size, "model"))
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{graph}: not a complete ONNX graph; fetch the model again") from error
    for name in found:
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name or not name:
            raise ModelError(f"{graph}: keeps weights outside its folder ({name!r}); not opened")
    return list(found)


def plain_folder(graph: Path) -> Path:
    """Return the graph where its external data are plain files beside it.

    The hub's cache holds links into another folder, which OpenVINO refuses for external data. Then
    a folder of hard links in wordsight's cache stands in (copies, on another disk).
    """
    names = [graph.name, *external_data(graph)]
    if len(names) == 1 or not any((graph.parent / name).is_symlink() for name in names):
        return graph
    real = [(graph.parent / name).resolve() for name in names]
    folder = writable_cache("plain")
    if folder is None:
        return graph
    key = "\0".join(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in real)
    folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    for name, path in zip(names, real, strict=True):
        there = folder / name
        if there.is_file() and there.stat().st_size == path.stat().st_size:
            continue
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                there.unlink()
            try:
                os.link(path, there)
            except OSError:
                shutil.copy2(path, there)
        except OSError as error:
            raise ModelError(
                f"{there}: the weights cannot be laid out for OpenVINO ({error.strerror}); make "
                "room, or use --runtime onnxruntime"
            ) from error
    return folder / graph.name


def _locations(stream: BinaryIO, end: int, message: str) -> Iterator[str]:
    """Walk one message up to ``end``."""
    ways = _WAYS[message]
    while stream.tell() < end:
        field, kind = divmod(_varint(stream), 8)
        if kind == 0:
            _varint(stream)
        elif kind in (1, 5):
            stream.seek(8 if kind == 1 else 4, os.SEEK_CUR)
        elif kind == 2:
            stop = _varint(stream) + stream.tell()
            if field in ways and ways[field] == "entry":
                key, value = _entry(stream, stop)
                if key == "location":
                    yield value
            elif field in ways:
                yield from _locations(stream, stop, ways[field])
            stream.seek(stop)
        else:
            raise IndexError(kind)


def _entry(stream: BinaryIO, end: int) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    while stream.tell() < end:
        field = _varint(stream) // 8
        texts[field] = stream.read(_varint(stream)).decode("utf-8")
    return texts[1], texts[2]


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = stream.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
