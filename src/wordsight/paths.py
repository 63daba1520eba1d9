"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ~ and ~name as the shell takes them: a name that nobody has stays as it is.

    ``Path.expanduser`` raises RuntimeError for those.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111
