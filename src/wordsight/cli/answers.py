"""How the answers of ``wordsight search`` leave: as lines, JSON, paths, CSV, pictures, copies."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wordsight.cli.app import STARTED
from wordsight.cli.console import linked, nearby, print_json, say, shown
from wordsight.cli.hits import made_relative, open_hit, print_csv, print_paths, put_into
from wordsight.errors import WordsightError
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search import Result


Form = Literal["text", "json", "csv", "paths", "null"]
"""Lines for people; JSON; CSV; paths, a line each or ended by zero bytes."""


def form_of(*, json: bool, csv: bool, paths: bool, null: bool, compare: bool) -> Form:
    """The form that options ask for. Raises WordsightError where they ask for several."""
    if sum((json, paths or null, csv, compare and not json)) > 1:
        raise WordsightError("choose one: --json, --paths (or -0), --csv, --compare")
    return "json" if json else "csv" if csv else "null" if null else "paths" if paths else "text"


@dataclass(frozen=True, slots=True)
class Output:
    """What is written of an answer, as the options say."""

    form: Form
    compare: bool
    """Without and with crops, beside each other."""
    relevant_only: bool
    relative: bool
    timings: bool
    grid: Path | None
    show: bool
    copy_to: Path | None
    link_to: Path | None
    open_number: int | None

    def chosen(self, result: Result) -> Result:
        """The same with the hits that are wanted."""
        if not self.relevant_only:
            return result
        return replace(result, hits=[hit for hit in result.hits if hit.relevant])

    def keep(self, result: Result) -> None:
        """Copy the hits, or link to them."""
        for folder, link in ((self.copy_to, False), (self.link_to, True)):
            if folder:
                put_into(result.hits, expanded(folder), link=link)

    def open(self, library: Library, result: Result) -> None:
        """Show the hit of the number that was asked for in the system's viewer."""
        if self.open_number:
            open_hit(library, result, self.open_number)

    def shown(self, result: Result) -> Result:
        """The same with paths as they are to be shown."""
        return made_relative(result) if self.relative else result

    def write(self, library: Library, result: Result, after: int, *, closest: str) -> None:
        """Write an answer, its hits from place ``after`` on.

        ``closest`` is what the user can give to see the closest images where nothing matches.
        """
        fresh = replace(result, hits=result.hits[after:])
        if self.form == "json":
            print_json(fresh.to_json())
        elif self.form == "text":
            _print_result(fresh, closest)
        else:
            _say_doubts(fresh)
            if self.form == "csv":
                print_csv(fresh.hits)
            else:
                print_paths(fresh.hits, zero=self.form == "null")
        if self.grid or self.show:
            _show(library.grid(result), result.query, self.grid, self.show)
        if self.timings:
            _say_timings(result.timings_ms)

    def write_comparison(self, library: Library, baseline: Result, result: Result) -> None:
        """Write the answers without and with crops beside each other."""
        _print_comparison(baseline, result, self.form == "json")
        if self.grid or self.show:
            picture = library.comparison(baseline, result)
            _show(picture, result.query, self.grid, self.show)
        if self.timings:
            _say_timings(result.timings_ms)


def _say_doubts(result: Result) -> None:
    """Beside output for programs, what people should know of it."""
    from wordsight.search import ANSWERS

    for notice in result.notices:
        say(f"note: {notice}")
    if result.verdict != "match":
        why = result.explanation()
        say(f"note: {ANSWERS[result.verdict]} for {asked(result.query)}: {why[0].lower()}{why[1:]}")


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
        if name in laps:
            say(f"{name:<8} {laps[name]:>9.1f} ms   {what}")
    since = (time.perf_counter() - STARTED) * 1000
    say(f"{'process':<8} {since:>9.1f} ms   since the command started")


def asked(query: str) -> str:
    """A query in double quotes, unless it has some of its own: "a dog" - "a cat"."""
    return query if '"' in query else f'"{query}"'


def _print_result(result: Result, closest: str = "--anyway") -> None:
    for notice in result.notices:
        say(f"note: {notice}")
    if result.verdict == "unsure":
        why = result.explanation()
        like = "like " if result.likeness else ""
        print(
            f"Not sure that anything here is {like}{asked(result.query)}: "
            f"{why[0].lower()}{why[1:]} Closest:"
        )
    elif not result.match:
        print(f"No match for {asked(result.query)}. {result.explanation()}")
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
        parts.append(linked(nearby(hit.path), hit.path))
        if hit.view.box:
            x0, y0, x1, y1 = (round(v) for v in hit.view.box)
            parts.append(f"[{hit.view.label or hit.view.kind} at {x0},{y0},{x1},{y1}]")
        if hit.line:
            parts.append(f"\u201c{shown(hit.line)}\u201d")
        print("  ".join(parts))
    if result.hits and end == len(result.hits) and result.count and result.count.estimate > end:
        more = ":more" if closest.startswith(":") else "-k N"
        say(f"({result.how_many()}; {more} shows more.)")


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
    if not crop_aware.hits:
        return
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
