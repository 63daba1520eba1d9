"""The directory that was written, held against the original: same images, same prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.export.original import Clip, logits
from wordsight.models import load_model
from wordsight.models.clip import ClipModel
from wordsight.models.maskrcnn import Detections

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    from wordsight.models.clip import ClipModel

    Floats = npt.NDArray[np.float32]


CLIP_TOLERANCE = 1e-3
"""Euclidean distance between two unit vectors of the same image or text."""

DETECTOR_TOLERANCE = 1e-2
"""Of 1 - IoU, of scores, and of a mask's probabilities in the mean."""

PROMPTS = (
    "a photo of a dog",
    "A Red CAR, at night!",
    "",
    "don't: it's 3.5 x 2",
    "naïve café, 10 €",
    "日本の犬 🐕",
    "word " * 200,
)
"""What text vectors are compared on: nothing that cleaning alone would repair."""


@dataclass(frozen=True, slots=True)
class Done:
    """A directory that was written: what the comparison with the original found."""

    differences: dict[str, float]
    compared: dict[str, int]
    facts: dict[str, Any]
    hint: str = ""


def compare_clip(
    clip: Clip,
    folder: Path,
    pictures: Sequence[PIL.Image.Image],
    image_vectors: Floats,
    text_vectors: Floats,
    ids: npt.NDArray[np.int64],
) -> Done:
    """Open a CLIP directory and encode what the original encoded: images and :data:`PROMPTS`.

    ``ids`` are the original's token ids. Raises ModelError where the logit scale did not survive.
    """
    import numpy as np

    model: ClipModel = load_model(folder, precision="fp32")
    images = np.linalg.norm(model.encode_images(pictures) - image_vectors, axis=1)
    texts = np.linalg.norm(model.encode_texts(PROMPTS) - text_vectors, axis=1)
    scale, bias = logits(clip.model)
    if not (math.isclose(model.logit_scale, scale, rel_tol=1e-6) and model.logit_bias == bias):
        raise ModelError(
            f"the logit scale {scale:g} and bias {bias} came back as {model.logit_scale:g} and "
            f"{model.logit_bias}; nothing was written"
        )
    others = [
        p for p, a, b in zip(PROMPTS, model.token_ids(PROMPTS), ids, strict=True) if (a != b).any()
    ]
    height, width = model.image_size
    return Done(
        {"images": float(images.max()), "texts": float(texts.max())},
        {"images": len(pictures), "prompts": len(PROMPTS)},
        {
            "dim": model.dim,
            "image_size": [height, width],
            "context": clip.context,
            "logit_scale": model.logit_scale,
            "logit_bias": model.logit_bias,
        },
        f"; other token ids for {others[0][:40]!r}" if others else "",
    )


def odd_pictures(side: int) -> list[PIL.Image.Image]:
    """Draw images of odd sizes and modes, the same each time, for an input of ``side`` pixels.

    None is transparent (transformers puts white behind those, this package and open_clip nothing),
    none has a palette (open_clip resizes those before it looks up the colours).
    """
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)

    def draw(width: int, height: int, mode: str) -> Image.Image:
        # At some sizes the crop of transformers is a pixel beside that of open_clip, which is
        # this package's: the one rounds the corner down, the other to the nearest even number.
        short, long = sorted((width, height))
        while (int(side * long / short) - side) % 4 == 3:
            long += 1
        size = (long, short) if width > height else (short, long)
        coarse = rng.integers(0, 256, (9, 11, 3), np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)

    return [
        draw(641, 427, "RGB"),
        draw(333, 500, "L"),
        draw(401, 267, "RGB"),
        draw(5, 7, "RGB"),
        draw(900, 90, "RGB"),
    ]


def draw_scenes() -> list[PIL.Image.Image]:
    """Draw a landscape and a portrait with some plain things on noise, the same each time."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(3)
    scenes = []
    for width, height in ((333, 250), (181, 260)):
        noise = rng.integers(60, 200, (height, width, 3), np.uint8)
        scene = Image.fromarray(noise)
        pen = ImageDraw.Draw(scene)
        for _ in range(6):
            x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
            box = [int(x), int(y), int(x + rng.integers(20, 90)), int(y + rng.integers(20, 90))]
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            (pen.ellipse if rng.integers(2) else pen.rectangle)(box, fill=colour)
        scenes.append(scene)
    return scenes


def detection_differences(
    boxes: Floats, scores: Floats, masks: Floats, found: Detections
) -> dict[str, float]:
    """Pair the original's boxes with those found; return the greatest differences of a pair."""
    import numpy as np

    if len(boxes) != len(found):
        return {"boxes": 1.0}
    if not len(boxes):
        return {}
    overlap = _iou(boxes, found.boxes)
    planes = np.stack(found.masks or [])
    # The masks too, because classes may share a box.
    unlike = np.abs(masks[:, None] - planes).mean(axis=(2, 3))
    partner = (1 - overlap + np.abs(scores[:, None] - found.scores) + unlike).argmin(axis=1)
    return {
        "boxes": float(1 - overlap[np.arange(len(boxes)), partner].min()),
        "scores": float(np.abs(scores - found.scores[partner]).max()),
        "masks": float(np.abs(masks - planes[partner]).mean(axis=(1, 2)).max()),
    }


def _iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union: boxes [N, 4] and [M, 4] -> [N, M]."""
    import numpy as np

    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(x[:, 2:] - x[:, :2], 0, None).prod(axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    result: Floats = shared / np.maximum(union, 1e-9)
    return result
