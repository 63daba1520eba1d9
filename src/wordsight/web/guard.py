"""What stands between the network and the application: hosts, tokens, origins, headers, sizes."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_BODY = 20 * 2**20
"""Bytes of a request's body: an image at most."""
BODY_SECONDS = 60.0
"""Within which it must have come."""
MOST_BUSY = 256
"""Requests under way; what comes beyond them gets 503."""
_LOGIN_BODY = 4096
_LOGIN_SECONDS = 30 * 86400  # or until the server ends: its sessions end with it
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Problem(HTTPException):
    """An error for the client, told as RFC 9457 says (application/problem+json)."""

    def response(self) -> Response:
        """The problem as a response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
        }
        headers = {**_HEADERS, **(self.headers or {})}
        return JSONResponse(body, self.status_code, headers, "application/problem+json")


class Guard:
    """Looks at every request before the application does.

    The Host header must be one of ``hosts`` (against DNS rebinding), or an address where there is a
    token. With a ``token``, a request carries it as a bearer, or comes with the cookie that a
    browser gets for the token, which it is asked for, or for :attr:`login_path`, which works once;
    what is in ``/static/`` is for all to see. A request that changes something, or sends an image,
    must not come from another site. No body is larger or slower than allowed, and no more than
    MOST_BUSY requests are under way. Raises ValueError for an empty token: a bearer without one
    would be let in.
    """

    def __init__(self, hosts: frozenset[str], token: str | None) -> None:
        if token is not None:
            token = token.strip()  # as a bearer comes: a header cannot end with white space
            if not token:
                raise ValueError("the token is empty; give None where none is needed")
        self.hosts = hosts
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._code: str | None = secrets.token_urlsafe(24) if token else None
        self._busy = 0

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

            bounded = _bounded(receive)
            self._busy += 1
            try:
                try:
                    answer = await self._check(Request(scope, bounded))
                except Problem as problem:
                    answer = problem.response()
                await (answer or app)(scope, bounded, add_headers)
            finally:
                self._busy -= 1

        return guarded

    async def _check(self, request: Request) -> Response | None:
        """The answer to a request that does not reach the application."""
        if self._busy > MOST_BUSY:
            raise Problem(503, "too many requests at once", {"Retry-After": "2"})
        told = request.headers.get("content-length", "0")
        if not told.isdigit() or int(told) > MAX_BODY:
            raise _too_large()
        host = _hostname(request.headers.get("host", ""))
        # With a token an address will do for a name: rebinding needs a name of the attacker's.
        if host not in self.hosts and not (self._token and _is_address(host)):
            raise Problem(
                400, f"this server is not called {host!r} (wordsight serve --name {host} says so)"
            )
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            origin = request.headers.get("origin")
            other = origin is not None and _place(origin) != request.headers.get("host")
            if other or request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise Problem(403, "requests from other sites are refused")
        path = request.url.path
        if self._token is None or path.startswith("/static/"):
            return None
        # Browsers send a cookie to every port of a host; with the port in its name, one server of
        # this machine does not log the browser out of another.
        _, port = request.scope.get("server") or (None, None)
        cookie = f"wordsight_session_{port}"
        known = _same(request.cookies.get(cookie, ""), self._session)
        if path.startswith("/login/"):
            if self._code and _same(path.removeprefix("/login/"), self._code):
                self._code = None
                return self._remember(_on_to_the_page(), cookie)
            if request.method == "GET":
                return _on_to_the_page()  # the link was opened again; there one may log in
        if path == "/login" and request.method == "POST":
            if _same(await _told_token(request), self._token):
                return self._remember(RedirectResponse("/", 303), cookie)
            return _ask("That is not the token.")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        # Header fields come decoded as Latin-1, whatever was sent.
        told_token = given.strip().encode("latin-1").decode("utf-8", "replace")
        if kind.lower() == "bearer" and _same(told_token, self._token):
            return None
        if known:
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return _ask("")
        raise Problem(
            401,
            "give the server's token as a bearer, or open the link that it printed",
            {"WWW-Authenticate": "Bearer"},
        )

    def _remember(self, response: Response, cookie: str) -> Response:
        response.set_cookie(
            cookie, self._session, max_age=_LOGIN_SECONDS, httponly=True, samesite="strict"
        )
        return response


async def _told_token(request: Request) -> str:
    """What was typed into the page that asks for the token."""
    try:
        body = await request.body()
    except ClientDisconnect:
        return ""
    if len(body) > _LOGIN_BODY:
        return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()


def _on_to_the_page() -> Response:
    """Leads to "/", as a step of this site's own.

    Browsers leave a strict cookie out when another site (a mail, a chat) leads here by a redirect.
    """
    headers = {"Refresh": "0; url=/", "Cache-Control": "no-store"}
    return HTMLResponse(
        '<!doctype html><title>wordsight</title><a href="/">Go on</a>', 200, headers
    )


def _ask(alert: str) -> Response:
    """The page that asks for the token."""
    page = (files("wordsight.web") / "static/login.html").read_text(encoding="utf-8")
    page = page.replace('role="alert"></p>', f'role="alert">{alert}</p>')
    headers = {
        "WWW-Authenticate": "Bearer",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",  # without any the form's origin would be told as "null"
    }
    return HTMLResponse(page, 401, headers)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _bounded(receive: Receive) -> Receive:
    """What is received, cut off by a Problem when it is more than allowed, or late."""
    loop = asyncio.get_running_loop()
    until = loop.time() + BODY_SECONDS
    size, whole = 0, False

    async def bounded() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()  # the end of the connection
        try:
            message = await asyncio.wait_for(receive(), until - loop.time())
        except asyncio.TimeoutError:
            raise Problem(408, "the request did not arrive in time") from None
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise _too_large()
        whole = not message.get("more_body", False)
        return message

    return bounded


def _too_large() -> Problem:
    return Problem(413, f"an image may have {MAX_BODY // 2**20} MB at most")


async def read_upload(request: Request) -> bytes:
    """The body of a request; raises Problem when there is none."""
    try:
        data = await request.body()
    except ClientDisconnect:
        raise Problem(400, "the image did not arrive whole") from None
    if not data:
        raise Problem(400, "send the image's bytes as the body of the request")
    return data
