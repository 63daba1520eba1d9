"""Figures of photographs that no head has seen: ``python -m training.starter.cross_validate``.

Five heads by the recipe of the shipped one, each trained without a fifth of the COCO pack's
photographs, on features of one frozen trunk. With ``--backbone lite2`` (the published ImageNet
weights) nothing measured was trained on; the backbone of a training run may have seen all of these
photographs with their captions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from . import features, images, prompts, train_head
from .figures import TEMPLATE, coco_figures
from .head import Goals

FOLDS = 5


class Texts:
    """The text tower of a work folder or a model directory."""

    def __init__(self, place: Path) -> None:
        self.encode = prompts.text_tower(place)

    def read(self, texts: Sequence[str]) -> prompts.Vectors:
        """Vectors of texts."""
        return self.encode(texts)

    def words(self, words: Sequence[str]) -> prompts.Vectors:
        """Vectors of words in the template of all measurements."""
        return self.read([TEMPLATE.format(w) for w in words])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORDSIGHT_DATA"))
    parser.add_argument("--work", type=Path, required=True, help="of a training run")
    parser.add_argument("--backbone", default="lite2", help="lite0, lite2 or vision.pt of a run")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], metavar="DIR")
    parser.add_argument("--detector", type=Path, metavar="DIR", help="as in the run")
    parser.add_argument("--textual", type=Path, help="a model directory, as in the run")
    args = parser.parse_args()
    trunk = train_head.load(args.backbone, args.work)
    known = features.build(trunk, args.data, args.photographs, detector=args.detector)
    goals = Goals.load(args.work, torch.device("cpu"))
    records = images.coco_records(args.data)
    # Further photographs are in no part: every head is trained on them.
    part = torch.full((len(known["whole"]),), FOLDS)
    part[: len(records)] = torch.arange(len(records)) % FOLDS
    seen = torch.zeros(len(records), goals.words.shape[1])
    for fold in range(FOLDS):
        head = train_head.train(known, trunk.classify, goals, torch.where(part != fold)[0])
        held = torch.where(part == fold)[0]
        seen[held] = train_head.embed(head, trunk.classify, known["whole"][held])
    for key, value in coco_figures(seen.numpy(), records, Texts(args.textual or args.work)).items():
        print(f"{key:24} {value}")


if __name__ == "__main__":
    main()
