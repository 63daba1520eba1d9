"""Training scenes: square pictures composed from others, with what is known of their objects.

Kinds of scene:

- ``photo``: a photograph or a piece of it, smaller or larger;
- ``mosaic``: the canvas cut at random into cells, each filled with a piece of a picture;
- ``cifar``: CIFAR-10 *train* images pasted on a background, each a known box.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from training.maskrcnn.pictures import Picture, members, open_picture
from training.maskrcnn.targets import CLASSES
from wordsight.regions import iou

MOST, MASKS = 40, 4
KINDS = ("photo", "mosaic", "cifar")
KIND_SHARES = (0.55, 0.33, 0.12)
SHORT = (0.7, 1.4)  # of a scene's side: the short side of a photograph
LEAST_SIDE = 5
INSIDE = 0.55  # of an object must be in the scene
DOUBT = 0.5  # what the teacher finds beside the annotations of a picture counts so much
GREY = (127, 127, 127)


@dataclass
class Known:
    """Objects: boxes [N, 4] in pixels, scores [N], class probabilities [N, 81]; masks [M, 28, 28]
    and their boxes [M, 4].
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    mask_boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    masks: np.ndarray = field(default_factory=lambda: np.zeros((0, 28, 28), np.uint8))

    def moved(self, scale: np.ndarray, shift: np.ndarray, frame: tuple[float, ...]) -> Known:
        """As seen after scaling (x, y) and shifting, cut to a frame x0, y0, x1, y1."""
        low, high = np.array([frame[:2] * 2, frame[2:] * 2], np.float32)
        boxes = self.boxes * np.tile(scale, 2) + np.tile(shift, 2)
        cut = np.clip(boxes, low, high)
        sides = cut[:, 2:] - cut[:, :2]
        share = sides.prod(1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-3)
        keep = (share >= INSIDE) & (sides.min(1) >= LEAST_SIDE)
        masked = self.mask_boxes * np.tile(scale, 2) + np.tile(shift, 2)
        whole = ((masked >= low - 1) & (masked <= high + 1)).all(1)
        return Known(
            cut[keep].astype(np.float32), self.scores[keep], self.classes[keep],
            masked[whole].astype(np.float32), self.masks[whole],
        )  # fmt: skip


def known(picture: Picture, said: dict[str, np.ndarray]) -> Known:
    """What is known of a picture: its annotations, and what the teacher says beside them."""
    classes = said["classes"].astype(np.float32)
    scores = classes.sum(1).clip(0, 1)
    classes = np.concatenate([classes, 1 - scores[:, None]], 1)
    boxes = said["boxes"]
    if picture.annotated:
        own = np.array(picture.boxes, np.float32).reshape(-1, 4)
        sides = (own[:, 2:] - own[:, :2]).min(1) if len(own) else np.zeros(0)
        named = np.eye(CLASSES + 1, dtype=np.float32)[np.array(picture.labels, int)]
        if len(own):
            new = iou(boxes, own).max(1, initial=0.0) < 0.5
            boxes, scores, classes = boxes[new], scores[new], classes[new]
        usable = sides >= 4
        boxes = np.concatenate([own[usable], boxes])
        scores = np.concatenate([np.ones(usable.sum(), np.float32), DOUBT * scores])
        classes = np.concatenate([named[usable], classes])
    return Known(boxes, scores.astype(np.float32), classes, said["mask_boxes"], said["masks"])


