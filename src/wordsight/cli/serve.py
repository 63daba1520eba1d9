"""``wordsight serve``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import count, print_json
from wordsight.cli.opening import open_library
from wordsight.errors import WordsightError, reason
from wordsight.progress import waiting

if TYPE_CHECKING:
    import socket

    from wordsight.api import Library
    from wordsight.web.address import Address

_Host = Annotated[
    str,
    typer.Option(metavar="ADDRESS", parser=options.given("--host"), help="Address to listen on."),
]
_Port = Annotated[
    int, typer.Option(metavar="N", help="Port; 0 picks a free one.", min=0, max=65535)
]
_Token = Annotated[
    str | None,
    typer.Option(
        envvar="WORDSIGHT_TOKEN",
        metavar="TEXT",
        help="A secret that requests must include. By default one is generated and printed if "
        "others can reach --host.",
    ),
]
_Name = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST",
        help="Another host name under which browsers may reach this server (may be repeated).",
    ),
]
_PublicUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The address of this server behind a reverse proxy, including any path. Without "
        "--token, one is generated.",
    ),
]
_RootPath = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="The path under which a proxy serves this, whether the proxy strips it or not. "
        "Default: that of --public-url.",
    ),
]
_TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS",
        help="A proxy (address or network) whose X-Forwarded-Proto and X-Forwarded-For are "
        "trusted (may be repeated). Default: none.",
    ),
]
_AllowIndex = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="A folder that may be indexed from the page (may be repeated).",
        exists=True,
        file_okay=False,
    ),
]
_Shards = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Search with a fleet: split the index of a large library into N slices, each in its "
        "own process on the cluster of --ray.",
    ),
]


@app.command(
    epilog=examples(
        "wordsight serve",
        "wordsight serve --library photos/.wordsight --port 9000",
        "wordsight serve --allow-index ~/Pictures",
        "wordsight serve --host 0.0.0.0 --token SECRET",
        "wordsight serve --public-url https://example.org/photos",
        "wordsight serve --library big.lib --shards 4 --ray auto",
    )
)
def serve(
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8000,
    token: _Token = None,
    name: _Name = None,
    public_url: _PublicUrl = None,
    root_path: _RootPath = None,
    trusted_proxy: _TrustedProxy = None,
    allow_index: _AllowIndex = None,
    shards: _Shards = None,
    ray: options.RayOption = None,
    model: options.MovedModelOption = None,
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Serve a web page and an HTTP API over a library.

    Ctrl-C stops it. Needs the extra web: pip install "wordsight[web]". The API is described at
    /api/v1/openapi.json.
    """
    import secrets

    try:
        from wordsight.web.app import create_app
        from wordsight.web.guard import LOOPBACK
        from wordsight.web.server import serve as run
    except ImportError as error:
        raise WordsightError(
            f'the web page needs the package {error.name}: pip install "wordsight[web]"'
        ) from None
    _check_fleet(shards, ray, allow_index)
    token = _checked_token(token)
    address = _address(public_url, root_path)
    proxies = [_network(proxy) for proxy in trusted_proxy or ()]
    opened = open_library(library, model, runtime, precision)
    listener = _listener(host, port)
    public_host = address.origin.host if address.origin else host
    if token is None and not LOOPBACK.issuperset({host, public_host}):
        token = secrets.token_urlsafe(24)
    hosts = LOOPBACK | _hosts(host, name or ())
    web = create_app(
        opened, hosts=hosts, token=token, allow_index=allow_index or (), address=address
    )
    listens = f"http://{_reached_by(host, name or ())}:{listener.getsockname()[1]}"
    base = f"{address.origin}{address.root_path}" if address.origin else listens
    told = {
        "url": base + web.state.guard.login_path,
        "api": f"{base}/api/v1",
        "token": token,
        "listens": listens,
    }
    with _fleet(opened, shards, ray):
        _print_told(opened, told, behind_proxy=bool(address.origin), as_json=as_json)
        run(web, listener, proxies)


def _address(public_url: str | None, root_path: str | None) -> Address:
    from wordsight.web.address import Address

    try:
        return Address.of(public_url, root_path)
    except ValueError as error:
        raise WordsightError(f"{error}.") from None


@contextmanager
def _fleet(library: Library, shards: int | None, ray: str | None) -> Iterator[None]:
    """Let a fleet search the library meanwhile, where one is asked for."""
    if not shards:
        yield
        return
    with waiting("starting the fleet"):
        library.shard(shards, ray or "auto")
    try:
        yield
    finally:
        if library.store.fleet is not None:
            library.store.fleet.close()


def _check_fleet(shards: int | None, ray: str | None, allow_index: Sequence[Path] | None) -> None:
    if ray and not shards:
        raise typer.BadParameter("say how many slices --ray holds: --shards N.")
    if shards and allow_index:
        raise typer.BadParameter("--allow-index does not go with --shards: index beside it.")


def _listener(host: str, port: int) -> socket.socket:
    from wordsight.web.server import listen

    try:
        return listen(host, port)
    except OSError as error:
        why = reason(error).partition(" (while ")[0]  # what follows repeats the address
        raise WordsightError(
            f"cannot listen on {host}:{port} ({why}); choose another --port or --host."
        ) from None


def _checked_token(token: str | None) -> str | None:
    """The token without spaces around it. Raises WordsightError for an empty one."""
    import os

    # An empty variable reads as none at all: who set it meant to have a token.
    if token is None and "WORDSIGHT_TOKEN" not in os.environ:
        return None
    token = (token or "").strip()
    if not token:
        raise WordsightError(
            "the token is empty; give one, or omit --token and unset WORDSIGHT_TOKEN (one is "
            "then generated if others can reach --host)."
        )
    return token


def _hosts(host: str, names: Sequence[str]) -> set[str]:
    """The host names under which browsers may reach a server that listens on ``host``."""
    import socket

    from wordsight.web.guard import LOOPBACK

    own = set() if host in LOOPBACK else {socket.gethostname().lower()}
    return {host.lower(), *(name.lower() for name in names), *own}


def _reached_by(host: str, names: Sequence[str]) -> str:
    """The host of the address that is told to people."""
    shown = (names[0] if names else _own_address()) if host in ("0.0.0.0", "::") else host
    return f"[{shown}]" if ":" in shown else shown


def _print_told(
    library: Library, told: dict[str, str | None], *, behind_proxy: bool, as_json: bool
) -> None:
    """Where the server is; at once, for whoever waits for it in a pipe."""
    if as_json:
        print_json(told)
    else:
        print(f"Serving {count(len(library), 'image')} of {library.place}. Press Ctrl-C to stop.")
        print(f"Open {told['url']}" + ("  (this link works once)" if told["token"] else ""))
        if told["token"]:
            print(f"Token for programs: {told['token']}")
        if behind_proxy:
            print(f"Your proxy must forward that to {told['listens']}")
    sys.stdout.flush()


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
