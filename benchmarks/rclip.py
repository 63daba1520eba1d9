"""Indexing and cold search beside rclip, in one run, on the same files and the same graph.

    python -m benchmarks.rclip [--rclip PATH] [--tokenizer DIR] [--data DATA] [--photos 60]
        [--small 120] [--runs 3]

PATH is the ``rclip`` command of an environment of its own (``pip install rclip``), DIR holds CLIP's
``tokenizer.json``, DATA the data packs. All use a random ViT-B/32-256 (``benchmarks/vit.py``);
speed does not depend on the weights. *photos*: COCO's enlarged to 12 megapixels, JPEG quality 90;
*small*: CIFAR-10 test images as files. Each indexes from nothing, in turn; whole processes are
timed, so start-up counts. *int8* is wordsight with ``--precision int8``; its library holds one
image already, so that the check of int8 against fp32, up to 100 images in both once for each new
library, is not counted. A run before the first fills the caches of all and is not counted either:
wordsight encodes the bank for its "No match" once for each model (about as long as 300 images
take). The time of rclip's indexing has one search in it, about a second. rclip computes in fp32,
wordsight in bf16 where the processor has it. The ratio of processor time is what other work on the
machine disturbs less.
"""

from __future__ import annotations

import io
import itertools
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import vit
from benchmarks.common import finish, parser, timed_process


def write_photos(tar: Path, folder: Path, count: int) -> None:
    """``count`` photographs of 4000 x 3000 pixels, made of those in the tar."""
    from PIL import Image

    folder.mkdir(parents=True)
    with tarfile.open(tar) as archive:
        members = [m for m in archive.getmembers() if m.isfile()]
        for i, member in zip(range(count), itertools.cycle(members), strict=False):
            file = archive.extractfile(member)
            assert file is not None
            picture = Image.open(io.BytesIO(file.read())).convert("RGB")
            picture = picture.rotate(i // len(members), resample=Image.Resampling.BILINEAR)
            picture.resize((4000, 3000)).save(folder / f"{i:04}.jpg", quality=90)


def write_small(tar: Path, folder: Path, count: int) -> None:
    """The first ``count`` images of a tar as files."""
    folder.mkdir(parents=True)
    with tarfile.open(tar) as archive:
        for i, member in zip(range(count), archive, strict=False):
            file = archive.extractfile(member)
            assert file is not None
            (folder / f"{i:05}.jpg").write_bytes(file.read())


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data", "rclip", "tokenizer")
    arguments.add_argument("--photos", type=int, default=60)
    arguments.add_argument("--small", type=int, default=120)
    arguments.add_argument("--runs", type=int, default=3)
    options = arguments.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model = vit.make_clip(place / "model", options.tokenizer)
        data = vit.as_rclip(place / "rclip", options.tokenizer)
        write_photos(options.data / "coco-captions/images.tar", place / "photos", options.photos)
        write_small(options.data / "cifar10/test.tar", place / "small", options.small)
        write_small(options.data / "cifar10/test.tar", place / "one", 1)
        ours, rclip = [sys.executable, "-m", "wordsight"], str(options.rclip)
        library, library8 = place / "library", place / "library8"
        plain = ["--library", str(library), "--model", str(model)]
        int8 = ["--library", str(library8), "--model", str(model), "--precision", "int8"]
        for name, count, folder in [
            ("photos of 12 MP", options.photos, place / "photos"),
            ("CIFAR-10 files", options.small, place / "small"),
        ]:
            commands = {
                "wordsight": [*ours, "index", str(folder), *plain],
                "int8": [*ours, "index", str(folder), *int8],
                "rclip": [rclip, "a dog"],
                "wordsight_search": [*ours, "search", "a dog", "--anyway", *plain[:2]],
                "rclip_search": [rclip, "--no-indexing", "a dog"],
            }
            runs = []
            for _ in range(options.runs + 1):
                for old in (library, library8):
                    shutil.rmtree(old, ignore_errors=True)
                for database in data.glob("db*"):
                    database.unlink()
                timed_process([*ours, "index", str(place / "one"), *int8])
                env = {"RCLIP_DATADIR": str(data)}
                runs.append({k: timed_process(c, folder, env)[:2] for k, c in commands.items()})
            del runs[0]  # it filled caches
            seconds = {k: statistics.median(run[k][0] for run in runs) for k in commands}
            row: dict[str, Any] = {"set": name, "images": count}
            for key in ("wordsight", "int8", "rclip"):
                row[key] = {
                    "images_per_second": count / seconds[key],
                    "ratio": seconds["rclip"] / seconds[key],
                    "processor_ratio": statistics.median(r["rclip"][1] / r[key][1] for r in runs),
                }
            row["search_seconds"] = {k: seconds[f"{k}_search"] for k in ("wordsight", "rclip")}
            rows.append(row)
    version = subprocess.run(
        [rclip, "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    finish(options, {"peer": version, "rows": rows})
    print(f"peer: {version}; whole processes, median of {options.runs}")
    print(f"{'indexing':<18} {'images':>7} {'how':>10} {'images/s':>9} {'of rclip':>9}")
    for row in rows:
        for key in ("wordsight", "int8", "rclip"):
            one = row[key]
            print(
                f"{row['set']:<18} {row['images']:>7} {key:>10} {one['images_per_second']:>9.1f} "
                f"{one['ratio']:>8.2f}x (of processor time {one['processor_ratio']:.2f}x)"
            )
    print(f"{'cold search':<26} {'wordsight':>10} {'rclip':>10} {'ratio':>6}")
    for row in rows:
        mine, peers = row["search_seconds"]["wordsight"], row["search_seconds"]["rclip"]
        print(f"{row['set']:<26} {mine:>9.2f}s {peers:>9.2f}s {peers / mine:>5.1f}x")


if __name__ == "__main__":
    main()
