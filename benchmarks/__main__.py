"""The benchmarks one after another: ``python -m benchmarks [--full | --tables]``.

The quick set (``make bench``) takes under five minutes, the full one (``make bench-full``) three
quarters of an hour and 13 GB of disk. Each script's figures are kept in ``benchmarks/results``;
``--tables`` writes the tables of the documentation from them. Data and models are
named by environment variables: WORDSIGHT_DATA, WORDSIGHT_TEST_MODELS, and WORDSIGHT_RCLIP, the
``rclip`` command of an environment of its own, for what is compared with that; what needs one that
is not set is left out, and said so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks import tables

QUICK = """
cold_start --runs 3 --views 10000
scale --views 1000 10000 100000 --queries 50
warm_query --runs 100
encoder --batches 2
pipeline --images 200 --rounds 1
rerun --runs 1
serve --seconds 3 --rounds 1
scenes --scenes 100 --plain 500
"""
FULL = """
cold_start --views 10000 100000 1000000
scale --views 1000 10000 100000 1000000 10000000
warm_query
encoder
pipeline
rerun
memory --model vit starter
rclip --photos 1000 --small 2000 --runs 1
cifar10
serve
scenes
no_match_study --model starter
video
video_peers
"""

NOT_GIVEN = 2
"""How a script ends that lacks an option which the environment does not name either."""


def main() -> None:
    """Run each, and say which were left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--tables", action="store_true", help="write the tables from the results")
    options = parser.parse_args()
    if options.tables:
        tables.write()
        return
    left: list[str] = []
    failed: list[str] = []
    for line in (FULL if options.full else QUICK).strip().splitlines():
        name, *words = line.split()
        print(f"\n== python -m benchmarks.{line}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", *words]
        keep = ["--json", str(tables.RESULTS / f"{name}.json")]
        status = subprocess.run([*command, *keep], check=False).returncode
        if status:
            (left if status == NOT_GIVEN else failed).append(name)
        print(f"-- {time.perf_counter() - started:.0f} s", flush=True)
    if left:
        print(f"\nleft out, for want of what they name above: {', '.join(left)}")
    if failed:
        raise SystemExit(f"\nfailed, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
