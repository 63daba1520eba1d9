"""A table after a power cut: the last version that reads, and what was written, on the disk."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from wordsight.library.table import open_table

_MANIFESTS = "views.lance/_versions"
_DERIVED = ("sidecar.npz", "statistics*.npz", "nearby*.npz", "flat.npz", "views-*.ann")


def open_readable(library: Path) -> tuple[Any, list[Path]]:
    """The newest version of the table that reads, and the manifests of newer ones that do not.

    Raises what the newest version's reader raised where none reads.
    """
    try:
        return open_table(library), []
    except (ValueError, OSError):
        damaged: list[Path] = []
        for manifest in sorted((library / _MANIFESTS).glob("*.manifest")):  # newest first
            try:
                dataset = open_table(library, (1 << 64) - 1 - int(manifest.stem))
            except (ValueError, OSError):
                damaged.append(manifest)
                continue
            warnings.warn(
                f"the newest {len(damaged)} version(s) of the library {library} are damaged (a "
                f"power cut?); {dataset.count_rows(filter='view = 0'):,} images of the one before "
                "are there. The next `wordsight index` embeds the rest again.",
                stacklevel=2,
            )
            return dataset, damaged
        raise


def repair(library: Path) -> bool:
    """Put damaged manifests aside, in ``damaged``, so that the table can be written to again."""
    _, damaged = open_readable(library)
    for manifest in damaged:
        aside = library / "damaged"
        aside.mkdir(exist_ok=True)
        manifest.replace(aside / f"{os.urandom(4).hex()}-{manifest.name}")
    if damaged:  # numbers of versions are given again
        (library / _MANIFESTS / "latest_version_hint.json").unlink(missing_ok=True)
        for pattern in _DERIVED:
            for file in library.glob(pattern):
                file.unlink()
    return bool(damaged)


def sync(library: Path, synced: set[str]) -> None:
    """Have the disk keep the table's files that are not among those ``synced`` yet."""
    for folder in ("data", "_deletions", "_transactions", "_versions"):
        place = library / "views.lance" / folder
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        new = [name for name in names if f"{folder}/{name}" not in synced]
        for path in [*(place / name for name in new), *([place] if new else [])]:
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        synced.update(f"{folder}/{name}" for name in new)
