"""The quick set, one after another: ``python -m benchmarks`` (or ``make bench``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run each, and say which were left out for want of data."""
    data = os.environ.get("WORDSIGHT_DATA")
    quick = [
        ["benchmarks.cold_start"],
        ["benchmarks.cifar10"],
        ["benchmarks.serve", "--seconds", "3"],
    ]
    if data and Path(data).is_dir():
        quick += [
            ["benchmarks.coco_captions", "--data", data],
            ["benchmarks.no_match_study", data, "--model", "starter", "--splits", "4"],
            ["benchmarks.scenes", "--scenes", "200", "--plain", "1000"],
        ]
    else:
        print("WORDSIGHT_DATA is not set: the COCO, No match and scenes benchmarks are left out.")
    for command in quick:
        print(f"\n== python -m {' '.join(command)}", flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
