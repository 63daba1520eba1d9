"""The hub: which models are in the cache, and fetching the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def content_hash(folder: Path, files: Sequence[str]) -> str:
    """Hash the names and bytes of a model's files: 16 hex digits of SHA-256."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.encode() + b"\0")
        with (folder / file).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
