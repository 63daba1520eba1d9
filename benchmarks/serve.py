"""How many searches a second the server answers over loopback, beside the same without a server.

    python -m benchmarks.serve [--views 100000] [--clients 1 8 64] [--seconds 5]
    python -m benchmarks.serve --clients 64 --seconds 600 --rounds 1   # memory, errors

Random unit vectors of the starter model's dimension; every request is another prompt, encoded and
scored anew. The server is a process of its own (``wordsight serve``); the clients keep one
connection each and ask again as soon as they are answered. They need the processor too: on few
cores they take it from the server. The rate without a server is that of ``Library.search`` with 64
prompts at a time. Both are measured in turn, several rounds, and the medians given, since other
work on the machine would fall on one of them alone. Processor time a query does not depend on what
else the machine does, nor on the clients. What is not answered with 200 is counted by its reason,
and the server's memory is looked at ten times a round.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import numpy as np

import wordsight
from benchmarks.common import finish, parser
from benchmarks.warm_query import make_library
from wordsight.bank import bank_phrases

BATCH = 64
K = 20


def prompts() -> Iterator[str]:
    """Prompts that do not come twice."""
    phrases = bank_phrases()
    for number in itertools.count():
        for phrase in phrases:
            yield f"{phrase} {number}" if number else phrase


def in_process(library: wordsight.Library, seconds: float) -> tuple[float, float]:
    """Queries a second of batched searches in this process, and processor ms a query."""
    source = prompts()
    library.search(list(itertools.islice(source, BATCH)), K, anyway=True)
    started, busy, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        library.search(list(itertools.islice(source, BATCH)), K, anyway=True)
        done += BATCH
    spent = time.process_time() - busy
    return done / (time.perf_counter() - started), spent / done * 1000


async def _client(
    host: str,
    port: int,
    source: Iterator[str],
    until: float,
    took: list[float],
    errors: Counter[str],
) -> None:
    """Ask, and ask again once answered; a connection that breaks is an error, and made anew."""
    while time.perf_counter() < until:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            while time.perf_counter() < until:
                path = f"/api/v1/search?k={K}&anyway=true&q={quote(next(source))}"
                started = time.perf_counter()
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                took.append(time.perf_counter() - started)
                if not head.startswith(b"HTTP/1.1 200"):
                    errors[f"{head[9:12].decode()}: {json.loads(body)['detail']}"] += 1
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            errors[type(error).__name__] += 1


async def _watch(pid: int, every: float, found: list[float]) -> None:
    while True:
        found.append(resident(pid))
        await asyncio.sleep(every)


async def load(url: str, pid: int, clients: int, seconds: float) -> dict[str, Any]:
    """Rate, latencies, errors, processor time and memory of the server, of so many clients."""
    parts = urlsplit(url)
    took: list[float] = []
    errors: Counter[str] = Counter()
    memory: list[float] = []
    source = prompts()
    watching = asyncio.create_task(_watch(pid, seconds / 10, memory))
    busy = processor_ms(pid)
    started = time.perf_counter()
    until = started + seconds
    host, port = parts.hostname or "", parts.port or 80
    await asyncio.gather(
        *(_client(host, port, source, until, took, errors) for _ in range(clients))
    )
    elapsed = time.perf_counter() - started
    watching.cancel()
    return {
        "queries_per_second": len(took) / elapsed,
        "p50_ms": float(np.percentile(took, 50)) * 1000,
        "p99_ms": float(np.percentile(took, 99)) * 1000,
        "processor_ms": (processor_ms(pid) - busy) / len(took),
        "errors": errors,
        "resident_mib": [*memory, resident(pid)],
    }


@contextlib.contextmanager
def started_server(library: Path) -> Iterator[tuple[str, int]]:
    """``wordsight serve`` over a library, as a process: its address and its process id."""
    command = ["-m", "wordsight", "serve", "--port", "0", "--json", "--library", str(library)]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            yield json.loads(_one_object(server.stdout))["url"], server.pid
        finally:
            server.terminate()


def processor_ms(pid: int) -> float:
    """Processor time that a process has used (Linux; elsewhere nan)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Memory of a process in MiB (Linux; elsewhere nan)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024
    except OSError:
        return float("nan")


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--views", type=int, default=100_000)
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = make_library(Path(folder) / "library", options.views, 0)
        library.compact()
        with started_server(library.path) as (url, pid):
            asyncio.run(load(url, pid, max(options.clients), 5))  # warm
            alone, rounds = [], []
            for _ in range(options.rounds):
                alone.append(in_process(library, min(options.seconds, 30)))
                rounds.append(
                    {n: asyncio.run(load(url, pid, n, options.seconds)) for n in options.clients}
                )
    rates = [rate for rate, _ in alone]
    rate, spent = statistics.median(rates), statistics.median(ms for _, ms in alone)
    rows: dict[int, dict[str, Any]] = {}
    for n in options.clients:
        each = [one[n] for one in rounds]
        figures = ("queries_per_second", "p50_ms", "p99_ms", "processor_ms")
        rows[n] = {key: statistics.median(one[key] for one in each) for key in figures}
        rows[n]["errors"] = sum((one["errors"] for one in each), Counter())
        rows[n]["resident_mib"] = [mib for one in each for mib in one["resident_mib"]]
        rows[n]["ratio"] = statistics.median(
            one["queries_per_second"] / other for one, other in zip(each, rates, strict=True)
        )
    alone_figures = {"queries_per_second": rate, "processor_ms": spent}
    finish(options, {"views": options.views, "in_process": alone_figures, "clients": rows})
    print(
        f"{options.views:,} views; in process, {BATCH} at a time: {rate:.0f} queries/s, "
        f"{spent:.1f} ms of processor time a query"
    )
    for clients, row in rows.items():
        print(
            f"{clients:>4} clients  {row['queries_per_second']:7.1f} queries/s"
            f" ({row['ratio']:.2f} of in process)"
            f"   p50 {row['p50_ms']:7.1f} ms   p99 {row['p99_ms']:7.1f} ms"
            f"   processor {row['processor_ms']:5.1f} ms"
            f"   errors {row['errors'].total()}"
        )
        for reason, times in row["errors"].most_common():
            print(f"{'':>14}{times} times {reason}")
        print(f"{'':>14}memory, MiB: {' '.join(f'{mib:.0f}' for mib in row['resident_mib'])}")


def _one_object(stream: IO[bytes]) -> str:
    """What is printed up to the end of the first JSON object."""
    text = ""
    while True:
        line = stream.readline()
        if not line:
            raise SystemExit("the server did not start; its message is above.")
        text += str(line, "utf-8")
        try:
            json.loads(text)
        except ValueError:
            continue
        return text


if __name__ == "__main__":
    main()
