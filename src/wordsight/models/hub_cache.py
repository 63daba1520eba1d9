"""The caches of models from the hub: the one that all its programs share, and wordsight's own.

``huggingface_hub`` knows where the first is (``HF_HUB_CACHE``, ``HF_HOME``) and how both are laid
out. Where it cannot be written, the second takes what is fetched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from wordsight.errors import HubError
from wordsight.runtime.cache import cache_folder


def cached(repository: str, required: Sequence[str], revision: str = "main") -> Path | None:
    """Find a repository in the caches: a folder with all ``required`` files, or None."""
    for root in _roots():
        found = [in_cache(root, repository, name, revision) for name in required]
        if found and found[0] and all(found):
            return folder_of(found[0], required[0])
    return None


def commit_of(repository: str, file: str, folder: Path) -> str | None:
    """Tell the commit of a repository's folder in the caches, which holds ``file``; None elsewhere.

    The name of the folder is taken for it where the hub library finds the folder by it.
    """
    commit = folder.name
    return commit if cached(repository, [file], commit) == folder else None


def in_cache(root: Path, repository: str, name: str, revision: str) -> Path | None:
    """Find a file of a repository in one cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name, cache_dir=root, revision=revision)
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def folder_of(path: Path, name: str) -> Path:
    """Return the folder in which a repository's file of this name lies at ``path``."""
    return path.parents[name.count("/")]


def _roots() -> list[Path]:
    """Return the caches to look in, the one to write to first where it can be written."""
    from huggingface_hub import constants

    return [Path(constants.HF_HUB_CACHE), cache_folder() / "hub"]


def writable_root() -> Path:
    """Return the first cache that can be written, made if need be; HubError if none can."""
    roots = _roots()
    for root in roots:
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            if os.access(root, os.W_OK):
                return root
    raise HubError(
        f"no cache can be written ({', '.join(map(str, roots))}): set HF_HOME or WORDSIGHT_CACHE "
        "to a folder that can be"
    )


def check_room(root: Path, size: int) -> None:
    """Raise HubError where so many bytes would not fit."""
    free = shutil.disk_usage(root).free
    if free < size:
        raise HubError(
            f"{root}: {size / 1e6:,.0f} MB are needed, but only {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to another disk"
        )
