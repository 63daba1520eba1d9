"""The benchmarks one after another: ``python -m benchmarks [--full]``.

The quick set (``make bench``) takes under five minutes, the full one (``make bench-full``) some
hours. Data and models are named by environment variables: WORDSIGHT_DATA, WORDSIGHT_TEST_MODELS,
and WORDSIGHT_RCLIP, the ``rclip`` command of an environment of its own, for what is compared with
that; what needs one that is not set is left out, and said so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

MILLIONS = ["1000", "10000", "100000", "1000000", "10000000"]


def commands(full: bool) -> list[list[str]]:
    """The modules with their arguments; names in braces stand for what the variables name."""
    tokenizer = "{models}/tiny-clip-random/textual"
    cold = ["cold_start", "--data", "{data}", "--tokenizer", tokenizer]
    scale = ["scale", "--data", "{data}"]
    if not full:
        return [
            [*cold, "--runs", "3", "--views", "10000"],
            [*scale, "--views", "1000", "10000", "100000", "--queries", "50"],
            ["warm_query", "--runs", "100"],
            ["encoder", "--tokenizer", tokenizer, "--batches", "2"],
            ["cifar10"],
            ["serve", "--seconds", "3"],
            ["scenes", "--scenes", "100", "--plain", "500"],
        ]
    coco = "{data}/coco-captions/images.tar"
    rclip = ["rclip", "--rclip", "{rclip}", "--tokenizer", tokenizer, "--images", coco]
    return [
        [*cold, "--rclip", "{rclip}", "--views", *MILLIONS[1:4]],
        [*scale, "--views", *MILLIONS],
        ["warm_query"],
        ["encoder", "--tokenizer", tokenizer],
        [*rclip, "--photos", "1000", "--small", "2000", "--cifar10", "{data}/cifar10/test.tar"],
        ["cifar10"],
        ["serve"],
        ["coco_captions", "--data", "{data}"],
        ["no_match_study", "{data}"],
        ["no_match_study", "{data}", "--model", "starter"],
        ["scenes"],
    ]


def main() -> None:
    """Run each, and say which were left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    named = {
        "data": "WORDSIGHT_DATA",
        "models": "WORDSIGHT_TEST_MODELS",
        "rclip": "WORDSIGHT_RCLIP",
    }
    values = {key: os.environ.get(variable, "") for key, variable in named.items()}
    for command in commands(options.full):
        missing = [
            variable
            for key, variable in named.items()
            if any(f"{{{key}}}" in word for word in command)
            and not Path(values[key] or "-").exists()
        ]
        if missing:
            print(f"\n== {command[0]} is left out: {' and '.join(missing)} not set", flush=True)
            continue
        words = [word.format(**values) for word in command]
        print(f"\n== python -m benchmarks.{' '.join(words)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]], check=True)


if __name__ == "__main__":
    main()
