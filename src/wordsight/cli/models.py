"""``wordsight models`` and ``wordsight export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import print_json, print_table, progress_bar, say
from wordsight.progress import size

if TYPE_CHECKING:
    from wordsight.export import Export

models_app = typer.Typer(invoke_without_command=True)
app.add_typer(models_app, name="models")


@models_app.callback(epilog=examples("wordsight models", "wordsight models fetch clip-vit-b16"))
def models(context: typer.Context, as_json: options.JsonOption = False) -> None:
    """List the models and detectors that you can use by name.

    Models for --model and detectors for --crops, with size, licence, published accuracy,
    and whether they are already on this machine.
    """
    if context.invoked_subcommand:
        return
    from wordsight.models.maskrcnn import detectors_info
    from wordsight.models.registry import models_info

    rows, detectors = models_info(), detectors_info()
    if as_json:
        print_json({"models": rows, "detectors": detectors})
        return
    header = ("NAME", "DIM", "DOWNLOAD", "CIFAR-10", "LICENCE", "HERE", "HUB REPOSITORY")
    table = [
        (
            row["name"],
            str(row["dim"] or ""),
            _download(row),
            f"{row['cifar10']:.1f} %" if row["cifar10"] else "",
            row["licence"] or "",
            "yes" if row["cached"] else "no",
            row["repository"] or "",
        )
        for row in rows
    ]
    print_table([header, *table])
    print("\nFor --crops:")
    print_table(
        [
            ("NAME", "DOWNLOAD", "LICENCE", "HERE", "HUB REPOSITORY"),
            *(
                (
                    row["name"],
                    _download(row),
                    row["licence"],
                    "yes" if row["cached"] else "no",
                    row["repository"] or "",
                )
                for row in detectors
            ),
        ]
    )


_Fetched = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name of `wordsight models`, or a hub id."),
]


@models_app.command(
    epilog=examples(
        "wordsight models fetch clip-vit-b32-laion2b",
        "wordsight models fetch Xenova/clip-vit-base-patch32",
    )
)
def fetch(
    name: _Fetched,
    as_json: options.JsonOption = False,
) -> None:
    """Download a model from the hub into the cache.

    Shows the size first, then the progress. An interrupted download continues where it stopped,
    in this run or the next.
    """
    from wordsight.models import fetch_model

    folder = fetch_model(name)
    if as_json:
        print_json({"name": name, "path": str(folder)})
    else:
        print(f"{name} is in {folder}")


def _download(row: dict[str, Any]) -> str:
    return size(row["bytes"]) if row["bytes"] else "?" if row["repository"] else "in the package"


_Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of open_clip or transformers, a hub id (owner/name), the weights of a "
        "torchvision Mask R-CNN (a file), or a model's name together with --pretrained.",
    ),
]
_Out = Annotated[
    Path, typer.Option(metavar="DIR", parser=options.given("--out"), help="The directory to write.")
]
_Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="TAG|FILE",
        help="The weights of a model named in open_clip (ViT-B-32) or torchvision "
        "(maskrcnn_resnet50_fpn).",
    ),
]
_Kind = Annotated[
    Literal["auto", "open_clip", "transformers", "maskrcnn"],
    typer.Option(help="What the source is."),
]
_Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Largest accepted difference from the original. Default: 0.001 for vectors, "
        "0.01 for detectors.",
    ),
]


@app.command(
    epilog=examples(
        "wordsight export laion/CLIP-ViT-B-32-laion2B-s34B-b79K --out models/b32",
        "wordsight export ViT-B-32 --pretrained mine.pt --out models/mine",
        "wordsight export maskrcnn.pth --out models/detector",
    )
)
def export(
    source: _Source,
    out: _Out,
    pretrained: _Pretrained = None,
    kind: _Kind = "auto",
    tolerance: _Tolerance = None,
    as_json: options.JsonOption = False,
) -> None:
    """Convert a PyTorch checkpoint to a model directory.

    The result is checked against the original and is deleted if it differs by more than the
    tolerance. Takes CLIP models of open_clip and transformers, and Mask R-CNN of torchvision.
    Needs the extra export: pip install "wordsight[export]"; the directory runs without it.
    """
    from wordsight.export import export as run

    with progress_bar("exporting", "steps") as progress:
        done = run(
            source, out, pretrained=pretrained, kind=kind, tolerance=tolerance, progress=progress
        )
    if as_json:
        print_json(done.to_json())
        return
    _print_exported(done)


def _print_exported(done: Export) -> None:
    differences = ", ".join(f"{what} {value:.1e}" for what, value in done.differences.items())
    compared = ", ".join(f"{count} {what}" for what, count in done.compared.items())
    print(
        f"Differences from the original: {differences} ({compared}; tolerance {done.tolerance:g})"
    )
    facts = done.facts
    if done.kind == "maskrcnn":
        if not done.compared["boxes"]:
            say("note: neither the original nor the export found anything in the test images.")
        if not facts["labels"]:
            say(
                "note: the weights do not name their labels; add the names to "
                f'{done.path / "detector.json"}: "labels": ["background", "cat", ...]'
            )
        print(f"{done.path}: {size(done.bytes)} in {done.seconds:.1f} s")
        say(f"Next, try: wordsight index PHOTOS --crops {done.path}")
        return
    height, width = facts["image_size"]
    bias = "" if facts["logit_bias"] is None else f", bias {facts['logit_bias']:.4g}"
    print(
        f"{done.path}: {facts['dim']} dimensions, {width} x {height} pixels, "
        f"{facts['context']} tokens, logit scale {facts['logit_scale']:.4g}{bias}; "
        f"{size(done.bytes)} in {done.seconds:.1f} s"
    )
    say(f"Next, try: wordsight index PHOTOS --model {done.path}")
