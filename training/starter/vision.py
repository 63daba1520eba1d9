"""The image tower: a small convolutional network after Keller Jordan's airbench96.

A fixed whitening layer over 2 x 2 patches, then three blocks of three 3 x 3 convolutions. Batch
norms keep their scale fixed, so that the convolutions alone carry the gain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import fast

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
WHITEN_WIDTH = 24


# Blue and red against luma (ITU-T T.871, JFIF), and back.
_TO_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_CHROMA = ((0.0, 1.402), (-0.344136, -0.714136), (1.772, 0.0))
# How far: half of the way keeps pictures apart that only colour tells apart.
SOFTNESS = 0.5


def soft_colour(images: Tensor) -> Tensor:
    """Normalised pictures, their colour drawn towards half the resolution, which JPEG files have.

    CIFAR-10 comes as JPEGs of 32 x 32 here. A tower that has seen no other colour is put off by
    that of the original pixels, of PNGs and of photographs made small.
    """
    std = images.new_tensor(STD)
    chroma = F.conv2d(images, (images.new_tensor(_TO_CHROMA) * std)[:, :, None, None])
    soft = F.interpolate(F.avg_pool2d(chroma, 2), scale_factor=2.0, mode="bilinear")
    back = images.new_tensor(_FROM_CHROMA) / std[:, None]
    return images + F.conv2d(SOFTNESS * (soft - chroma), back[:, :, None, None])


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = _norm(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm3 = _norm(outputs)
        for conv in (self.conv1, self.conv2, self.conv3):
            with torch.no_grad():
                nn.init.dirac_(conv.weight[: conv.weight.shape[1]])

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        y = F.gelu(self.norm2(self.conv2(x)))
        return F.gelu(self.norm3(self.conv3(y)) + x)


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, momentum=0.3, eps=1e-5)
    norm.weight.requires_grad_(False)
    return norm


class VisionTower(nn.Module):
    """Normalised 32 x 32 pictures to unit vectors."""

    def __init__(self, dim: int, widths: tuple[int, int, int] = (64, 256, 320)) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, WHITEN_WIDTH, 2)
        self.whiten.weight.requires_grad_(False)
        self.blocks = nn.Sequential(
            _Block(WHITEN_WIDTH, widths[0]),
            _Block(widths[0], widths[1]),
            _Block(widths[1], widths[2]),
        )
        self.head = nn.Linear(widths[2], dim, bias=False)

    def set_whitening(self, images: Tensor, eps: float = 5e-4) -> None:
        """Fill the first layer with the scaled principal 2 x 2 patches of some pictures."""
        patches = F.unfold(soft_colour(images), 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = vectors.T.reshape(-1, 3, 2, 2) / torch.sqrt(values + eps)[:, None, None, None]
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            nn.init.zeros_(self.whiten.bias)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees."""
        x = self.blocks(F.gelu(self.whiten(soft_colour(images))))
        # Not amax: its compiled gradient is NaN in bfloat16 (torch 2.13).
        return F.max_pool2d(x, x.shape[-1]).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors, one row for each picture."""
        return F.normalize(self.head(self.features(images)).float(), dim=-1)


def orthogonal(matrix: Tensor, steps: int = 4) -> Tensor:
    """The nearest half-orthogonal matrix, by Newton and Schulz's iteration (as in Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(fast())
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates for convolutions, whose weights keep their norm."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p.grad)
                held = state["momentum"].mul_(group["momentum"]).add_(p.grad)
                update = p.grad.add(held, alpha=group["momentum"])
                p.mul_(len(p) ** 0.5 / p.norm())
                p.add_(orthogonal(update.reshape(len(p), -1)).view_as(p), alpha=-group["lr"])
