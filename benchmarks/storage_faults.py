"""A library on an unreliable storage, and readers beside a writer.

    python -m benchmarks.storage_faults [--data DATA] [--images 2000] [--rounds 2] [--minutes 10]
        [--readers 4]

Needs ``pip install 'wordsight[cloud]' 'moto[server]'``; the storage is moto's S3 server on this
machine. *faults*: images of a CIFAR-10 shard in a bucket are indexed into a library at a URL,
straight and through a proxy (``benchmarks/faulty.py``: one request in twenty gets 503, one is
delayed by 200 ms, of one the answer is cut), in turn: seconds, the ratio, and what is lost or
twice. *readers*: processes with a cache each search while a writer adds two images at a time; an
answer with an odd number of images, or with fewer than the one before, is of no one version. DATA
is the folder of the data packs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.cloud import stand_in
from benchmarks.common import finish, parser
from benchmarks.faulty import faulty

INDEX = """
import sys, time, wordsight
from wordsight.sources import Head, open_source
place, shard, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = wordsight.create(place, "starter")
times = []
report = library.index_sources(
    [Head(open_source(shard), count)], progress=lambda done, _: times.append(time.perf_counter())
)
print(time.perf_counter() - times[0])
"""
"""Prints the seconds of a run from its first image on, without starting."""

READ = """
import json, sys, time
from pathlib import Path
from benchmarks import synthetic
from wordsight.api import Library
from wordsight.library import Store
place, data, end = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
words = synthetic.Words(data)
library = Library(Store.open(place), words)
answers, versions, torn, errors, before = 0, set(), 0, [], 0
while time.time() < end:
    try:
        found = len(library.search(words.prompts[answers % 700], k=10**6, anyway=True).hits)
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")
        continue
    answers += 1
    versions.add(found)
    torn += found % 2 or found < before
    before = found
print(json.dumps({"answers": answers, "versions": len(versions), "torn": torn, "errors": errors}))
"""
"""A reader; prints what it saw."""


def index_seconds(place: str, shard: str, count: int, endpoint: str, cache: Path) -> float:
    """Seconds of indexing through this endpoint. Raises where an image is lost or twice."""
    around = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "WORDSIGHT_CACHE": str(cache)}
    command = [sys.executable, "-c", INDEX, place, shard, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=around)
    return float(done.stdout.split()[-1])


def faults(url: str, data: Path, count: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The same run straight and through the proxy, in turn."""
    from wordsight.library import Store
    from wordsight.storage import Objects

    bucket = url.rpartition("/")[0]
    Objects(bucket).put("train-0.tar", data / "cifar10/train-0.tar")
    straight = os.environ["AWS_ENDPOINT_URL"]
    times: dict[str, list[float]] = {"straight": [], "faulty": []}
    wrong = 0
    with faulty(straight) as proxy:
        for turn in range(rounds):
            for name, endpoint in (("straight", straight), ("faulty", proxy.url)):
                place, cache = f"{url}-{name}-{turn}", folder / f"{name}-{turn}"
                shard = f"{bucket}/train-0.tar"
                times[name].append(index_seconds(place, shard, count, endpoint, cache))
                ids = [entry.id for entry in Store.open(place).entries()]
                wrong += len(ids) != count or len(set(ids)) != count
        met = dict(proxy.met)
    medians = {name: float(np.median(each)) for name, each in times.items()}
    ratio = medians["faulty"] / medians["straight"]
    return {"images": count, **medians, "ratio": ratio, "wrong": wrong, "met": met}


def beside(url: str, data: Path, minutes: float, readers: int, folder: Path) -> dict[str, Any]:
    """Readers beside a writer for so many minutes."""
    store = synthetic.fill(url, data, 1000).store
    end = time.time() + 60 * minutes
    reading = [
        subprocess.Popen(
            [sys.executable, "-c", READ, url, str(data), str(end)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WORDSIGHT_CACHE": str(folder / f"reader-{n}")},
        )
        for n in range(readers)
    ]
    vectors, writes = synthetic.RealLike(data, seed=1), 0
    while time.time() < end - 5:
        drawn = vectors.draw(2)
        with store.lock():
            images = [synthetic.record(-1 - 2 * writes - n, drawn[n : n + 1]) for n in (0, 1)]
            store.put(images, replace=False)
        writes += 1
        time.sleep(0.5)
    seen = [json.loads(one.communicate()[0]) for one in reading]
    return {
        "minutes": minutes,
        "writes": writes,
        "answers": sum(one["answers"] for one in seen),
        "versions": [one["versions"] for one in seen],
        "torn": sum(one["torn"] for one in seen),
        "errors": [error for one in seen for error in one["errors"]],
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--only", choices=("faults", "readers"), nargs="+")
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--readers", type=int, default=4)
    options = arguments.parse_args()
    only = options.only or ("faults", "readers")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary, stand_in() as url:
        folder = Path(temporary)
        os.environ["WORDSIGHT_CACHE"] = str(folder / "here")
        if "faults" in only:
            found = figures["faults"] = faults(
                f"{url}-f", options.data, options.images, options.rounds, folder
            )
            print(
                "{images:,} images: {straight:.1f} s straight, {faulty:.1f} s through the proxy "
                "({ratio:.2f} times as long); runs with a loss: {wrong}; met: {met}".format(
                    **found
                ),
                flush=True,
            )
        if "readers" in only:
            found = figures["readers"] = beside(
                f"{url}-r", options.data, options.minutes, options.readers, folder
            )
            print(
                "{minutes:g} minutes: {writes} writes, {answers:,} answers, of {versions} "
                "versions; {torn} of no one version, errors: {errors}".format(**found)
            )
    finish(options, figures)


if __name__ == "__main__":
    main()
