"""Prints of a library's images: made once, and kept with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from wordsight.duplicates.likeness import print_of, sharpness
from wordsight.errors import WordsightError
from wordsight.library import Entry, Print, Prints, Store
from wordsight.video import split_frame

Progress = Callable[[int, int], None]

_DECODED_SIDE = 512  # pixels; sharpness needs more than a print does
_AT_ONCE = 64


def read_prints(
    store: Store, *, progress: Progress | None = None
) -> tuple[Prints, list[tuple[str, str]]]:
    """The prints of a library's images by the hashes of their files, and what could not be read.

    They are kept with the library, so that only images that are new since the last time are read,
    or since a run that was interrupted.
    Frames of videos are left out: those beside each other are alike, and no files of their own.
    """
    there, gone = present(store)
    entries = {entry.hash: entry for entry in there}
    prints = Prints(store.path)
    kept = prints.hashes()
    prints.forget(kept - entries.keys())
    todo = [entry for known, entry in entries.items() if known not in kept]
    skipped = [(path, "no such file") for path in gone]
    done = 0
    for some in _printed(todo):
        prints.add((entry.hash, found) for entry, found in some if isinstance(found, Print))
        skipped += [(entry.path, found) for entry, found in some if isinstance(found, str)]
        done += len(some)
        if progress:
            progress(done, len(todo))
    return prints, skipped


def present(store: Store) -> tuple[list[Entry], list[str]]:
    """The images that may be duplicates, and the paths of those whose files are gone.

    Of a copy that was deleted since the library was indexed, another may be the last one.
    """
    from wordsight.sources.location import archive_of

    there: list[Entry] = []
    gone: list[str] = []
    for entry in store.entries():
        if split_frame(entry.path):
            continue
        known = os.path.isabs(path := entry.path)  # noqa: PTH117  (others are images in memory)
        if known and not os.path.exists(path) and archive_of(path) is None:  # noqa: PTH110
            gone.append(entry.path)
        else:
            there.append(entry)
    return there, gone


def _printed(entries: Sequence[Entry]) -> Iterator[list[tuple[Entry, Print | str]]]:
    waiting = iter(entries)
    with ThreadPoolExecutor(thread_name_prefix="print") as pool:
        while some := list(islice(waiting, _AT_ONCE)):
            yield list(zip(some, pool.map(_read, some), strict=True))


def _read(entry: Entry) -> Print | str:
    from wordsight.images import open_image
    from wordsight.sources import read_location

    try:
        data = read_location(entry.path)
        image = open_image(data, min_side=_DECODED_SIDE, name=entry.path)
    except (WordsightError, OSError, MemoryError) as error:
        return str(error).removeprefix(f"{entry.path}: ") or type(error).__name__
    return Print(print_of(image), sharpness(image))
