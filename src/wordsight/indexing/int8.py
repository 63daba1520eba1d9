"""What int8 changes, measured before anything is indexed with it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wordsight.errors import ModelError, WordsightError
from wordsight.indexing.decoding import reduced_side

if TYPE_CHECKING:
    from wordsight.models.clip import ClipModel
    from wordsight.sources import Source


@dataclass(frozen=True, slots=True)
class Int8Check:
    """What int8 changes: over ``images`` images, the mean cosine of their vectors to those of fp32,
    and ``recall``, the share of each one's ten nearest others that are the same.
    """

    images: int
    cosine: float
    recall: float


def check_int8(
    model: ClipModel, sources: Sequence[Source], *, images: int = 100, least: float = 0.9
) -> Int8Check:
    """Compare a model in int8 with itself in fp32 on a sample of the sources' images.

    Raises ModelError when the recall is below ``least``: int8 would then change what is found.
    """
    import numpy as np

    from wordsight.images import open_image
    from wordsight.models.clip import ClipModel

    items = [item for source in sources for item in source.items()]
    pixels = []
    for item in items[:: max(1, len(items) // images)][:images]:
        with contextlib.suppress(WordsightError, OSError):
            side = reduced_side(max(model.image_size))
            image = open_image(item.read(), min_side=side, name=item.path)
            pixels.append(model.preprocess(image, image.info["full_size"]))
    if len(pixels) < 2:
        return Int8Check(len(pixels), 1.0, 1.0)
    plain = ClipModel(model.path, precision="fp32")
    ours, theirs = (m.encode_pixels(pixels) for m in (model, plain))
    near = min(10, len(pixels) - 1)
    ranks = []
    for vectors in (ours, theirs):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        ranks.append(np.argsort(-scores, axis=1)[:, :near])
    same = [len(set(a) & set(b)) / near for a, b in zip(*ranks, strict=True)]
    check = Int8Check(len(pixels), float((ours * theirs).sum(axis=1).mean()), float(np.mean(same)))
    if check.recall < least:
        raise ModelError(
            f"int8 changes the results of {model.name}: only {check.recall:.0%} of the ten nearest "
            f"images are the same as with fp32 (checked on {check.images}); index without "
            "--precision int8."
        )
    return check
