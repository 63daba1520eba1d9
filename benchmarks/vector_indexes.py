"""The approximate index beside those of Lance and faiss: what they find for words in equal time.

    python -m benchmarks.vector_indexes [--data DATA] [--views 1000000] [--keep DIR]
        [--engines scan IVF_PQ IVF_PQ+words IVF_RQ IVF_HNSW_SQ faiss faiss+words]

A library of synthetic views (``benchmarks/synthetic.py``), searched for the ten nearest with real
text vectors of LVIS names. *scan* is wordsight's own index. The others cut the views into lists
about centroids and look at a part of these: Lance's IVF_PQ, IVF_RQ and IVF_HNSW_SQ, which read the
vectors of the nearest from the table (``refine_factor``), and ``faiss``: the same codes as the scan
in inverted lists, on disk, with its nearest read and scored exactly as wordsight does it.
Centroids are learnt from a sample of the images; with ``+words`` from it and from the bank's text
vectors, one to four, because words do not lie among images. Centroids that no image of the sample
is nearest to are then left out. The words that are searched are others.

How many lists are looked at, and how many vectors are read, is chosen on 100 words: the fastest
setting with a recall of at least .98, and the best that takes at most twice as long as the scan.
Figures are of 100 other words, one at a time, with all cores: recall@10 against all vectors, and
the median of the milliseconds. DATA is the folder of the data packs. 10,000,000 views need 20 GB of
disk and two hours.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.common import finish, parser
from benchmarks.scale import K, nearest
from wordsight.library import id_from_int
from wordsight.library.index.ann import TRAINING_VECTORS
from wordsight.library.index.large import LargeVersion, indexed_versions
from wordsight.library.table import BLOCK, matrix_of

ASKED = 100  # words that are chosen on, and as many that are measured
GOAL = 0.98
TIMES = 2  # as long as the scan an engine may take
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the lists
READ = (5, 20, 80)  # times ten vectors

Search = Callable[[synthetic.Floats], list[int]]
"""From a query [D] to the ids of the ten nearest."""


@dataclass
class Engine:
    """An index, and a search for each of its settings, from fast to thorough."""

    seconds: float | None
    bytes: int
    searches: Iterator[tuple[str, Search]]


def scan(place: Path, seconds: float | None) -> Engine:
    """wordsight's own, which was made with the library."""
    opened = newest(place)

    def search(query: synthetic.Floats) -> list[int]:
        found = opened.snapshot(opened.nearest(query[None], K, True))
        best = np.argsort(-(found.vectors @ query))[:K]
        return [int(found.ids[i]) for i in best]

    size = (place / f"views-{opened.version}.ann").stat().st_size
    return Engine(seconds, size, iter([("all", search)]))


def newest(place: Path) -> LargeVersion:
    """The version that the library's index was made of."""
    (version,) = indexed_versions(place)
    return LargeVersion.open(place, version)


