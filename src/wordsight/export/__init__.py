"""Export: a checkpoint of PyTorch becomes a model directory, and is held against the original.

CLIP models of ``open_clip`` and ``transformers`` become a directory in open_clip's layout
(:mod:`wordsight.models.clip.layouts`), a Mask R-CNN of ``torchvision`` one in that of
:mod:`wordsight.models.maskrcnn`. This is the only component that imports PyTorch (the extra
``export``); running what it writes does not.

After the export the directory is opened as any other and compared with the original on a few odd
images and prompts, from the pixels and the letters on: preprocessing, tokenizer and towers, or
boxes, scores and masks. Beyond a tolerance nothing is written.

Checkpoints are read with ``weights_only=True`` or from safetensors: nothing in them is executed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError
from wordsight.export.checkpoint import KINDS, find
from wordsight.export.clip import export_clip
from wordsight.export.compare import CLIP_TOLERANCE, DETECTOR_TOLERANCE, PROMPTS, Done
from wordsight.export.detector import export_detector
from wordsight.export.writing import drafted, quiet
from wordsight.paths import expanded

__all__ = ["CLIP_TOLERANCE", "DETECTOR_TOLERANCE", "KINDS", "PROMPTS", "Export", "export"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, and how far it is from the original."""

    path: Path
    kind: str
    """"open_clip", "transformers" or "maskrcnn"."""
    source: str
    differences: dict[str, float]
    """The greatest found: ``images`` and ``texts`` of a CLIP model (Euclidean distance of unit
    vectors); ``boxes`` (1 - IoU), ``scores`` and ``masks`` (a mask's mean) of a detector."""
    tolerance: float
    compared: dict[str, int]
    """On how many images, prompts or boxes."""
    facts: dict[str, Any]
    """``dim``, ``image_size``, ``context``, ``logit_scale``, ``logit_bias`` of a CLIP model,
    ``labels`` (how many names) of a detector."""
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as what `json.dumps` takes."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "source": self.source,
            "differences": self.differences,
            "tolerance": self.tolerance,
            "compared": self.compared,
            **self.facts,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 2),
        }


def export(
    source: str | Path,
    out: str | Path,
    *,
    pretrained: str | Path | None = None,
    kind: str = "auto",
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Export:
    """Write a checkpoint as a model directory and compare it with the original.

    Args:
        source: a folder of ``open_clip`` (``open_clip_config.json`` and weights) or of
            ``transformers`` (``config.json`` and weights); a hub repository id ("owner/name", also
            as "hf-hub:owner/name") with such files; the name of an architecture of open_clip
            ("ViT-B-32") or of torchvision ("maskrcnn_resnet50_fpn"), with ``pretrained``; or the
            file of a torchvision Mask R-CNN's weights (.pth, .pt, .safetensors).
        out: the directory to write; must not be there, or be empty. Appears complete or not at all.
        pretrained: the weights of an architecture: a file, or a tag that the library knows.
        kind: "open_clip", "transformers" or "maskrcnn" where "auto" guesses wrongly.
        tolerance: the difference that is accepted; :data:`CLIP_TOLERANCE` or
            :data:`DETECTOR_TOLERANCE` if not given.
        progress: called with (steps done, steps) as the work goes on.

    Raises:
        ModelError: PyTorch or another package of the extra is missing; the source is not there or
            is none of these; its parts do not fit the layout; the directory cannot be written; or
            the difference is too great.
        HubError: the source could not be fetched.
    """
    started = time.perf_counter()
    step = _steps(progress)
    out = expanded(out).absolute()
    with drafted(out) as draft:
        kind, place = find(str(source), kind, pretrained is not None)
        with quiet(draft / "cache"):
            if kind == "maskrcnn":
                done = export_detector(place, pretrained, draft, step)
            else:
                name = expanded(str(source).rpartition(":")[2]).resolve().name
                done = export_clip(kind, place, pretrained, name, draft, step)
        if tolerance is None:
            tolerance = DETECTOR_TOLERANCE if kind == "maskrcnn" else CLIP_TOLERANCE
        _check(done, tolerance, source)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Export(
        path=out,
        kind=kind,
        source=str(source),
        differences=done.differences,
        tolerance=tolerance,
        compared=done.compared,
        facts=done.facts,
        bytes=size,
        seconds=time.perf_counter() - started,
    )


def _check(done: Done, tolerance: float, source: str | Path) -> None:
    # Written so that a NaN is refused too.
    if not all(value <= tolerance for value in done.differences.values()):
        told = ", ".join(f"{what} {value:.2g}" for what, value in done.differences.items())
        raise ModelError(
            f"{source}: what was exported differs from the original by more than "
            f"{tolerance:g} ({told}{done.hint}); nothing was written"
        )


def _steps(progress: Progress | None, total: int = 4) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    if progress:
        progress(0, total)
    return step
