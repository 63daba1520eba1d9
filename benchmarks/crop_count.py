"""How many crops does a photograph need?

    python -m benchmarks.crop_count --data DATA [--photographs N] [--side 256]
    python -m benchmarks.crop_count --data DATA --held-out FOLDER

On the photographs of ``benchmarks.photographs``, with the same names: all regions that the starter
Mask R-CNN finds are embedded once, at most twenty of a score of at least 0.05. Then only some of
them count: the best 1, 2, 5, 10 and 20, and those that indexing keeps (see
:func:`wordsight.regions.propose`). Printed are crops a photograph and, by lift, mAP with its
interval, and mAP of objects below 5 % and above 20 % of the picture where sizes are known.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import wordsight
from benchmarks.common import finish, parser
from benchmarks.photographs import Truth, file_of, held_out, of_the_pack
from wordsight.bank import bank_phrases
from wordsight.evaluate.metrics import bootstrap
from wordsight.images import open_image
from wordsight.models.maskrcnn import Detector
from wordsight.nomatch import lift
from wordsight.regions import Region, crop_region, in_context, load_proposer, propose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wordsight.models import ClipModel

    Seen = list[tuple[str, float, list[Region], NDArray[np.float32]]]
    """Of each photograph its file, its pixels, its regions [n] and vectors [1 + n, D]."""

KEPT = inspect.signature(propose).parameters
SIZES = {"mAP": (0.0, 9.0), "objects < 5 %": (0.0, 0.05), "objects > 20 %": (0.2, 9.0)}


def embedded(truth: Truth, model: ClipModel, side: int, count: int | None) -> Seen:
    """All photographs and their regions."""
    detector = load_proposer("starter-maskrcnn", masks=False)
    assert isinstance(detector, Detector)
    image = replace(detector.description.image, short_side=side, long_side=2 * side)
    detector.description = replace(detector.description, image=image)
    seen: Seen = []
    for item in truth.photographs.items()[:count]:
        picture = open_image(item.read())
        (regions,) = propose([picture], detector, limit=20, alike=20, min_score=0.05, max_area=0.9)
        views = [picture, *(crop_region(picture, region) for region in regions)]
        area = picture.width * picture.height
        seen.append((file_of(item), area, regions, model.encode_images(views)))
    return seen


def kept(regions: list[Region], area: float) -> list[int]:
    """Which of the regions indexing keeps."""
    names: Counter[str | None] = Counter()
    places = []
    for place, region in enumerate(regions):
        x0, y0, x1, y1 = region.box
        if region.score < KEPT["min_score"].default:
            continue
        if (x1 - x0) * (y1 - y0) > KEPT["max_area"].default * area:
            continue
        names[region.label] += 1
        if region.label is None or names[region.label] <= KEPT["alike"].default:
            places.append(place)
    return places


def lifts(seen: Seen, chosen: list[list[int]], queries: Any, bank: Any) -> Any:
    """What photographs are ranked by [Q, N] if only the chosen regions count."""
    columns = []
    for (_, _, _, vectors), places in zip(seen, chosen, strict=True):
        crops = vectors[1:][places]
        views = np.concatenate([vectors[:1], in_context(crops, vectors[0])])
        mean = (views @ bank.T).max(0).mean() if places else (vectors[0] @ bank.T).mean()
        columns.append(lift((views @ queries.T).max(0), mean))
    return np.stack(columns, axis=1)


def precision(values: Any, shares: Any, low: float, high: float) -> float | None:
    """Average precision; other photographs of the name count neither as right nor as wrong."""
    right = (shares >= low) & (shares < high)
    if not right.any():
        return None
    among = right | np.isnan(shares)
    hit = right[among][np.argsort(-values[among], kind="stable")]
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, "data")
    options.add_argument("--held-out", type=Path, metavar="FOLDER")
    options.add_argument("--photographs", type=int, help="only the first so many")
    options.add_argument("--side", type=int, default=256, help="the detector's input, short side")
    given = options.parse_args()
    truth = held_out(given.held_out, given.data) if given.held_out else of_the_pack(given.data)
    model = wordsight.load_model("starter")
    seen = embedded(truth, model, given.side, given.photographs)
    files = [file for file, *_ in seen]
    names = sorted(name for name, sizes in truth.there.items() if sizes.keys() & set(files))
    queries = model.encode_texts([f"a photo of a {name}." for name in names])
    bank = model.encode_texts(list(bank_phrases()))
    shares = np.array([[truth.there[name].get(file, np.nan) for file in files] for name in names])
    rules: dict[str, list[list[int]]] = {"whole images": [[] for _ in seen]}
    for most in (1, 2, 5, 10, 20):
        rules[f"best {most}"] = [list(range(min(most, len(regions)))) for _, _, regions, _ in seen]
    rules["as indexed"] = [kept(regions, area) for _, area, regions, _ in seen]
    figures: dict[str, Any] = {}
    for rule, chosen in rules.items():
        values = lifts(seen, chosen, queries, bank)
        row: dict[str, Any] = {
            "crops": round(float(np.mean([len(places) for places in chosen])), 2)
        }
        for title, (low, high) in SIZES.items() if truth.sized else [("mAP", SIZES["mAP"])]:
            found = [precision(v, s, low, high) for v, s in zip(values, shares, strict=True)]
            mean = bootstrap([value for value in found if value is not None])
            row |= {title: f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"}
        figures[rule] = row
        print(f"{rule:<14}" + "  ".join(f"{key} {value}" for key, value in row.items()))
    finish(given, figures)


if __name__ == "__main__":
    main()
