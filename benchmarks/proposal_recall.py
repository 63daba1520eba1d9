"""How many of the annotated objects of the COCO pack do the proposers find?

Class-agnostic recall at IoU 0.5: the share of annotated objects (crowds left out) that some
proposal overlaps with an intersection over union of at least 0.5, whatever the labels, over the
images of one split. By COCO's object sizes (area of the object's box, in pixels of the pack's
images: small < 32 x 32 <= medium < 96 x 96 <= large) and by the share of the image that the box
covers. Intervals: 95 %, bootstrap over images.

Tiles are not drawn around objects. What they are for is the zoom: how much larger an object is in
the best view that shows at least 80 % of it than in the whole image (the square root of the ratio
of areas; 1 where no proposal shows it), the median over the objects of each size.

    python benchmarks/proposal_recall.py --data DATA tiles starter-maskrcnn DETECTOR_DIRECTORY
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wordsight.errors import WordsightError
from wordsight.regions import iou, load_proposer, propose

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = {"small": (0.0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
SHARES = {"<1%": (0.0, 0.01), "1-5%": (0.01, 0.05), "5-20%": (0.05, 0.2), ">20%": (0.2, 1.01)}
RESAMPLES = 1000


def load_coco(data: Path, split: str) -> list[tuple[Image.Image, NDArray[np.float32]]]:
    """Images of a split ("val2017", "train2017", "all") with their boxes, float32 [N, 4]."""
    pack = data / "coco-captions"
    instances = json.loads((pack / "instances.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for a in instances["annotations"]:
        if not a["iscrowd"]:
            x, y, w, h = a["bbox"]
            boxes[a["image_id"]].append([x, y, x + w, y + h])
    images = []
    with tarfile.open(pack / "images.tar") as tar:
        for entry in sorted(instances["images"], key=lambda i: i["id"]):
            if split in ("all", entry["coco_split"]) and boxes[entry["id"]]:
                member = tar.extractfile(entry["file_name"])
                assert member is not None
                image = Image.open(io.BytesIO(member.read())).convert("RGB")
                images.append((image, np.array(boxes[entry["id"]], np.float32)))
    return images


def recall(
    found: NDArray[np.float64], chosen: NDArray[np.bool_], image: NDArray[np.int64]
) -> dict[str, float]:
    """Recall with its interval over the chosen objects; `found` is 0 or 1, `image` of each."""
    count = int(image.max()) + 1
    hits = np.bincount(image[chosen], found[chosen], count)
    totals = np.bincount(image[chosen], minlength=count)
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    resampled = hits[draws].sum(1) / np.maximum(1, totals[draws].sum(1))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "recall": round(float(hits.sum() / totals.sum()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "objects": int(totals.sum()),
    }


def zoom(
    boxes: NDArray[np.float32], proposals: NDArray[np.float32], area: int
) -> NDArray[np.float64]:
    """How much each box [N, 4] is enlarged by the best of the proposals [M, 4] that shows it."""
    low = np.maximum(boxes[:, None, :2], proposals[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], proposals[None, :, 2:])
    shown = np.clip(high - low, 0, None).prod(2) / (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
    factors = np.sqrt(area / (proposals[:, 2:] - proposals[:, :2]).prod(1))
    best: NDArray[np.float64] = np.where(shown >= 0.8, factors, 1.0).max(1, initial=1.0)
    return best


def measure(
    proposer: str, images: list[tuple[Image.Image, NDArray[np.float32]]], args: argparse.Namespace
) -> dict[str, Any]:
    """Run one proposer over all images; returns its row of the report."""
    loaded = load_proposer(proposer, runtime=args.runtime)
    options = {
        "limit": args.limit,
        "alike": args.limit,
        "min_score": args.min_score,
        "nms": args.nms,
        "margin": 0.0,
        "least": 0.0,
        "min_side": args.min_side,
        "max_area": args.max_area,
    }
    propose([images[0][0]], loaded, **options)  # the first run of a graph is slower
    found, share, area, zooms, image_of, counts, milliseconds = [], [], [], [], [], [], []
    for i, (image, boxes) in enumerate(images):
        start = time.perf_counter()
        regions = propose([image], loaded, **options)[0]
        milliseconds.append(1000 * (time.perf_counter() - start))
        counts.append(len(regions))
        proposals = np.array([r.box for r in regions], np.float32).reshape(-1, 4)
        overlaps = iou(boxes, proposals)
        zooms.append(zoom(boxes, proposals, image.width * image.height))
        found.append(overlaps.max(1, initial=0.0) >= 0.5)
        area.append((boxes[:, 2:] - boxes[:, :2]).prod(1))
        share.append(area[-1] / (image.width * image.height))
        image_of.append(np.full(len(boxes), i))
    hit = np.concatenate(found).astype(np.float64)
    areas, shares, where = np.concatenate(area), np.concatenate(share), np.concatenate(image_of)
    enlarged = np.concatenate(zooms)
    groups = {
        "all": np.ones(len(hit), bool),
        **{k: (areas >= low) & (areas < high) for k, (low, high) in SIZES.items()},
        **{k: (shares >= low) & (shares < high) for k, (low, high) in SHARES.items()},
    }
    return {
        "proposer": proposer,
        **{
            k: {
                **recall(hit, chosen, where),
                "zoom": round(float(np.median(enlarged[chosen])), 2),
            }
            for k, chosen in groups.items()
            if chosen.any()
        },
        "proposals": {"mean": round(float(np.mean(counts)), 2), "most": int(max(counts))},
        "ms_per_image": round(float(np.median(milliseconds)), 1),
    }


def main() -> int:
    """Measure the proposers named on the command line and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("proposers", nargs="+", help="tiles, a registry name or a directory")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data packs")
    parser.add_argument("--split", default="val2017", choices=["val2017", "train2017", "all"])
    parser.add_argument("--limit", type=int, default=20, help="proposals an image")
    parser.add_argument("--min-score", type=float, default=0.05)
    parser.add_argument("--nms", type=float, default=0.6)
    parser.add_argument("--min-side", type=float, default=0.0, help="pixels")
    parser.add_argument("--max-area", type=float, default=1.0, help="share of the image")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    images = load_coco(args.data, args.split)
    try:
        rows = [measure(name, images, args) for name in args.proposers]
    except WordsightError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        report = {"split": args.split, "images": len(images), "limit": args.limit, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{len(images)} images of {args.split}, at most {args.limit} proposals an image")
    for row in rows:
        print(
            f"\n{row['proposer']}: {row['ms_per_image']} ms an image (median), "
            f"{row['proposals']['mean']} proposals (mean)"
        )
        for name in ("all", *SIZES, *SHARES):
            if r := row.get(name):
                print(
                    f"  {name:>7}  recall {r['recall']:.3f} ({r['low']:.3f} to {r['high']:.3f}) "
                    f"of {r['objects']}, zoom {r['zoom']:.2f}"
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
