"""Boxes in PyTorch: overlap, the encoding of one box against another, the cells of feature maps.

Boxes are x0, y0, x1, y1 in pixels. The encoding is that of Ren et al., "Faster R-CNN", NeurIPS
2015; proposals come from cells, not anchors (Tian et al., "FCOS", ICCV 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
MAX_LOG_SCALE = math.log(1000 / 16)


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centres [N, 2] and strides [N] of the cells of all maps of an image, fine to coarse."""
    centres, strides = [], []
    for stride in STRIDES:
        ys = (torch.arange(height // stride) + 0.5) * stride
        xs = (torch.arange(width // stride) + 0.5) * stride
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(centres[-1]),), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def reach(distances: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes [..., N, 4] from what each cell says of its left, upper, right and lower side: the
    logarithm of the distance in strides.
    """
    d = torch.exp(distances.clamp(max=MAX_LOG_SCALE)) * strides[:, None]
    return torch.cat([centres - d[..., :2], centres + d[..., 2:]], -1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of boxes [..., N, 4] with boxes [..., M, 4]: [..., N, M]."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    size_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    size_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    return both / (size_a[..., :, None] + size_b[..., None, :] - both).clamp(min=1e-6)


def paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., CVPR 2019) of boxes [..., 4], one by one."""
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    shared, around = both.prod(-1), hull.clamp(min=1e-3).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    overlap = shared / union.clamp(min=1e-3)
    return overlap, overlap - (around - union) / around


def encode(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes relative to frames, both [..., 4]: dx, dy, log w, log h."""
    size = (frames[..., 2:] - frames[..., :2]).clamp(min=1.0)
    new = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1.0)
    shift = (boxes[..., 2:] + boxes[..., :2] - frames[..., 2:] - frames[..., :2]) / 2
    return torch.cat([shift / size, torch.log(new / size)], -1)


def decode(deltas: Tensor, frames: Tensor) -> Tensor:
    """The inverse of :func:`encode`."""
    size = frames[..., 2:] - frames[..., :2]
    centre = (frames[..., 2:] + frames[..., :2]) / 2 + deltas[..., :2] * size
    half = size * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SCALE)) / 2
    return torch.cat([centre - half, centre + half], -1)