def centroids(
    opened: LargeVersion,
    words: synthetic.Floats | None,
    lists: int,
    mean: synthetic.Floats | float = 0.0,
) -> synthetic.Floats:
    """Of k-means over a sample of the images, or of them and words: [lists or fewer, D].

    Of the vectors less their ``mean`` [D], where that is given.
    """
    import faiss

    rng = np.random.default_rng(1)
    count = min(opened.views, 64 * lists)
    images = opened.vectors_of(np.sort(rng.choice(opened.views, count, False))) - mean
    sample = images
    if words is not None:
        sample = np.concatenate([images, words[rng.integers(len(words), size=count // 4)] - mean])
    means = faiss.Kmeans(sample.shape[1], lists, niter=8, spherical=True, seed=1)
    means.train(sample)
    used = np.unique(means.index.search(images, 1)[1])
    found: synthetic.Floats = np.asarray(means.centroids)[used]
    return found


def lance_index(kind: str, place: Path, words: synthetic.Floats | None) -> Engine:
    """One of Lance's, on a table that shares its files with the library's."""
    import lance

    table = place.parent / f"{place.stem}-{kind}.lance"
    shutil.rmtree(table, ignore_errors=True)
    shutil.copytree(place / "views.lance", table, copy_function=os.link)
    dataset = lance.dataset(str(table))
    began, before = time.perf_counter(), size_of(table)
    means = centroids(newest(place), words, list_count(dataset.count_rows(), kind))
    lists = len(means)
    more: dict[str, Any] = {"num_sub_vectors": 128} if kind == "IVF_PQ" else {}
    dataset.create_index(
        "vector", kind, metric="dot", num_partitions=lists,
        ivf_centroids=means.astype(np.float16), **more,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    dataset = lance.dataset(str(table), index_cache_size_bytes=8 << 30)

    def searches() -> Iterator[tuple[str, Search]]:
        for probes, read in settings(lists):

            def search(query: synthetic.Floats, probes: int = probes, read: int = read) -> Any:
                asked = {"column": "vector", "q": query, "k": K, "nprobes": probes,
                         "refine_factor": read, "ef": K * read, "metric": "dot"}  # fmt: skip
                return dataset.to_table(columns=["id"], nearest=asked)["id"].to_pylist()

            yield f"{probes} of {lists} lists, {K * read} vectors", search

    return Engine(seconds, size_of(table) - before, searches())


def faiss_index(place: Path, words: synthetic.Floats | None) -> Engine:
    """The codes of the scan in inverted lists, in a file that is mapped into memory."""
    import faiss

    opened = newest(place)
    began = time.perf_counter()
    rows = np.random.default_rng(2).choice(
        opened.views, min(opened.views, TRAINING_VECTORS), replace=False
    )
    sample = opened.vectors_of(np.sort(rows))
    mean = sample.mean(axis=0)  # as in the scan, so that codes are of what tells views apart
    means = centroids(opened, words, list_count(opened.views, "faiss"), mean)
    lists = len(means)
    index: Any = faiss.index_factory(
        means.shape[1], f"PCAR256,IVF{lists},PQ256x4fs", faiss.METRIC_INNER_PRODUCT
    )
    turn = index.chain.at(0)
    turn.train(sample - mean)
    inner = faiss.extract_index_ivf(index)
    inner.quantizer.add(turn.apply(means))  # as many as there are lists: they are taken as they are
    index.train(sample - mean)
    for batch in opened.dataset.to_batches(columns=["vector"], batch_size=BLOCK):
        index.add(matrix_of(batch["vector"]) - mean)
    file = place.parent / f"{place.stem}.faiss"
    faiss.write_index(index, str(file))
    seconds = time.perf_counter() - began
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    ids = opened.dataset.to_table(columns=["id"])["id"].to_numpy()
    inner = faiss.extract_index_ivf(index)

    def searches() -> Iterator[tuple[str, Search]]:
        for probes, read in settings(lists):

            def search(query: synthetic.Floats, probes: int = probes, read: int = read) -> Any:
                inner.nprobe = probes
                _, (found,) = index.search(query[None], K * read)
                found = np.sort(found[found >= 0])
                best = np.argsort(-(opened.vectors_of(found) @ query))[:K]
                return ids[found[best]].tolist()

            yield f"{probes} of {lists} lists, {K * read} vectors", search

    return Engine(seconds, file.stat().st_size, searches())


def list_count(views: int, kind: str) -> int:
    """As many lists as the engines advise: the root of the views, fewer where lists are graphs."""
    return max(1, views // 100_000) if "HNSW" in kind else round(views**0.5)


def settings(lists: int) -> Iterator[tuple[int, int]]:
    """How many lists are looked at, and how many vectors are read for each that is wanted."""
    probes = dict.fromkeys(max(1, round(share * lists)) for share in SHARES)
    return itertools.product(probes, READ)


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def asked(search: Search, queries: synthetic.Floats, truth: list[set[str]]) -> dict[str, float]:
    """Recall and the median of milliseconds."""
    for query in queries[:3]:
        search(query)
    times, recall = [], []
    for query, right in zip(queries, truth, strict=True):
        began = time.perf_counter()
        found = search(query)
        times.append((time.perf_counter() - began) * 1000)
        recall.append(len({id_from_int(i) for i in found} & right) / K)
    return {"recall": float(np.mean(recall)), "ms": float(np.median(times))}


def chosen(
    engine: Engine, words: synthetic.Floats, truth: list[set[str]], limit: float
) -> dict[str, dict[str, Any]]:
    """What the settings make that were chosen on the first words, on the others."""
    best: dict[str, tuple[float, str, Search]] = {}
    for name, search in engine.searches:
        # A few tell whether it is too slow to be asked more.
        slow = min(10 * limit, max(limit, -best["good"][0] if "good" in best else np.inf))
        if asked(search, words[:5], truth[:5])["ms"] > slow:
            continue
        found = asked(search, words[:ASKED], truth[:ASKED])
        print(f"  {name}: {found['recall']:.3f}, {found['ms']:.1f} ms", file=sys.stderr, flush=True)
        for rule, value in (
            ("good", -found["ms"] if found["recall"] >= GOAL else None),
            ("fast", found["recall"] if found["ms"] <= limit else None),
        ):
            if value is not None and (rule not in best or value > best[rule][0]):
                best[rule] = value, name, search
    return {
        rule: {"setting": name, **asked(search, words[ASKED:], truth[ASKED:])}
        for rule, (_, name, search) in best.items()
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    kinds = ("scan", "IVF_PQ", "IVF_PQ+words", "IVF_RQ", "IVF_HNSW_SQ", "faiss", "faiss+words")
    arguments.add_argument("--views", type=int, default=1_000_000)
    arguments.add_argument("--engines", nargs="+", choices=kinds, default=kinds)
    arguments.add_argument("--keep", type=Path, help="where the library is, or stays")
    options = arguments.parse_args()
    os.environ["WORDSIGHT_EXACT_MB"] = "0"  # the index is made with the library
    learnt, words = synthetic.texts(options.data)
    words = words[: 2 * ASKED]
    rows: list[dict[str, Any]] = []
    limit = float("inf")
    with tempfile.TemporaryDirectory() as temporary:
        place = (options.keep or Path(temporary)) / f"{options.views}.lib"
        filled = None  # with the library, if it is made here
        if not place.exists():
            began = time.perf_counter()
            synthetic.fill(place, options.data, options.views)
            filled = time.perf_counter() - began
        truth = [set(ids) for ids in nearest(place, words)]
        for kind in options.engines:
            name, _, words_too = kind.partition("+")
            among = learnt if words_too else None
            if kind == "scan":
                engine = scan(place, filled)
            elif name == "faiss":
                engine = faiss_index(place, among)
            else:
                engine = lance_index(name, place, among)
            found = chosen(engine, words, truth, limit)
            if kind == "scan":
                limit = TIMES * found["good"]["ms"]
            rows.append({"engine": kind, "seconds": engine.seconds, "bytes": engine.bytes, **found})
            print(f"{kind} measured", file=sys.stderr, flush=True)
    report(options.views, rows)
    finish(options, {"views": options.views, "rows": rows})


def report(views: int, rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{views:,} views, recall@10 for words (ms of one search)")
    print(f"{'':12} {'made in':>8} {'a view':>8}  recall of {GOAL} / twice the scan's time")
    for row in rows:
        made = "-" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        print(f"{row['engine']:12} {made:>8} {row['bytes'] / views:>6.0f} B", end="")
        for rule in ("good", "fast"):
            if found := row.get(rule):
                print(f"  {found['recall']:.3f} ({found['ms']:.1f}), {found['setting']}", end="")
            else:
                print("  -", end="")
        print()


if __name__ == "__main__":
    main()
