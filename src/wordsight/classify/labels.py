"""Labels and the words they are put into."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.errors import QueryError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.models.clip import ClipModel


LABEL_SETS = ("everyday", "cifar10", "caltech101", "imagenet")

DEFAULT_TEMPLATE = "a photo of a {}."

# Our own wordings, for ensembles: how an image is seen, not what else is in it.
ENSEMBLE = (
    "a photo of a {}.",
    "a photo of one {}.",
    "a picture of the {}.",
    "a close view of a {}.",
    "a {} seen from afar.",
    "a small picture of a {}.",
    "a blurry photo of a {}.",
    "a dark photo of a {}.",
    "a bright photo of a {}.",
    "a black and white photo of a {}.",
    "a low quality photo of the {}.",
    "a sharp photo of the {}.",
    "part of a {}.",
    "a {} indoors.",
    "a {} outdoors.",
    "many of the {}.",
)


def read_labels(labels: str | Path | Sequence[str]) -> list[str]:
    """Labels from a set's name, a file (a label per line, # comments), "dog,cat,car", or a list.

    One label is enough. Raises QueryError for no label, duplicates, or a file that cannot be read.
    """
    names = _named_labels(str(labels)) if isinstance(labels, (str, Path)) else list(labels)
    names = [" ".join(name.split()) for name in names]
    names = [name for name in names if name]
    if not names:
        raise QueryError("no labels given; separate them with commas, for example: dog,cat,car.")
    double = (
        sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if double:
        raise QueryError(f"labels must be different; given twice: {', '.join(double[:5])}.")
    return names


def _named_labels(text: str) -> list[str]:
    from difflib import get_close_matches
    from importlib.resources import files

    if text in LABEL_SETS:
        return _lines((files("wordsight") / "labels" / f"{text}.txt").read_text(encoding="utf-8"))
    path = Path(text)
    if os.path.isfile(path):  # noqa: PTH113  (many labels are longer than a path may be)
        try:
            return _lines(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise QueryError(f"cannot read the label file {path}: {reason(error)}.") from None
    if "," not in text and (path.suffix.strip(".").isalnum() or len(path.parts) > 1):
        raise QueryError(f"no label file {text}; write labels like this: dog,cat,car.")
    if meant := get_close_matches(text, LABEL_SETS, cutoff=0.7):
        raise QueryError(f"no label set '{text}'; did you mean {meant[0]}?")
    return text.split(",")


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def prompts(label: str, templates: Sequence[str]) -> list[str]:
    """A label in each template; "{}" or "{label}" stands for it, underscores become spaces."""
    spoken = label.replace("_", " ")
    return [t.replace("{label}", "{}").replace("{}", spoken) for t in templates]


def check_template(template: str) -> str:
    """The template itself. Raises QueryError when it has no place for the label."""
    if "{}" not in template and "{label}" not in template:
        raise QueryError(
            f'the template "{template}" has no place for the label; put {{}} there, for example: '
            '"a photo of a {}."'
        )
    return template


def label_vectors(
    model: ClipModel, labels: Sequence[str], templates: Sequence[str] = (DEFAULT_TEMPLATE,)
) -> NDArray[np.float32]:
    """Text vectors of labels, float32 [L, D] of unit length; kept in the cache per model."""
    for template in templates:
        check_template(template)
    texts = [text for label in labels for text in prompts(label, templates)]
    return mean_of_groups(encoded(model, texts), len(templates))


def encoded(model: ClipModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Text vectors, float32 [N, D] of unit length; kept in the cache per model."""
    # Here, since `import wordsight` imports this module, and the models come with a good deal.
    from wordsight.models.texts import encode_texts_cached

    return encode_texts_cached(model, texts)


def mean_of_groups(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The mean of each ``size`` vectors in a row, brought to unit length."""
    import numpy as np

    means = vectors.reshape(-1, size, vectors.shape[1]).mean(axis=1)
    unit: NDArray[np.float32] = means / np.maximum(
        np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-12)
    )
    return unit
