"""The hub: models in its shared cache, fetching others, and a model's content hash.

``huggingface_hub`` looks up, transfers and stores (``HF_HUB_CACHE``, ``HF_HOME``, ``HF_ENDPOINT``,
``HF_TOKEN``, proxies and certificates are its own). Around it stand a bounded wait, a line that
says what comes and how large it is, and a comparison of hashes after the transfer. Where the shared
cache cannot be written, wordsight's own takes what is fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from wordsight.errors import HubError
from wordsight.models.runtime import cache_folder, writable_cache
from wordsight.models.transfer import Patience, Transfer, hooked
from wordsight.paths import drafted, expanded
from wordsight.progress import waiting

__all__ = [
    "cache_folder",
    "cached",
    "commit_of",
    "content_hash",
    "fetch",
    "is_offline",
    "is_repository",
    "list_files",
    "listing",
    "split",
]

T = TypeVar("T")

REACH_SECONDS = 10.0
"""How long the hub may take to tell what is in a repository."""

PATIENCE_SECONDS = 60.0
"""How long the hub may ask to wait (status 429), altogether."""

WAYS_OUT = (
    "use a model in the cache (`wordsight models` lists them), a directory that holds one "
    "(--model DIR, --crops DIR), or a starter of the package (--model starter, "
    "--crops starter-maskrcnn)"
)

_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.][\w./-]*))?")


class NoAnswerError(HubError):
    """The hub did not answer, or only that it cannot."""


class NoGraphsError(HubError):
    """A repository has weights of PyTorch, and no graphs that would open here."""

    def __init__(self, reason: str, way: str) -> None:
        super().__init__(f"{reason}; {way}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RepoFile:
    """One file of a repository, as the hub announces it."""

    name: str
    size: int
    sha256: str | None
    """Of large files; None for others."""
    git_hash: str | None
    """git's SHA-1 of the others."""

    def check(self, path: Path) -> bool:
        """Tell whether a file is this one, by size and hash."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256:
            return file_digest(path, hashlib.sha256()) == self.sha256
        head = hashlib.sha1(b"blob %d\0" % self.size)
        return self.git_hash is None or file_digest(path, head) == self.git_hash


def is_repository(name: str) -> bool:
    """Tell whether a name has the form of a hub repository: "owner/name", "owner/name@revision"."""
    return _REPOSITORY.fullmatch(name) is not None


def split(name: str) -> tuple[str, str]:
    """Split "owner/name@revision" into repository and revision ("main" where none is named)."""
    found = _REPOSITORY.fullmatch(name)
    if found is None:
        raise HubError(f"{name}: not a hub repository id (owner/name or owner/name@revision)")
    return found[1], found[2] or "main"


def endpoint() -> str:
    """Return the hub's address: ``HF_ENDPOINT`` (a mirror), or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "TRUE", "YES", "ON")


def cached(repository: str, required: Sequence[str], revision: str = "main") -> Path | None:
    """Find a repository in the caches: a folder with all ``required`` files, or None."""
    from huggingface_hub import try_to_load_from_cache

    for root in _roots():
        found = [
            try_to_load_from_cache(repository, name, cache_dir=root, revision=revision)
            for name in required
        ]
        if found and all(isinstance(path, str) and Path(path).is_file() for path in found):
            return _folder_of(str(found[0]), required[0])
    return None


def commit_of(repository: str, file: str, folder: Path) -> str | None:
    """Tell the commit of a repository's folder in the caches, which holds ``file``; None elsewhere.

    The name of the folder is taken for it where the hub library finds the folder by it.
    """
    commit = folder.name
    return commit if cached(repository, [file], commit) == folder else None


