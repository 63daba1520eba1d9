"""What ``huggingface_hub``'s transfer over HTTP lacks on a poor line, as hooks on its own client.

Its version 2.4 reads 10 MB at a time and throws away what a cut leaves of them, gives up on a reset
connection, deletes what an interrupted run has fetched, and sleeps as long as ``Retry-After`` says.
Here the bytes are also kept in a file of wordsight's cache as they come, and the next request asks
for those behind them. The library still decides what is fetched, from where and to where.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from wordsight.errors import HubError
from wordsight.runtime.cache import writable_cache

T = TypeVar("T")

ATTEMPTS = 5
"""How many answers in a row may bring nothing."""

STILL_SECONDS = 60.0
"""How long a transfer may stand still, over all attempts."""

_BLOCK = 1 << 20


@dataclass
class Transfer:
    """One file on its way.

    Args:
        name: what errors call it.
        part: keeps the bytes between attempts and runs; None where no cache can be written.
        advance: called with the number of new bytes.
        deadline: of :func:`time.monotonic`; None for any time.
        patience: bounds the waits that the hub asks for.
    """

    name: str
    part: Path | None
    advance: Callable[[int], None]
    deadline: float | None = None
    patience: Patience | None = None
    over_http: bool = False
    """Whether bytes were counted here; those of the Xet client come through its progress bar."""
    idle: int = 0
    alive: float = field(default_factory=time.monotonic)
    """When bytes came last, or will as the hub says."""

    def have(self) -> int:
        """Return how many bytes are kept."""
        try:
            return self.part.stat().st_size if self.part else 0
        except OSError:
            return 0

    def forget(self) -> None:
        """Keep no bytes any more."""
        if self.part:
            with contextlib.suppress(OSError):
                self.part.unlink(missing_ok=True)
        self.part = None

    def stopped(self, why: object) -> HubError:
        """Return an error that says where the transfer stopped."""
        return HubError(
            f"{self.name}: the transfer stopped at {self.have():,} bytes ({why}); run it again to "
            "continue"
        )

    def count(self, size: int) -> None:
        """Note new bytes; raises HubError after the deadline."""
        self.advance(size)
        self.idle, self.alive = 0, time.monotonic()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise HubError(f"{self.name}: it took too long; run it again to continue")

    def on_request(self, request: Any) -> None:
        """Ask for the bytes behind those that are kept; raises HubError after a long standstill."""
        if time.monotonic() - self.alive > STILL_SECONDS:
            raise self.stopped(f"no data came for {STILL_SECONDS:.0f} s")
        if request.method == "GET" and (have := self.have()):
            asked = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
            request.extensions["wordsight_start"] = int(asked[1]) if asked else 0
            request.headers["Range"] = f"bytes={have}-"

    def on_response(self, response: Any) -> None:
        """Keep the bytes of an answer, and bound what it asks to wait."""
        if response.status_code == 429 and self.patience:
            # The library waits, after this.
            self.alive = time.monotonic() + self.patience.wait(response.headers)
        self._bound_idle(response)
        if response.request.method != "GET" or response.headers.get("Content-Encoding"):
            return
        if response.status_code == 416 and self.part:
            self.part.unlink(missing_ok=True)  # longer than the file: not of this one
        if response.status_code in (200, 206):
            self.over_http = True
            response.stream = _kept(self, response)

    def _bound_idle(self, response: Any) -> None:
        if response.request.method == "GET" and not response.is_redirect:
            self.idle += 1
            if self.idle > ATTEMPTS:
                raise self.stopped(f"{ATTEMPTS} answers in a row had no data")


@contextlib.contextmanager
def hooked(transfer: Transfer) -> Iterator[None]:
    """Let a transfer watch the requests of ``huggingface_hub``'s client."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    client = get_session()
    before = {kind: list(hooks) for kind, hooks in client.event_hooks.items()}
    client.event_hooks = {
        "request": [*before.get("request", []), transfer.on_request],
        "response": [*before.get("response", []), transfer.on_response],
    }
    try:
        yield
    finally:
        client.event_hooks = before


@dataclass
class Patience:
    """How long the hub may make us wait with status 429, altogether.

    Args:
        name: what is asked for.
        left: seconds.
    """

    name: str
    left: float
    pause: float = 1.0
    """The next wait where the hub does not say how long; each is twice the last."""

    def wait(self, headers: Any) -> float:
        """Say how long an answer asks to wait, and return it (s).

        Raises HubError if that is more than is left.
        """
        asked = _asked_wait(headers)
        seconds = self.pause if asked is None else asked
        self.pause *= 2
        what = f"{self.name}: the hub has had too many requests from here (status 429)"
        if seconds > self.left:
            asks = "does not take more; try again later"
            if asked is not None:
                asks = f"asks to wait {seconds:g} s; try again then"
            raise HubError(f"{what} and {asks}, or set HF_TOKEN (more requests are allowed)")
        self.left -= seconds
        print(f"{what}; trying again in {seconds:g} s", file=sys.stderr, flush=True)
        return seconds


def _asked_wait(headers: Any) -> float | None:
    """Return the seconds that an answer asks to wait; None if it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    limits = parse_ratelimit_headers(headers)  # what the hub itself sends
    if limits and not limits.remaining:
        return float(limits.reset_in_seconds)
    told = str(headers.get("Retry-After", "")).strip()
    if told.isdigit():
        return float(told)
    try:  # a date
        return max(0.0, round(parsedate_to_datetime(told).timestamp() - time.time()))
    except ValueError:
        return None


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


def kept_part(digest: str | None, size: int) -> Path | None:
    """Return where the bytes of a file that is on its way are kept; None without a cache."""
    folder = writable_cache("parts")
    if folder is None:
        return None
    part = folder / (digest or "unknown")
    with contextlib.suppress(OSError):
        if part.stat().st_size >= size:  # a server refuses to send nothing
            part.unlink()
    return part


def _kept(transfer: Transfer, response: Any) -> Any:
    """Wrap the body of an answer: kept bytes first, then new ones, which are kept too."""
    import httpx2

    body, part = response.stream, transfer.part
    start, have = response.request.extensions.get("wordsight_start", 0), transfer.have()
    if response.status_code == 200 and have:  # the server knows no ranges: from the start
        transfer.advance(-have)
        have = 0
    new = response.status_code == 200

    def keep(block: bytes, mode: str) -> str:
        """Keep a block; on a full disk nothing more is kept, and a cut costs the whole file."""
        if transfer.part:
            try:
                with transfer.part.open(mode) as out:
                    out.write(block)
            except OSError:
                transfer.forget()
        return "ab"

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            if part and not new and start < have:
                with part.open("rb") as kept:
                    kept.seek(start)
                    while block := kept.read(min(_BLOCK, have - kept.tell())):
                        yield block
            mode = "wb" if new else "ab"
            try:
                for block in body:
                    mode = keep(block, mode)
                    transfer.count(len(block))
                    yield block
            except httpx2.ReadError as error:  # a reset: the library goes on after others only
                raise httpx2.RemoteProtocolError(str(error)) from error

        def close(self) -> None:
            body.close()

    return Body()
