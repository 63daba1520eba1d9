"""The embedding space looked at: directions, neighbours, relevance."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from fakes import ColourModel
from PIL import Image

from wordsight.models import ClipModel
from wordsight.space import neighbours, occlusion, principal_components


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_principal_components_find_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 2)) * (5, 2)
    frame, _ = np.linalg.qr(rng.normal(size=(16, 2)))
    vectors = (hidden @ frame.T + rng.normal(size=(400, 16)) * 0.01 + 7).astype(np.float32)
    points, share = principal_components(vectors)
    assert points.shape == (400, 2)
    np.testing.assert_allclose(np.abs(np.corrcoef(points.T, hidden.T)[:2, 2:]), np.eye(2), atol=0.1)
    np.testing.assert_allclose(share, np.array([25, 4]) / 29, atol=0.05)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-4)
    singular = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), singular[:2], rtol=1e-4)


def test_principal_components_of_too_little() -> None:
    with pytest.raises(ValueError, match="2 principal components"):
        principal_components(np.ones((1, 8), np.float32))
    points, share = principal_components(np.ones((3, 8), np.float32))
    assert not points.any()
    assert not share.any()


def test_neighbours_are_those_of_a_sort() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(50, 6)))
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    expected = np.argsort(-scores, axis=1)[:, :7]
    for block in (2048, 16):
        np.testing.assert_array_equal(neighbours(vectors, 7, block=block), expected)
    assert neighbours(vectors, 49).shape == (50, 49)
    with pytest.raises(ValueError, match="50 neighbours"):
        neighbours(vectors, 50)


def test_occlusion_points_at_what_the_text_names() -> None:
    picture = Image.new("RGB", (64, 48), (20, 20, 220))
    picture.paste((220, 20, 20), (0, 0, 32, 24))
    model = cast(ClipModel, Still())
    for_red, for_blue = occlusion(model, picture, ["red", "blue"], cells=4, span=2)
    assert for_red.shape == (4, 4)
    assert np.unravel_index(for_red.argmax(), (4, 4)) in [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert for_red[:2, :2].mean() > 0 > for_red[2:, 2:].mean()
    assert for_blue[2:, 2:].mean() > 0
    with pytest.raises(ValueError, match="span"):
        occlusion(model, picture, ["red"], cells=4, span=5)


def test_occlusion_of_a_plain_image_finds_nothing() -> None:
    picture = Image.new("RGB", (20, 31), (20, 20, 220))
    relevance = occlusion(cast(ClipModel, Still()), picture, ["blue"], cells=3, span=1)
    np.testing.assert_allclose(relevance, 0, atol=1e-6)


class Still(ColourModel):
    """Without noise: the share of red, green and blue pixels is the vector."""

    def encode_pixels(self, pixels: Any) -> Any:
        mean = np.stack(pixels).mean(axis=(1, 2))
        return unit(np.concatenate([mean, np.zeros((len(mean), self.dim - 3))], axis=1))

    def encode_texts(self, texts: Any) -> Any:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            vector[("red", "green", "blue").index(text)] = 1
        return vectors
