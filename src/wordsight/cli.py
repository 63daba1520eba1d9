"""The verbs of the command line, nothing else.

Results go to standard output, everything about them (progress, notices, errors) to standard
error. Errors are one line and exit status 2.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from wordsight import __version__
from wordsight.errors import WordsightError, reason

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.classify import Classification, Classifier
    from wordsight.evaluate import Evaluation
    from wordsight.indexing import CropReport, IndexReport
    from wordsight.models import ClipModel
    from wordsight.search import Result
    from wordsight.sources import Item, Source

_STARTED = time.perf_counter()

# After each matrix product numpy's threads would spin for tens of milliseconds, in the way of what
# comes next: a search of a million views takes 18 ms with this and 31 without. Read when numpy is
# imported, which is after this module.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

STOPPED = 130  # by Ctrl-C: 128 and the number of the signal


def _examples(*lines: str) -> str:
    """The end of a help text: commands, a line each, which are not wrapped."""
    return "\n".join(
        ("\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {x}" for x in lines))
    )


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
    int8 = "int8"


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
RuntimeOption = Annotated[
    Runtime, typer.Option(help="What runs the model; auto: OpenVINO on a CPU, if it is installed.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="Numbers that the model computes with; auto: bf16 where the CPU has it, else fp32."
    ),
]
# Of a new model; the model of a library is written in it, so a verb on one asks where it is now.
ModelOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="A name of `wordsight models`, a directory, or a hub id."),
]
MovedModelOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Where the library's model is now, if it has moved."),
]


# -- index --------------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "wordsight index ~/Pictures",
        "wordsight index ~/Pictures --crops tiles",
        "wordsight index photos scans.tar --library mine.lib --model clip-vit-b32",
    )
)
def index(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help='Folders, image files, .tar shards, or "cifar10".'),
    ],
    library: LibraryOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of a new library: a name of `wordsight models`, a directory, or a hub id.",
        ),
    ] = None,
    crops: Annotated[
        str | None,
        typer.Option(
            metavar="none|maskrcnn|tiles|NAME",
            help="Embed regions of each image too, found by a detector or as tiles. "
            "Default: as the library was last indexed.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write crops per image as a picture.")
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
    from wordsight.errors import ModelError, SourceError
    from wordsight.library import default_location
    from wordsight.sources import open_source

    _check_pictures(plots=[plot])
    sources = [open_source(path) for path in paths]
    place = library or default_location(paths[0])
    opened, fresh = _open_or_create(place, model, runtime, precision)
    try:
        if fresh and precision == Precision.int8:
            _say_int8(opened, sources)
        with _progress("indexing", "images") as progress:
            report = opened.index_sources(sources, crops=crops, prune=prune, progress=progress)
    except (ModelError, SourceError):
        if fresh:  # an empty library would be found later, and puzzle
            shutil.rmtree(opened.path, ignore_errors=True)
        raise
    unusable = report.failed and not report.images
    if fresh and unusable:
        shutil.rmtree(opened.path, ignore_errors=True)
    if as_json:
        _print_json({**report.to_json(), "library": str(opened.path)})
    else:
        for failure in report.failed:
            _say(f"skipped {failure.path}: {failure.reason}")
    if unusable:
        raise WordsightError("none of the images could be read; nothing was indexed.")
    if not as_json:
        _print_indexed(report, opened.path)
    if plot and report.crops:
        from wordsight import render

        picture = render.histogram(
            report.crops.per_image,
            title="Crops per image",
            xlabel=f"crops by {report.crops.proposer}",
        )
        render.save(picture, plot)
        _say(f"plot: {plot}")


def _say_int8(library: Library, sources: Sequence[Source]) -> None:
    """What int8 changes, before anything is indexed with it."""
    from wordsight.indexing import check_int8

    check = check_int8(library.model, sources)
    _say(
        f"int8: of the ten images nearest to each of {check.images}, {check.recall:.2f} are those "
        f"of fp32 (cosine {check.cosine:.4f})"
    )


def _print_indexed(report: IndexReport, place: Path) -> None:
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
    if report.crops and report.crops.per_image:
        _print_crops(report.crops)
    print(f"Library: {place} ({_count(report.images, 'image')})")


def _print_crops(crops: CropReport) -> None:
    facts = crops.to_json()
    names = ", ".join(f"{name} {count}" for name, count in list(facts["labels"].items())[:8])
    print(
        f"Crops by {facts['proposer']}: {facts['crops']:,} in {_count(facts['images'], 'image')} "
        f"(min {facts['min']}, median {facts['median']:g}, max {facts['max']} an image); "
        f"{facts['propose_seconds']:.1f} s proposing, {facts['encode_seconds']:.1f} s encoding"
        + (f"\n  labels: {names}" if names else "")
    )


def _open_or_create(
    place: Path, model: str | None, runtime: Runtime, precision: Precision
) -> tuple[Library, bool]:
    """The library, and whether it was made now."""
    import wordsight
    from wordsight.library import Store

    exists = (place / "library.json").exists() or (place / ".wordsight/library.json").exists()
    if not exists:
        loaded = _load(model or "auto", runtime, precision)
        return wordsight.create(place, loaded), True
    store = Store.open(place)
    loaded = _load(model or store.model.source, runtime, precision)
    return wordsight.open(place, loaded), False


# -- search -------------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        'wordsight search "a dog"',
        "wordsight search holiday.jpg",
        'wordsight search \'"beach" + "sunset" - 0.5*"people"\'',
        'wordsight search \'@"rex.jpg" + "snow"\' --grid hits.png',
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
    k: Annotated[
        int, typer.Option("-k", metavar="N", help="How many images, at most.", min=1)
    ] = 10,
    library: LibraryOption = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the hits as a labelled picture.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show that picture: in the terminal if it can, else open it."),
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="A fixed cut-off on the cosine instead of the calibrated one."
        ),
    ] = None,
    false_accept: Annotated[
        float,
        typer.Option(metavar="P", help="Share of unrelated queries that may be answered."),
    ] = 0.05,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Show the closest images even when none matches.")
    ] = False,
    rank_by: Annotated[
        Literal["auto", "score", "lift", "z"],
        typer.Option(
            help="Order by cosine (score), by how far it lies above what unrelated phrases get "
            "(lift), or by that in deviations (z). auto: lift where crops count, else cosine."
        ),
    ] = "auto",
    crops: Annotated[
        bool | None,
        typer.Option(
            "--crops/--no-crops",
            help="Let the best crop of an image count. Default: if it has any.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the ranking without and with crops.")
    ] = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="Say where the time went, on standard error.")
    ] = False,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Find the images that fit a prompt best.

    A query that nothing in the library fits gets "No match": the cut-off is calibrated on the
    library itself, so that at most --false-accept of unrelated queries are answered.
    """
    _check_pictures([grid])
    opened = _open_library(library, model, runtime, precision)

    if (crops or compare) and not opened.has_crops:
        raise WordsightError(
            f"the library {opened.path} has no crops; add them with: "
            "wordsight index FOLDER --crops maskrcnn (or --crops tiles)"
        )

    def ask(text: str, with_crops: bool) -> Result:
        return opened.search(
            _as_query(text),
            k,
            min_score=min_score,
            false_accept=false_accept,
            anyway=anyway,
            rank_by=rank_by,
            crops=with_crops,
        )

    def answer(text: str) -> None:
        result = ask(text, crops is not False)
        if compare:
            baseline = ask(text, False)
            _print_comparison(baseline, result, as_json)
        elif as_json:
            _print_json(result.to_json())
        else:
            _print_result(result)
        if grid or show:
            picture = opened.comparison(baseline, result) if compare else opened.grid(result)
            _show(picture, result.query, grid, show)
        if timings:
            _say_timings(result.timings_ms)

    if query is not None:
        answer(query)
    else:
        _loop(answer, f"{_count(len(opened), 'image')}, model {opened.store.model.name}")


