"""Images in an uncompressed tar archive, read in place by their offset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from wordsight.errors import SourceError, StorageError
from wordsight.images import readable_suffixes, unreadable_reason
from wordsight.sources.base import Item, class_labels, is_hidden, item_id
from wordsight.sources.files import opened, place_of, read_part
from wordsight.sources.listing import excluding, is_derivative, other_kind, raw_twins

_BLOCK = 512  # bytes: headers and ends are blocks of this size (POSIX pax/ustar)
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class TarSource:
    """The image members of a tar archive (USTAR, GNU or pax), in the archive's order.

    Members are picked out by their suffix; hidden ones are passed over, and those that ``exclude``
    names, and RAW files beside their JPEG or HEIC. Hard links are images too; of two with the same
    name the later counts, as when unpacking. What can be read of a cut or damaged archive is
    listed, and ``problems`` says what is missing.

    The time of a member is the archive's own (times inside archives are often all zero), moved
    on by the archive's size in nanoseconds: so neither a changed archive nor another one with
    the same time passes for unchanged.
    """

    def __init__(self, archive: str | Path, *, root: str | None = None) -> None:
        """``root``: that of a larger source which this archive is a part of."""
        self.name = str(archive)
        self._archive = place_of(archive)
        self.root = f"{self._archive}::" if root is None else root
        self.problems: list[tuple[str, str]] = []
        self.exclude: Sequence[str] = ()
        self.not_read: dict[str, str] = {}
        self._told = False  # whether there may be captions beside the images

    def items(self) -> list[Item]:
        """List the images by the headers alone. Raises SourceError for what is no tar archive."""
        self.problems = []
        members, stamp = self._members()
        labels = class_labels({name.rpartition("/")[0] for name in members})
        said = self._captions(members) if self._told else {}
        items = []
        for name, (offset, size) in members.items():
            path = f"{self._archive}::{name}"
            try:
                identity = item_id(path)
            except UnicodeEncodeError:
                shown = path.encode("utf-8", "replace").decode()
                self.problems.append((shown, "the member's name is not valid UTF-8"))
                continue
            label = labels.get(name.rpartition("/")[0])
            reader = partial(read_member, self._archive, offset)
            items.append(
                Item(identity, path, size, stamp, label, self.root, reader, caption=said.get(name))
            )
        return items

    def _captions(self, members: Iterable[str]) -> dict[str, str | None]:
        from wordsight.sources.webdataset import captions, key_of

        said = captions(self._archive)
        return {name: said.get(key_of(name)) for name in members} if said else {}

    def _members(self) -> tuple[dict[str, tuple[int, int]], int]:
        """Offset and size of the image members by name, and the time that these all have."""
        members: dict[str, tuple[int, int]] = {}
        others: dict[str, str] = {}
        patterns = excluding(self.exclude, self.root)
        stamp = 0
        try:
            with opened(self._archive) as (file, state):
                self._refuse_compressed(file.read(8))
                length, stamp = state.size, state.changed_ns + state.size
                for member in walk(file):
                    name = member.name
                    if _is_passed_over(name) or (patterns.sets and patterns.match(name)):
                        continue
                    suffix = name[name.rfind(".") :].lower()
                    if suffix not in readable_suffixes():
                        self._told |= suffix in (".txt", ".json")
                        if kind := other_kind(suffix):
                            others[name] = kind
                        continue
                    place: tuple[int, int] | None = (member.offset, member.size)
                    if member.same_as:
                        place = members.get(member.same_as)
                    if place is None:
                        self._report(member.name, f"a link to {member.same_as}: not there")
                    elif member.sparse:
                        self._report(member.name, "stored as a sparse file: not supported")
                    elif member.offset + member.size > length:
                        self._report(member.name, "cut off: the archive ends before it")
                    else:
                        members.pop(member.name, None)  # the later one takes its later place
                        members[member.name] = place
        except StorageError as error:
            raise SourceError(f"{self.name}: {error}") from None
        except OSError as error:
            raise SourceError(f"{self.name}: {unreadable_reason(error)}") from error
        except TarDamage as error:
            if error.offset == 0:
                raise SourceError(f"{self.name}: not a tar archive ({error})") from error
            reason = f"damaged or cut archive ({error}): only {len(members)} images could be listed"
            self.problems.append((self._archive, reason))
        twins = raw_twins([*members, *others])
        self.not_read = {
            f"{self._archive}::{name}": kind for name, kind in others.items() if name not in twins
        }
        return {name: at for name, at in members.items() if name not in twins}, stamp

    def _refuse_compressed(self, start: bytes) -> None:
        for magic, command in _COMPRESSED.items():
            if start.startswith(magic):
                raise SourceError(
                    f"{self.name}: a compressed archive, so images cannot be read one by one; "
                    f"unpack it first: {command} {self.name}"
                )

    def _report(self, member: str, reason: str) -> None:
        path = f"{self._archive}::{member}"
        self.problems.append((path.encode("utf-8", "replace").decode(), reason))


def read_member(archive: str, offset: int, item: Item) -> bytes:
    """The bytes of a member that begins there. Raises ImageError."""
    return read_part(archive, item.path, offset, item.size)


def _is_passed_over(name: str) -> bool:
    parts = name.split("/")
    return any(map(is_hidden, parts)) or any(map(is_derivative, parts, parts[1:]))


# The format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; the types L, K
# and S, and binary numbers, are GNU's (tar manual, "Basic Tar Format"). The standard library's
# reader gives the same members (a test compares them) and takes three times as long.


class Member(NamedTuple):
    """A regular file in an archive: its name, and where its bytes are in the archive."""

    name: str
    offset: int
    size: int
    sparse: bool  # its bytes are not stored as they are
    same_as: str = ""  # a hard link: the name of the member that has the bytes


class TarDamage(Exception):
    """An archive is no archive, or cannot be followed any further than ``offset``."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


