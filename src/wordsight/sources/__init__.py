"""Where images come from: folders, files, tar archives and CIFAR-10, behind one small interface.

A source lists its images without reading them; reading gives the bytes of the file, and
:func:`wordsight.images.open_image` makes an image of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.paths import expanded
from wordsight.sources.base import Head, Item, Progress, Source
from wordsight.sources.location import read_location

__all__ = ["Head", "Item", "Source", "open_source", "read_location"]

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def open_source(
    location: str | Path,
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Source:
    """Open the place ``location``: a folder, an image file, a tar archive, or "cifar10".

    "cifar10" means the test images of that data set (:func:`wordsight.sources.cifar10.load`);
    a folder of this name is opened as "./cifar10". ``progress`` is called with (bytes so far,
    bytes in all or None) while something is downloaded, ``notice`` with lines for the user (without
    it they are logged). Raises SourceError for what is not there, and for an empty path.
    """
    if location == "cifar10":
        from wordsight.sources.cifar10 import load

        return load("test", progress=progress, notice=notice)
    if not str(location).strip():  # of an unset variable in a script; to the system it is "."
        raise SourceError("the path is empty; name a folder or a file (. is this folder).")
    path = str(expanded(location))
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        why = "no such file or folder"
        if str(location).startswith(("http://", "https://")):
            why = "only local files can be opened; download the images first."
        raise SourceError(f"{location}: {why}") from None
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
