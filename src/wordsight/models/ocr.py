"""Reading the text in images: PP-OCR's models by way of rapidocr, on ONNX Runtime.

The models are inside rapidocr's wheel (extra ``ocr``), which is told where they are, so that it has
no reason to ask the network for any.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

_SURE = 0.6
"""Lines that are read with less confidence are left out."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; ``box`` is x0, y0, x1, y1 in the picture's pixels, ``score`` 0 to 1."""

    text: str
    score: float
    box: tuple[float, float, float, float]


class Reader:
    """Finds and reads lines of text. Raises ModelError where the extra is not installed."""

    def __init__(self) -> None:
        self._engine, self.name = _engine()

    def read(self, image: Image) -> list[Line]:
        """The lines in an RGB picture, from top to bottom."""
        import numpy as np

        found = self._engine(np.asarray(image)[:, :, ::-1])  # as OpenCV orders colours
        if not found.txts:
            return []
        lines = []
        for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True):
            (x0, y0), (x1, y1) = np.min(corners, axis=0), np.max(corners, axis=0)
            box = (float(x0), float(y0), float(x1), float(y1))
            lines.append(Line(" ".join(text.split()), float(score), box))
        return [line for line in lines if line.text and line.score >= _SURE]


@lru_cache(maxsize=1)
def _engine() -> tuple[Any, str]:
    try:
        import rapidocr
    except ImportError:
        raise ModelError(
            'reading text in images needs rapidocr; install it with: pip install "wordsight[ocr]"'
        ) from None
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it speaks of what it does not find
    files = sorted((Path(rapidocr.__file__).parent / "models").glob("*.onnx"))
    parts = {
        key: file
        for key, word in (("Det", "_det_"), ("Rec", "_rec_"), ("Cls", "_cls_"))
        for file in files
        if word in file.name
    }
    if len(parts) < 3:
        raise ModelError(
            "this version of rapidocr comes without its models; install the one that wordsight is "
            'tested with: pip install "wordsight[ocr]"'
        )
    params = {f"{key}.model_path": str(file) for key, file in parts.items()}
    engine = rapidocr.RapidOCR(params={**params, "Global.log_level": "error"})
    return engine, parts["Rec"].stem
