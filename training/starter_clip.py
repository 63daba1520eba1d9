"""Train a CLIP for photographs: ``python -m training.starter_clip --data DIR --out DIR``.

Steps, in order: ``table`` (words, captions and the teacher's vectors), ``text`` (the text tower),
``prompts`` (what that tower makes of words and captions), ``vision`` (the backbone, aligned with
the text tower), ``thumbnail`` (a small network beside it, for pictures without detail), ``head``
(on the frozen features of both), ``export`` (ONNX files and settings). Every step leaves its result
in ``--work``.

``--textual DIR`` takes the text tower of a model directory in place of the step ``text``.
``--backbone`` takes the backbone of an earlier run, or the published lite0 or lite2 as it is, in
place of the step ``vision``; of a model directory also the network of thumbnails.
``--detector DIR`` lets the head learn from the objects that a Mask R-CNN of COCO finds in the
photographs too (the teacher of ``python -m training.maskrcnn``).
``--held-out`` shows neither step a photograph of the COCO pack: a model to judge on them.
``--quick`` runs all of it in minutes, on a small part of the data: to see that it works, the model
is no good.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

STEPS = ("table", "text", "prompts", "vision", "thumbnail", "head", "export")
HERE = Path(__file__).resolve().parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORDSIGHT_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="default: training/work/starter[-quick]")
    parser.add_argument("--bank", type=Path, default=HERE.parent / "src" / "wordsight" / "bank.txt")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cuda: 7 minutes on an H100 for vision")
    parser.add_argument("--minutes", type=float, help="of the step vision; default: 7, on CPUs 60")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], metavar="DIR",
                        help="further photographs: JPEGs and captions.json")  # fmt: skip
    parser.add_argument("--detector", type=Path, metavar="DIR",
                        help="a Mask R-CNN that names objects in photographs")  # fmt: skip
    parser.add_argument("--textual", type=Path, metavar="DIR", help="a model directory")
    parser.add_argument("--backbone", help="vision.pt, a model directory, lite0 or lite2")
    parser.add_argument("--held-out", action="store_true", help="without the COCO pack")
    parser.add_argument("--quick", action="store_true", help="a trial: little data, few steps")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data (or WORDSIGHT_DATA) is needed")
    args.steps = args.steps.split(",")
    if unknown := set(args.steps) - set(STEPS):
        parser.error(f"--steps: no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    args.work = args.work or HERE / "work" / ("starter-quick" if args.quick else "starter")
    return args


def main() -> None:
    """Run the steps that are asked for."""
    args = _arguments()
    steps = args.steps
    every = 17 if args.quick else 1  # the shards take the ten classes in turn
    args.work.mkdir(parents=True, exist_ok=True)

    import torch

    torch.set_num_threads(args.threads)
    if "table" in steps and not (args.work / "table.json").exists():
        from .starter import table

        table.build(args.data, args.work, args.bank, args.photographs, every)
    if "text" in steps and args.textual is None:
        from .starter import train_text

        text_plan = train_text.TextPlan(every=every)
        if args.quick:
            text_plan = replace(text_plan, steps=30, focus=20)
        train_text.train(args.work, text_plan)
    if "prompts" in steps and not (args.work / "prompts.npz").exists():
        from .starter import prompts

        prompts.build(args.work, prompts.text_tower(args.textual or args.work))
    if "vision" in steps and args.backbone is None:
        from .starter import train_vision

        plan = train_vision.VisionPlan() if args.device != "cpu" else train_vision.ON_CPU
        plan = replace(plan, every=every, minutes=args.minutes or plan.minutes)
        if args.quick:
            plan = replace(plan, minutes=0.5, batch=32, sizes=(64,))
        train_vision.train(args.data, args.work, plan, args.device, args.photographs, args.held_out)
    if "thumbnail" in steps and not (args.backbone and Path(args.backbone).is_dir()):
        from .starter import train_thumbnail

        small_plan = train_thumbnail.ThumbnailPlan(every=every)
        if args.quick:
            small_plan = replace(small_plan, epochs=2, small_epochs=1)
        train_thumbnail.train(args.data, args.work, small_plan, args.device)
    if "head" in steps:
        from .starter import train_head

        trunk = train_head.load(args.backbone or str(args.work / "vision.pt"), args.work)
        head_plan = train_head.HeadPlan(steps=100) if args.quick else None
        train_head.run(
            args.data, args.work, trunk, args.photographs, args.held_out, args.device, every,
            head_plan, args.detector,
        )  # fmt: skip
    if "export" in steps:
        from .starter import export

        export.write(args.work, args.out, args.textual)


if __name__ == "__main__":
    main()
