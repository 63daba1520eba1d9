"""A library that another takes the place of, in two renames that a crash cannot tear apart.

The other one is made in a hidden directory beside it, and says in its record which library it
``replaces``::

    .wordsight            the library
    .wordsight.remodel    the other one, in the making
    .wordsight.replaced   the library again, once it has gone aside; then it is deleted

The library goes aside only when the other one is whole. So where nothing is in its place and both
are beside it, the renames were cut, and :func:`settle` does the second one. Whoever comes first may
do that: the process that began, or the next that opens the library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from wordsight.errors import LibraryError, reason
from wordsight.library.files import read_record, sync_path


def draft_of(library: Path) -> Path:
    """Where the library is made that is to take the place of this one."""
    return _beside(library, "remodel")


def check_replaceable(library: Path) -> None:
    """Raise LibraryError where a library cannot be renamed."""
    place, aside = _place(library), _beside(library, "replaced")
    why = None
    if place.is_mount():
        why = "it is a mount point"
    elif not os.access(place.parent, os.W_OK):
        why = f"{place.parent} cannot be written to"
    elif aside.exists() and any(aside.iterdir()) and not _is_leftover(library, aside):
        why = f"{aside} is in the way (move it elsewhere)"
    if why:
        raise LibraryError(
            f"cannot replace the library {library}: {why}; or index the same images "
            "into another directory: --library DIR --model NAME."
        )


def swap(library: Path) -> None:
    """Put the draft in the place of a library, which is deleted (call it under the lock).

    Raises OSError or LibraryError, and then the library is where it was.
    """
    place, aside = _place(library), _beside(library, "replaced")
    clear(library)
    place.rename(aside)
    try:
        settle(library)
        if not place.exists():
            raise LibraryError(f"{draft_of(library)} no longer exists; run the same command again.")
    except LibraryError:
        aside.rename(place)
        raise
    clear(library)


def settle(library: Path) -> None:
    """Where a library has gone aside and nothing has taken its place, put the draft there.

    Raises LibraryError when it cannot be renamed.
    """
    if os.path.exists(library):  # noqa: PTH110  (a path of any length)
        return
    draft, aside = draft_of(library), _beside(library, "replaced")
    was = read_record(aside).get("id")
    if was is None or read_record(draft).get("replaces") != was:
        return
    try:
        draft.rename(_place(library))
        with contextlib.suppress(OSError):  # not all file systems sync folders
            sync_path(draft.parent)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise LibraryError(
            f"the library {library} is being replaced by {draft}, but that cannot be renamed "
            f"({reason(error)}); rename it yourself."
        ) from None


def clear(library: Path) -> None:
    """Delete what is left of the library that was replaced by the one in this place."""
    aside = _beside(library, "replaced")
    if not _is_leftover(library, aside):
        return
    with contextlib.suppress(OSError):
        for inner in aside.iterdir():
            if inner.is_dir():
                shutil.rmtree(inner, ignore_errors=True)
            elif inner.name != "library.json":  # it goes last: it says what this is
                inner.unlink()
        shutil.rmtree(aside)


def _place(library: Path) -> Path:
    """Where a library is; its path may be a link."""
    return Path(os.path.realpath(library))


def _beside(library: Path, what: str) -> Path:
    place = _place(library)
    return place.with_name(f".{place.name.removeprefix('.')}.{what}")


def _is_leftover(library: Path, aside: Path) -> bool:
    was = read_record(aside).get("id")
    return was is not None and was == read_record(library).get("replaces")
