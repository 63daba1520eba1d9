"""Train the starter CLIP: ``python -m training.starter_clip --data DIR --out DIR``.

Steps, in order: ``table`` (the teacher's vectors, and pictures), ``text`` (the text tower),
``vision`` (the image tower, aligned with the text tower), ``export`` (ONNX files and settings).
Every step leaves its result in ``--work`` and goes on from there when started again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

STEPS = ("table", "text", "vision", "export")
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORDSIGHT_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "starter")
    parser.add_argument("--bank", type=Path, default=HERE.parent / "src" / "wordsight" / "bank.txt")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data (or WORDSIGHT_DATA) is needed")
    steps = args.steps.split(",")
    args.work.mkdir(parents=True, exist_ok=True)

    import torch

    torch.set_num_threads(args.threads)
    if "table" in steps and not (args.work / "table.json").exists():
        from .starter import table

        table.build(args.data, args.work, args.bank)
    if "text" in steps:
        from .starter import train_text

        train_text.train(args.work)
    if "vision" in steps:
        from .starter import prompts, train_vision

        if not (args.work / "prompts.npz").exists():
            prompts.build(args.work, prompts.text_tower(args.work))
        train_vision.train(args.data, args.work, train_vision.VisionPlan())
    if "export" in steps:
        from .starter import export

        export.write(args.work, args.out)


if __name__ == "__main__":
    main()
