"""Crop-aware retrieval of small objects: CIFAR-10 test images pasted on larger backgrounds.

    python -m benchmarks.scenes [--scenes 400] [--crops starter-maskrcnn,tiles]

The scenes are those of :mod:`wordsight.scenes`. Ten class names are the queries; relevant are the
scenes that hold the class. One library a proposer is
made with the starter CLIP, and each is measured without crops, with max fusion of raw scores, and
with the normalised scores; intervals are 95 %, by bootstrap over the queries.

Then, what crops must not do. On plain CIFAR-10 test images nothing may be lost. And with random
queries the rank of an image must not go with its number of views: Spearman's rho of the two, for
each of 2,000 everyday WordNet nouns that are neither in the bank nor animals or vehicles
(``--wordnet``), and its mean. Ranks by cosine, by z and by lift (what a search with crops goes by).
Beside it stands the rho of an image's *mean* rank over all these queries, a far stricter figure:
the noise of single queries averages out, so that a difference of a few places in 400 shows. With
``--data`` the photographs of the COCO pack are tried too, with the same proposers.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import wordsight
from benchmarks.common import finish, parser
from benchmarks.nouns import head, wordnet_nouns
from wordsight.bank import neutral_phrases, with_article
from wordsight.evaluate import evaluate, load_judgements
from wordsight.models import ClipModel
from wordsight.nomatch import lift, zscore
from wordsight.scenes import write_scenes
from wordsight.sources import cifar10


def rank_of_views(library: wordsight.Library, queries: Any) -> dict[str, dict[str, float]]:
    """Spearman's rho of rank and number of views under random queries [Q, D], by kind of score.

    "each": the mean of the rho of every query; "mean rank": the rho of an image's mean rank.
    Positive: images with many views rank lower.
    """
    snapshot = library.store.snapshot()
    counts = _ranks(np.diff(np.append(snapshot.starts, len(snapshot.vectors))))
    if (counts == counts[0]).all():
        return {}
    fused = snapshot.fuse(queries @ snapshot.vectors.T)
    kinds = {
        "cosine": fused,
        "z": zscore(fused, snapshot.mean, snapshot.sd),
        "lift": lift(fused, snapshot.mean),
    }
    answer = {}
    for kind, scores in kinds.items():
        ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
        answer[kind] = {
            "each": float(np.mean([np.corrcoef(row, counts)[0, 1] for row in ranks])),
            "mean rank": float(np.corrcoef(_ranks(ranks.mean(axis=0)), counts)[0, 1]),
        }
    return answer


def unrelated(model: ClipModel, wordnet: Path) -> Any:
    """Text vectors of random everyday nouns, the same at every call."""
    nouns = wordnet_nouns(wordnet, {head(p) for p in neutral_phrases()})["seen"]
    words = random.Random(0).sample(nouns, min(2000, len(nouns)))
    return model.encode_texts([with_article(word) for word in words])


def _ranks(values: Any) -> Any:
    """Mean ranks, ties shared."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--scenes", type=int, default=400)
    arguments.add_argument("--plain", type=int, default=2000, help="plain CIFAR-10 test images")
    arguments.add_argument("--crops", default="starter-maskrcnn,tiles")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="write the scenes here, to look at")
    arguments.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    arguments.add_argument("--data", type=Path, help="folder with coco-captions/images.tar")
    options = arguments.parse_args()
    if not (options.wordnet / "data.noun").is_file():
        arguments.error(f"no WordNet in {options.wordnet} (apt install wordnet-base, or --wordnet)")
    model = wordsight.load_model("starter")
    queries = unrelated(model, options.wordnet)
    answer: dict[str, Any] = {"proposers": {}}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = options.keep or work / "scenes"
        folder.mkdir(parents=True, exist_ok=True)
        plain = cifar10.load("test").items()
        truth = write_scenes(folder, plain, options.scenes, seed=options.seed)
        part = Path(temporary) / "plain"
        for item in plain[: options.plain]:
            target = part / str(item.label) / Path(item.path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(item.read())
        for proposer in options.crops.split(","):
            library = wordsight.create(work / f"{proposer}.lib", model)
            model.encode_images([Image.new("RGB", (32, 32))])  # opened before the clock runs
            started = time.perf_counter()
            library.index(folder)
            bare = time.perf_counter() - started
            report = library.index(folder, crops=proposer)
            found = evaluate(library, load_judgements(library, truth)).to_json()
            small = wordsight.create(work / f"{proposer}-plain.lib", model)
            small.index(part, crops=proposer)
            on_plain = evaluate(small, load_judgements(small, "labels")).to_json()
            answer["proposers"][proposer] = {
                "scenes": found,
                "plain": on_plain,
                "crops": report.crops.to_json() if report.crops else None,
                "images_per_second": {
                    "without": options.scenes / bare,
                    "with": options.scenes / report.seconds,
                },
                "spearman_views_rank": {"scenes": rank_of_views(library, queries)},
            }
            if options.data:
                photos = wordsight.create(work / f"{proposer}-photos.lib", model)
                photos.index(options.data / "coco-captions" / "images.tar", crops=proposer)
                spearman = answer["proposers"][proposer]["spearman_views_rank"]
                spearman["photographs"] = rank_of_views(photos, queries)
    finish(options, answer)
    for proposer, facts in answer["proposers"].items():
        print(f"\n{proposer}: {facts['crops']}")
        rate = facts["images_per_second"]
        print(f"indexing: {rate['without']:.0f} images/s without crops, {rate['with']:.1f} with")
        for title, key in ((f"{options.scenes} scenes", "scenes"), ("plain images", "plain")):
            print(f"{title:<24} {'mAP':>22}  {'recall@1':>9} {'recall@10':>9} {'MRR':>7}")
            for name, values in facts[key]["methods"].items():
                low, high = facts[key]["intervals"][name]["map"]
                print(
                    f"  {name:<22} {values['map']:.3f} [{low:.3f}, {high:.3f}]  "
                    f"{values['recall@1']:>9.3f} {values['recall@10']:>9.3f} {values['mrr']:>7.3f}"
                )
        for title, kinds in facts["spearman_views_rank"].items():
            for kind, rho in kinds.items():
                print(
                    f"Spearman's rho of views and rank, {title}, by {kind}: {rho['each']:+.3f} "
                    f"(of the mean rank: {rho['mean rank']:+.3f})"
                )
            if not kinds:
                print(f"all {title} have the same number of views")


if __name__ == "__main__":
    main()
