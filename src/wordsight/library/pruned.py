"""Images that were pruned can be brought back: the versions before and after stay until compact.

Lance keeps a version that has a tag, with all the files it needs. What one of a pair has and the
other has not is what was pruned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_BEFORE, _AFTER = "before-prune-", "after-prune-"


@contextlib.contextmanager
def recoverable(dataset: Any) -> Iterator[None]:
    """Within it, the rows that are deleted from the table can be had back with :func:`restore`."""
    number = int(dataset.version)
    dataset.tags.create(f"{_BEFORE}{number}", number)
    yield
    dataset.tags.create(f"{_AFTER}{number}", int(dataset.version))


def restore(dataset: Any) -> int:
    """Append the pruned images that the table has not by now; the number of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tags = dataset.tags.list()
    restored = 0
    numbers = [int(tag.removeprefix(_BEFORE)) for tag in tags if tag.startswith(_BEFORE)]
    for number in sorted(numbers, reverse=True):  # what was pruned last is the newest state
        before = dataset.checkout_version(f"{_BEFORE}{number}")
        after = tags.get(f"{_AFTER}{number}")
        # A run that was killed as it pruned has no version after it but the newest.
        other = dataset.checkout_version(f"{_AFTER}{number}") if after else dataset
        there = [_ids(one) for one in (other, dataset)]
        gone = _ids(before)
        for ids in there:
            gone = gone.filter(pc.invert(pc.is_in(gone, value_set=ids)))
        for start in range(0, len(gone), 5000):
            some = ",".join(map(str, gone[start : start + 5000].to_pylist()))
            rows: pa.Table = before.to_table(filter=f"id in ({some})")
            dataset.insert(rows, mode="append")
        restored += len(gone)
    forget(dataset)
    return restored


def forget(dataset: Any) -> None:
    """Let the pruned images go."""
    for tag in dataset.tags.list():
        if tag.startswith((_BEFORE, _AFTER)):
            dataset.tags.delete(tag)


def _ids(dataset: Any) -> Any:
    return dataset.to_table(columns=["id"], filter="view = 0")["id"].combine_chunks()
