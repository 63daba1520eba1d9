"""A file that images lie in, on a disk or in storage at a URL: opened, its state, a part of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import IO, NamedTuple

from wordsight.errors import ImageError, SourceError, StorageError
from wordsight.sources.base import read_file
from wordsight.storage import Objects, Readable, buffered, is_url, unbuffered

_PATTERN = re.compile(r"[*?\[]")


class State(NamedTuple):
    """Bytes of a file, and when it was last changed, in nanoseconds."""

    size: int
    changed_ns: int


def place_of(file: str | os.PathLike[str]) -> str:
    """The file's full name: a path without links, or its URL."""
    return str(file) if is_url(str(file)) else os.path.realpath(file)


@contextlib.contextmanager
def opened(place: str) -> Iterator[tuple[IO[bytes], State]]:
    """A file to read and seek in, and its state. Raises OSError, or StorageError for a URL."""
    if is_url(place):
        objects, name = _object(place)
        state = State(*objects.state(name))
        yield buffered(objects, name), state
        return
    with open(place, "rb", buffering=0) as file:  # noqa: PTH123
        # Of the file that is open, and before it is read: were it replaced meanwhile, the next run
        # must see another one.
        status = os.fstat(file.fileno())
        yield file, State(status.st_size, status.st_mtime_ns)


def state_of(place: str) -> State:
    """The state of a file. Raises OSError, or StorageError for a URL."""
    if is_url(place):
        objects, name = _object(place)
        return State(*objects.state(name))
    status = os.stat(place)  # noqa: PTH116
    return State(status.st_size, status.st_mtime_ns)


def read_part(place: str, name: str, offset: int, size: int) -> bytes:
    """``size`` bytes of a file, from ``offset``. Raises ImageError ("<name>: <reason>")."""
    if not is_url(place):
        return read_file(place, name, offset, size)
    objects, key = _object(place)
    try:
        data = objects.part(key, offset, size)
    except FileNotFoundError:
        raise ImageError(f"{name}: the archive is gone") from None
    except StorageError as error:
        raise ImageError(f"{name}: {error}") from None
    if len(data) < size:
        raise ImageError(f"{name}: the archive ends before the end of the image")
    return data


def opened_for_parts(url: str) -> IO[bytes]:
    """A file at a URL, for few large reads: each is a request. Raises OSError or StorageError."""
    return unbuffered(*_object(url))


def listed(url: str) -> list[str]:
    """The files that a URL names: itself, those that fit its pattern, or shards in its folder.

    ``*``, ``?`` and ``[...]`` stand for parts of a name, not of a folder's. A folder is named by a
    "/" at the end, or as a data set of the hub: of that the ``.tar`` files, else the ``.parquet``
    ones. Raises SourceError where nothing fits.
    """
    is_hub = url.startswith("hf://")
    if url.lower().startswith("http"):  # has no listing, and "?" has another meaning
        return [url]
    try:
        if is_hub:
            from wordsight.sources.hub import data_set

            found, pattern = data_set(url)
            if pattern and not (_PATTERN.search(pattern) or pattern.endswith("/")):
                return [url]
            folder, names = found.url, found.names()
        else:
            begin = _PATTERN.search(url)
            if not begin and not url.endswith("/"):
                return [url]
            folder = url[: begin.start() if begin else None].rpartition("/")[0]
            names, pattern = sorted(Objects(folder).ages("")), url[len(folder) + 1 :]
    except StorageError as error:
        raise SourceError(str(error)) from None
    fitting = _fitting(names, pattern)
    if not fitting:
        raise SourceError(f"{url}: no .tar shard or .parquet table is there.")
    return [f"{folder}/{name}" for name in fitting]


def _fitting(names: Sequence[str], pattern: str) -> list[str]:
    if pattern and not pattern.endswith("/"):
        parts = pattern.split("/")
        return [
            name
            for name in names
            if name.count("/") == len(parts) - 1 and all(map(fnmatchcase, name.split("/"), parts))
        ]
    inside = [name for name in names if name.startswith(pattern)]
    shards = [name for name in inside if name.lower().endswith(".tar")]
    return shards or [name for name in inside if name.lower().endswith(".parquet")]


def _object(url: str) -> tuple[Readable, str]:
    if url.startswith("hf://"):
        from wordsight.sources.hub import data_set

        return data_set(url)
    folder, _, name = url.rpartition("/")
    return _objects(folder), name


_objects = lru_cache(maxsize=64)(Objects)
