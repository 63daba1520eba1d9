"""Images in a folder and everything below it, and single image files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import readable_suffixes, unreadable_reason
from wordsight.sources.base import Item, class_labels, is_hidden, item_id, read_file
from wordsight.sources.listing import (
    IGNORE_FILE,
    Patterns,
    excluding,
    is_derivative,
    lines_of,
    other_kind,
    raw_twins,
)

_File = tuple[str, int, int]  # path, size in bytes, time of change in nanoseconds


@dataclass(slots=True)
class _Content:
    """What a folder holds, by path."""

    files: list[_File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class FolderSource:
    """The image files below a folder, picked out by their suffix and sorted by path.

    Hidden files and folders are passed over, and what ``exclude`` or a file ``.wordsightignore``
    names (see :mod:`wordsight.sources.listing`); so is a RAW file beside its JPEG or HEIC. Links
    are followed; a folder that can be reached in several ways is listed once, under its own name
    if that lies below the folder. Folders that cannot be read are reported in ``problems``. Raises
    SourceError where the folder itself cannot be listed, or a pattern of ``exclude`` is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.name = str(folder)
        self._folder = os.path.realpath(folder)
        self.root = os.path.join(self._folder, "")  # noqa: PTH118  ("/": the root of all)
        self.problems: list[tuple[str, str]] = []
        self.exclude: Sequence[str] = ()
        self.not_read: dict[str, str] = {}

    def items(self) -> list[Item]:
        """List the images: one directory scan and one status call a file."""
        self.problems, self.not_read = [], {}
        found = self._walk()
        labels = class_labels(found)
        items = []
        for folder, files in found.items():
            label = labels.get(folder)
            for path, size, mtime_ns in files:
                try:
                    identity = item_id(path)
                except UnicodeEncodeError:
                    shown = path.encode("utf-8", "replace").decode()
                    self.problems.append((shown, "the file name is not valid UTF-8; rename it"))
                    continue
                items.append(
                    Item(identity, path, size, mtime_ns, label, self.root, _read, is_file=True)
                )
        items.sort(key=lambda item: item.path)
        self.problems.sort()
        return items

    def _walk(self) -> dict[str, list[_File]]:
        """Image files by the folder they lie in, relative to the source."""
        found: dict[str, list[_File]] = {}
        seen: set[tuple[int, int]] = set()
        folders = [(self._folder, excluding(self.exclude, self.root))]
        links: list[tuple[str, Patterns]] = []
        while folders or links:
            # Links wait until all real folders are listed, so that these keep their own names.
            folder, patterns = folders.pop() if folders else links.pop()
            try:
                status = os.stat(folder)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as scan:
                    entries = list(scan)
            except OSError as error:
                if folder == self._folder:
                    raise SourceError(f"{self.name}: {unreadable_reason(error)}") from error
                self._report(folder, unreadable_reason(error))
                continue
            patterns = self._with_ignore_file(folder, entries, patterns)
            content = self._sort_out(folder, entries, patterns)
            folders += [(inner, patterns) for inner in content.folders]
            links += [(link, patterns) for link in content.links]
            if content.files:
                found[self._relative(folder)] = content.files
            if not folders:
                links.sort(key=lambda link: link[0], reverse=True)
        archives = list(self.not_read.values()).count("tar archive")
        if archives and not found:
            self._report(
                self._folder, f"holds no images but {archives} .tar archives: name these instead"
            )
        return found

    def _sort_out(
        self, folder: str, entries: list[os.DirEntry[str]], patterns: Patterns
    ) -> _Content:
        """Image files, folders and links to folders; what else is there is noted."""
        content = _Content()
        others: dict[str, str] = {}
        for entry in entries:
            name, path = entry.name, entry.path
            if is_hidden(name) or is_derivative(folder, name):
                continue
            suffix = name[name.rfind(".") :].lower()  # without a dot: one letter, no suffix
            # Where a link leads is asked of the system, which may refuse or fail to follow it.
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                if patterns.sets:
                    relative = self._relative(path)
                    if patterns.match(f"{relative}/" if is_folder else relative):
                        continue
                if is_folder:
                    content.folders.append(path)
                    continue
                if suffix in readable_suffixes():
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        content.files.append((path, status.st_size, status.st_mtime_ns))
                        continue
                if entry.is_symlink() and entry.is_dir():
                    if not (patterns.sets and patterns.match(f"{self._relative(path)}/")):
                        content.links.append(path)
                    continue
                kind = other_kind(suffix)
                if kind and entry.is_file():
                    others[path] = kind
            except OSError as error:
                self._report(path, _why_not_followed(entry, error))
        twins = raw_twins([*others, *(path for path, _, _ in content.files)])
        content.files = [file for file in content.files if file[0] not in twins]
        self.not_read |= {path: kind for path, kind in others.items() if path not in twins}
        return content

    def _with_ignore_file(
        self, folder: str, entries: list[os.DirEntry[str]], patterns: Patterns
    ) -> Patterns:
        """The patterns that hold in a folder."""
        file = next((entry.path for entry in entries if entry.name == IGNORE_FILE), None)
        if file is None:
            return patterns
        try:
            lines = lines_of(Path(file).read_bytes())
            relative = self._relative(folder)
            return patterns.within(f"{relative}/" if relative else "", lines)
        except OSError as error:
            self._report(file, f"{unreadable_reason(error)}; nothing is left out by it")
        except ValueError as error:
            self._report(file, f"{error}; nothing is left out by it")
        return patterns

    def _relative(self, path: str) -> str:
        return path[len(self.root) :].replace(os.sep, "/")

    def _report(self, path: str, reason: str) -> None:
        self.problems.append((path.encode("utf-8", "replace").decode(), reason))


class FileSource:
    """A single image file, whatever its suffix. Raises SourceError where it cannot be found."""

    def __init__(self, file: str | Path) -> None:
        self.name = str(file)
        self.root = os.path.realpath(file)
        self.problems: list[tuple[str, str]] = []

    def items(self) -> list[Item]:
        """The one image."""
        try:
            status = os.stat(self.root)  # noqa: PTH116
            identity = item_id(self.root)
        except UnicodeEncodeError as error:
            shown = self.name.encode("utf-8", "replace").decode()
            raise SourceError(f"{shown}: the file name is not valid UTF-8; rename it") from error
        except OSError as error:
            raise SourceError(f"{self.name}: {unreadable_reason(error)}") from error
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{self.name}: neither a file nor a folder")
        size, mtime_ns = status.st_size, status.st_mtime_ns
        return [Item(identity, self.root, size, mtime_ns, None, self.root, _read, is_file=True)]


def _why_not_followed(entry: os.DirEntry[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a link that leads back to itself"
    nowhere = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    if error.errno in nowhere and entry.is_symlink():
        return "a link to nothing"
    return unreadable_reason(error)


def _read(item: Item) -> bytes:
    return read_file(item.path, item.path)
