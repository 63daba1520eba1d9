"""Mask R-CNN detectors: a directory with ``model.onnx`` and ``detector.json``.

Method: He et al., "Mask R-CNN", ICCV 2017.
"""

from __future__ import annotations

from wordsight.models.maskrcnn.description import (
    DESCRIPTION,
    GRAPH,
    Description,
    ImageInput,
    read_description,
)
from wordsight.models.maskrcnn.detector import Detections, Detector, prepare
from wordsight.models.maskrcnn.places import (
    PREFERRED,
    STARTER,
    detectors_info,
    load_detector,
    registry,
)

__all__ = [
    "DESCRIPTION",
    "GRAPH",
    "PREFERRED",
    "STARTER",
    "Description",
    "Detections",
    "Detector",
    "ImageInput",
    "detectors_info",
    "load_detector",
    "prepare",
    "read_description",
    "registry",
]
