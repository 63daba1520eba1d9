"""What the embedding space looks like: a flat map of it, neighbours, and what a score rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.models.clip import ClipModel


def principal_components(
    vectors: NDArray[np.float32], count: int = 2
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Project vectors [N, D] on the ``count`` directions along which they differ most.

    Returns the coordinates, float32 [N, count], and the share of the variance that each direction
    holds, float32 [count]. The sign of a direction, which means nothing, is such that its largest
    weight is positive, so that the same vectors give the same picture. Raises ValueError where
    there are not ``count`` directions.
    """
    import numpy as np

    if not 1 <= count <= min(vectors.shape):
        raise ValueError(f"{vectors.shape} vectors do not have {count} principal components")
    centred = vectors - vectors.mean(axis=0)
    # Of the D x D covariance: D is some hundred, whatever the number of images.
    values, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    order = np.argsort(values)[::-1][:count]
    chosen = directions[:, order]
    chosen *= np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(count)])
    share = np.maximum(values[order], 0) / max(float(values.sum()), 1e-12)
    return (centred @ chosen).astype(np.float32), share.astype(np.float32)


def neighbours(vectors: NDArray[np.float32], k: int, *, block: int = 2048) -> NDArray[np.int64]:
    """The ``k`` nearest other vectors of each, by cosine, nearest first: places, int64 [N, k].

    ``vectors`` is [N, D] of unit length. Raises ValueError where there are not ``k`` others.
    """
    import numpy as np

    if not 1 <= k < len(vectors):
        raise ValueError(f"{len(vectors)} vectors do not have {k} neighbours each")
    found = np.empty((len(vectors), k), np.int64)
    for start in range(0, len(vectors), block):
        scores = vectors[start : start + block] @ vectors.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable")
        found[start : start + block] = np.take_along_axis(near, order, axis=1)
    return found


def occlusion(
    model: ClipModel,
    image: Image | NDArray[Any],
    texts: Sequence[str],
    *,
    cells: int = 8,
    span: int = 2,
) -> NDArray[np.float32]:
    """What each part of an image adds to its cosine with each text, float32 [T, cells, cells].

    Squares of ``span`` x ``span`` cells are painted over with the mean colour of the image, one
    after another; the relevance of a cell is the mean fall of the cosine over the squares that
    covered it (after Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional
    Networks", section 4.2). Negative where the score rises: the part speaks against the text.
    Costs (cells + span - 1) squared image encodings. Raises ValueError for a span beyond 1..cells.
    """
    import numpy as np

    from wordsight.images import to_rgb

    if not 1 <= span <= cells:
        raise ValueError(f"a span of {span} cells does not fit {cells} x {cells} cells")
    pixels = np.asarray(to_rgb(image))
    mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    height, width = pixels.shape[:2]
    down = np.linspace(0, height, cells + 1).round().astype(int)
    across = np.linspace(0, width, cells + 1).round().astype(int)
    # The squares reach over the border, so that every cell is covered equally often.
    corners = [(r, c) for r in range(1 - span, cells) for c in range(1 - span, cells)]
    covered = []
    for r, c in corners:
        copy = pixels.copy()
        rows, columns = slice(down[max(r, 0)], None), slice(across[max(c, 0)], None)
        if r + span < cells:
            rows = slice(rows.start, down[r + span])
        if c + span < cells:
            columns = slice(columns.start, across[c + span])
        copy[rows, columns] = mean
        covered.append(copy)
    vectors = model.encode_images([pixels, *covered])
    scores = model.encode_texts(list(texts)) @ vectors.T
    falls = scores[:, :1] - scores[:, 1:]
    relevance = np.zeros((len(texts), cells, cells), np.float32)
    for fall, (r, c) in zip(falls.T, corners, strict=True):
        relevance[:, max(r, 0) : r + span, max(c, 0) : c + span] += fall[:, None, None]
    relevance /= span**2
    return relevance
