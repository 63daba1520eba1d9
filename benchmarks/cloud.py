"""What a library at a URL costs, beside the same library in a directory.

    python -m benchmarks.cloud [--data DATA] [--views 100000] [--runs 5] [--url s3://BUCKET/PREFIX]

A library of synthetic vectors (``benchmarks/synthetic.py``) is made in a directory and at a URL.
*open and search*: a fresh process opens it and answers one query, its replica in the cache being up
to date; the URL's share is asking the storage what is new. *refresh*: the first search of a reader
after a writer added one image, by the clock and in processor time of the reader. Without ``--url``,
moto's S3 server on this machine is the storage (``pip install 'moto[server]'``), which is slower to
write to than a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.common import finish, parser


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    """The URL of a place in moto's S3 server, which runs within this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(OSError):
                bucket = urllib.request.Request(f"{endpoint}/benchmark", method="PUT")
                urllib.request.urlopen(bucket, timeout=60).close()
                break
            time.sleep(0.1)
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        yield "s3://benchmark/library"
    finally:
        server.kill()
        server.wait()


def measure(place: str, data: Path) -> dict[str, float]:
    """Open the library and search once; run in a process of its own."""
    from wordsight.api import Library
    from wordsight.library import Store

    words: Any = synthetic.Words(data)
    before, started = time.process_time(), time.perf_counter()
    store = Store.open(place)
    opened = time.perf_counter() - started
    Library(store, words).search(words.prompts[0], anyway=True)
    clock = time.perf_counter() - started
    return {"open": opened, "clock": clock, "processor": time.process_time() - before}


def in_a_process(place: str, data: Path) -> dict[str, float]:
    """:func:`measure`, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cloud", "--data", str(data), "--measure", place]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def refreshes(place: str, data: Path, cache: Path, runs: int) -> list[dict[str, float]]:
    """Seconds of writing one image, and of a reader's search after it (``cpu``: of its processor).

    The writer has a cache of its own.
    """
    from wordsight.api import Library
    from wordsight.library import Store
    from wordsight.library.remote import store as remote

    remote._LOOK_EVERY = 0
    words: Any = synthetic.Words(data)
    reader = Library(Store.open(place), words)
    os.environ["WORDSIGHT_CACHE"] = str(cache)
    writer = Store.open(place)
    vectors = synthetic.RealLike(data, seed=1).draw(runs + 1)

    found = []
    for run in range(runs + 1):
        reader.search(words.prompts[0], anyway=True)
        started = time.perf_counter()
        image = synthetic.record(-1 - run, vectors[run : run + 1])
        with writer.lock():
            writer.put([image], replace=False)
            writer.settle()
        wrote, used = time.perf_counter(), time.process_time()
        reader.search(words.prompts[0], anyway=True)
        after, cpu = time.perf_counter() - wrote, time.process_time() - used
        found.append({"write": wrote - started, "after": after, "cpu": cpu})
    return found[1:]  # in the first one modules are imported


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--views", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--url", help="an empty place in object storage, instead of moto's")
    arguments.add_argument("--measure", metavar="PLACE", help="in a process of its own")
    given = arguments.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.data)))
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = given.url or stack.enter_context(stand_in())
        os.environ["WORDSIGHT_CACHE"] = f"{folder}/reader"
        directory = str(Path(folder) / "library")
        for place in (directory, url):
            synthetic.fill(place, given.data, given.views)
        opened = []
        for run in range(given.runs):
            local, remote = in_a_process(directory, given.data), in_a_process(url, given.data)
            opened.append({"directory": local, "url": remote})
            if run == 0:
                print("| | open (s) | open and search (s) | processor time (s) |")
                print("| --- | --- | --- | --- |")
            for name, found in (("directory", local), ("URL", remote)):
                row = " | ".join(f"{found[part]:.2f}" for part in ("open", "clock", "processor"))
                print(f"| {name} | {row} |", flush=True)
        ratio = float(
            np.median([one["url"]["clock"] / one["directory"]["clock"] for one in opened])
        )
        print(f"\n{given.views:,} views; URL / directory: {ratio:.2f} (median)\n")
        print("| | write one image (s) | first search after it (s) | its processor time (s) |")
        print("| --- | --- | --- | --- |")
        refreshed = {}
        for name, place in (("directory", directory), ("URL", url)):
            os.environ["WORDSIGHT_CACHE"] = f"{folder}/reader"
            cache = Path(folder) / "writer"
            refreshed[name] = refreshes(place, given.data, cache, given.runs)
            for one in refreshed[name]:
                row = " | ".join(f"{one[part]:.2f}" for part in ("write", "after", "cpu"))
                print(f"| {name} | {row} |", flush=True)
    figures = {"views": given.views, "opened": opened, "ratio": ratio, "refreshed": refreshed}
    finish(given, figures)


if __name__ == "__main__":
    main()
