"""What must be known of an ONNX file before a runtime opens it: is it whole, sizes of its tensors.

An ONNX file is one protobuf message (``onnx.proto``); the few fields that matter here are read
without the package ``onnx``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wordsight.errors import ModelError

# Field numbers of onnx.proto.
_GRAPH = 7  # of ModelProto
_INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 5, 11, 12, 13  # of GraphProto
_TENSOR_NAME = 8  # of TensorProto
_NAME, _TYPE = 1, 2  # of ValueInfoProto
_TENSOR_TYPE = 1  # of TypeProto
_SHAPE = 2  # of TypeProto.Tensor
_DIM = 1  # of TensorShapeProto
_DIM_VALUE, _DIM_PARAM = 1, 2  # of Dimension

_Field = tuple[int, "int | memoryview"]


def check_file(path: Path) -> None:
    """Raise ModelError unless this is a whole ONNX file.

    Asked before a runtime is because OpenVINO, given anything else, tries its readers for other
    formats in turn, and they write to the terminal.
    """
    try:
        with path.open("rb") as file:
            whole = _is_onnx(file, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path}: the model's graph cannot be read ({error.strerror})") from error
    if not whole:
        raise ModelError(
            f"{path}: this is not a complete ONNX graph (an unfinished download, or a Git LFS "
            "pointer?); delete it and fetch the model again"
        )


def _is_onnx(file: BinaryIO, size: int) -> bool:
    """Walk the outer fields of the file: a protobuf ModelProto with a graph, to its very end."""

    def varint() -> int:
        value = shift = 0
        while byte := file.read(1):
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7
            if shift > 63:
                break
        return -1

    graph = False
    while file.tell() < size:
        field, kind = divmod(varint(), 8)
        if field < 1 or kind not in (0, 2):  # ModelProto has numbers and messages only
            return False
        length = varint()
        if length < 0:
            return False
        if kind == 2:
            file.seek(length, os.SEEK_CUR)
        graph = graph or field == _GRAPH
    return graph and file.tell() == size


def fixed_size(path: Path, axis: int = 0) -> int | None:
    """A dimension of all inputs, where it is one number; None where it may vary.

    None too for what cannot be read: a runtime says what is wrong with it.
    """
    import mmap

    try:
        with path.open("rb") as file:
            # Closed with the last view of it.
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        sizes = {next(iter(_dimensions(value)[axis:]), None) for value in _inputs(whole)}
    except (OSError, ValueError, IndexError):
        return None
    return (sizes.pop() or None) if len(sizes) == 1 else None


def output_shapes(path: Path) -> dict[str, list[int | None]]:
    """The shapes of a graph's outputs by name; None for a dimension that may vary.

    Empty for what cannot be read: a runtime says what is wrong with it.
    """
    import mmap

    try:
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return {
            _text(value, _NAME): _dimensions(value)
            for number, graph in _fields(whole)
            if number == _GRAPH and not isinstance(graph, int)
            for field, value in _fields(graph)
            if field == _OUTPUT and not isinstance(value, int)
        }
    except (OSError, ValueError, IndexError):
        return {}


def with_free_axes(data: bytes, axes: int) -> bytes:
    """The same graph with the first ``axes`` dimensions of its inputs left open, and its batch.

    The batch is the first dimension of the outputs too. The shapes of inner tensors, which name the
    old ones, are left out; runtimes find them.
    """
    parts = []
    for number, value in _fields(memoryview(data)):
        if number == _GRAPH and not isinstance(value, int):
            parts.append(_message(number, _free_graph(value, axes)))
        else:
            parts.append(_encoded(number, value))
    return b"".join(parts)


def _free_graph(graph: memoryview, axes: int) -> bytes:
    weights = _weights(graph)
    parts = []
    for number, value in _fields(graph):
        if number == _VALUE_INFO:
            continue
        is_open = number in (_INPUT, _OUTPUT) and not isinstance(value, int)
        if is_open and _text(value, _NAME) not in weights:
            path = (_TYPE, _TENSOR_TYPE, _SHAPE)
            parts.append(_message(number, _free(value, path, axes if number == _INPUT else 1)))
        else:
            parts.append(_encoded(number, value))
    return b"".join(parts)


def _free(message: int | memoryview, path: tuple[int, ...], axes: int) -> bytes:
    """Copy a message; of the shape at the end of ``path`` the first dimensions get names."""
    assert not isinstance(message, int)
    parts, names = [], [b"batch", b"length"][:axes]
    for number, value in _fields(message):
        if path and number == path[0]:
            parts.append(_message(number, _free(value, path[1:], axes)))
        elif not path and number == _DIM and names:
            parts.append(_message(_DIM, _message(_DIM_PARAM, names.pop(0))))
        else:
            parts.append(_encoded(number, value))
    return b"".join(parts)


def _inputs(model: memoryview) -> Iterator[memoryview]:
    """The inputs of a model that are no weights, each a ValueInfoProto."""
    for number, graph in _fields(model):
        if number == _GRAPH and not isinstance(graph, int):
            weights = _weights(graph)
            for field, value in _fields(graph):
                is_input = field == _INPUT and not isinstance(value, int)
                if is_input and not isinstance(value, int) and _text(value, _NAME) not in weights:
                    yield value


def _weights(graph: memoryview) -> set[str]:
    """Names of the weights, which older files list as inputs too."""
    found = (value for number, value in _fields(graph) if number == _INITIALIZER)
    return {_text(value, _TENSOR_NAME) for value in found}


def _dimensions(value: memoryview) -> list[int | None]:
    """The shape of a ValueInfoProto: numbers, None for what may vary; empty where it says none."""
    place = value
    for wanted in (_TYPE, _TENSOR_TYPE, _SHAPE):
        found = next((inner for number, inner in _fields(place) if number == wanted), None)
        if found is None or isinstance(found, int):
            return []
        place = found
    return [
        next((n for key, n in _fields(dim) if key == _DIM_VALUE and isinstance(n, int)), None)
        for number, dim in _fields(place)
        if number == _DIM and not isinstance(dim, int)
    ]


def _text(message: int | memoryview, wanted: int) -> str:
    assert not isinstance(message, int)
    for number, value in _fields(message):
        if number == wanted and not isinstance(value, int):
            return bytes(value).decode("utf-8", "replace")
    return ""


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a protobuf message: numbers, and bytes of all other kinds.

    Raises IndexError or ValueError for what is no message.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = divmod(tag, 8)
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind}")
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, at = _varint(message, at)
        if at + length > end:
            raise ValueError("cut message")
        # Numbers of fixed size (weights may have some) are of no use here.
        yield number if kind == 2 else -number, message[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _encoded(number: int, value: int | memoryview) -> bytes:
    if isinstance(value, int):
        return _number(number * 8) + _number(value)
    if number < 0:
        raise ValueError("a number of fixed size, where ONNX has none")
    return _message(number, value)


def _message(number: int, data: bytes | memoryview) -> bytes:
    return _number(number * 8 + 2) + _number(len(data)) + bytes(data)


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
