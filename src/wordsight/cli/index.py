"""``wordsight index``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.changes import changes, check
from wordsight.cli.console import check_pictures, progress_bar, say
from wordsight.cli.indexed import print_report, say_int8
from wordsight.cli.opening import open_or_create, open_place
from wordsight.cli.remodel import existing
from wordsight.cli.remodel import remodel as embed_again
from wordsight.cli.remodel import undo_prune as bring_back
from wordsight.cli.texts import KEPT, read_texts
from wordsight.errors import ModelError, SourceError, WordsightError

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.indexing.report import IndexReport
    from wordsight.sources import Source
    from wordsight.video.sampling import Every


_Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH...",
        help="Folders, image files, .tar shards ('{000..099}.tar' for many), Parquet or "
        "Arrow tables with a column of images; shards and Parquet tables at URLs, also "
        'hf://datasets/OWNER/NAME; or "cifar10".',
    ),
]
_Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=options.given("--model"),
        help="Model of a new library or for --remodel: a name of `wordsight models`, a "
        "directory, or a hub id.",
    ),
]
_Crops = Annotated[
    str | None,
    typer.Option(
        metavar="none|maskrcnn|tiles|NAME",
        parser=options.given("--crops"),
        help="Also embed regions of each image, found by a detector or cut as tiles. "
        "Default: same as the last time this library was indexed.",
    ),
]
_Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Skip what matches, as in .gitignore; may be repeated. The library remembers "
        "the patterns until you give others ('' clears them).",
    ),
]
_Videos = Annotated[
    bool,
    typer.Option("--videos/--no-videos", help="Index frames of videos too (extra `video`)."),
]
_Every = Annotated[
    str | None,
    typer.Option(
        metavar="SECONDS|keyframes",
        parser=options.given("--every"),
        help="How often to sample a frame of a video; frames that show nothing new are skipped. "
        "Default: same as last time; 1 for a new library.",
    ),
]
_Text = Annotated[
    bool | None,
    typer.Option(
        "--text/--no-text",
        help="Also read the text in the images, so that you can search for it (needs "
        "wordsight[ocr]; 1 to 5 s of processor time per image). Default: same as last time.",
    ),
]
_Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=options.given("--plot"), help="Save a plot of crops per image."
    ),
]
_Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Remove images that are gone from these paths or now excluded. Removes nothing if "
        "a drive may be missing or more than half are gone; --prune=force removes them anyway.",
    ),
]
_PruneForce = Annotated[bool, typer.Option("--prune-force", hidden=True)]
_UndoPrune = Annotated[
    bool, typer.Option("--undo-prune", help="Restore images pruned since the last `compact`.")
]
_Remodel = Annotated[
    bool,
    typer.Option(
        "--remodel",
        help="Embed all images of the library again with another model (--model). You can "
        "search meanwhile; the library switches when all images are done.",
    ),
]
_Recheck = Annotated[
    bool,
    typer.Option(
        "--recheck", help="Read all files again, even if their size and time have not changed."
    ),
]
_Gpus = Annotated[float, typer.Option(metavar="N", min=0, help="GPUs per worker of --ray.")]
_Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Keep running until Ctrl-C, and index changes (needs wordsight[watch])."
    ),
]


class _Index(TyperCommand):
    """``--prune=force`` beside ``--prune``, which takes no value: the next word is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for word in args:
            if word.startswith("--prune=") and word != "--prune=force":
                raise typer.BadParameter(f"{word}: write --prune, or --prune=force.")
        return super().parse_args(
            ctx, ["--prune-force" if word == "--prune=force" else word for word in args]
        )


