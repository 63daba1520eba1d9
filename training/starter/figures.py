"""How well captions, and names of objects where these are known, find photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .images import Photograph

TEMPLATE = "a photo of a {}."
Rows = NDArray[np.float32]


class Reader(Protocol):
    """What turns texts, and words in the template, into vectors."""

    def read(self, texts: Sequence[str]) -> Rows:
        """Vectors of texts."""

    def words(self, words: Sequence[str]) -> Rows:
        """Vectors of words."""


def coco_figures(seen: Rows, records: Sequence[Photograph], model: Reader) -> dict[str, Any]:
    """Recall of captions, and mean average precision of object names, over photographs.

    ``seen`` holds a row for each record; ``model`` has ``read`` and ``words``.
    """
    owner = np.repeat(np.arange(len(records)), [len(r.captions) for r in records])
    scores = model.read([c for r in records for c in r.captions]) @ seen.T
    rank = (scores > scores[np.arange(len(owner)), owner][:, None]).sum(1)
    found: dict[str, Any] = {"photographs": len(records), "captions": len(owner)}
    for k in (1, 5, 10):
        found[f"caption_to_photo_r{k}"] = round(float((rank < k).mean()), 4)
    marked = [i for i, r in enumerate(records) if r.objects is not None]
    names = sorted({name for i in marked for name in records[i].objects or ()})
    if not names:
        return found
    precision = []
    for name, row in zip(names, model.words(names) @ seen[marked].T, strict=True):
        order = np.argsort(-row, kind="stable")
        right = np.array([name in (records[marked[i]].objects or ()) for i in order])
        precision.append((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())
    found |= {"names": len(names), "map_of_names": round(float(np.mean(precision)), 4)}
    return found
