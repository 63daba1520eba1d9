"""``wordsight search``."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from wordsight.cli import options
from wordsight.cli.answers import Output, form_of
from wordsight.cli.app import app, examples
from wordsight.cli.console import check_pictures, count, nearby
from wordsight.cli.opening import open_library
from wordsight.cli.prompt import Session, loop
from wordsight.errors import WordsightError
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search import Result


_Query = Annotated[
    list[str] | None,  # of which there may be one: a second means that quotes are missing
    typer.Argument(
        metavar="QUERY",
        help='Words; an image file (finds similar images); text:"words" (finds images that contain '
        "these words, after index --text); or terms in double quotes, joined by + and -, with "
        'weights (@"file" is an image). Without it: an interactive prompt.',
    ),
]
_K = Annotated[int, typer.Option("-k", metavar="N", help="Number of results.", min=1)]
_Grid = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=options.given("--grid"), help="Save the results as a picture."
    ),
]
_Show = Annotated[
    bool,
    typer.Option(
        "--show",
        help="Show the results as a picture, in the terminal if it can display images.",
    ),
]
_MinScore = Annotated[
    float | None,
    typer.Option(metavar="X", help="Use this cut-off on the cosine instead of the calibrated one."),
]
_FalseAccept = Annotated[
    float,
    typer.Option(
        metavar="P", help="How often unrelated words may match: 0.01 is strict, 0.3 lenient."
    ),
]
_Anyway = Annotated[
    bool, typer.Option("--anyway", help="Show the closest images even if nothing matches.")
]
_RelevantOnly = Annotated[
    bool,
    typer.Option("--relevant-only", help="Show only hits that probably show what you asked for."),
]
_RankBy = Annotated[
    Literal["auto", "score", "lift", "z"],
    typer.Option(
        help="Sort by cosine (score), by how far it exceeds unrelated phrases (lift), or by that "
        "in standard deviations (z). auto: lift with crops, else score."
    ),
]
_Crops = Annotated[
    bool | None,
    typer.Option(
        "--crops/--no-crops",
        help="Also search in crops, if the library has them. Default: yes.",
    ),
]
_Where = Annotated[
    str | None,
    typer.Option(
        metavar="SQL",
        help="Only images for which this is true, e.g. \"taken >= '2023-07' and camera like "
        "'Pixel%'\". Columns: taken, camera, lens, latitude, longitude, orientation, media, "
        "keywords, caption, path, label, width, height, size; of frames: video, time, until, "
        "recorded.",
    ),
]
_After = Annotated[
    str | None,
    typer.Option(
        metavar="DATE", help="Only images taken on this date or later: 2023, 2023-07, ..."
    ),
]
_Before = Annotated[
    str | None, typer.Option(metavar="DATE", help="Only images taken before this date.")
]
_Inside = Annotated[
    Path | None,
    typer.Option(
        "--in", metavar="FOLDER", parser=options.given("--in"), help="Only images in this folder."
    ),
]
_Near = Annotated[
    str | None,
    typer.Option(
        metavar="LAT,LON,DISTANCE", help="Only images taken near this place: 48.1,11.6,5km"
    ),
]
_Label = Annotated[str | None, typer.Option(metavar="LABEL", help="Only images with this label.")]
_Sort = Annotated[
    Literal["score", "taken", "-taken"],
    typer.Option(help="Order of the hits: best first, or by capture time (-taken: newest first)."),
]
_Paths = Annotated[bool, typer.Option("--paths", help="Print only the paths of the hits.")]
_Zero = Annotated[
    bool,
    typer.Option("--null", "-0", help="Like --paths, each ended by a zero byte (for xargs -0)."),
]
_Relative = Annotated[
    bool, typer.Option("--relative", help="Print paths relative to the current folder.")
]
_AsCsv = Annotated[bool, typer.Option("--csv", help="Print the hits as CSV.")]
_CopyTo = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=options.given("--copy-to"),
        help="Copy the hits to this folder, numbered; nothing is overwritten.",
    ),
]
_LinkTo = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=options.given("--link-to"),
        help="Put links to the hits into this folder, numbered.",
    ),
]
_Moments = Annotated[
    bool, typer.Option("--moments", help="Find the moments in videos that show what you asked for.")
]
_Camera = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --moments: only from this camera.")
]
_Start = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", help="With --moments: only from this time on: 2026-03-01T08:30."
    ),
]
_End = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="With --moments: only before this time.")
]
_Timeline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--timeline"),
        help="With --moments: save a picture of the scores over time, with thumbnails.",
    ),
]
_Open = Annotated[
    int | None,
    typer.Option("--open", metavar="N", help="Open result N in your image viewer.", min=1),
]
_ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Exit with status 1 if nothing matches, like grep.")
]
_Compare = Annotated[
    bool, typer.Option("--compare", help="Compare the rankings without and with crops.")
]
_Timings = Annotated[
    bool, typer.Option("--timings", help="Show where the time went (on standard error).")
]


class _Command(typer.core.TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; ``-dog``, typed to leave dogs out, gets a line that says how to write that."""
        for arg in args[: args.index("--")] if "--" in args else args:
            if re.fullmatch(r"-[^\W\d_]{2,}", arg):
                raise WordsightError(
                    f"there is no option {arg}; to leave something out, write it in quotes: "
                    f'wordsight search \'"beach" - "{arg[1:]}"\''
                )
        return super().parse_args(ctx, args)


