"""How long a warm query takes over images with crops: the vectors in memory, the text encoded anew.

    python -m benchmarks.warm_query [--images 10000] [--crops 6] [--runs 200]

Random unit vectors of the starter model's dimension; beside the whole answer stands the bare
matrix-vector product over the same views, which nothing exact can beat.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks.common import finish, parser
from wordsight.library import ImageRecord, ViewRecord


def make_library(place: Path, images: int, crops: int) -> wordsight.Library:
    """A library of ``images`` images with ``crops`` crops each."""
    library = wordsight.create(place, "starter")
    rng = np.random.default_rng(0)
    with library.store.lock():
        for begin in range(0, images, 1000):
            records = []
            for i in range(begin, min(begin + 1000, images)):
                vectors = rng.normal(size=(1 + crops, library.model.dim)).astype(np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                place_ = ImageRecord(f"{i:016x}", f"/p/{i}.jpg", "/p/", 1, 1, f"{i:x}", 640, 480)
                place_.views = [ViewRecord(vectors[0])] + [
                    ViewRecord(vector, "crop", (0, 0, 9, 9)) for vector in vectors[1:]
                ]
                records.append(place_)
            library.store.put(records, replace=False)
    return library


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=10_000)
    arguments.add_argument("--crops", type=int, default=6)
    arguments.add_argument("--runs", type=int, default=200)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = make_library(Path(folder) / "library", options.images, options.crops)
        library.search("a dog", anyway=True)
        vectors = library.store.snapshot().vectors
        query = library.model.encode_texts(["a dog"])[0]
        rows: dict[str, Any] = {"whole query": [], "without crops": [], "bare product": []}
        for _ in range(options.runs):
            started = time.perf_counter()
            library.search("a dog", anyway=True)
            rows["whole query"].append(time.perf_counter() - started)
            started = time.perf_counter()
            library.search("a dog", anyway=True, crops=False)
            rows["without crops"].append(time.perf_counter() - started)
            started = time.perf_counter()
            vectors @ query
            rows["bare product"].append(time.perf_counter() - started)
    found = {
        name: {f"p{p}_ms": float(np.percentile(times, p) * 1000) for p in (50, 99)}
        for name, times in rows.items()
    }
    finish(options, {"views": len(vectors), **found})
    print(f"{options.images:,} images, {len(vectors):,} views")
    for name, values in found.items():
        print(f"{name:<14} p50 {values['p50_ms']:7.2f} ms   p99 {values['p99_ms']:7.2f} ms")


if __name__ == "__main__":
    main()
