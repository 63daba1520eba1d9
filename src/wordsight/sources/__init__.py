"""Where images come from: folders, files, tar archives and CIFAR-10, behind one small interface.

A source lists its images without reading them; reading gives the bytes of the file, and
:func:`wordsight.images.open_image` makes an image of them.
"""

from __future__ import annotations

from pathlib import Path

from wordsight.errors import SourceError
from wordsight.sources.base import Item, Source

__all__ = ["Item", "Source", "open_source"]

_TAR = (".tar",)
_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def open_source(location: str | Path) -> Source:
    """Open the place ``location``: a folder, an image file, a tar archive, or "cifar10".

    "cifar10" means the test images of that data set (:func:`wordsight.sources.cifar10.load`);
    a folder of this name is opened as "./cifar10". Raises SourceError for what is not there.
    """
    if location == "cifar10":
        from wordsight.sources.cifar10 import load

        return load("test")
    path = Path(location).expanduser()
    if path.is_dir():
        from wordsight.sources.folder import FolderSource

        return FolderSource(path)
    if not path.exists():
        raise SourceError(f"{location}: no such file or folder")
    if path.name.lower().endswith(_TAR + _COMPRESSED_TAR):
        from wordsight.sources.tar import TarSource

        return TarSource(path)
    from wordsight.sources.folder import FileSource

    return FileSource(path)
