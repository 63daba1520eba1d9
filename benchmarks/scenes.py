"""Crop-aware retrieval of small objects: CIFAR-10 test images pasted on larger backgrounds.

    python -m benchmarks.scenes [--scenes 400] [--crops starter-maskrcnn,tiles] [--json]

The scenes are those of :mod:`wordsight.scenes`. Ten class names are the queries; relevant are the
scenes that hold the class. One library a proposer is
made with the starter CLIP, and each is measured without crops, with max fusion of raw scores, and
with the normalised scores; intervals are 95 %, by bootstrap over the queries.

Then, what crops must not do: on plain CIFAR-10 test images nothing may be lost, and with random
queries the rank of an image must not go with its number of views (Spearman's rho).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks import machine
from wordsight.evaluate import evaluate, load_judgements
from wordsight.scenes import write_scenes
from wordsight.sources import cifar10


def rank_of_views(library: wordsight.Library, queries: int = 500) -> float:
    """Spearman's rho of the images' mean rank over random queries (by z) and their view counts."""
    snapshot = library.store.snapshot()
    counts = np.diff(np.append(snapshot.starts, len(snapshot.vectors)))
    rng = np.random.default_rng(0)
    # Random directions of the text space: mixtures of the bank's phrases, which no image is about.
    _, bank = library.store.bank()
    mixed = rng.dirichlet(np.full(len(bank), 0.02), queries).astype(np.float32) @ bank
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    z = (snapshot.fuse(mixed @ snapshot.vectors.T) - snapshot.mean) / snapshot.sd
    mean_rank = np.argsort(np.argsort(-z, axis=1), axis=1).mean(axis=0)
    return float(np.corrcoef(_ranks(mean_rank), _ranks(counts))[0, 1])


def _ranks(values: Any) -> Any:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--plain", type=int, default=2000, help="plain CIFAR-10 test images")
    parser.add_argument("--crops", default="starter-maskrcnn,tiles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the scenes here, to look at")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = wordsight.load_model("starter")
    answer: dict[str, Any] = {"machine": machine.describe(), "proposers": {}}
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
                "spearman_views_rank": rank_of_views(library),
            }
    if options.json:
        print(json.dumps(answer))
        return
    print(machine.line())
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
        print(f"Spearman's rho of views and rank: {facts['spearman_views_rank']:+.3f}")


if __name__ == "__main__":
    main()
