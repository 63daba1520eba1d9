"""Make the starter Mask R-CNN.

    python -m training.maskrcnn all --data DATA --teacher TEACHER --out OUT [--photographs DIR]

Stages, each of which can be run alone: `targets` (gather pictures, run the teacher over them),
`train`, `export` (OUT/model.onnx and OUT/detector.json, with calibrated scores), `evaluate` (the
calibration on DATA's annotated val2017 photographs, and scenes with CIFAR-10 test images; for
recall on COCO see benchmarks/proposal_recall.py). DATA is the folder of the data packs, TEACHER the
folder of the teacher's model.onnx; --photographs names folders of further JPEGs to learn from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m training.maskrcnn", description=__doc__)
    parser.add_argument("stage", choices=["targets", "train", "export", "evaluate", "all"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data packs")
    parser.add_argument("--teacher", type=Path, help="folder of the teacher")
    parser.add_argument("--out", type=Path, help="folder for model.onnx and detector.json")
    parser.add_argument("--work", type=Path, default=Path("training/work/maskrcnn"))
    parser.add_argument("--photographs", type=Path, action="append", default=[])
    parser.add_argument("--objects", type=int, default=1200, help="pictures of Caltech-101")
    parser.add_argument("--minutes", type=float, default=1e9, help="train no longer than this")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--side", type=int, default=320, help="pixels of a training scene")
    parser.add_argument("--batch", type=int, default=8, help="scenes a step")
    parser.add_argument("--start", type=Path, help="weights to go on from (.pt)")
    parser.add_argument("--only", default="", help="train layers of this name alone")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short-side", type=int, default=416, help="pixels that the graph sees")
    args = parser.parse_args()

    def need(name: str) -> Path:
        if getattr(args, name) is None:
            parser.error(f"stage {args.stage} needs --{name}")
        return getattr(args, name)

    if args.stage in ("targets", "all"):
        from training.maskrcnn.targets import make_targets

        make_targets(args.data, need("teacher"), args.work, args.photographs, args.objects)
    if args.stage in ("train", "all"):
        from training.maskrcnn.train import train

        train(
            args.work, args.data, args.work, minutes=args.minutes, steps=args.steps,
            side=args.side, size=args.batch, rate=args.rate, seed=args.seed, start=args.start,
            only=args.only,
        )  # fmt: skip
    if args.stage in ("export", "all"):
        from training.maskrcnn.export import export

        export(args.work / "model.pt", need("out"), args.data, args.short_side)
    if args.stage in ("evaluate", "all"):
        from training.maskrcnn.evaluate import evaluate

        print(json.dumps(evaluate(args.data, need("out")), indent=1))


if __name__ == "__main__":
    main()
