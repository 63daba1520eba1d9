"""Libraries of any size whose vectors are spread as real CLIP vectors are.

Images: around the 500 real CLIP vectors of the data packs (``clip-vectors``), each a random mixture
of three of them plus noise with the covariance of what the mixture leaves over, so that the cloud
has the narrow cone, the clusters and the many directions of the real one. Uniform noise has none
of these and flatters no index, and no real library looks like it. Queries and bank: real text
vectors of LVIS names.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wordsight.api import Library
from wordsight.library import ImageRecord, ModelRecord, Store, ViewRecord
from wordsight.models.clip import ClipModel

Floats = NDArray[np.float32]
CHUNK = 20_000


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


class RealLike:
    """A source of image vectors float32 [n, 512] of unit length, the same for one seed."""

    def __init__(self, data: Path, seed: int = 0) -> None:
        folder = data / "clip-vectors"
        self.real = np.load(folder / "cifar10_test500_image_vectors.npy").astype(np.float32)
        self.rng = np.random.default_rng(seed)
        spread = self.real - self._mixture(len(self.real))
        # A little of every direction, for what 500 pictures do not show.
        covariance = np.cov(spread, rowvar=False) + 1e-5 * np.eye(self.real.shape[1])
        self.noise = np.linalg.cholesky(covariance).T.astype(np.float32)

    def _mixture(self, n: int) -> Floats:
        weights = self.rng.dirichlet((1.0, 1.0, 1.0), n).astype(np.float32)
        chosen = self.rng.integers(0, len(self.real), (n, 3))
        mixed: Floats = np.einsum("nk,nkd->nd", weights, self.real[chosen])
        return mixed

    def draw(self, n: int) -> Floats:
        """The next ``n`` vectors."""
        noise = self.rng.standard_normal((n, self.real.shape[1]), np.float32) @ self.noise
        return _unit(self._mixture(n) + noise)


def texts(data: Path) -> tuple[Floats, Floats]:
    """Real text vectors of LVIS names: (bank [462, 512], queries [741, 512]), in no order."""
    vectors = np.load(data / "clip-vectors/lvis_text_vectors.npy").astype(np.float32)
    vectors = _unit(vectors)[np.random.default_rng(0).permutation(len(vectors))]
    return vectors[:462], vectors[462:]


def record_of(model: ClipModel | None, dim: int = 512) -> ModelRecord:
    """The model that a library says it was made with."""
    if model is None:
        return ModelRecord("synthetic", "synthetic", "0" * 16, dim, "none")
    return ModelRecord(model.name, model.source, model.hash, model.dim, model.preprocessing)


def fill(
    place: Path | str, data: Path, images: int, crops: int = 0, model: ClipModel | None = None
) -> Library:
    """Make a library of ``images`` images with ``crops`` crops each.

    With a ``model`` of dimension 512, that model's prompts search it.
    """
    bank, _ = texts(data)
    names = json.loads((data / "clip-vectors/lvis_names.json").read_text())["display"][: len(bank)]
    store = Store.create(place, record_of(model), names, bank)
    with store.lock():
        for records in _records(RealLike(data), images, crops):
            store.put(records, replace=False)
        store.prepare()
    return Library(store, model)


def _id(number: int) -> str:
    """Ids are hashes, so that those below a bound are a random part."""
    return hashlib.blake2b(str(number).encode(), digest_size=8).hexdigest()


def record(number: int, vectors: Floats) -> ImageRecord:
    """An image of this number; ``vectors`` [V, 512] are those of the whole and of its crops."""
    image = ImageRecord(
        _id(number), f"/photos/{number:08}.jpg", "/photos/", 1, 1, f"{number:032x}", 640, 480
    )
    image.views = [ViewRecord(vectors[0])]
    image.views += [ViewRecord(crop, "crop", (0, 0, 99, 99), "thing", 0.9) for crop in vectors[1:]]
    return image


def _records(vectors: RealLike, images: int, crops: int) -> Iterator[list[ImageRecord]]:
    views = 1 + crops
    for begin in range(0, images, CHUNK):
        count = min(CHUNK, images - begin)
        drawn = vectors.draw(count * views).reshape(count, views, -1)
        records = []
        for i, own in enumerate(drawn, start=begin):
            records.append(record(i, own))
        yield records


class Words:
    """Stands in for a text encoder: real CLIP vectors of LVIS names, known beforehand."""

    name = source = "synthetic"
    hash = "0" * 16
    dim = 512
    logit_scale = 100.0

    def __init__(self, data: Path) -> None:
        _, self.vectors = texts(data)
        self.prompts = [f"word {i}" for i in range(len(self.vectors))]
        self._known = dict(zip(self.prompts, self.vectors, strict=True))

    def encode_texts(self, prompts: Sequence[str]) -> Floats:
        """Vectors of :attr:`prompts`, float32 [N, 512]; of other texts, any of them."""
        places = [zlib.crc32(prompt.encode()) % len(self.vectors) for prompt in prompts]
        return np.stack(
            [self._known.get(p, self.vectors[i]) for p, i in zip(prompts, places, strict=True)]
        )

    def truncated(self, prompt: str) -> bool:
        """No prompt is too long."""
        return False

    def unreadable(self, prompt: str) -> bool:
        """No prompt is unreadable."""
        return False

    def unread(self, prompt: str) -> list[str]:
        """All parts of a prompt are known."""
        return []
