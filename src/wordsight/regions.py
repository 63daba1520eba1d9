"""Regions: the parts of an image that are worth a view of their own, and their pixels.

One function, :func:`propose`, for every proposer: a Mask R-CNN, which finds objects, or tiles,
which need no weights and miss nothing, however small or unknown, but know nothing either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    from wordsight.models.maskrcnn import Detections, Detector

    Picture = PIL.Image.Image | npt.NDArray[Any]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright original image."""

# Every tile must be at least so many pixels wide and high, by tiles along the short side: below
# that a tile shows no more than the whole image does.
TILE_LEVELS = ((1, 32), (2, 32), (3, 32), (4, 48), (5, 96))
TILE_OVERLAP = 1 / 3
"""The share of a tile that its neighbour covers too."""

CONTEXT = 0.6
"""The whole image's share in a crop's vector, chosen on COCO photographs (``docs/concepts.md``)."""

MOST_OBJECTS, MOST_TILES = 10, 6
"""Regions an image. Photographs have two objects and four tiles as a rule: more gain little, and
take long (``docs/concepts.md``)."""

Background = Literal["keep", "grey", "blur"]
BACKGROUNDS: tuple[Background, ...] = ("keep", "grey", "blur")
"""What :func:`crop_region` can do with the pixels around an object."""

_GREY = (124, 117, 104)  # the mean colour of ImageNet: near zero after any encoder's normalisation


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image that a proposer found."""

    box: Box
    score: float
    """How sure the proposer is, 0 to 1 (tiles: 1)."""
    label: str | None = None
    """The detector's name for it, where it has one."""
    mask: npt.NDArray[np.float32] | None = None
    """Probabilities [h, w] that a pixel belongs to the object; covers the box."""


class Tiles:
    """Overlapping tiles at several scales; runs without weights."""

    name = "tiles"


def load_proposer(
    source: str | Path = "maskrcnn", *, runtime: str = "auto", masks: bool = True
) -> Detector | Tiles:
    """Load a proposer, to be used for many calls of :func:`propose`.

    ``source`` is "tiles"; "maskrcnn" (the preferred detector if it is in the cache, else the
    starter); or what :func:`wordsight.models.maskrcnn.load_detector` takes: a registry name, a
    directory or a hub id. ``masks`` says whether its masks are wanted. Raises ModelError for what
    cannot be loaded, HubError for what cannot be fetched.
    """
    if source == "tiles":
        return Tiles()
    from wordsight.models.maskrcnn import load_detector

    name = "auto" if source == "maskrcnn" else source
    return load_detector(name, runtime=runtime, masks=masks)


def propose(
    images: Iterable[Picture],
    proposer: str | Path | Detector | Tiles = "maskrcnn",
    *,
    limit: int | None = None,
    alike: int = 2,
    min_score: float = 0.5,
    margin: float = 0.1,
    least: float = 0.2,
    nms: float = 0.6,
    min_side: float = 12,
    max_area: float = 0.5,
    masks: bool = False,
) -> list[list[Region]]:
    """Find the regions of each image, best first; an image without any gives an empty list.

    Args:
        images: upright images of any mode and size; taken one by one.
        proposer: a name or directory (loaded for this call), or what :func:`load_proposer` gave.
        limit: at most this many regions an image; None: 10 objects, or 6 tiles. Tiles come in
            whole levels, coarse to fine.
        alike: at most this many regions of one name; those without a name all count.
        min_score: regions with a lower score are left out: by default, what is rather no object.
        margin: each side of a box is moved outwards by this share of the box's width or height,
            then the box is clipped to the image. Not applied to tiles.
        least: a box narrower or lower than this share of the image's short side is widened to it,
            about its middle: enlarged specks look like anything. Not applied to tiles.
        nms: of two such boxes that overlap with at least this IoU the one with the lower score is
            left out, whatever their labels.
        min_side: boxes narrower or lower than this many pixels (before the margin) are left out.
        max_area: boxes that cover more than this share of the image (with the margin) are left
            out: the image shows them itself.
        masks: keep the masks, for :func:`crop_region`.

    Raises ModelError when the proposer cannot be loaded or run, ImageError for what is no image.
    """

    if isinstance(proposer, (str, Path)):
        proposer = load_proposer(proposer)
    if limit is None:
        limit = MOST_TILES if isinstance(proposer, Tiles) else MOST_OBJECTS
    found = []
    for image in images:
        width, height = _size(image)
        if isinstance(proposer, Tiles):
            found.append([Region(box, 1.0) for box in tiles(width, height, limit)])
            continue
        if min(width, height) < min_side or limit < 1:
            found.append([])
            continue
        detections = proposer(image)
        padded = _padded(detections.boxes, margin, least, width, height)
        usable = _usable(detections, padded, min_score, min_side, max_area * width * height)
        best = usable[non_maximum_suppression(padded[usable], detections.scores[usable], nms)]
        kept = _varied(best, detections.labels, alike)[:limit]
        found.append([_region(detections, i, _as_box(padded[i]), masks) for i in kept])
    return found


