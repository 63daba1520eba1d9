"""What a fleet over a billion views would take: a simulation from measured parts.

    python -m benchmarks.fleet_simulation [--views 1e9] [--cores 16] [--slices 5 10 20 40]
        [--round-ms 9] [--slow 0.01] [--times 10]

Measured (``benchmarks/figures.json``, by ``python -m benchmarks.scale``): nanoseconds in which a
core scans a view, from the medians at one and ten million views; and how far searches spread, as a
lognormal law through the median and the 99th percentile at ten million. Assumed: slices scan beside
each other on machines of ``--cores`` cores; asking them costs ``--round-ms`` beside their work; a
share of ``--slow`` of the answers takes ``--times`` as long; the front reads the vectors of the
nearest out of its system's memory; and nothing waits for another search. A slice that is late is
left out as the front does it (see :mod:`wordsight.library.fleet`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from benchmarks.common import finish, parser
from benchmarks.tables import FIGURES
from wordsight.library.fleet import LATE
from wordsight.library.index.large import _MOST_NEAREST

QUERIES = 100_000
CODES, NUMBERS, VECTOR = 128, 28, 1024  # bytes a view: index, columns in memory, vector
READ_MS = 0.003  # a vector that the system has in memory; see wordsight.library.index.flat


def measured() -> tuple[float, float]:
    """Milliseconds that a core scans a view in, and the spread of searches (sigma of ln)."""
    scale = json.loads(FIGURES.read_text(encoding="utf-8"))["scale"]
    one = {row["views"]: row["index"]["one"] for row in scale["rows"]}
    most, less = one[10_000_000], one[1_000_000]
    view = (most["p50"] - less["p50"]) / 9_000_000 * scale["machine"]["cores"]
    return view, math.log(most["p99"] / most["p50"]) / 2.326


def simulate(options: Any, slices: int) -> dict[str, float]:
    """Searches of a library in so many slices."""
    rng = np.random.default_rng(0)
    view, sigma = measured()
    scan = options.views / slices * view / options.cores
    each = scan * rng.lognormal(0, sigma, (QUERIES, slices))
    each *= np.where(rng.random(each.shape) < options.slow, options.times, 1)
    limit = each.min(axis=1) * (1 + LATE) + 1000
    took = np.minimum(each.max(axis=1), limit) + options.round_ms + _MOST_NEAREST * READ_MS
    return {
        "slices": slices,
        "gigabytes": options.views / slices * (CODES + NUMBERS) / 1e9,
        "scan": scan,
        **{f"p{q}": float(np.percentile(took, q)) for q in (50, 99)},
        "partial": float((each.max(axis=1) > limit).mean()),
    }


def main() -> None:
    """Simulate and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--views", type=float, default=1e9)
    arguments.add_argument("--cores", type=int, default=16)
    arguments.add_argument("--slices", type=int, nargs="+", default=[5, 10, 20, 40])
    arguments.add_argument("--round-ms", type=float, default=9.0)
    arguments.add_argument("--slow", type=float, default=0.01)
    arguments.add_argument("--times", type=float, default=10.0)
    options = arguments.parse_args()
    view, sigma = measured()
    print(f"a core scans a view in {view * 1e6:.1f} ns; sigma {sigma:.3f}")
    rows = [simulate(options, slices) for slices in options.slices]
    for row in rows:
        print(
            "{slices:>3} slices, {gigabytes:5.1f} GB each: scan {scan:6,.0f} ms, search p50 "
            "{p50:6,.0f} ms, p99 {p99:6,.0f} ms, partial {partial:.2%}".format(**row)
        )
    finish(options, {"views": options.views, "rows": rows})


if __name__ == "__main__":
    main()
