"""What a source of images is: a place that lists its images and hands out their bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Protocol

from wordsight.errors import ImageError
from wordsight.images import Metadata, unreadable_reason

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None) as a download goes on."""

MAX_FILE_BYTES = 2**31
"""A single image file with more bytes than this is not read (2 GiB)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, not yet read.

    ``path`` says where it lies, for people: ``/photos/rex.jpg`` or ``/shards/x.tar::dog/1.jpg``;
    ``id`` is the hash of it (16 hexadecimal digits), the same in every run. ``size`` (bytes) and
    ``mtime_ns`` both unchanged mean: taken as unchanged. ``label`` is the name of the class
    folder, where the source has class folders (see :func:`class_labels`), and None where it knows
    none. ``root`` is that of the source. ``is_file``: ``path`` is that of a file which holds this
    image and nothing else. ``caption`` is what the source says of
    it in words, if it does. ``hash`` and ``metadata`` are what is known of it before it is read.
    ``parts`` are boxes (x0, y0, x1, y1 in pixels of the upright image) that become views of their
    own, beside those that a proposer finds.
    """

    id: str
    path: str
    size: int
    mtime_ns: int
    label: str | None
    root: str
    reader: Callable[[Item], bytes] = field(repr=False, compare=False)
    is_file: bool = field(default=False, repr=False, compare=False)
    hash: str | None = field(default=None, repr=False, compare=False)
    metadata: Metadata | None = field(default=None, repr=False, compare=False)
    caption: str | None = field(default=None, compare=False)
    parts: tuple[tuple[float, float, float, float], ...] = field(default=(), compare=False)

    def __reduce__(self) -> tuple[type[Item], tuple[Any, ...]]:
        """As a dataclass is pickled, without its Python code: a cluster is sent millions."""
        return Item, _VALUES(self)

    def read(self) -> bytes:
        """The bytes of the image file. Raises ImageError ("<path>: <reason>"). Thread-safe."""
        return self.reader(self)


_VALUES = attrgetter(*(field.name for field in fields(Item)))


class Source(Protocol):
    """A place with images. Listing reads and decodes none of them."""

    @property
    def name(self) -> str:
        """The place as the user named it."""

    @property
    def root(self) -> str:
        """What the path of every item starts with, and of no item of another place.

        That of a folder ends with a separator, that of an archive with "::" (or goes on from there
        to a folder in it); that of a single file is its path.
        """

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(path, reason) of what the last listing could not look into or use."""

    def items(self) -> list[Item]:
        """List the images, in the same order every time. Raises SourceError."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first ``count`` images of another source, in its order."""

    source: Source
    count: int

    @property
    def name(self) -> str:
        """That of the whole source."""
        return self.source.name

    @property
    def root(self) -> str:
        """That of the whole source."""
        return self.source.root

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Those of the whole source."""
        return self.source.problems

    def items(self) -> list[Item]:
        """List the images. Raises SourceError."""
        return self.source.items()[: self.count]


def item_id(path: str) -> str:
    """The id of an item: BLAKE2b-64 of its path. Raises UnicodeEncodeError for a broken name."""
    return blake2b(path.encode(), digest_size=8).hexdigest()


def read_file(file: str, name: str, offset: int = 0, size: int | None = None) -> bytes:
    """Bytes of ``file``, whole or ``size`` bytes from ``offset``.

    The file is opened for each call, so threads need no lock and no handle stays open.
    Raises ImageError ("<name>: <reason>").
    """
    try:
        with open(file, "rb") as handle:  # noqa: PTH123  (no Path for each of 100,000 files)
            if offset:
                handle.seek(offset)
            if size is None:
                # Not more than there is: Python gets memory for all that it is asked for. Pipes
                # say 0.
                known = os.fstat(handle.fileno()).st_size or MAX_FILE_BYTES
                data = handle.read(min(known, MAX_FILE_BYTES) + 1)
            else:
                data = handle.read(size)
    except (OSError, ValueError) as error:  # the latter: a path that no file can have
        raise ImageError(f"{name}: {unreadable_reason(error)}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name}: larger than {MAX_FILE_BYTES / 2**30:.0f} GiB")
    if size is not None and len(data) < size:
        raise ImageError(f"{name}: the archive ends before the end of the image")
    return data


# A number or date ("07", "2021-08-01"), a year and more ("2021 Rome"), a camera's "101CANON".
_NOT_A_CLASS = re.compile(
    r"[\d\s._-]+ | (?:19|20)\d\d(?![0-9a-z]).* | \d{3}[a-z0-9_]{5}", re.VERBOSE | re.IGNORECASE
)


def class_labels(folders: Iterable[str]) -> dict[str, str]:
    """Label of each folder that holds images, or an empty dict where folders are not classes.

    ``folders`` are relative to the source, with "/" between names and "" for the source itself.
    They are taken as classes when all of them lie equally deep, at least one level below the
    source (``dog/1.jpg``, ``test/dog/1.jpg``), have at least two different names, and no name is
    a number or a date, begins with a year, or is one that cameras give (``2021``, ``101CANON``).
    """
    names = {folder: folder.rpartition("/")[2] for folder in folders}
    depths = {folder.count("/") for folder in names}
    if len(depths) != 1 or "" in names or len(set(names.values())) < 2:
        return {}
    if any(_NOT_A_CLASS.fullmatch(name) for name in names.values()):
        return {}
    return names


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: hidden ones, thumbnails, waste.

    ``@eaDir``, ``#recycle``, ``#snapshot`` are made by Synology, ``@Recycle`` by QNAP.
    """
    return name.startswith(".") or name in _SKIPPED


_SKIPPED = {
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "lost+found"),
    *("__MACOSX", "$RECYCLE.BIN", "System Volume Information"),
}
