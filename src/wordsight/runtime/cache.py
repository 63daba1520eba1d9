"""wordsight's folder in the user's cache, and the graphs that are kept there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from wordsight.paths import expanded

# Graphs above this many bytes are worth a copy in the cache that opens without being read.
LARGE = 32 << 20


def cache_folder() -> Path:
    """Return wordsight's folder in the user's cache; it need not exist nor be writable.

    The environment variable ``WORDSIGHT_CACHE`` overrides it.
    """
    root = os.environ.get("WORDSIGHT_CACHE")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("wordsight", appauthor=False)
    return expanded(root)


def writable_cache(name: str) -> Path | None:
    """Return the folder ``name`` in the cache, made if need be; None if it cannot be written."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def fingerprint(path: Path) -> str:
    """Tell apart the graphs that one path may hold over time.

    OpenVINO knows its compiled models by the path alone, and would go on with the old one. Size
    and time are not enough either: installers may give all versions of a package one time.
    """
    digest = hashlib.sha256(str(path.resolve()).encode())
    beside = filter(Path.is_file, path.parent.iterdir())  # weights may be in files of their own
    for file in sorted(beside):
        state = file.stat()
        digest.update(f"\0{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    edge = 1 << 16
    with path.open("rb") as stream:
        digest.update(stream.read(edge))
        stream.seek(max(edge, path.stat().st_size - edge))
        digest.update(stream.read(edge))
    return digest.hexdigest()[:16]


def remembered(path: Path, runtime: str, axis: str, try_it: Callable[[], bool]) -> bool:
    """Whether an axis of a graph may be left open: tried once, then kept in the cache.

    Anything that ``try_it`` raises is a no; a bad graph fails again, in words.
    """
    folder = writable_cache(axis)
    memory = folder / f"{fingerprint(path)}-{runtime}-{version(runtime)}" if folder else None
    if memory:
        with contextlib.suppress(OSError):
            if (known := memory.read_text(encoding="ascii")) in ("free", "fixed"):
                return known == "free"
    try:
        free = try_it()
    except Exception:  # each runtime raises kinds of its own
        free = False
    if memory:
        with contextlib.suppress(OSError):
            memory.write_text("free" if free else "fixed", encoding="ascii")
    return free


def kept_copy(key: str, write: Callable[[Path], None]) -> Path:
    """A graph made of another, in the cache: ``write`` makes its files in a folder.

    Raises OSError when the cache cannot be written.
    """
    folder = cache_folder() / "onnxruntime" / key
    copy = folder / "model.onnx"
    if copy.is_file():
        return copy
    making = folder.with_name(f"{key}.{os.getpid()}-{threading.get_ident()}.new")
    making.mkdir(parents=True)
    try:
        write(making)
        with contextlib.suppress(OSError):  # another process was quicker: the same copy
            making.rename(folder)
        return copy
    finally:
        shutil.rmtree(making, ignore_errors=True)
