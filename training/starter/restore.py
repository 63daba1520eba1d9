"""Read an image tower back from the ONNX file that :mod:`export` wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from .backbone import KINDS
from .head import ImageTower


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights by name as floats; those of 8 bits multiplied by their scales."""
    graph = onnx.load(str(path)).graph
    stored = {
        t.name.removesuffix("_16"): torch.from_numpy(numpy_helper.to_array(t).astype(np.float32))
        for t in graph.initializer
    }
    whole = {n.removesuffix("_8"): values for n, values in stored.items() if n.endswith("_8")}
    return stored | {n: values * stored[f"{n}_scale"] for n, values in whole.items()}


def image_tower(directory: Path) -> ImageTower:
    """The image tower of a model directory. The scale of captions, which is not in it, is new."""
    weights = _weights(directory / "visual" / "model.onnx")
    for kind in KINDS:
        tower = ImageTower.empty(kind)
        shapes = {n: v.shape for n, v in tower.state_dict().items() if v.dim()}
        if all(n in weights and weights[n].shape == shape for n, shape in shapes.items()):
            break
    else:
        raise SystemExit(f"{directory} holds no image tower of this recipe.")
    tower.load_state_dict({name: weights[name] for name in shapes}, strict=False)
    settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tower.head.word_scale.data.fill_(math.log(settings["logit_scale"]))
    return tower.eval()
