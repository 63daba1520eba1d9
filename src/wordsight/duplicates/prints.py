"""Prints of a library's images: made once, and kept with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from wordsight.duplicates.likeness import SIDE, print_of, sharpness
from wordsight.errors import WordsightError
from wordsight.library import Entry, Store
from wordsight.video import split_frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]

_DECODED_SIDE = 512  # pixels; sharpness needs more than a print does
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Print:
    """What is kept of an image's pixels to compare it by."""

    grey: NDArray[np.uint8]
    sharpness: float


def read_prints(
    store: Store, *, progress: Progress | None = None
) -> tuple[dict[str, Print], list[tuple[str, str]]]:
    """The prints of a library's images by the hashes of their files, and what could not be read.

    They are kept with the library, so that only images that are new since the last time are read.
    Frames of videos are left out: those beside each other are alike, and no files of their own.
    """
    entries = {e.hash: e for e in store.entries() if not split_frame(e.path)}
    kept = {known: value for known, value in _unpacked(store.prints()).items() if known in entries}
    todo = [entry for known, entry in entries.items() if known not in kept]
    skipped: list[tuple[str, str]] = []
    for done, (entry, found) in enumerate(_printed(todo), start=1):
        if isinstance(found, str):
            skipped.append((entry.path, found))
        else:
            kept[entry.hash] = found
        if progress:
            progress(done, len(todo))
    if todo:
        store.save_prints(_packed(kept))
    return kept, skipped


def _printed(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Print | str]]:
    waiting = iter(entries)
    with ThreadPoolExecutor(thread_name_prefix="print") as pool:
        while some := list(islice(waiting, _AT_ONCE)):
            yield from zip(some, pool.map(_read, some), strict=True)


def _read(entry: Entry) -> Print | str:
    from wordsight.images import open_image
    from wordsight.sources import read_location

    try:
        data = read_location(entry.path)
        image = open_image(data, min_side=_DECODED_SIDE, name=entry.path)
    except (WordsightError, OSError, MemoryError) as error:
        return str(error).removeprefix(f"{entry.path}: ") or type(error).__name__
    return Print(print_of(image), sharpness(image))


def _packed(prints: Mapping[str, Print]) -> dict[str, NDArray[Any]]:
    import numpy as np

    pixels = np.zeros((len(prints), SIDE, SIDE), np.uint8)
    for place, each in zip(pixels, prints.values(), strict=True):
        height, width = each.grey.shape
        place[:height, :width] = each.grey
    return {
        "hashes": np.array(list(prints), np.str_),
        "pixels": pixels,
        "sides": np.array([each.grey.shape for each in prints.values()], np.int16).reshape(-1, 2),
        "sharpness": np.array([each.sharpness for each in prints.values()], np.float32),
    }


def _unpacked(arrays: Mapping[str, NDArray[Any]] | None) -> dict[str, Print]:
    if arrays is None:
        return {}
    try:
        rows = zip(
            arrays["hashes"].tolist(),
            arrays["pixels"],
            arrays["sides"].tolist(),
            arrays["sharpness"].tolist(),
            strict=True,
        )
        return {known: Print(grey[:h, :w], sharp) for known, grey, (h, w), sharp in rows}
    except (KeyError, ValueError, TypeError, IndexError):  # not what _packed made
        return {}
