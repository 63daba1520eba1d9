"""What is told of a transfer: what comes and how far it is; what went wrong, in one line."""

from __future__ import annotations

import contextlib
import datetime
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from wordsight.errors import HubError
from wordsight.models.transfer import Transfer
from wordsight.privacy import hub_address
from wordsight.progress import transfer as shown

WAYS_OUT = (
    "use a model in the cache (`wordsight models` lists them), a directory that holds one "
    "(--model DIR, --crops DIR), or a starter of the package (--model starter, "
    "--crops starter-maskrcnn)"
)


class NoAnswerError(HubError):
    """The hub did not answer, or only that it cannot."""


@contextlib.contextmanager
def explained(repository: str, revision: str, root: Path | None = None) -> Iterator[None]:
    """Turn what goes wrong within into a HubError.

    ``root``: the cache that the files come into; None for a question about the repository.
    """
    try:
        with _quiet():
            yield
    except HubError:
        raise
    except Exception as error:  # of the HTTP library, of the hub library, of the disk
        if root and isinstance(error, OSError) and error.errno is not None:
            raise _cannot_keep(repository, root, error) from error
        raise _explain(error, repository, revision, announced=root is not None) from error


def _explain(
    error: BaseException, repository: str, revision: str, announced: bool = False
) -> HubError:
    """Say in one line what an error of the transfer means, and what to do.

    ``announced``: the hub has named the file before.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, HubError):
        return error
    hub, what = hub_address(), f"cannot fetch {repository}"
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{what}: it is gated; accept its terms at {hub}/{repository}, then set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{what}: {hub}/{repository} has no revision {revision}")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if announced and status == 404 and error.response is not None:  # type: ignore[attr-defined]
        url = error.response.request.url  # type: ignore[attr-defined]
        return HubError(f"{url}: the hub announced this file but answers 404")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        return HubError(
            f"{hub} has no model {repository} that can be read here (status {status}); check the "
            "name, or set HF_TOKEN if it is private"
        )
    if isinstance(error, HfHubHTTPError):
        return NoAnswerError(
            f"{what}: {hub} answered with status {status}; try again later, or {WAYS_OUT}"
        )
    return _explain_silence(error, hub, what)


def _explain_silence(error: BaseException, hub: str, what: str) -> HubError:
    """Say in one line why no hub answered: a proxy, a certificate, a log-in page, no network."""
    import httpx2

    if isinstance(error, httpx2.ProxyError):
        return NoAnswerError(
            f"{what}: the proxy refused ({one_line(error)}); check HTTPS_PROXY, or {WAYS_OUT}"
        )
    text = one_line(error)
    if "not yet valid" in text or "has expired" in text:
        now = datetime.datetime.now().astimezone()
        return NoAnswerError(
            f"{what}: the certificate of {hub} is not valid at this machine's time "
            f"({now:%Y-%m-%d %H:%M}); set the clock"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NoAnswerError(
            f"{what}: the certificate of {hub} cannot be verified; behind a company's proxy set "
            "SSL_CERT_FILE to its certificate"
        )
    if isinstance(error, (ValueError, KeyError, TypeError, AttributeError)):
        return HubError(
            f"{what}: {hub} does not answer like a hub; is there a log-in page on this network? "
            "Open any page in a browser first, and check HF_ENDPOINT"
        )
    reason = str(error) if isinstance(error, TimeoutError) else text
    return NoAnswerError(f"{what}: no answer from {hub} ({reason}); {WAYS_OUT}")


def _cannot_keep(repository: str, root: Path, error: OSError) -> HubError:
    """Say that a file could not be written."""
    return HubError(
        f"cannot keep {repository} in {root} ({error.strerror or error}); make room, or set "
        "HF_HOME or WORDSIGHT_CACHE to a writable folder"
    )


def one_line(error: BaseException) -> str:
    """Return the kind and text of an error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own warnings of retries from stderr."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def progress(
    title: str, hub: str, total: int, parts: Iterable[Path | None]
) -> Iterator[Callable[[int], None]]:
    """Tell on stderr what comes, how large it is and how far it is; give what takes new bytes.

    ``parts``: what may be here already, of an earlier run.
    """
    had = sum(part.stat().st_size for part in parts if part and part.exists())
    if not total:
        yield lambda size: None
        return
    here = f"; {had / 1e6:,.1f} MB are already here" if had else ""
    print(f"fetching {title}: {total / 1e6:,.1f} MB from {hub}{here}", file=sys.stderr, flush=True)
    done = had
    with shown(title, had) as report:

        def advance(size: int) -> None:
            nonlocal done
            done += size
            report(done, total)

        yield advance


def meter(transfer: Transfer) -> Any:
    """Make a class like tqdm's, through which the Xet client counts a transfer's bytes."""

    class Meter:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.total, self.n = options.get("total"), 0

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *args: Any) -> None:
            pass

        def update(self, size: float | None = 1) -> None:
            if not transfer.over_http:
                transfer.count(int(size or 0))

        def close(self) -> None:
            pass

        refresh = reset = set_description = set_postfix_str = lambda self, *a, **k: None

    return Meter
