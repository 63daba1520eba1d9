"""Photographs: does a search answer what is there, and refuse what is not? With and without crops.

    python -m benchmarks.photographs --data DATA [--model starter] [--crops none tiles maskrcnn]

The library are the photographs of the COCO pack whose objects are annotated; the queries are "a
photo of a NAME." with the names of these objects, and with names from ``lists/absent.txt`` that no
caption and no object of the pack has. Each row is one way of cropping: the mean average precision
of the names; how many of them are answered ("match") and shown ("match" or "unsure") at a stated
false-accept rate of 0.05, all and those whose best image is a right one; how many absent names are
answered at 0.01, 0.05 and 0.10, and shown at 0.05; among the first ten, how often the winning view
is a crop of less than a hundredth of the picture; seconds of indexing.

The shipped starter was trained on these photographs and their captions, so its precision here is
none of new photographs. The decision was not fitted to them: bank and fits were chosen on
Caltech-101 with half of its classes taken out.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks.common import Part, finish, parser
from wordsight.models import ClipModel
from wordsight.search import Hit, Result
from wordsight.sources import Item, open_source
from wordsight.sources.coco import CocoImage, read_coco

RATES = (0.01, 0.05, 0.10)
_SPECK = 0.01
_ABSENT = Path(__file__).parent / "lists" / "absent.txt"


def _file(thing: Item | Hit) -> str:
    return thing.path.rpartition("::")[2].rpartition("/")[2]


def absent_names(images: Sequence[CocoImage]) -> list[str]:
    """The names of the list that no caption of the images has, and none of their objects."""
    said = " ".join(caption.lower() for image in images for caption in image.captions)
    lines = (line.strip() for line in _ABSENT.read_text(encoding="utf-8").splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    return [name for name in names if not re.search(rf"\b{name}", said)]


def asked(library: wordsight.Library, names: Sequence[str], rate: float) -> list[Result]:
    """What a search for each name gives, all images ranked."""
    prompts = [f"a photo of a {name}." for name in names]
    found = library.search(prompts, k=len(library), false_accept=rate, anyway=True)
    assert isinstance(found, list)
    return found


def _precision(result: Result, right: set[str]) -> float:
    hit = np.array([_file(h) in right for h in result.hits])
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def _specks(results: Sequence[Result]) -> float:
    shares = [
        (h.view.box[2] - h.view.box[0]) * (h.view.box[3] - h.view.box[1]) / (h.width * h.height)
        if h.view.box
        else 1.0
        for result in results
        for h in result.hits[:10]
    ]
    return float(np.mean(np.array(shares) < _SPECK))


def measure(model: ClipModel, data: Path, crops: str) -> dict[str, Any]:
    """One row."""
    folder = data / "coco-captions"
    images = read_coco(folder / "captions.json", folder / "instances.json")
    there: dict[str, set[str]] = {}
    for image in images:
        for thing in image.objects or ():
            there.setdefault(thing.category, set()).add(image.file_name)
    known = {image.file_name for image in images if image.objects is not None}
    names, absent = sorted(there), absent_names(images)
    archive = open_source(folder / "images.tar")
    annotated = Part(archive.root, [item for item in archive.items() if _file(item) in known])
    with tempfile.TemporaryDirectory() as place:
        library = wordsight.create(Path(place) / "library", model)
        started = time.perf_counter()
        library.index_sources([annotated], crops=crops)
        seconds = time.perf_counter() - started
        found = asked(library, names, 0.05)
        wanted = [there[name] for name in names]
        first = [_file(r.hits[0]) in files for r, files in zip(found, wanted, strict=True)]
        precision = [_precision(r, files) for r, files in zip(found, wanted, strict=True)]
        right = [r for r, good in zip(found, first, strict=True) if good]
        refused = {rate: asked(library, absent, rate) for rate in RATES}

        def share(results: Sequence[Result], *verdicts: str) -> float:
            return round(float(np.mean([r.verdict in verdicts for r in results])), 3)

        return {
            "crops": crops,
            "views": library.store.count_views(),
            "mAP": round(float(np.mean(precision)), 3),
            "right first": round(float(np.mean(first)), 3),
            "there: match": share(found, "match"),
            "there: match or unsure": share(found, "match", "unsure"),
            "right first: match": share(right, "match"),
            "right first: match or unsure": share(right, "match", "unsure"),
            **{f"absent at {rate:.2f}": share(refused[rate], "match") for rate in RATES},
            "absent: match or unsure": share(refused[0.05], "match", "unsure"),
            "winners below 1 %": round(_specks(found), 3),
            "seconds": round(seconds, 1),
        }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, "data")
    options.add_argument("--model", default="starter")
    options.add_argument("--crops", nargs="+", default=["none", "tiles", "maskrcnn"])
    given = options.parse_args()
    model = wordsight.load_model(given.model)
    rows = [measure(model, Path(given.data), crops) for crops in given.crops]
    for name in rows[0]:
        print(f"{name:<30}" + "".join(f"{row[name]!s:>12}" for row in rows))
    finish(given, {row["crops"]: row for row in rows})


if __name__ == "__main__":
    main()
