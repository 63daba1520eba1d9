"""The network of thumbnails that the starter model is trained with."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from training.starter.images import Picture  # noqa: E402
from training.starter.thumbnail import Thumbnail, thumbnails  # noqa: E402
from training.starter.train_thumbnail import ThumbnailPlan, disturb  # noqa: E402


def _trained() -> Thumbnail:
    """A network whose norms have seen something."""
    torch.manual_seed(0)
    network = Thumbnail().train()
    pixels = torch.randn(64, 3, 32, 32)
    network.whiten(pixels)
    for block in network.blocks:
        for norm in block.norms:
            torch.nn.init.normal_(norm.bias)
    for _ in range(3):
        network.see(pixels)
    return network.eval()


@torch.no_grad()
def test_a_folded_network_sees_the_same() -> None:
    network = _trained()
    pixels = torch.randn(4, 3, 224, 224)
    before = network(pixels)
    after = network.fold()(pixels)
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    assert not [name for name in network.state_dict() if "norm" in name]


@torch.no_grad()
def test_filters_of_thumbnails_are_white() -> None:
    torch.manual_seed(1)
    network = Thumbnail()
    plain = torch.nn.functional.interpolate(torch.randn(200, 3, 8, 8), scale_factor=4.0)
    network.whiten(plain)
    seen = network.filters(plain).transpose(0, 1).flatten(1)
    half = seen[: len(seen) // 2]
    torch.testing.assert_close(seen[len(half) :], -half)
    power = half @ half.T / half.shape[1]
    # Directions that the pictures have are of equal power, and independent of each other.
    strong = power.diagonal() > 0.9
    assert strong.sum() > 3
    assert (power - power.diagonal().diag()).abs().max() < 0.2


def test_thumbnails_are_means_of_what_the_backbone_sees() -> None:
    pixels = np.repeat(np.arange(32, dtype=np.uint8) * 8, 7)[None, :, None]
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(pixels, (224, 224, 3)).copy()).save(buffer, "png")
    found = thumbnails([Picture(buffer.getvalue())])
    assert found.shape == (1, 3, 32, 32)
    assert found.dtype == torch.uint8
    assert found[0, 1, 5].tolist() == [8 * k for k in range(32)]


def test_disturbed_pictures_are_still_the_same_pictures() -> None:
    torch.manual_seed(2)
    x = torch.rand(16, 3, 32, 32) + 1
    plain = ThumbnailPlan(hole=0.0625, tint=0.0, shift=0)
    turned = torch.arange(16) % 2 == 0
    found = disturb(x, turned, plan=plain)
    expected = torch.where(turned[:, None, None, None], x.flip(-1), x)
    changed = (found != expected).any(1).sum((1, 2))
    assert changed.tolist() == [c for c in changed.tolist() if c <= 4]
    assert (changed > 0).any()
    moved = disturb(x, turned, ThumbnailPlan(tint=0.0))
    assert moved.shape == x.shape
    assert (moved != expected).any()
