"""Measuring: retrieval over a library with relevance judgements, and classification.

The metrics themselves are pure functions in :mod:`wordsight.metrics`; here they meet a library.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import QueryError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.api import Library
    from wordsight.library import Snapshot
    from wordsight.metrics import Estimate, Ranking
    from wordsight.sources.coco import CocoImage

DEFAULT_KS = (1, 5, 10)


# -- judgements ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Judgements:
    """Queries and which images answer them.

    ``texts`` are the Q queries as shown, ``vectors`` float32 [Q, D] as encoded, ``relevant`` the
    places of the right images in the gallery (the library's images in the order of its
    snapshot), ``ignored`` those that count neither as right nor as wrong. ``missing`` are ids or
    labels that the library does not hold. ``by_size`` asks the same queries of objects of one
    size (share of the image's area).
    """

    texts: list[str]
    vectors: NDArray[np.float32]
    relevant: list[NDArray[np.int64]]
    missing: list[str] = field(default_factory=list)
    captions: bool = False
    ignored: list[NDArray[np.int64]] | None = None
    by_size: dict[str, Judgements] = field(default_factory=dict)


def load_judgements(
    library: Library,
    queries: str | Path,
    *,
    templates: Sequence[str] | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
) -> Judgements:
    """Read judgements for a library.

    ``queries`` is one of: "labels" (those of the library itself), a labelled data set (a folder
    or tar with class folders, or "cifar10": every label is a query, and so is each of its
    ``synonyms``; relevant are the library's images of that label, and images without one are
    ignored), a COCO captions file (a caption's image), a COCO instances file (an object's name
    finds the images that hold one; images without annotations are ignored), or a .csv of
    query,relevant-id lines (an id, or the image's path: in full, from the .csv's folder, or from
    the working directory).

    Raises QueryError when nothing in it concerns the library.
    """
    path = Path(queries)
    if path.suffix.lower() == ".json":
        return _coco(library, path, templates)
    if path.suffix.lower() == ".csv":
        return _table(library, path)
    return _labels(library, str(queries), templates, synonyms or {})


def _labels(
    library: Library,
    queries: str,
    templates: Sequence[str] | None,
    synonyms: Mapping[str, Sequence[str]],
) -> Judgements:
    import numpy as np

    from wordsight.classify import DEFAULT_TEMPLATE, label_vectors
    from wordsight.sources import open_source

    mine = library.store.labels()
    label_of = [mine[image_id] for image_id in _gallery_ids(library)]
    if queries == "labels":
        wanted = sorted({label for label in label_of if label})
    else:
        wanted = sorted({item.label for item in open_source(queries).items() if item.label})
    if not wanted:
        named = "the library" if queries == "labels" else queries
        raise QueryError(
            f"{named} has no labels: images must lie in class folders (dog/1.jpg, cat/2.jpg)."
        )
    places: dict[str, list[int]] = {}
    for place, label in enumerate(label_of):
        if label:
            places.setdefault(label, []).append(place)
    present = [label for label in wanted if label in places]
    if not present:
        raise QueryError(
            f"the library holds no image with a label of {queries} "
            f"({', '.join(wanted[:5])}, ...); index that folder first."
        )
    pairs = [(word, label) for label in present for word in (label, *synonyms.get(label, ()))]
    words = [word for word, _ in pairs]
    unknown = np.array([place for place, label in enumerate(label_of) if not label], np.int64)
    return Judgements(
        texts=words,
        vectors=label_vectors(library.model, words, templates or (DEFAULT_TEMPLATE,)),
        relevant=[np.array(places[label], np.int64) for _, label in pairs],
        missing=[label for label in wanted if label not in places],
        ignored=[unknown] * len(words) if len(unknown) else None,
    )


SIZES = {"< 1 %": (0.0, 0.01), "1-5 %": (0.01, 0.05), "5-20 %": (0.05, 0.2), "> 20 %": (0.2, 9.0)}
"""Object sizes: the share of the image's area, from and below."""


def _coco(library: Library, path: Path, templates: Sequence[str] | None) -> Judgements:
    from wordsight.sources.coco import read_coco

    gallery = _Gallery(library)
    try:
        has_objects = '"categories"' in path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the judgements {path} cannot be read: {reason(error)}.") from None
    if has_objects:
        return _objects(library, read_coco(instances=path), gallery, templates, path)
    return _captions(library, read_coco(captions=path), gallery, path)


class _Gallery:
    """Finds the library's images by what their paths end with."""

    def __init__(self, library: Library) -> None:
        places = {image_id: place for place, image_id in enumerate(_gallery_ids(library))}
        self._named: dict[str, list[tuple[str, str, int]]] = {}
        for entry in library.store.entries():
            path = f"/{entry.path}".replace("::", "/").replace("\\", "/")
            within = path[len(entry.root) + 1 :] if entry.path.startswith(entry.root) else ""
            name = path.rpartition("/")[2]
            found = (path, within.lstrip("/"), places[entry.id])
            self._named.setdefault(name, []).append(found)

    def place(self, file_name: str) -> int | None:
        """The image of this path in the folder or archive that was indexed.

        Failing that, the one whose path ends so, then the only one whose file has this name.
        Raises QueryError when there are several.
        """
        named = self._named.get(file_name.rpartition("/")[2], [])
        exact = [one for one in named if one[1] == file_name]
        ending = [one for one in named if one[0].endswith(f"/{file_name}")]
        found = exact or ending
        if len(found) > 1:
            raise QueryError(
                f"several images of the library are called {file_name} "
                f"({', '.join(path[1:] for path, _, _ in found[:2])}, ...), so the judgements do "
                "not say which is meant; index one of the folders alone."
            )
        found = found or named
        return found[0][2] if len(found) == 1 else None


def _placed(
    images: Sequence[CocoImage], gallery: _Gallery, missing: list[str]
) -> Iterator[tuple[int, CocoImage]]:
    """The judged images that the library holds, with their places; the others' names go aside."""
    for image in images:
        place = gallery.place(image.file_name)
        if place is None:
            missing.append(image.file_name)
        else:
            yield place, image


def _captions(
    library: Library, images: Sequence[CocoImage], gallery: _Gallery, path: Path
) -> Judgements:
    import numpy as np

    texts: list[str] = []
    relevant: list[NDArray[np.int64]] = []
    missing: list[str] = []
    for place, image in _placed(images, gallery, missing):
        for caption in image.captions:
            texts.append(caption)
            relevant.append(np.array([place], np.int64))
    if not texts:
        raise _none_there(path, "images", missing)
    return Judgements(texts, library.model.encode_texts(texts), relevant, missing, captions=True)


def _objects(
    library: Library,
    images: Sequence[CocoImage],
    gallery: _Gallery,
    templates: Sequence[str] | None,
    path: Path,
) -> Judgements:
    """Every category as a query; an image's size for it is that of its largest such object."""
    import numpy as np

    from wordsight.classify import DEFAULT_TEMPLATE, label_vectors

    sizes: dict[str, dict[int, float]] = {}
    annotated: set[int] = set()
    missing: list[str] = []
    for place, image in _placed(images, gallery, missing):
        if image.objects is None:
            continue
        annotated.add(place)
        for found in image.objects:
            held = sizes.setdefault(found.category, {})
            held[place] = max(held.get(place, 0.0), found.area_fraction)
    if not sizes:
        raise _none_there(path, "images", missing)
    names = sorted(sizes)
    vectors = label_vectors(library.model, names, templates or (DEFAULT_TEMPLATE,))
    unknown = sorted(set(range(len(_gallery_ids(library)))) - annotated)

    def select(low: float, high: float) -> Judgements:
        rows, relevant, ignored = [], [], []
        for row, name in enumerate(names):
            chosen = sorted(p for p, size in sizes[name].items() if low <= size < high)
            if chosen:
                rows.append(row)
                relevant.append(np.array(chosen, np.int64))
                others = set(sizes[name]) - set(chosen)
                ignored.append(np.array(sorted({*unknown, *others}), np.int64))
        return Judgements([names[r] for r in rows], vectors[rows], relevant, ignored=ignored)

    everything = select(0.0, float("inf"))
    everything.missing = missing
    parts = {name: select(*bounds) for name, bounds in SIZES.items()}
    everything.by_size = {name: part for name, part in parts.items() if part.texts}
    return everything


def _none_there(path: Path, what: str, missing: Sequence[str]) -> QueryError:
    if not missing:
        return QueryError(f"{path} judges no images.")
    return QueryError(
        f"none of the {len(missing)} {what} of {path} is in the library "
        f"(first: {', '.join(missing[:5])}); index the images first."
    )


def _table(library: Library, path: Path) -> Judgements:
    import numpy as np

    place_of = {image_id: place for place, image_id in enumerate(_gallery_ids(library))}
    place_of |= {entry: place for place, entry in _gallery_paths(library).items()}
    found: dict[str, set[int]] = {}
    missing: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QueryError(f"the judgements {path} cannot be read: {reason(error)}.") from None
    for number, row in rows:
        if len(row) < 2:
            raise QueryError(
                f"{path}, line {number}: write query,relevant-id (an image id or its path)."
            )
        query, target = row[0].strip(), row[1].strip()
        if (number, row) == rows[0] and query.lower() == "query":
            continue
        spellings = (target, *(os.path.realpath(base / target) for base in (path.parent, Path())))
        place = next((place_of[name] for name in spellings if name in place_of), None)
        if place is None:
            missing.append(target)
        else:
            found.setdefault(query, set()).add(place)
    if not found:
        if not missing:
            raise QueryError(f"{path} has no judgements; write query,relevant-id, a line each.")
        raise _none_there(path, "ids", missing)
    texts = list(found)
    return Judgements(
        texts,
        library.model.encode_texts(texts),
        [np.array(sorted(found[text]), np.int64) for text in texts],
        missing,
    )


def _gallery_ids(library: Library) -> list[str]:
    from wordsight.library import id_from_int

    return [id_from_int(value) for value in library.store.snapshot().ids]


def _gallery_paths(library: Library) -> dict[int, str]:
    paths = {entry.id: entry.path for entry in library.store.entries()}
    return {place: paths[image_id] for place, image_id in enumerate(_gallery_ids(library))}


# -- retrieval ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Evaluation:
    """What :func:`evaluate` found: figures with 95 % intervals, by method and by metric."""

    methods: dict[str, dict[str, Estimate]]
    rankings: dict[str, Ranking]
    judgements: Judgements
    gallery: int
    image_to_text: dict[str, Estimate] | None = None
    by_size: dict[str, Evaluation] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight evaluate --json`` prints."""
        answer: dict[str, Any] = {
            "methods": {name: _figures(values) for name, values in self.methods.items()},
            "queries": len(self.judgements.texts),
            "gallery": self.gallery,
            "missing": len(self.judgements.missing),
            "intervals": {
                name: {key: [round(e.low, 5), round(e.high, 5)] for key, e in values.items()}
                for name, values in self.methods.items()
            },
        }
        if self.image_to_text:
            answer["image_to_text"] = _figures(self.image_to_text)
        if self.by_size:
            answer["by_size"] = {size: part.to_json() for size, part in self.by_size.items()}
        return answer

    def per_query(self) -> Iterator[dict[str, Any]]:
        """One row a query: its first rank and average precision under each method."""
        from wordsight.metrics import average_precision, first_rank

        rank = {name: first_rank(r) for name, r in self.rankings.items()}
        precision = {name: average_precision(r) for name, r in self.rankings.items()}
        for i, text in enumerate(self.judgements.texts):
            yield {
                "query": text,
                "relevant": len(self.judgements.relevant[i]),
                "first_rank": {name: float(values[i]) for name, values in rank.items()},
                "average_precision": {
                    name: round(float(values[i]), 5) for name, values in precision.items()
                },
            }

    def worst(self, method: str, count: int) -> list[int]:
        """Places of the ``count`` queries with the lowest average precision, worst first."""
        import numpy as np

        from wordsight.metrics import average_precision

        order = np.argsort(average_precision(self.rankings[method]), kind="stable")
        return [int(i) for i in order[:count]]


def _figures(values: Mapping[str, Estimate]) -> dict[str, float]:
    return {key: round(estimate.value, 5) for key, estimate in values.items()}


def evaluate(
    library: Library, judgements: Judgements, *, ks: Sequence[int] = DEFAULT_KS, seed: int = 0
) -> Evaluation:
    """Rank the whole library for every query, by each method, and measure.

    Methods: "baseline" (cosine of the whole image), "normalised" (its z against the background),
    and where the library has crops "crop-aware" (max fusion) and "crop-aware normalised" (its lift
    above the background, by which a search with crops ranks). Scores are made block by block and
    never all kept.
    """
    from wordsight.metrics import Ranking, summarize

    snapshot = library.store.snapshot()
    variants = [("baseline", False, False), ("normalised", False, True)]
    if snapshot.has_crops:
        variants += [("crop-aware", True, False), ("crop-aware normalised", True, True)]
    rankings = {
        name: Ranking.from_blocks(
            _scorer(snapshot, judgements, crops=crops, normalised=normalised),
            judgements.relevant,
            gallery=len(snapshot.ids),
        )
        for name, crops, normalised in variants
    }
    evaluation = Evaluation(
        {name: summarize(ranking, ks, seed=seed) for name, ranking in rankings.items()},
        rankings,
        judgements,
        gallery=len(snapshot.ids),
    )
    evaluation.by_size = {
        size: evaluate(library, part, ks=ks, seed=seed) for size, part in judgements.by_size.items()
    }
    if judgements.captions:
        evaluation.image_to_text = summarize(_image_to_text(snapshot, judgements), ks, seed=seed)
    return evaluation


def _scorer(snapshot: Snapshot, judgements: Judgements, *, crops: bool, normalised: bool) -> Any:
    """block(queries, images) -> float32 scores, for :meth:`Ranking.from_blocks`."""
    import numpy as np

    from wordsight.nomatch import lift, zscore

    ends = np.append(snapshot.starts[1:], len(snapshot.vectors))
    mean, sd = (snapshot.mean, snapshot.sd) if crops else (snapshot.image_mean, snapshot.image_sd)

    def block(rows: slice, columns: slice) -> NDArray[np.float32]:
        starts = snapshot.starts[columns]
        part = slice(starts[0], ends[columns][-1])
        scores = judgements.vectors[rows] @ snapshot.vectors[part].T
        inside = starts - starts[0]
        fused = np.maximum.reduceat(scores, inside, axis=1) if crops else scores[:, inside]
        if normalised and crops:
            fused = lift(fused, mean[columns])
        elif normalised:
            fused = zscore(fused, mean[columns], np.maximum(sd[columns], np.float32(1e-6)))
        if judgements.ignored is not None:
            # Below everything else an image neither helps nor harms any metric.
            fused = np.array(fused)
            for row, places in zip(fused, judgements.ignored[rows], strict=True):
                inside_ = places[(places >= columns.start) & (places < columns.stop)]
                row[inside_ - columns.start] = -np.inf
        return fused

    return block


def _image_to_text(snapshot: Snapshot, judgements: Judgements) -> Ranking:
    """Whole images as queries, captions as the gallery."""
    import numpy as np

    from wordsight.metrics import Ranking

    captions_of: dict[int, list[int]] = {}
    for caption, places in enumerate(judgements.relevant):
        captions_of.setdefault(int(places[0]), []).append(caption)
    images = sorted(captions_of)
    vectors = snapshot.vectors[snapshot.starts[images]]
    return Ranking.from_blocks(
        lambda rows, columns: vectors[rows] @ judgements.vectors[columns].T,
        [np.array(captions_of[image], np.int64) for image in images],
        gallery=len(judgements.texts),
    )


# -- classification -----------------------------------------------------------------------------


@dataclass(slots=True)
class ClassificationReport:
    """How right a classifier is, and how well its confidences say so.

    ``confusion`` is int64 [L, L], rows true, columns predicted. The bins are those of
    :func:`wordsight.metrics.reliability_bins`; ``ece`` is the expected calibration error.
    """

    images: int
    accuracy: float
    top3_accuracy: float
    ece: float
    confusion: NDArray[np.int64]
    bin_confidence: NDArray[np.float64]
    bin_accuracy: NDArray[np.float64]
    bin_count: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """The figures, and the confusion matrix as lists."""
        return {
            "images": self.images,
            "accuracy": round(self.accuracy, 5),
            "top3_accuracy": round(self.top3_accuracy, 5),
            "ece": round(self.ece, 5),
            "confusion": self.confusion.tolist(),
        }


def classification_report(
    confidences: NDArray[np.float32], truth: NDArray[np.int64]
) -> ClassificationReport:
    """Measure confidences [N, L] against the places [N] of the right labels (N at least 1)."""
    import numpy as np

    from wordsight.metrics import expected_calibration_error, reliability_bins

    count = confidences.shape[1]
    predicted = confidences.argmax(axis=1)
    right = predicted == truth
    best = np.clip(confidences.max(axis=1), 0, 1)
    top3 = np.argsort(-confidences, axis=1, kind="stable")[:, :3]
    bins = reliability_bins(best, right)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return ClassificationReport(
        images=len(truth),
        accuracy=float(right.mean()),
        top3_accuracy=float((top3 == truth[:, None]).any(axis=1).mean()),
        ece=expected_calibration_error(best, right),
        confusion=confusion,
        bin_confidence=bins.confidence,
        bin_accuracy=bins.accuracy,
        bin_count=bins.count,
    )
