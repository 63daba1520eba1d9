"""How much of the encoder's own speed is left when images are listed, read, decoded and written.

    python -m benchmarks.pipeline [--tokenizer DIR] [--images 500] [--rounds 3] [--size 224]

Indexes the first CIFAR-10 test images into new libraries with a random ViT-B/32
(``benchmarks/vit.py``; DIR holds CLIP's ``tokenizer.json``) and runs the encoder alone on as many
prepared images, in turn. The bank of the libraries is encoded once, before. Ratios are printed of
wall time and of processor time: the second is what other work on the machine disturbs less.
"""

from __future__ import annotations

import statistics

import wordsight
from benchmarks.common import finish, parser, random_pixels, random_vit, timed
from wordsight.indexing import BATCH
from wordsight.sources import Head, open_source


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "tokenizer")
    arguments.add_argument("--images", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--size", type=int, default=224)
    options = arguments.parse_args()
    source = Head(open_source("cifar10"), options.images)
    pixels = random_pixels(BATCH, options.size)
    rounds: list[dict[str, float]] = []
    with random_vit(options.tokenizer, options.size) as folder:
        model = wordsight.load_model(folder)
        # Encodes the bank, which the cache keeps.
        wordsight.create(folder.with_name("first.lib"), model)
        model.encode_pixels(pixels)

        def encode() -> None:
            for start in range(0, options.images, BATCH):
                model.encode_pixels(pixels[: options.images - start])

        for number in range(options.rounds):
            library = wordsight.create(folder.with_name(f"{number}.lib"), model)
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
    finish(options, {"images": options.images, **middle})
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
