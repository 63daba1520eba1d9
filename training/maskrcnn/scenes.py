"""Training scenes: 320 x 320 pictures composed from the data packs, and the boxes known in them.

Every scene is a pure function of its seed. Kinds of scene:

- ``coco``: a crop of a COCO photograph with the boxes annotated in it, if any;
- ``mosaic``: the canvas cut at random into cells, each filled with a photograph;
- ``caltech``: one Caltech-101 photograph;
- ``pasted``: Caltech-101 objects pasted on a background, each a known box;
- ``cifar``: CIFAR-10 *train* images pasted on a background, each a known box.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIZE = 320
MAX_BOXES = 32
KINDS = ("coco", "mosaic", "caltech", "pasted", "cifar")
KIND_SHARES = (0.42, 0.32, 0.06, 0.08, 0.12)

Boxes = list[tuple[float, float, float, float]]


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


class Packs:
    """The compressed pictures of the packs that training may use, by kind.

    COCO pictures are those of ``coco_split == "train2017"`` and those without annotated objects;
    recall is reported on the others. CIFAR-10 pictures are those of the train shards
    (`cifar="test"` is for :mod:`training.maskrcnn.evaluate` alone).
    """

    def __init__(self, data: Path, cifar: str = "train"):
        coco = data / "coco-captions"
        instances = json.loads((coco / "instances.json").read_text(encoding="utf-8"))
        boxes = defaultdict(list)
        for a in instances["annotations"]:
            if not a["iscrowd"]:
                x, y, w, h = a["bbox"]
                boxes[a["image_id"]].append((x, y, x + w, y + h))
        annotated = {i["id"] for i in instances["images"]}
        captions = json.loads((coco / "captions.json").read_text(encoding="utf-8"))
        pictures = _members(coco / "images.tar")
        self.coco = [
            (pictures[i["file_name"]], boxes[i["id"]])
            for i in sorted(captions["images"], key=lambda i: i["id"])
            if i["coco_split"] == "train2017" or i["id"] not in annotated
        ]
        caltech = _members(data / "caltech101" / "images.tar")
        self.objects = [v for k, v in sorted(caltech.items()) if "BACKGROUND" not in k]
        self.backgrounds = [v for k, v in sorted(caltech.items()) if "BACKGROUND" in k]
        self.cifar = [
            v
            for shard in sorted((data / "cifar10").glob(f"{cifar}*.tar"))
            for _, v in sorted(_members(shard).items())
        ]


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _pick(rng: np.random.Generator, items: list):
    return items[int(rng.integers(len(items)))]


def _fill(
    rng: np.random.Generator,
    image: Image.Image,
    boxes: Boxes,
    width: int,
    height: int,
    least: float,
) -> tuple[Image.Image, Boxes]:
    """A random crop of the image, at least `least` of what fits, resized to width x height."""
    aspect = width / height * float(np.exp(rng.uniform(-0.2, 0.2)))
    w = min(image.width, image.height * aspect)
    share = rng.uniform(least, 1.0)
    cw, ch = w * share, w / aspect * share
    x0, y0 = rng.uniform(0, image.width - cw), rng.uniform(0, image.height - ch)
    crop = image.resize((width, height), Image.Resampling.BILINEAR, box=(x0, y0, x0 + cw, y0 + ch))
    kept: Boxes = []
    for b in boxes:
        c = (max(b[0], x0), max(b[1], y0), min(b[2], x0 + cw), min(b[3], y0 + ch))
        inside = max(0.0, c[2] - c[0]) * max(0.0, c[3] - c[1])
        if inside >= 0.4 * (b[2] - b[0]) * (b[3] - b[1]):
            sx, sy = width / cw, height / ch
            kept.append(((c[0] - x0) * sx, (c[1] - y0) * sy, (c[2] - x0) * sx, (c[3] - y0) * sy))
    return crop, kept


def _background(rng: np.random.Generator, packs: Packs) -> Image.Image:
    kind = rng.choice(
        ["flat", "gradient", "clouds", "grain", "photo", "blurred"],
        p=[0.12, 0.12, 0.16, 0.1, 0.3, 0.2],
    )
    if kind in ("photo", "blurred"):
        if rng.random() < 0.4:
            image, _ = _fill(rng, _open(_pick(rng, packs.coco)[0]), [], SIZE, SIZE, 0.4)
        else:
            image, _ = _fill(rng, _open(_pick(rng, packs.backgrounds)), [], SIZE, SIZE, 0.4)
        return (
            image.filter(ImageFilter.GaussianBlur(rng.uniform(3, 20)))
            if kind == "blurred"
            else image
        )
    if kind == "flat":
        return Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in rng.integers(0, 256, 3)))
    if kind == "gradient":
        small = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    elif kind == "clouds":
        n = int(rng.integers(3, 24))
        small = rng.integers(0, 256, (n, n, 3), dtype=np.uint8)
    else:
        colour, spread = rng.uniform(30, 225, 3), rng.uniform(3, 40)
        n = int(rng.integers(40, SIZE + 1))
        small = np.clip(colour + rng.normal(0, spread, (n, n, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _paste(rng: np.random.Generator, canvas: Image.Image, sprites: list[Image.Image]) -> Boxes:
    """Paste the sprites where they overlap none before; returns the boxes of those that fitted."""
    boxes: Boxes = []
    for sprite in sprites:
        w, h = sprite.size
        if w > canvas.width or h > canvas.height:
            continue
        for _ in range(20):
            x = int(rng.integers(0, canvas.width - w + 1))
            y = int(rng.integers(0, canvas.height - h + 1))
            free = all(x + w <= b[0] or b[2] <= x or y + h <= b[1] or b[3] <= y for b in boxes)
            if free:
                canvas.paste(sprite, (x, y))
                boxes.append((x, y, x + w, y + h))
                break
    return boxes


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


def _colours(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    x = np.asarray(image, np.float32) / 255
    if rng.random() < 0.05:
        x = np.repeat(x.mean(2, keepdims=True), 3, 2)
    x = x ** np.exp(rng.uniform(-0.35, 0.35))
    x = (x - 0.5) * rng.uniform(0.75, 1.2) + 0.5 + rng.uniform(-0.08, 0.08)
    x = x * rng.uniform(0.92, 1.08, 3)
    return Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))


def make_scene(
    seed: int, packs: Packs, kind: str | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Scene number `seed`: uint8 [320, 320, 3] RGB, float32 [n, 4] known boxes (x0, y0, x1, y1
    in pixels, n <= 32), and the kind of scene (drawn by chance if it is not given).
    """
    rng = np.random.default_rng([20, seed])
    drawn = str(rng.choice(KINDS, p=KIND_SHARES))
    kind = kind or drawn
    if kind == "coco":
        data, boxes = _pick(rng, packs.coco)
        canvas, boxes = _fill(rng, _open(data), boxes, SIZE, SIZE, 0.3)
    elif kind == "mosaic":
        canvas, boxes = Image.new("RGB", (SIZE, SIZE)), []
        for x, y, w, h in _cells(rng, SIZE, SIZE, int(rng.integers(2, 9))):
            if rng.random() < 0.4:
                data, known = _pick(rng, packs.coco)
            else:
                data, known = _pick(rng, packs.objects), []
            cell, known = _fill(rng, _open(data), known, w, h, 0.6)
            canvas.paste(cell, (x, y))
            boxes += [(b[0] + x, b[1] + y, b[2] + x, b[3] + y) for b in known]
    elif kind == "caltech":
        canvas, boxes = _fill(rng, _open(_pick(rng, packs.objects)), [], SIZE, SIZE, 0.7)
    else:
        canvas = _background(rng, packs)
        if kind == "pasted":
            sprites = []
            for _ in range(int(rng.integers(1, 6))):
                image = _open(_pick(rng, packs.objects))
                side = float(np.exp(rng.uniform(np.log(48), np.log(180))))
                k = side / max(image.size)
                sprites.append(
                    image.resize((max(8, round(image.width * k)), max(8, round(image.height * k))))
                )
        else:
            base = float(np.exp(rng.uniform(np.log(22), np.log(120))))
            mode = _pick(rng, [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
            same = rng.random() < 0.6
            sprites = []
            for _ in range(int(rng.integers(1, 13))):
                side = base if same else base * float(np.exp(rng.uniform(-0.5, 0.5)))
                side = max(16, min(200, round(side)))
                sprites.append(_open(_pick(rng, packs.cifar)).resize((side, side), mode))
        boxes = _paste(rng, canvas, sprites)
    canvas = _colours(rng, canvas)
    if rng.random() < 0.5:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = [(SIZE - b[2], b[1], SIZE - b[0], b[3]) for b in boxes]
    big = [b for b in boxes if (b[2] - b[0]) >= 8 and (b[3] - b[1]) >= 8]
    return (
        np.asarray(canvas),
        np.array(big[:MAX_BOXES], np.float32).reshape(-1, 4),
        kind,
    )
