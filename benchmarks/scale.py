"""How the cost of a search grows with the library: time, memory, disk, and what is found.

    python -m benchmarks.scale [--data DATA] [--views 1000 10000 100000 1000000] [--queries 100]
        [--keep DIR]

Libraries of vectors spread as real CLIP vectors are (``benchmarks/synthetic.py``), asked with real
text vectors of LVIS names: the whole search is timed but for the text encoder, which costs the same
at any size. *exact*: all vectors in memory; *index*: the approximate index, as in libraries above
the memory budget. Each is measured in a process of its own, whose memory is counted from before the
library is opened. *product*: the bare numpy product of the vectors with one query (with 32), in the
same process. *recall*: the share of the exact ten nearest that the index finds, for 200 queries;
the exact ones are read off all vectors in blocks, so that memory stays small at any size. DATA is
the folder of the data packs; 10,000,000 views need 12 GB of disk and half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.common import finish, parser
from benchmarks.tables import slope

K = 10
ASKED = 200  # queries that recall is counted on
BLOCK = 16_384  # vectors that are scored at once for it
EXACT_UP_TO = 2_000_000  # views; above, the vectors as float32 are more than most machines hold


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def spread(action: Callable[[int], Any], runs: int) -> dict[str, float]:
    """Milliseconds of ``action(run)``: median and 99th percentile, after two uncounted runs."""
    times = []
    for run in range(runs + 2):
        started = time.perf_counter()
        action(run)
        times.append((time.perf_counter() - started) * 1000)
    return {"p50": float(np.median(times[2:])), "p99": float(np.percentile(times[2:], 99))}


def measure(place: Path, data: Path, mode: str, queries: int) -> dict[str, Any]:
    """One library in one mode; run in a process of its own."""
    from wordsight.api import Library
    from wordsight.library import Store

    words = synthetic.Words(data)
    before = resident()
    store = Store.open(place)
    library = Library(store, words)  # type: ignore[arg-type]
    prompts = words.prompts
    library.search(prompts[0], anyway=True)
    library.search(prompts[1], anyway=True)
    found: dict[str, Any] = {"memory": resident() - before}
    found["one"] = spread(lambda i: library.search(prompts[i % 700], anyway=True), queries)
    batches = max(3, queries // 10)
    found["batch"] = spread(
        lambda i: library.search(prompts[32 * (i % 20) :][:32], anyway=True), batches
    )
    asked = prompts[:ASKED]
    results = [
        result
        for begin in range(0, ASKED, 25)
        for result in library.search(asked[begin : begin + 25], K, anyway=True)
    ]
    found["ids"] = [[hit.id for hit in result.hits] for result in results]
    found["match"] = [result.match for result in results]
    if mode == "exact":
        vectors = store.snapshot().vectors
        found["product"] = spread(lambda i: vectors @ words.vectors[i % 700], queries)
        found["product32"] = spread(
            lambda i: words.vectors[32 * (i % 20) :][:32] @ vectors.T, batches
        )
    return found


def nearest(place: Path, queries: synthetic.Floats) -> list[list[str]]:
    """Ids of the ``K`` views nearest to each query [Q, D], best first, by plain products in blocks.

    For libraries without crops: a view is an image.
    """
    from wordsight.library import Store, id_from_int

    best = np.full((len(queries), K), -np.inf, np.float32)
    ids = np.zeros((len(queries), K), np.int64)
    store = Store.open(place)
    for batch in store.dataset.to_batches(columns=["id", "vector"], batch_size=BLOCK):
        flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(len(batch), -1).astype(np.float32)
        scores = np.concatenate([best, queries @ vectors.T], axis=1)
        places = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        own = np.broadcast_to(batch["id"].to_numpy(), (len(queries), len(batch)))
        ids = np.take_along_axis(np.concatenate([ids, own], axis=1), places, axis=1)
        best = np.take_along_axis(scores, places, axis=1)
    ids = np.take_along_axis(ids, np.argsort(-best, axis=1, kind="stable"), axis=1)
    return [[id_from_int(value) for value in row] for row in ids]


def in_a_process(place: Path, data: Path, mode: str, queries: int) -> dict[str, Any]:
    """:func:`measure` with the memory budget that leads to ``mode``."""
    budget = "1000000" if mode == "exact" else "0"
    command = [sys.executable, "-m", "benchmarks.scale", "--data", str(data)]
    command += ["--measure", str(place), mode, "--queries", str(queries)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "WORDSIGHT_EXACT_MB": budget},
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def disk(place: Path) -> dict[str, int]:
    """Bytes on disk: the table, and the index with what belongs to it."""
    sizes = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    table = sum(size for path, size in sizes.items() if "views.lance" in path.parts)
    return {"table": table, "index": sum(sizes.values()) - table}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    sizes = [1000, 10_000, 100_000, 1_000_000]
    arguments.add_argument("--views", type=int, nargs="+", default=sizes)
    arguments.add_argument("--queries", type=int, default=100)
    arguments.add_argument("--keep", type=Path, help="where libraries are, or stay")
    arguments.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        place, mode = options.measure
        print(json.dumps(measure(Path(place), options.data, mode, options.queries)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for views in options.views:
            place = (options.keep or Path(temporary)) / f"{views}.lib"
            row: dict[str, Any] = {"views": views}
            if not place.exists():
                started = time.perf_counter()
                os.environ["WORDSIGHT_EXACT_MB"] = "0"  # the index is made with the library
                synthetic.fill(place, options.data, views)
                row["fill_seconds"] = time.perf_counter() - started
            index = in_a_process(place, options.data, "index", options.queries)
            truth = nearest(place, synthetic.Words(options.data).vectors[:ASKED])
            shared = zip(index["ids"], truth, strict=True)
            row["recall"] = float(np.mean([len(set(a) & set(b)) / K for a, b in shared]))
            if views <= EXACT_UP_TO:
                exact = in_a_process(place, options.data, "exact", options.queries)
                assert [set(ids) for ids in exact["ids"]] == [set(ids) for ids in truth]
                both = zip(index["match"], exact["match"], strict=True)
                row["same_decision"] = float(np.mean([a == b for a, b in both]))
                row["exact"] = exact
            row["index"] = index
            row["disk"] = disk(place)
            for found in (index, row.get("exact", {})):
                found.pop("ids", None)
                found.pop("match", None)
            rows.append(row)
            print(f"{views:,} views measured", file=sys.stderr, flush=True)
    finish(options, {"rows": rows})
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("\nmilliseconds, p50 (p99); batch: 32 queries in one call")
    print(
        f"{'views':>11}  {'how':<6} {'one query':>16} {'product':>9} {'ratio':>6} {'batch':>16}",
        end="",
    )
    print(f" {'product':>9} {'ratio':>6} {'recall@10':>10} {'memory/view':>12}")
    for row in rows:
        for mode in ("exact", "index"):
            found = row.get(mode)
            if not found:
                continue
            one, batch = found["one"], found["batch"]
            bare, bare32 = found.get("product"), found.get("product32")
            line = f"{row['views']:>11,}  {mode:<6} {one['p50']:>8.2f} ({one['p99']:>5.1f})"
            line += f" {bare['p50']:>9.2f} {one['p50'] / bare['p50']:>5.1f}x" if bare else " " * 17
            line += f" {batch['p50']:>8.1f} ({batch['p99']:>5.0f})"
            line += (
                f" {bare32['p50']:>9.1f} {batch['p50'] / bare32['p50']:>5.1f}x"
                if bare32
                else " " * 17
            )
            recall = row.get("recall") if mode == "index" else None
            line += f" {recall:>10.3f}" if recall is not None else " " * 11
            print(f"{line} {found['memory'] / row['views']:>9,.0f} B")
    print("\nbytes on disk a view: float16 vectors 1,024")
    for row in rows:
        table, index = (row["disk"][key] / row["views"] for key in ("table", "index"))
        print(
            f"{row['views']:>11,}  table {table:,.0f} ({table / 1024:.2f}x), index and statistics "
            f"{index:,.0f}, together {(table + index) / 1024:.2f}x; "
            f"made in {row.get('fill_seconds', float('nan')):.0f} s; "
            f"same decision as exact: {row.get('same_decision', float('nan')):.3f}"
        )
    for mode in ("exact", "index"):
        exponent, most = slope(rows, mode)
        if np.isfinite(exponent):  # else there is one size, or none
            print(f"{mode}: time grows as views^{exponent:.2f} from 10,000 to {most:,} views")


if __name__ == "__main__":
    main()
