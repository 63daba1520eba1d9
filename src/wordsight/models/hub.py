"""The hub: models in the cache, fetching others, and a model's content hash.

Models are kept in the cache that all users of the Hugging Face hub share (``HF_HUB_CACHE``,
``HF_HOME``; its documented layout of `blobs`, `snapshots` and `refs`), so that one fetched by any
tool is found here and the reverse. Where that cache cannot be written, a folder of the same layout
in wordsight's own cache takes what is fetched.

Requests go through ``huggingface_hub``'s session (proxies, certificates, token, ``HF_ENDPOINT``).
The transfer itself is done here because that library (2.4) keeps nothing of an interrupted
transfer, does not compare hashes, and waits for minutes on a hub that does not answer. A model
that is in the cache is opened without importing it, and without the network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wordsight.errors import HubError
from wordsight.models.runtime import cache_folder, writable_cache
from wordsight.paths import drafted, expanded

__all__ = [
    "cache_folder",
    "cached",
    "content_hash",
    "fetch",
    "is_offline",
    "is_repository",
    "list_files",
]

T = TypeVar("T")

REACH_SECONDS = 10.0
"""How long the hub may take to tell what is in a repository."""

STALL_SECONDS = 10.0
"""How long a transfer may stand still before it is cut and taken up again."""

PAUSE_SECONDS = 1.0
"""Before a transfer that brought nothing is tried again; as much longer each time."""

ATTEMPTS = 3
"""How many times in a row a transfer may bring nothing."""

WAYS_OUT = (
    "use a model in the cache (`wordsight models` lists them), a directory that holds one "
    "(--model DIR, --crops DIR), or a starter of the package (--model starter, "
    "--crops starter-maskrcnn)"
)

_CHUNK = 1 << 20
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class NoAnswerError(HubError):
    """The hub did not answer, or only that it cannot."""


def is_repository(name: str) -> bool:
    """Tell whether a name has the form of a hub repository id, "owner/name"."""
    return _REPOSITORY.fullmatch(name) is not None


def endpoint() -> str:
    """Return the hub's address: ``HF_ENDPOINT`` (a mirror), or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "TRUE", "YES", "ON")


def cached(repository: str, required: Sequence[str], revision: str = "main") -> Path | None:
    """Find a repository in the caches: a folder with all ``required`` files, or None."""
    for root in _roots():
        folder = root / _folder_name(repository)
        commits: list[str] = []
        with contextlib.suppress(OSError):
            commits.append((folder / "refs" / revision).read_text(encoding="utf-8").strip())
        with contextlib.suppress(OSError):  # without a ref: the latest of what is there
            found = sorted((folder / "snapshots").iterdir(), key=lambda p: p.stat().st_mtime)
            commits += [path.name for path in reversed(found)]
        for commit in commits:
            snapshot = folder / "snapshots" / commit
            if commit and all((snapshot / file).is_file() for file in required):
                return snapshot
    return None


def fetch(
    repository: str,
    required: Sequence[str],
    *,
    extra: Callable[[str], bool] | None = None,
    revision: str = "main",
    reach_seconds: float = REACH_SECONDS,
    limit_seconds: float | None = None,
) -> Path:
    """Return the folder of a repository's files, fetching what the cache lacks.

    A transfer that was cut goes on where it stopped, in this run or the next. Size and hash of
    every file are compared with what the hub says before the file is used. A bar is drawn on
    stderr where that is a terminal.

    Args:
        repository: "owner/name".
        required: the files that are needed.
        extra: picks further files to fetch where the repository has them.
        revision: a branch, tag or commit.
        reach_seconds: how long the hub may take to answer at all.
        limit_seconds: how long everything may take together; None for any time.

    Raises:
        HubError: the hub cannot be reached, has no such repository or file, a transfer stops or
            what came is not what the hub announced, or there is no room or permission to keep it.
    """
    folder = cached(repository, required, revision)
    if folder is not None:
        return folder
    if is_offline():
        raise HubError(f"{repository} is not in the cache and HF_HUB_OFFLINE is set; {WAYS_OUT}")

    deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
    commit, files = _list_files(repository, revision, reach_seconds)
    missing = [name for name in required if name not in files]
    if missing:
        raise HubError(
            f"{endpoint()}/{repository} has not the files of a model in wordsight's layout: "
            f"{', '.join(missing)} missing"
        )
    # The required files come last, so that a snapshot that has them all is complete.
    names = [n for n in files if extra is not None and n not in required and extra(n)]
    wanted = [files[name] for name in [*names, *required]]

    root = _writable_root()
    store = root / _folder_name(repository)
    snapshot = store / "snapshots" / commit
    try:
        todo = [file for file in wanted if not (store / "blobs" / file.blob).is_file()]
        _check_room(root, sum(file.size - _had(store, file) for file in todo))
        with _progress(repository, sum(file.size for file in todo)) as advance:
            url = f"{endpoint()}/{repository}/resolve/{commit}/"
            transfer = _Transfer(url, store, advance, deadline)
            for file in wanted:
                _link(transfer.fetch(file), snapshot / file.name)
        _write(store / "refs" / revision, commit)
    except OSError as error:
        raise HubError(
            f"cannot keep {repository} in {root} ({error.strerror or error}); make room, or set "
            "HF_HOME or WORDSIGHT_CACHE to a folder that can be written"
        ) from error
    return snapshot


