"""CLIP: images and texts as unit vectors in one space, from a model directory."""

from __future__ import annotations

from wordsight.models.clip.model import ClipModel

__all__ = ["ClipModel"]
