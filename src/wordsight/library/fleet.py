"""A fleet: the slices of a large library in the memory of many processes, searched as one library.

Each replica, an actor of Ray, holds one slice of the index, of the newest version and of the one
that is searched. One process, the front, asks all of them and puts their answers together as it
does with a single slice, so hits and decisions are those of one process
(:class:`~wordsight.library.index.large.LargeVersion`). It needs the library's directory too: the
vectors of the nearest are read there, and what hits say of themselves.

Ray starts a replica again that died. Once a second the front looks at what each replica holds:
those that hold nothing are not asked, and a new version is searched when all of them hold it.

Why not Ray Serve: of what it adds, routing over HTTP and scaling by load, a fleet needs nothing,
and each question passes through its router.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError, WordsightError
from wordsight.library.index.ann import parts_of
from wordsight.library.index.large import Answers, LargeVersion, indexed_versions
from wordsight.library.index.slices import Slice, index_file
from wordsight.library.table import open_table

if TYPE_CHECKING:
    from wordsight.library.reader import Reader
    from wordsight.library.store import Store

_LOOK_EVERY = 1.0  # seconds
_PATIENCE = 60.0  # seconds for the first answer of all, or for a version to come
LATE = 3  # times as long as the first answer took, and a second more, the others are waited for
_NUMBERS = 28  # bytes a view beside its codes: see table.NUMBERS
_AT_ONCE = 16  # questions that a replica answers at the same time

Version = tuple[str, int]
"""A library by its id, since another may take its place, and a version of its table."""


def newest_version(reader: Reader) -> Version | None:
    """The newest version that has an approximate index."""
    versions = indexed_versions(reader.path)
    return (str(reader.record.get("id")), versions[-1]) if versions else None


class Holder:
    """One slice of a library, held in memory by a replica."""

    def __init__(self, place: str, share: tuple[int, int]) -> None:
        from wordsight.library.store import Store

        self._store = Store.open(place)
        self._share = share
        self._slices: dict[Version, Slice] = {}
        self._load()
        self._loading = threading.Thread(target=self._load)

    def _load(self) -> None:
        """Open the newest version."""
        self._store.refresh()
        newest = newest_version(self._store)
        if newest is not None and newest not in self._slices:
            opened = Slice.open(self._store.path, newest[1], self._share)
            self._slices = {**self._slices, newest: opened}

    def _follow(self) -> None:
        """As :meth:`_load`; what goes while it is opened is superseded, and looked at again."""
        with contextlib.suppress(OSError, ValueError, KeyError, WordsightError):
            self._load()

    def held(self, searched: Version | None) -> dict[Version, int]:
        """The versions that are held, and how many views of each; looks for a newer one meanwhile.

        None but the newest and the one that is ``searched`` is held any longer.
        """
        newest = list(self._slices)[-1:]
        self._slices = {v: s for v, s in self._slices.items() if v == searched or v in newest}
        if not self._loading.is_alive():
            self._loading = threading.Thread(target=self._follow, daemon=True)
            self._loading.start()
        return {version: len(part) for version, part in self._slices.items()}

    def ask(self, version: Version, name: str, *args: Any) -> Any:
        """What a method of the slice gives; None where this version is not held."""
        found = self._slices.get(version)
        return None if found is None else getattr(found, name)(*args)


def check(store: Store, slices: int, address: str) -> None:
    """Raise LibraryError for a library that is not cut into so many slices.

    And for the ``address`` of a cluster that this machine is no part of.
    """
    newest = newest_version(store)
    if newest is None or not store.is_large:
        raise LibraryError(
            f"the library {store.place} fits into the memory of one process, which searches it "
            "faster; serve it without --shards (WORDSIGHT_EXACT_MB says from which size on it "
            "does not)."
        )
    if address.startswith("ray://"):
        raise LibraryError(
            f"a fleet is searched from a machine of its cluster, not through {address}; run the "
            "same there with --ray auto."
        )
    parts = parts_of(index_file(store.path, newest[1]))
    if not 1 <= slices <= parts:
        raise LibraryError(
            f"the index of the library {store.place} has {parts:,} parts and cannot be cut into "
            f"{slices:,} slices; give --shards a number from 1 to {parts:,}."
        )


class Fleet:
    """The replicas that search a library, and which of its versions they search.

    Ray must be connected (:class:`wordsight.indexing.cluster.Cluster`), and the library such that
    :func:`check` lets it pass. Raises LibraryError where the replicas cannot be started.
    """

    def __init__(self, store: Store, slices: int) -> None:
        from wordsight.library.store import Store as Watching

        self.place = store.place
        self._store = Watching.open(store.place)  # its own: a store is not for several threads
        self._replicas = _start(self._store, slices)
        self._held: list[Mapping[Version, int]] = [{}] * slices
        self._changed = threading.Condition()
        self._searched: tuple[Version, LargeVersion] | None = None
        self._over = threading.Event()
        self.close = weakref.finalize(self, _end, self._replicas, self._over)
        """Ends the replicas; so does the end of the process."""
        self.close.atexit = False
        atexit.register(self.close)  # now: before Ray's own, which would cut the connection
        threading.Thread(target=_watch, args=(weakref.ref(self), self._over), daemon=True).start()

    def newest(self, reader: Reader, opened: LargeVersion | None) -> LargeVersion:
        """The version that is searched; without one ``opened`` before, only the newest will do.

        That is waited for: the files of older ones may be gone. Raises LibraryError when it does
        not come.
        """

        def is_there() -> bool:
            searched = self._searched
            if searched is None:
                return False
            return opened is not None or searched[0] == newest_version(reader)

        with self._changed:
            if not self._changed.wait_for(is_there, _PATIENCE) or self._searched is None:
                raise LibraryError(
                    f"the fleet that searches {self.place} does not hold its newest version yet; "
                    "try again later."
                )
            return self._searched[1]

    def look(self) -> None:
        """See what the replicas hold, and go over to a newer version when all of them hold it."""
        searched = self._searched[0] if self._searched else None
        looks = {replica.held.remote(searched): n for n, replica in enumerate(self._replicas)}
        held = self._taken(looks, 5 * _LOOK_EVERY)
        self._held = [held.get(n) or {} for n in range(len(self._replicas))]
        self._store.refresh()
        newest = newest_version(self._store)
        if newest in (None, searched) or not all(newest in held for held in self._held):
            return
        dataset = open_table(self._store.path, newest[1])
        views, images = dataset.count_rows(), dataset.count_rows(filter="view = 0")
        ask = partial(self._ask, newest, views)
        version = LargeVersion.of_slices(self._store.path, dataset, ask, views, images)
        version.nearby(True, lambda: self._store.bank()[1])  # else the first search would wait
        with self._changed:
            self._searched = newest, version
            self._changed.notify_all()

    def _ask(self, version: Version, views: int, name: str, *args: Any) -> Answers:
        """Ask the replicas that hold a version; those that die or are late are left out."""
        sizes = [held.get(version, 0) for held in self._held]
        asked = {
            self._replicas[n].ask.remote(version, name, *args): n
            for n, size in enumerate(sizes)
            if size
        }
        began = time.monotonic()
        answers: dict[int, Any] = {}
        while asked and not answers and (left := began + _PATIENCE - time.monotonic()) > 0:
            answers |= self._taken(asked, left, least=1)  # that one has died does not count
        answers |= self._taken(asked, 1 + LATE * (time.monotonic() - began))
        for n in asked.values():  # late
            self._held[n] = {}
        if not answers:
            raise LibraryError(
                f"no replica of the fleet that searches {self.place} answers; they are started "
                "again, try later."
            )
        found = sorted(answers)
        return Answers([answers[n] for n in found], sum(sizes[n] for n in found) / views)

    def _taken(
        self, asked: dict[Any, int], patience: float, least: int | None = None
    ) -> dict[int, Any]:
        """Take what replicas have answered, all or ``least`` of them, out of what was ``asked``.

        By number of replica, without those that died. Waits for ``patience`` seconds.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        if not asked:
            return {}
        taken = {}
        done, _ = ray.wait(list(asked), num_returns=least or len(asked), timeout=patience)
        for one in done:
            n = asked.pop(one)
            try:
                answer = ray.get(one)
            except RayTaskError as error:  # it answers, but cannot read what was asked for
                raise error.cause from None
            except RayError:
                answer = None
            if answer is None:
                self._held[n] = {}
            else:
                taken[n] = answer
        return taken


