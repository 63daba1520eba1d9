"""Where browsers find the server: its public URL, and the path that it lies under there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import Scope

DEFAULT_PORTS = {"http": 80, "https": 443}
_ROOT_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", re.ASCII)
_OURS = frozenset({"api", "login", "metrics", "static"})


class Origin(NamedTuple):
    """Scheme, host and port (RFC 6454), the port always given."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As in a URL: without the port that the scheme has anyway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{host}" + ("" if usual else f":{self.port}")


@dataclass(frozen=True, slots=True)
class Address:
    """The server's place as browsers see it.

    ``origin`` is None where nobody has said which it is; ``root_path`` is "" or like "/photos".
    """

    origin: Origin | None = None
    root_path: str = ""

    @classmethod
    def of(cls, public_url: str | None = None, root_path: str | None = None) -> Address:
        """The address for a public URL, whose path is the root path unless that is given too.

        Raises ValueError for what cannot be one.
        """
        origin = None
        if public_url is not None:
            origin = parse_origin(public_url)
            if origin is None or set("?#@") & set(public_url):
                raise ValueError(
                    f"'{public_url}' is not a server address; give one like "
                    "https://photos.example.org or https://example.org/photos"
                )
            root_path = urlsplit(public_url).path if root_path is None else root_path
        path = (root_path or "").rstrip("/")
        if not _ROOT_PATH.fullmatch(path):
            raise ValueError(
                f"'{root_path}' is not a root path; it begins with a slash and has letters, "
                "digits, and - . _ ~, like /photos"
            )
        if path[1:].partition("/")[0] in _OURS:
            raise ValueError(
                f"the root path '{path}' clashes with one of the server's own; choose another"
            )
        return cls(origin, path)

    def place(self, scope: Scope) -> None:
        """Let the path of a request begin with the root path, also where a proxy has removed it.

        Without it files of a mounted application would not be found (ASGI has both in ``path``).
        """
        if self.root_path:
            scope["root_path"] = self.root_path
            if route_path(scope) == scope["path"]:
                scope["path"] = self.root_path + scope["path"]


def route_path(scope: Scope) -> str:
    """The path of a request without the root path: what routes are written for."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def to_the_page(scope: Scope) -> str:
    """The way from what was asked for to the page, relative: as long as the path is deep.

    So it leads there also where a proxy has removed a root path of which we do not know.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    raw = raw.partition(b"?")[0]
    root = scope.get("root_path", "").encode()
    if raw.startswith(root + b"/"):
        raw = raw[len(root) :]
    return "../" * (raw.count(b"/") - 1) or "./"


def parse_origin(url: str) -> Origin | None:
    """The origin of a URL; None for "null" and whatever else has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    return Origin(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme])


def parse_host(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header; the name is "" where there is none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None
