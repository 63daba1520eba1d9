"""``wordsight export-vectors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import count, nearby, print_json, progress_bar


@app.command(
    "export-vectors",
    epilog=examples(
        "wordsight export-vectors --library ~/Pictures --to vectors",
        "wordsight export-vectors --to vectors --where \"taken >= '2023'\" --dtype float32",
    ),
)
def export_vectors(
    to: Annotated[
        Path,
        typer.Option(metavar="DIR", parser=options.given("--to"), help="A new folder to write."),
    ],
    library: options.LibraryOption = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only images for which this is true, as in `search`."),
    ] = None,
    crops: Annotated[
        bool, typer.Option("--crops", help="Also export the vectors of crops, one row each.")
    ] = False,
    dtype: Annotated[
        Literal["float16", "float32"],
        typer.Option(help="Type of the numbers; a library stores float16."),
    ] = "float16",
    as_json: options.JsonOption = False,
) -> None:
    """Write a library's vectors as files for other programs.

    The vectors go to img_emb/img_emb_N.npy, and a row for each (id, image_path, label, metadata) to
    metadata/metadata_N.parquet, as clip-retrieval and autofaiss expect.
    """
    from wordsight.library import Store, find
    from wordsight.library.vectors import export

    store = Store.open(library or find())
    with progress_bar("exporting", "vectors") as progress:
        done = export(store, to, where=where, crops=crops, dtype=dtype, progress=progress)
    if as_json:
        print_json(done.to_json())
    else:
        shape = f"{done.dim} dimensions, {done.dtype}"
        files = count(done.parts, "file")
        print(f"{nearby(str(to))}: {count(done.rows, 'vector')} ({shape}) in {files}.")
