"""Fetching one file: resumable, checked, put in place in one step, and never given up while alive.

A transfer is taken up where it broke off for as long as its attempts bring something; only those
in a row that bring nothing are counted. A server that asks for patience (429, 503) is asked again
when it says so.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from wordsight.errors import ImageError, SourceError
from wordsight.paths import file_digest
from wordsight.sources.base import Progress

TIMEOUT_SECONDS = 20.0
"""How long a server may take to answer, and a transfer may stand still."""

LONGEST_PAUSE_SECONDS = 60.0
"""A server that asks for a longer pause than this is taken as one that does not answer now."""

MAX_FETCHED_BYTES = 1 << 28
"""An image at an address with more bytes than this is not fetched (256 MiB)."""

_CHUNK = 1 << 16  # bytes
_FRUITLESS = 4  # attempts in a row
_BUSY = (429, 503)  # "too many requests", "service unavailable": both may name a pause

_pause = time.sleep


def fetch(
    url: str,
    target: Path,
    *,
    digest: str,
    max_bytes: int,
    timeout: float = TIMEOUT_SECONDS,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Download ``url`` to ``target``, which then holds exactly the bytes with this ``digest``.

    ``digest`` is MD5 (32 hexadecimal digits) or SHA-256 (64). ``timeout`` (seconds) bounds name
    look-up and connection together, and each wait for data. A cut download is taken up where it
    broke off, at once and in later calls (from ``<target>.part``). ``say`` is told what is waited
    for. Raises SourceError ("<url>: <reason>"); ``target`` is then not touched.
    """
    from filelock import FileLock, Timeout

    part = target.with_name(target.name + ".part")
    transfer = _Transfer(url, part, digest, max_bytes, timeout, progress, say)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock"), timeout=0):
            transfer.run()
            part.replace(target)
    except Timeout as error:
        raise SourceError(f"{url}: another process is downloading it to {target.parent}") from error
    except OSError as error:
        raise SourceError(f"{url}: {_reason(error)}") from error


def fetch_image(url: str) -> bytes:
    """The bytes at the address of an image. Raises ImageError ("<reason>")."""
    if not url.lower().startswith(("http://", "https://")):  # a table may come from anyone
        raise ImageError(f"{url}: not an http or https address")
    try:
        with _open(url, 0, TIMEOUT_SECONDS) as response:
            data = response.read(MAX_FETCHED_BYTES + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise ImageError(f"{url}: {_reason(error)}") from error
    if len(data) > MAX_FETCHED_BYTES:
        raise ImageError(f"{url}: larger than {MAX_FETCHED_BYTES >> 20} MiB")
    return data


def digest_like(file: Path, like: str) -> str:
    """MD5 or SHA-256 of a file, as long as ``like``, in hexadecimal digits. Raises OSError."""
    is_sha = len(like) == 64
    return file_digest(file, hashlib.sha256() if is_sha else hashlib.md5(usedforsecurity=False))


@dataclass(slots=True)
class _Transfer:
    """Filling ``part`` with the bytes of ``url``."""

    url: str
    part: Path
    digest: str
    max_bytes: int
    timeout: float
    progress: Progress | None
    say: Callable[[str], None]
    answered: bool = False
    """Whether the server has answered at all: one that never did is not asked a second time."""

    def run(self) -> None:
        fruitless = 0
        while True:
            before = self._size()
            try:
                self._continue()
            except (OSError, HTTPException) as error:
                if getattr(error, "code", None) == 416:
                    if before and self._is_right():
                        return  # it was all there
                    self.part.unlink(missing_ok=True)  # no beginning of this file
                    continue
                fruitless = 0 if self._size() > before else fruitless + 1
                self._pause_or_raise(error, fruitless)
                continue
            if self._is_right():
                return
            self.part.unlink()
            if before == 0:  # the server's own bytes are wrong, not those of another file before
                raise SourceError(f"{self.url}: the checksum of the downloaded file is wrong")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _is_right(self) -> bool:
        return digest_like(self.part, self.digest) == self.digest

    def _pause_or_raise(self, error: Exception, fruitless: int) -> None:
        """Wait before the next attempt; raise SourceError where there is to be none."""
        if not fruitless:
            return
        busy = isinstance(error, urllib.error.HTTPError) and error.code in _BUSY
        refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and not busy
        pause = _asked_pause(error) if busy else None
        final = refused or not self.answered or fruitless >= _FRUITLESS
        if final or (pause or 0) > LONGEST_PAUSE_SECONDS:
            raise SourceError(f"{self.url}: {_reason(error)}") from error
        seconds = float(2 ** (fruitless - 1)) if pause is None else pause
        host = urlsplit(self.url).hostname
        self.say(f"{host}: {_reason(error)}; trying again in {seconds:.0f} s")
        _pause(seconds)

    def _continue(self) -> None:
        start = self._size()
        try:
            response = _open(self.url, start, self.timeout)
        except urllib.error.HTTPError:
            self.answered = True
            raise
        self.answered = True
        with response:
            if response.status != 206:
                start = 0  # the server sends the whole file again
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            if (total or 0) > self.max_bytes:
                raise SourceError(f"{self.url}: larger than expected ({total:,} bytes)")
            done = start
            with self.part.open("ab" if start else "wb") as file:
                # read1: an early end must not lose what has come.
                while done <= self.max_bytes and (chunk := response.read1(_CHUNK)):
                    file.write(chunk)
                    done += len(chunk)
                    if self.progress:
                        self.progress(done, total)
        if done > self.max_bytes:
            self.part.unlink()
            raise SourceError(f"{self.url}: larger than expected (over {self.max_bytes:,} bytes)")
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


def _asked_pause(error: Exception) -> float | None:
    """The seconds that ``Retry-After`` names (a number or a date); None without it."""
    value = error.headers.get("Retry-After") if isinstance(error, urllib.error.HTTPError) else None
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        pause = _asked_pause(error) if error.code in _BUSY else None
        asked = f" and asks for a pause of {pause:.0f} s" if pause else ""
        return f"the server answered {error.code} {error.reason}{asked}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
