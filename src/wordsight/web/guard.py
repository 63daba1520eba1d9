"""What stands between the network and the application: hosts, tokens, origins, headers, sizes."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from wordsight.web.address import (
    DEFAULT_PORTS,
    Address,
    parse_host,
    parse_origin,
    route_path,
    to_the_page,
)

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
        "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
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
    must come from this site (see :meth:`_is_from_here`) if a browser sends it. No body is larger or
    slower than allowed, and no more than MOST_BUSY requests are under way. Raises ValueError for an
    empty token: a bearer without one would be let in.
    """

    def __init__(
        self, hosts: frozenset[str], token: str | None, address: Address | None = None
    ) -> None:
        if token is not None:
            token = token.strip()  # as a bearer comes: a header cannot end with white space
            if not token:
                raise ValueError("the token is empty; give None where none is needed")
        self.address = address or Address()
        self.hosts = hosts | {self.address.origin.host} if self.address.origin else hosts
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
            self.address.place(scope)

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
        host, port = parse_host(request.headers.get("host", ""))
        # With a token an address will do for a name: rebinding needs a name of the attacker's.
        if host not in self.hosts and not (self._token and _is_address(host)):
            raise Problem(
                400,
                f"this server does not answer to {host!r}; to allow it: wordsight serve "
                f"--name {host}",
            )
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        if not reads and not self._is_from_here(request, host, port):
            raise Problem(
                403,
                "requests from other sites are refused; behind a proxy, give this server's address "
                "with: wordsight serve --public-url",
            )
        path = route_path(request.scope)
        if not path:  # the root path alone, from which the page's own links would lead astray
            return RedirectResponse(f"{self.address.root_path}/")
        if self._token is None or path.startswith("/static/"):
            return None
        # Browsers send a cookie to every port of a host; with the port in its name, one server of
        # this machine does not log the browser out of another.
        _, listens = request.scope.get("server") or (None, None)
        cookie = f"wordsight_session_{listens}"
        known = _same(request.cookies.get(cookie, ""), self._session)
        if path.startswith("/login/"):
            if self._code and _same(path.removeprefix("/login/"), self._code):
                self._code = None
                return self._remember(request, _on_to_the_page(request), cookie)
            if request.method == "GET":
                return _on_to_the_page(request)  # the link was opened again; there one may log in
        if path == "/login" and request.method == "POST":
            if _same(await _told_token(request), self._token):
                back = RedirectResponse(to_the_page(request.scope), 303)
                return self._remember(request, back, cookie)
            return _ask(request, "That is not the token.")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        # Header fields come decoded as Latin-1, whatever was sent.
        told_token = given.strip().encode("latin-1").decode("utf-8", "replace")
        if kind.lower() == "bearer" and _same(told_token, self._token):
            return None
        if known:
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return _ask(request, "")
        raise Problem(
            401,
            "send the server's token as a bearer token, or open the link that it printed",
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_from_here(self, request: Request, host: str, port: int | None) -> bool:
        """Whether a request is from this site's own page, or from no browser.

        Browsers say Sec-Fetch-Site where the connection is safe, and Origin with what may change
        something; no script can set either. A proxy may have changed the Host header (left out the
        port, say), so there are three ways to be this site: the origin is the public one, or that
        of the Host header, or the browser itself says "same-origin" and the origin's name is one
        of ours. That last condition keeps out pages of names that were led here (DNS rebinding),
        for which all is of one origin, where a proxy puts its own Host in place of theirs.
        """
        said = request.headers.get("sec-fetch-site")
        if said in ("cross-site", "same-site"):
            return False
        if "origin" not in request.headers:
            return True
        origin = parse_origin(request.headers["origin"])
        if origin is None:
            return False
        if origin == self.address.origin:
            return True
        if said == "same-origin":
            return origin.host == host or origin.host in self.hosts
        if origin.host == (self.address.origin and self.address.origin.host):
            return False  # the same name by another scheme or port is another site
        own = origin._replace(host=host, port=port or DEFAULT_PORTS[origin.scheme])
        return origin == own and not (self._is_safe(request, host) and origin.scheme == "http")

    def _is_safe(self, request: Request, host: str) -> bool:
        """Whether the browser's connection is by HTTPS, as far as is known."""
        public = self.address.origin
        by_name = public is not None and public.host == host and public.scheme == "https"
        return by_name or request.scope.get("scheme") == "https"

    def _remember(self, request: Request, response: Response, cookie: str) -> Response:
        host, _ = parse_host(request.headers.get("host", ""))
        response.set_cookie(
            cookie,
            self._session,
            max_age=_LOGIN_SECONDS,
            path=f"{self.address.root_path}/",
            secure=self._is_safe(request, host),
            httponly=True,
            samesite="strict",
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


def _on_to_the_page(request: Request) -> Response:
    """Leads to the page, as a step of this site's own.

    Browsers leave a strict cookie out when another site (a mail, a chat) leads here by a redirect.
    """
    page = to_the_page(request.scope)
    headers = {"Refresh": f"0; url={page}", "Cache-Control": "no-store"}
    return HTMLResponse(
        f'<!doctype html><title>wordsight</title><a href="{page}">Go on</a>', 200, headers
    )


def _ask(request: Request, alert: str) -> Response:
    """The page that asks for the token."""
    page = (files("wordsight.web") / "static/login.html").read_text(encoding="utf-8")
    page = page.replace('role="alert"></p>', f'role="alert">{alert}</p>')
    # It is shown in place of whatever was asked for: its links start from there.
    page = page.replace('="./', f'="{to_the_page(request.scope)}')
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
    return Problem(413, f"the image is too large: the limit is {MAX_BODY // 2**20} MB")


async def read_upload(request: Request) -> bytes:
    """The body of a request; raises Problem when there is none."""
    try:
        data = await request.body()
    except ClientDisconnect:
        raise Problem(400, "the image arrived incomplete") from None
    if not data:
        raise Problem(400, "send the image as the body of the request")
    return data
