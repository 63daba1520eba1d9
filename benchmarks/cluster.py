"""Indexing on a Ray cluster beside a plain run, what is lost when processes are killed, and fleets.

    python -m benchmarks.cluster [--only speed driver kills fleet] [--images 2000] [--rounds 3]
        [--shards 10000] [--each 100] [--kills 10] [--driver-kills 3]
        [--model DIR] [--places SHARD ...] [--data DATA] [--views 4000000] [--slices 4] [--keep DIR]

Needs ``pip install 'wordsight[ray]'``.

*speed*: indexes CIFAR-10 images with the starter model, on a cluster of this machine's cores: one
worker beside a plain run with one thread, two workers beside one with two, in turn. Images a second
are counted from the first that was done, so starting is left out. *driver*: what one driver can
take in from workers that sleep in the place of encoding: it hands out the images of ``--shards``
shards and commits the fragments that come back, on a real cluster; the rate of the whole run counts
listing, merging fragments and preparing searches too. *kills*: as many random kills of workers and
of the driver as asked, with the rows that are lost or twice; of each of ``--places`` the same
number of images, with ``--model``. *fleet*: a large library of synthetic views
(``benchmarks/synthetic.py``; DATA is the folder of the data packs) searched by one process and by a
fleet on this machine, in turn: 200 queries, how many get the same hits and decision, and
milliseconds of both and of the difference; and the processor time of both, which says more where
other programs run beside. The library is made in ``--keep``, or found there.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks.common import finish, parser
from wordsight.indexing import WRITE_EVERY
from wordsight.indexing.cluster import Cluster, _Answer
from wordsight.indexing.decoding import Decoded
from wordsight.indexing.records import Written, record_of
from wordsight.library.fragments import Fragment, FragmentWriter
from wordsight.sources import Item
from wordsight.sources.base import item_id
from wordsight.sources.tar import read_member

_MARK = f"WORDSIGHT_BENCHMARK={os.getpid()}"  # what this process starts inherits it

RUN = """
import sys, time, wordsight
from wordsight.sources import Head, open_source
library, count, workers, *places = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
cluster = None
if workers:
    import ray
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    from wordsight.indexing.cluster import Cluster
    cluster = Cluster()
