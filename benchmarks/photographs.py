"""Photographs: does a search answer what is there, and refuse what is not? With and without crops.

    python -m benchmarks.photographs --data DATA [--model starter ...] [--crops tiles maskrcnn]
    python -m benchmarks.photographs --data DATA --held-out FOLDER --crops none

The library are the photographs of the COCO pack whose objects are annotated; the queries are "a
photo of a NAME." with the names of these objects, and with names from ``lists/absent.txt`` that no
caption and no object of the pack has. The shipped starter was trained on these photographs and
their captions, so its precision here is none of new photographs. With ``--held-out`` the library
are others: FOLDER holds photographs of COCO, and ``captions.json`` their captions in COCO's form.
Those of the pack are left out. There a name is one that a caption says (``lists/said.txt`` has
other words for it), so what nobody mentions counts as wrong, and sizes are not known.

A column is a model and a way of cropping; the first, "none", are the whole images. The rows: the
mean average precision of the names, of objects of less than 5 % of the picture and of more than
20 %, and on either half of the photographs (every second one), with intervals of 95 % by bootstrap
over the names; how many of the names are answered ("match") and shown ("match" or "unsure") at a
stated false-accept rate of 0.05, all and those whose best image is a right one; how many absent
names are answered at 0.01, 0.05 and 0.10, and shown at 0.05; how many names are not answered where
all their images are taken out; among the first ten, how often the winning view is a crop of less
than a hundredth of the picture; Spearman's rho of rank and number of views for the absent names,
by this ranking and by that of whole images; F1 of the hits that count as relevant over that of the
best cut with hindsight, for all names and for those that are shown; the same for as many first hits
as there are right ones, which nobody knows; for how many names their number is right within a
factor of 1.5, and within the stated interval; the expected calibration error of the hits'
probabilities; how many of the names in ``lists/translations.txt`` are answered in English, German,
French and Spanish, those that are there and those that are not; the processor time of indexing as a
multiple of that without crops.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import wordsight
from benchmarks.common import Part, finish, lines_of, parser
from wordsight.evaluate.calibration import expected_calibration_error
from wordsight.evaluate.metrics import bootstrap
from wordsight.library.records import id_from_int
from wordsight.models import ClipModel
from wordsight.search import Hit, Result
from wordsight.sources import Item, open_source
from wordsight.sources.coco import CocoImage, read_coco

RATES = (0.01, 0.05, 0.10)
_SPECK = 0.01


@dataclass(frozen=True)
class Truth:
    """Photographs, and what is in them."""

    photographs: Part
    there: dict[str, dict[str, float]]
    """Of each name the files that show it, with the largest object's share of the picture."""
    absent: list[str]
    """Names of nothing that is there."""
    sized: bool
    """Whether the shares are known."""


def of_the_pack(data: Path) -> Truth:
    """The annotated photographs of the pack."""
    folder = data / "coco-captions"
    images = read_coco(folder / "captions.json", folder / "instances.json")
    there: dict[str, dict[str, float]] = {}
    for image in images:
        for thing in image.objects or ():
            sizes = there.setdefault(thing.category, {})
            sizes[image.file_name] = max(sizes.get(image.file_name, 0.0), thing.area_fraction)
    known = {image.file_name for image in images if image.objects is not None}
    archive = open_source(folder / "images.tar")
    annotated = Part(archive.root, [item for item in archive.items() if file_of(item) in known])
    return Truth(annotated, there, absent_names(images), sized=True)


def held_out(folder: Path, data: Path) -> Truth:
    """Photographs of a folder that are not in the pack, and what their captions say."""
    pack = data / "coco-captions"
    known = read_coco(pack / "captions.json", pack / "instances.json")
    mine = {image.file_name for image in known}
    source = open_source(folder)
    items = [item for item in source.items() if file_of(item) not in mine]
    files = {file_of(item) for item in items}
    images = [i for i in read_coco(folder / "captions.json") if i.file_name in files]
    there = {}
    for name in {thing.category for image in known for thing in image.objects or ()}:
        said = re.compile(rf"\b(?:{other_words().get(name, name)})(?:s|es)?\b", re.IGNORECASE)
        showing = [i.file_name for i in images if any(said.search(c) for c in i.captions)]
        if showing:
            there[name] = dict.fromkeys(showing, 0.0)
    return Truth(Part(source.root, items), there, absent_names(images), sized=False)


def other_words() -> dict[str, str]:
    """What captions say for a name, as a pattern."""
    pairs = (line.split(":", 1) for line in lines_of("said.txt"))
    return {name: "|".join(word.strip() for word in words.split(",")) for name, words in pairs}


def file_of(thing: Item | Hit) -> str:
    """The name of a photograph in its archive or folder."""
    return thing.path.rpartition("::")[2].rpartition("/")[2]


def absent_names(images: Sequence[CocoImage]) -> list[str]:
    """The names of the list that no caption of the images has, and none of their objects."""
    said = " ".join(caption.lower() for image in images for caption in image.captions)
    return [name for name in lines_of("absent.txt") if not re.search(rf"\b{name}", said)]


