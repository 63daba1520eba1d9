"""Objects in storage at a URL: read, and put under conditions. All that knows ``obstore``."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from wordsight.errors import StorageError
from wordsight.paths import drafted, expanded

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PART = 16 << 20  # bytes that are fetched by one request, and held in memory
_TIMEOUTS = {"connect_timeout": "10s", "timeout": "120s"}
_RETRIES = {"max_retries": 4}
_STATUS = re.compile(r"status code: (\d{3} [\w ]+)")

_URL = re.compile(r"(s3a?|gs|az|azure|abfss?|adl|memory|hf|https?)://", re.IGNORECASE)

_UNKNOWN = re.compile(r"file:|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)

_options: dict[str, dict[str, str]] = {}  # by URL, "" for all
_memory: dict[str, ObjectStore] = {}  # of memory:// addresses: they last as long as the process


def is_url(place: str | Path) -> bool:
    """Whether a place is an address in storage; ``file://`` is a path (paths.py)."""
    return isinstance(place, str) and _URL.match(place) is not None


def local(place: str | Path) -> Path:
    """The path of a place that is no URL, with ``~`` and ``file://`` as people write them.

    Raises StorageError for what looks like a URL that :func:`is_url` does not know: a directory of
    that name would be made otherwise. (Windows' drives have one letter.)
    """
    path = expanded(place)
    if isinstance(place, str) and _UNKNOWN.match(place) and path == Path(place):
        raise StorageError(
            f"{place}: no address that wordsight knows. Storage is s3://, gs:// or az://, then "
            "BUCKET/PATH; for a directory of this name, write ./ before it."
        )
    return path


def configure(options: Mapping[str, str], url: str = "") -> None:
    """Settings of the storage behind a URL, or of all storage, for the rest of this process.

    Their names are those of environment variables in small letters (``aws_endpoint_url``), which
    they go before; see the documentation of obstore.
    """
    _options.setdefault(url.rstrip("/"), {}).update(options)


def settings() -> dict[str, dict[str, str]]:
    """What :func:`configure` was told, by URL ("" for all), for other processes."""
    return {url: dict(options) for url, options in _options.items()}


class Object(NamedTuple):
    """What an object holds, and the tag of this state of it."""

    data: bytes
    tag: str


class Objects:
    """The objects below a URL. Methods raise StorageError when the storage refuses or is away."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = _open(self.url)

    def get(self, name: str) -> Object | None:
        """An object; None where there is none, StorageError where there is no bucket."""
        with self._said("read"):
            try:
                found = self._store.get(name)
                return Object(bytes(found.bytes()), _tag(found.meta))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def tag(self, name: str) -> str | None:
        """The tag of an object; None where there is none."""
        with self._said("read"):
            try:
                return _tag(self._store.head(name))
            except FileNotFoundError:
                return None

    def state(self, name: str) -> tuple[int, int]:
        """Size of an object in bytes, and when it was put, in nanoseconds.

        Raises FileNotFoundError where there is none.
        """
        with self._said("read", missing=False):
            found = self._store.head(name)
            return int(found["size"]), int(found["last_modified"].timestamp() * 1e9)

    def part(self, name: str, offset: int, size: int) -> bytes:
        """So many bytes of an object, fewer where it ends. Raises FileNotFoundError."""
        with self._said("read", missing=False):
            return bytes(self._store.get_range(name, start=offset, length=size)) if size else b""

    def fetch(self, name: str, size: int, path: Path) -> None:
        """Write an object of this size to a file, whole or not at all, in requests of a part each.

        Raises FileNotFoundError where there is none, OSError as the disk does.
        """
        with drafted(path) as draft, draft.open("wb") as file:
            for begin in range(0, size, _PART):
                file.write(self.part(name, begin, min(_PART, size - begin)))

    def put(self, name: str, content: bytes | Path) -> None:
        """Put an object, or overwrite it."""
        with self._said("write"):
            self._store.put(name, content)

    def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        """Put an object if it has this tag, or (None) if there is none; its new tag, or None."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._said("write"):
            try:
                done = self._store.put(name, data, mode=json.loads(tag) if tag else "create")
            except (AlreadyExistsError, PreconditionError):
                found = self.get(name)  # ours, if the answer to a first try was lost
                return found.tag if found and found.data == data else None
            return _tag(done)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are none."""
        if names:
            with self._said("write"), contextlib.suppress(FileNotFoundError):
                self._store.delete(list(names))

    def ages(self, folder: str) -> dict[str, float]:
        """The objects in a folder, by name, and for how many seconds each has been there."""
        now = datetime.now(timezone.utc)
        with self._said("read"):
            found = self._listed(folder)
            return {one["path"]: (now - one["last_modified"]).total_seconds() for one in found}

    def _listed(self, folder: str, tries: int = _RETRIES["max_retries"]) -> list[Any]:
        """The objects in a folder. Of an answer that is cut the client asks all but these again."""
        from obstore.exceptions import GenericError

        try:
            return [one for batch in self._store.list(folder) for one in batch]
        except GenericError as error:
            if not tries or "list response body" not in str(error):
                raise
            return self._listed(folder, tries - 1)

    @contextlib.contextmanager
    def _said(self, verb: str, *, missing: bool = True) -> Iterator[None]:
        """Turn what the storage says into a line of ours; requests and secrets are left out."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            if not missing:  # its own text would show the request
                raise FileNotFoundError(errno.ENOENT, "no such object", self.url) from None
            raise StorageError(
                f"there is no bucket of {self.url}; create it, or check the address."
            ) from None
        except (BaseError, PermissionError) as error:
            raise StorageError(f"cannot {verb} {self.url}: {_reason(error, self.url)}") from None


