"""How long a fresh process takes: import, help, and one search over 10,000 images.

    python -m benchmarks.cold_start [--images 10000] [--runs 7] [--json]

Whole processes are timed from outside, after one uncounted run; the median is what to quote. The
library is made of random vectors with the starter model's dimension; the query runs the real
starter model. Times depend on what else the machine is doing: run it on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.warm_query import make_library


def seconds(command: list[str], runs: int) -> list[float]:
    """Wall seconds of ``runs`` runs of a command, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return times[1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "library"
        library = make_library(place, options.images, crops=0)
        library.store.calibration(library.store.snapshot())
        python = [sys.executable]
        cli = [*python, "-m", "wordsight"]
        commands = {
            "python -c pass": ([*python, "-c", "pass"], None),
            "import wordsight": ([*python, "-c", "import wordsight"], None),
            "wordsight --help": ([*cli, "--help"], 0.3),
            f"search, {options.images:,} images": (
                [*cli, "search", "a dog", "--anyway", "--library", str(place)],
                1.5,
            ),
        }
        rows: list[dict[str, Any]] = [
            {"what": name, "seconds": times, "median": statistics.median(times), "asked": asked}
            for name, (command, asked) in commands.items()
            for times in [seconds(command, options.runs)]
        ]
    if options.json:
        print(json.dumps({"machine": machine.describe(), "rows": rows}))
        return
    print(machine.line())
    print(f"{'whole process':<28} {'median':>8} {'min':>8} {'max':>8} {'asked':>8}")
    for row in rows:
        times, asked = row["seconds"], row["asked"]
        print(
            f"{row['what']:<28} {row['median']:>7.3f}s {min(times):>7.3f}s {max(times):>7.3f}s "
            f"{f'< {asked} s' if asked else '':>8}"
        )


if __name__ == "__main__":
    main()
