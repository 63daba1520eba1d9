"""Opening a library with its model, as the options say."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.cli import options
from wordsight.cli.console import Transfer, nearby, say
from wordsight.errors import LibraryError
from wordsight.progress import waiting

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.models import ClipModel
    from wordsight.sources import Source


def load(name: str, runtime: options.Runtime, precision: options.Precision) -> ClipModel:
    """Load a model; what the user should know of it is said once."""
    import wordsight

    return wordsight.load_model(
        name,
        runtime=runtime.value,
        precision=precision.value,
        notice=lambda line: say(f"note: {line}"),
    )


def open_place(place: str) -> Source:
    """Open a place with images; a download for it is shown."""
    from wordsight.sources import open_source

    with Transfer(place) as transfer:
        return open_source(place, progress=transfer.progress, notice=transfer.notice)


def open_library(
    place: str | Path | None,
    model: str | None,
    runtime: options.Runtime,
    precision: options.Precision,
    *,
    preload: bool = False,
) -> Library:
    """Open a library with its model, where the user gave one or where it came from.

    With ``preload`` its vectors are read meanwhile, for a search.
    """
    from wordsight.api import Library
    from wordsight.library import Store, find

    store = Store.open(place or find())
    if preload:
        store.preload()
    loaded = load(model or store.model.source, runtime, precision)
    store.check_model(loaded.name, loaded.hash)
    return Library(store, loaded)


def open_or_create(
    place: str | Path, model: str | None, runtime: options.Runtime, precision: options.Precision
) -> tuple[Library, bool]:
    """The library, and whether it was made now."""
    import wordsight
    from wordsight.library import is_library, is_url
    from wordsight.models.registry import STARTER

    if is_library(place) or (not is_url(place) and is_library(f"{place}/.wordsight")):
        opened = open_library(place, model, runtime, precision)
        if model is None:
            _say_better(opened)
        return opened, False
    loaded = load(model or "auto", runtime, precision)
    if model in (None, "auto") and loaded.source == STARTER:
        say(
            "note: this library will use the small built-in model. For the larger one, stop now "
            "and fetch it first. To use the built-in model without this note: --model starter."
        )
    with waiting(f"preparing {loaded.name}, once: the phrases that queries are judged against"):
        try:
            return wordsight.create(place, loaded), True
        except LibraryError:
            if not is_library(place):
                raise
    return wordsight.open(place, loaded), False  # another process was faster


def _say_better(library: Library) -> None:
    """Name, once a library, the better model that is here by now, and how to go over to it."""
    from wordsight.models import better_than

    better = better_than(library.store.model.source)
    if better and library.store.suggested != better.name:
        library.store.suggested = better.name
        say(
            f"note: {better.name}, which finds more than this library's built-in model, is now on "
            "this machine. To switch to it (embeds all images again): "
            f"wordsight index --remodel --library {shlex.quote(nearby(str(library.place)))}"
        )
