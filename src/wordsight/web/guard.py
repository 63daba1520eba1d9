"""What stands between the network and the application: hosts, tokens, origins, headers, sizes."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_UPLOAD = 20 * 2**20
"""Bytes of an uploaded image."""
UPLOAD_SECONDS = 30.0
_COOKIE = "wordsight_session"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Problem(Exception):
    """An error for the client, told as RFC 9457 says (application/problem+json)."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> Response:
        """The problem as a response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return JSONResponse(
            body, self.status, {**_HEADERS, **self.headers}, "application/problem+json"
        )


class Guard:
    """Looks at every request before the application does.

    The Host header must be one of ``hosts`` (against DNS rebinding). With a ``token``, a request
    carries it as a bearer or comes with the cookie that :attr:`login_path`, which works once,
    sets. A request that changes something, or sends an image, must not come from another site.
    """

    def __init__(self, hosts: frozenset[str], token: str | None) -> None:
        self.hosts = hosts
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._code: str | None = secrets.token_urlsafe(24) if token else None

    @property
    def login_path(self) -> str:
        """The path that a browser opens first; just "/" where no token is needed."""
        return f"/login/{self._code}" if self._code else "/"

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind this guard."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            async def add_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in _HEADERS.items():
                        headers.setdefault(name, value)
                await send(message)

            try:
                login = self._check(Request(scope))
            except Problem as problem:
                login = problem.response()
            await (login or app)(scope, receive, add_headers)

        return guarded

    def _check(self, request: Request) -> Response | None:
        host = _hostname(request.headers.get("host", ""))
        if host not in self.hosts:
            raise Problem(400, f"this server is not called {host!r}")
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            origin = request.headers.get("origin")
            other = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
            if other or request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise Problem(403, "requests from other sites are refused")
        if self._token is None:
            return None
        code = request.url.path.removeprefix("/login/")
        if code != request.url.path and self._code and _same(code, self._code):
            self._code = None
            response = RedirectResponse("/", 303)
            response.set_cookie(_COOKIE, self._session, httponly=True, samesite="strict")
            return response
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self._token):
            return None
        if _same(request.cookies.get(_COOKIE, ""), self._session):
            return None
        raise Problem(
            401,
            "give the server's token as a bearer, or open the link that it printed",
            {"WWW-Authenticate": "Bearer"},
        )


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def read_upload(request: Request, limit: int = MAX_UPLOAD) -> bytes:
    """The body of a request, given up as soon as it is larger or slower than allowed."""
    too_large = Problem(413, f"an image may have {limit // 2**20} MB at most")
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or int(told) > limit:
        raise too_large
    parts, size = [], 0

    async def read() -> None:
        nonlocal size
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)

    try:
        await asyncio.wait_for(read(), UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise Problem(408, "the image did not arrive in time") from None
    except ClientDisconnect:
        raise Problem(400, "the image did not arrive whole") from None
    if not parts:
        raise Problem(400, "send the image's bytes as the body of the request")
    return b"".join(parts)
