"""``wordsight search``."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wordsight.cli.app import (
    STARTED,
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
from wordsight.cli.console import check_pictures, count, nearby, print_json, say, shown
from wordsight.cli.hits import made_relative, print_csv, print_paths, put_into
from wordsight.cli.opening import open_library
from wordsight.cli.prompt import Session, loop
from wordsight.errors import WordsightError
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.search import Result


@app.command(
    epilog=examples(
        'wordsight search "a dog"',
        "wordsight search holiday.jpg",
        'wordsight search \'"beach" + "sunset" - 0.5*"people"\'',
        'wordsight search \'@"rex.jpg" + "snow"\' --grid hits.png',
        'wordsight search "a dog" --after 2023-07 --near 48.1,11.6,5km --sort taken',
        'wordsight search "a dog" --where "camera like \'Pixel%\'" --copy-to dogs',
    )
)
def search(
    query: Annotated[
        list[str] | None,  # of which there may be one: a second means that quotes are missing
        typer.Argument(
            metavar="QUERY",
            help="Words; an image file (finds similar images); or terms in double quotes, joined "
            'by + and -, with weights (@"file" is an image). Without it: an interactive prompt.',
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of results.", min=1)] = 10,
    library: LibraryOption = None,
    grid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=given("--grid"), help="Save the results as a picture."),
    ] = None,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Show the results as a picture, in the terminal if it can display images.",
        ),
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Use this cut-off on the cosine instead of the calibrated one."
        ),
    ] = None,
    false_accept: Annotated[
        float,
        typer.Option(
            metavar="P", help="How often unrelated words may match: 0.01 is strict, 0.3 lenient."
        ),
    ] = 0.05,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Show the closest images even if nothing matches.")
    ] = False,
    relevant_only: Annotated[
        bool,
        typer.Option("--relevant-only", help="Only hits that count as showing what you asked for."),
    ] = False,
    rank_by: Annotated[
        Literal["auto", "score", "lift", "z"],
        typer.Option(
            help="Sort by cosine (score), by how far it is above that of unrelated phrases "
            "(lift), or by that in standard deviations (z). auto: lift with crops, else score."
        ),
    ] = "auto",
    crops: Annotated[
        bool | None,
        typer.Option(
            "--crops/--no-crops",
            help="Search in crops too, where the library has them. Default: yes.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only images that this is true of, as \"taken >= '2023-07' and camera like "
            "'Pixel%'\". Columns: taken, camera, lens, latitude, longitude, orientation, media, "
            "keywords, path, label, width, height, size.",
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Only images taken from then on: 2023, 2023-07, ..."),
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only images taken before that began.")
    ] = None,
    inside: Annotated[
        Path | None,
        typer.Option("--in", metavar="FOLDER", parser=given("--in"), help="Only images in there."),
    ] = None,
    near: Annotated[
        str | None,
        typer.Option(
            metavar="LAT,LON,DISTANCE", help="Only images taken near there: 48.1,11.6,5km"
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only images with this label.")] = None,
    sort: Annotated[
        Literal["score", "taken", "-taken"],
        typer.Option(help="Order of the hits: best first, or by capture time (-: newest first)."),
    ] = "score",
    paths: Annotated[
        bool, typer.Option("--paths", help="Print the paths of the hits alone.")
    ] = False,
    zero: Annotated[
        bool, typer.Option("--null", "-0", help="The same, ended by zero bytes (for xargs -0).")
    ] = False,
    relative: Annotated[
        bool, typer.Option("--relative", help="Paths from the current folder.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the hits as CSV.")] = False,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=given("--copy-to"),
            help="Copy the hits there, numbered; nothing is overwritten.",
        ),
    ] = None,
    link_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=given("--link-to"), help="Link to the hits from there, numbered."
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where nothing matches, as grep does.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the rankings without and with crops.")
    ] = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="Show where the time went (on standard error).")
    ] = False,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Find the images that best fit a prompt.

    If nothing in the library fits, the answer is "No match". The cut-off is calibrated on the
    library itself, so that unrelated words match about as often as --false-accept says. If a match
    is likelier than chance but not certain, you see the closest images under "Not sure".
    """
    if query and len(query) > 1:
        whole = shlex.quote(" ".join(query))
        raise WordsightError(f"put the query in quotes: wordsight search {whole}")
    formats = [as_json, paths or zero, as_csv, compare and not as_json]
    if sum(formats) > 1:
        raise WordsightError("choose one: --json, --paths (or -0), --csv, --compare")
    if not query and (exit_code or copy_to or link_to):
        raise WordsightError("say what to look for: --exit-code, --copy-to, --link-to need a query")
    check_pictures([grid])
    chosen, only = _filter(where, after, before, inside, near), label
    opened = open_library(library, model, runtime, precision, preload=crops is not False)

    if (crops or compare) and not opened.has_crops:
        raise WordsightError(
            f"the library {nearby(str(opened.path))} has no crops; add them with: "
            "wordsight index FOLDER --crops maskrcnn (or --crops tiles)"
        )

    def ask(text: str, most: int, *, crops: bool, anyway: bool, label: str | None) -> Result:
        return opened.search(
            _as_query(text),
            most,
            min_score=min_score,
            false_accept=false_accept,
            rank_by=rank_by,
            crops=crops,
            anyway=anyway,
            label=only if label is None else label,
            where=chosen,
            sort=sort,
        )

    def answer(
        text: str,
        *,
        k: int = k,
        anyway: bool = anyway,
        label: str | None = None,
        after: int = 0,
    ) -> Result:
        result = ask(text, k, crops=crops is not False, anyway=anyway, label=label)
        if relevant_only:
            result = replace(result, hits=[hit for hit in result.hits if hit.relevant])
        for folder in filter(None, (copy_to, link_to)):
            put_into(result.hits, expanded(folder), link=folder is link_to)
        if relative:
            result = made_relative(result)
        fresh = replace(result, hits=result.hits[after:])
        if compare:
            baseline = ask(text, k, crops=False, anyway=anyway, label=label)
            _print_comparison(baseline, result, as_json)
        elif as_json:
            print_json(fresh.to_json())
        elif paths or zero or as_csv:
            _say_doubts(fresh)
            if as_csv:
                print_csv(fresh.hits)
            else:
                print_paths(fresh.hits, zero=zero)
        else:
            _print_result(fresh, "--anyway" if query else ":anyway")
        if grid or show:
            picture = opened.comparison(baseline, result) if compare else opened.grid(result)
            _show(picture, result.query, grid, show)
        if timings:
            _say_timings(result.timings_ms)
        return result

    if query:
        result = answer(query[0])
        if exit_code and result.verdict == "none":
            raise typer.Exit(1)
    else:
        about = f"{count(len(opened), 'image')}, model {opened.store.model.name}"
        loop(Session(opened, answer, k=k, anyway=anyway).line, about)


