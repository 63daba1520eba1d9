"""Near-duplicates and bursts: groups of images that show the same view of the same thing.

Candidates are pairs that are among each other's nearest, by the model's vectors or by their prints
(see :mod:`wordsight.duplicates.likeness`). A pair is a duplicate when its likeness, and how far it
stands out from the other neighbours of both its pictures, are above cut-offs that the library
itself gives (see :mod:`wordsight.duplicates.statistics`).

Nothing is deleted, here or anywhere else in wordsight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wordsight.duplicates.candidates import candidates
from wordsight.duplicates.likeness import Details, likeness
from wordsight.duplicates.prints import Progress, present
from wordsight.duplicates.statistics import DISTINCTION, LIKENESS, Tail, standing_out
from wordsight.errors import QueryError
from wordsight.library import Entry, Prints, Store, id_to_int

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FALSE_MERGE = 0.0003
"""The share of images that may be grouped wrongly, where no other is stated."""

_BLURRED = 0.6  # of the sharpest one's sharpness
_KEPT_READY = 1024  # prints that are ready to be compared
_AT_ONCE = 5000  # images that are asked for by one filter


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group; ``bytes`` is the size of its file, ``taken`` its capture time."""

    id: str
    path: str
    width: int
    height: int
    bytes: int
    sharpness: float
    taken: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight duplicates --json`` prints of an image."""
        return {
            "id": self.id,
            "path": self.path,
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
            "sharpness": round(self.sharpness, 4),
            "taken": self.taken,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Images that show the same; the first is the one that wordsight would keep.

    That is the one of most pixels; of several such one that is not blurred, then the largest file.
    ``likeness`` is the least of those that hold the group together, 1 for equal files.
    """

    images: list[Copy]
    likeness: float

    @property
    def keep(self) -> Copy:
        """The suggestion which one to keep."""
        return self.images[0]


