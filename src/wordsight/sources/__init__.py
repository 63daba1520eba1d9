"""Where images come from: folders, files, tar archives and CIFAR-10, behind one small interface.

A source lists its images without reading them; reading gives the bytes of the file, and
:func:`wordsight.images.open_image` makes an image of them.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.sources.base import Item, Progress, Source
from wordsight.sources.location import read_location

__all__ = ["Item", "Source", "open_source", "read_location"]

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def open_source(location: str | Path, *, progress: Progress | None = None) -> Source:
    """Open the place ``location``: a folder, an image file, a tar archive, or "cifar10".

    "cifar10" means the test images of that data set (:func:`wordsight.sources.cifar10.load`);
    a folder of this name is opened as "./cifar10". ``progress`` is called with (bytes so far,
    bytes in all or None) while something is downloaded. Raises SourceError for what is not there.
    """
    if location == "cifar10":
        from wordsight.sources.cifar10 import load

        return load("test", progress=progress)
    path = os.path.expanduser(location)  # noqa: PTH111  (that of Path can raise RuntimeError)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        raise SourceError(f"{location}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{location}: {unreadable_reason(error)}") from error
    if stat.S_ISDIR(mode):
        from wordsight.sources.folder import FolderSource

        return FolderSource(path)
    if path.lower().endswith(_TAR):
        from wordsight.sources.tar import TarSource

        return TarSource(path)
    from wordsight.sources.folder import FileSource

    return FileSource(path)


def read_location(path: str) -> bytes:
    """The bytes of an image by the ``path`` of its :class:`Item`, whichever source it came from.

    Raises ImageError ("<path>: <reason>") when it is gone or cannot be read.
    """
    from wordsight.errors import ImageError
    from wordsight.sources.base import read_file

    archive, _, member = path.partition("::")
    if not member:
        return read_file(path, path)
    try:
        item = _members(archive, os.stat(archive).st_mtime_ns).get(path)  # noqa: PTH116
    except (OSError, SourceError) as error:
        raise ImageError(f"{path}: the archive cannot be read ({error})") from None
    if item is None:
        raise ImageError(f"{path}: no longer in the archive")
    return item.read()


@lru_cache(maxsize=8)
def _members(archive: str, _mtime_ns: int) -> dict[str, Item]:
    """The images of an archive by path; listed again when it has changed."""
    from wordsight.sources import cifar10
    from wordsight.sources.tar import TarSource

    if archive.endswith(cifar10.ARCHIVE):
        sources: list[Source] = [
            cifar10.open_archive(archive, split) for split in ("test", "train")
        ]
    else:
        sources = [TarSource(archive)]
    return {item.path: item for source in sources for item in source.items()}