def walk(file: IO[bytes]) -> Iterator[Member]:
    """The regular files of an archive by its headers. Raises TarDamage after the last good one."""
    length = file.seek(0, os.SEEK_END)
    position = 0
    extra: dict[str, bytes] = {}  # what preceding headers say about the next member
    while True:
        file.seek(min(position, length))  # a damaged size can be beyond what seek takes
        header = file.read(_BLOCK)
        if header == _END:
            return
        if len(header) < _BLOCK:
            raise TarDamage("it ends without an end mark", position)
        try:
            _check(header)
            kind = header[156:157]
            size = int(extra["size"]) if "size" in extra else _number(header[124:136])
            data = position + _BLOCK
            if size < 0:
                raise ValueError("a negative size")
            if kind in _ABOUT_THE_NEXT:
                content = file.read(min(size, _MAX_EXTRA))
                if len(content) < size:
                    raise ValueError("a header that is cut or too long")
                if kind == b"x":
                    extra |= _pax_records(content)
                elif kind in _LONG:
                    extra[_LONG[kind]] = content.partition(b"\0")[0]
                position = data + -(-size // _BLOCK) * _BLOCK
                continue
        except ValueError as error:
            raise TarDamage(str(error), position) from error
        if kind == b"S":
            more = header[482]
            while more:  # GNU's map of the holes goes on in blocks of its own
                more = (file.read(_BLOCK).ljust(_BLOCK, b"\0"))[504]
                data += _BLOCK
        name = extra.get("path") or _ustar_name(header)
        is_folder = kind == b"\0" and name.endswith(b"/")
        if kind in _REGULAR and not is_folder:
            sparse = kind == b"S" or any(key.startswith("GNU.sparse.") for key in extra)
            yield Member(_text(name), data, size, sparse)
        if kind == b"1":
            yield Member(_text(name), data, 0, False, _text(_link_name(header, extra)))
        has_data = kind not in _WITHOUT_DATA and not is_folder
        position = data + (-(-size // _BLOCK) * _BLOCK if has_data else 0)
        extra = {}


_END = bytes(_BLOCK)
_MAX_EXTRA = 1 << 20  # bytes of a name or of pax records
_ABOUT_THE_NEXT = (b"x", b"g", b"L", b"K")
_LONG = {b"L": "path", b"K": "linkpath"}  # of GNU's long names, what they are of the next member
_REGULAR = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes


def _check(header: bytes) -> None:
    """Compare the checksum: the sum of the bytes, with its own field taken as spaces."""
    stored = _number(header[148:156])
    if stored != sum(header) - sum(header[148:156]) + 8 * 32:
        raise ValueError("a damaged header")


def _number(field: bytes) -> int:
    if field[0] in (0x80, 0xFF):  # GNU: big-endian, where octal digits do not suffice
        return int.from_bytes(field[1:], "big") - (
            256 ** (len(field) - 1) if field[0] == 0xFF else 0
        )
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _ustar_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _link_name(header: bytes, extra: dict[str, bytes]) -> bytes:
    return extra.get("linkpath") or header[157:257].partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").removeprefix("./")


def _pax_records(content: bytes) -> dict[str, bytes]:
    """Parse records "<length> <key>=<value>\\n"; the length counts all of the record."""
    records = {}
    while content.strip(b"\0"):
        length = int(content.partition(b" ")[0])
        key, equals, value = content[:length].partition(b" ")[2].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ValueError("a damaged pax header")
        records[key.decode("utf-8", "replace")] = value[:-1]
        content = content[length:]
    return records