def _say_timings(laps: dict[str, float]) -> None:
    """Where the time of one search went; ``load`` and ``encode`` run side by side when cold."""
    meaning = {
        "encode": "query to vector, the model's loading with it",
        "load": "vectors and statistics not yet in memory by then",
        "score": "cosines, fusion, normalisation",
        "decide": "match or no match",
        "hits": "ranking, and what is known of the hits",
    }
    for name, value in laps.items():
        _say(f"{name:<8} {value:>9.1f} ms   {meaning.get(name, '')}".rstrip())
    since = (time.perf_counter() - _STARTED) * 1000
    _say(f"{'process':<8} {since:>9.1f} ms   since the command's modules were imported")


def _as_query(text: str) -> str | Path:
    """A prompt that names an image file is that image."""
    from wordsight.images import IMAGE_SUFFIXES

    path = Path(text.strip())
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if path.is_file():
            return path
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


def _print_comparison(baseline: Result, crop_aware: Result, as_json: bool) -> None:
    """Both rankings, and for each hit of the second where it was in the first."""
    old = {hit.id: hit.rank for hit in baseline.hits}
    if as_json:
        _print_json(
            {
                "query": crop_aware.query,
                "baseline": baseline.to_json(),
                "crop_aware": crop_aware.to_json(),
                "moved": {
                    hit.id: {"from": old.get(hit.id), "to": hit.rank}
                    for hit in crop_aware.hits
                    if old.get(hit.id) != hit.rank
                },
            }
        )
        return
    print("Baseline (whole images):")
    _print_result(baseline)
    print("Crop-aware (max fusion):")
    _print_result(crop_aware)
    kept = [hit for hit in crop_aware.hits if hit.id in old]
    up = sum(old[hit.id] > hit.rank for hit in kept)
    down = sum(old[hit.id] < hit.rank for hit in kept)
    new = len(crop_aware.hits) - len(kept)
    print(f"Moved: {new} new among the {len(crop_aware.hits)}, {up} up, {down} down.")


