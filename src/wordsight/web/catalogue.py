"""The library without a query: its images in order of time, counted by what is known of them."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wordsight.library import filters, id_from_int
from wordsight.web.guard import Problem
from wordsight.web.pictures import File, placeless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from wordsight.library import ImageRecord, Store

VALUES_SHOWN = 100
"""Of each kind at most: cameras, folders, labels to choose from."""
WORDS_TRIED = 60
EXPECTED = 500
"""Images of an answer whose files are looked up together: as many as one answer may have."""
FILES_KEPT = 10_000
_COLUMNS = ("id", "path", "label", "mtime_ns", "taken", "camera", "orientation", "latitude")


@dataclass(frozen=True, slots=True)
class _Scan:
    """One version of the library: ids, the newest first, and counts."""

    state: tuple[Any, int]
    ids: NDArray[np.int64]
    labels: Counter[str]
    crops: Counter[str]
    facets: dict[str, Any]


class Catalogue:
    """A view of a library for lookups, which wait for no search, nor searches for them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._scan: _Scan | None = None
        self._files: dict[str, File] = {}  # those that were looked up in the version of _filed
        self._filed: tuple[Any, int] | None = None
        self._expected: list[str] = []

    def record(self, image: str) -> ImageRecord:
        """An image with its views. Raises Problem 404 when the library has none of this id."""
        with self._lock:
            self._store.refresh()
            found = self._store.images([image])
        if not found:
            raise Problem(404, f"the library has no image {image}")
        return found[0]

    def expect(self, images: Sequence[str]) -> None:
        """Note that the pictures of these images are likely to be asked for next.

        A look-up of one takes as long as one of a hundred, so :meth:`file` looks them up together.
        """
        self._expected = list(images[:EXPECTED])

    def file(self, image: str) -> File:
        """The file of an image. Raises Problem 404 when the library has none of this id."""
        with self._lock:
            self._store.refresh()
            if self._filed != self._state or len(self._files) > FILES_KEPT:
                self._files, self._filed = {}, self._state
            if image not in self._files:
                expected = self._expected if image in self._expected else []
                for row in self._store.described(list({image: 0, **dict.fromkeys(expected)})):
                    self._files[row["id"]] = File(row["path"], row["hash"], row["mtime_ns"])
            if image not in self._files:
                raise Problem(404, f"the library has no image {image}")
            return self._files[image]

    def files(self, images: Sequence[str]) -> Iterator[File]:
        """The files of these images, one after the other; those that are gone are left out."""
        for image in images:
            with contextlib.suppress(Problem):
                yield self.file(image)

    def count(self) -> int:
        """The number of images, with those that other processes have added."""
        with self._lock:
            self._store.refresh()
            return len(self._store)

    def facets(self) -> dict[str, Any]:
        """What there is to filter by: values with how many images have them."""
        with self._lock:
            return self._scanned().facets

    def info(self, skipped: int) -> dict[str, Any]:
        """Counts, model, size, labels, and the first of the files that were skipped."""
        with self._lock:
            scan, store = self._scanned(), self._store
            labels = [{"label": name, "images": n} for name, n in sorted(scan.labels.items())]
            left_out = [{"path": path, "reason": why} for path, why in store.skipped()[:skipped]]
            return {
                **store.info(),
                "crops": dict(scan.crops),
                "labels": labels,
                "skipped": left_out,
            }

    def newest(self, where: str | None, skip: int, k: int) -> dict[str, Any]:
        """How many images pass a filter, and ``k`` of them, the newest first.

        An image is as old as its capture time says, or else its file.
        """
        import numpy as np

        with self._lock:
            ids = self._scanned().ids
            if where is not None:
                ids = ids[np.isin(ids, filters.matching(self._store.dataset, where))]
            page = [id_from_int(number) for number in ids[skip : skip + k]]
            self.expect(page)
            found = [placeless(row) for row in self._store.described(page)]
            return {"total": len(ids), "images": found}

    def some(self, images: Sequence[str]) -> list[dict[str, Any]]:
        """These images, in this order; those that are gone are left out."""
        with self._lock:
            self._store.refresh()
            return [placeless(row) for row in self._store.described(images)]

    def words(self) -> list[str]:
        """Words that may have an answer here: of labels and a detector, or else everyday ones."""
        from wordsight.classify import read_labels

        with self._lock:
            labels = [label for label, _ in self._scanned().labels.most_common(WORDS_TRIED)]
            seen = self._store.region_labels()
        own = [word.replace("_", " ").strip().lower() for word in (*labels, *seen)]
        if not own:
            everyday = read_labels("everyday")
            own = everyday[:: max(1, len(everyday) // WORDS_TRIED)]
        return [word for word in dict.fromkeys(own) if word][:WORDS_TRIED]

    @property
    def _state(self) -> tuple[Any, int]:
        """Which library this is, and which version of it.

        Another library may be in its place by now, with as many versions.
        """
        return self._store.record.get("id"), self._store.version

    def _scanned(self) -> _Scan:
        """The newest version, looked through once."""
        import numpy as np

        self._store.refresh()
        state = self._state
        if self._scan is None or self._scan.state != state:
            columns = self._store.columns((*_COLUMNS, "crops"))
            times = [
                taken or datetime.fromtimestamp(ns / 1e9).isoformat()
                for taken, ns in zip(columns["taken"], columns["mtime_ns"], strict=True)
            ]
            order = np.argsort(np.array(times, dtype=np.str_), kind="stable")[::-1]
            ids = np.array(columns["id"], np.int64)[order]
            labels = Counter(filter(None, columns["label"]))
            facets = {"labels": _most(labels), **_counted(columns)}
            self._scan = _Scan(state, ids, labels, Counter(columns["crops"]), facets)
        return self._scan


def _counted(columns: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "cameras": _most(Counter(filter(None, columns["camera"]))),
        "folders": _most(Counter(path.rpartition("/")[0] for path in columns["path"])),
        "orientations": _most(Counter(filter(None, columns["orientation"]))),
        "years": _most(Counter(taken[:4] for taken in columns["taken"] if taken)),
        "located": sum(value is not None for value in columns["latitude"]),
    }


def _most(counts: Counter[str]) -> list[dict[str, Any]]:
    """The most frequent values, in alphabetical order."""
    return [
        {"value": value, "images": count}
        for value, count in sorted(counts.most_common(VALUES_SHOWN))
    ]
