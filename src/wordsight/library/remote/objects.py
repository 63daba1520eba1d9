"""Objects below a URL: read, and put under conditions. The only module that knows ``obstore``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wordsight.errors import LibraryError
from wordsight.paths import drafted

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PART = 8 << 20  # bytes that are in memory at once while an object is fetched
_TIMEOUTS = {"connect_timeout": "10s", "timeout": "120s"}
_RETRIES = {"max_retries": 4}
_STATUS = re.compile(r"status code: (\d{3} [\w ]+)")

_options: dict[str, str] = {}
_memory: dict[str, ObjectStore] = {}  # of memory:// addresses: they last as long as the process


def configure(options: Mapping[str, str]) -> None:
    """Settings of object storage for this process, by the names of its variables or obstore's.

    They go before those in the environment (``AWS_ENDPOINT_URL`` and so on).
    """
    _options.update(options)


class Object(NamedTuple):
    """What an object holds, and the tag of this state of it."""

    data: bytes
    tag: str


class Objects:
    """The objects below a URL. Methods raise LibraryError when the storage refuses or is away."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = _open(self.url)

    def get(self, name: str) -> Object | None:
        """An object; None where there is none, LibraryError where there is no bucket."""
        with self._said("read"):
            try:
                found = self._store.get(name)
                return Object(bytes(found.bytes()), str(found.meta["e_tag"]))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def tag(self, name: str) -> str | None:
        """The tag of an object; None where there is none."""
        with self._said("read"):
            try:
                return str(self._store.head(name)["e_tag"])
            except FileNotFoundError:
                return None

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a file, whole or not at all.

        Raises FileNotFoundError where there is none, OSError as the disk does.
        """
        with self._said("read", missing=False), drafted(path) as draft, draft.open("wb") as file:
            for part in self._store.get(name).stream(min_chunk_size=_PART):
                file.write(part)

    def put(self, name: str, content: bytes | Path) -> None:
        """Put an object, or overwrite it."""
        with self._said("write"):
            self._store.put(name, content)

    def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        """Put an object if it has this tag, or (None) if there is none; its new tag, or None."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._said("write"):
            try:
                done = self._store.put(name, data, mode={"e_tag": tag} if tag else "create")
            except (AlreadyExistsError, PreconditionError):
                return None
            return str(done["e_tag"])

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are none."""
        if names:
            with self._said("write"), contextlib.suppress(FileNotFoundError):
                self._store.delete(list(names))

    def ages(self, folder: str) -> dict[str, float]:
        """The objects in a folder, by name, and for how many seconds each has been there."""
        now = datetime.now(timezone.utc)
        with self._said("read"):
            found = [one for batch in self._store.list(folder) for one in batch]
            return {one["path"]: (now - one["last_modified"]).total_seconds() for one in found}

    @contextlib.contextmanager
    def _said(self, verb: str, *, missing: bool = True) -> Iterator[None]:
        """Turn what the storage says into a line of ours; requests and secrets are left out."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            if not missing:
                raise
            raise LibraryError(
                f"there is no bucket of {self.url}; create it, or check the address."
            ) from None
        except (BaseError, PermissionError) as error:
            raise LibraryError(f"cannot {verb} {self.url}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What went wrong, and what to do. The message itself would show requests and settings."""
    text = str(error)
    found = _STATUS.search(text)
    status = f" ({found[1].strip()})" if found else ""
    denied = (
        isinstance(error, PermissionError)
        or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
        or any(code in status for code in ("400", "401", "403"))
    )
    if denied or "InstanceCredential" in text or "redential" in text:
        return (
            f"access was refused{status}; check the credentials in the environment "
            "(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION)."
        )
    if status:
        return f"the storage answered with an error{status}; try again later."
    if "onnect" in text or "dns" in text.lower() or "sending request" in text:
        return "the storage cannot be reached; check the network and the endpoint."
    return f"{type(error).__name__}; try again later."


def _open(url: str) -> ObjectStore:
    try:
        from obstore.store import MemoryStore, PrefixStore, from_url
    except ImportError:
        raise LibraryError(
            f"{url}: object storage needs another package: pip install 'wordsight[cloud]'"
        ) from None
    if url.startswith("memory://"):
        store = _memory.setdefault("", MemoryStore())
        return PrefixStore(store, url.removeprefix("memory://").strip("/") or "library")
    options: dict[str, Any] = dict(_options)
    endpoint = next((v for k, v in options.items() if "endpoint" in k.lower()), None)
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT", "")
    client: dict[str, Any] = {**_TIMEOUTS}
    if endpoint.startswith("http://"):  # said so by the user
        client["allow_http"] = True
    try:
        opened: ObjectStore = from_url(
            url, config=options or None, client_options=client, retry_config=_RETRIES
        )
        return opened
    except Exception as error:  # obstore raises what its configuration's types say
        text = f"{type(error).__name__}"
        unknown = [name for name in options if name in str(error)]
        why = f"unknown option {unknown[0]}" if unknown else text
        raise LibraryError(f"cannot use {url}: {why}; check the address and the options.") from None
