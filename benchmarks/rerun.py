"""Indexing again a library of which nothing has changed.

    python -m benchmarks.rerun [--files 100000] [--crops 0] [--runs 3]

Writes ``--files`` small files into a temporary folder and a library that knows them (random
vectors: the encoder has no part in a second run), with ``--crops`` crop views an image. Then
``wordsight index`` runs over them as a process of its own, as a user would; its first run is not
counted. The floor is the bare listing: the same folder scan with its status calls, in this process.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks.common import finish, parser, timed, timed_process
from wordsight.library import ImageRecord, ViewRecord
from wordsight.sources import open_source


def fill(folder: Path, library: Path, files: int, crops: int) -> None:
    """The files (not images: none is opened) and the library of them."""
    for i in range(files):
        place = folder / f"{i // 1000:03}"
        if i % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"photo-{i:06}.jpg").write_bytes(b"%d" % i)
    made = wordsight.create(library, "starter")
    rng = np.random.default_rng(0)
    proposer = "tiles" if crops else "none"
    made.store.crops = proposer
    items = open_source(folder).items()
    for start in range(0, files, 4096):
        records = []
        for item in items[start : start + 4096]:
            vectors = rng.standard_normal((1 + crops, made.store.model.dim), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            views = [ViewRecord(vectors[0])]
            views += [ViewRecord(v, "crop", (0, 0, 50, 50)) for v in vectors[1:]]
            known = {"id": item.id, "path": item.path, "root": item.root, "label": item.label}
            state = {"size": item.size, "mtime_ns": item.mtime_ns, "hash": f"{item.id:0>32}"}
            records.append(
                ImageRecord(**known, **state, width=99, height=99, crops=proposer, views=views)  # type: ignore[arg-type]
            )
        made.store.put(records, replace=False)
    made.compact()


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=100_000)
    arguments.add_argument("--crops", type=int, default=0)
    arguments.add_argument("--runs", type=int, default=3)
    options = arguments.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder, library = Path(temporary) / "photos", Path(temporary) / "lib"
        fill(folder, library, options.files, options.crops)
        command = [sys.executable, "-m", "wordsight", "index", str(folder)]
        command += ["--library", str(library), "--json"]
        for _ in range(options.runs + 1):
            seconds, processor, printed = timed_process(command)
            report = json.loads(printed)
            assert report["unchanged"] == options.files, report
            listing, _ = timed(lambda: open_source(folder).items())
            runs.append(
                {
                    "seconds": seconds,
                    "processor_seconds": processor,
                    "listing_seconds": listing,
                }
            )
    middle = {key: statistics.median(run[key] for run in runs[1:]) for key in runs[0]}
    finish(options, {"files": options.files, **middle})
    print(
        f"{options.files:,} unchanged files, {options.crops} crops each; median of {options.runs}"
    )
    print(f"wordsight index, whole process   {middle['seconds']:7.2f} s")
    print(f"  of processor time              {middle['processor_seconds']:7.2f} s")
    print(f"listing the folder alone         {middle['listing_seconds']:7.2f} s")


if __name__ == "__main__":
    main()
