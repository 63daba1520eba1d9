"""The replica of a library at a URL, a library's directory in the user's cache; drafts beside it.

A replica's folder holds ``library`` (the directory), ``state.json`` (what of the URL it shows) and,
while a process writes, a draft: another directory, whose table shares its files with the replica by
hard links, since they never change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from wordsight.errors import LibraryError
from wordsight.library.files import read_record, write_atomically, writing
from wordsight.library.fragments import FOLDER as INCOMING
from wordsight.library.prints import NAME as PRINTS
from wordsight.library.remote.lease import LEASE
from wordsight.paths import DRAFTS, file_digest
from wordsight.runtime.cache import cache_folder
from wordsight.storage import Objects

RECORD = "library.json"
CACHE_GB = 50
_IN_USE = 600  # seconds after its last use in which no other replica pushes one out
_TRIES = 5  # a writer may delete what is being fetched; then the record is another one by now
_AT_ONCE = 8  # objects that are on their way
_MAKING = ("draft-*/views.lance/_versions", "successor/views.lance/_versions")
_KEPT = 86_400  # seconds that an object which no version names stays
_FOLDERS = ("views.lance", "lines.lance", "blobs")
_OWN = ("lock", "damaged", INCOMING, PRINTS, f"{PRINTS}-journal")
"""What belongs to a directory, and not to the library."""


class File(NamedTuple):
    """A file of a version: its size in bytes, its digest, and the object that holds it."""

    size: int
    digest: str
    key: str


@dataclass(frozen=True)
class State:
    """What ``library.json`` said: its tag, the record, and the files by name."""

    tag: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)

    @classmethod
    def parse(cls, tag: str, data: bytes) -> State:
        """Raises ValueError, KeyError or TypeError for what is no record of a library here."""
        record = json.loads(data)
        files = {str(name): File(*entry) for name, entry in record.pop("files").items()}
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or path.parts[:1] == (RECORD,):
                raise ValueError(name)  # it would be written outside of the replica
        return cls(tag, record, files)

    def to_json(self) -> bytes:
        """The inverse of :meth:`parse`, without the tag."""
        return json.dumps({**self.record, "files": self.files}).encode()


class _Gone(Exception):
    """An object that a version names is there no more: another version is in its place by now."""


class Replica:
    """The replica of a library at a URL."""

    def __init__(self, url: str) -> None:
        self.objects = Objects(url)
        self.url = self.objects.url
        self.home = _home(self.url)
        self.path = self.home / "library"

    def exists(self) -> bool:
        """Whether there is a library at the URL."""
        return self.objects.tag(RECORD) is not None

    def state(self) -> State:
        """What of the URL the replica shows."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads((self.home / "state.json").read_bytes())
            return State.parse(saved["tag"], saved["said"].encode())
        return State()

    def pull(self, near: Path | None = None) -> bool:
        """Fetch the version that the URL names; True when it is another one than before.

        Files that the directory ``near`` has are taken from there. Raises LibraryError where there
        is no library, or where it is larger than the cache may be.
        """
        with self._alone():
            for _ in range(_TRIES):
                found = self.objects.get(RECORD)
                if found is None:
                    raise LibraryError(
                        f"no library at {self.url}; create one with: "
                        f"wordsight index FOLDER --library {self.url}"
                    )
                before = self.state()
                if before.tag == found.tag and self._is_whole(before):
                    os.utime(self.home / "state.json")  # it is in use
                    return False
                try:
                    after = State.parse(found.tag, found.data)
                except (ValueError, KeyError, TypeError):
                    raise LibraryError(
                        f"{self.url}/{RECORD} is damaged or was not written by "
                        "wordsight; index into another place."
                    ) from None
                with contextlib.suppress(_Gone):
                    self._apply(before, after, near)
                    return True
            raise LibraryError(
                f"objects that {self.url}/{RECORD} lists are missing; index into another place."
            )

    def _is_whole(self, state: State) -> bool:
        """Whether no file of the table was deleted from the cache; others can be made again."""
        return (self.path / RECORD).exists() and all(
            _size(self.path / name) == file.size
            for name, file in state.files.items()
            if _is_fixed(name)
        )

    def _apply(self, before: State, after: State, near: Path | None) -> None:
        """Turn the directory from one state into another, manifests and the record last.

        Another library (after ``index --remodel``) is put in its place whole.
        """
        _make_room(self.home, sum(file.size for file in after.files.values()), self.url)
        if before.record.get("id") not in (None, after.record.get("id")):
            fresh, aside = self.home / "fresh", self.home / "aside"
            for left in (fresh, aside):
                shutil.rmtree(left, ignore_errors=True)
            self._fill(fresh, State(), after, near)
            with writing(self.path):
                if self.path.exists():
                    self.path.rename(aside)
                fresh.rename(self.path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            self._fill(self.path, before, after, near)
        said = {"tag": after.tag, "said": after.to_json().decode()}
        with writing(self.path):
            write_atomically(self.home / "state.json", json.dumps(said).encode())

    def _fill(self, place: Path, before: State, after: State, near: Path | None) -> None:
        missing = [
            name
            for name, file in after.files.items()
            if before.files.get(name) != file or _size(place / name) != file.size
        ]
        with writing(self.path):
            for last in (False, True):
                some = [name for name in missing if _is_manifest(name) == last]
                _at_once(lambda name: self._take(place, name, after.files[name], near), some)
            write_atomically(place / RECORD, json.dumps(after.record, indent=2).encode())
            for name in before.files.keys() - after.files.keys():
                (place / name).unlink(missing_ok=True)

    def _take(self, place: Path, name: str, file: File, near: Path | None) -> None:
        """Put one file of a version in its place. Raises _Gone where its object is gone."""
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if near is not None and (near / name).is_file() and _digest(near / name) == file.digest:
            path.unlink(missing_ok=True)
            _link(near / name, path)
            return
        try:
            self.objects.fetch(file.key, file.size, path)
        except FileNotFoundError:
            raise _Gone from None
        if _size(path) != file.size or _digest(path) != file.digest:
            path.unlink()
            raise LibraryError(
                f"{self.url}/{file.key} differs from what was written; run the same command again."
            )

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A copy of the replica to write to, under the lease; empty where there is none yet."""
        self.home.mkdir(parents=True, exist_ok=True)
        for left in self.home.glob("draft-*"):  # of a process that was killed: we have the lease
            shutil.rmtree(left, ignore_errors=True)
        place = self.home / f"draft-{os.urandom(4).hex()}"
        try:
            with writing(place):
                _copy(self.path, self.state().files, place)
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def refill(self, draft: Path, other: Path) -> None:
        """Let a draft hold what another library's directory does."""
        for name in _names(draft):
            (draft / name).unlink()
        _copy(other, _names(other), draft)

    def push(self, draft: Path) -> None:
        """Make a draft of the present state the version that the URL names (under the lease).

        Raises LibraryError where another process has written meanwhile.
        """
        before = self.state()
        files = {name: _entry(draft, name, before) for name in _names(draft)}
        after = State("", read_record(draft), files)
        if (after.files, after.record) == (before.files, before.record):
            return
        changed = {name for name, file in files.items() if before.files.get(name) != file}
        there = {file.key for file in before.files.values()}
        fresh = {file.key: name for name, file in files.items() if file.key not in there}
        _at_once(lambda key: self.objects.put(key, draft / fresh[key]), fresh)
        if not self.objects.put_if(RECORD, after.to_json(), before.tag or None):
            raise LibraryError(
                f"another process wrote to the library {self.url} meanwhile, so what this one did "
                "is lost; run the same command again."
            )
        objects = self._objects()
        named = [
            name
            for name in files
            if _is_manifest(name) and (name in changed or name not in objects)
        ]
        _at_once(lambda name: self.objects.put(name, draft / name), named)
        self._clean(objects, before, after)

    def _objects(self) -> dict[str, float]:
        """All objects of the library but its record and its lease, and how old they are."""
        return {name: age for one in _FOLDERS for name, age in self.objects.ages(one).items()}

    def _clean(self, objects: Mapping[str, float], before: State, after: State) -> None:
        """Delete what neither of the last two versions names.

        A writer whose lease has expired may be putting more: so what is new stays for a day.
        """
        kept = {file.key for state in (before, after) for file in state.files.values()}
        kept.update(name for name in after.files if _is_manifest(name))
        old = [name for name, age in objects.items() if name not in kept and age > _KEPT]
        self.objects.delete(old)

    def clear(self) -> None:
        """Forget what is on this machine."""
        shutil.rmtree(self.home, ignore_errors=True)

    def delete(self) -> None:
        """Delete the library, its record first."""
        self.objects.delete([RECORD])
        self.objects.delete([*self._objects(), LEASE])
        self.clear()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the one process that changes the replica; others wait."""
        from filelock import FileLock

        with writing(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.home / "lock")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _home(url: str) -> Path:
    key = hashlib.blake2b(url.encode(), digest_size=12).hexdigest()
    return cache_folder() / "replicas" / key


def _limit() -> int:
    """How many bytes all replicas may take. Raises LibraryError when the variable is no number."""
    wanted = os.environ.get("WORDSIGHT_CACHE_GB", "").strip()
    try:
        return int(float(wanted or CACHE_GB) * 1e9)
    except (ValueError, OverflowError):
        raise LibraryError(
            f"WORDSIGHT_CACHE_GB={wanted!r}: give a number of gigabytes, for example {CACHE_GB}"
        ) from None


def _make_room(home: Path, needed: int, url: str) -> None:
    """Delete the replicas that were used longest ago, until one of this size has room.

    Raises LibraryError when it has none, even alone.
    """
    limit = _limit()
    if needed > limit:
        raise LibraryError(
            f"the library {url} takes {needed / 1e9:.1f} GB, and WORDSIGHT_CACHE_GB lets replicas "
            f"take {limit / 1e9:.1f}; set it to a larger number."
        )
    others = []
    for state in home.parent.glob("*/state.json"):
        if state.parent != home:
            with contextlib.suppress(OSError):
                size = sum(_size(path) for path in state.parent.rglob("*") if path.is_file())
                written = [path for kind in _MAKING for path in state.parent.glob(kind)]
                used = max(path.stat().st_mtime for path in (state, *written))
                others.append((used, size, state.parent))
    taken = needed + sum(size for _, size, _ in others)
    for used, size, other in sorted(others):
        if taken > limit and time.time() - used > _IN_USE:
            shutil.rmtree(other, ignore_errors=True)
            taken -= size


def _names(directory: Path) -> list[str]:
    """The files of a library's directory that belong to the library, but for the record."""
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*"))
    return sorted(
        name
        for name in found
        if name != RECORD
        and (directory / name).is_file()
        and name.partition("/")[0] not in _OWN
        and not Path(name).match(DRAFTS)
        and Path(name).name != "latest_version_hint.json"
    )


def _is_fixed(name: str) -> bool:
    """Whether a file is one of a table's own, which never change under their name."""
    return ".lance/" in name and not name.endswith("/checksums.json")


def _is_manifest(name: str) -> bool:
    return name.endswith(".manifest")


def _entry(draft: Path, name: str, before: State) -> File:
    """What a version says of a draft's file."""
    # Two drafts of one version have manifests of the same name.
    own = _is_fixed(name) and not _is_manifest(name)
    known = before.files.get(name)
    if known is not None and own:
        return known
    digest = _digest(draft / name)
    key = name if own else f"blobs/{digest}-{Path(name).name}"
    return File((draft / name).stat().st_size, digest, key)


def _at_once(action: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="objects") as pool:
        list(pool.map(action, names))


def _copy(source: Path, names: Iterable[str], place: Path) -> None:
    """Copy files of a library's directory, and the record; a table's own as hard links."""
    for name in [*names, *([RECORD] if source.is_dir() else [])]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        copy = _link if _is_fixed(name) else shutil.copyfile
        copy(source / name, place / name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _digest(path: Path) -> str:
    return file_digest(path, hashlib.blake2b(digest_size=16))
