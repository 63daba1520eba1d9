"""``index``: a library, brought up to date with what sources hold."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wordsight.errors import SourceError
from wordsight.indexing.footage import count_unread, misnamed, take_videos
from wordsight.indexing.listing import keep_labels, keep_skipped, listed, no_image
from wordsight.indexing.memory import return_freed_memory
from wordsight.indexing.pipeline import Progress, Run
from wordsight.indexing.pruning import devices_of, prunable
from wordsight.indexing.report import CropReport, Failure, IndexReport
from wordsight.library import Store
from wordsight.paths import expanded
from wordsight.video import is_available

if TYPE_CHECKING:
    from wordsight.indexing.cluster import Cluster
    from wordsight.models.clip import ClipModel
    from wordsight.models.maskrcnn import Detector
    from wordsight.regions import Tiles
    from wordsight.sources import Item, Source
    from wordsight.video.sampling import Every


def index(
    store: Store,
    model: ClipModel,
    sources: Sequence[Source],
    *,
    crops: str | Path | None = None,
    exclude: Sequence[str] | None = None,
    videos: bool = True,
    every: Every | None = None,
    prune: bool | Literal["force"] = False,
    recheck: bool = False,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring a library up to date with what the sources hold.

    An image whose size and time of change are those recorded is left as it is; else its bytes
    decide: the same bytes anywhere in the library lend their vectors (a file that was touched,
    copied or moved), new ones are embedded. A moved file's old place goes at once; images that
    are gone or left out by now go with ``prune`` alone. Files that cannot be used are reported
    in ``failed`` and stop nothing, those of other kinds are counted in ``not_read``. Labels follow
    the sources too: one that another source gave stays where this one knows none, and an image
    whose label alone changes counts as unchanged.

    ``crops`` names how regions are proposed (see :func:`wordsight.regions.load_proposer`) or is
    "none"; None means as the library was last indexed. Images that lack crops of that proposer
    get them, their whole-image vectors stay. So it is with what the files say of their pictures,
    where an older library does not hold that yet.

    ``exclude`` are patterns in gitignore's syntax, relative to each source, of what is left out;
    None means as the library was last indexed.

    Frames of ``videos`` are images too, one ``every`` so many seconds (or "keyframes"; None: as the
    library was last indexed, at first 1) where anything changed: see
    :mod:`wordsight.indexing.footage`.

    With a ``cluster`` its workers decode and encode images; they must see the sources at the same
    paths, and have the detector of the crops. Videos are read here.

    Raises SourceError when the sources hold no image at all, one cannot be listed, or a pattern
    is none, LibraryError when the library cannot be written (what was written so far is kept),
    ModelMismatchError for another model, ModelError when the proposer cannot be had.
    """
    started = time.perf_counter()
    if not sources:
        raise SourceError("nothing to index: give a folder, an image, a .tar file or 'cifar10'.")
    store.check_model(model.name, model.hash)
    with store.lock():
        store.refresh()
        store.check_model(model.name, model.hash)  # another library may be in its place by now
        report = _index(
            store, model, sources, crops, exclude, videos, every, prune, recheck, cluster, progress
        )
    report.seconds = time.perf_counter() - started
    return report


def _index(
    store: Store,
    model: ClipModel,
    sources: Sequence[Source],
    crops: str | Path | None,
    exclude: Sequence[str] | None,
    videos: bool,
    every: Every | None,
    prune: bool | Literal["force"],
    recheck: bool,
    cluster: Cluster | None,
    progress: Progress | None,
) -> IndexReport:
    """:func:`index` within the library's lock."""
    return_freed_memory()
    wanted, proposer = _proposer(str(crops or store.crops))
    report = IndexReport(crops=CropReport(proposer.name) if proposer else None)
    patterns = store.exclude if exclude is None else [p for p in exclude if p.strip()]
    items, films = _found(sources, patterns, videos, report)
    reads = videos and is_available()
    if not (items or (films and reads) or report.failed or prune):
        raise SourceError(no_image(sources, patterns, report))
    store.add_metadata_columns()
    if crops:
        store.crops = wanted
    store.exclude = patterns
    if every is not None:
        store.every = str(every)
    known = {entry.id: entry for entry in store.entries()}
    keep_labels(items, known, sources)
    run = Run(
        store, model, proposer, items, known, report, progress, recheck=recheck, cluster=cluster
    )
    todo = [item for item in items.values() if not run.is_unchanged(item)]
    report.unchanged = len(items) - len(todo)
    run.total = len(todo)
    run.process(todo)
    if reads:
        films |= misnamed(report.failed, items)
        run.add_videos(films)
    items |= run.footage.listed(films if videos else None)
    _forget(run, items, sources, prune)
    keep_skipped(store, sources, report.failed)
    store.compact(only_if_needed=True)
    store.prepare()
    report.images = len(store)
    report.views = store.count_views()
    return report


def _proposer(wanted: str) -> tuple[str, Detector | Tiles | None]:
    """The name by which the library remembers how regions are proposed, and what does it."""
    from wordsight.regions import Tiles, load_proposer

    proposer = None if wanted == "none" else load_proposer(wanted, masks=False)
    if proposer and not isinstance(proposer, Tiles) and proposer.path == expanded(wanted):
        wanted = str(proposer.path.resolve())  # in full: the next run may begin elsewhere
    return wanted, proposer


def _found(
    sources: Sequence[Source], patterns: Sequence[str], videos: bool, report: IndexReport
) -> tuple[dict[str, Item], dict[str, Item]]:
    """The images by id and the videos by path; what else is there goes into the report."""
    items, others = listed(sources, patterns)
    films = take_videos(sources, items, others)
    report.not_read = Counter(others.values())
    problems = dict.fromkeys(problem for source in sources for problem in source.problems)
    report.failed += [Failure(path, reason) for path, reason in problems]
    if videos:
        count_unread(films, report.not_read)
    return items, films


def _forget(
    run: Run, items: dict[str, Item], sources: Sequence[Source], prune: bool | Literal["force"]
) -> None:
    """Prune what is gone, or count it, and remember which devices the rest is on."""
    store, report = run.store, run.report
    paths = {entry.id: entry.path for entry in run.remaining()}
    gone, kept = prunable(run.remaining(), items, sources, store.devices, force=prune == "force")
    if not prune:
        report.gone = len(gone)
    else:
        report.kept = kept
        report.failed += [Failure(kept.path, kept.reason) for kept in report.kept]
        report.removed += store.prune(gone)
        for identity in gone:
            del paths[identity]
    paths |= {identity: item.path for identity, item in items.items()}
    store.devices = devices_of(paths, items, store.devices)
