"""Everything with weights: registry, hub, runtime, CLIP, Mask R-CNN."""

from __future__ import annotations

from pathlib import Path

from wordsight.errors import ModelError
from wordsight.models.clip import ClipModel

__all__ = ["ClipModel", "load_model"]

WEIGHTS = Path(__file__).parent / "weights"


def load_model(
    name: str | Path = "auto", *, runtime: str = "auto", precision: str = "auto"
) -> ClipModel:
    """Open a CLIP model by registry name, directory or hub repository id."""
    if name in ("auto", "starter"):
        return ClipModel(WEIGHTS / "starter", name="starter", runtime=runtime, precision=precision)
    if Path(name).is_dir():
        return ClipModel(name, runtime=runtime, precision=precision)
    raise ModelError(f"unknown model {str(name)!r}")
