"""What the table's files held when they were written, so that a fault of the disk is seen.

``checksums.json`` names every file of the table with its size and CRC-32, and has a CRC-32 of its
own. Files of a table never change, so a file is checked once in a process; one that is not named
there (of an older library, or of a process that was killed) has nothing to be held against.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from wordsight.library.files import write_atomically

NAME = "checksums.json"  # in the folder of the table, so that they go where it goes
FOLDERS = ("data", "_deletions", "_transactions", "_versions")
_BLOCK = 1 << 20

Checksum = tuple[int, int]
"""Size and CRC-32 of a file."""


class Checksums:
    """The checksums of a library's table; ``files`` has size and CRC-32 by name."""

    def __init__(
        self, library: Path, files: dict[str, Checksum], table: str = "views.lance"
    ) -> None:
        self.library, self.files, self.table = library, files, table

    @classmethod
    def load(cls, library: Path, table: str = "views.lance") -> Checksums:
        """Those that were kept; none where the file is missing or damaged itself."""
        try:
            kept = library / table / NAME
            saved = json.loads(kept.read_text(encoding="utf-8"))
            files = {str(name): (int(size), int(crc)) for name, (size, crc) in saved["files"]}
            if saved["crc32"] == _own(files):
                return cls(library, files, table)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(library, {}, table)

    def save(self) -> None:
        """Keep them. Raises OSError."""
        kept = {"crc32": _own(self.files), "files": sorted(self.files.items())}
        write_atomically(self.path(NAME), json.dumps(kept).encode())

    def path(self, name: str) -> Path:
        """Where a file of the table lies."""
        return self.library / self.table / name

    def add(self, names: Iterable[str]) -> None:
        """Take files of the table as what they hold now. Raises OSError."""
        self.files |= {name: checksum(self.path(name)) for name in names}

    def wrong(self, names: Iterable[str], *, contents: bool = True) -> list[str]:
        """Those of these files that do not hold what was written, or are gone.

        Without ``contents`` sizes alone are compared. Raises OSError for a file that cannot be
        read although it is there.
        """
        found = []
        for name in names:
            wanted, path = self.files.get(name), self.path(name)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                found.append(name)
                continue
            if wanted and (size != wanted[0] or (contents and checksum(path) != wanted)):
                found.append(name)
        return found


def checksum(path: Path) -> Checksum:
    """That of what a file holds now. Raises OSError."""
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def _own(files: dict[str, Checksum]) -> int:
    return zlib.crc32(json.dumps(sorted(files.items())).encode())
