"""``wordsight mcp``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import count, print_json, say
from wordsight.cli.opening import open_library
from wordsight.errors import WordsightError


@app.command(
    epilog=examples(
        "wordsight mcp --library ~/Pictures",
        "wordsight mcp --library ~/Pictures --json > .mcp.json",
        "wordsight mcp --library ~/Pictures --allow-index ~/Pictures",
    )
)
def mcp(
    library: options.LibraryOption = None,
    allow_index: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder that agents may index (may be repeated). Default: none; all tools are "
            "read-only.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    model: options.MovedModelOption = None,
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Serve a library to agents, by the Model Context Protocol.

    The server uses standard input and output. Its tools search, classify and show images. If
    nothing fits, the agent gets "no match". --json prints the entry for a client's configuration
    instead. Needs the extra mcp: pip install "wordsight[mcp]".
    """
    try:
        from wordsight.agent import create_server
    except ImportError as error:
        raise WordsightError(
            f'the MCP server needs the package {error.name}: pip install "wordsight[mcp]"'
        ) from None
    if as_json:
        print_json(_configuration(library, allow_index or [], model, runtime, precision, device))
        return
    opened = open_library(library, model, runtime, precision)
    server = create_server(opened, allow_index=allow_index or ())
    say(f"Serving {count(len(opened), 'image')} of {opened.place} over MCP. Press Ctrl-C to stop.")
    server.run()


def _configuration(
    library: str | None,
    allow_index: list[Path],
    model: str | None,
    runtime: options.Runtime,
    precision: options.Precision,
    device: str | None,
) -> dict[str, object]:
    """What clients' files of configuration hold of a server, with paths that hold anywhere."""
    from wordsight.library import Store, find

    place = Store.open(library or find()).place
    arguments = [
        "-m",
        "wordsight",
        "mcp",
        "--library",
        place if isinstance(place, str) else str(place.resolve()),
    ]
    for folder in allow_index:
        arguments += ["--allow-index", str(folder.resolve())]
    if model:
        arguments += ["--model", model]
    if runtime != options.Runtime.auto:
        arguments += ["--runtime", runtime.value]
    if precision != options.Precision.auto:
        arguments += ["--precision", precision.value]
    if device:
        arguments += ["--device", device]
    return {"mcpServers": {"wordsight": {"command": sys.executable, "args": arguments}}}
