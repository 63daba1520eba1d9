"""Reading an image again by the path that its item had, as a library records it."""

from __future__ import annotations

import os
from functools import lru_cache

from wordsight.errors import ImageError, SourceError, StorageError
from wordsight.images import unreadable_reason
from wordsight.sources.base import Item, read_file
from wordsight.sources.files import State, place_of, state_of
from wordsight.storage import is_url
from wordsight.video import file_of, read_frame


def read_location(path: str) -> bytes:
    """The bytes of the image at ``path``: of a file, or of a member (``/abs/x.tar::dog/1.jpg``).

    Of a frame of a video (``/abs/front.mp4::t=12.480``), those of a JPEG that is made of it.

    Raises ImageError ("<path>: <reason>"). Thread-safe; the listings of the archives last read
    are kept, so that reading many members of one is fast.
    """
    archive = archive_of(path)
    if archive is None:
        return read_file(path, path)
    if archive == file_of(path):
        return read_frame(path)
    member = path[len(archive) + len("::") :]
    if archive.endswith((".parquet", ".arrow")) and member.isdigit():
        from wordsight.sources.tables import read_row

        return read_row(path)
    folder = member.partition("/")[0] if archive.endswith(".gz") else ""
    try:
        listing = _listing(archive, folder, state_of(archive))
    except OSError as error:
        raise ImageError(f"{path}: {unreadable_reason(error)}") from error
    except (SourceError, StorageError) as error:
        raise ImageError(f"{path}: {error}") from error
    item = listing.get(f"{place_of(archive)}::{member}")
    if item is None:
        raise ImageError(f"{path}: no longer in the archive")
    return item.read()


def archive_of(path: str) -> str | None:
    """The archive, if it is there, that the image at ``path`` is a member of; else None.

    Names of files and folders may hold "::" too, so what is on the disk decides.
    """
    if is_url(path):
        return path.partition("::")[0]
    if "::" not in path or os.path.isfile(path):  # noqa: PTH113
        return None
    end = path.find("::")
    while end >= 0:
        if os.path.isfile(path[:end]):  # noqa: PTH113
            return path[:end]
        end = path.find("::", end + 1)
    return None


@lru_cache(maxsize=8)
def _listing(archive: str, folder: str, state: State) -> dict[str, Item]:
    """Items by path; ``state`` (time and size) makes a changed archive another one."""
    del state
    if archive.endswith(".gz"):
        from wordsight.sources.cifar10 import open_archive

        return {item.path: item for item in open_archive(archive, folder).items()}
    if archive.endswith(".parquet"):
        from wordsight.sources.cifar10 import open_parquet

        return {item.path: item for item in open_parquet(archive).items()}
    from wordsight.sources.tar import TarSource

    return {item.path: item for item in TarSource(archive).items()}
