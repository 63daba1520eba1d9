"""The starter Mask R-CNN: EfficientNet-Lite0, a feature pyramid, proposals, box and mask heads.

He et al., "Mask R-CNN", ICCV 2017, with one class, "object", whose name is told beside it. The
backbone has ImageNet's weights. Its first blocks stay as they are, and so do the spatial filters
of the others: the gradient of a depthwise filter takes a processor longer than all the rest.
The pyramid is that of Lin et al., "Feature Pyramid Networks", 2017; proposals come from its three
maps at strides 8, 16 and 32, the heads pool from the finest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.starter.backbone import imagenet

FROZEN = 5  # blocks that keep ImageNet's weights: up to stride 8
# Blocks whose widened input is a map's: that after which stride 8 and 16 end, and the last output.
FINE_AT, MIDDLE_AT = 5, 11
WIDTHS = (240, 672, 320)
CHANNELS = 96
HIDDEN, MASK = 192, 48
CLASSES = 80
BOX_CELLS, MASK_CELLS = 7, 14
FINE = 8  # stride of the map that the heads pool from
BOX_SCALE = (10.0, 10.0, 5.0, 5.0)  # box deltas of the head are learned this much enlarged


def separable(i: int, o: int) -> nn.Sequential:
    """A depthwise and a pointwise convolution, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(i, i, 3, 1, 1, groups=i, bias=False), nn.Conv2d(i, o, 1, bias=False),
        nn.BatchNorm2d(o), nn.ReLU(True),
    )  # fmt: skip


def pointwise(i: int, o: int, act: bool = True) -> nn.Sequential:
    """A pointwise convolution, normalised and, if `act`, rectified."""
    layers = [nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([nn.ReLU(True)] if act else []))


def spatial(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A backbone's depthwise convolution in the numbers that x has.

    For sides that its stride divides, as those of all our pictures. (The backbone computes it in
    float32, because its filters' gradients are slow in bfloat16; these filters have none.)
    """
    total = layer.kernel_size[0] - layer.stride[0]
    if total % 2 == 0:
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, total // 2, 1, layer.groups)
    first = total // 2
    x = F.pad(x, (first, total - first, first, total - first))
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)


class StarterMaskRCNN(nn.Module):
    """The network in parts: `low`, `maps`, `proposals`, `box_head`, `mask_head`.

    Training runs the parts itself; :mod:`training.maskrcnn.export` writes them as one graph.
    """

    def __init__(self) -> None:
        super().__init__()
        backbone = imagenet("lite0")
        self.stem, self.blocks = backbone._conv_stem, backbone._blocks
        for parameter in [*self.stem.parameters(), *self.blocks[:FROZEN].parameters()]:
            parameter.requires_grad_(False)
        for block in self.blocks:
            block._depthwise_conv.requires_grad_(False)
        self.across = nn.ModuleList(pointwise(width, CHANNELS, False) for width in WIDTHS)
        self.smooth = nn.ModuleList(separable(CHANNELS, CHANNELS) for _ in WIDTHS)
        self.towers = nn.ModuleList(
            nn.Sequential(separable(CHANNELS, CHANNELS), separable(CHANNELS, CHANNELS))
            for _ in WIDTHS
        )
        self.says = nn.ModuleList(nn.Conv2d(CHANNELS, 5, 1) for _ in WIDTHS)

        self.squeeze = pointwise(CHANNELS, CHANNELS // 2)
        self.box = nn.Linear(CHANNELS // 2 * BOX_CELLS**2, HIDDEN)
        self.box_again = nn.Linear(HIDDEN, HIDDEN)
        self.box_score = nn.Linear(HIDDEN, 1)
        self.box_delta = nn.Linear(HIDDEN, 4)
        self.box_class = nn.Linear(HIDDEN, CLASSES + 1)  # the last: none of them

        self.mask = nn.Sequential(
            pointwise(CHANNELS, MASK), separable(MASK, MASK), separable(MASK, MASK)
        )
        self.mask_up = nn.ConvTranspose2d(MASK, MASK, 2, 2)
        self.mask_out = nn.Conv2d(MASK, 1, 1)

        for layer in (*self.says, self.box_delta, self.box_score, self.box_class):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        for layer in self.says:
            with torch.no_grad():
                layer.bias[0] = -4.0
                layer.bias[1:] = 0.7  # sides two strides away
        nn.init.constant_(self.box_score.bias, -1.0)

    def low(self, x: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> what the frozen blocks make of them, at stride 8."""
        x = F.relu6(self.stem(x))
        for block in self.blocks[:FROZEN]:
            x = block(x)
        return x

    def maps(self, low: Tensor) -> list[Tensor]:
        """Maps at strides 8, 16 and 32, [B, 96, h, w]."""
        x, taps = low, []
        for at, block in enumerate(self.blocks[FROZEN:], FROZEN):
            wide = F.relu6(block._expand_conv(x))
            if at in (FINE_AT, MIDDLE_AT):
                taps.append(wide)
            y = block._project_conv(F.relu6(spatial(block._depthwise_conv, wide)))
            x = x + y if block.skip else y
        taps.append(x)
        summed = [across(tap) for across, tap in zip(self.across, taps, strict=True)]
        for at in (1, 0):
            summed[at] = summed[at] + F.interpolate(summed[at + 1], scale_factor=2, mode="nearest")
        return [smooth(x) for smooth, x in zip(self.smooth, summed, strict=True)]

    def proposals(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [B, N] and sides [B, N, 4] of all cells, as `boxes.cells` counts them."""
        rows = []
        for x, tower, says in zip(maps, self.towers, self.says, strict=True):
            rows.append(says(tower(x)).permute(0, 2, 3, 1).flatten(1, 2))
        said = torch.cat(rows, 1).float()
        return said[..., 0], said[..., 1:]

    def box_head(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled [K, 48, 7, 7] -> logit [K], deltas [K, 4], logits of names [K, 81]."""
        hidden = torch.relu(self.box_again(torch.relu(self.box(pooled.flatten(1)))))
        return self.box_score(hidden)[:, 0], self.box_delta(hidden), self.box_class(hidden)

    def mask_head(self, pooled: Tensor) -> Tensor:
        """Pooled [K, 96, 14, 14] -> logits [K, 28, 28]."""
        return self.mask_out(torch.relu(self.mask_up(self.mask(pooled))))[:, 0]


def roi_align(features: Tensor, boxes: Tensor, cells: int, stride: int = FINE) -> Tensor:
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
