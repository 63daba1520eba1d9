"""Take up an exported starter again: ``model.onnx`` -> the network, ready for more training."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from training.maskrcnn.boxes import decode, grid_anchors
from training.maskrcnn.model import BOX_CELLS, MASK_CELLS, StarterMaskRCNN, roi_align

Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def restore(path: Path, pixels: Tensor) -> StarterMaskRCNN:
    """Read the weights of a graph that :mod:`training.maskrcnn.export` wrote.

    The export folds batch normalisation into the convolutions. It is put back with the statistics
    of `pixels` (normalised scenes [B, 3, H, W]), so that the network computes what the graph does
    and can be trained on. The two layers that only training needs start anew.
    """
    model = StarterMaskRCNN().eval()
    graph = onnx.load(str(path)).graph
    stored = [
        torch.from_numpy(numpy_helper.to_array(t).astype("float32"))
        for t in graph.initializer
        if t.data_type == TensorProto.FLOAT16
    ]
    layers = list(_layers(model))
    if len(stored) != 2 * len(layers):
        raise ValueError(f"{path}: {len(stored)} weights, expected {2 * len(layers)}")
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {}
    hooks = []
    with torch.no_grad():
        for (layer, norm), weight, bias in zip(layers, stored[::2], stored[1::2], strict=True):
            layer.weight.copy_(weight)
            if norm is None:
                layer.bias.copy_(bias)
                continue
            norm.running_var.fill_(1 - norm.eps)
            norm.bias.copy_(bias)
            sums[norm] = []
            hooks.append(norm.register_forward_pre_hook(lambda m, x: sums[m].append(_moments(*x))))
        for part in pixels.split(8):
            _run(model, part)
        for hook in hooks:
            hook.remove()
        for norm, seen in sums.items():
            mean, square = torch.stack(seen).mean(0)
            var = square - mean.square()
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.weight.copy_(torch.sqrt(var + norm.eps))
            norm.bias.add_(mean)
    return model


def _moments(x: Tensor) -> Tensor:
    """Mean and mean square of each channel: [2, C]."""
    flat = x.transpose(0, 1).flatten(1)
    return torch.stack([flat.mean(1), flat.square().mean(1)])


def _layers(model: StarterMaskRCNN) -> list[tuple[Layer, nn.BatchNorm2d | None]]:
    """The layers with weights in the order in which the export writes them, with their norms."""
    parts = [
        *(model.c3, model.c4, model.c5, model.coarse, model.down, model.across, model.fine),
        *(model.rpn, model.rpn_score, model.rpn_box),
        *(model.box, model.box_fc, model.box_score, model.box_delta),
        *(model.mask, model.mask_up, model.mask_out),
    ]
    found: list[tuple[Layer, nn.BatchNorm2d | None]] = []
    for part in parts:
        for module in part.modules():
            if isinstance(module, Layer):
                found.append((module, None))
            elif isinstance(module, nn.BatchNorm2d):
                found[-1] = (found[-1][0], module)
    return found


def _run(model: StarterMaskRCNN, pixels: Tensor) -> None:
    """One pass through all parts, over the best thirty boxes of each scene."""
    coarse, fine = model.features(pixels)
    logits, deltas = model.proposals(coarse)
    b, _, h, w = logits.shape
    at = logits.permute(0, 2, 3, 1).reshape(b, -1).topk(30, 1).indices
    deltas = deltas.reshape(b, 15, 4, h, w).permute(0, 3, 4, 1, 2).reshape(b, -1, 4)
    anchors = grid_anchors(h, w).reshape(-1, 4)
    boxes = decode(deltas.gather(1, at[..., None].expand(-1, -1, 4)), anchors[at])
    limits = torch.tensor([w, h, w, h]) * 16.0
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    model.box_head(roi_align(fine, boxes, BOX_CELLS, 8))
    model.mask_head(roi_align(fine, boxes, MASK_CELLS, 8))
