"""Moments of videos: what ``wordsight search --moments`` prints, and ``wordsight clip``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from wordsight.cli.answers import asked
from wordsight.cli.app import app, examples
from wordsight.cli.console import check_pictures, nearby, print_json, say
from wordsight.cli.options import JsonOption, given
from wordsight.errors import WordsightError
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search.recordings import Moment, Moments

_OF_MOMENTS = frozenset(
    {"query", "k", "library", "storage_option", "false_accept", "anyway", "moments", "camera"}
    | {"start", "end", "timeline", "exit_code", "model", "runtime", "precision", "as_json"}
)
_LINK = re.compile(r"(?P<video>.+)#t=(?P<start>[\d.]+),(?P<end>[\d.]+)", re.DOTALL)


def _check_options(context: typer.Context) -> None:
    """Refuse the options that a search for moments does not have. Raises WordsightError."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _OF_MOMENTS and source is not None and source.name == "COMMANDLINE":
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise WordsightError(f"{option} cannot be combined with --moments.")


def find_moments(
    context: typer.Context,
    opened: Callable[[], Library],
    query: Sequence[str] | None,
    options: dict[str, Any],
    timeline: Path | None,
) -> None:
    """Find and print moments, and save their timeline where that is asked for."""
    _check_options(context)
    if not query:
        raise WordsightError("say what to look for: --moments needs a query.")
    if os.path.isfile(expanded(query[0])):  # noqa: PTH113  (whatever was typed, a path or not)
        raise WordsightError(f"{query[0]} is a file, and --moments finds words alone.")
    check_pictures([timeline])
    library = opened()
    found = library.moments(query[0], **options)
    if context.params["as_json"]:
        print_json(found.to_json())
    else:
        _print(found)
    if timeline:
        from wordsight import render

        render.save(library.timeline(found), timeline)
        say(f"Picture: {timeline}")
    if context.params["exit_code"] and not found.moments:
        raise typer.Exit(1)


def _print(found: Moments) -> None:
    for notice in found.result.notices:
        say(f"note: {notice}")
    if not found.moments:
        print(f"No moment shows {asked(found.query)}. {found.result.explanation()}")
        say("(--anyway shows the moments that more likely show it than not.)")
        return
    for moment in found.moments:
        span = f"{clock(moment.part.start)} to {clock(moment.part.end)}"
        when = _local(moment)
        parts = [f"{moment.rank:>3}", span, f"z {moment.z:5.1f}", f"{moment.certainty:4.0%}"]
        parts += [nearby(moment.part.video), *([when] if when else [])]
        if len(moment.parts) > 1:
            parts.append(f"(over {len(moment.parts)} files)")
        print("  ".join(parts))


def clock(seconds: float) -> str:
    """Seconds as people read them: 1:02:03.4, or 2:03.4."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    text = f"{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"
    return f"{hours}:{text}" if hours else text


def _local(moment: Moment) -> str:
    if moment.recorded_start is None:
        return ""
    return datetime.fromisoformat(moment.recorded_start).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@app.command(
    epilog=examples(
        "wordsight clip front.mp4 --start 83.5 --end 91 --out dog.mp4",
        "wordsight clip 'front.mp4#t=83.48,91.20' --out dog.mp4 --exact",
    )
)
def clip(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A video, or the link to a moment: VIDEO#t=A,B.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", parser=given("--out"), help="The file to write."),
    ],
    start: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Where the clip begins.", min=0)
    ] = None,
    end: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Where it ends.", min=0)
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Begin at the exact frame, by encoding again (H.264, no sound). Without it, the "
            "streams are copied from the key frame before the start.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Cut a moment out of a video."""
    from wordsight.video import is_available

    link = _LINK.fullmatch(video)
    if link:
        video = unquote(link["video"])
        start = float(link["start"]) if start is None else start
        end = float(link["end"]) if end is None else end
    if start is None or end is None:
        raise WordsightError("say where the clip begins and ends: --start 83.5 --end 91")
    if end <= start:
        raise WordsightError(f"the clip would end ({end:g} s) before it begins ({start:g} s).")
    if not is_available():
        raise WordsightError("videos need PyAV: pip install 'wordsight[video]'")
    from wordsight.video.clip import cut

    source, target = expanded(video), expanded(out)
    begun, ended = cut(str(source), str(target), start, end, exact=exact)
    answer = {"clip": str(target), "start": round(begun, 3), "end": round(ended, 3)}
    if as_json:
        print_json(answer)
        return
    early = start - begun
    if early > 0.05:
        say(f"It begins {early:.1f} s earlier, at a key frame; --exact begins at the exact frame.")
    print(f"Clip: {nearby(str(target))} ({clock(begun)} to {clock(ended)})")
