"""A table after a power cut or a disk's fault: what reads is kept; what was written is synced."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wordsight.errors import LibraryError
from wordsight.library.checksums import FOLDERS, Checksum, Checksums
from wordsight.library.files import sync_path
from wordsight.library.index.sidecar import newest_manifest
from wordsight.library.table import drop_fragments, files_of, open_table

_DERIVED = (
    "sidecar.npz",
    "closest*.npz",
    "statistics*.npz",
    "nearby*.npz",
    "flat.npz",
    "views-*.ann",
)
_LOST = "The next `wordsight index` embeds the rest again."


def open_readable(library: Path) -> tuple[Any, list[Path]]:
    """The newest version of the table that reads, and the manifests of newer ones that do not.

    Raises what the newest version's reader raised where none reads.
    """
    checksums = Checksums.load(library)
    manifest = f"_versions/{newest_manifest(library / 'views.lance')}"
    try:
        if manifest in checksums.files and checksums.wrong([manifest]):
            raise ValueError(f"{manifest} does not hold what was written")
        return open_table(library), []
    except (ValueError, OSError):
        damaged: list[Path] = []
        for path in sorted(checksums.path("_versions").glob("*.manifest")):  # newest first
            try:
                if checksums.wrong([f"_versions/{path.name}"]):
                    raise ValueError
                dataset = open_table(library, (1 << 64) - 1 - int(path.stem))
            except (ValueError, OSError):
                damaged.append(path)
                continue
            if not damaged:  # another library took this place just now
                return dataset, []
            warnings.warn(
                f"the newest {len(damaged)} version(s) of the library {library} are damaged (a "
                f"power cut?); {dataset.count_rows(filter='view = 0'):,} images of the one before "
                f"are there. {_LOST}",
                stacklevel=2,
            )
            return dataset, damaged
        raise


def check(library: Path, names: Iterable[str]) -> None:
    """Raise LibraryError where any of these files of the table is not what was written.

    A file that is gone is none: another process may have compacted the table. Raises OSError.
    """
    checksums = Checksums.load(library)
    wrong = checksums.wrong(names)
    if wrong and checksums.path(wrong[0]).exists():
        raise LibraryError(
            f"cannot read the table of the library {library}: {wrong[0]} is damaged (an incomplete "
            "copy, or a disk error?); copy it again, or index its folders again: "
            f"wordsight index FOLDER --library {library} restores what is lost."
        )


def repair(library: Path, checked: set[str], *, contents: bool) -> bool:
    """Put damaged files aside, so that the table can be written to; whether there were any.

    Damaged manifests go to ``damaged``; images in other damaged files are forgotten. Files that
    are ``checked`` are not read again; those that were read are added. Without ``contents`` all are
    known by their sizes alone. Raises what the table's reader raises.
    """
    dataset, damaged = open_readable(library)
    checksums = Checksums.load(library)
    for manifest in damaged:
        aside = library / "damaged"
        aside.mkdir(exist_ok=True)
        manifest.replace(aside / f"{os.urandom(4).hex()}-{manifest.name}")
        checksums.files.pop(f"_versions/{manifest.name}", None)
    if damaged:  # numbers of versions are given again
        checksums.save()
        checksums.path("_versions/latest_version_hint.json").unlink(missing_ok=True)
    lost = _unreadable_fragments(dataset, checksums, None if not contents else checked)
    if lost:
        before = dataset.count_rows()
        rest = drop_fragments(dataset, lost).count_rows()
        warnings.warn(
            f"{len(lost)} of the table's files in {library} differ from what was written there "
            f"(a disk error?): {before - rest:,} of {before:,} views are lost. {_LOST}",
            stacklevel=2,
        )
    if damaged or lost:
        for pattern in _DERIVED:
            for file in library.glob(pattern):
                file.unlink()
    return bool(damaged or lost)


def _unreadable_fragments(
    dataset: Any, checksums: Checksums, checked: set[str] | None
) -> list[int]:
    """The numbers of the fragments whose files are damaged or gone.

    Without ``checked`` contents are not looked at; else of files that are not among these, which
    are added.
    """
    lost = []
    for fragment in dataset.get_fragments():
        names = files_of(fragment)
        known = checksums.files.keys() >= set(names)
        read = checked is not None and not (known and checked.issuperset(names))
        if checksums.wrong(names, contents=read) or (read and not known and not _reads(fragment)):
            lost.append(int(fragment.fragment_id))
        elif checked is not None:
            checked.update(names)
    return lost


def _reads(fragment: Any) -> bool:
    """Whether all rows of a fragment that nothing is known of can be read."""
    try:
        for _ in fragment.to_batches():
            pass
    except (ValueError, OSError):
        return False
    return True


def sync(library: Path, known: Mapping[str, Checksum] | None = None) -> None:
    """Have the disk keep the table's new files, and remember what they hold.

    Files that are ``known`` were synced already and are not read.
    """
    checksums = Checksums.load(library)
    known = known or {}
    there: set[str] = set()
    for folder in FOLDERS:
        place = checksums.path(folder)
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        new = [name for name in names if f"{folder}/{name}" not in checksums.files]
        unsynced = [name for name in new if f"{folder}/{name}" not in known]
        for path in [*(place / name for name in unsynced), *([place] if new else [])]:
            sync_path(path)
        there.update(f"{folder}/{name}" for name in names)
    there.discard("_versions/latest_version_hint.json")  # the one file that is written again
    if there != checksums.files.keys():
        checksums.files |= known
        checksums.add(there - checksums.files.keys())
        checksums.files = {name: checksums.files[name] for name in there}
        checksums.save()
