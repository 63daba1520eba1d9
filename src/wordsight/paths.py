"""Paths as people write them; files that are written whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"file:(//(localhost)?)?/(?!/)", re.IGNORECASE)  # RFC 8089, of this machine


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ~ and ~name as the shell takes them: a name that nobody has stays as it is.

    ``Path.expanduser`` raises RuntimeError for those. Addresses of files, as file managers copy and
    drop them (``file:///home/me/a%20b.jpg``), become their paths; those of other hosts stay.
    """
    if found := _ADDRESS.match(address := os.fspath(path)):
        from urllib.request import url2pathname

        return Path(url2pathname("/" + address[found.end() :]))
    return Path(os.path.expanduser(path))  # noqa: PTH111


def sentence_end(path: str) -> str:
    """A path that a full stop may follow: after "." it would name the folder above."""
    return os.path.abspath(path) if path.endswith(".") else path  # noqa: PTH100


DRAFTS = ".????????????????.new"
"""What the files of :func:`drafted` match, to know those that a killed process left behind."""


@contextlib.contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``; it takes that place once the block ends well, else it goes.

    Raises OSError.
    """
    draft = path.with_name(f".{os.urandom(8).hex()}.new")
    try:
        yield draft
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def file_digest(path: Path, digest: Any) -> str:
    """Return the hexadecimal digest of a file's bytes, after what ``digest`` has seen.

    ``digest`` is one of :mod:`hashlib`. The file is read piece by piece. Raises OSError.
    """
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())