def list_files(repository: str, revision: str = "main") -> list[str]:
    """List the names of a repository's files, as the hub tells them.

    Raises HubError if it cannot be reached, or has no such repository.
    """
    if is_offline():
        raise HubError(f"{repository} is not in the cache and HF_HUB_OFFLINE is set; {WAYS_OUT}")
    _, files = _list_files(repository, revision, REACH_SECONDS)
    return list(files)


def content_hash(folder: Path, files: Iterable[str]) -> str:
    """Hash the names and bytes of a model's files: 16 hex digits of SHA-256.

    The result for large models is remembered in the cache folder, by the files' sizes and times.
    """
    files = sorted(files)
    stats = [(folder / file).stat() for file in files]
    # Small models are hashed each time: that takes milliseconds, and installers may give all
    # versions of a packaged file the same time.
    memory = writable_cache("hashes") if sum(s.st_size for s in stats) > 32 << 20 else None
    key = json.dumps(
        [
            str(folder.resolve()),
            *([f, s.st_size, s.st_mtime_ns] for f, s in zip(files, stats, strict=True)),
        ]
    )
    note = memory and memory / hashlib.sha256(key.encode()).hexdigest()[:32]
    if note:
        with contextlib.suppress(OSError):
            known = note.read_text(encoding="ascii")
            if re.fullmatch("[0-9a-f]{16}", known):
                return known

    digest = hashlib.sha256()
    for file in files:
        digest.update(file.encode() + b"\0")
        digest.update(_digest(folder / file, hashlib.sha256()).digest())
    result = digest.hexdigest()[:16]
    if note:
        with contextlib.suppress(OSError):
            _write(note, result)
    return result


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    size: int
    blob: str
    """SHA-256 of large files, git's SHA-1 of others: the name in the cache, and the hash."""

    def matches(self, path: Path) -> bool:
        if path.stat().st_size != self.size:
            return False
        digest = hashlib.sha256() if len(self.blob) == 64 else hashlib.sha1()
        if len(self.blob) == 40:
            digest.update(b"blob %d\0" % self.size)
        return bool(_digest(path, digest).hexdigest() == self.blob)


def _digest(path: Path, digest: Any) -> Any:
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest


def _list_files(repository: str, revision: str, seconds: float) -> tuple[str, dict[str, _File]]:
    """Ask the hub for the commit of a revision and its files with sizes and hashes."""
    url = f"{endpoint()}/api/models/{repository}/revision/{revision}"

    def ask() -> Any:
        return _session().get(url, params={"blobs": "true"}, headers=_headers(), timeout=seconds)

    try:
        response = _within(seconds, ask)
    except Exception as error:  # connection errors are of the HTTP library's own kinds
        reason = str(error) if isinstance(error, TimeoutError) else _describe(error)
        raise NoAnswerError(
            f"cannot fetch {repository}: no answer from {endpoint()} ({reason}); {WAYS_OUT}"
        ) from error
    if response.status_code in (401, 403, 404):
        raise HubError(
            f"{endpoint()} has no model {repository} that can be read here "
            f"(status {response.status_code}); check the name, or set HF_TOKEN if it is private"
        )
    if response.status_code != 200:
        raise NoAnswerError(
            f"cannot fetch {repository}: {endpoint()} answered with status "
            f"{response.status_code}; try again later, or {WAYS_OUT}"
        )
    try:
        info = response.json()
        files = {}
        for entry in info["siblings"]:
            large = entry.get("lfs") or {}
            blob = large.get("sha256") or entry["blobId"]
            if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob):
                raise ValueError(f"hash {blob!r}")
            name = entry["rfilename"]
            files[name] = _File(name, int(large.get("size") or entry["size"]), blob)
        commit = info["sha"]
        if not re.fullmatch("[0-9a-f]{7,64}", commit):
            raise ValueError(f"commit {commit!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(
            f"{endpoint()} does not answer as a hub does ({_describe(error)}); check HF_ENDPOINT"
        ) from error
    return commit, files


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Bringing files of one commit into the blobs of a cache."""

    url: str
    """Of the commit's files, to the slash before their names."""
    store: Path
    advance: Callable[[int], None]
    deadline: float | None

    def fetch(self, file: _File) -> Path:
        """Return the file's blob, fetched and checked if it is not there."""
        from filelock import FileLock, Timeout

        blob = self.store / "blobs" / file.blob
        if blob.is_file():
            return blob
        lock = self.store.parent / ".locks" / self.store.name / f"{file.blob}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(parents=True, exist_ok=True)
        wait = -1 if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        try:
            with FileLock(lock, timeout=wait):
                if blob.is_file():  # another process fetched it meanwhile
                    self.advance(file.size)
                    return blob
                part = blob.with_name(f"{file.blob}.part")
                self._complete(part, file)
                if not file.matches(part):
                    part.unlink()
                    raise HubError(
                        f"{self.url}{file.name}: what came is not what the hub announced (its hash "
                        "differs) and was deleted; try again, or another HF_ENDPOINT"
                    )
                part.replace(blob)
        except Timeout as error:
            raise HubError(f"{self.url}: another process is still fetching it") from error
        return blob

    def _complete(self, part: Path, file: _File) -> None:
        """Bring ``part`` to the file's full size, going on from what it has."""
        part.touch()
        if part.stat().st_size > file.size:
            os.truncate(part, 0)
        self.advance(part.stat().st_size)
        idle, reason = 0, ""
        while (have := part.stat().st_size) < file.size:
            if self._late():
                reason = "it took too long"
            if self._late() or idle == ATTEMPTS:
                raise HubError(
                    f"{self.url}{file.name}: the transfer stopped at {have:,} of {file.size:,} "
                    f"bytes ({reason}); run it again to go on from there, or {WAYS_OUT}"
                )
            if idle:
                time.sleep(idle * PAUSE_SECONDS)
            reason = self._read_once(part, file)
            idle = 0 if part.stat().st_size > have else idle + 1

    def _read_once(self, part: Path, file: _File) -> str:
        """Append one response to ``part``; return why it ended."""
        have = part.stat().st_size
        seconds = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or STALL_SECONDS)
        headers = {**_headers(), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        url = self.url + file.name
        try:
            with _session().stream("GET", url, headers=headers, timeout=seconds) as response:
                status = response.status_code
                if status in (401, 403, 404):
                    raise HubError(f"{url}: the hub announced this file but answers {status}")
                if status not in (200, 206):
                    return f"status {status}"
                with part.open("ab") as out:
                    if status == 200 and have:  # the server knows no ranges: from the start
                        out.truncate(0)
                        self.advance(-have)
                        have = 0
                    for chunk in response.iter_bytes():
                        have += len(chunk)
                        if have > file.size:
                            out.truncate(0)
                            return f"more than {file.size:,} bytes came"
                        out.write(chunk)
                        self.advance(len(chunk))
                        if self._late():
                            break
            return "the connection closed early"
        except HubError:
            raise
        except Exception as error:  # connection errors are of the HTTP library's own kinds
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise
            return _describe(error)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


def _session() -> Any:
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    return get_session()


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return dict(build_hf_headers(library_name="wordsight"))


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return ``call()``, or raise TimeoutError if it takes longer.

    Time limits of HTTP libraries bound each read, not the whole, and looking up a name has none.
    """
    box: list[T | BaseException] = []

    def work() -> None:
        try:
            box.append(call())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not box:
        raise TimeoutError(f"waited {seconds:g} s")
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def _roots() -> list[Path]:
    """Return the caches to look in, the one to write to first where it can be written."""
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    shared = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return [expanded(shared or Path(home, "hub")), cache_folder() / "hub"]


def _writable_root() -> Path:
    roots = _roots()
    for root in roots:
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            if os.access(root, os.W_OK):
                return root
    raise HubError(
        f"no cache can be written ({', '.join(map(str, roots))}): set HF_HOME or WORDSIGHT_CACHE "
        "to a folder that can be"
    )


def _folder_name(repository: str) -> str:
    return "models--" + repository.replace("/", "--")


def _had(store: Path, file: _File) -> int:
    """How many bytes of a file an earlier run has fetched."""
    with contextlib.suppress(OSError):
        return min(file.size, (store / "blobs" / f"{file.blob}.part").stat().st_size)
    return 0


def _check_room(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size:
        raise HubError(
            f"{root}: {size / 1e6:,.0f} MB are to be fetched and {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to another disk"
        )


def _link(blob: Path, pointer: Path) -> None:
    if pointer.is_file():
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        pointer.unlink()  # a link to a blob that was removed
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except (OSError, NotImplementedError):  # Windows without the right to make links
        shutil.copy2(blob, pointer)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr, if that is a terminal, advanced by the function given."""
    if not total or not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda size: bar.advance(task, size)


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