def _usable(
    detections: Detections,
    padded: npt.NDArray[np.float64],
    min_score: float,
    min_side: float,
    max_area: float,
) -> npt.NDArray[np.intp]:
    """Places of the detections that are sure enough, not too small and, padded, not too large."""
    import numpy as np

    boxes = detections.boxes
    return np.flatnonzero(
        (detections.scores >= min_score)
        & ((boxes[:, 2:] - boxes[:, :2]).min(1) >= min_side)
        & ((padded[:, 2:] - padded[:, :2]).prod(1) <= max_area)
    )


def _varied(places: Iterable[int], labels: Sequence[str | None], most: int) -> list[int]:
    """The first ``most`` places of each name, and all those without a name."""
    seen: Counter[str | None] = Counter()
    kept = []
    for i in places:
        seen[labels[i]] += 1
        if labels[i] is None or seen[labels[i]] <= most:
            kept.append(i)
    return kept


def _region(detections: Detections, i: int, box: Box, masks: bool) -> Region:
    """Detection ``i`` as the region of this box."""
    mask = None
    if masks and detections.masks is not None:
        mask = _reframe(detections.masks[i], _as_box(detections.boxes[i]), box)
    return Region(box, float(detections.scores[i]), detections.labels[i], mask)


def tiles(width: int, height: int, limit: int | None = None) -> list[Box]:
    """Tiles of an image of this size, coarse to fine, row by row.

    2, 3 and, in larger images, 4 and 5 tiles along the short side, as many along the long side as
    leave them no higher than wide, or no wider than high; neighbours share a third of their width.
    Elongated images get halves, thirds, ... of their length first. Levels whose tiles would be too
    small are left out, and those with which there would be more than ``limit`` tiles.
    """
    short, long = sorted((width, height))
    boxes: list[Box] = []
    for rows, least in TILE_LEVELS:
        columns = rows * long // short
        side = _tile_side(short, rows)
        if columns * rows == 1 or side < least:
            continue
        if limit is not None and len(boxes) + rows * columns > limit:
            break
        across, down = (columns, rows) if width >= height else (rows, columns)
        boxes += [
            (x0, y0, x1, y1) for y0, y1 in _spans(height, down) for x0, x1 in _spans(width, across)
        ]
    return boxes


def non_maximum_suppression(
    boxes: npt.NDArray[Any], scores: npt.NDArray[np.float32], threshold: float
) -> list[int]:
    """Keep the best of boxes that overlap with an IoU of at least ``threshold``.

    Takes boxes [N, 4] (x0, y0, x1, y1) and scores [N]; returns the places of those kept, by
    falling score (equal scores: by place).
    """
    import numpy as np

    overlaps = iou(boxes, boxes)
    alive = np.ones(len(boxes), bool)
    keep = []
    for i in np.argsort(-scores, kind="stable"):
        if alive[i]:
            keep.append(int(i))
            alive &= overlaps[i] < threshold
    return keep


def iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes [N, 4] with boxes [M, 4]: float64 [N, M]; 0 where empty."""
    import numpy as np

    a, b = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    size_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(1)
    size_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(1)
    union = size_a[:, None] + size_b[None] - both
    result: npt.NDArray[np.float64] = np.divide(
        both, union, out=np.zeros_like(both), where=union > 0
    )
    return result


def crop_region(
    image: Picture,
    region: Region,
    *,
    background: Background = "keep",
) -> PIL.Image.Image:
    """Cut the pixels of a region out of its image.

    ``background`` says what becomes of the pixels that the region's mask leaves out: kept, greyed
    (replaced by a neutral grey) or blurred. A region without a mask keeps them.
    """
    from PIL import Image, ImageFilter

    from wordsight.images import crop, to_rgb

    pixels = crop(to_rgb(image), region.box)
    if background == "keep" or region.mask is None:
        return pixels
    if background == "grey":
        other = Image.new("RGB", pixels.size, _GREY)
    elif background == "blur":
        other = pixels.filter(ImageFilter.GaussianBlur(max(pixels.size) / 16))
    else:
        raise ValueError(f"background must be keep, grey or blur, not {background!r}")
    # The crop reaches out to whole pixels; the mask covers the box itself.
    x0, y0, x1, y1 = region.box
    left, top = math.floor(max(x0, 0)), math.floor(max(y0, 0))
    mask = _resample(region.mask, (x0, y0, x1, y1), (left, top), (1.0, 1.0), pixels.size)
    # A soft edge around probability 0.5, a quarter wide on either side.
    soft = Image.fromarray(mask).point(lambda p: p * 512.0 - 128.0).convert("L")
    return Image.composite(pixels, other, soft)


def in_context(
    crops: npt.NDArray[np.float32], whole: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The vectors [..., D] that a library keeps of crops: drawn to their whole image's [D].

    A small thing is told by what is around it too; a crop alone is taken for things that would
    never be there. All are of unit length.
    """
    import numpy as np

    mixed = (1 - CONTEXT) * crops + CONTEXT * whole
    length = np.linalg.norm(mixed, axis=-1, keepdims=True)
    # Of opposite vectors nothing may be left.
    return np.where(length > 1e-6, mixed / np.maximum(length, 1e-6), whole).astype(np.float32)


