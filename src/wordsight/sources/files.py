"""A file that images lie in, on a disk or in storage at a URL: opened, its state, a part of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, NamedTuple

from wordsight.errors import ImageError, StorageError
from wordsight.sources.base import read_file
from wordsight.storage import Objects, is_url


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
        yield objects.reader(name), state
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


def _object(url: str) -> tuple[Objects, str]:
    folder, _, name = url.rpartition("/")
    return _objects(folder), name


_objects = lru_cache(maxsize=64)(Objects)