def _show(picture: Any, title: str, grid: Path | None, show: bool) -> None:
    from wordsight import render

    if grid:
        render.save(picture, grid)
        _say(f"grid: {grid}")
    if show:
        escape = render.in_terminal(picture)
        if escape:
            sys.stdout.write(escape + "\n")
        else:
            picture.show(title=f"wordsight: {title}")


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


# -- serve --------------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "wordsight serve",
        "wordsight serve --library photos/.wordsight --port 9000",
        "wordsight serve --allow-index ~/Pictures",
        "wordsight serve --host 0.0.0.0 --token SECRET",
    )
)
def serve(
    library: LibraryOption = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Port; 0 picks a free one.", min=0, max=65535)
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="WORDSIGHT_TOKEN",
            metavar="TEXT",
            help="A secret that requests must carry. Without it, one is made up and printed "
            "for any --host that others can reach.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Another host name that browsers may call this server by "
            "(may be given several times).",
        ),
    ] = None,
    allow_index: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A folder that may be indexed from the page (may be given several times).",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Serve a web page and an HTTP API over a library, until Ctrl-C.

    Needs the extra web: pip install "wordsight[web]". The API is described at
    /api/v1/openapi.json.
    """
    try:
        from wordsight.web.app import create_app
        from wordsight.web.guard import LOOPBACK
        from wordsight.web.server import listen
        from wordsight.web.server import serve as run
    except ImportError as error:
        raise WordsightError(
            f'the web page needs the package {error.name}: pip install "wordsight[web]"'
        ) from None
    import secrets
    import socket

    opened = _open_library(library, model, runtime, precision)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise WordsightError(
            f"cannot listen on {host}:{port} ({reason(error)}); choose another --port."
        ) from None
    if host not in LOOPBACK and token is None:
        token = secrets.token_urlsafe(24)
    hosts = LOOPBACK | {host.lower(), *(n.lower() for n in name or ())}
    if host not in LOOPBACK:
        hosts |= {socket.gethostname().lower(), *_own_addresses()}
    web = create_app(opened, hosts=hosts, token=token, allow_index=allow_index or ())
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    told = {"url": url + web.state.guard.login_path, "api": url + "/api/v1", "token": token}
    if as_json:
        _print_json(told)
    else:
        print(f"{_count(len(opened), 'image')} of {opened.path}")
        print(f"open {told['url']}" + ("  (this link works once)" if token else ""))
        if token:
            print(f"token for programs: {token}")
    sys.stdout.flush()
    run(web, listener)


def _own_addresses() -> set[str]:
    import socket

    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return set()


# -- classify -----------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        'wordsight classify photo.jpg --labels "dog,cat,car"',
        "wordsight classify photos/ --labels imagenet --output results.csv",
    )
)
def classify(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="Image files, folders, .tar shards, - (stdin)."),
    ],
    labels: Annotated[
        str,
        typer.Option(
            metavar="LABELS",
            help='cifar10, caltech101, imagenet, a file with a label a line, or "dog,cat,car".',
        ),
    ] = "cifar10",
    top: Annotated[
        int, typer.Option(metavar="N", help="How many labels to name for an image.", min=1)
    ] = 3,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="How a label is put into words; {} is the label.")
    ] = "a photo of a {}.",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Put labels into words in many ways and average.")
    ] = False,
    closed: Annotated[bool, typer.Option("--closed", help='Never answer "none of these".')] = False,
    temperature: Annotated[
        str,
        typer.Option(
            metavar="T|FOLDER",
            help="Makes confidences right: a number that divides the logits, or a folder of class "
            "folders to fit it on.",
        ),
    ] = "1",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a .csv or .jsonl file instead.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture of the first 20 images.")
    ] = None,
    model: ModelOption = "auto",
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Say which labels fit images best.

    An image that no label fits better than neutral phrases do gets "none of these". Where the
    images lie in class folders named like the labels, the accuracy is printed too.
    """
    from wordsight.classify import ENSEMBLE, Classifier, encode_items, fit_on
    from wordsight.sources import open_source

    if output and output.suffix.lower() not in (".csv", ".jsonl"):
        raise WordsightError(f"{output}: write results to a .csv or a .jsonl file.")
    _check_pictures([grid])
    items = [item for place in images for item in _items_of(place)]
    loaded = _load(model, runtime, precision)
    classifier = Classifier(
        loaded, labels, templates=ENSEMBLE if ensemble else (template,), closed=closed
    )
    try:
        classifier.temperature = _positive(float(temperature))
    except ValueError:
        classifier.temperature = fit_on(classifier, open_source(temperature).items())
        _say(f"temperature fitted on {temperature}: {classifier.temperature:.3f}")

    rows: list[dict[str, Any]] = []
    good: list[tuple[Item, Any]] = []
    with _progress("classifying", "images") as progress:
        for done, (item, vector) in enumerate(encode_items(loaded, items), start=1):
            row: dict[str, Any] = {"path": item.path}
            if isinstance(vector, str):
                row["error"] = vector
                _say(f"skipped {item.path}: {vector}")
            else:
                good.append((item, vector))
                judged = classifier.judge(vector[None], top)[0]
                row |= judged.to_json()
                if not (output or as_json):
                    print(_classified(item.path, judged))
            rows.append(row)
            if progress:
                progress(done, len(items))
    if output:
        (_write_table if output.suffix.lower() == ".csv" else _write_lines)(output, rows)
        _say(f"{_count(len(rows), 'image')} written to {output}")
    elif as_json:
        _print_json(rows)
    if not good:
        raise WordsightError("none of the images could be read.")
    _report_accuracy(classifier, good)
    if grid:
        _draw_classified(classifier, good[:20], grid)


