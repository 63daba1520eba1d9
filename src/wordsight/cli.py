"""The verbs of the command line, nothing else.

Results go to standard output, everything about them (progress, notices, errors) to standard
error. Errors are one line and exit status 2.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordsight import __version__
from wordsight.errors import WordsightError

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search import Result

app = typer.Typer(
    name="wordsight",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find images by words, on your own machine.\n\n"
        "Index a folder once, then search it with words, with an image, or with both:\n\n"
        "\b\n"
        "  wordsight index ~/Pictures\n"
        '  wordsight search "a red car at night"'
    ),
)


class Runtime(str, Enum):
    """What runs the models."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    """The precision models run in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        envvar="WORDSIGHT_LIBRARY",
        help="The library's directory. Default: .wordsight here or in a folder above.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RuntimeOption = Annotated[Runtime, typer.Option(help="What runs the model.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Numbers the model computes with.")]


# -- index --------------------------------------------------------------------------------------


@app.command(
    epilog="Example:  wordsight index ~/Pictures   then   wordsight search --library ~/Pictures"
)
def index(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help='Folders, image files, .tar shards, or "cifar10".'),
    ],
    library: LibraryOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of a new library: a name of `wordsight models`, a directory, or a hub id.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove images that are gone from these paths.")
    ] = False,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Add images to a library, or bring it up to date.

    Files that have not changed are skipped, so run it again whenever you like. Images that
    cannot be read are listed at the end and stop nothing.
    """
    from wordsight.library import default_location

    place = library or default_location(paths[0])
    opened = _open_or_create(place, model, runtime, precision)
    with _progress("indexing", "images") as progress:
        report = opened.index(paths, prune=prune, progress=progress)
    if as_json:
        _print_json({**report.to_json(), "library": str(opened.path)})
    else:
        for failure in report.failed:
            _say(f"skipped {failure.path}: {failure.reason}")
        if not (report.indexed or report.reused or report.removed):
            print(f"Nothing to do: {_count(report.unchanged, 'image')} unchanged.")
        else:
            done = [
                f"{_count(report.indexed, 'image')} indexed",
                f"{report.unchanged} unchanged",
                *([f"{report.reused} reused (moved or copied)"] if report.reused else []),
                *([f"{report.removed} removed"] if report.removed else []),
                *([f"{len(report.failed)} skipped"] if report.failed else []),
            ]
            print(
                f"{', '.join(done)} in {report.seconds:.1f} s "
                f"({report.images_per_second:.0f} images/s)."
            )
        print(f"Library: {opened.path} ({_count(report.images, 'image')})")
    if report.failed and not report.images:
        raise WordsightError("none of the images could be read; nothing was indexed.")


def _open_or_create(
    place: Path, model: str | None, runtime: Runtime, precision: Precision
) -> Library:
    import wordsight
    from wordsight.library import Store

    exists = (place / "library.json").exists() or (place / ".wordsight/library.json").exists()
    if not exists:
        loaded = wordsight.load_model(
            model or "auto", runtime=runtime.value, precision=precision.value
        )
        return wordsight.create(place, loaded)
    store = Store.open(place)
    loaded = wordsight.load_model(
        model or store.model.source, runtime=runtime.value, precision=precision.value
    )
    return wordsight.open(place, loaded)


# -- search -------------------------------------------------------------------------------------


@app.command(
    epilog=(
        'Examples:  wordsight search "a dog"    '
        "wordsight search holiday.jpg    "
        'wordsight search \'"beach" + "sunset" - 0.5*"people"\'    '
        "wordsight search '@\"rex.jpg\" + \"snow\"'"
    )
)
def search(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="Words; an image file (more like this); or terms in double quotes, weighed and "
            'joined by + and - (@"file" is an image). Without it: an interactive prompt.',
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many images.", min=1)] = 10,
    library: LibraryOption = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the hits as a labelled picture.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show that picture: in the terminal if it can, else open it.")
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(metavar="X", help="A fixed cut-off on the cosine instead of the calibrated one."),
    ] = None,
    false_accept: Annotated[
        float,
        typer.Option(metavar="P", help="Share of unrelated queries that may be answered."),
    ] = 0.05,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Show the closest images even when none matches.")
    ] = False,
    rank_by: Annotated[
        str, typer.Option(metavar="score|z", help="Order by cosine, or by its normalised form.")
    ] = "score",
    crops: Annotated[
        bool, typer.Option("--crops/--no-crops", help="Let the best crop of an image count.")
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where the library's model is now, if it has moved."),
    ] = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Find the images that fit a prompt best.

    A query that nothing in the library fits gets "No match": the cut-off is calibrated on the
    library itself, so that at most --false-accept of unrelated queries are answered.
    """
    opened = _open_library(library, model, runtime, precision)
    if rank_by not in ("score", "z"):
        raise WordsightError(f"--rank-by takes score or z, not '{rank_by}'.")

    def answer(text: str) -> None:
        result = opened.search(
            _as_query(text),
            k,
            min_score=min_score,
            false_accept=false_accept,
            anyway=anyway,
            rank_by=rank_by,
            crops=crops,
        )
        _print_json(result.to_json()) if as_json else _print_result(result)
        if grid or show:
            _draw(opened, result, grid, show)

    if query is not None:
        answer(query)
    else:
        _loop(answer, f"{_count(len(opened), 'image')}, model {opened.store.model.name}")


