"""Which images are gone from their sources, and which of these may be forgotten.

A drive that is not mounted looks like a folder whose images were all deleted. So nothing goes where
a source lists no image, where a folder is empty or on another device than when it was indexed, or
where more than half of a source's images are gone at once. An image whose file is there, and that
its folder's listing leaves out by now, may go: its drive is there too.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wordsight.images import readable_suffixes
from wordsight.sources.base import is_hidden
from wordsight.video import file_of

if TYPE_CHECKING:
    from wordsight.library import Entry
    from wordsight.sources import Item, Source

_ANYWAY = "--prune=force removes them"


@dataclass(frozen=True, slots=True)
class Kept:
    """Images that are gone from ``path`` and stay in the library, and why."""

    path: str
    images: int
    reason: str


def prunable(
    known: Iterable[Entry],
    items: Mapping[str, Item],
    sources: Sequence[Source],
    devices: Mapping[str, int],
    *,
    force: bool = False,
) -> tuple[list[str], list[Kept]]:
    """Ids of the images that are gone and may be removed, and what stays all the same.

    ``devices`` is what :func:`devices_of` gave when they were indexed. With ``force`` all that is
    gone may be removed.
    """
    known = list(known)
    unlisted = _unlisted(known, items, sources)
    gone = [entry for entry in unlisted if not _is_own_file(file_of(entry.path))]
    excluded = [entry.id for entry in unlisted if _is_excluded(entry, sources)]
    if force:
        return [*excluded, *(entry.id for entry in gone)], []
    places = _Places(devices, known, items)
    staying: set[str] = set()
    kept: list[Kept] = []
    for source in sources:
        under = [e for e in gone if e.id not in staying and _is_of(e, source)]
        if not under:
            continue
        if not any(lies_under(item.path, source.root) for item in items.values()):
            groups = {source.root: (under, "no image is there now")}
        else:
            groups = places.suspect(under, source.root)
            held = sum(_is_of(entry, source) for entry in known)
            suspects = {entry.id for entries, _ in groups.values() for entry in entries}
            rest = [entry for entry in under if entry.id not in suspects]
            if 2 * len(rest) > held:
                why = f"{len(rest):,} of its {held:,} images are gone at once"
                groups[source.root] = rest, why
        for path, (entries, why) in groups.items():
            staying.update(entry.id for entry in entries)
            kept.append(_kept(path, len(entries), why))
    return [*excluded, *(entry.id for entry in gone if entry.id not in staying)], kept


def _kept(path: str, count: int, why: str) -> Kept:
    images = "the image" if count == 1 else f"the {count:,} images"
    stay = "stays" if count == 1 else "stay"
    reason = f"{why}; {images} that the library has from it {stay}"
    path = path.rstrip(os.sep) or path
    return Kept(path, count, f"{reason} (is its drive connected? If they are deleted: {_ANYWAY})")


def devices_of(
    paths: Mapping[str, str], items: Mapping[str, Item], before: Mapping[str, int]
) -> dict[str, int]:
    """The device of every folder that the library has images of, by the topmost folders.

    A folder that is not named is on the device of the nearest one above it. ``paths`` are
    those of the library's images, by id. Where some of a folder's are gone, what was known
    ``before`` stays.
    """
    listed: dict[str, bool] = {}
    for identity, path in paths.items():
        folder = os.path.dirname(path)  # noqa: PTH120  (as Path it takes ten times as long)
        listed[folder] = listed.get(folder, True) and identity in items
    devices: dict[str, int] = {}
    for folder, whole in sorted(listed.items()):
        device = None
        with contextlib.suppress(OSError, ValueError):
            device = os.stat(folder).st_dev if whole else None  # noqa: PTH116
        if device is None:
            device = _recorded(before, folder)
        if device is not None and device != _recorded(devices, folder):
            devices[folder] = device
    return devices


def _recorded(devices: Mapping[str, int], folder: str) -> int | None:
    while folder not in devices:
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return None
        folder = above
    return devices[folder]


class _Places:
    """Where images were and what is there now."""

    def __init__(
        self, devices: Mapping[str, int], known: Sequence[Entry], items: Mapping[str, Item]
    ) -> None:
        self._devices = devices
        # Numbers of devices may change when a computer starts; an image that is still there shows
        # that the device is the one it was.
        seen: Counter[tuple[int | None, int | None]] = Counter()
        now: dict[str, int | None] = {}
        for entry in known if devices else ():
            item = items.get(entry.id)
            if item and (item.size, item.mtime_ns) == (entry.size, entry.mtime_ns):
                folder = os.path.dirname(entry.path)  # noqa: PTH120
                if folder not in now:
                    now[folder] = _nearest(folder)[1]
                seen[_recorded(devices, folder), now[folder]] += 1
        # Images that came to a place while its own drive was missing are fewer.
        self._same = {before: device for (before, device), _ in reversed(seen.most_common())}

    def suspect(self, entries: Sequence[Entry], root: str) -> dict[str, tuple[list[Entry], str]]:
        """Those whose drive may be missing, with the reason, by the folder that says so."""
        if not root.endswith(os.sep):
            return {}  # archives and single files are on no drive of their own
        folders: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            folders[os.path.dirname(entry.path)].append(entry)  # noqa: PTH120
        found: dict[str, tuple[list[Entry], str]] = {}
        for folder, own in folders.items():
            there, device = _nearest(folder)
            before = _recorded(self._devices, folder)
            if _is_empty(there):
                why = "nothing is in it now"
            elif before not in (None, device) and self._same.get(before) != device:
                why = "it is on another device than when it was indexed"
            else:
                continue
            found.setdefault(there, ([], why))[0].extend(own)
        return found


def _nearest(folder: str) -> tuple[str, int | None]:
    """The folder, or the nearest one above it that is there, and its device."""
    while True:
        try:
            return folder, os.stat(folder).st_dev  # noqa: PTH116
        except (OSError, ValueError):
            above = os.path.dirname(folder)  # noqa: PTH120
            if above == folder:
                return folder, None
            folder = above


def _is_empty(folder: str) -> bool:
    """Whether a folder holds nothing that people see."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return all(is_hidden(entry.name) for entry in entries)
    return False