def asked(
    library: wordsight.Library, names: Sequence[str], rate: float, *, crops: bool
) -> list[Result]:
    """What a search for each name gives, all images ranked."""
    prompts = [f"a photo of a {name}." for name in names]
    found = library.search(prompts, k=len(library), false_accept=rate, anyway=True, crops=crops)
    assert isinstance(found, list)
    return found


def _precision(result: Result, right: set[str]) -> float:
    hit = np.array([file_of(h) in right for h in result.hits])
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def _among(result: Result, files: Collection[str]) -> Result:
    return replace(result, hits=[hit for hit in result.hits if file_of(hit) in files])


def _spearman(results: Sequence[Result], views: Mapping[str, int]) -> float:
    """Mean rho of rank and number of views; positive: images with many views rank lower."""
    if len(set(views.values())) == 1:
        return 0.0
    rho = []
    for result in results:
        counts = np.array([views[hit.id] for hit in result.hits])
        _, inverse, ties = np.unique(counts, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(ties) - (ties - 1) / 2)[inverse]
        rho.append(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])
    return float(np.mean(rho))


@dataclass(frozen=True)
class Cut:
    """Where the hits of a name end. F1 is a share of that of the best cut with hindsight."""

    f1: float
    f1_of_true_number: float
    """Of as many first hits as there are right ones."""
    near: bool
    """Whether their number is right within a factor of 1.5."""
    covered: bool
    """Whether the interval holds the right number."""

    @classmethod
    def of(cls, result: Result, right: set[str]) -> Cut:
        """That of all images, ranked for a name that these files show."""
        assert result.count is not None
        hit = np.array([file_of(h) in right for h in result.hits])
        f1 = 2 * np.cumsum(hit) / (np.arange(1, len(hit) + 1) + hit.sum())
        shown = sum(h.relevant for h in result.hits)  # the first ones
        off = max(result.count.estimate, 1) / len(right)
        return cls(
            float(f1[shown - 1] / f1.max()) if shown else 0.0,
            float(f1[hit.sum() - 1] / f1.max()),
            max(off, 1 / off) <= 1.5,
            result.count.low <= len(right) <= result.count.high,
        )


def _calibration(found: Sequence[Result], wanted: Sequence[set[str]]) -> float:
    """Expected calibration error of the probabilities, over all names and images."""
    pairs = [
        (h.probability, file_of(h) in w) for r, w in zip(found, wanted, strict=True) for h in r.hits
    ]
    probable, right = np.array(pairs, np.float64).T
    return round(expected_calibration_error(probable, right), 3)


def translations() -> dict[str, list[str]]:
    """Names in German, French and Spanish, each with its article, by the English one."""
    pairs = (line.split(":") for line in lines_of("translations.txt"))
    return {name: [word.strip() for word in words.split(",")] for name, words in pairs}


def _languages(library: wordsight.Library, truth: Truth, *, crops: bool) -> dict[str, str]:
    """By language the share of names that are answered: there, and absent."""
    known = translations()
    some = [[name for name in known if name in names] for names in (truth.there, truth.absent)]
    rows = {}
    for place, language in enumerate(("English", "German", "French", "Spanish")):
        shares = []
        for names in some:
            words = [(f"a {name}", *known[name])[place] for name in names]
            found = library.search(words, crops=crops)
            assert isinstance(found, list)
            shares.append(f"{_share(found, 'match'):.3f}")
        rows[f"{language}: there / absent"] = " / ".join(shares)
    return rows


def _specks(results: Sequence[Result]) -> float:
    shares = [
        (h.view.box[2] - h.view.box[0]) * (h.view.box[3] - h.view.box[1]) / (h.width * h.height)
        if h.view.box
        else 1.0
        for result in results
        for h in result.hits[:10]
    ]
    return float(np.mean(np.array(shares) < _SPECK))


def _mean(values: Sequence[float]) -> str:
    """A mean over names, with its interval."""
    found = bootstrap(values)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _share(results: Sequence[Result], *verdicts: str) -> float:
    return round(float(np.mean([r.verdict in verdicts for r in results])), 3)


def _precisions(found: Sequence[Result], truth: Truth, files: Sequence[str]) -> dict[str, str]:
    """The rows of precision, for the names in the order of the alphabet."""
    sizes = [truth.there[name] for name in sorted(truth.there)]
    everything, halves = set(files), (set(files[::2]), set(files[1::2]))
    rows = {"mAP": (0.0, 9.0, everything)}
    if truth.sized:
        rows["mAP, objects < 5 %"] = (0.0, 0.05, everything)
        rows["mAP, objects > 20 %"] = (0.2, 9.0, everything)
    rows |= {f"mAP, half {n}": (0.0, 9.0, half) for n, half in enumerate(halves)}
    answer = {}
    for name, (low, high, among) in rows.items():
        values = []
        for result, size in zip(found, sizes, strict=True):
            right = {file for file, area in size.items() if low <= area < high} & among
            if right:  # other images of the name count neither as right nor as wrong
                values.append(_precision(_among(result, among - (set(size) - right)), right))
        answer[name] = _mean(values)
    return answer