def _as_query(text: str) -> str | Path:
    """A prompt that names an existing image file is that image."""
    from wordsight.images import IMAGE_SUFFIXES

    path = Path(text)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if path.is_file():
            return path
        if os.sep in text:
            raise WordsightError(f"{text}: there is no such file.")
    return text


def _print_result(result: Result) -> None:
    for notice in result.notices:
        _say(f"note: {notice}")
    if not result.match:
        print(f'No match for "{result.query}": {result.explanation()}.')
        if not result.hits:
            if result.top_score is not None:
                _say("(--anyway shows the closest images)")
            return
        print("The closest anyway:")
    for hit in result.hits:
        parts = [f"{hit.rank:>3}", f"{hit.score:.4f}"]
        if hit.z is not None:
            parts.append(f"z {hit.z:5.1f}")
        if hit.label:
            parts.append(f"{hit.label:<12}")
        parts.append(hit.path)
        if hit.view.box:
            x0, y0, x1, y1 = (round(v) for v in hit.view.box)
            parts.append(f"[{hit.view.label or hit.view.kind} at {x0},{y0},{x1},{y1}]")
        print("  ".join(parts))


def _draw(library: Library, result: Result, grid: Path | None, show: bool) -> None:
    from wordsight import render

    picture = library.grid(result)
    if grid:
        render.save(picture, grid)
        _say(f"grid: {grid}")
    if show:
        escape = render.in_terminal(picture)
        if escape:
            sys.stdout.write(escape + "\n")
        else:
            picture.show(title=f"wordsight: {result.query}")


def _loop(answer: Callable[[str], None], about: str) -> None:
    """Read prompts until ``exit``, ``quit`` or the end of input; errors do not end it."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive:
        print(f"wordsight {__version__}: {about}. Type a prompt; exit ends.")
    for line in _prompts(interactive):
        text = line.strip()
        if text.lower() in ("exit", "quit"):
            break
        if not text:
            continue
        try:
            answer(text)
        except WordsightError as error:
            _say(f"wordsight: {error}")
        sys.stdout.flush()


def _prompts(interactive: bool) -> Iterator[str]:
    if not interactive:
        yield from sys.stdin
        return
    from platformdirs import user_state_path
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History
    try:
        folder = user_state_path("wordsight", ensure_exists=True)
        history = FileHistory(str(folder / "history"))
    except OSError:
        history = InMemoryHistory()
    session: PromptSession[str] = PromptSession(history=history)
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


# -- info, models, compact ----------------------------------------------------------------------


@app.command(epilog="Example:  wordsight info --library ~/Pictures")
def info(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Say what a library holds and what it was made with."""
    from wordsight.library import Store, find

    facts = Store.open(library or find()).info()
    if as_json:
        _print_json(facts)
        return
    record = facts["model"]
    print(f"library   {facts['library']}")
    print(f"images    {facts['images']} ({_count(facts['views'], 'view')})")
    print(f"model     {record['name']} ({record['hash']}, {record['dim']} dimensions)")
    print(f"on disk   {_size(facts['bytes'])}, table version {facts['table_version']}")
    print(f"made      {facts['created']} by wordsight {facts['made_with']}, format {facts['format']}")


@app.command(epilog="Example:  wordsight models")
def models(as_json: JsonOption = False) -> None:
    """List the models that can be named, with size, licence and published accuracy."""
    from wordsight.models.registry import models_info

    rows = models_info()
    if as_json:
        _print_json({"models": rows})
        return
    header = ("NAME", "DIM", "DOWNLOAD", "CIFAR-10", "LICENCE", "HERE", "HUB REPOSITORY")
    table = [
        (
            row["name"],
            str(row["dim"] or ""),
            _size(row["bytes"]) if row["bytes"] else "in the package",
            f"{row['cifar10']:.1f} %" if row["cifar10"] else "",
            row["licence"] or "",
            "yes" if row["cached"] else "no",
            row["repository"] or "",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (header, *table)) for i in range(len(header))]
    for line in (header, *table):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command(epilog="Example:  wordsight compact --library ~/Pictures")
def compact(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Merge a library's small files and drop its old versions."""
    from wordsight.api import Library
    from wordsight.library import Store, find

    opened = Library(Store.open(library or find()))
    before = opened.info()["bytes"]
    opened.compact()
    after = opened.info()["bytes"]
    if as_json:
        _print_json({"library": str(opened.path), "bytes_before": before, "bytes_after": after})
    else:
        print(f"{opened.path}: {_size(before)} before, {_size(after)} now.")


# -- shared -------------------------------------------------------------------------------------


def _open_library(
    place: Path | None, model: str | None, runtime: Runtime, precision: Precision
) -> Library:
    """Open a library with its model, where the user gave one or where it came from."""
    import wordsight
    from wordsight.library import Store, find

    store = Store.open(place or find())
    loaded = wordsight.load_model(
        model or store.model.source, runtime=runtime.value, precision=precision.value
    )
    return wordsight.open(store.path, loaded)


@contextmanager
def _progress(title: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f} {unit}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _say(text: str) -> None:
    """A line for the person, never part of the result."""
    print(text, file=sys.stderr)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _version(value: bool) -> None:
    if value:
        print(f"wordsight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status: 0 done, 2 an error that the message explains."""
    warnings.showwarning = lambda message, *_args, **_kw: _say(f"note: {message}")  # type: ignore[assignment]
    try:
        app(args=list(arguments) if arguments is not None else None)
    except WordsightError as error:
        _say(f"wordsight: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say("wordsight: stopped; what was done so far is kept.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) went away; point stdout elsewhere so that exit is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
