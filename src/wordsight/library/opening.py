"""A library's directory, laid out or opened, and locked by the one process that writes to it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError, reason
from wordsight.library.files import write_atomically, writing
from wordsight.library.places import NAME, fallback_location, is_library
from wordsight.library.records import ModelRecord
from wordsight.library.table import create_table
from wordsight.paths import DRAFTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the one process that writes to this directory; what a disk says becomes our error."""
    with writing(path):
        from filelock import FileLock, Timeout

        lock = FileLock(path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LibraryError(
                f"another process is writing to the library {path}; "
                "wait until it has finished. You can search in the meantime."
            ) from None
        try:
            yield
        finally:
            lock.release()


def lay_out(
    path: Path,
    model: ModelRecord,
    bank_phrases: Sequence[str],
    bank_vectors: NDArray[np.float32],
) -> dict[str, Any]:
    """Make an empty library for vectors of ``model``.

    ``bank_vectors`` is float32 [B, D], the text vectors of the B neutral phrases. Raises
    LibraryError when the directory holds a library or something else, or cannot be written.
    """
    import numpy as np

    from wordsight import __version__

    _check_name(path)
    if is_library(path):
        raise LibraryError(f"{path} already holds a library; open it, or choose another place.")
    if os.path.exists(path) and (  # noqa: PTH110  (a path of any length)
        not path.is_dir() or any(path.iterdir())
    ):
        # What an interrupted create left behind is ours to overwrite.
        leftovers = list(path.iterdir()) if path.is_dir() else [path]
        ours = {"views.lance", "bank.npz", "lock"}
        if not all(p.name in ours or p.match(DRAFTS) for p in leftovers):
            raise LibraryError(f"{path} exists and is not a library; choose another place.")
    record = {
        "format": FORMAT,
        "id": os.urandom(8).hex(),
        "wordsight": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": asdict(model),
    }
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if (path / "library.json").exists():  # another process was faster just now
            raise LibraryError(f"{path} already holds a library; open it, or choose another.")
        np.savez(
            path / "bank.npz",
            phrases=np.array(list(bank_phrases), dtype=np.str_),
            vectors=bank_vectors,
        )
        create_table(path, model.dim)
        # Written last: a directory with library.json is a complete library.
        write_atomically(path / "library.json", json.dumps(record, indent=2).encode())
    return record


def read_library(path: Path) -> tuple[Path, dict[str, Any]]:
    """Open a library. Raises LibraryError when there is none, or it is of a newer format."""
    file = path / "library.json"
    try:
        if not is_library(path):  # a folder of images, as default_location was given it
            for place in (path / NAME, fallback_location(path.resolve())):
                if is_library(place):
                    path, file = place, place / "library.json"
                    break
        record = json.loads(file.read_text(encoding="utf-8"))
        version = record["format"]
        if version > FORMAT:
            raise LibraryError(
                f"the library {path} has format {version}, and this wordsight reads formats up "
                f"to {FORMAT}; upgrade with: pip install --upgrade wordsight"
            )
        return path, record
    except FileNotFoundError:
        raise LibraryError(
            f"no library at {path}; create one with: wordsight index FOLDER --library {path}"
        ) from None
    except NotADirectoryError:
        raise LibraryError(
            f"{path} is a file; name a library's directory, or the folder that contains it."
        ) from None
    except PermissionError:
        raise LibraryError(f"cannot read the library {path}: permission denied.") from None
    except OSError as error:  # no path at all, for example
        raise LibraryError(f"cannot read the library {path}: {reason(error)}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryError(
            f"{file} is damaged ({error}); restore it, or index into another directory."
        ) from None


def _check_name(path: Path) -> None:
    """Raise LibraryError for a path that Lance cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise LibraryError(
            f"the path {shown} is not valid UTF-8; choose another place for the library."
        ) from None
