"""What decoding a JPEG at a reduced scale changes in its vector.

    python -m benchmarks.reduced_scale [--data DATA] [--tokenizer DIR] [--model MODEL]
        [--size 160] [--photos 300]

Encodes COCO's photographs decoded in full and at the smallest scale (1/2, 1/4, 1/8 of the DCT)
whose short side is not below the encoder's input, and prints the cosines of the two vectors by the
ratio of that side to the input. The photographs are 480 pixels high or so: a random ViT-B/32
(``benchmarks/vit.py``) for pictures of ``--size`` pixels stands in for a real model, whose input is
too large to leave a scale out; give a real one with ``--model`` and larger photographs in DATA.
*centred* are cosines after the mean vector is taken off, which random weights make large.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from contextlib import ExitStack
from typing import Any

import numpy as np
from PIL import Image

import wordsight
from benchmarks.common import finish, parser, random_vit
from wordsight.images import open_image

EDGES = (1.0, 1.2, 4 / 3, 1.5, 2.0)


def smallest(data: bytes, side: int) -> Image.Image | None:
    """A JPEG at the smallest scale that keeps ``side``; None where that is its full size."""
    image = Image.open(io.BytesIO(data))
    full = image.size
    # Pillow's own choice is the smallest scale that is not below what is asked for.
    image.draft("RGB", (side, side))
    return None if image.size == full else image.convert("RGB")


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data", "tokenizer")
    arguments.add_argument("--model", help="default: a random ViT-B/32")
    arguments.add_argument("--size", type=int, default=160)
    arguments.add_argument("--photos", type=int, default=300)
    options = arguments.parse_args()
    whole: list[Any] = []
    small: list[Any] = []
    ratios: list[float] = []
    with ExitStack() as stack:
        folder = options.model or stack.enter_context(random_vit(options.tokenizer, options.size))
        model = wordsight.load_model(folder, precision="fp32")
        side = max(model.image_size)
        with tarfile.open(options.data / "coco-captions/images.tar") as tar:
            for member in [m for m in tar if m.isfile()][: options.photos]:
                file = tar.extractfile(member)
                assert file is not None
                data = file.read()
                if (reduced := smallest(data, side)) is None:
                    continue
                full = open_image(data)
                whole.append(model.preprocess(full))
                small.append(model.preprocess(reduced, full.size))
                ratios.append(min(reduced.size) / side)
        vectors = [model.encode_pixels(pixels) for pixels in (whole, small)]
    mean = vectors[0].mean(axis=0)
    rows = []
    for low, high in itertools.pairwise(EDGES):
        chosen = (np.array(ratios) >= low) & (np.array(ratios) < high)
        if not chosen.any():
            continue
        plain = _cosines(*(v[chosen] for v in vectors))
        centred = _cosines(*(v[chosen] - mean for v in vectors))
        rows.append(
            {
                "from": low, "to": high, "photos": int(chosen.sum()),
                "mean": float(plain.mean()), "least": float(plain.min()),
                "centred_mean": float(centred.mean()), "centred_least": float(centred.min()),
            }
        )  # fmt: skip
    finish(options, {"model": model.name, "size": side, "rows": rows})
    print(f"{model.name}, {side} pixels")
    print("short side / input   photos    mean   least   centred: mean   least")
    for row in rows:
        print(
            f"{row['from']:.2f} to {row['to']:.2f}         {row['photos']:6}  {row['mean']:.4f}  "
            f"{row['least']:.4f}          {row['centred_mean']:.4f}  {row['centred_least']:.4f}"
        )


def _cosines(left: Any, right: Any) -> Any:
    products = (left * right).sum(axis=1)
    return products / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


if __name__ == "__main__":
    main()
