"""Fetching one file: bounded in time and size, resumable, checked, put in place in one step."""

from __future__ import annotations

import hashlib
import queue
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.sources.base import Progress

_CHUNK = 1 << 18
_ATTEMPTS = 4


def fetch(
    url: str,
    target: Path,
    *,
    md5: str,
    max_bytes: int,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> None:
    """Download ``url`` to ``target``, which then holds exactly the bytes with this ``md5``.

    ``timeout`` (seconds) bounds name look-up and connection together, and each wait for data. A
    cut download is taken up where it broke off, at once and in later calls (from
    ``<target>.part``). Raises SourceError ("<url>: <reason>"); ``target`` is then not touched.
    """
    from filelock import FileLock, Timeout

    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock"), timeout=timeout):
            _fetch(url, part, md5=md5, max_bytes=max_bytes, timeout=timeout, progress=progress)
            part.replace(target)
    except Timeout as error:
        raise SourceError(f"{url}: another process is downloading it to {target.parent}") from error
    except OSError as error:
        raise SourceError(f"{url}: {_reason(error)}") from error


def file_md5(file: Path) -> str:
    """MD5 of a file as hexadecimal digits. Raises OSError."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(
    url: str, part: Path, *, md5: str, max_bytes: int, timeout: float, progress: Progress | None
) -> None:
    """Fill ``part``, in several attempts as long as each of them brings something."""
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, max_bytes=max_bytes, timeout=timeout, progress=progress)
        except (OSError, HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                if before and file_md5(part) == md5:
                    return  # it was all there
                part.unlink(missing_ok=True)  # what is there is no beginning of this file
                continue
            after = part.stat().st_size if part.exists() else 0
            if after <= before or attempt == _ATTEMPTS - 1:
                raise SourceError(f"{url}: {_reason(error)}") from error
            continue
        if file_md5(part) == md5:
            return
        part.unlink()
        if before == 0:
            break  # the beginning was not left from another file: the server's bytes are wrong
    raise SourceError(f"{url}: the downloaded file has another checksum than expected")


def _continue(
    url: str, part: Path, *, max_bytes: int, timeout: float, progress: Progress | None
) -> None:
    start = part.stat().st_size if part.exists() else 0
    with _open(url, start, timeout) as response:
        if response.status != 206:
            start = 0  # the server sends the whole file again
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if (total or 0) > max_bytes:
            raise SourceError(f"{url}: larger than expected ({total:,} bytes)")
        done = start
        with part.open("ab" if start else "wb") as file:
            # read1: an early end must not lose what has come.
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > max_bytes:
                    break
                if progress:
                    progress(done, total)
    if done > max_bytes:
        part.unlink()
        raise SourceError(f"{url}: larger than expected (more than {max_bytes:,} bytes)")
    if total is not None and done < total:
        raise ConnectionError(f"the connection was cut after {done:,} of {total:,} bytes")


def _open(url: str, start: int, timeout: float) -> HTTPResponse:
    """Send the request; a thread, because no time-out reaches the look-up of a name."""
    headers = {"User-Agent": "wordsight", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(url, headers=headers)
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=timeout))
        except Exception as error:  # handed to the caller
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="download").start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
