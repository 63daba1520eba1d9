"""Boxes in PyTorch: anchors, overlap, the encoding of one box against another.

Boxes are x0, y0, x1, y1 in pixels. Encoding and anchors as in Ren et al., "Faster R-CNN",
NeurIPS 2015; anchors lie where the teacher's do, so that its maps can be learned cell by cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRIDE = 16
ANCHOR_SIDES = (32, 64, 96, 128, 160)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height over width
MAX_LOG_SCALE = math.log(1000 / 16)


def cell_anchors() -> Tensor:
    """The 15 anchors around the origin, float32 [15, 4], by side, then by ratio."""
    rows = []
    for side in ANCHOR_SIDES:
        for ratio in ANCHOR_RATIOS:
            w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
            rows.append([-w / 2, -h / 2, w / 2, h / 2])
    return torch.tensor(rows)


def grid_anchors(height: int, width: int) -> Tensor:
    """All anchors of a feature map: float32 [height, width, 15, 4]."""
    ys, xs = torch.arange(height) * STRIDE, torch.arange(width) * STRIDE
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).float()
    return shifts[:, :, None] + cell_anchors()


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of boxes [..., N, 4] with boxes [..., M, 4]: [..., N, M]."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    size_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    size_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    return both / (size_a[..., :, None] + size_b[..., None, :] - both).clamp(min=1e-6)


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