def _positive(value: float) -> float:
    if not value > 0:
        raise WordsightError(f"the temperature must be above 0, not {value:g}.")
    return value


def _items_of(place: str) -> list[Item]:
    """The images at a path, a file:// URL, or - for the bytes on standard input."""
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    from wordsight.errors import SourceError
    from wordsight.sources import Item, open_source

    if place == "-":
        data = sys.stdin.buffer.read()
        return [Item("0" * 16, "-", len(data), 0, None, "-", lambda _item: data)]
    url = urlparse(place)
    if url.scheme == "file":
        place = url2pathname(url.path)
    elif url.scheme in ("http", "https"):
        raise SourceError(f"{place}: only local files are opened; download the image first.")
    items = open_source(place).items()
    if not items:
        raise SourceError(f"no image found in {place}.")
    return items


def _classified(path: str, judged: Classification) -> str:
    candidates = "  ".join(f"{c.label} {c.confidence:.1%}" for c in judged.top)
    return (
        f"{path}:  {'none of these (' + candidates + ')' if judged.none_of_these else candidates}"
    )


def _write_lines(output: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines."""
    with _file(output) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_table(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Classifications as CSV: path, none_of_these, label1, confidence1, ..., error."""
    import csv

    most = max((len(row.get("top", ())) for row in rows), default=0)
    numbered = [f"{name}{i}" for i in range(1, most + 1) for name in ("label", "confidence")]
    with _file(output) as file:
        table = csv.writer(file)
        table.writerow(["path", "none_of_these", *numbered, "error"])
        for row in rows:
            found = [value for c in row.get("top", ()) for value in (c["label"], c["confidence"])]
            found += [""] * (2 * most - len(found))
            table.writerow(
                [row["path"], row.get("none_of_these", ""), *found, row.get("error", "")]
            )


@contextmanager
def _file(output: Path) -> Iterator[TextIO]:
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise WordsightError(f"{output} cannot be written: {reason(error)}.") from None


def _report_accuracy(classifier: Classifier, good: Sequence[tuple[Item, Any]]) -> None:
    """Where true labels are known, say how right the labels are."""
    import numpy as np

    from wordsight.evaluate import classification_report

    place = {label: i for i, label in enumerate(classifier.labels)}
    known = [(vector, place[item.label]) for item, vector in good if item.label in place]
    if not known:
        return
    report = classification_report(
        classifier.confidences(np.stack([vector for vector, _ in known])),
        np.array([truth for _, truth in known]),
    )
    _say(
        f"{_count(report.images, 'image')} with a known label: accuracy {report.accuracy:.4f}, "
        f"top-3 {report.top3_accuracy:.4f}, expected calibration error {report.ece:.4f}"
    )


def _draw_classified(
    classifier: Classifier, good: Sequence[tuple[Item, Any]], output: Path
) -> None:
    import numpy as np

    from wordsight import render
    from wordsight.images import open_image

    judged = classifier.judge(np.stack([vector for _, vector in good]))
    rows = [
        render.Classified(
            open_image(item.read()),
            [(c.label, c.confidence) for c in found.top],
            truth=item.label if item.label in classifier.labels else None,
            none_of_these=found.none_of_these,
        )
        for (item, _), found in zip(good, judged, strict=True)
    ]
    render.save(render.classification_montage(rows, title="Top labels"), output)
    _say(f"grid: {output}")


# -- evaluate -----------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "wordsight evaluate --library photos --queries labels",
        "wordsight evaluate --library coco --queries captions.json --plot recall.png",
    )
)
def evaluate(
    queries: Annotated[
        str,
        typer.Option(
            metavar="QUERIES",
            help="labels (those of the library), a folder or .tar with class folders, a COCO "
            "captions or instances .json, or a .csv of query,relevant-id.",
        ),
    ],
    library: LibraryOption = None,
    k: Annotated[
        str, typer.Option("--k", metavar="K,K,...", help="The K of Recall@K and the others.")
    ] = "1,5,10",
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="How a label is put into words; several are averaged."),
    ] = None,
    synonyms: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='More words for labels, a line each: "car: auto, sedan".'
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Recall@K by method as a picture.")
    ] = None,
    per_query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a .jsonl file, a query a line.")
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the worst queries and what came up as a picture."),
    ] = None,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a library is searched.

    Recall@K, MRR, mAP, nDCG and precision, a row a method, with 95 % intervals.
    """
    from wordsight import render
    from wordsight.evaluate import evaluate as run
    from wordsight.evaluate import load_judgements

    try:
        ks = sorted({int(part) for part in k.split(",")})
    except ValueError:
        ks = []
    if not ks or ks[0] < 1:
        raise WordsightError(f"--k takes whole numbers from 1 with commas (1,5,10), not '{k}'.")
    _check_pictures([failures], plots=[plot])
    opened = _open_library(library, model, runtime, precision)
    judgements = load_judgements(
        opened,
        queries,
        templates=template,
        synonyms=_read_synonyms(synonyms) if synonyms else None,
    )
    if judgements.missing:
        _say(
            f"note: {len(judgements.missing)} judged ids or labels are not in the library "
            f"(first: {', '.join(judgements.missing[:5])})"
        )
    evaluation = run(opened, judgements, ks=ks)
    if as_json:
        _print_json(evaluation.to_json())
    else:
        _print_evaluation(evaluation, ks)
    if plot:
        recall = {
            name: {n: (e.value, e.low, e.high) for n in ks for e in [values[f"recall@{n}"]]}
            for name, values in evaluation.methods.items()
        }
        render.save(render.recall_plot(recall, title="Recall@K"), plot)
        _say(f"plot: {plot}")
    if per_query:
        _write_lines(per_query, evaluation.per_query())
        _say(f"per query: {per_query}")
    if failures:
        render.save(_failures(opened, evaluation), failures)
        _say(f"failures: {failures}")


def _read_synonyms(path: Path) -> dict[str, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WordsightError(f"the synonyms {path} cannot be read: {reason(error)}.") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        label, colon, words = line.partition(":")
        if not colon:
            raise WordsightError(f'{path}, line {number}: write "label: word, word".')
        found[label.strip()] = [word.strip() for word in words.split(",") if word.strip()]
    return found


def _print_evaluation(evaluation: Evaluation, ks: Sequence[int]) -> None:
    """A table, a row per method: the figure and half the width of its 95 % interval."""
    keys = [*(f"recall@{n}" for n in ks), "mrr", "map", f"ndcg@{ks[-1]}", f"precision@{ks[-1]}"]
    methods = dict(evaluation.methods)
    if evaluation.image_to_text:
        methods["image to text"] = evaluation.image_to_text
    width = max(len(name) for name in methods)
    print(
        f"{_count(len(evaluation.judgements.texts), 'query').replace('querys', 'queries')}, "
        f"{_count(evaluation.gallery, 'image')}; 95 % intervals by bootstrap over queries"
    )
    print(f"{'':<{width}}  " + "  ".join(f"{key:>19}" for key in keys) + "  median rank")
    for name, values in methods.items():
        cells = [
            f"{values[key].value:.3f} [{values[key].low:.3f},{values[key].high:.3f}]"
            for key in keys
        ]
        rank = values["median_rank"].value
        print(f"{name:<{width}}  " + "  ".join(f"{cell:>19}" for cell in cells) + f"  {rank:>11g}")
    for size, part in evaluation.by_size.items():
        print(f"\nObjects of {size} of the image's area:")
        _print_evaluation(part, ks)


def _failures(library: Library, evaluation: Evaluation) -> Any:
    """The queries with the lowest average precision, and the images that came up instead."""
    from wordsight import render
    from wordsight.library import id_from_int
    from wordsight.search import nearest

    judgements = evaluation.judgements
    ids = library.store.snapshot().ids
    tiles = []
    for place in evaluation.worst("baseline", 6):
        right = {id_from_int(ids[i]) for i in judgements.relevant[place]}
        tiles += [
            render.Tile(
                library.image(hit),
                [judgements.texts[place], f"{hit.rank}.  {hit.score:.3f}  {hit.label or ''}"],
                highlight="good" if hit.id in right else "bad",
            )
            for hit in nearest(library.store, judgements.vectors[place], k=5)
        ]
    return render.grid(tiles, title="The worst queries, and what came up", columns=5, cell=140)


# -- demo ---------------------------------------------------------------------------------------


@app.command(epilog=_examples("wordsight demo --out demo"))
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures are written.")] = Path(
        "demo"
    ),
    model: ModelOption = "starter",
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Show it all on CIFAR-10, step by step.

    Finds test images by words, says "No match", classifies, measures, and writes pictures.

    The data come from WORDSIGHT_CIFAR10 (a folder or file), the cache, the official archive, or
    the 20-image sample of the extra `sample`, whichever is there first.
    """
    from wordsight.demo import run
    from wordsight.sources import cifar10

    say = _say if as_json else print
    source = cifar10.load("test")
    if source.notice:
        _say(f"note: {source.notice}")
    loaded = _load(model, runtime, precision)
    with _progress("encoding", "images") as progress:
        facts = run(loaded, source, source.origin, out, say=say, progress=progress)
    if as_json:
        _print_json(facts)


