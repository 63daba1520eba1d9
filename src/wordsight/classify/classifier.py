"""Labels put into words for a model, which then judge images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.classify.labels import (
    DEFAULT_TEMPLATE,
    encoded,
    label_vectors,
    mean_of_groups,
    prompts,
    read_labels,
)
from wordsight.classify.temperature import fit_temperature, sigmoid, softmax
from wordsight.errors import QueryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.models.clip import ClipModel
    from wordsight.sources import Item


OWN_SHARE = 0.35
"""How far above the bank an image must come to fit, as a share of what the labels' own words reach.

What unrelated labels reach by chance (:func:`needed_evidence`) is not enough where a model draws
every image to the nearest word that it knows: its labels stand far above the bank, so an image of
one of them does too. ``benchmarks/cifar10.py`` prints the trade-off.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A label with the confidence that it fits, 0 to 1."""

    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The best labels of one image, best first, and whether none of them really fits.

    ``evidence`` is how many standard deviations the best label's cosine lies above what the
    image scores with neutral phrases; ``needed`` is what it takes to fit.
    """

    top: tuple[Candidate, ...]
    none_of_these: bool
    evidence: float
    needed: float

    @property
    def label(self) -> str | None:
        """The top-1 label; None when none of them fits."""
        return None if self.none_of_these else self.top[0].label

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight classify --json`` prints for an image, less its path."""
        return {
            "top": [{"label": c.label, "confidence": round(c.confidence, 5)} for c in self.top],
            "none_of_these": self.none_of_these,
            "evidence": round(self.evidence, 3),
            "needed": round(self.needed, 3),
        }


class Classifier:
    """Labels put into words for a model, ready to judge images."""

    def __init__(
        self,
        model: ClipModel,
        labels: str | Path | Sequence[str] = "imagenet",
        *,
        templates: Sequence[str] = (DEFAULT_TEMPLATE,),
        temperature: float = 1.0,
        closed: bool = False,
        false_accept: float = 0.05,
    ) -> None:
        """``temperature`` divides the logits; ``closed`` forbids "none of these".

        ``false_accept`` is the share of images of other things that may still get a label by
        chance; see OWN_SHARE for what else it takes.
        Raises QueryError for labels or templates that make no sense.
        """
        from wordsight.bank import neutral_phrases

        if not 0 < temperature < float("inf"):
            raise QueryError(f"the temperature must be a number above 0, not {temperature:g}.")
        self.model = model
        self.labels = read_labels(labels)
        self.temperature = temperature
        self.closed = closed
        if unread := [label for label in self.labels if model.unreadable(label)]:
            raise QueryError(
                f"the model {model.name} cannot read these labels: {', '.join(unread[:5])}; "
                "write them in a language that it knows."
            )
        self._text = label_vectors(model, self.labels, templates)
        # The bank in the same wordings as the labels: what matters is what is said, not how.
        texts = [text for phrase in neutral_phrases() for text in _bank_prompts(phrase, templates)]
        self._bank = mean_of_groups(encoded(model, texts), len(templates))
        # Each label's own words as if they were an image: the most that can be reached.
        self.own_evidence = float(self.evidence(self._text).mean())
        by_chance = needed_evidence(len(self.labels), false_accept)
        self.needed = max(by_chance, OWN_SHARE * self.own_evidence)

    def logits(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled cosines [N, L] of image vectors [N, D] before softmax or sigmoid."""
        cosine = image_vectors @ self._text.T
        bias = self.model.logit_bias or 0.0
        scaled: NDArray[np.float32] = (self.model.logit_scale * cosine + bias) / self.temperature
        return scaled

    def confidences(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, L]: softmax over the labels, or a sigmoid each for models made with one.

        The softmax of a single label is one over it and the bank's neutral phrases, "not this".
        """
        import numpy as np

        logits = self.logits(image_vectors)
        if self.model.logit_bias is not None:
            return sigmoid(logits)
        if len(self.labels) > 1:
            return softmax(logits)
        others = self.model.logit_scale / self.temperature * (image_vectors @ self._bank.T)
        return softmax(np.concatenate([logits, others], axis=1))[:, :1]

    def evidence(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N]: the best label's cosine in standard deviations above the bank's mean."""
        from wordsight.nomatch import background, zscore

        best = (image_vectors @ self._text.T).max(axis=1)
        return zscore(best, *background(image_vectors @ self._bank.T))

    def judge(self, image_vectors: NDArray[np.float32], top: int = 3) -> list[Classification]:
        """The ``top`` labels of each image vector, float32 [N, D] of unit length."""
        import numpy as np

        confidences = self.confidences(image_vectors)
        evidence = self.evidence(image_vectors)
        order = np.argsort(-confidences, axis=1, kind="stable")[:, : min(top, len(self.labels))]
        return [
            Classification(
                top=tuple(Candidate(self.labels[j], float(confidences[i, j])) for j in order[i]),
                none_of_these=not self.closed and bool(evidence[i] < self.needed),
                evidence=float(evidence[i]),
                needed=self.needed,
            )
            for i in range(len(image_vectors))
        ]

    def __call__(self, images: Sequence[Any], top: int = 3) -> list[Classification]:
        """Classify PIL images, arrays, or files by path.

        Raises ImageError for a file that is no readable image.
        """
        return self.judge(self.model.encode_images([_opened(image) for image in images]), top)


