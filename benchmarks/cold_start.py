"""How long a fresh process takes: import, help, and one search, with rclip beside it.

    python -m benchmarks.cold_start [--data DATA] [--tokenizer DIR] [--rclip PATH]
        [--views 10000 100000 1000000] [--runs 7] [--keep DIR]

Whole processes are timed from outside, the commands of one size in turn, after one uncounted round;
the median is what to quote. Libraries are of vectors like real ones (``benchmarks/synthetic.py``)
and the prompt runs a text tower of ViT-B/32's real size with random weights
(``benchmarks/vit.py``): speed does not depend on them. *starter* is the starter model over random
vectors, as many. PATH is the ``rclip`` command of an environment of its own; its database gets as
many vectors of the same kind, and its graph is the same text tower. DATA is the folder of the data
packs, DIR holds CLIP's ``tokenizer.json``. Times depend on what else the machine is doing: run it
on a quiet one.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import wordsight
from benchmarks import synthetic, vit
from benchmarks.common import finish, parser, timed_process
from benchmarks.warm_query import make_library

ASKED = {10_000: 0.9, 100_000: 1.1, 1_000_000: 2.0}  # seconds


def in_turn(
    commands: dict[str, list[str]], runs: int, where: Path, env: dict[str, str]
) -> dict[str, list[float]]:
    """Wall seconds of ``runs`` runs of each command, one after the other, the first not counted."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            times[name].append(timed_process(command, where, env)[0])
    return {name: seconds[1:] for name, seconds in times.items()}


def fill_rclip(place: Path, data: Path, photos: Path, views: int) -> None:
    """A database of rclip (its version 4) with as many vectors."""
    place.unlink(missing_ok=True)
    base = sqlite3.connect(place)
    base.executescript(
        "CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL "
        "UNIQUE, modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL, "
        "indexing BOOLEAN, hash TEXT);"
        "CREATE UNIQUE INDEX existing_images ON images(filepath) WHERE deleted IS NULL;"
        "CREATE INDEX hash_index ON images(hash) WHERE deleted IS NULL;"
        "CREATE TABLE db_version (version INTEGER); INSERT INTO db_version VALUES (4);"
    )
    vectors = synthetic.RealLike(data)
    for begin in range(0, views, synthetic.CHUNK):
        rows = (
            (f"{photos}/{begin + i:08}.jpg", 1.0, 1, vector.tobytes(), f"{begin + i:x}")
            for i, vector in enumerate(vectors.draw(min(synthetic.CHUNK, views - begin)))
        )
        base.executemany(
            "INSERT INTO images(filepath, modified_at, size, vector, hash) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    base.commit()
    base.close()


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data", "tokenizer", optional="rclip")
    arguments.add_argument("--views", type=int, nargs="+", default=[10_000, 100_000])
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--keep", type=Path, help="where libraries are, or stay")
    options = arguments.parse_args()
    rows: list[dict[str, Any]] = []

    def record(found: dict[str, list[float]], asked: dict[str, float]) -> None:
        rows.extend(
            {
                "what": name,
                "seconds": seconds,
                "median": statistics.median(seconds),
                "asked": asked.get(name),
            }
            for name, seconds in found.items()
        )

    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        photos = Path(temporary) / "photos"
        photos.mkdir()
        python = [sys.executable]
        cli = [*python, "-m", "wordsight"]
        starts = {
            "python -c pass": [*python, "-c", "pass"],
            "import wordsight": [*python, "-c", "import wordsight"],
            "wordsight --help": [*cli, "--help"],
        }
        record(in_turn(starts, options.runs, photos, {}), {"wordsight --help": 0.25})
        model = wordsight.load_model(vit.make_clip(place / "model", options.tokenizer))
        peer = vit.as_rclip(place / "rclip", options.tokenizer) if options.rclip else None
        for views in options.views:
            library = place / f"{views}.vit"
            if not library.exists():
                synthetic.fill(library, options.data, views, model=model)
            search = [*cli, "search", "a dog", "--anyway", "--library"]
            ours = f"search, {views:,} views"
            commands = {ours: [*search, str(library)]}
            if views <= 100_000:
                starter = Path(temporary) / f"{views}.starter"
                made = make_library(starter, views, crops=0)
                made.store.prepare()
                commands[f"starter, {views:,} views"] = [*search, str(starter)]
            if peer:
                fill_rclip(peer / "db.sqlite3", options.data, photos, views)
                commands[f"rclip, {views:,} images"] = [
                    str(options.rclip), "--no-indexing", "a dog"
                ]  # fmt: skip
            env = {"RCLIP_DATADIR": str(peer)} if peer else {}
            record(in_turn(commands, options.runs, photos, env), {ours: ASKED.get(views, 0.0)})
    finish(options, {"rows": rows})
    print(f"{'whole process':<28} {'median':>8} {'min':>8} {'max':>8} {'asked':>8}")
    for row in rows:
        times, asked = row["seconds"], row["asked"]
        print(
            f"{row['what']:<28} {row['median']:>7.3f}s {min(times):>7.3f}s {max(times):>7.3f}s "
            f"{f'< {asked} s' if asked else '':>8}"
        )


if __name__ == "__main__":
    main()
