"""Figures of photographs that no head has seen: ``python -m training.starter.cross_validate``.

Five heads, each trained without a fifth of the COCO photographs, on features of one frozen
backbone. With ``--backbone lite2`` (the published ImageNet weights) nothing measured was trained
on; the backbone of a training run has seen all of these photographs with their captions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from . import features, images, prompts, train_head
from .backbone import KINDS, imagenet
from .figures import TEMPLATE, coco_figures
from .head import Goals

FOLDS = 5


class Texts:
    """The text tower of a work folder."""

    def __init__(self, work: Path) -> None:
        self.encode = prompts.text_tower(work)

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
    args = parser.parse_args()
    name = args.backbone
    backbone = imagenet(name) if name in KINDS else train_head.load_backbone(Path(name))
    known = features.build(backbone, Path(args.data))
    goals = Goals.load(args.work, torch.device("cpu"))
    records = images.coco_records(Path(args.data))
    part = torch.arange(len(records)) % FOLDS
    seen = torch.zeros(len(records), goals.words.shape[1])
    for fold in range(FOLDS):
        head = train_head.train(known, backbone._fc, goals, torch.where(part != fold)[0])
        held = part == fold
        seen[held] = train_head.embed(head, backbone._fc, known["coco"][held])
    for key, value in coco_figures(seen.numpy(), records, Texts(args.work)).items():
        print(f"{key:24} {value}")


if __name__ == "__main__":
    main()