@dataclass(slots=True)
class Duplicates:
    """What :func:`find` found.

    ``cut_off`` is the least likeness of a pair; ``compared`` the number of pairs that were looked
    at; ``false_merge`` the stated rate: the share of images that may be grouped wrongly.
    ``expected`` is that share as the library's own pairs foretell it. It is more than what was
    stated where different pictures are very much alike (catalogues, traffic signs, one camera's
    views): a cut-off that holds the rate there would lose the copies too.
    ``skipped`` are images that could not be read, with reasons.
    """

    groups: list[Group]
    images: int
    compared: int
    cut_off: float
    false_merge: float
    expected: float
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight duplicates --json`` prints."""
        return {
            "groups": [
                {
                    "keep": group.keep.id,
                    "likeness": round(group.likeness, 4),
                    "images": [copy.to_json() for copy in group.images],
                }
                for group in self.groups
            ],
            "images": self.images,
            "compared": self.compared,
            "cut_off": round(self.cut_off, 4),
            "false_merge": self.false_merge,
            "expected": round(self.expected, 6),
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }


def check_rate(false_merge: float) -> None:
    """Raise QueryError where a stated rate is none."""
    if not 0 < false_merge < 1:
        raise QueryError(f"the false-merge rate must be between 0 and 1, not {false_merge:g}.")


# -- pairs ---------------------------------------------------------------------------------------


def find(
    store: Store,
    prints: Prints,
    *,
    false_merge: float = FALSE_MERGE,
    progress: Progress | None = None,
) -> Duplicates:
    """Group the images of a library that are duplicates of each other (see the module).

    ``prints`` are from :func:`~wordsight.duplicates.read_prints`; images without one are in no
    group.
    Raises QueryError where ``false_merge`` is no rate. Time grows with the square of the images for
    the neighbours, and with their number for the comparisons. Vectors and prints are read a part at
    a time (see :mod:`wordsight.duplicates.candidates`).
    """
    import numpy as np

    check_rate(false_merge)
    entries, _ = present(store)
    copies: dict[str, list[Entry]] = {}  # by the hash of their bytes
    printed = prints.hashes()
    for entry in entries:
        if entry.hash in printed:
            copies.setdefault(entry.hash, []).append(entry)
    hashes = list(copies)
    numbers = {id_to_int(some[0].id): n for n, some in enumerate(copies.values())}
    pairs = candidates(store, prints, hashes, numbers)

    @lru_cache(_KEPT_READY)
    def ready(number: int) -> Details:
        return Details(next(prints.read([hashes[number]]))[1].grey)

    alike = np.zeros(len(pairs))
    for n, (one, other) in enumerate(pairs.tolist()):
        alike[n] = likeness(ready(one), ready(other))
        if progress and (n % 64 == 63 or n == len(pairs) - 1):
            progress(n + 1, len(pairs))
    images = max(len(hashes), 1)
    wrong = false_merge * images / 2  # pairs: each is two images
    likenesses = Tail.of(LIKENESS, alike)
    distinct = standing_out(pairs, alike)
    distinctions = Tail.of(DISTINCTION, distinct)
    cut_off, apart = likenesses.cut_off(wrong), distinctions.cut_off(wrong)
    linked = (alike >= cut_off) & (distinct >= apart)
    expected = min(likenesses.expected(cut_off), distinctions.expected(apart))
    groups = [
        ([entry for n in some for entry in copies[hashes[n]]], least)
        for some, least in _groups(
            len(hashes), pairs[linked], alike[linked], [len(c) > 1 for c in copies.values()]
        )
    ]
    return Duplicates(
        _described(store, groups, prints),
        len(entries),
        len(pairs),
        cut_off,
        false_merge,
        round(min(1.0, 2 * expected / images), 6),
    )


# -- groups --------------------------------------------------------------------------------------


def _groups(
    count: int,
    pairs: NDArray[np.intp],
    alike: NDArray[np.floating[Any]],
    repeated: Sequence[bool],
) -> list[tuple[list[int], float]]:
    """What hangs together by these pairs, with the least likeness that is needed for that.

    Of files that are there more than once (``repeated``), each is a group of its own at least.
    """
    parent = list(range(count))
    least = [1.0] * count

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for value, (one, other) in sorted(
        zip(alike.tolist(), pairs.tolist(), strict=True), reverse=True
    ):
        a, b = root(one), root(other)
        if a != b:
            parent[b] = a
            least[a] = min(least[a], least[b], value)
    members: dict[int, list[int]] = {}
    for n in range(count):
        members.setdefault(root(n), []).append(n)
    return [(some, least[a]) for a, some in members.items() if len(some) > 1 or repeated[some[0]]]


def _described(
    store: Store, groups: Sequence[tuple[list[Entry], float]], prints: Prints
) -> list[Group]:
    """The groups with what is known of their images, the largest first."""
    entries = [entry for some, _ in groups for entry in some]
    known: dict[str, dict[str, Any]] = {}
    for begin in range(0, len(entries), _AT_ONCE):
        some = entries[begin : begin + _AT_ONCE]
        known |= {row["id"]: row for row in store.described([entry.id for entry in some])}
    sharp = {
        file: each.sharpness for file, each in prints.read(list({entry.hash for entry in entries}))
    }
    described = []
    for members, least in groups:
        images = [
            Copy(
                entry.id,
                entry.path,
                known[entry.id]["width"],
                known[entry.id]["height"],
                entry.size,
                sharp[entry.hash],
                known[entry.id]["metadata"].get("taken"),
            )
            for entry in members
            if entry.id in known  # or it was removed meanwhile
        ]
        if len(images) > 1:
            described.append(Group(_best_first(images), least))
    return sorted(described, key=lambda group: (-len(group.images), group.keep.path))


def _best_first(images: Sequence[Copy]) -> list[Copy]:
    """Most pixels, then not blurred against the sharpest, then the largest file.

    Encoding changes the sharpness too, so that little of it decides nothing.
    """
    sharpest = max(copy.sharpness for copy in images)

    def key(copy: Copy) -> tuple[int, bool, int, str]:
        blurred = copy.sharpness < _BLURRED * sharpest
        return -copy.width * copy.height, blurred, -copy.bytes, copy.path

    return sorted(images, key=key)
