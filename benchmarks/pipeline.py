"""How much of the encoder's own speed is left when images are listed, read, decoded and written.

    python -m benchmarks.pipeline --tokenizer DIR [--images 500] [--rounds 3] [--size 224] [--json]

Indexes the first CIFAR-10 test images into new libraries with a random ViT-B/32
(``benchmarks/vit.py``; DIR holds CLIP's ``tokenizer.json``) and runs the encoder alone on as many
prepared images, in turn. The bank of the libraries is encoded once, before. Ratios are printed of
wall time and of processor time: the second is what other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks import machine, vit
from wordsight.indexing import BATCH
from wordsight.sources import Head, open_source


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    source = Head(open_source("cifar10"), options.images)
    shape = (BATCH, 3, options.size, options.size)
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model = wordsight.load_model(vit.make_clip(place / "vit", options.tokenizer, options.size))
        wordsight.create(place / "first.lib", model)  # encodes the bank, which the cache keeps
        model.encode_pixels(pixels)

        def encode() -> None:
            for start in range(0, options.images, BATCH):
                model.encode_pixels(pixels[: options.images - start])

        for number in range(options.rounds):
            library = wordsight.create(place / f"{number}.lib", model)
            wall, processor = timed(lambda lib=library: lib.index_sources([source]))  # type: ignore[misc]
            assert len(library) == options.images
            encoder_wall, encoder_processor = timed(encode)
            rounds.append(
                {
                    "images_per_second": options.images / wall,
                    "encoder_images_per_second": options.images / encoder_wall,
                    "ratio": encoder_wall / wall,
                    "processor_ratio": encoder_processor / processor,
                }
            )
    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    if options.json:
        print(json.dumps({"machine": machine.describe(), "images": options.images, **middle}))
        return
    print(machine.line())
    print(
        f"{options.images} CIFAR-10 images, ViT-B/32 at {options.size} px; "
        f"median of {options.rounds} rounds"
    )
    print(f"indexing        {middle['images_per_second']:8.1f} images/s")
    print(f"encoder alone   {middle['encoder_images_per_second']:8.1f} images/s")
    ratios = f"{middle['ratio']:8.2f} (of processor time {middle['processor_ratio']:.2f})"
    print(f"ratio           {ratios}")


if __name__ == "__main__":
    main()