def listing(
    repository: str, revision: str = "main", seconds: float = REACH_SECONDS
) -> tuple[str, dict[str, RepoFile]]:
    """Ask the hub for the commit of a revision, and its files by name.

    Raises HubError if it cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi

    from wordsight.models.hub_report import explain

    if is_offline():
        raise HubError(f"{repository} is not in the cache and HF_HUB_OFFLINE is set; {WAYS_OUT}")
    api = HfApi(endpoint=endpoint(), library_name="wordsight")
    patience = Patience(repository, PATIENCE_SECONDS if seconds >= REACH_SECONDS else seconds)
    while True:
        try:
            with waiting(f"{repository}: waiting for {endpoint()}"):
                info = within(
                    seconds,
                    lambda: api.model_info(
                        repository, revision=revision, files_metadata=True, timeout=seconds
                    ),
                )
            files = {f.rfilename: _repo_file(f) for f in info.siblings or ()}
            if not info.sha:
                raise ValueError("no commit")
            return info.sha, files
        except Exception as error:  # of the HTTP library, of JSON, of the hub library
            answer = getattr(error, "response", None)
            if getattr(answer, "status_code", None) != 429:
                raise explain(error, repository, revision) from error
            time.sleep(patience.wait(answer.headers))  # type: ignore[union-attr]


def fetch(
    repository: str,
    *choices: Sequence[str],
    extra: Callable[[str], bool] = lambda name: False,
    beside: Callable[[Path], Iterable[str]] = lambda folder: (),
    revision: str = "main",
    sha256: Mapping[str, str] | None = None,
    reach_seconds: float = REACH_SECONDS,
    limit_seconds: float | None = None,
) -> Path:
    """Return the folder of a repository's files, fetching what the cache lacks.

    A transfer that was cut goes on where it stopped, in this run or the next. Size and hash of
    every file are compared with what the hub says before the file is used. What comes, how large
    it is and how far it is are told on stderr.

    Args:
        repository: "owner/name".
        choices: sets of files, any of which will do: the first one that the repository has.
        extra: picks further files to fetch where the repository has them.
        beside: tells from the folder of these which further files they refer to.
        revision: a branch, tag or commit.
        sha256: what is known of the files, by name. What comes must have these hashes.
        reach_seconds: how long the hub may take to answer at all.
        limit_seconds: how long everything may take together; None for any time.

    Raises:
        HubError: the hub cannot be reached, has no such repository or file, a transfer stops or
            what came is not what the hub announced, or there is no room or permission to keep it.
    """
    for names in choices:
        folder = cached(repository, names, revision)
        if folder and cached(repository, [*names, *beside(folder)], revision):
            return folder
    deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
    commit, files = listing(repository, revision, reach_seconds)
    required = _choose(repository, choices, files)
    _insist(repository, sha256 or {}, files)
    first = [*(n for n in files if extra(n) and n not in required), *required]
    root = _writable_root()
    folder = _bring(root, repository, revision, commit, [files[n] for n in first], deadline)
    more = [name for name in beside(folder) if name not in first]
    _choose(repository, [more], files)
    if more:
        _bring(root, repository, revision, commit, [files[n] for n in more], deadline)
    return folder


def _bring(
    root: Path,
    repository: str,
    revision: str,
    commit: str,
    files: Sequence[RepoFile],
    deadline: float | None,
) -> Path:
    """Fetch files of a commit into a cache; return their folder."""
    from huggingface_hub import try_to_load_from_cache

    from wordsight.models.hub_report import cannot_keep, explain, progress, quiet

    def in_cache(file: RepoFile) -> bool:
        path = try_to_load_from_cache(repository, file.name, cache_dir=root, revision=commit)
        return isinstance(path, str) and Path(path).is_file()

    todo = [file for file in files if not in_cache(file)]
    parts = {file.name: _part(repository, file) for file in todo}
    had = {name: part.stat().st_size for name, part in parts.items() if part and part.exists()}
    total = sum(file.size for file in todo)
    paths = []
    patience = Patience(repository, PATIENCE_SECONDS)
    with progress(repository, endpoint(), total, sum(had.values())) as advance, quiet():
        try:
            # The library copies from the part that is kept here: the largest one counts twice.
            _check_room(root, total + max((file.size for file in todo), default=0))
            for file in files:
                transfer = Transfer(
                    f"{endpoint()}/{repository}/{file.name}",
                    parts.get(file.name),
                    advance,
                    deadline,
                    patience,
                )
                path = _download(transfer, repository, file.name, revision, root)
                if file.name in parts and not file.check(path):
                    if part := parts[file.name]:
                        part.unlink(missing_ok=True)
                    path.resolve().unlink()
                    path.unlink(missing_ok=True)
                    raise HubError(
                        f"{transfer.name}: what came is not what the hub announced (its hash "
                        "differs) and was deleted; try again, or another HF_ENDPOINT"
                    )
                if part := parts.get(file.name):
                    part.unlink(missing_ok=True)
                paths.append(path)
        except HubError:
            raise
        except Exception as error:  # of the HTTP library, of the hub library, of the disk
            if isinstance(error, OSError) and error.errno is not None:
                raise cannot_keep(repository, root, error) from error
            raise explain(error, repository, revision, announced=True) from error
    return _folder_of(str(paths[0]), files[0].name)


def _download(transfer: Transfer, repository: str, name: str, revision: str, root: Path) -> Path:
    """Let the library fetch one file, for as long as its attempts bring anything."""
    import httpx2
    from huggingface_hub import hf_hub_download

    from wordsight.models.hub_report import meter

    while True:
        had = transfer.have()
        try:
            with hooked(transfer):
                return Path(
                    hf_hub_download(
                        repository,
                        name,
                        revision=revision,
                        cache_dir=root,
                        endpoint=endpoint(),
                        library_name="wordsight",
                        tqdm_class=meter(transfer),
                    )
                )
        except httpx2.ProxyError:
            raise
        except httpx2.TransportError as error:
            if transfer.have() <= had:
                raise NoAnswerError(
                    f"{transfer.name}: the transfer stopped at {had:,} bytes ({error}); run it "
                    "again to go on from there"
                ) from error


def list_files(repository: str, revision: str = "main") -> list[str]:
    """List the names of a repository's files, as the hub tells them (errors: :func:`listing`)."""
    return list(listing(repository, revision)[1])


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
        digest.update(bytes.fromhex(file_digest(folder / file, hashlib.sha256())))
    result = digest.hexdigest()[:16]
    if note:
        with contextlib.suppress(OSError), drafted(note) as draft:
            draft.write_text(result, encoding="ascii")
    return result