# -- info, models, export, compact --------------------------------------------------------------


@app.command(epilog=_examples("wordsight info --library ~/Pictures"))
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
    print(
        f"made      {facts['created']} by wordsight {facts['made_with']}, format {facts['format']}"
    )


@app.command(epilog=_examples("wordsight models"))
def models(as_json: JsonOption = False) -> None:
    """List the models and detectors that have a name.

    Models for --model, detectors for --crops: with size, licence, published accuracy,
    and whether they are on this machine.
    """
    from wordsight.models.maskrcnn import detectors_info
    from wordsight.models.registry import models_info

    rows, detectors = models_info(), detectors_info()
    if as_json:
        _print_json({"models": rows, "detectors": detectors})
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
    _print_table([header, *table])
    print("\nFor --crops:")
    _print_table(
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


@app.command(
    epilog=_examples(
        "wordsight export laion/CLIP-ViT-B-32-laion2B-s34B-b79K --out models/b32",
        "wordsight export ViT-B-32 --pretrained mine.pt --out models/mine",
        "wordsight export maskrcnn.pth --out models/detector",
    )
)
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of open_clip or transformers, a hub id (owner/name), the weights of a "
            "torchvision Mask R-CNN (a file), or a model's name together with --pretrained.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The directory to write.")],
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="TAG|FILE",
            help="The weights of a model named in open_clip (ViT-B-32) or torchvision "
            "(maskrcnn_resnet50_fpn).",
        ),
    ] = None,
    kind: Annotated[
        Literal["auto", "open_clip", "transformers", "maskrcnn"],
        typer.Option(help="What the source is."),
    ] = "auto",
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="The difference to the original that is accepted. Default: 0.001 for vectors, "
            "0.01 for detectors.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a PyTorch checkpoint into a model directory.

    It is checked against the original: what differs by more than the tolerance is not kept. Takes
    CLIP models of open_clip and transformers, and Mask R-CNN of torchvision. Needs the extra
    export: pip install "wordsight[export]"; the directory runs without it.
    """
    from wordsight.models.export import export as run

    with _progress("exporting", "steps") as progress:
        done = run(
            source, out, pretrained=pretrained, kind=kind, tolerance=tolerance, progress=progress
        )
    if as_json:
        _print_json(done.to_json())
        return
    differences = ", ".join(f"{what} {value:.1e}" for what, value in done.differences.items())
    compared = ", ".join(f"{count} {what}" for what, count in done.compared.items())
    print(f"Differences to the original: {differences} ({compared}; tolerance {done.tolerance:g})")
    facts = done.facts
    if done.kind == "maskrcnn":
        if not done.compared["boxes"]:
            _say("note: the original found nothing in the test pictures, and so did the export")
        if not facts["labels"]:
            _say(
                "note: the weights do not name their labels; write the names into "
                f'{done.path / "detector.json"}: "labels": ["background", "cat", ...]'
            )
        print(f"{done.path}: {_size(done.bytes)} in {done.seconds:.1f} s")
        _say(f"use it:  wordsight index PHOTOS --crops {done.path}")
        return
    height, width = facts["image_size"]
    bias = "" if facts["logit_bias"] is None else f", bias {facts['logit_bias']:.4g}"
    print(
        f"{done.path}: {facts['dim']} dimensions, {width} x {height} pixels, "
        f"{facts['context']} tokens, logit scale {facts['logit_scale']:.4g}{bias}; "
        f"{_size(done.bytes)} in {done.seconds:.1f} s"
    )
    _say(f"use it:  wordsight index PHOTOS --model {done.path}")


@app.command(epilog=_examples("wordsight compact --library ~/Pictures"))
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


def _download(row: dict[str, Any]) -> str:
    return _size(row["bytes"]) if row["bytes"] else "?" if row["repository"] else "in the package"


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _open_library(
    place: Path | None, model: str | None, runtime: Runtime, precision: Precision
) -> Library:
    """Open a library with its model, where the user gave one or where it came from."""
    import wordsight
    from wordsight.library import Store, find

    store = Store.open(place or find())
    loaded = _load(model or store.model.source, runtime, precision)
    return wordsight.open(store.path, loaded)


def _load(name: str, runtime: Runtime, precision: Precision) -> ClipModel:
    """Load a model; what the user should know of it is said once."""
    import wordsight

    return wordsight.load_model(
        name,
        runtime=runtime.value,
        precision=precision.value,
        notice=lambda line: _say(f"note: {line}"),
    )


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


def _check_pictures(
    pictures: Iterable[Path | None] = (), plots: Iterable[Path | None] = ()
) -> None:
    """Refuse names that no picture can be written under now, not after the work."""
    for paths, plot in ((pictures, False), (plots, True)):
        for path in filter(None, paths):
            from wordsight import render

            render.check_suffix(path, plot)


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
    """Run the command line.

    Exit status: 0 done, 2 an error that the message explains, 130 stopped by Ctrl-C.
    """
    # What Pillow thinks of odd metadata is nothing the user can act on.
    warnings.filterwarnings("ignore", module="PIL")
    warnings.showwarning = lambda message, *_args, **_kw: _say(f"note: {message}")
    try:
        app(args=list(arguments) if arguments is not None else None)
    except WordsightError as error:
        _say(f"wordsight: {error}")
        sys.exit(2)
    except SystemExit as end:  # what typer makes of these two
        if end.code == STOPPED:
            _say("wordsight: stopped; what was done so far is kept.")
        if isinstance(end.__context__, BrokenPipeError):  # the reader (head, less) went away
            sys.exit(0)
        raise


if __name__ == "__main__":
    main()