def _watch(fleet: weakref.ref[Fleet], over: threading.Event) -> None:
    while not over.is_set():
        watched = fleet()
        if watched is None:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, WordsightError):  # the next time
            watched.look()
        del watched
        over.wait(_LOOK_EVERY)


def _start(store: Store, slices: int) -> list[Any]:
    """Start the replicas, and wait until they hold their slices; handles of them."""
    import ray

    newest = newest_version(store)
    assert newest is not None
    size = index_file(store.path, newest[1]).stat().st_size + _NUMBERS * store.count_views()
    memory = 2 * size // slices  # two versions, for a time
    free = int(ray.cluster_resources().get("memory", 0))
    if memory * slices > free:
        raise LibraryError(
            f"the fleet for {store.place} needs {memory * slices / 2**30:,.1f} GiB of memory, and "
            f"the cluster has {free / 2**30:,.1f} GiB; add machines to it."
        )
    kind = ray.remote(Holder).options(
        num_cpus=0, memory=memory, max_restarts=-1, max_concurrency=_AT_ONCE
    )
    replicas = [kind.remote(str(store.place), (n, slices)) for n in range(slices)]
    try:
        ray.get([replica.held.remote(None) for replica in replicas])
    except Exception as error:  # whatever Ray says of it
        _end(replicas, threading.Event())
        raise LibraryError(
            f"the fleet for {store.place} does not start: {(str(error).splitlines() or [''])[-1]}"
        ) from None
    return replicas


def _end(replicas: Sequence[Any], over: threading.Event) -> None:
    import ray

    over.set()
    if ray.is_initialized():
        for replica in replicas:
            ray.kill(replica)
