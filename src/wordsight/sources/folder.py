"""Images in a folder and everything below it, and single image files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import IMAGE_SUFFIXES, unreadable_reason
from wordsight.sources.base import Item, class_labels, is_hidden, item_id, read_file


class FolderSource:
    """The image files below a folder, picked out by their suffix and sorted by path.

    Hidden files and folders are passed over. Links are followed; a folder that can be reached in
    several ways is listed once, under its own name if that lies below the folder. Folders that
    cannot be read are reported in ``problems``. Raises SourceError where the folder itself
    cannot be listed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.name = str(folder)
        self._folder = os.path.realpath(folder)
        self.root = os.path.join(self._folder, "")  # noqa: PTH118  ("/": the root of all)
        self.problems: list[tuple[str, str]] = []

    def items(self) -> list[Item]:
        """List the images: one directory scan and one status call a file."""
        self.problems = []
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

    def _walk(self) -> dict[str, list[tuple[str, int, int]]]:
        """Image files (path, size, time) by the folder they lie in, relative to the source."""
        found: dict[str, list[tuple[str, int, int]]] = {}
        seen: set[tuple[int, int]] = set()
        folders, archives = [self._folder], 0
        links: list[str] = []
        while folders or links:
            # Links wait until all real folders are listed, so that these keep their own names.
            folder = folders.pop() if folders else links.pop()
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
            files = []
            for entry in entries:
                name = entry.name
                if is_hidden(name):
                    continue
                suffix = name[name.rfind(".") :].lower()  # without a dot: one letter, no suffix
                # Where a link leads is asked of the system, which may refuse or fail to follow it.
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    if suffix in IMAGE_SUFFIXES:
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode):
                            files.append((entry.path, status.st_size, status.st_mtime_ns))
                            continue
                    if entry.is_symlink() and entry.is_dir():
                        links.append(entry.path)
                except OSError as error:
                    self._report(entry.path, _why_not_followed(entry, error))
                    continue
                archives += suffix == ".tar"
            if files:
                relative = folder[len(self.root) :].replace(os.sep, "/")
                found[relative] = files
            if not folders:
                links.sort(reverse=True)
        if archives and not found:
            self._report(
                self._folder, f"holds no images but {archives} .tar archives: name these instead"
            )
        return found

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
