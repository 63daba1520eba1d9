"""What the sources hold, beside what the library knows of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wordsight.errors import SourceError
from wordsight.indexing.pruning import lies_under
from wordsight.indexing.report import Failure, IndexReport
from wordsight.library import Entry, Store
from wordsight.paths import sentence_end

if TYPE_CHECKING:
    from wordsight.sources import Item, Source

_TIMES = 1 << 63  # nanoseconds since 1970; from here on they are no int64


def no_image(sources: Sequence[Source], patterns: Sequence[str], report: IndexReport) -> str:
    """Why there is nothing to index, in a line."""
    names = ", ".join(sentence_end(str(source.name)) for source in sources)
    hints = [report.others()] if report.not_read else []
    hints += [f"excluded: {', '.join(patterns)}"] if patterns else []
    why = f" ({'; '.join(hints)})" if hints else ""
    return f"no image found in {names}{why}."


def listed(
    sources: Sequence[Source], exclude: Sequence[str]
) -> tuple[dict[str, Item], dict[str, str]]:
    """The images of all sources by id, and the kinds of what else is there, by path.

    Of an image that several list, as one that knows its label does. Raises SourceError.
    """
    from wordsight.images import unreadable_reason
    from wordsight.sources.listing import Listing

    items: dict[str, Item] = {}
    others: dict[str, str] = {}
    for source in sources:
        if isinstance(source, Listing):
            source.exclude = exclude
        try:
            found = source.items()
        except OSError as error:
            raise SourceError(f"{source.name}: {unreadable_reason(error)}") from error
        for item in found:
            if item.label is not None or item.id not in items:
                items[item.id] = item if item.mtime_ns < _TIMES else _within_times(item)
        if isinstance(source, Listing):
            others |= source.not_read
    return items, others


def _within_times(item: Item) -> Item:
    """A time after 2262 as one that the table can hold; it still differs when the file's does."""
    return replace(item, mtime_ns=item.mtime_ns % _TIMES)


def keep_labels(items: dict[str, Item], known: dict[str, Entry], sources: Sequence[Source]) -> None:
    """Where a folder could not be looked into, or an archive read to its end, labels stay.

    Whether folders are classes is seen from all of them together.
    """
    partly = {
        source.root
        for source in sources
        for path, _ in source.problems
        if os.path.isdir(path) or source.root.startswith(f"{path}::")  # noqa: PTH112
    }
    for identity, item in items.items() if partly else ():
        entry = known.get(identity)
        if entry and item.label is None and item.root in partly:
            items[identity] = replace(item, label=entry.label)


def keep_skipped(store: Store, sources: Sequence[Source], failed: Sequence[Failure]) -> None:
    """Replace what was skipped under these sources by what was skipped now."""
    roots = {source.root for source in sources}

    def looked_at(path: str) -> bool:
        itself = {os.path.join(path, ""), f"{path}::"}  # noqa: PTH118  (a folder, an archive)
        return not roots.isdisjoint(itself) or any(lies_under(path, root) for root in roots)

    skipped = {path: reason for path, reason in store.skipped() if not looked_at(path)}
    skipped |= {failure.path: failure.reason for failure in failed}
    store.save_skipped(list(skipped.items()))


def label_owner(item: Item, entry: Entry | None) -> Item | Entry:
    """Which of them says the label: the item, unless another source gave one and it knows none."""
    if item.label is None and entry and entry.label is not None and entry.root != item.root:
        return entry
    return item
