"""A server that really listens, on a free port of this machine, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from fastapi import FastAPI

from wordsight.web.server import Server


@contextlib.contextmanager
def listening(app: FastAPI, port: int = 0, proxies: tuple[str, ...] = ()) -> Iterator[str]:
    """Run the application; the address of its page."""
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    server = Server(app, proxies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
