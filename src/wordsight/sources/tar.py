"""Images in an uncompressed tar archive, read in place by their offset."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from wordsight.errors import SourceError
from wordsight.images import IMAGE_SUFFIXES, unreadable_reason
from wordsight.sources.base import Item, class_labels, is_hidden, item_id, read_file

_BLOCK = 512  # bytes: headers and ends are blocks of this size (POSIX pax/ustar)
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class TarSource:
    """The image members of a tar archive (USTAR, GNU or pax), in the archive's order.

    Members are picked out by their suffix; hidden ones are passed over; of two with the same name
    the later counts, as when unpacking. What can be read of a cut or damaged archive is listed,
    and ``problems`` says what is missing.

    The time of a member is the archive's own (times inside archives are often all zero), moved
    on by the archive's size in nanoseconds: so neither a changed archive nor another one with
    the same time passes for unchanged.
    """

    def __init__(self, archive: str | Path, *, root: str | None = None) -> None:
        """``root``: that of a larger source which this archive is a part of."""
        self.name = str(archive)
        self._archive = os.path.realpath(archive)
        self.root = f"{self._archive}::" if root is None else root
        self.problems: list[tuple[str, str]] = []
        self._offsets: dict[str, int] = {}

    def items(self) -> list[Item]:
        """List the images by the headers alone. Raises SourceError for what is no tar archive."""
        self.problems = []
        members = self._members()
        labels = class_labels({name.rpartition("/")[0] for name in members})
        status = os.stat(self._archive)  # noqa: PTH116
        stamp = status.st_mtime_ns + status.st_size
        items, offsets = [], {}
        for name, (offset, size) in members.items():
            path = f"{self._archive}::{name}"
            try:
                identity = item_id(path)
            except UnicodeEncodeError:
                shown = path.encode("utf-8", "replace").decode()
                self.problems.append((shown, "the member's name is not valid UTF-8"))
                continue
            label = labels.get(name.rpartition("/")[0])
            offsets[identity] = offset
            items.append(Item(identity, path, size, stamp, label, self.root, self._read))
        self._offsets = offsets
        return items

    def _read(self, item: Item) -> bytes:
        return read_file(self._archive, item.path, self._offsets[item.id], item.size)

    def _members(self) -> dict[str, tuple[int, int]]:
        """Offset and size of the image members by name."""
        members: dict[str, tuple[int, int]] = {}
        try:
            with open(self._archive, "rb") as file:  # noqa: PTH123
                self._refuse_compressed(file.read(8))
                file.seek(0)
                length = os.fstat(file.fileno()).st_size
                archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
                try:
                    while member := archive.next():
                        # tarfile would keep them all, about 1 kB each.
                        archive.members.clear()  # type: ignore[attr-defined]
                        name = member.name.removeprefix("./")
                        if not member.isreg() or not _is_image(name):
                            continue
                        if member.issparse():
                            self._report(name, "stored as a sparse file, which is not supported")
                        elif member.offset_data + member.size > length:
                            self._report(name, "cut off: the archive ends before it")
                        else:
                            members.pop(name, None)  # so that the later one takes its later place
                            members[name] = (member.offset_data, member.size)
                    cut = (
                        None if _ends_well(file, archive.offset) else "it ends without an end mark"
                    )
                except (tarfile.TarError, ValueError, OverflowError) as error:
                    cut = str(error)
        except tarfile.TarError as error:
            raise SourceError(f"{self.name}: not a tar archive ({error})") from error
        except OSError as error:
            raise SourceError(f"{self.name}: {unreadable_reason(error)}") from error
        if cut:
            reason = f"damaged or cut archive ({cut}): only {len(members)} images could be listed"
            self.problems.append((self._archive, reason))
        return members

    def _refuse_compressed(self, start: bytes) -> None:
        for magic, command in _COMPRESSED.items():
            if start.startswith(magic):
                raise SourceError(
                    f"{self.name}: a compressed archive, whose images cannot be read one by one; "
                    f"unpack it first: {command} {self.name}"
                )

    def _report(self, member: str, reason: str) -> None:
        path = f"{self._archive}::{member}"
        self.problems.append((path.encode("utf-8", "replace").decode(), reason))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(map(is_hidden, path.parts))


def _ends_well(file: IO[bytes], offset: int) -> bool:
    """Whether a block of zeros stands where tarfile stopped: it stops silently at any damage."""
    file.seek(offset)
    return file.read(_BLOCK) == bytes(_BLOCK)
