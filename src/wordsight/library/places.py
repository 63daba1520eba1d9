"""Where a library is: in the folder of its images, or the nearest folder above."""

from __future__ import annotations

import os
from pathlib import Path

from wordsight.errors import LibraryError
from wordsight.library.swap import settle
from wordsight.paths import expanded
from wordsight.storage import is_url, local

NAME = ".wordsight"


def fallback_location(folder: Path) -> Path:
    """Where the library of a folder that cannot be written to lives: the user's data folder."""
    import hashlib

    from platformdirs import user_data_path

    key = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return user_data_path("wordsight") / "libraries" / f"{folder.name or 'root'}-{key}"


def default_location(first: str | Path) -> Path:
    """The library for images at ``first``: ``.wordsight`` in the folder, or in the file's folder.

    A data set's name ("cifar10") means the current folder. Where that folder is read-only, a
    place in the user's data folder is used; :func:`find` knows it.
    """
    path = expanded(first)
    folder = path if path.is_dir() else path.parent if path.exists() else Path.cwd()
    folder = folder.resolve()
    if (folder / NAME).exists() or os.access(folder, os.W_OK):
        return folder / NAME
    return fallback_location(folder)


def is_library(place: str | Path) -> bool:
    """Whether there is a library in this place; one whose replacement was cut off is put there.

    Raises LibraryError for a URL whose storage does not answer.
    """
    if is_url(place):
        from wordsight.library.remote.replica import Replica

        return Replica(str(place)).exists()
    place = local(place)
    record = place / "library.json"
    if os.path.isfile(record):  # noqa: PTH113  (a path of any length)
        return True
    settle(place)
    return os.path.isfile(record)  # noqa: PTH113


def find(start: str | Path | None = None) -> Path:
    """The library of a folder or of the nearest folder above it, as git finds its repository.

    Raises LibraryError when there is none.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        for place in (folder / NAME, fallback_location(folder)):
            if is_library(place):
                return place
    raise LibraryError(
        f"no library in {here} or above it; create one with: wordsight index FOLDER, "
        "or name one with --library DIR."
    )
