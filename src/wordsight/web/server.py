"""Running the application: uvicorn with limits on what a connection may hold."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

IDLE_SECONDS = 10.0
"""A connection that has said nothing whole for so long is closed."""
MOST_IDLE = 128
"""Connections without a request; one more, and the one that has been idle longest is closed."""
MOST_BUSY = 256
"""Connections and requests at one time; what comes beyond them gets 503."""


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol, which by itself waits for ever for a first request.

    Open connections that ask nothing, or a byte now and then, must not keep others out.
    """

    idle: dict[PatientProtocol, asyncio.TimerHandle] = {}  # noqa: RUF012  (of all connections)

    def connection_made(self, transport: Any) -> None:
        """A connection was accepted."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something was sent: a request is under way when its headers are whole."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self not in self.idle:
            self._watch()

    def on_response_complete(self) -> None:
        """A request was answered; the connection is idle again."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._unwatch()
        self.idle[self] = self.loop.call_later(IDLE_SECONDS, self._close)
        if len(self.idle) > MOST_IDLE:
            next(iter(self.idle))._close()

    def _unwatch(self) -> None:
        timer = self.idle.pop(self, None)
        if timer:
            timer.cancel()

    def _close(self) -> None:
        self._unwatch()
        self.transport.close()


class Server(uvicorn.Server):
    """Tells jobs to end as soon as the server is told to, so that their event streams end too."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_BUSY,
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop."""
        self._app.state.jobs.cancel_all()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Answer requests until the process is told to stop."""
    Server(app).run(sockets=[listener])
