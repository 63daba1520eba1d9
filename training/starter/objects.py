"""Objects in photographs, as a Mask R-CNN of COCO names them: pictures of one thing each.

A photograph's captions say little of what is small in it, so a head that learns from them alone
names parts of photographs badly. Only the detector's *outputs* are used: boxes and names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .concepts import COCO
from .images import Picture

SURE = 0.6
"""The least probability of a name."""
SIDE = 20  # pixels; less shows nothing
ALIKE = 3  # of one name in a photograph, at most
MARGIN = 0.3
"""Each side moves outwards by up to this share of the box, at random."""
PEOPLE = 0.3
"""The share of people that is kept: they are by far the most of the objects."""


def named(
    pictures: Sequence[Picture], data: Path, detector: Path, seed: int = 3
) -> Iterator[tuple[int, str, Image.Image]]:
    """The photograph's number, the concept and the cut-out of each object, half of them mirrored.

    ``detector`` is the directory of the teacher of :mod:`training.maskrcnn.targets`.
    """
    from training.maskrcnn.pictures import category_names
    from training.maskrcnn.targets import Teacher, ask
    from wordsight.images.crops import crop

    teacher, names = Teacher(detector), category_names(data)
    random = np.random.default_rng(seed)
    for number, picture in enumerate(pictures):
        photograph, count = picture.open(), Counter[str]()
        said = ask(teacher, photograph, divide=True)
        for box, classes in zip(said["boxes"], said["classes"], strict=True):
            name = names[int(classes.argmax())]
            if classes.max() < SURE or min(box[2:] - box[:2]) < SIDE:
                continue
            count[name] += 1
            if count[name] > ALIKE or (name == "person" and random.random() > PEOPLE):
                continue
            outwards = np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1) * random.uniform(0, MARGIN)
            part = crop(photograph, box + outwards)
            if random.random() < 0.5:
                part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            yield number, COCO.get(name, name), part
