"""Where images come from: folders, files, archives, tables and CIFAR-10, behind one interface.

A source lists its images without reading them; reading gives the bytes of the file, and
:func:`wordsight.images.open_image` makes an image of them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.paths import expanded
from wordsight.sources.base import Head, Item, Progress, Source
from wordsight.sources.location import read_location
from wordsight.storage import is_url

__all__ = ["Head", "Item", "Source", "expand", "expand_braces", "open_source", "read_location"]

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def expand(location: str | Path) -> list[str]:
    """The places that a pattern names: braces anywhere, and ``*`` or a folder's shards at a URL.

    See :func:`expand_braces` and :func:`wordsight.sources.files.listed`. Raises SourceError.
    """
    from wordsight.sources.files import listed

    texts = expand_braces(location)
    return [one for text in texts for one in (listed(text) if is_url(text) else [text])]


def expand_braces(location: str | Path) -> list[str]:
    """The shards that a pattern like ``data/{0000..0099}.tar`` names, as a shell writes them.

    ``{a,b}`` too. A place of just this name goes before, and so does one without such braces.
    """
    text = str(location)
    if os.path.exists(text):  # noqa: PTH110
        return [text]
    found = _BRACES.search(text)
    if not found:
        return [text]
    first, last, choice = found.groups()
    if choice is None:
        width = len(first) if first.startswith("0") else 0
        step = 1 if int(first) <= int(last) else -1
        numbers = range(int(first), int(last) + step, step)
        parts = [f"{number:0{width}}" for number in numbers]
    else:
        parts = choice.split(",")
    whole = [f"{text[: found.start()]}{part}{text[found.end() :]}" for part in parts]
    return [one for part in whole for one in expand_braces(part)]


def open_source(
    location: str | Path,
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Source:
    """Open the place ``location``: a folder, an image file, a tar archive, a table, or "cifar10".

    A ``.tar`` archive or a Parquet table may be at a URL (s3://, gs://, az://, http://, https://
    with the extra ``cloud``; hf://datasets/OWNER/NAME/FILE): an archive is read through once to
    list it, and images are fetched when they are read. A table is a Parquet or Arrow file with a
    column of images or of their addresses, or a folder that ``Dataset.save_to_disk`` of Hugging
    Face's library wrote.

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
    if is_url(str(location)):
        return _at_url(str(location))
    path = str(expanded(location))
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        raise SourceError(f"{location}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{location}: {unreadable_reason(error)}") from error
    if stat.S_ISDIR(mode):
        from wordsight.sources.tables import TableSource, saved_files

        if files := saved_files(path):
            root = os.path.join(os.path.realpath(path), "")  # noqa: PTH118
            return TableSource(files, name=str(location), root=root)
        from wordsight.sources.folder import FolderSource

        return FolderSource(path)
    if path.lower().endswith(_TAR):
        from wordsight.sources.tar import TarSource

        return TarSource(path)
    if path.lower().endswith((".parquet", ".arrow")):
        from wordsight.sources.tables import TableSource

        return TableSource([path])
    from wordsight.sources.folder import FileSource

    return FileSource(path)


def _at_url(url: str) -> Source:
    kind = url.lower().rpartition(".")[2]
    if kind == "tar":
        from wordsight.sources.tar import TarSource

        return TarSource(url)
    if kind == "parquet":
        from wordsight.sources.tables import TableSource

        return TableSource([url])
    raise SourceError(
        f"{url}: at URLs only .tar shards and .parquet tables can be opened; download the images "
        "first."
    )
