"""Text vectors that are asked for again and again (label sets, the bank), kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wordsight.paths import drafted
from wordsight.runtime.cache import writable_cache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.models.clip import ClipModel

WORTH_A_FILE = 64
"""Fewer texts are encoded sooner than a file is worth keeping."""


def file_name(model_hash: str, texts: Sequence[str]) -> str:
    """Return what the file with the vectors of these texts is called, in ``texts`` in the cache."""
    key = hashlib.sha256("\0".join([model_hash, *texts]).encode()).hexdigest()
    return f"{key[:24]}.npy"


def encode_texts_cached(model: ClipModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """``model.encode_texts``, float32 [N, D], remembered on disk for each model and list of texts.

    The bank alone is some hundred texts: 15 s for a text tower of ViT-B/32's size on two cores, if
    it takes no texts shorter than its context. A read-only or full cache costs that time again,
    nothing else.
    """
    import numpy as np

    if len(texts) < WORTH_A_FILE:
        return model.encode_texts(list(texts))
    folder = writable_cache("texts")
    if folder is None:
        return model.encode_texts(list(texts))
    path = folder / file_name(model.hash, texts)
    try:
        kept = np.load(path)
        if kept.shape == (len(texts), model.dim):
            return np.asarray(kept, np.float32)
    except (OSError, ValueError, EOFError):
        pass
    vectors = model.encode_texts(list(texts))
    try:
        with drafted(path) as draft, draft.open("wb") as file:
            np.save(file, vectors)
    except OSError:
        pass
    return vectors
