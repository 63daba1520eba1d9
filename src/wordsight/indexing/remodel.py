"""All images of a library embedded again with another model; the new library takes its place.

The new one is made beside it by ordinary indexing, of the images that the library has, so that it
can be interrupted like any other indexing. Until the last step the library is searched as before.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from wordsight.errors import LibraryError, ModelError
from wordsight.images import Metadata
from wordsight.indexing.pruning import prunable
from wordsight.indexing.report import IndexReport
from wordsight.library import Entry, Store, is_library
from wordsight.sources import Item, read_location
from wordsight.sources.location import archive_of
from wordsight.video import split_frame

if TYPE_CHECKING:
    from wordsight.indexing import Progress
    from wordsight.models.clip import ClipModel

_SHOWN = 3  # places in a message


class KnownFrame(NamedTuple):
    """What the picture of a frame alone does not say; ``parts`` as in :class:`Item`."""

    metadata: Metadata
    parts: tuple[tuple[float, float, float, float], ...]


@dataclass
class Indexed:
    """The images that a library has from one source, as a source again."""

    root: str
    entries: list[Entry]
    problems: list[tuple[str, str]] = field(default_factory=list)
    frames: Mapping[str, KnownFrame] = field(default_factory=dict)
    """What is known of frames of videos, by id."""

    @property
    def name(self) -> str:
        """What it is called; the library knows its root alone."""
        return self.root

    def items(self) -> list[Item]:
        """The images as the library knows them; sizes and times are not looked up."""
        return [self._item(entry) for entry in self.entries]

    def _item(self, e: Entry) -> Item:
        item = Item(
            e.id,
            e.path,
            e.size,
            e.mtime_ns,
            e.label,
            e.root,
            lambda item: read_location(item.path),
            is_file=os.path.isfile(e.path),  # noqa: PTH113  (as Path it takes ten times as long)
        )
        known = self.frames.get(e.id)
        return replace(item, hash=e.hash, **known._asdict()) if known else item


def indexed_sources(
    entries: Sequence[Entry], frames: Mapping[str, KnownFrame] | None = None
) -> list[Indexed]:
    """The sources of these images, with what the library has of them."""
    by_root: dict[str, list[Entry]] = {}
    for entry in entries:
        by_root.setdefault(entry.root, []).append(entry)
    return [Indexed(root, own, frames=frames or {}) for root, own in by_root.items()]


def check_auto(store: Store, model: ClipModel) -> None:
    """Raise ModelError where "auto" fell back to the starter, and the library has another model."""
    from wordsight.models import how_to_fetch
    from wordsight.models.registry import STARTER

    if model.source == STARTER != store.model.source:
        raise ModelError(
            f"only the built-in model is on this machine, and the library {store.place} uses "
            f"{store.model.name}. {how_to_fetch()}, or give --model NAME."
        )


def remodel(
    store: Store,
    model: ClipModel,
    create: Callable[[Path], Store],
    *,
    prune: bool | Literal["force"] = False,
    progress: Progress | None = None,
) -> IndexReport | None:
    """Embed all images of a library again with ``model``, in the place of the vectors it has.

    ``create`` makes an empty library for the model at a path. Returns None where the library is
    of this model already; what an earlier call began for another one is deleted then. The settings
    of the library stay, and ids, labels and roots of its images.

    Raises LibraryError, with the library as it was, when images are gone that ``prune`` does not
    let go (see :func:`~wordsight.indexing.pruning.prunable`) or cannot be read by now
    (``prune="force"`` lets both go, and images that were added from memory), when the library
    cannot be replaced or written, or another process writes to it; ModelError when the detector of
    its crops is not to be had. What was embedded until then is kept, and the next call with this
    model goes on from there.
    """
    with store.lock():
        store.refresh()
        if store.model.hash == model.hash:
            shutil.rmtree(store.successor, ignore_errors=True)
            return None
        store.check_replaceable()
        entries = store.entries()
        staying = _staying(store, entries, prune)
        draft = _draft(store, model, create)
        report = _embed(store, draft, model, staying, progress)
        embedded = draft.labels()
        lost = [entry for entry in staying if entry.id not in embedded]
        if prune == "force":  # but not where a drive went away meanwhile
            lost = [entry for entry in lost if not _is_there(entry)]
        if lost:
            why = {failure.path: failure.reason for failure in report.failed}
            raise LibraryError(
                f"{len(lost):,} of {len(entries):,} images of the library {store.place} could not "
                f"be read ({lost[0].path}: {why.get(lost[0].path, 'it is gone')}), so it keeps its "
                "model for now. Run the same command again to continue, or leave these images "
                "out: --prune=force"
            )
        report.removed = len(entries) - report.images
        store.succeed()
    return report


def _staying(store: Store, entries: Sequence[Entry], prune: bool | Literal["force"]) -> list[Entry]:
    """The images to embed. Raises LibraryError when others are gone and may not be let go."""
    there = {entry.id for entry in entries if _is_there(entry)}
    gone = [entry for entry in entries if entry.id not in there]
    if gone and prune != "force":
        may_go: set[str] = set()
        if prune:
            sources = indexed_sources(entries)
            items = {i.id: i for source in sources for i in source.items() if i.id in there}
            may_go.update(prunable(entries, items, sources, store.devices)[0])
        held = [entry for entry in gone if entry.id not in may_go]
        if held:
            raise LibraryError(
                f"{len(held):,} of {len(entries):,} images of the library {store.place} are "
                f"missing ({_places(held)}); connect their drive, or leave "
                f"them out: {'--prune=force' if prune else '--prune, or --prune=force'}"
            )
    return [entry for entry in entries if entry.id in there]


def _places(entries: Sequence[Entry]) -> str:
    counts = Counter(entry.root for entry in entries).most_common()
    named = [f"{n:,} of {root}" if root else f"{n:,} added from memory" for root, n in counts]
    more = [f"and {len(named) - _SHOWN:,} more places"] if len(named) > _SHOWN else []
    return ", ".join([*named[:_SHOWN], *more])


def _is_there(entry: Entry) -> bool:
    """Whether it may be read again; a member of an archive may while the archive is there."""
    is_file = os.path.isfile(entry.path)  # noqa: PTH113
    return bool(entry.root) and (is_file or archive_of(entry.path) is not None)


def _draft(store: Store, model: ClipModel, create: Callable[[Path], Store]) -> Store:
    """What an earlier call began, or a new library."""
    place = store.successor
    if is_library(place):
        begun = Store.open(place)
        if begun.model.hash == model.hash and begun.replaces == store.record.get("id"):
            return begun
    if place.exists():
        shutil.rmtree(place)
    made = create(place)
    made.replaces = str(store.record.get("id"))
    return made


def _embed(
    store: Store,
    draft: Store,
    model: ClipModel,
    entries: Sequence[Entry],
    progress: Progress | None,
) -> IndexReport:
    from wordsight.indexing import index
    from wordsight.indexing.pipeline import WRITE_EVERY

    wanted = {entry.id for entry in entries}
    with draft.lock():  # of an earlier call: images that the library has no more
        draft.remove([identity for identity in draft.labels() if identity not in wanted])
        draft.lines.take_over(store.lines)  # what is written in images depends on no model
    draft.crops, draft.exclude = store.crops, store.exclude
    draft.every, draft.text = store.every, store.text
    ids = [entry.id for entry in entries if split_frame(entry.path)]
    frames = {
        record.id: KnownFrame(
            Metadata(**record.metadata),
            tuple(view.box for view in record.views if view.kind == "moving" and view.box),
        )
        for start in range(0, len(ids), WRITE_EVERY)
        for record in store.images(ids[start : start + WRITE_EVERY])
        if record.metadata
    }
    report = IndexReport()
    if entries:
        report = index(draft, model, indexed_sources(entries, frames), progress=progress)
    skipped = dict(store.skipped()) | {f.path: f.reason for f in report.failed}
    draft.save_skipped(list(skipped.items()))
    return report
