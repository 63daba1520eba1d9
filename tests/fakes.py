"""A small stand-in for a CLIP model: its space is six colours plus noise."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wordsight.images import to_rgb
from wordsight.models.clip import ClipModel

ANCHORS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (230, 220, 20),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
}
_DIM = 128  # so many float16 lie in a table as those of real models do; fewer are packed


class ColourModel:
    """Images are near the words for their mean colour; all other words point elsewhere."""

    name = "colours"
    source = "colours"
    dim = _DIM
    image_size = (8, 8)
    logit_scale = 20.0
    logit_bias: float | None = None
    preprocessing = "8x8 box"

    def __init__(self, hash: str = "c0104250c0104250") -> None:
        self.hash = hash
        self.encoded_images = 0

    def release_texts(self) -> None:
        """There is no tower."""

    def preprocess(self, image: Any, full_size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        del full_size
        return np.asarray(to_rgb(image).resize((8, 8)))

    def encode_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.encoded_images += len(pixels)
        if not len(pixels):
            return np.zeros((0, _DIM), np.float32)
        pixels = np.stack(pixels)
        mean = pixels.mean(axis=(1, 2), dtype=np.float32) / 255
        anchors = np.array(list(ANCHORS.values()), np.float32) / 255
        distance = np.linalg.norm(mean[:, None] - anchors[None], axis=2)
        vectors = np.zeros((len(pixels), _DIM), np.float32)
        vectors[:, : len(ANCHORS)] = np.exp(-((distance / 0.3) ** 2))
        for vector, image in zip(vectors, pixels, strict=True):
            vector[len(ANCHORS) :] = 0.5 * _noise(image.tobytes())
        return _unit(vectors)

    def encode_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        if not len(images):
            return np.zeros((0, _DIM), np.float32)
        return self.encode_pixels([self.preprocess(image) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), _DIM), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            words = re.findall(r"\w+", text.lower())
            for i, colour in enumerate(ANCHORS):
                vector[i] = float(colour in words)
            if not vector.any():
                vector[len(ANCHORS) :] = _noise(" ".join(words).encode())
                vector[: len(ANCHORS)] = 0.2 * _noise(text.encode())[: len(ANCHORS)]
        return _unit(vectors)

    encode = ClipModel.encode

    def truncated(self, text: str) -> bool:
        return len(text.split()) > 30

    def unreadable(self, text: str) -> bool:
        return not text.isascii()

    def unread(self, text: str) -> list[str]:
        return [word for word in text.split() if self.unreadable(word)]


def _noise(data: bytes) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=_DIM - len(ANCHORS))
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
