"""``wordsight index``."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from wordsight.cli.app import (
    JsonOption,
    LibraryOption,
    Precision,
    PrecisionOption,
    Runtime,
    RuntimeOption,
    app,
    examples,
    given,
)
from wordsight.cli.changes import changes, check
from wordsight.cli.console import check_pictures, count, nearby, print_json, progress_bar, say
from wordsight.cli.opening import load, open_or_create, open_place
from wordsight.cli.options import DeviceOption
from wordsight.cli.texts import KEPT, print_texts, read_texts
from wordsight.errors import WordsightError

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.models import ClipModel
    from wordsight.report import CropReport, IndexReport
    from wordsight.sources import Source
    from wordsight.text import TextReport
    from wordsight.video.sampling import Every


_TINY = 100
"""A rate of fewer images says more about starting up."""


class _Index(TyperCommand):
    """``--prune=force`` beside ``--prune``, which takes no value: the next word is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
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
        "wordsight index photos scans.tar --library mine.lib --model clip-vit-b32",
        "wordsight index --remodel --library ~/Pictures --model clip-vit-b16",
    ),
)
def index(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Folders, image files, .tar shards ('{000..099}.tar' names many), Parquet or "
            'Arrow tables with a column of images, or "cifar10".',
        ),
    ] = None,
    library: LibraryOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            parser=given("--model"),
            help="Model of a new library or for --remodel: a name of `wordsight models`, a "
            "directory, or a hub id.",
        ),
    ] = None,
    crops: Annotated[
        str | None,
        typer.Option(
            metavar="none|maskrcnn|tiles|NAME",
            parser=given("--crops"),
            help="Also embed regions of each image, found by a detector or cut as tiles. "
            "Default: same as the last time this library was indexed.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Skip what matches, as in .gitignore; may be repeated. The library remembers "
            "the patterns until you give others ('' clears them).",
        ),
    ] = None,
    videos: Annotated[
        bool,
        typer.Option("--videos/--no-videos", help="Index frames of videos too (extra `video`)."),
    ] = True,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS|keyframes",
            parser=given("--every"),
            help="How often a frame of a video is looked at; still ones are skipped. Default: as "
            "the last time, at first 1.",
        ),
    ] = None,
    text: Annotated[
        bool | None,
        typer.Option(
            "--text/--no-text",
            help="Also read the text in the images, for searches (needs wordsight[ocr]; 1 to 5 s "
            "of processor time each). Default: same as last time.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=given("--plot"), help="Save a plot of crops per image."
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove images that are gone from these paths or now excluded. Removes nothing if "
            "a drive may be missing or more than half are gone; --prune=force does.",
        ),
    ] = False,
    prune_force: Annotated[bool, typer.Option("--prune-force", hidden=True)] = False,
    undo_prune: Annotated[
        bool, typer.Option("--undo-prune", help="Restore images pruned since the last `compact`.")
    ] = False,
    remodel: Annotated[
        bool,
        typer.Option(
            "--remodel",
            help="Embed all images of the library again with another model (--model). The library "
            "can be searched meanwhile, and switches when all images are done.",
        ),
    ] = False,
    recheck: Annotated[
        bool,
        typer.Option(
            "--recheck", help="Read all files again, even if their size and time have not changed."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on until Ctrl-C, and index what changes (needs wordsight[watch])."
        ),
    ] = False,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add images to a library, or bring it up to date.

    Files that have not changed are skipped, so you can run it again at any time. Images that
    cannot be read are listed at the end; the rest are indexed. RAW files and other kinds that are
    not read are counted. Of videos, frames are indexed.

    Skipped: hidden files; the folders #recycle, @Recycle, @eaDir, #snapshot, .thumbnails and
    lost+found; previews in *.photoslibrary; a RAW file beside its JPEG or HEIC; files named in
    a .wordsightignore file or by --exclude.
    """
    from wordsight.errors import ModelError, SourceError
    from wordsight.library import default_location
    from wordsight.sources import expand_braces

    pruning: bool | Literal["force"] = "force" if prune_force else prune
    if undo_prune:
        return _undo_prune(library, paths, as_json)
    if remodel:
        if crops or exclude or recheck or plot:
            raise typer.BadParameter(
                "--remodel does not go with --crops, --exclude, --recheck or --plot."
            )
        opened = _existing(library, paths)
        return _remodel(opened, model, runtime, precision, prune=pruning, as_json=as_json)
    if not paths:
        raise typer.BadParameter("name a folder or images to index.")
    interval = _interval(every)
    check_pictures(plots=[plot])
    if watch:
        check(paths)
    if text:
        from wordsight.models.ocr import Reader

        Reader()  # whether it is installed is said now
    sources = [open_place(one) for path in paths for one in expand_braces(path)]
    place = library or default_location(paths[0])
    opened, fresh = open_or_create(place, model, runtime, precision)
    try:
        if fresh and precision == Precision.int8:
            _say_int8(opened.model, sources)
        with progress_bar("indexing", "images") as progress:
            report = opened.index_sources(
                sources,
                crops=crops,
                exclude=exclude,
                videos=videos,
                every=interval,
                prune=pruning,
                recheck=recheck,
                progress=progress,
            )
    except (ModelError, SourceError):
        opened.store.refresh()
        if fresh and not len(opened):  # an empty library would be found later, and puzzle
            shutil.rmtree(opened.path, ignore_errors=True)
        elif fresh:
            say(KEPT)
        raise
    except KeyboardInterrupt:
        say(KEPT)
        raise
    unusable = report.failed and not report.images
    texts = None if unusable else read_texts(opened, text)
    if fresh and unusable:
        shutil.rmtree(opened.path, ignore_errors=True)
    _print_report(report, texts, opened.path, as_json)
    if unusable:
        raise WordsightError("no image could be read, so nothing was indexed.")
    if plot and report.crops and report.crops.per_image:
        from wordsight import render

        picture = render.histogram(
            report.crops.per_image,
            title="Crops per image",
            xlabel=f"crops by {report.crops.proposer}",
        )
        render.save(picture, plot)
        say(f"Plot: {plot}")
    elif plot:
        say("No plot: this run made no crops. To make some, add --crops tiles or maskrcnn.")
    if watch:
        _watch(opened, paths, pruning, as_json)


def _watch(
    library: Library, paths: Sequence[str], prune: bool | Literal["force"], as_json: bool
) -> None:
    """Index again whenever something changes, until Ctrl-C; errors are said and stop nothing."""
    say(f"watching {', '.join(paths)} (Ctrl-C stops)")
    for _ in changes(paths, library.path):
        try:
            report = library.index_sources([open_place(path) for path in paths], prune=prune)
            texts = read_texts(library, None)
        except WordsightError as error:
            say(f"wordsight: {error}")
            continue
        if report.changed or (texts and texts.read):
            _print_report(report, texts, library.path, as_json)


def _print_report(
    report: IndexReport, texts: TextReport | None, place: Path, as_json: bool
) -> None:
    if as_json:
        also = {"text": texts.to_json()} if texts else {}
        print_json({**report.to_json(), **also, "library": str(place)})
        sys.stdout.flush()
        return
    for failure in report.failed:
        say(f"Skipped {nearby(failure.path)}: {failure.reason}")
    if report.images or not report.failed:
        _print_indexed(report, place)
        if texts:
            print_texts(texts)
        sys.stdout.flush()  # whoever watches in a pipe reads it now


def _interval(every: str | None) -> Every | None:
    from wordsight.footage import read_every

    try:
        return None if every is None else read_every(every)
    except ValueError:
        raise WordsightError(
            f"--every {every} is no interval; give seconds (0.04 to 3600) or keyframes."
        ) from None


def _existing(place: Path | None, paths: Sequence[str] | None) -> Library:
    """The library that is named, or that of these paths, or of the current folder."""
    from wordsight.api import Library
    from wordsight.library import Store, default_location, find

    return Library(Store.open(place or (default_location(paths[0]) if paths else find())))


def _undo_prune(place: Path | None, paths: Sequence[str] | None, as_json: bool) -> None:
    library = _existing(place, paths)
    restored = library.undo_prune()
    if as_json:
        print_json({"restored": restored, "images": len(library), "library": str(library.path)})
    else:
        print(f"{count(restored, 'image')} restored.")
        print(f"Library: {nearby(str(library.path))} ({count(len(library), 'image')})")


def _remodel(
    library: Library,
    name: str | None,
    runtime: Runtime,
    precision: Precision,
    *,
    prune: bool | Literal["force"],
    as_json: bool,
) -> None:
    from wordsight.remodel import check_auto, indexed_sources

    store, before = library.store, library.store.record["model"]
    model = load(name or "auto", runtime, precision)
    if name in (None, "auto"):
        check_auto(store, model)
    if precision == Precision.int8 and model.hash != store.model.hash:
        _say_int8(model, indexed_sources(store.entries()))
    try:
        with progress_bar("embedding", "images") as progress:
            report = library.remodel(model, prune=prune, progress=progress)
    except KeyboardInterrupt:
        say(KEPT)
        raise
    if as_json:
        counts = report.to_json() if report else {"images": len(library)}
        facts = {"model": store.record["model"], "replaced": before if report else None}
        print_json({**counts, **facts, "library": str(library.path)})
        return
    if report is None:
        print(f"Nothing to do: {nearby(str(library.path))} already uses {before['name']}.")
        return
    for failure in report.failed:
        say(f"Left out {nearby(failure.path)}: {failure.reason}")
    parts = [
        f"{count(report.images, 'image')} embedded again in {report.seconds:.1f} s",
        *([f"{report.unchanged} of them by an earlier run"] if report.unchanged else []),
        *([f"{report.removed} left out"] if report.removed else []),
    ]
    print(f"{', '.join(parts)}.")
    if report.crops and report.crops.per_image:
        _print_crops(report.crops)
    place = nearby(str(library.path))
    print(f"Library: {place} (model {store.model.name}, before {before['name']})")


def _say_int8(model: ClipModel, sources: Sequence[Source]) -> None:
    """What int8 changes, before anything is indexed with it."""
    from wordsight.indexing import check_int8

    check = check_int8(model, sources)
    say(
        f"int8: {check.recall:.0%} of the ten nearest images are the same as with fp32 "
        f"(checked on {check.images}; cosine {check.cosine:.4f})"
    )


def _print_indexed(report: IndexReport, place: Path) -> None:
    if not report.changed:
        print(f"Nothing to do: {count(report.unchanged, 'image')} unchanged.")
    else:
        done = [
            f"{count(report.indexed, 'image')} indexed",
            f"{report.unchanged} unchanged",
            *([f"{report.relabelled} of them with a new label"] if report.relabelled else []),
            *([f"{report.described} of them now with metadata"] if report.described else []),
            *([f"{report.reused} reused (moved or copied)"] if report.reused else []),
            *([f"{report.removed} removed"] if report.removed else []),
            *([f"{len(report.failed)} skipped"] if report.failed else []),
        ]
        rate = f" ({report.images_per_second:.0f} images/s)" if report.indexed >= _TINY else ""
        print(f"{', '.join(done)} in {report.seconds:.1f} s{rate}.")
    if report.not_read:
        others = report.others()
        print(f"{others[0].upper()}{others[1:]}.")
    if report.crops and report.crops.per_image:
        _print_crops(report.crops)
    print(f"Library: {nearby(str(place))} ({count(report.images, 'image')})")
    if report.indexed:
        say(f"Next, try: {_next_step(place)}")


def _next_step(library: Path) -> str:
    """A search of this library, with no more options than it takes from the current folder."""
    from wordsight.errors import LibraryError
    from wordsight.library import find

    command = 'wordsight search "a dog"'
    with contextlib.suppress(LibraryError):
        if find().resolve() == library.resolve():
            return command
    named = library.parent if library.name == ".wordsight" else library
    return f"{command} --library {shlex.quote(nearby(str(named)))}"


def _print_crops(crops: CropReport) -> None:
    facts = crops.to_json()
    names = ", ".join(f"{name} {count}" for name, count in list(facts["labels"].items())[:8])
    print(
        f"Crops by {facts['proposer']}: {facts['crops']:,} in {count(facts['images'], 'image')} "
        f"({facts['min']} to {facts['max']} per image, median {facts['median']:g})"
        + (f"\n  labels: {names}" if names else "")
    )