def _unlisted(
    known: Iterable[Entry], items: Mapping[str, Item], sources: Sequence[Source]
) -> list[Entry]:
    """Images that were under these sources and are not listed any more.

    What lies in a place that could not be looked into now is not among them.
    """
    roots = {source.root for source in sources}
    # A problem of a source's folder itself says what is in it, not that it could not be seen.
    unseen = {path for source in sources for path, _ in source.problems}
    unseen = {path for path in unseen if os.path.join(path, "") not in roots}  # noqa: PTH118
    within = tuple(f"{path}{mark}" for path in unseen for mark in (os.sep, "::"))
    return [
        entry
        for entry in known
        if entry.id not in items
        and any(lies_under(entry.path, root) for root in roots)
        and entry.path not in unseen
        and not entry.path.startswith(within)
    ]


def _is_of(entry: Entry, source: Source) -> bool:
    return lies_under(entry.path, source.root)


def _is_excluded(entry: Entry, sources: Sequence[Source]) -> bool:
    """Whether the source that once listed a file, which is there, leaves it out.

    One that was named by itself, or was in a folder that was, is no business of others; one of a
    kind that only a missing package reads is not left out.
    """
    path = file_of(entry.path)
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    is_ours = any(entry.root == source.root for source in sources)
    is_read = path != entry.path or suffix in readable_suffixes()
    return is_ours and is_read and _is_own_file(path)


def _is_own_file(path: str) -> bool:
    # Not one that is reached by a link: that is listed under its own name by now.
    with contextlib.suppress(OSError, ValueError):
        return os.path.isfile(path) and os.path.realpath(path) == path  # noqa: PTH113
    return False


def lies_under(path: str, root: str) -> bool:
    """Whether a source of this root (see :class:`wordsight.sources.Source`) lists such a path."""
    path = file_of(path)
    if not root.endswith((os.sep, "/", "::")):
        return path == root
    if not path.startswith(root):
        return False
    if "::" not in path[len(root) :]:
        return True
    from wordsight.sources.location import archive_of

    # A folder does not list what is inside the archives in it.
    archive = archive_of(path)
    return archive is None or len(archive) < len(root)
