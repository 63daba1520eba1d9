"""Make the starter Mask R-CNN.

    python -m training.maskrcnn all --data DATA --teacher TEACHER --out OUT [--work WORK]

Stages, each of which can be run alone: `targets` (compose scenes, run the teacher over them),
`train`, `export` (OUT/model.onnx and OUT/detector.json), `evaluate` (on scenes with CIFAR-10 test
images; for COCO see benchmarks/proposal_recall.py). DATA is the folder of the data packs, TEACHER
the folder of the teacher's model.onnx.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m training.maskrcnn", description=__doc__)
    parser.add_argument("stage", choices=["targets", "train", "export", "evaluate", "all"])
    parser.add_argument("--data", type=Path, help="folder of the data packs")
    parser.add_argument("--teacher", type=Path, help="folder of the teacher")
    parser.add_argument("--out", type=Path, help="folder for model.onnx and detector.json")
    parser.add_argument("--work", type=Path, default=Path("training/work/maskrcnn"))
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--part", default="0/1", help="i/n: make every n-th scene only")
    parser.add_argument("--minutes", type=float, default=1e9, help="train no longer than this")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to go on from (.pt or .onnx)")
    parser.add_argument("--batch", type=int, default=8, help="scenes a step and worker")
    parser.add_argument("--rate", type=float, default=3e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    def need(name: str) -> Path:
        if getattr(args, name) is None:
            parser.error(f"stage {args.stage} needs --{name}")
        return getattr(args, name)

    if args.stage in ("targets", "all"):
        from training.maskrcnn.targets import make_targets

        make_targets(need("data"), need("teacher"), args.work / "targets", args.scenes, args.part)
    if args.stage in ("train", "all"):
        from training.maskrcnn.train import train

        train(
            args.work / "targets",
            args.work,
            minutes=args.minutes,
            steps=args.steps,
            workers=args.workers,
            seed=args.seed,
            start=args.start,
            batch=args.batch,
            rate=args.rate,
        )
    if args.stage in ("export", "all"):
        from training.maskrcnn.export import export

        export(args.work / "model.pt", need("out"))
    if args.stage in ("evaluate", "all"):
        from training.maskrcnn.evaluate import evaluate

        print(json.dumps(evaluate(need("data"), need("out"), args.teacher)))


if __name__ == "__main__":
    main()
