"""The files beside the table: written whole or not at all; and what disks answer, in words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError
from wordsight.paths import drafted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SOURCE_PLACE = re.compile(r",? \S+\.rs:\d+(:\d+)?")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a disk says while a library is written into errors of ours."""
    try:
        yield
    except OSError as error:
        # Lance reports the system's errors as text inside an OSError without errno.
        text = str(error)
        if error.errno == errno.ENOSPC or "No space left" in text or "os error 28" in text:
            raise LibraryError(
                f"no space left on the disk of the library {path}; free some and run the same "
                "command again. What is indexed so far is kept."
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) or "ermission denied" in text:
            raise LibraryError(
                f"cannot write to the library {path}: permission denied; "
                "choose another place with --library DIR."
            ) from None
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise LibraryError(
                f"the drive of the library {path} does not support file locks (some network drives "
                "do not), so two runs at once could damage it; keep the library on another drive "
                "with --library DIR. The images can stay."
            ) from None
        raise LibraryError(f"cannot write the library {path}: {short(error)}") from error


def sync_path(path: Path) -> None:
    """Have the disk keep a file, or what a folder names. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_record(library: Path) -> dict[str, Any]:
    """The record of a library (``library.json``); an empty one where none can be read."""
    with contextlib.suppress(OSError, ValueError):
        record: dict[str, Any] = json.loads((library / "library.json").read_text("utf-8"))
        return record
    return {}


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole, or leave the one that is there. Raises OSError."""
    with drafted(path) as draft, draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What ``np.savez`` wrote. Raises ValueError when the file is missing or damaged."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(short(error)) from None


def is_unread(error: Exception) -> bool:
    """Whether the table's files could not be read, as Lance and Arrow say it."""
    return isinstance(error, OSError) or "lance" in str(error).lower()


def short(error: BaseException) -> str:
    """The first line of what an error says, without the places in its sources that Lance adds."""
    said = _SOURCE_PLACE.sub("", (str(error).splitlines() or [""])[0])
    return said[:200] or type(error).__name__


def load_arrays(library: Path, name: str, version: int) -> dict[str, NDArray[Any]] | None:
    """What :func:`save_arrays` saved for this version; None when there is nothing of it."""
    try:
        saved = read_arrays(library / f"{name}.npz")
        return saved if int(saved.pop("version")) == version else None
    except (ValueError, KeyError):
        return None


def save_arrays(library: Path, name: str, version: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays derived from a version of the table (a read-only library keeps none)."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, version=np.int64(version), **arrays)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        write_atomically(library / f"{name}.npz", buffer.getvalue())
