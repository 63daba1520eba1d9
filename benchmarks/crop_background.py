"""Does it help to take the background out of a crop?

    python -m benchmarks.crop_background [--data DATA] [--scenes 200] [--detector NAME]

A detector's mask says which pixels of a crop are the object. The same regions are embedded three
times with the starter CLIP: as they are (`keep`), and with the rest of the pixels replaced by grey
(`grey`) or blurred (`blur`); an image's score is the max over its whole image and its crops.
Measured is mAP with class names as queries, on the CIFAR-10 scenes of :mod:`wordsight.scenes` and
on the annotated photographs of the COCO pack (relevant: the annotation has one). Intervals are
95 %, by bootstrap over the queries; "against keep" is that of the difference, query by query.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import wordsight
from benchmarks.common import finish, parser
from wordsight.classify import DEFAULT_TEMPLATE, label_vectors
from wordsight.evaluate.metrics import average_precision, bootstrap
from wordsight.evaluate.ranking import Ranking
from wordsight.regions import BACKGROUNDS, crop_region, load_proposer, propose
from wordsight.scenes import write_scenes
from wordsight.sources import cifar10
from wordsight.sources.coco import CocoImage, read_coco

if TYPE_CHECKING:
    from collections.abc import Callable

    from wordsight.models.clip import ClipModel
    from wordsight.models.maskrcnn import Detector
    from wordsight.regions import Tiles


def measure(
    model: ClipModel,
    detector: Detector | Tiles,
    images: list[CocoImage],
    opened: Callable[[str], Image.Image],
) -> dict[str, Any]:
    """Average precision of every class name by what was done to the background."""
    names = sorted({found.category for image in images for found in image.objects or ()})
    queries = label_vectors(model, names, (DEFAULT_TEMPLATE,))
    scores: dict[str, list[Any]] = {"no crops": [], **{name: [] for name in BACKGROUNDS}}
    crops = 0
    for image in images:
        picture = opened(image.file_name)
        (regions,) = propose([picture], detector, masks=True)
        crops += len(regions)
        views = [picture]
        for background in BACKGROUNDS:
            views += [crop_region(picture, region, background=background) for region in regions]
        found = queries @ model.encode_images(views).T
        scores["no crops"].append(found[:, 0])
        parts = found[:, 1:].reshape(len(names), len(BACKGROUNDS), len(regions))
        fused = np.maximum(parts.max(2, initial=-1), found[:, :1])
        for background, column in zip(BACKGROUNDS, fused.T, strict=True):
            scores[background].append(column)
    relevant = np.array(
        [[any(o.category == name for o in i.objects or ()) for i in images] for name in names]
    )
    precision = {
        name: average_precision(Ranking.from_scores(np.stack(columns, 1), relevant))
        for name, columns in scores.items()
    }
    rows = {}
    for name, values in precision.items():
        whole, against = bootstrap(values), bootstrap(values - precision["keep"])
        rows[name] = {
            "map": [round(v, 4) for v in (whole.value, whole.low, whole.high)],
            "against_keep": [round(v, 4) for v in (against.value, against.low, against.high)],
        }
    return {"images": len(images), "queries": len(names), "crops": crops, "rows": rows}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--scenes", type=int, default=200)
    arguments.add_argument("--detector", default="starter-maskrcnn")
    options = arguments.parse_args()
    model, detector = wordsight.load_model("starter"), load_proposer(options.detector)
    pack = options.data / "coco-captions"
    answer: dict[str, Any] = {"detector": options.detector}
    with tempfile.TemporaryDirectory() as temporary, tarfile.open(pack / "images.tar") as tar:
        folder = Path(temporary)
        truth = write_scenes(folder, cifar10.load("test").items(), options.scenes)

        def photograph(name: str) -> Image.Image:
            member = tar.extractfile(name)
            assert member is not None
            return Image.open(io.BytesIO(member.read())).convert("RGB")

        photographs = [i for i in read_coco(instances=pack / "instances.json") if i.objects]
        answer["scenes"] = measure(
            model, detector, read_coco(instances=truth), lambda name: Image.open(folder / name)
        )
        answer["photographs"] = measure(model, detector, photographs, photograph)
    finish(options, answer)
    for title in ("scenes", "photographs"):
        found = answer[title]
        print(
            f"\n{found['images']} {title}, {found['queries']} queries, {found['crops']} crops by "
            f"{options.detector}"
        )
        for name, row in found["rows"].items():
            value, low, high = row["map"]
            change, least, most = row["against_keep"]
            print(
                f"  {name:<9} mAP {value:.3f} [{low:.3f}, {high:.3f}]   "
                f"against keep {change:+.3f} [{least:+.3f}, {most:+.3f}]"
            )


if __name__ == "__main__":
    main()