def file_digest(path: Path, digest: Any) -> str:
    """Return the hexadecimal digest of a file's bytes, after what ``digest`` has seen."""
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def within(seconds: float, call: Callable[[], T]) -> T:
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


def _repo_file(entry: Any) -> RepoFile:
    if entry.size is None or not (entry.lfs or entry.blob_id):
        raise ValueError(f"no size or hash of {entry.rfilename}")
    sha256 = entry.lfs.sha256 if entry.lfs else None
    return RepoFile(
        entry.rfilename,
        entry.lfs.size if entry.lfs else entry.size,
        sha256,
        None if entry.lfs else entry.blob_id,
    )


def _choose(
    repository: str, choices: Sequence[Sequence[str]], files: dict[str, RepoFile]
) -> Sequence[str]:
    """Choose the first set of files that a repository has."""
    lacking = [[name for name in names if name not in files] for names in choices]
    for names, lost in zip(choices, lacking, strict=True):
        if not lost:
            return names
    where = f"{endpoint()}/{repository}"
    missing = ", ".join(sorted(lacking, key=len)[0])
    if any(name.endswith((".safetensors", ".bin", ".pt")) for name in files):
        some = any(name.endswith(".onnx") for name in files)
        but = f"and not all that would open here ({missing} missing)" if some else "only"
        out = repository.rpartition("/")[2].lower()
        raise NoGraphsError(
            f"{where} holds PyTorch weights {but}",
            f"turn them into a model directory: wordsight export {repository} --out models/{out}",
        )
    raise HubError(
        f"{where} has not the files of a model in a layout that wordsight reads: {missing} missing"
    )


def _insist(repository: str, sha256: Mapping[str, str], files: dict[str, RepoFile]) -> None:
    """Let files be checked against hashes that are known beforehand."""
    for name in sorted(sha256.keys() & files.keys()):
        if files[name].sha256 not in (None, sha256[name]):
            raise HubError(
                f"{endpoint()}/{repository}/{name}: the hub offers another file than the one that "
                "is known under this name (its SHA-256 differs); nothing was fetched. Try another "
                f"HF_ENDPOINT, or take it as it is with --model {repository}"
            )
        files[name] = replace(files[name], sha256=sha256[name])


def _part(repository: str, file: RepoFile) -> Path | None:
    """Return where the bytes of a file that is on its way are kept; None without a cache."""
    folder = writable_cache("parts")
    if folder is None:
        return None
    part = folder / (file.sha256 or file.git_hash or "unknown")
    with contextlib.suppress(OSError):
        if part.stat().st_size >= file.size:  # a server refuses to send nothing
            part.unlink()
    return part


def _folder_of(path: str, name: str) -> Path:
    """Return the folder in which a repository's file of this name lies at ``path``."""
    return Path(path).parents[name.count("/")]


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


def _check_room(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size:
        raise HubError(
            f"{root}: {size / 1e6:,.0f} MB are to be fetched and {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to another disk"
        )
