"""Hashes of files, and of a model's files together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from wordsight.paths import drafted, file_digest
from wordsight.runtime.cache import writable_cache


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