def _padded(
    boxes: npt.NDArray[np.float32], margin: float, least: float, width: int, height: int
) -> npt.NDArray[np.float64]:
    """Boxes [N, 4] with a margin, none narrower or lower than a share of the short side."""
    padded = _with_margin(boxes, margin, width, height)
    return _widened(padded, least * min(width, height), width, height)


def _with_margin(
    boxes: npt.NDArray[np.float32], margin: float, width: int, height: int
) -> npt.NDArray[np.float64]:
    import numpy as np

    wide = boxes.astype(np.float64)
    sides = wide[:, 2:] - wide[:, :2]
    wide[:, :2] -= margin * sides
    wide[:, 2:] += margin * sides
    return np.clip(wide, 0, [width, height, width, height])


def _widened(
    boxes: npt.NDArray[np.float64], least: float, width: int, height: int
) -> npt.NDArray[np.float64]:
    """Boxes at least so many pixels wide and high, about the same middles, inside the image."""
    import numpy as np

    size = np.array([width, height], np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = np.maximum(high - low, least)
    start = np.clip((low + high - sides) / 2, 0, size - sides)
    return np.concatenate([start, start + sides], axis=1)


def _as_box(values: npt.NDArray[Any]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1


def _reframe(mask: npt.NDArray[np.float32], tight: Box, box: Box) -> npt.NDArray[np.float32]:
    """Make a mask that covers ``tight`` cover ``box``, with zeros around, at the same scale."""
    if tight == box:
        return mask
    cells_y, cells_x = mask.shape
    cell = ((tight[2] - tight[0]) / cells_x, (tight[3] - tight[1]) / cells_y)
    size = (
        max(1, round((box[2] - box[0]) / cell[0])),
        max(1, round((box[3] - box[1]) / cell[1])),
    )
    step = ((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    return _resample(mask, tight, (box[0], box[1]), step, size)


def _resample(
    mask: npt.NDArray[np.float32],
    frame: Box,
    origin: tuple[float, float],
    step: tuple[float, float],
    size: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """Sample a mask that covers ``frame`` on a grid of ``size`` cells (columns, rows).

    The grid starts at ``origin`` and its cells are ``step`` wide and high, both in the pixels of
    ``frame``. Bilinear; zero outside the frame.
    """
    import numpy as np

    def weights(centres: npt.NDArray[Any], cells: int, low: float, high: float) -> Any:
        # Row k holds what each of the mask's cells gives to the point centres[k].
        at = np.clip((centres - low) / (high - low) * cells - 0.5, 0, cells - 1)
        inside = (centres >= low) & (centres <= high)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))) * inside[:, None]

    x_centres = origin[0] + (np.arange(size[0]) + 0.5) * step[0]
    y_centres = origin[1] + (np.arange(size[1]) + 0.5) * step[1]
    x = weights(x_centres, mask.shape[1], frame[0], frame[2])
    y = weights(y_centres, mask.shape[0], frame[1], frame[3])
    sampled: npt.NDArray[np.float32] = (y @ mask @ x.T).astype(np.float32)
    return sampled


def _tile_side(length: float, n: int) -> float:
    return length / (n - (n - 1) * TILE_OVERLAP)


def _spans(length: int, n: int) -> list[tuple[float, float]]:
    """Cut a length into n overlapping spans, on whole pixels."""
    side = _tile_side(length, n)
    starts = [i * (length - side) / (n - 1) if n > 1 else 0.0 for i in range(n)]
    return [(float(round(s)), float(min(length, round(s + side)))) for s in starts]


def _size(image: Picture) -> tuple[int, int]:
    import PIL.Image

    if isinstance(image, PIL.Image.Image):
        return image.size
    return int(image.shape[1]), int(image.shape[0])