def merged(parts: list[Known]) -> Known:
    """All objects of the parts."""
    names = ("boxes", "scores", "classes", "mask_boxes", "masks")
    return Known(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


class Scenes:
    """Composes scenes, at random, from the pictures to train with."""

    def __init__(
        self,
        rows: list[tuple[Picture, dict]],
        data: Path,
        seed: int,
        side: int = 320,
        cifar: str = "train",
    ):
        self.side = side
        self.rng = np.random.default_rng(seed)
        usable = [(p, known(p, said)) for p, said in rows if not p.dev]
        self.photos = [row for row in usable if row[0].kind == "photo"]
        self.objects = [row for row in usable if row[0].kind == "object"]
        # Annotations are worth more than what the teacher says.
        weight = np.array([3.0 if p.annotated else 1.0 for p, _ in self.photos])
        self.share = weight / max(weight.sum(), 1.0)
        caltech = members(data / "caltech101" / "images.tar")
        self.backgrounds = [v for k, v in sorted(caltech.items()) if "BACKGROUND" in k]
        self.cifar = [
            v for shard in sorted((data / "cifar10").glob(f"{cifar}*.tar"))
            for _, v in sorted(members(shard).items())
        ]  # fmt: skip

    def make(self, kind: str | None = None) -> tuple[np.ndarray, Known]:
        """A scene: uint8 [side, side, 3] RGB, and what is known of it."""
        rng = self.rng
        kind = kind or str(rng.choice(KINDS, p=KIND_SHARES))
        canvas, about = getattr(self, f"_{kind}")()
        pixels = _colours(rng, np.asarray(canvas))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
            flip, shift = np.array([-1.0, 1.0]), np.array([self.side, 0.0])
            for boxes in (about.boxes, about.mask_boxes):
                boxes[:] = (boxes * np.tile(flip, 2) + np.tile(shift, 2))[:, [2, 1, 0, 3]]
            about.masks = about.masks[:, :, ::-1]
        return np.ascontiguousarray(pixels), about

    def _draw(self, objects: float = 0.0) -> tuple[Picture, Known]:
        if self.objects and self.rng.random() < objects:
            return self.objects[int(self.rng.integers(len(self.objects)))]
        return self.photos[int(self.rng.choice(len(self.photos), p=self.share))]

    def _photo(self) -> tuple[Image.Image, Known]:
        canvas = Image.new("RGB", (self.side, self.side), GREY)
        short = self.side * np.exp(self.rng.uniform(*np.log(SHORT)))
        about = self._fill(canvas, self._draw(), (0, 0, self.side, self.side), short)
        return canvas, about

    def _mosaic(self) -> tuple[Image.Image, Known]:
        canvas = Image.new("RGB", (self.side, self.side), GREY)
        parts = []
        for cell in _cells(self.rng, self.side, self.side, int(self.rng.integers(2, 8))):
            short = min(cell[2:]) * np.exp(self.rng.uniform(0.0, 0.7))
            parts.append(self._fill(canvas, self._draw(0.3), cell, short))
        return canvas, merged(parts)

    def _fill(
        self, canvas: Image.Image, row: tuple[Picture, Known], cell: tuple[int, ...], short: float
    ) -> Known:
        """Paste a piece of a picture, resized to this short side, into a cell x, y, w, h."""
        x, y, w, h = cell
        image = open_picture(row[0].data)
        stretch = np.exp(self.rng.uniform(-0.15, 0.15))
        scale = short / min(image.size) * np.array([stretch, 1 / stretch])
        cw, ch = min(image.width, w / scale[0]), min(image.height, h / scale[1])
        left = self.rng.uniform(0, image.width - cw)
        top = self.rng.uniform(0, image.height - ch)
        size = (max(1, round(cw * scale[0])), max(1, round(ch * scale[1])))
        piece = image.resize(
            size, Image.Resampling.BILINEAR, box=(left, top, left + cw, top + ch),
            reducing_gap=2.0,
        )  # fmt: skip
        canvas.paste(piece, (x, y))
        shift = np.array([x - left * scale[0], y - top * scale[1]])
        return row[1].moved(scale, shift, (x, y, x + size[0], y + size[1]))

    def _cifar(self) -> tuple[Image.Image, Known]:
        rng = self.rng
        canvas = self._background()
        base = float(np.exp(rng.uniform(np.log(22), np.log(120))))
        same = rng.random() < 0.6
        sprites = []
        for _ in range(int(rng.integers(1, 13))):
            side = base if same else base * float(np.exp(rng.uniform(-0.5, 0.5)))
            side = max(16, min(200, round(side)))
            data = self.cifar[int(rng.integers(len(self.cifar)))]
            sprites.append(open_picture(data).resize((side, side), Image.Resampling.BICUBIC))
        boxes = _paste(rng, canvas, sprites)
        # A pasted picture is an object without a name.
        none = np.eye(CLASSES + 1, dtype=np.float32)[np.full(len(boxes), CLASSES)]
        return canvas, Known(boxes, np.ones(len(boxes), np.float32), none)

    def _background(self) -> Image.Image:
        rng = self.rng
        kind = rng.choice(["flat", "clouds", "grain", "photo", "blurred"])
        if kind in ("photo", "blurred"):
            data = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            image = open_picture(data).resize((self.side, self.side))
            radius = rng.uniform(3, 20) if kind == "blurred" else 0
            return image.filter(ImageFilter.GaussianBlur(radius)) if radius else image
        if kind == "flat":
            return Image.new(
                "RGB", (self.side, self.side), tuple(int(v) for v in rng.integers(0, 256, 3))
            )
        if kind == "clouds":
            n = int(rng.integers(2, 24))
            small = rng.integers(0, 256, (n, n, 3), dtype=np.uint8)
        else:
            middle, spread = rng.uniform(30, 225, 3), rng.uniform(3, 40)
            n = int(rng.integers(40, self.side + 1))
            small = np.clip(middle + rng.normal(0, spread, (n, n, 3)), 0, 255).astype(np.uint8)
        return Image.fromarray(small).resize((self.side, self.side), Image.Resampling.BICUBIC)


def _paste(rng: np.random.Generator, canvas: Image.Image, sprites: list[Image.Image]) -> np.ndarray:
    """Paste the sprites where they overlap none before; returns the boxes of those that fitted."""
    boxes: list[tuple[int, int, int, int]] = []
    for sprite in sprites:
        w, h = sprite.size
        for _ in range(20):
            x = int(rng.integers(0, canvas.width - w + 1))
            y = int(rng.integers(0, canvas.height - h + 1))
            free = all(x + w <= b[0] or b[2] <= x or y + h <= b[1] or b[3] <= y for b in boxes)
            if free:
                canvas.paste(sprite, (x, y))
                boxes.append((x, y, x + w, y + h))
                break
    return np.array(boxes, np.float32).reshape(-1, 4)


def _cells(rng: np.random.Generator, width: int, height: int, n: int) -> list[tuple[int, ...]]:
    """Cut width x height into n cells (x, y, w, h), always halving the largest somewhere."""
    cells = [(0, 0, width, height)]
    while len(cells) < n:
        cells.sort(key=lambda c: c[2] * c[3])
        x, y, w, h = cells.pop()
        cut = rng.uniform(0.35, 0.65)
        if w > h or (w == h and rng.random() < 0.5):
            k = int(w * cut)
            cells += [(x, y, k, h), (x + k, y, w - k, h)]
        else:
            k = int(h * cut)
            cells += [(x, y, w, k), (x, y + k, w, h - k)]
    return cells


def _colours(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Other brightness, contrast and tint, by one table a channel; now and then no colour."""
    if rng.random() < 0.05:
        pixels = np.repeat(pixels.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    x = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.35, 0.35))
    x = (x - 0.5) * rng.uniform(0.75, 1.2) + 0.5 + rng.uniform(-0.08, 0.08)
    tables = (np.clip(x[:, None] * rng.uniform(0.92, 1.08, 3), 0, 1) * 255).astype(np.uint8)
    return np.stack([tables[pixels[..., c], c] for c in range(3)], -1)