@app.command(
    cls=_Index,
    epilog=examples(
        "wordsight index ~/Pictures",
        "wordsight index ~/Pictures --crops tiles",
        "wordsight index ~/Scans --text",
        "wordsight index ~/Pictures --watch",
        "wordsight index ~/Pictures --exclude thumbs/ --exclude '*.gif'",
        "wordsight index recordings --every 0.5",
        "wordsight index '/mnt/shards/{000..999}.tar' --library big.lib --ray auto",
        "wordsight index 's3://bucket/shards/*.tar' --library s3://bucket/library",
        "wordsight index photos scans.tar --library mine.lib --model clip-vit-b32",
        "wordsight index --remodel --library ~/Pictures --model clip-vit-b16",
    ),
)
def index(
    paths: _Paths = None,
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    model: _Model = None,
    crops: _Crops = None,
    exclude: _Exclude = None,
    videos: _Videos = True,
    every: _Every = None,
    text: _Text = None,
    plot: _Plot = None,
    prune: _Prune = False,
    prune_force: _PruneForce = False,
    undo_prune: _UndoPrune = False,
    remodel: _Remodel = False,
    recheck: _Recheck = False,
    watch: _Watch = False,
    ray: options.RayOption = None,
    gpus_per_worker: _Gpus = 0,
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Add images to a library, or bring it up to date.

    Files that have not changed are skipped, so you can run it again at any time. Images that
    cannot be read are listed at the end; the rest are indexed. Files of other kinds are only
    counted. Videos are indexed as frames.

    Skipped: hidden files; the folders #recycle, @Recycle, @eaDir, #snapshot, .thumbnails and
    lost+found; previews in *.photoslibrary; a RAW file beside its JPEG or HEIC; files named in
    a .wordsightignore file or by --exclude.
    """
    pruning: bool | Literal["force"] = "force" if prune_force else prune
    if undo_prune:
        return bring_back(library, paths, as_json)
    if remodel:
        if crops or exclude or recheck or plot:
            raise typer.BadParameter(
                "--remodel does not go with --crops, --exclude, --recheck or --plot."
            )
        old = existing(library, paths)
        return embed_again(old, model, runtime, precision, prune=pruning, as_json=as_json)
    if not paths:
        raise typer.BadParameter("name a folder or images to index.")
    chosen = {"crops": crops, "exclude": exclude, "videos": videos, "every": _interval(every)}
    chosen |= {"recheck": recheck, "prune": pruning} | _cluster(ray, gpus_per_worker)
    _check(paths, plot=plot, watch=watch, text=text)
    opened, report = _run(paths, library, (model, runtime, precision), chosen, text, as_json)
    if plot:
        _plot(report, plot)
    if watch:
        _watch(opened, paths, pruning, videos, as_json)


def _cluster(address: str | None, gpus: float) -> dict[str, Any]:
    """The cluster of --ray, as an option of a run. Raises WordsightError when it is not there."""
    if not address:
        return {}
    from wordsight.indexing.cluster import Cluster

    return {"cluster": Cluster(address, gpus)}


def _check(paths: Sequence[str], *, plot: Path | None, watch: bool, text: bool | None) -> None:
    """Refuse now what would fail once the images are indexed. Raises WordsightError."""
    check_pictures(plots=[plot])
    if watch:
        check(paths)
    if text:
        from wordsight.models.ocr import Reader

        Reader()  # whether it is installed is said now


def _run(
    paths: Sequence[str],
    place: str | None,
    opening: tuple[str | None, options.Runtime, options.Precision],
    chosen: dict[str, Any],
    text: bool | None,
    as_json: bool,
) -> tuple[Library, IndexReport]:
    """Index once, with what was ``chosen`` for it, and print the report."""
    from wordsight.library import default_location

    sources = _sources(paths)
    library, fresh = open_or_create(place or default_location(paths[0]), *opening)
    try:
        if fresh and opening[-1] == options.Precision.int8:
            say_int8(library.model, sources)
        with progress_bar("indexing", "images") as progress:
            report = library.index_sources(sources, progress=progress, **chosen)
    except (ModelError, SourceError):
        library.store.refresh()
        if fresh and not len(library):  # an empty library would be found later, and puzzle
            library.store.delete()
        elif fresh:
            say(KEPT)
        raise
    except KeyboardInterrupt:
        say(KEPT)
        raise
    unusable = bool(report.failed) and not (report.images or report.removed)
    texts = None if unusable else read_texts(library, text)
    if fresh and unusable:
        library.store.delete()
    print_report(report, texts, library.place, as_json)
    if unusable:
        raise WordsightError("no image could be read, so nothing was indexed.")
    return library, report


def _sources(paths: Sequence[str]) -> list[Source]:
    from wordsight.sources import expand

    return [open_place(one) for path in paths for one in expand(path)]


def _plot(report: IndexReport, file: Path) -> None:
    """Save a plot of crops per image, or say why there is none."""
    if not (report.crops and report.crops.per_image):
        say("No plot: this run made no crops. To make some, add --crops tiles or maskrcnn.")
        return
    from wordsight import render

    picture = render.histogram(
        report.crops.per_image,
        title="Crops per image",
        xlabel=f"crops by {report.crops.proposer}",
    )
    render.save(picture, file)
    say(f"Plot: {file}")


def _watch(
    library: Library,
    paths: Sequence[str],
    prune: bool | Literal["force"],
    videos: bool,
    as_json: bool,
) -> None:
    """Index again whenever something changes, until Ctrl-C; errors are said and stop nothing."""
    say(f"watching {', '.join(paths)} (Ctrl-C stops)")
    gone = 0
    for _ in changes(paths, library.path):
        try:
            report = library.index_sources(_sources(paths), videos=videos, prune=prune)
            texts = read_texts(library, None)
        except WordsightError as error:
            say(f"wordsight: {error}")
            continue
        if report.changed or report.gone != gone or (texts and texts.read):
            print_report(report, texts, library.place, as_json, next_step=False)
        gone = report.gone


def _interval(every: str | None) -> Every | None:
    from wordsight.indexing.footage import read_every

    try:
        return None if every is None else read_every(every)
    except ValueError:
        raise WordsightError(
            f"--every {every} is not an interval; give seconds (0.04 to 3600) or keyframes."
        ) from None
