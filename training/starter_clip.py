"""Train the starter CLIP: ``python -m training.starter_clip --data DIR --out DIR``.

Steps, in order: ``table`` (the teacher's vectors, and pictures), ``text`` (the text tower),
``vision`` (the image tower, aligned with the text tower), ``export`` (ONNX files and settings).
Every step leaves its result in ``--work`` and goes on from there when started again.
``--quick`` runs all of it in minutes, on a small part of the data: to see that it works, the model
is no good.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

STEPS = ("table", "text", "vision", "export")
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORDSIGHT_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="default: training/work/starter[-quick]")
    parser.add_argument("--bank", type=Path, default=HERE.parent / "src" / "wordsight" / "bank.txt")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--schedule",
        choices=("auto", "long", "short"),
        default="auto",
        help="of the image tower: the shipped model's, or one of half the time; "
        "auto: long where the processor computes in bfloat16",
    )
    parser.add_argument("--quick", action="store_true", help="a trial: little data, few steps")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data (or WORDSIGHT_DATA) is needed")
    steps = args.steps.split(",")
    if unknown := set(steps) - set(STEPS):
        parser.error(f"--steps: no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    every = 17 if args.quick else 1  # the shards take the ten classes in turn
    args.work = args.work or HERE / "work" / ("starter-quick" if args.quick else "starter")
    args.work.mkdir(parents=True, exist_ok=True)

    import torch

    torch.set_num_threads(args.threads)
    if "table" in steps and not (args.work / "table.json").exists():
        from .starter import table

        table.build(args.data, args.work, args.bank, every)
    if "text" in steps:
        from .starter import train_text

        text_plan = train_text.TextPlan(every=every)
        if args.quick:
            text_plan = replace(text_plan, steps=60, focus=40)
        train_text.train(args.work, text_plan)
    if "vision" in steps:
        from .starter import precision, prompts, train_vision

        if not (args.work / "prompts.npz").exists():
            prompts.build(args.work, prompts.text_tower(args.work))
        vision_plan = train_vision.VisionPlan(every=every)
        long = args.schedule == "long" or (
            args.schedule == "auto" and precision.fast() is torch.bfloat16
        )
        if not long:
            vision_plan = replace(
                vision_plan, cycles=train_vision.SHORT, pruned=train_vision.SHORT_PRUNED
            )
        if args.quick:  # a turn of each kind: small pictures, large ones, mixed ones, unmixed ones
            cycles = (train_vision.Cycle(2, small_epochs=1),
                      train_vision.Cycle(2, rate=0.4, mixed_epochs=1))  # fmt: skip
            vision_plan = replace(vision_plan, cycles=cycles)
        train_vision.train(args.data, args.work, vision_plan)
    if "export" in steps:
        from .starter import export

        export.write(args.work, args.out)


if __name__ == "__main__":
    main()
