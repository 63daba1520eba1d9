"""``wordsight index`` on a library as it is: another model, pruned images brought back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from wordsight.cli.console import count, nearby, print_json, progress_bar, say
from wordsight.cli.indexed import print_crops, say_int8
from wordsight.cli.opening import load
from wordsight.cli.options import Precision, Runtime
from wordsight.cli.texts import KEPT

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.indexing.report import IndexReport


def existing(place: str | None, paths: Sequence[str] | None) -> Library:
    """The library that is named, or that of these paths, or of the current folder."""
    from wordsight.api import Library
    from wordsight.library import Store, default_location, find

    return Library(Store.open(place or (default_location(paths[0]) if paths else find())))


def undo_prune(place: str | None, paths: Sequence[str] | None, as_json: bool) -> None:
    """Restore the images that were pruned, and print how many."""
    library = existing(place, paths)
    restored = library.undo_prune()
    if as_json:
        print_json({"restored": restored, "images": len(library), "library": str(library.place)})
    else:
        print(f"{count(restored, 'image')} restored.")
        print(f"Library: {nearby(str(library.place))} ({count(len(library), 'image')})")


def remodel(
    library: Library,
    name: str | None,
    runtime: Runtime,
    precision: Precision,
    *,
    prune: bool | Literal["force"],
    as_json: bool,
) -> None:
    """Embed the images of a library again with the model of this name, and print the outcome."""
    from wordsight.indexing.remodel import check_auto, indexed_sources

    store, before = library.store, library.store.record["model"]
    model = load(name or "auto", runtime, precision)
    if name in (None, "auto"):
        check_auto(store, model)
    if precision == Precision.int8 and model.hash != store.model.hash:
        say_int8(model, indexed_sources(store.entries()))
    try:
        with progress_bar("embedding", "images") as progress:
            report = library.remodel(model, prune=prune, progress=progress)
    except KeyboardInterrupt:
        say(KEPT)
        raise
    if as_json:
        counts = report.to_json() if report else {"images": len(library)}
        facts = {"model": store.record["model"], "replaced": before if report else None}
        print_json({**counts, **facts, "library": str(library.place)})
    elif report is None:
        print(f"Nothing to do: {nearby(str(library.place))} already uses {before['name']}.")
    else:
        _print_remodelled(report, library, before["name"])


def _print_remodelled(report: IndexReport, library: Library, before: str) -> None:
    for failure in report.failed:
        say(f"Left out {nearby(failure.path)}: {failure.reason}")
    parts = [
        f"{count(report.images, 'image')} embedded again in {report.seconds:.1f} s",
        *([f"{report.unchanged} of them by an earlier run"] if report.unchanged else []),
        *([f"{report.removed} left out"] if report.removed else []),
    ]
    print(f"{', '.join(parts)}.")
    if report.crops and report.crops.per_image:
        print_crops(report.crops)
    place = nearby(str(library.place))
    print(f"Library: {place} (model {library.store.model.name}, before {before})")
