"""What is said of images that were indexed."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.cli.console import count, nearby, print_json, say
from wordsight.cli.texts import print_texts

if TYPE_CHECKING:
    from wordsight.indexing.report import CropReport, IndexReport
    from wordsight.models import ClipModel
    from wordsight.search.text import TextReport
    from wordsight.sources import Source

_TINY = 100
"""A rate of fewer images says more about starting up."""


def print_report(
    report: IndexReport,
    texts: TextReport | None,
    place: Path | str,
    as_json: bool,
    *,
    next_step: bool = True,
) -> None:
    """Print what a run did, what it skipped, and a ``next_step`` to take."""
    if as_json:
        also = {"text": texts.to_json()} if texts else {}
        print_json({**report.to_json(), **also, "library": str(place)})
        sys.stdout.flush()
        return
    for failure in report.failed:
        say(f"Skipped {nearby(failure.path)}: {failure.reason}")
    if report.images or report.removed or not report.failed:
        _print_indexed(report, place, next_step)
        if texts:
            print_texts(texts)
        sys.stdout.flush()  # whoever watches in a pipe reads it now


def say_int8(model: ClipModel, sources: Sequence[Source]) -> None:
    """What int8 changes, before anything is indexed with it."""
    from wordsight.indexing import check_int8

    check = check_int8(model, sources)
    say(
        f"int8: {check.recall:.0%} of the ten nearest images are the same as with fp32 "
        f"(checked on {check.images}; cosine {check.cosine:.4f})"
    )


def _print_indexed(report: IndexReport, place: Path | str, next_step: bool) -> None:
    if not report.changed:
        print(f"Nothing to do: {count(report.unchanged, 'image')} unchanged.")
    else:
        done = [
            f"{count(report.indexed, 'image')} indexed",
            *([f"{count(report.videos, 'video')} read"] if report.videos else []),
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
        print_crops(report.crops)
    print(f"Library: {nearby(str(place))} ({count(report.images, 'image')})")
    if report.gone:
        say(
            f"{count(report.gone, 'image')} of the library {'is' if report.gone == 1 else 'are'} "
            "no longer in these folders, or left out by now; to remove "
            f"{'it' if report.gone == 1 else 'them'}, add --prune."
        )
    if report.indexed and next_step:
        say(f"Next, try: {_next_step(place)}")


def _next_step(library: Path | str) -> str:
    """A search of this library, with no more options than it takes from the current folder."""
    from wordsight.errors import LibraryError
    from wordsight.library import find

    command = 'wordsight search "a dog"'
    if isinstance(library, str):
        return f"{command} --library {library}"
    with contextlib.suppress(LibraryError):
        if find().resolve() == library.resolve():
            return command
    named = library.parent if library.name == ".wordsight" else library
    return f"{command} --library {shlex.quote(nearby(str(named)))}"


def print_crops(crops: CropReport) -> None:
    """How many crops there are, and of what."""
    facts = crops.to_json()
    names = ", ".join(f"{name} {count}" for name, count in list(facts["labels"].items())[:8])
    print(
        f"Crops by {facts['proposer']}: {facts['crops']:,} in {count(facts['images'], 'image')} "
        f"({facts['min']} to {facts['max']} per image, median {facts['median']:g})"
        + (f"\n  labels: {names}" if names else "")
    )
