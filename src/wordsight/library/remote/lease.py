"""Being the one writer of a library at a URL: a lease that expires, as no lock file can there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

from wordsight.errors import LibraryError, StorageError
from wordsight.storage import Objects

LEASE = "lease.json"
SECONDS = 60.0
"""A writer that is gone is waited for so long. Clocks that differ by more let two writers begin;
the second of them to finish is refused then (see :mod:`wordsight.library.remote`)."""


@contextlib.contextmanager
def leased(objects: Objects, seconds: float = SECONDS) -> Iterator[None]:
    """Hold the lease, and renew it. Raises LibraryError when another process holds it."""
    found = objects.get(LEASE)
    if found is not None:
        _expect_over(objects, found.data)
    tag = objects.put_if(LEASE, _lease(seconds), found.tag if found else None)
    if tag is None:
        raise _busy(objects, "another process")
    done = threading.Event()
    held = [tag]

    def renew() -> None:
        while not done.wait(seconds / 3):
            with contextlib.suppress(StorageError):  # the next time, or the last put is refused
                now = objects.put_if(LEASE, _lease(seconds), held[0])
                if now is None:
                    return
                held[0] = now

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        with contextlib.suppress(StorageError):  # then it expires
            objects.put_if(LEASE, _lease(0), held[0])


def _lease(seconds: float) -> bytes:
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"holder": holder, "until": time.time() + seconds}).encode()


def _expect_over(objects: Objects, data: bytes) -> None:
    try:
        lease = json.loads(data)
        until, holder = float(lease["until"]), str(lease["holder"])
    except (ValueError, KeyError, TypeError):
        return  # nobody's
    if time.time() < until:
        raise _busy(objects, holder)


def _busy(objects: Objects, holder: str) -> LibraryError:
    return LibraryError(
        f"{holder} is writing to the library {objects.url}; wait until it has finished (the "
        f"lease of a killed one ends after {SECONDS:.0f} s). You can search in the meantime."
    )