def _taken_out(
    library: wordsight.Library, found: Sequence[Result], wanted: Sequence[set[str]], *, crops: bool
) -> float:
    """Share of queries that are not answered where all images that show them are taken out."""
    refused = []
    for result, files in zip(found, wanted, strict=True):
        paths = ", ".join(f"'{hit.path}'" for hit in result.hits if file_of(hit) in files)
        if len(files) < len(result.hits):
            left = library.search(result.query, where=f"path not in ({paths})", crops=crops)
            refused.append(not left.match)
    return round(float(np.mean(refused)), 3)


def measure(library: wordsight.Library, truth: Truth, *, crops: bool) -> dict[str, Any]:
    """One column."""
    names, absent = sorted(truth.there), truth.absent
    files = sorted(file_of(item) for item in truth.photographs.items())
    snapshot = library.store.snapshot()
    counts = np.diff(np.append(snapshot.starts, len(snapshot.vectors)))
    views = {
        id_from_int(n): int(c) if crops else 1 for n, c in zip(snapshot.ids, counts, strict=True)
    }
    found = asked(library, names, 0.05, crops=crops)
    wanted = [set(truth.there[name]) for name in names]
    first = [file_of(r.hits[0]) in right for r, right in zip(found, wanted, strict=True)]
    right = [r for r, good in zip(found, first, strict=True) if good]
    refused = {rate: asked(library, absent, rate, crops=crops) for rate in RATES}
    whole = asked(library, absent, 0.05, crops=False)  # what shows many things has many views
    cuts = [Cut.of(r, files) for r, files in zip(found, wanted, strict=True)]
    shown = [cut.f1 for cut, result in zip(cuts, found, strict=True) if result.verdict != "none"]
    return {
        "views": sum(views.values()),
        **_precisions(found, truth, files),
        "right first": round(float(np.mean(first)), 3),
        "there: match": _share(found, "match"),
        "there: match or unsure": _share(found, "match", "unsure"),
        "right first: match": _share(right, "match"),
        "right first: match or unsure": _share(right, "match", "unsure"),
        **{f"absent at {rate:.2f}": _share(refused[rate], "match") for rate in RATES},
        "absent: match or unsure": _share(refused[0.05], "match", "unsure"),
        "taken out: no match": _taken_out(library, found, wanted, crops=crops),
        "winners below 1 %": round(_specks(found), 3),
        "rho of rank and views": round(_spearman(refused[0.05], views), 3),
        "the same, whole images": round(_spearman(whole, views), 3),
        "F1 of the cut / best": _mean([cut.f1 for cut in cuts]),
        "the same, names shown": _mean(shown),
        "F1 of the true number / best": _mean([cut.f1_of_true_number for cut in cuts]),
        "number within 1.5": round(float(np.mean([cut.near for cut in cuts])), 3),
        "number in the interval": round(float(np.mean([cut.covered for cut in cuts])), 3),
        "calibration error": _calibration(found, wanted),
        **_languages(library, truth, crops=crops),
    }


def indexed(place: Path, model: ClipModel, truth: Truth, crops: str) -> tuple[Any, float]:
    """The library of the photographs, made if it is not there, and seconds of processor time."""
    if place.exists():
        return wordsight.open(place, model=model), float("nan")
    library = wordsight.create(place, model)
    model.encode_images([Image.new("RGB", (32, 32))])  # opened before the clock runs
    started = time.process_time()
    library.index_sources([truth.photographs], crops=crops)
    return library, time.process_time() - started


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, "data")
    options.add_argument("--model", nargs="+", default=["starter"])
    options.add_argument("--held-out", type=Path, metavar="FOLDER")
    options.add_argument("--crops", nargs="+", default=["tiles", "maskrcnn"])
    options.add_argument("--keep", type=Path, help="keep the libraries here, and use those there")
    given = options.parse_args()
    truth = held_out(given.held_out, given.data) if given.held_out else of_the_pack(given.data)
    columns: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(given.model):
            model = wordsight.load_model(name)
            title = f"{name}, " if len(given.model) > 1 else ""
            without = float("nan")
            for crops in dict.fromkeys(["none", *given.crops]):
                place = (given.keep or Path(temporary)) / f"{number}-{model.name}-{crops}"
                library, seconds = indexed(place, model, truth, crops)
                without = seconds if crops == "none" else without
                column = columns[f"{title}{crops}"] = measure(library, truth, crops=crops != "none")
                column["indexing, processor time"] = f"{seconds:.1f} s, {seconds / without:.2f}"
    print(" " * 30 + "".join(f"{column:>24}" for column in columns))
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        print(f"{row:<30}" + "".join(f"{column.get(row, '')!s:>24}" for column in columns.values()))
    finish(given, columns)


if __name__ == "__main__":
    main()
