"""Repositories on the hub: their names, where they are, and the files they announce."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wordsight.errors import HubError
from wordsight.paths import file_digest
from wordsight.privacy import hub_address

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.][\w./-]*))?")


class NoGraphsError(HubError):
    """A repository has weights of PyTorch, and no graphs that would open here."""

    def __init__(self, reason: str, way: str) -> None:
        super().__init__(f"{reason}; {way}")
        self.reason = reason


def is_repository(name: str) -> bool:
    """Tell whether a name has the form of a hub repository: "owner/name", "owner/name@revision"."""
    return _NAME.fullmatch(name) is not None


def split(name: str) -> tuple[str, str]:
    """Split "owner/name@revision" into repository and revision ("main" where none is named)."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise HubError(f"{name}: not a hub repository id (owner/name or owner/name@revision)")
    return found[1], found[2] or "main"


@dataclass(frozen=True, slots=True)
class RepoFile:
    """One file of a repository, as the hub announces it."""

    name: str
    size: int
    sha256: str | None
    """Of large files; None for others."""
    git_hash: str | None
    """git's SHA-1 of the others."""

    @classmethod
    def of(cls, entry: Any) -> RepoFile:
        """Take what the hub library knows of a file; ValueError where that is not enough."""
        if entry.size is None or not (entry.lfs or entry.blob_id):
            raise ValueError(f"no size or hash of {entry.rfilename}")
        if entry.lfs:
            return cls(entry.rfilename, entry.lfs.size, entry.lfs.sha256, None)
        return cls(entry.rfilename, entry.size, None, entry.blob_id)

    def check(self, path: Path) -> bool:
        """Tell whether a file is this one, by size and hash."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256:
            return file_digest(path, hashlib.sha256()) == self.sha256
        head = hashlib.sha1(b"blob %d\0" % self.size)
        return self.git_hash is None or file_digest(path, head) == self.git_hash


def choose(
    repository: str, choices: Sequence[Sequence[str]], files: Mapping[str, RepoFile]
) -> Sequence[str]:
    """Choose the first set of files that a repository has; HubError if there is none."""
    lacking = [[name for name in names if name not in files] for names in choices]
    for names, lost in zip(choices, lacking, strict=True):
        if not lost:
            return names
    where = f"{hub_address()}/{repository}"
    missing = ", ".join(sorted(lacking, key=len)[0])
    if any(name.endswith((".safetensors", ".bin", ".pt")) for name in files):
        some = any(name.endswith(".onnx") for name in files)
        but = f"and only some of the graphs that it needs ({missing} missing)" if some else "only"
        out = repository.rpartition("/")[2].lower()
        raise NoGraphsError(
            f"{where} holds PyTorch weights {but}",
            f"convert them to a model directory: wordsight export {repository} --out models/{out}",
        )
    raise HubError(
        f"{where} does not have the files of a model that wordsight can read: {missing} missing"
    )


def insist(
    repository: str, sha256: Mapping[str, str], files: Mapping[str, RepoFile]
) -> dict[str, RepoFile]:
    """Return the files with the hashes that are known beforehand; HubError for other ones."""
    known = dict(files)
    for name in sorted(sha256.keys() & files.keys()):
        if files[name].sha256 not in (None, sha256[name]):
            raise HubError(
                f"{hub_address()}/{repository}/{name}: the hub's file differs from the one known "
                "under this name (its SHA-256 differs); nothing was downloaded. Try another "
                f"HF_ENDPOINT, or use the hub's file with --model {repository}"
            )
        known[name] = replace(files[name], sha256=sha256[name])
    return known
