"""Draws the pictures of the documentation: ``make pictures``.

With the starter model over CIFAR-10's test images (WORDSIGHT_CIFAR10; the cache; or the internet).
Everything is drawn by wordsight itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import wordsight
from wordsight import render
from wordsight.classify import Classifier
from wordsight.evaluate import classification_report
from wordsight.images import open_image
from wordsight.library import id_from_int
from wordsight.nomatch import closest, zscore
from wordsight.regions import propose
from wordsight.scenes import write_scenes
from wordsight.search import make_kinds
from wordsight.search.decision import null_of
from wordsight.sources import cifar10
from wordsight.sources.base import Head

OUT = Path(__file__).parent / "img"
SCENES = 60
UNRELATED = "a violin"
WIDEST = 1100


def keep(picture: Any, name: str) -> None:
    """Save a picture small: pages of images as JPEG, plots as PNG with a palette."""
    path = OUT / name
    render.save(picture, path)
    image = Image.open(path).convert("RGB")
    if image.width > WIDEST:
        height = round(image.height * WIDEST / image.width)
        image = image.resize((WIDEST, height), Image.Resampling.LANCZOS)
    if path.suffix == ".png":
        image.quantize(128).save(path, optimize=True)
    else:
        image.save(path, quality=85, optimize=True)
    print(f"{path.name}  {image.width} x {image.height}  {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Index, search, classify and draw."""
    OUT.mkdir(exist_ok=True)
    model = wordsight.load_model("starter")
    source = cifar10.load("test")
    with tempfile.TemporaryDirectory() as work:
        library = wordsight.create(Path(work) / "library", model=model)
        library.index_sources([source])
        searches(library)
        background(library)
        classification(library, model, source)
        crops(Path(work), model, source)


def searches(library: wordsight.Library) -> None:
    """The README's grid, and a query without a match."""
    keep(library.grid(library.search("a ship on the sea", k=10)), "search.jpg")
    keep(library.grid(library.search(UNRELATED, k=5, anyway=True)), "no-match.jpg")


def background(library: wordsight.Library) -> None:
    """Cosines of one query; and what the bank's phrases get beside queries that fit."""
    snapshot = library.store.snapshot()
    labels = library.store.labels()
    truth = np.array([labels[id_from_int(i)] for i in snapshot.ids])
    names = sorted(set(truth))
    vectors = library.model.encode_texts([f"a {name}" for name in names])
    fused = snapshot.fuse((snapshot.vectors @ vectors.T).T)
    dog = fused[names.index("dog")]
    plot = render.score_histogram(
        dog[truth == "dog"],
        dog[truth != "dog"],
        None,
        title="Cosine of every image with \u201ca dog\u201d",
        xlabel="cosine",
        ylabel="share of images",
        names=("dogs", "other images"),
    )
    keep(plot, "cosine.png")

    null = null_of(library.store, library.model)
    z = zscore(fused, snapshot.mean, snapshot.sd)
    places = closest(z)
    odds = make_kinds(library.model).log_odds(vectors, snapshot.vectors[places])
    bank = null.evidence(null.z, null.odds)
    plot = render.score_histogram(
        null.evidence(np.take_along_axis(z, places, 1), odds),
        bank,
        float(np.quantile(bank, 0.95)),
        title="What queries get in this library",
        subtitle="evidence for a query; threshold for a false-accept rate of 0.05",
        xlabel="evidence",
        names=("the ten class names", "phrases of the bank"),
    )
    keep(plot, "bank.png")


def classification(library: wordsight.Library, model: Any, source: Any) -> None:
    """Ten images with their labels, and whether confidences mean what they say."""
    classifier = Classifier(model, "cifar10")
    items = source.items()
    first = [next(item for item in items if item.label == name) for name in classifier.labels]
    pictures = [open_image(item.read()) for item in first]
    rows = [
        render.Classified(
            picture,
            [(c.label, c.confidence) for c in found.top],
            truth=item.label,
            none_of_these=found.none_of_these,
        )
        for item, picture, found in zip(first, pictures, classifier(pictures), strict=True)
    ]
    keep(render.classification_montage(rows[:6], title="Top labels"), "classify.jpg")

    ids, vectors = library.vectors()
    truth = library.store.labels()
    report = classification_report(
        classifier.confidences(vectors),
        np.array([classifier.labels.index(str(truth[i])) for i in ids]),
    )
    plot = render.reliability_plot(
        report.bin_confidence,
        report.bin_accuracy,
        report.bin_count,
        report.ece,
        "Do confidences mean what they say?",
    )
    keep(plot, "reliability.png")


def crops(work: Path, model: Any, source: Any) -> None:
    """Views of a scene, and a ranking without and with crops."""
    write_scenes(work / "scenes", Head(source, 2000).items(), SCENES)
    library = wordsight.create(work / "scenes-library", model=model)
    library.index(work / "scenes", crops="starter-maskrcnn")
    scenes = sorted((work / "scenes").glob("*.[jp]*g"))
    picture = open_image(scenes[0])
    found = propose([picture], "starter-maskrcnn", limit=8)[0]
    keep(render.outlined(picture, [region.box for region in found], cell=480), "views.jpg")
    baseline = library.search("a horse", k=6, crops=False, anyway=True)
    aware = library.search("a horse", k=6, anyway=True)
    keep(library.comparison(baseline, aware), "crops.jpg")


if __name__ == "__main__":
    main()