times = []
wordsight.open(library).index_sources(
    [Head(open_source(place), count // len(places)) for place in places],
    cluster=cluster,
    progress=lambda done, _: times.append((done, time.perf_counter())),
)
(first, began), (last, ended) = times[0], times[-1]
print((last - first) / (ended - began))
"""
"""Prints the images a second of one run in a process of its own."""


def speed(folder: Path, count: int, *, threads: int, workers: int) -> float:
    """Images a second of a run with so many threads, or workers."""
    library = wordsight.create(folder / os.urandom(4).hex(), "starter")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(library.path), str(count), str(workers), "cifar10"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "WORDSIGHT_THREADS": str(threads)},
    )
    assert len(wordsight.open(library.path)) == count
    return float(done.stdout.split()[-1])


class Sleeper:
    """A worker that sleeps where others decode and encode; then it gives a fragment of its rows.

    It writes one, and hands out links to that under other names: the driver has the same to do.
    """

    def __init__(self, task: Any) -> None:
        import ray

        self.writer: FragmentWriter = ray.get(task.writer)
        self.made: dict[int, tuple[Fragment, Path]] = {}
        self.vectors = np.random.default_rng(0).normal(size=(WRITE_EVERY, self.writer.dim))
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)

    def embed(self, chunk: Sequence[Item]) -> _Answer:
        """Answer for a chunk."""
        time.sleep(0.01)
        if len(chunk) not in self.made:
            decoded = [Decoded(item, item.id * 2, 32, 32, regions=[]) for item in chunk]
            records = [
                record_of(one, one.item, None, [vector], "none")
                for one, vector in zip(decoded, self.vectors, strict=False)
            ]
            first = self.writer.write(records)
            template = self.writer.place / os.urandom(8).hex()
            template.hardlink_to(self.writer.place / first.name)
            self.made[len(chunk)] = first, template
        first, template = self.made[len(chunk)]
        name = f"{os.urandom(24).hex()}.lance"
        (self.writer.place / "data" / name).hardlink_to(template)
        known = first.metadata.replace(Path(first.name).name, name)
        return _Answer(Written(replace(first, metadata=known), len(chunk), [0] * len(chunk)))


class Shard:
    """A source that lists so many images of a shard."""

    problems: tuple[tuple[str, str], ...] = ()

    def __init__(self, number: int, images: int) -> None:
        self.name = f"/shards/{number:05}.tar"
        self.root = f"{self.name}::"
        self.images = images

    def items(self) -> list[Item]:
        """As :class:`wordsight.sources.tar.TarSource` lists them."""
        paths = [f"{self.root}{n:05}.jpg" for n in range(self.images)]
        return [
            Item(
                item_id(path),
                path,
                20_000,
                1,
                None,
                self.root,
                partial(read_member, self.name, n * 20_480),
            )
            for n, path in enumerate(paths)
        ]


def driver_rate(folder: Path, shards: int, images: int, workers: int = 8) -> dict[str, float]:
    """Images a second that one driver takes in and commits, and over the whole run."""
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    library = wordsight.create(folder / "driver", "starter")
    times: list[tuple[int, float, float]] = []
    began = time.perf_counter(), time.process_time()
    report = library.index_sources(
        [Shard(number, images) for number in range(shards)],  # type: ignore[misc]
        cluster=Cluster(worker=Sleeper),
        progress=lambda done, _: times.append((done, time.perf_counter(), time.process_time())),
    )
    ended = time.perf_counter(), time.process_time()
    ray.shutdown()
    assert report.indexed == report.images == shards * images
    first, last = times[0], times[-1]
    taken = last[0] - first[0]
    return {
        "images": shards * images,
        "shards": shards,
        "per_second": taken / (last[1] - first[1]),
        "per_processor_second": taken / (last[2] - first[2]),
        "whole_run_per_second": shards * images / (ended[0] - began[0]),
        "whole_run_per_processor_second": shards * images / (ended[1] - began[1]),
    }


def kill(
    folder: Path, model: str, places: Sequence[str], count: int, kills: int, drivers: int
) -> dict[str, int]:
    """Kill workers and drivers at random until the run is whole; what is lost or twice."""
    library = wordsight.create(folder / "killed", model)
    count -= count % len(places)
    chance = random.Random(0)
    done = {"workers": 0, "drivers": 0}
    over = threading.Event()

    def at_random() -> None:
        while not over.wait(chance.uniform(0.3, 3)) and done["workers"] < kills:
            if found := pids("ray::_Worker"):
                os.kill(chance.choice(found), signal.SIGKILL)
                done["workers"] += 1

    killer = threading.Thread(target=at_random)
    killer.start()
    command = [sys.executable, "-c", RUN, str(library.path), str(count), "2", *places]
    while True:
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            left = chance.uniform(10, 30) if done["drivers"] < drivers else None
            if run.wait(left) == 0 and done["workers"] >= kills:
                break
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            done["drivers"] += 1
    over.set()
    killer.join()
    ids = [entry.id for entry in wordsight.open(library.path).store.entries()]
    return {**done, "lost": count - len(set(ids)), "twice": len(ids) - len(set(ids))}


def fleet(place: Path, data: Path, views: int, slices: int, queries: int = 200) -> dict[str, Any]:
    """One process and a fleet over one library, asked in turn; milliseconds are medians."""
    from benchmarks import synthetic
    from wordsight.api import Library
    from wordsight.library import Store

    os.environ["WORDSIGHT_EXACT_MB"] = "0"  # else small ones would be read into memory
    if not place.exists():
        synthetic.fill(place, data, views)
    words = synthetic.Words(data)
    alone, together = (Library(Store.open(place), words) for _ in range(2))  # type: ignore[arg-type]
    together.shard(slices)
    replicas = pids("ray::Holder")
    for prompt in words.prompts[-3:]:
        one, many = (library.search(prompt, anyway=True) for library in (alone, together))
    hits = decisions = 0
    times: list[tuple[float, float]] = []
    used = [0.0, 0.0]  # seconds of processors
    for turn, prompt in enumerate(words.prompts[:queries]):
        found = {}
        for n in (0, 1) if turn % 2 else (1, 0):
            before, started = processor_seconds(replicas), time.perf_counter()
            result = (alone, together)[n].search(prompt, anyway=True)
            found[n] = result, (time.perf_counter() - started) * 1000
            used[n] += processor_seconds(replicas) - before
        (one, first), (many, second) = found[0], found[1]
        assert one.answered == many.answered == 1
        times.append((first, second))
        hits += one.hits == many.hits
        decisions += one.decision == many.decision
    assert together.store.fleet is not None
    together.store.fleet.close()
    single, several = np.array(times).T
    return {
        "views": views,
        "slices": slices,
        "queries": queries,
        "same_hits": hits,
        "same_decisions": decisions,
        "one_p50": float(np.median(single)),
        "fleet_p50": float(np.median(several)),
        "difference_p50": float(np.median(several - single)),
        "one_processor": used[0] / queries * 1000,
        "fleet_processor": used[1] / queries * 1000,
    }


def pids(pattern: str) -> list[int]:
    """Processes of this benchmark's own clusters whose command line fits a pattern."""
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False)
    own = []
    for pid in map(int, found.stdout.split()):
        with contextlib.suppress(OSError):
            if _MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                own.append(pid)
    return own


def processor_seconds(others: Sequence[int]) -> float:
    """Seconds of processors that this process and others have used."""
    ticks = 0
    for pid in others:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, optional="data")
    parts = ("speed", "driver", "kills", "fleet")
    arguments.add_argument("--only", choices=parts, nargs="+", default=parts)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--shards", type=int, default=10_000)
    arguments.add_argument("--each", type=int, default=100, help="images in each of them")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--driver-kills", type=int, default=3)
    arguments.add_argument("--model", default="starter", help="of the kills")
    arguments.add_argument("--places", nargs="+", default=["cifar10"], metavar="SHARD")
    arguments.add_argument("--views", type=int, default=4_000_000)
    arguments.add_argument("--slices", type=int, default=4)
    arguments.add_argument("--keep", type=Path, help="where the fleet's library is, or stays")
    options = arguments.parse_args()
    os.environ[_MARK.partition("=")[0]] = _MARK.partition("=")[2]
    figures: dict[str, Any] = {"images": options.images}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "speed" in options.only:
            for n in (1, 2):
                ratios = []
                for _ in range(options.rounds):
                    plain = speed(folder, options.images, threads=n, workers=0)
                    ratios.append(speed(folder, options.images, threads=1, workers=n) / plain)
                figures[f"workers_{n}"] = statistics.median(ratios)
                each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                median = figures[f"workers_{n}"]
                print(f"{n} worker(s) against {n} thread(s): {median:.2f} ({each})", flush=True)
        if "driver" in options.only:
            driver = figures["driver"] = driver_rate(folder, options.shards, options.each)
            print(
                "{images:,} images in {shards:,} shards: the driver takes in {per_second:,.0f} "
                "images/s ({per_processor_second:,.0f} a second of its processor time); the whole "
                "run {whole_run_per_second:,.0f} ({whole_run_per_processor_second:,.0f})".format(
                    **driver
                ),
                flush=True,
            )
        if "kills" in options.only:
            figures |= kill(
                folder, options.model, options.places, options.images, options.kills,
                options.driver_kills,
            )  # fmt: skip
            print(
                f"{figures['workers']} workers and {figures['drivers']} drivers killed over "
                f"{options.images:,} images: {figures['lost']} lost, {figures['twice']} twice"
            )
        if "fleet" in options.only:
            place = (options.keep or folder) / f"{options.views}.lib"
            figures["fleet"] = fleet(place, options.data, options.views, options.slices)
            print(
                "{views:,} views in {slices} slices: {same_hits} and {same_decisions} of {queries} "
                "queries get the hits and the decision of one process; p50 {one_p50:.1f} ms by "
                "one process, {fleet_p50:.1f} ms by the fleet, {difference_p50:+.1f} ms; "
                "processor time {one_processor:.1f} and {fleet_processor:.1f} ms a search".format(
                    **figures["fleet"]
                )
            )
    finish(options, figures)


if __name__ == "__main__":
    main()
