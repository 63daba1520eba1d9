"""Features of all pictures from a frozen trunk, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from . import images, objects
from .backbone import SIZE, normalise
from .precision import autocast
from .trunk import Trunk

BATCH = 64
# Pieces of each photograph: more photographs for the backbone's opinion to be kept on.
PIECES = 2


def _pieces(picture: Image.Image, random: np.random.Generator) -> Iterator[Image.Image]:
    """Random parts of a picture, a quarter to nine tenths of its area, half of them mirrored."""
    width, height = picture.size
    for _ in range(PIECES):
        area, shape = random.uniform(0.25, 0.9), np.exp(random.uniform(-0.3, 0.3))
        w = min(width, int((area * width * height * shape) ** 0.5))
        h = min(height, int((area * width * height / shape) ** 0.5))
        x, y = random.integers(0, width - w + 1), random.integers(0, height - h + 1)
        part = picture.crop((x, y, x + w, y + h))
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        yield part if random.random() < 0.5 else part.transpose(flip)


def _moved(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Mirrored half of the time, and half of the time shifted by up to three pixels."""
    if random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.5:
        return picture
    padded = np.pad(np.asarray(picture), ((3, 3), (3, 3), (0, 0)), mode="reflect")
    y, x = random.integers(0, 7, 2)
    return Image.fromarray(padded[y : y + picture.height, x : x + picture.width])


Encode = Callable[[Iterable[images.Pixels]], torch.Tensor]


def encoder(trunk: nn.Module, device: str) -> Encode:
    """A function from prepared pictures to features; OpenVINO is fastest on CPUs."""
    run = _openvino(trunk) if device == "cpu" else _torch(trunk, device)

    def encode(pictures: Iterable[images.Pixels]) -> torch.Tensor:
        found: list[torch.Tensor] = []
        batch: list[images.Pixels] = []
        for pixels in pictures:
            batch.append(pixels)
            if len(batch) == BATCH:
                found.append(run(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)))
                batch.clear()
        if batch:
            found.append(run(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)))
        return torch.cat(found)

    return encode


def _torch(trunk: nn.Module, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    placed = trunk.to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(device):
            return placed(normalise(pixels.to(device))).float().cpu()

    return run


def _openvino(trunk: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    import openvino

    sample = torch.zeros(1, 3, SIZE, SIZE)
    model = openvino.convert_model(trunk, example_input=sample, input=[-1, 3, SIZE, SIZE])
    compiled = openvino.Core().compile_model(model, "CPU")

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled(normalise(pixels).contiguous().numpy())[0].copy())

    return run


def build(
    trunk: Trunk,
    data: Path,
    further: Sequence[Path] = (),
    device: str = "cpu",
    every: int = 1,
    detector: Path | None = None,
) -> dict[str, Any]:
    """Features and what is to be seen: cifar, caltech, whole, squashed, pieces, objects.

    Features are [N, width]. The last four are of the photographs of :func:`images.photographs`, in
    their order: of all of them, whatever ``every`` leaves of the others. Without a ``detector``
    there are no objects.
    """
    encode = encoder(trunk, device)
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    cifar, caltech = images.cifar(data, train=True)[::every], images.caltech(data, train=True)
    found["cifar"] = encode(images.prepare(_moved(p.open(), random), SIZE) for p in cifar)
    found["cifar_concept"] = [p.concept for p in cifar]
    caltech = caltech[::every]
    found["caltech"] = encode(images.prepare(p.open(), SIZE) for p in caltech)
    found["caltech_concept"] = [p.concept for p in caltech]
    _, photographs = images.photographs(data, further)
    for name, prepare in (("whole", images.prepare), ("squashed", images.squash)):
        found[name] = encode(prepare(p.open(), SIZE) for p in photographs)
    found["pieces"] = encode(
        images.prepare(q, SIZE) for p in photographs for q in _pieces(p.open(), random)
    )
    return found | _objects(encode, photographs, data, detector, trunk.width)


def _objects(
    encode: Encode,
    photographs: Sequence[images.Picture],
    data: Path,
    detector: Path | None,
    width: int,
) -> dict[str, Any]:
    """Features of the objects, what they are, and the number of the photograph of each."""
    if detector is None:
        return {"objects": torch.zeros(0, width), "objects_concept": [], "objects_photograph": []}
    concepts: list[str] = []
    numbers: list[int] = []

    def pixels() -> Iterator[images.Pixels]:
        for number, concept, part in objects.named(photographs, data, detector):
            concepts.append(concept)
            numbers.append(number)
            yield images.prepare(part, SIZE)

    seen = encode(pixels())
    return {"objects": seen, "objects_concept": concepts, "objects_photograph": numbers}