def _filter(
    where: str | None,
    after: str | None,
    before: str | None,
    inside: Path | None,
    near: str | None,
) -> str | None:
    """The options that choose images as one filter."""
    from wordsight.library import filters

    return filters.joined(
        where,
        after if after is None else filters.after(after),
        before if before is None else filters.before(before),
        inside if inside is None else filters.inside(inside),
        near if near is None else filters.near(near),
    )


def _say_doubts(result: Result) -> None:
    """Beside output for programs, what people should know of it."""
    for notice in result.notices:
        say(f"note: {notice}")
    if result.verdict != "match":
        found = "not sure" if result.verdict == "unsure" else "no match"
        say(f'note: {found} for "{result.query}": {result.explanation()}')


def _say_timings(laps: dict[str, float]) -> None:
    """Where the time of one search went; ``load`` and ``encode`` run side by side when cold."""
    meaning = {
        "encode": "encoding the query, including loading the model",
        "load": "reading vectors and statistics into memory",
        "score": "cosines, fusion, normalisation",
        "decide": "match or no match",
        "hits": "ranking, and reading the details of the results",
        "total": "all of the above",
    }
    for name, what in meaning.items():
        say(f"{name:<8} {laps[name]:>9.1f} ms   {what}")
    since = (time.perf_counter() - STARTED) * 1000
    say(f"{'process':<8} {since:>9.1f} ms   since the command started")


def _as_query(text: str) -> str | Path:
    """A prompt that names a file is that image, whatever its suffix; a folder is a mistake."""
    from wordsight.images import IMAGE_SUFFIXES

    for name in dict.fromkeys((text, text.strip())):  # names may begin or end with spaces
        path = expanded(name)
        if name and os.path.isdir(path):  # noqa: PTH112  (whatever was typed, a path or not)
            raise WordsightError(
                f"{name} is a folder, not an image; to search for the word, use double quotes: "
                f"{shlex.quote(chr(34) + name + chr(34))}"
            )
        if name and os.path.exists(path):  # noqa: PTH110
            return path
    if text.strip().startswith(("http://", "https://")):
        raise WordsightError(f"{text}: only local files can be opened; download the image first.")
    if Path(text.strip()).suffix.lower() in IMAGE_SUFFIXES:
        raise WordsightError(f"{text}: no such file.")
    return text


def _print_result(result: Result, closest: str = "--anyway") -> None:
    for notice in result.notices:
        say(f"note: {notice}")
    if result.verdict == "unsure":
        why = result.explanation()
        print(
            f'Not sure that anything here is "{result.query}": {why[0].lower()}{why[1:]} Closest:'
        )
    elif not result.match:
        print(f'No match for "{result.query}". {result.explanation()}')
        if not result.hits:
            if result.top_score is not None:
                say(f"({closest} shows the closest images.)")
            return
        print("Closest images:")
    labels = {hit.id: shown(hit.label or "") for hit in result.hits}
    widest = max(map(len, labels.values()), default=0)
    # Sorted by time, the relevant hits lie among the others.
    end = sum(hit.relevant for hit in result.hits)
    ends = 0 < end < len(result.hits) and all(hit.relevant for hit in result.hits[:end])
    for place, hit in enumerate(result.hits):
        if ends and place == end:
            print(f"     -- {result.how_many()}; less likely: --")
        parts = [f"{hit.rank:>3}", f"{hit.score:.4f}"]
        if hit.z is not None:
            parts.append(f"z {hit.z:5.1f}")
        if widest:
            parts.append(labels[hit.id].ljust(widest))
        parts.append(nearby(hit.path))
        if hit.view.box:
            x0, y0, x1, y1 = (round(v) for v in hit.view.box)
            parts.append(f"[{hit.view.label or hit.view.kind} at {x0},{y0},{x1},{y1}]")
        print("  ".join(parts))
    if result.hits and end == len(result.hits) and result.count and result.count.estimate > end:
        print(f"     -- {result.how_many()} --")


def _print_comparison(baseline: Result, crop_aware: Result, as_json: bool) -> None:
    """Both rankings, and for each hit of the second where it was in the first."""
    old = {hit.id: hit.rank for hit in baseline.hits}
    if as_json:
        print_json(
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
    print(f"Of {len(crop_aware.hits)} results, {new} are new, {up} moved up, {down} moved down.")


def _show(picture: Any, title: str, grid: Path | None, show: bool) -> None:
    from wordsight import render

    if grid:
        render.save(picture, grid)
        say(f"Picture: {grid}")
    if show:
        escape = render.in_terminal(picture)
        if escape:
            sys.stdout.write(escape + "\n")
        else:
            picture.show(title=f"wordsight: {title}")
