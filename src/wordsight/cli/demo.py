"""``wordsight demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import Transfer, print_json, progress_bar, say, step
from wordsight.cli.opening import load

_Out = Annotated[
    Path,
    typer.Option(metavar="DIR", parser=options.given("--out"), help="Folder for the pictures."),
]
_Full = Annotated[
    bool, typer.Option("--full", help="Index all 10,000 test images, not the first 2,000.")
]


@app.command(epilog=examples("wordsight demo --out demo"))
def demo(
    out: _Out = Path("demo"),
    full: _Full = False,
    model: options.ModelOption = "starter",
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Take a guided tour on CIFAR-10, step by step.

    Searches test images by words, shows "No match", classifies, evaluates, and saves pictures.

    The data come from the first of these that is available: WORDSIGHT_CIFAR10 (a folder or file),
    the cache, the Hugging Face hub (24 MB, once), the official archive (170 MB, from a slow
    server), or the 20-image sample of the extra `sample`.
    """
    from wordsight.demo import FIRST, run
    from wordsight.sources import cifar10

    tell = say if as_json else step
    tell("A guided tour in 12 steps: CIFAR-10 and a few photographs, searched by words.")
    with Transfer("cifar10") as transfer:
        source = cifar10.load("test", progress=transfer.progress, notice=transfer.notice)
    if source.notice:
        say(f"note: {source.notice}")
    loaded = load(model, runtime, precision)
    facts = run(
        loaded,
        source,
        source.origin,
        out,
        most=None if full else FIRST,
        say=tell,
        show=lambda title: progress_bar(title, "done"),
    )
    if as_json:
        print_json(facts)
