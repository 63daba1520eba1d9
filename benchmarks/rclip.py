"""Indexing and cold search beside rclip, in one run, on the same files and the same graph.

    python -m benchmarks.rclip --rclip PATH --tokenizer DIR --images images.tar [--photos 60]
        [--small 300] [--cifar10 test.tar] [--runs 3] [--json]

PATH is the ``rclip`` command of an environment of its own (``pip install rclip``), DIR holds CLIP's
``tokenizer.json``. Both use a random ViT-B/32-256 (``benchmarks/vit.py``); speed does not depend on
the weights. *photos*: pictures of the tar enlarged to 12 megapixels, JPEG quality 90; *small*:
CIFAR-10 test images as files. Each tool indexes from nothing, in turn; whole processes are timed,
so start-up counts. A run before the first fills the caches of both and is not counted: wordsight
encodes the bank for its "No match" once for each model (about as long as 300 images take). The
ratio of processor time is what other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, vit


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


def timed(command: list[str], where: Path, env: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, cwd=where, env={**os.environ, **env}, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    user = after.children_user - before.children_user
    return wall, user + after.children_system - before.children_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rclip", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--small", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", default="auto", help="of wordsight's indexing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model = vit.make_clip(place / "model", options.tokenizer)
        data = vit.as_rclip(place / "rclip", options.tokenizer)
        sets = [("photos of 12 MP", options.photos, place / "photos")]
        write_photos(options.images, place / "photos", options.photos)
        if options.cifar10:
            sets.append(("CIFAR-10 files", options.small, place / "small"))
            write_small(options.cifar10, place / "small", options.small)
        env = {"RCLIP_DATADIR": str(data)}
        ours = [sys.executable, "-m", "wordsight"]
        for name, count, folder in sets:
            library = place / f"{folder.name}.lib"
            index = [*ours, "index", str(folder), "--library", str(library), "--model", str(model)]
            index += ["--precision", options.precision]
            search = [*ours, "search", "a dog", "--anyway", "--library", str(library)]
            times: dict[str, list[float]] = {"a": [], "b": [], "c": [], "d": []}
            ratios: list[float] = []
            for run in range(options.runs + 1):  # the first fills caches and is not counted
                shutil.rmtree(library, ignore_errors=True)
                for database in data.glob("db*"):
                    database.unlink()
                found = {
                    "a": timed(index, folder, env),
                    "b": timed([str(options.rclip), "a dog"], folder, env),
                    "c": timed(search, folder, env),
                    "d": timed([str(options.rclip), "--no-indexing", "a dog"], folder, env),
                }
                if run:
                    for key, (wall, _) in found.items():
                        times[key].append(wall)
                    ratios.append(found["b"][1] / found["a"][1])
            middle = {key: statistics.median(values) for key, values in times.items()}
            rows.append(
                {
                    "set": name,
                    "images": count,
                    "wordsight_images_per_second": count / middle["a"],
                    "rclip_images_per_second": count / middle["b"],
                    "index_ratio": middle["b"] / middle["a"],
                    "index_processor_ratio": statistics.median(ratios),
                    "wordsight_search_seconds": middle["c"],
                    "rclip_search_seconds": middle["d"],
                    "search_ratio": middle["d"] / middle["c"],
                }
            )
    version = subprocess.run(
        [str(options.rclip), "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if options.json:
        print(json.dumps({"machine": machine.describe(), "peer": version, "rows": rows}))
        return
    print(machine.line())
    print(f"peer: {version}; whole processes, median of {options.runs}")
    print(f"{'indexing':<18} {'images':>7} {'wordsight':>12} {'rclip':>10} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['set']:<18} {row['images']:>7} {row['wordsight_images_per_second']:>10.1f}/s "
            f"{row['rclip_images_per_second']:>8.1f}/s {row['index_ratio']:>5.1f}x "
            f"(of processor time {row['index_processor_ratio']:.1f}x)"
        )
    print(f"{'cold search':<26} {'wordsight':>12} {'rclip':>10} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['set']:<26} {row['wordsight_search_seconds']:>11.2f}s "
            f"{row['rclip_search_seconds']:>9.2f}s {row['search_ratio']:>5.1f}x"
        )


if __name__ == "__main__":
    main()