def _opened(image: Any) -> Image:
    from wordsight.images import open_image, to_rgb

    return open_image(image) if isinstance(image, (str, Path, bytes)) else to_rgb(image)


def _bank_prompts(phrase: str, templates: Sequence[str]) -> list[str]:
    noun = phrase
    for article in ("a ", "an ", "the ", "some "):
        noun = noun.removeprefix(article)
    return prompts(noun, templates)


def needed_evidence(labels: int, false_accept: float) -> float:
    """How many background deviations the best of ``labels`` labels must reach to fit.

    The best of L unrelated labels is the highest of L draws from the image's background, taken
    as normal: the cut-off z has P(all L below z) = 1 - false_accept. Raises QueryError for a
    rate outside 0 to 1.
    """
    from statistics import NormalDist

    if not 0 < false_accept < 1:
        raise QueryError(f"the false-accept rate must be between 0 and 1, not {false_accept:g}.")
    return NormalDist().inv_cdf((1 - false_accept) ** (1 / labels))


def classify(
    images: Iterable[Any] | str | Path,
    labels: str | Path | Sequence[str],
    *,
    model: ClipModel | str | Path = "auto",
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    top: int = 3,
    closed: bool = False,
    temperature: float = 1.0,
    batch: int = 64,
) -> list[Classification]:
    """The ``top`` labels of each image (PIL images, arrays or paths; or one path), in order.

    Raises QueryError for labels or templates that make no sense, ImageError for an unreadable
    file, ModelError when the model is not to be had.
    """
    from wordsight.models import load_model

    if isinstance(images, (str, Path)):
        images = [images]
    images = map(_not_empty, images)
    loaded = load_model(model) if isinstance(model, (str, Path)) else model
    classifier = Classifier(
        loaded, labels, templates=templates, temperature=temperature, closed=closed
    )
    return [result for part in batches(images, batch) for result in classifier(part, top)]


def _not_empty(image: Any) -> Any:
    if isinstance(image, str) and not image.strip():
        raise QueryError("the path is empty; name an image file.")
    return image


def encode_items(
    model: ClipModel, items: Sequence[Item], *, batch: int = 64
) -> Iterator[tuple[Item, NDArray[np.float32] | str]]:
    """The image vector [D] of each item of a source, in order, or why there is none.

    Images are decoded in threads, one batch at a time.
    """
    from concurrent.futures import ThreadPoolExecutor

    from wordsight.errors import ImageError
    from wordsight.images import open_image

    def pixels(item: Item) -> NDArray[np.uint8] | str:
        try:
            return model.preprocess(open_image(item.read(), name=item.path))
        except ImageError as error:
            return str(error).removeprefix(f"{item.path}: ")

    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        for part in batches(items, batch):
            prepared = list(pool.map(pixels, part))
            good = [p for p in prepared if not isinstance(p, str)]
            vectors = iter(model.encode_pixels(good))
            for item, found in zip(part, prepared, strict=True):
                yield item, found if isinstance(found, str) else next(vectors)


def fit_on(classifier: Classifier, items: Sequence[Item]) -> float:
    """The temperature that fits labelled items best; see :func:`fit_temperature`.

    Raises QueryError when fewer than 20 of them have one of the classifier's labels, and for a
    model whose confidences are a sigmoid each: no temperature makes those right.
    """
    import numpy as np

    if len(classifier.labels) < 2:
        raise QueryError("a temperature can only be fitted on two or more labels.")
    if classifier.model.logit_bias is not None:
        raise QueryError(
            f"{classifier.model.name} scores each label on its own (with a sigmoid), so a "
            "temperature cannot calibrate it; leave the folder out."
        )
    place = {label: i for i, label in enumerate(classifier.labels)}
    labelled = [item for item in items if item.label in place]
    found = [
        (v, item) for item, v in encode_items(classifier.model, labelled) if not isinstance(v, str)
    ]
    if len(found) < 20:
        raise QueryError(
            f"fitting a temperature takes at least 20 images in folders named like the labels; "
            f"found {len(found)}."
        )
    logits = classifier.logits(np.stack([vector for vector, _ in found])) * classifier.temperature
    return fit_temperature(logits, np.array([place[str(item.label)] for _, item in found]))


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most ``size`` items, in order."""
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
