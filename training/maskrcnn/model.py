"""The starter Mask R-CNN: a small residual network, proposals, a box head and a mask head.

He et al., "Mask R-CNN", ICCV 2017, with one class, "object". About 3.5 million parameters. The
region proposal network sees one map at stride 16, like the teacher; the heads pool from a finer
map at stride 8 that the coarse one was added to (Lin et al., "Feature Pyramid Networks", 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ANCHORS = 15
CHANNELS = (24, 48, 96, 160)
COARSE = 128  # channels of the map at stride 16
FINE = 96  # channels of the map at stride 8
BOX_CELLS, MASK_CELLS = 7, 14
BOX_SCALE = (10.0, 10.0, 5.0, 5.0)  # box deltas of the head are learned this much enlarged
TEACHER_CHANNELS, TEACHER_CLASSES = 112, 81


def conv(i: int, o: int, stride: int = 1, kernel: int = 3, act: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation and, if `act`, a rectifier."""
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([nn.ReLU(True)] if act else []))


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return torch.relu(x + self.second(self.first(x)))


class StarterMaskRCNN(nn.Module):
    """The network in parts: `features`, `proposals`, `box_head`, `mask_head`.

    Training runs the parts itself; :mod:`training.maskrcnn.export` writes them as one graph.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = CHANNELS
        self.c3 = nn.Sequential(
            conv(3, a, 2), conv(a, b, 2), Block(b), conv(b, c, 2), Block(c), Block(c)
        )
        self.c4 = nn.Sequential(conv(c, d, 2), Block(d), Block(d), Block(d))
        self.c5 = nn.Sequential(conv(d, d, 2), Block(d))
        self.coarse = conv(d, COARSE, kernel=1)
        self.down = nn.Conv2d(COARSE, FINE, 1)
        self.across = nn.Conv2d(c, FINE, 1)
        self.fine = conv(FINE, FINE)

        self.rpn = conv(COARSE, COARSE)
        self.rpn_score = nn.Conv2d(COARSE, ANCHORS, 1)
        self.rpn_box = nn.Conv2d(COARSE, 4 * ANCHORS, 1)

        self.box = nn.Sequential(conv(FINE, 128), conv(128, 128, 2))
        self.box_fc = nn.Linear(128 * 16, 160)
        self.box_score = nn.Linear(160, 1)
        self.box_delta = nn.Linear(160, 4)

        self.mask = nn.Sequential(conv(FINE, 48), conv(48, 48))
        self.mask_up = nn.ConvTranspose2d(48, 48, 2, 2)
        self.mask_out = nn.Conv2d(48, 1, 1)

        # For training only: what the teacher says beyond "object".
        self.to_teacher = nn.Conv2d(COARSE, TEACHER_CHANNELS, 1)
        self.to_classes = nn.Linear(160, TEACHER_CLASSES)

        for layer in (self.rpn_score, self.rpn_box, self.box_delta, self.box_score):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.rpn_score.bias, -4.0)
        nn.init.constant_(self.box_score.bias, -1.0)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels [B, 3, H, W] -> maps at stride 16 and at stride 8."""
        c3 = self.c3(x)
        c4 = self.c4(c3)
        c5 = F.interpolate(self.c5(c4), scale_factor=2, mode="nearest")
        coarse = self.coarse(c4 + c5)
        down = F.interpolate(self.down(coarse), scale_factor=2, mode="nearest")
        return coarse, self.fine(self.across(c3) + down)

    def proposals(self, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness logits [B, 15, h, w] and box deltas [B, 60, h, w] (15 times dx dy dw dh)."""
        x = self.rpn(coarse)
        return self.rpn_score(x), self.rpn_box(x)

    def box_head(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled [K, 96, 7, 7] -> logit [K], deltas [K, 4], hidden [K, 160]."""
        hidden = torch.relu(self.box_fc(self.box(pooled).flatten(1)))
        return self.box_score(hidden)[:, 0], self.box_delta(hidden), hidden

    def mask_head(self, pooled: Tensor) -> Tensor:
        """Pooled [K, 96, 14, 14] -> logits [K, 28, 28]."""
        return self.mask_out(torch.relu(self.mask_up(self.mask(pooled))))[:, 0]


def roi_align(features: Tensor, boxes: Tensor, cells: int, stride: int) -> Tensor:
    """Average of 2 x 2 bilinear samples in each of cells x cells bins of each box.

    Features [B, C, h, w], boxes [B, R, 4] in pixels -> [B * R, C, cells, cells]. The same as
    ONNX RoiAlign with half_pixel coordinates and sampling ratio 2, but for boxes beyond the map.
    """
    b, c, h, w = features.shape
    r = boxes.shape[1]
    at = (torch.arange(2 * cells) + 0.5) / (2 * cells)
    low, high = boxes[..., :2] / stride, boxes[..., 2:] / stride
    points = low[..., None, :] + (high - low)[..., None, :] * at[:, None]  # [B, R, 2n, xy]
    grid = points * 2 / torch.tensor([w, h]) - 1
    x = grid[:, :, None, :, 0].expand(b, r, 2 * cells, 2 * cells)
    y = grid[:, :, :, None, 1].expand(b, r, 2 * cells, 2 * cells)
    where = torch.stack([x, y], -1).reshape(b, r * 2 * cells, 2 * cells, 2)
    sampled = F.grid_sample(features, where, "bilinear", "border", align_corners=False)
    pooled = F.avg_pool2d(sampled, 2)  # [B, C, R * cells, cells]
    return pooled.reshape(b, c, r, cells, cells).transpose(1, 2).reshape(b * r, c, cells, cells)
