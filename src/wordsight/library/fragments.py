"""Fragments of the table that other processes write, for the one that holds the lock to commit.

A run on a cluster opens the folder ``incoming/TOKEN`` in the library's directory, with a copy of
the table's manifest and none of its rows. Workers that see this folder write there; others send the
file's bytes. A commit moves the files into the table and makes one version of all of them, so that
what no commit names is no part of the table, and goes with the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.library.checksums import Checksum, checksum
from wordsight.library.files import sync_path, write_atomically, writing
from wordsight.library.index.sidecar import newest_manifest
from wordsight.library.records import ImageRecord
from wordsight.library.table import import_lance, to_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "incoming"


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows that were written: what Lance says of them, and what their file holds.

    ``content`` is the file itself where its writer does not see the library's directory.
    """

    metadata: str
    checksum: Checksum
    content: bytes | None = None

    @property
    def name(self) -> str:
        """The file, named from the table's folder."""
        return f"data/{json.loads(self.metadata)['files'][0]['path']}"


@dataclass(frozen=True, slots=True)
class FragmentWriter:
    """Writes fragments for a library's table, in any process and on any machine."""

    place: Path
    """The folder for them, which other machines may not have."""
    manifest: tuple[str, bytes]
    """The name and content of the table's manifest: the columns, with Lance's numbers of them."""
    bank: NDArray[np.float32]
    dim: int

    @classmethod
    def beside(cls, library: Path, bank: NDArray[np.float32], dim: int) -> FragmentWriter:
        """One for a library's table as it is now; what an earlier one left behind goes."""
        discard(library)
        name = str(newest_manifest(library / "views.lance"))
        manifest = name, (library / "views.lance/_versions" / name).read_bytes()
        writer = cls(library / FOLDER / os.urandom(8).hex(), manifest, bank, dim)
        writer._lay_out(writer.place)
        return writer

    def _lay_out(self, place: Path) -> None:
        name, content = self.manifest
        (place / "_versions").mkdir(parents=True, exist_ok=True)
        (place / "_versions" / name).write_bytes(content)

    def write(self, images: Sequence[ImageRecord]) -> Fragment:
        """Write images that the table does not have, with their background statistics.

        Raises LibraryError when the disk refuses.
        """
        with contextlib.ExitStack() as stack, writing(self.place.parent.parent):
            place, seen = self.place, self.place.is_dir()
            if not seen:
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                self._lay_out(place)
            table = import_lance().dataset(str(place))
            (made,) = import_lance().fragment.write_fragments(
                to_table(images, self.bank, self.dim), table
            )
            path = place / "data" / made.files[0].path
            sync_path(path)
            known = json.dumps(made.to_json())
            return Fragment(known, checksum(path), None if seen else path.read_bytes())


def commit(dataset: Any, library: Path, writer: FragmentWriter, parts: Sequence[Fragment]) -> Any:
    """The table's next version, with these fragments. Raises OSError or ValueError."""
    lance = import_lance()
    table = library / "views.lance"
    (table / "data").mkdir(exist_ok=True)
    for part in parts:
        if part.content is None:
            (writer.place / part.name).replace(table / part.name)
        else:
            write_atomically(table / part.name, part.content)
    made = [lance.FragmentMetadata.from_json(part.metadata) for part in parts]
    append = lance.LanceOperation.Append(made)
    return lance.LanceDataset.commit(dataset, append, read_version=dataset.version)


def discard(library: Path) -> None:
    """Delete what was written and not committed (under the lock)."""
    shutil.rmtree(library / FOLDER, ignore_errors=True)
