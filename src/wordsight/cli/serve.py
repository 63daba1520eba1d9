"""``wordsight serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wordsight.cli.app import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    MovedModelOption,
    Precision,
    PrecisionOption,
    Runtime,
    RuntimeOption,
    app,
    examples,
    given,
)
from wordsight.cli.console import count, print_json
from wordsight.cli.opening import open_library
from wordsight.errors import WordsightError, reason


@app.command(
    epilog=examples(
        "wordsight serve",
        "wordsight serve --library photos/.wordsight --port 9000",
        "wordsight serve --allow-index ~/Pictures",
        "wordsight serve --host 0.0.0.0 --token SECRET",
        "wordsight serve --public-url https://example.org/photos",
    )
)
def serve(
    library: LibraryOption = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", parser=given("--host"), help="Address to listen on."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Port; 0 picks a free one.", min=0, max=65535)
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="WORDSIGHT_TOKEN",
            metavar="TEXT",
            help="A secret that requests must include. By default one is generated and printed if "
            "others can reach --host.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Another host name under which browsers may reach this server (may be repeated).",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The address of this server behind a reverse proxy, including any path. Without "
            "--token, one is generated.",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The path under which a proxy serves this, whether the proxy strips it or not. "
            "Default: that of --public-url.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="A proxy (address or network) whose X-Forwarded-Proto and X-Forwarded-For are "
            "trusted (may be repeated). Default: none.",
        ),
    ] = None,
    allow_index: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder that may be indexed from the page (may be repeated).",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a web page and an HTTP API over a library, until Ctrl-C.

    Needs the extra web: pip install "wordsight[web]". The API is described at
    /api/v1/openapi.json.
    """
    try:
        from wordsight.web.address import Address
        from wordsight.web.app import create_app
        from wordsight.web.guard import LOOPBACK
        from wordsight.web.server import listen
        from wordsight.web.server import serve as run
    except ImportError as error:
        raise WordsightError(
            f'the web page needs the package {error.name}: pip install "wordsight[web]"'
        ) from None
    import os
    import secrets
    import socket

    # An empty variable reads as none at all: who set it meant to have a token.
    if token is None and "WORDSIGHT_TOKEN" in os.environ:
        token = ""
    if token is not None:
        token = token.strip()
        if not token:
            raise WordsightError(
                "the token is empty; give one, or omit --token and unset WORDSIGHT_TOKEN (one is "
                "then generated if others can reach --host)."
            )
    try:
        address = Address.of(public_url, root_path)
    except ValueError as error:
        raise WordsightError(f"{error}.") from None
    proxies = [_network(proxy) for proxy in trusted_proxy or ()]
    opened = open_library(library, model, runtime, precision)
    try:
        listener = listen(host, port)
    except OSError as error:
        why = reason(error).partition(" (while ")[0]  # what follows repeats the address
        raise WordsightError(
            f"cannot listen on {host}:{port} ({why}); choose another --port or --host."
        ) from None
    public_host = address.origin.host if address.origin else host
    if token is None and not LOOPBACK.issuperset({host, public_host}):
        token = secrets.token_urlsafe(24)
    hosts = LOOPBACK | {host.lower(), *(n.lower() for n in name or ())}
    if host not in LOOPBACK:
        hosts |= {socket.gethostname().lower()}
    web = create_app(
        opened, hosts=hosts, token=token, allow_index=allow_index or (), address=address
    )
    shown = (name[0] if name else _own_address()) if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    listens = f"http://{shown}:{listener.getsockname()[1]}"
    base = f"{address.origin}{address.root_path}" if address.origin else listens
    told = {
        "url": base + web.state.guard.login_path,
        "api": f"{base}/api/v1",
        "token": token,
        "listens": listens,
    }
    if as_json:
        print_json(told)
    else:
        print(f"Serving {count(len(opened), 'image')} of {opened.path}. Press Ctrl-C to stop.")
        print(f"Open {told['url']}" + ("  (this link works once)" if token else ""))
        if token:
            print(f"Token for programs: {token}")
        if address.origin:
            print(f"Your proxy must forward that to {listens}")
    sys.stdout.flush()
    run(web, listener, proxies)


def _network(text: str) -> str:
    """An address, or a network like 10.0.0.0/8. Raises WordsightError for anything else."""
    import ipaddress

    try:
        return str(
            ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text)
        )
    except ValueError:
        raise WordsightError(
            f"--trusted-proxy takes an address or a network (10.0.0.1, 10.0.0.0/8), not '{text}'."
        ) from None


def _own_address() -> str:
    """The address by which this machine reaches others, and mostly is reached by them."""
    import contextlib
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.1", 9))  # nothing is sent (RFC 5737: an address of nobody's)
        return str(asking.getsockname()[0])
    return socket.gethostname()
