"""A small network beside the backbone: it sees every picture at 32 x 32 pixels.

The backbone grew up on ImageNet and is at a loss without detail; this network knows nothing else.
It is three blocks of three convolutions on fixed filters of 2 x 2 pixels (Keller Jordan, 94 % on
CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498), a quarter as wide.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import images
from .backbone import SIZE

SIDE = 32
# A pixel of a thumbnail is the mean of this many by this many of a picture.
CELL = SIZE // SIDE
WIDTHS = (32, 96, 192)
_FILTERS = 24

# Blue and red against luma (ITU-T T.871, JFIF), and back.
_TO_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_CHROMA = ((0.0, 1.402), (-0.344136, -0.714136), (1.772, 0.0))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = ((inputs, outputs), (outputs, outputs), (outputs, outputs))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)
        self.norms: nn.ModuleList = nn.ModuleList(
            nn.BatchNorm2d(outputs, momentum=0.3) for _ in sizes
        )
        for conv, norm in zip(self.convs, self.norms, strict=True):
            nn.init.dirac_(conv.weight[: conv.weight.shape[1]])  # type: ignore[arg-type,index]
            # The convolutions alone carry the gain, the norms alone the bias.
            norm.weight.requires_grad_(False)
            nn.init.zeros_(conv.bias.requires_grad_(False))  # type: ignore[union-attr,arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        y = F.relu(self.norms[1](self.convs[1](x)))
        return F.relu(self.norms[2](self.convs[2](y)) + x)

    @torch.no_grad()
    def fold(self) -> None:
        """Take the norms into the convolutions; as gains are positive, also across the maximum."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            gain = (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator]
            conv.weight.mul_(gain[:, None, None, None])  # type: ignore[operator]
            conv.bias.copy_(norm.bias - norm.running_mean * gain)  # type: ignore[operator]
        self.norms = nn.ModuleList(nn.Identity() for _ in self.convs)


class Thumbnail(nn.Module):
    """Normalised pictures to features, [N, 192]."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, _FILTERS, 2).requires_grad_(False)
        self.blocks = nn.Sequential(*map(_Block, (_FILTERS, *WIDTHS), WIDTHS))

    def whiten(self, thumbnails: Tensor, least: float = 5e-4) -> None:
        """Fill the filters with the scaled principal patches of some thumbnails."""
        patches = F.unfold(_soft_colour(thumbnails), 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = vectors.T.reshape(-1, 3, 2, 2) / (values + least).sqrt()[:, None, None, None]
        with torch.no_grad():
            self.filters.weight.copy_(torch.cat([filters, -filters]))
            nn.init.zeros_(self.filters.bias)  # type: ignore[arg-type]

    def see(self, thumbnails: Tensor) -> Tensor:
        """Features of thumbnails, which may be smaller than 32 x 32."""
        x = self.blocks(F.relu(self.filters(_soft_colour(thumbnails))))
        return F.max_pool2d(x, x.shape[-1]).flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pictures."""
        return self.see(F.avg_pool2d(pixels, CELL))

    def fold(self) -> Thumbnail:
        """The same network without norms, as it is used after training."""
        for block in self.blocks:
            block.fold()  # type: ignore[operator]
        return self.eval()


def load(path: Path) -> Thumbnail:
    """The network that :mod:`train_thumbnail` wrote."""
    network = Thumbnail().fold()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


def _soft_colour(thumbnails: Tensor) -> Tensor:
    """Colour at half the resolution, which small JPEGs have: so that others look the same."""
    chroma = F.conv2d(thumbnails, thumbnails.new_tensor(_TO_CHROMA)[:, :, None, None])
    soft = F.interpolate(F.avg_pool2d(chroma, 2), scale_factor=2.0, mode="bilinear")
    back = thumbnails.new_tensor(_FROM_CHROMA)[:, :, None, None]
    return thumbnails + F.conv2d(soft - chroma, back)


def thumbnails(pictures: Iterable[images.Picture]) -> Tensor:
    """What the network makes of pictures first, as bytes, [N, 3, 32, 32]."""
    rows = [
        images.prepare(picture.open(), SIZE)
        .reshape(SIDE, CELL, SIDE, CELL, 3)
        .mean((1, 3))
        .round()
        .astype(np.uint8)
        for picture in pictures
    ]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()
