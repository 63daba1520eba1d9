"""CIFAR-10's test split: zero-shot classification, its calibration, and retrieval by label.

    python -m benchmarks.cifar10 [--model starter] [--plots DIR]

The images come from where ``wordsight demo`` takes them (WORDSIGHT_CIFAR10). The temperature is
fitted on 2,000 of the test images (200 a class) and judged on the other 8,000: the starter has
seen the train split, where it is surer than it may be elsewhere. "None of these" is counted on the
test images (where it is wrong) and, with WORDSIGHT_DATA, on Caltech-101 images of other things
(where it is right). Beside the accuracy stand the published ones of the models in the registry.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks.common import finish, parser
from wordsight import render
from wordsight.classify import (
    DEFAULT_TEMPLATE,
    ENSEMBLE,
    OWN_SHARE,
    Classifier,
    encode_items,
    fit_temperature,
)
from wordsight.evaluate import classification_report, evaluate, load_judgements
from wordsight.models import ClipModel
from wordsight.models.registry import models_info
from wordsight.sources import cifar10, open_source

_RELATED = Path(__file__).parent / "lists" / "caltech101_related.txt"


def classification(model: ClipModel, plots: Path | None) -> list[dict[str, Any]]:
    """One row a way of wording and calibrating: accuracy, top-3, ECE, none-of-these rates."""
    test = cifar10.load("test").items()
    vectors = np.stack([v for _, v in encode_items(model, test) if not isinstance(v, str)])
    strangers = _strangers(model)
    rows = []
    for wording, templates in (("one template", (DEFAULT_TEMPLATE,)), ("ensemble", ENSEMBLE)):
        classifier = Classifier(model, "cifar10", templates=templates)
        place = {label: i for i, label in enumerate(classifier.labels)}
        truth = np.array([place[str(item.label)] for item in test])
        # The shards take the classes in turn, so that any part of them is balanced.
        fitted = fit_temperature(classifier.logits(vectors[:2000]), truth[:2000])
        refused = float(np.mean(classifier.evidence(vectors) < classifier.needed))
        caught = (
            float(np.mean(classifier.evidence(strangers) < classifier.needed))
            if strangers is not None
            else None
        )
        for temperature, part in ((1.0, slice(0, None)), (fitted, slice(2000, None))):
            classifier.temperature = temperature
            report = classification_report(classifier.confidences(vectors[part]), truth[part])
            rows.append(
                {
                    "wording": wording,
                    "temperature": temperature,
                    "accuracy": report.accuracy,
                    "top3": report.top3_accuracy,
                    "ece": report.ece,
                    "none_on_test": refused,
                    "none_on_strangers": caught,
                    "trade_off": _trade_off(classifier, vectors, strangers),
                }
            )
            if plots:
                name = f"{wording.replace(' ', '-')}-T{temperature:.2f}"
                title = f"{model.name}, {wording}, temperature {temperature:.2f}"
                picture = render.reliability_plot(
                    report.bin_confidence, report.bin_accuracy, report.bin_count, report.ece, title
                )
                render.save(picture, plots / f"reliability-{name}.png")
    return rows


def _trade_off(classifier: Classifier, vectors: Any, strangers: Any) -> list[dict[str, float]]:
    """Wrongly and rightly none of these, by the share of the labels' own evidence that is asked."""
    if strangers is None:
        return []
    own = classifier.own_evidence
    good, other = classifier.evidence(vectors), classifier.evidence(strangers)
    shares = sorted({0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, OWN_SHARE})
    return [
        {
            "share": share,
            "needed": share * own,
            "none_on_test": float(np.mean(good < share * own)),
            "none_on_strangers": float(np.mean(other < share * own)),
        }
        for share in shares
    ]


def _strangers(model: ClipModel) -> Any:
    """Vectors of Caltech-101 images of things that CIFAR-10 has not; None without the data.

    Of the fifth of the images that the starter was not trained on (``training/starter/images.py``).
    """
    archive = Path(os.environ.get("WORDSIGHT_DATA", "")) / "caltech101" / "images.tar"
    if not archive.is_file():
        return None
    related = set(_RELATED.read_text(encoding="utf-8").split())
    items = [
        item
        for item in open_source(archive).items()
        if str(item.label).lower() not in related
        and zlib.crc32(item.path.rpartition("::")[2].replace("_easy/", "/").encode()) % 5 == 0
    ]
    return np.stack([v for _, v in encode_items(model, items) if not isinstance(v, str)])


def retrieval(model: ClipModel) -> dict[str, Any]:
    """Every label as a query over the 10,000 test images."""
    with tempfile.TemporaryDirectory() as folder:
        library = wordsight.create(Path(folder) / "library", model)
        library.index_sources([cifar10.load("test")])
        return evaluate(library, load_judgements(library, "labels")).to_json()


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="starter")
    arguments.add_argument("--plots", type=Path)
    options = arguments.parse_args()
    model = wordsight.load_model(options.model)
    rows, found = classification(model, options.plots), retrieval(model)
    published = {row["name"]: row["cifar10"] for row in models_info() if row.get("cifar10")}
    finish(options, {"model": model.name, "classification": rows, "retrieval": found})
    print(f"\nZero-shot classification, {model.name}, 10,000 test images")
    print("wording        temperature  accuracy   top-3     ECE  none of these: test  strangers")
    for row in rows:
        caught = row["none_on_strangers"]
        print(
            f"{row['wording']:<14} {row['temperature']:>11.3f}  {row['accuracy']:>8.4f}  "
            f"{row['top3']:>6.4f}  {row['ece']:>6.4f}  {row['none_on_test']:>19.4f}  "
            f"{'' if caught is None else f'{caught:.4f}':>9}"
        )
    print("\nNone of these, one template: share of the labels' own evidence that is asked for")
    print("  share  needed z  wrongly on test  rightly on strangers")
    for point in rows[0]["trade_off"]:
        print(
            f"  {point['share']:>5.2f}  {point['needed']:>8.2f}  {point['none_on_test']:>15.4f}  "
            f"{point['none_on_strangers']:>20.4f}"
        )
    print("published accuracy (%): " + ", ".join(f"{k} {v:g}" for k, v in published.items()))
    print("\nRetrieval, ten labels as queries")
    for name, values in found["methods"].items():
        print(
            f"{name:<14} "
            + "  ".join(f"{key} {values[key]:.4f}" for key in _SHOWN if key in values)
        )


_SHOWN = ("recall@1", "recall@10", "precision@10", "mrr", "map")

if __name__ == "__main__":
    main()