def _tag(known: Any) -> str:
    """What tells a state of an object from others: S3 and Azure go by one, Google by the other."""
    return json.dumps({name: known[name] for name in ("e_tag", "version") if known[name]})


class Readable(Protocol):
    """What has files that are read in parts, as :class:`Objects` says."""

    def state(self, name: str) -> tuple[int, int]:
        """Size in bytes, and a time or number that changes with the content."""

    def part(self, name: str, offset: int, size: int) -> bytes:
        """So many bytes, fewer at the end."""


def buffered(objects: Readable, name: str) -> IO[bytes]:
    """An object to read and seek in, a part in memory. Raises FileNotFoundError."""
    return io.BufferedReader(_Raw(objects, name), _PART)


def unbuffered(objects: Readable, name: str) -> IO[bytes]:
    """The same, with a request for each read."""
    return _Raw(objects, name)  # type: ignore[return-value]


class _Raw(io.RawIOBase):
    """An object as an unbuffered file."""

    def __init__(self, objects: Readable, name: str) -> None:
        self._objects, self._name, self._place = objects, name, 0
        self._size = objects.state(name)[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = begin + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        data = self._objects.part(self._name, self._place, count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _credentials(url: str) -> str:
    """The variables that give access to a URL."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("s3", "s3a"):
        return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION"
    if scheme == "gs":
        return "GOOGLE_APPLICATION_CREDENTIALS, a file"
    return "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY"


def _reason(error: Exception, url: str) -> str:
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
        if url.startswith("http"):
            return f"access was refused{status}."
        return (
            f"access was refused{status}; check the credentials in the environment "
            f"({_credentials(url)})."
        )
    if status:
        return f"the storage answered with an error{status}; try again later."
    if "onnect" in text or "dns" in text.lower() or "sending request" in text:
        return "the storage cannot be reached; check the network and the endpoint."
    return f"{type(error).__name__}; try again later."


def _open(url: str) -> ObjectStore:
    try:
        from obstore.store import MemoryStore, from_url
    except ImportError:
        raise StorageError(
            f"{url}: object storage needs another package: pip install 'wordsight[cloud]'"
        ) from None
    if url.startswith("hf://"):
        raise StorageError(f"{url}: the hub's data sets are sources; a library is no file of them.")
    if url.startswith("memory://"):
        return _memory.setdefault(url, MemoryStore())
    options: dict[str, Any] = {**_options.get("", {}), **_options.get(url, {})}
    endpoint = next((v for k, v in options.items() if "endpoint" in k.lower()), None)
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT", "")
    client: dict[str, Any] = {**_TIMEOUTS}
    if (endpoint if url.startswith("s3") else url).startswith("http://"):  # the user said so
        client["allow_http"] = True
    try:
        settings: Any = {"client_options": client, "retry_config": _RETRIES}
        if options:
            settings["config"] = options
        opened: ObjectStore = from_url(url, **settings)
        return opened
    except Exception as error:  # obstore raises what its configuration's types say
        text = f"{type(error).__name__}"
        unknown = [name for name in options if name in str(error)]
        why = f"unknown option {unknown[0]}" if unknown else text
        if re.search("must be specified|credential|access key", str(error), re.IGNORECASE):
            why = f"credentials are missing or wrong ({_credentials(url)})"
        raise StorageError(f"cannot use {url}: {why}; check the address and the options.") from None