@app.command(
    cls=_Command,
    epilog=examples(
        'wordsight search "a dog"',
        "wordsight search holiday.jpg",
        "wordsight search 'text:\"invoice 2023\"'",
        'wordsight search \'"beach" + "sunset" - 0.5*"people"\'',
        'wordsight search \'@"rex.jpg" + "snow"\' --grid hits.png',
        'wordsight search "a dog" --after 2023-07 --near 48.1,11.6,5km --sort taken',
        'wordsight search "a dog" --where "camera like \'Pixel%\'" --copy-to dogs',
        'wordsight search "a dog" --moments --camera front --from 2026-03-01T08:30',
    ),
)
def search(
    context: typer.Context,
    query: _Query = None,
    k: _K = 10,
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    grid: _Grid = None,
    show: _Show = False,
    min_score: _MinScore = None,
    false_accept: _FalseAccept = 0.05,
    anyway: _Anyway = False,
    relevant_only: _RelevantOnly = False,
    rank_by: _RankBy = "auto",
    crops: _Crops = None,
    where: _Where = None,
    after: _After = None,
    before: _Before = None,
    inside: _Inside = None,
    near: _Near = None,
    label: _Label = None,
    sort: _Sort = "score",
    paths: _Paths = False,
    zero: _Zero = False,
    relative: _Relative = False,
    as_csv: _AsCsv = False,
    copy_to: _CopyTo = None,
    link_to: _LinkTo = None,
    moments: _Moments = False,
    camera: _Camera = None,
    start: _Start = None,
    end: _End = None,
    timeline: _Timeline = None,
    open_number: _Open = None,
    exit_code: _ExitCode = False,
    compare: _Compare = False,
    timings: _Timings = False,
    model: options.MovedModelOption = None,
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Find the images that best fit a prompt.

    If nothing in the library fits, the answer is "No match". The cut-off is calibrated on the
    library itself, so that unrelated words match about as often as --false-accept says. If a match
    is likelier than chance but not certain, you see the closest images under "Not sure".
    """
    form = form_of(json=as_json, paths=paths, null=zero, csv=as_csv, compare=compare)
    output = Output(
        form=form,
        compare=compare,
        relevant_only=relevant_only,
        relative=relative,
        timings=timings,
        grid=grid,
        show=show,
        copy_to=copy_to,
        link_to=link_to,
        open_number=open_number,
    )
    _check(query, output, exit_code=exit_code)
    if moments or camera or start or end or timeline:
        place = partial(open_library, library, model, runtime, precision, preload=False)
        when = {"camera": camera, "start": start, "end": end}
        asked = {"k": k, "false_accept": false_accept, "anyway": anyway, **when}
        from wordsight.cli.moments import find_moments  # its verb registers after this one

        return find_moments(context, place, query, asked, timeline)
    where = _filter(where, after, before, inside, near)
    opened = open_library(library, model, runtime, precision, preload=crops is not False)
    _check_crops(opened, crops or compare)
    cut = {"min_score": min_score, "false_accept": false_accept}
    ask = partial(opened.search, rank_by=rank_by, where=where, sort=sort, **cut)
    closest = "--anyway" if query else ":anyway"
    answer = _Answer(opened, ask, output, crops is not False, label, closest)
    _run(answer, query, k=k, anyway=anyway, exit_code=exit_code)


def _check(query: Sequence[str] | None, output: Output, *, exit_code: bool) -> None:
    """Refuse what does not go together. Raises WordsightError."""
    if query and len(query) > 1:
        if output.form == "csv" and query[-1].lower().endswith(".csv"):
            words, file = (shlex.quote(part) for part in (" ".join(query[:-1]), query[-1]))
            raise WordsightError(
                f"--csv prints to standard output; write: wordsight search {words} --csv > {file}"
            )
        from wordsight.search.hints import as_combination

        whole = " ".join(query)
        better = shlex.quote(as_combination(whole) or whole)
        raise WordsightError(f"put the query in quotes: wordsight search {better}")
    if not query and (exit_code or output.copy_to or output.link_to or output.open_number):
        raise WordsightError(
            "say what to look for: --exit-code, --copy-to, --link-to and --open need a query"
        )
    check_pictures([output.grid])


def _check_crops(library: Library, needed: bool | None) -> None:
    # A detector may have found nothing in any image: then both rankings are the same.
    if needed and not library.has_crops and library.store.crops == "none":
        raise WordsightError(
            f"the library {nearby(str(library.place))} has no crops; add them with: "
            "wordsight index FOLDER --crops maskrcnn (or --crops tiles)"
        )


def _run(
    answer: _Answer, query: Sequence[str] | None, *, k: int, anyway: bool, exit_code: bool
) -> None:
    """Answer the query, or without one each line of the prompt."""
    if query:
        result = answer(query[0], k=k, anyway=anyway, label=None)
        if exit_code and result.verdict == "none":
            raise typer.Exit(1)
        return
    library = answer.library
    about = f"{count(len(library), 'image')}, model {library.store.model.name}"
    session = Session(library, answer, k=k, anyway=anyway)
    loop(session.line, about, echo=answer.output.form == "text")


@dataclass(frozen=True, slots=True)
class _Answer:
    """Searches a library and writes what is found."""

    library: Library
    ask: Callable[..., Any]
    """``library.search`` with the options of the whole run."""
    output: Output
    crops: bool
    label: str | None
    closest: str
    """What shows the closest images where nothing matches."""

    def __call__(
        self, text: str, *, k: int, anyway: bool, label: str | None, after: int = 0
    ) -> Result:
        """Search for ``text``, write the hits from place ``after`` on, return all of them."""
        chosen = {"anyway": anyway, "label": self.label if label is None else label}
        result: Result = self.ask(_as_query(text), k, crops=self.crops, **chosen)
        result = self.output.chosen(result)
        self.output.keep(result)
        result = self.output.shown(result)
        if self.output.compare:
            baseline: Result = self.ask(_as_query(text), k, crops=False, **chosen)
            self.output.write_comparison(self.library, baseline, result)
        else:
            self.output.write(self.library, result, after, closest=self.closest)
        self.output.open(self.library, result)
        return result


def _filter(
    where: str | None, after: str | None, before: str | None, inside: Path | None, near: str | None
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


def _as_query(text: str) -> str | Path:
    """A prompt that names a file is that image, whatever its suffix; a folder is a mistake."""
    from wordsight.images import IMAGE_SUFFIXES
    from wordsight.search.text import text_of
    from wordsight.sources.location import archive_of

    if text_of(text) is not None:
        return text
    for name in dict.fromkeys((text, text.strip())):  # names may begin or end with spaces
        path = expanded(name)
        if name and os.path.isdir(path):  # noqa: PTH112  (whatever was typed, a path or not)
            raise WordsightError(
                f"{name} is a folder, not an image; to search for the word, use double quotes: "
                f"{shlex.quote(chr(34) + name + chr(34))}"
            )
        if name and (os.path.exists(path) or archive_of(str(path.absolute()))):  # noqa: PTH110
            return path
    if text.strip().startswith(("http://", "https://")):
        raise WordsightError(f"{text}: only local files can be opened; download the image first.")
    if Path(text.strip()).suffix.lower() in IMAGE_SUFFIXES:
        raise WordsightError(f"{text}: no such file.")
    return text
