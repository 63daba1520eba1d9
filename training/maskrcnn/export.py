"""Write the trained network as one ONNX graph of standard operators, and describe it.

The graph is written node by node: batch normalisation is folded into the convolutions, weights
are stored as float16 and cast when the graph is loaded, and everything between the maps and the
final boxes (anchors, decoding, TopK, NonMaxSuppression, RoiAlign) is part of the graph, so that
any height and width (multiples of 32, as detector.json says) work.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.maskrcnn.boxes import MAX_LOG_SCALE, STRIDE, cell_anchors
from training.maskrcnn.model import (
    BOX_CELLS,
    BOX_SCALE,
    MASK_CELLS,
    Block,
    StarterMaskRCNN,
)

CANDIDATES = 1500  # anchors that are decoded
PROPOSALS = 120  # of these, boxes that the box head sees
PROPOSAL_NMS = 0.7
REFINED = 60  # of these, boxes that it sees a second time
REFINED_NMS = 0.6
DETECTIONS = 30
DETECTION_NMS = 0.5
LEAST_SCORE = 0.05

DESCRIPTION = {
    "name": "starter-maskrcnn",
    "image": {
        "channels": "RGB",
        "scale": 1 / 255,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "short_side": 320,
        "long_side": 640,
        "multiple": 32,
        "batch_axis": False,
    },
    "input": "image",
    "outputs": {"boxes": "boxes", "scores": "scores", "labels": None, "masks": "masks"},
    "labels": None,
    "mask_frame": "box",
    "licence": "MIT",
    "source": "wordsight, training/maskrcnn",
}


class Writer:
    """A graph in the making: every method adds nodes and gives the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.stored: dict[nn.Module, tuple[str, str]] = {}  # of a layer that is used twice

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes) -> str:
        """Add a node with one result."""
        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def ops(self, kind: str, count: int, *inputs: str, **attributes) -> list[str]:
        """Add a node with `count` results."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def const(self, value, dtype=np.int64) -> str:
        """Add a constant."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weight(self, value: Tensor) -> str:
        """Add a constant that is stored in half precision."""
        half = self.const(value.detach().numpy(), np.float16)
        return self.op("Cast", half, to=TensorProto.FLOAT)

    def both(self, layer: nn.Module, weight: Tensor, bias: Tensor) -> tuple[str, str]:
        """Weight and bias of a layer, stored once however often it is used."""
        if layer not in self.stored:
            self.stored[layer] = (self.weight(weight), self.weight(bias))
        return self.stored[layer]

    def conv(self, x: str, layer: nn.Conv2d, norm: nn.BatchNorm2d | None, act: bool) -> str:
        """Add a convolution with its normalisation folded in."""
        weight, bias = layer.weight, layer.bias
        if norm is not None:
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = weight * gain[:, None, None, None]
            bias = norm.bias - norm.running_mean * gain
        weight, bias = self.both(layer, weight, bias)
        k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
        x = self.op(
            "Conv", x, weight, bias,
            kernel_shape=[k, k], strides=[s, s], pads=[p, p, p, p],
        )  # fmt: skip
        return self.op("Relu", x) if act else x

    def module(self, x: str, module: nn.Module) -> str:
        """A Block, or a Sequential of convolutions, norms, rectifiers and the like."""
        if isinstance(module, Block):
            y = self.module(self.module(x, module.first), module.second)
            return self.op("Relu", self.op("Add", x, y))
        if isinstance(module, nn.Conv2d):
            return self.conv(x, module, None, False)
        assert isinstance(module, nn.Sequential)
        layers = list(module)
        if isinstance(layers[0], nn.Conv2d):
            return self.conv(x, layers[0], layers[1], len(layers) == 3)
        for layer in layers:
            x = self.module(x, layer)
        return x

    def linear(self, x: str, layer: nn.Linear) -> str:
        """Add a fully connected layer."""
        return self.op("Gemm", x, *self.both(layer, layer.weight, layer.bias), transB=1)

    def double(self, x: str) -> str:
        """Double height and width."""
        scales = self.const([1, 1, 2, 2], np.float32)
        return self.op(
            "Resize", x, "", scales,
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def columns(self, x: str) -> list[str]:
        """[N, 4] -> four times [N, 1]."""
        return self.ops("Split", 4, x, self.const([1, 1, 1, 1]), axis=1)

    def decode(self, deltas: str, frames: str) -> str:
        """Boxes [N, 4] from deltas and frames, as in boxes.py."""
        dx, dy, dw, dh = self.columns(deltas)
        x0, y0, x1, y1 = self.columns(frames)
        half, limit = self.const(0.5, np.float32), self.const(MAX_LOG_SCALE, np.float32)
        sides = []
        for low, high, shift, log in ((x0, x1, dx, dw), (y0, y1, dy, dh)):
            size = self.op("Sub", high, low)
            centre = self.op("Mul", self.op("Add", low, high), half)
            centre = self.op("Add", centre, self.op("Mul", shift, size))
            scale = self.op("Exp", self.op("Min", log, limit))
            reach = self.op("Mul", self.op("Mul", size, scale), half)
            sides.append((self.op("Sub", centre, reach), self.op("Add", centre, reach)))
        (a, c), (b, d) = sides
        return self.op("Concat", a, b, c, d, axis=1)

    def inside(self, boxes: str, limits: str) -> str:
        """Clip boxes to the image."""
        zero = self.const(0, np.float32)
        return self.op("Min", self.op("Max", boxes, zero), limits)

    def suppressed(self, boxes: str, scores: str, most: int, overlap: float, least: float) -> str:
        """Places [K] of the boxes [N, 4] that non-maximum suppression keeps, best first."""
        kept = self.op(
            "NonMaxSuppression",
            self.op("Unsqueeze", boxes, self.const([0])),
            self.op("Unsqueeze", scores, self.const([0, 1])),
            self.const([most]),
            self.const([overlap], np.float32),
            self.const([least], np.float32),
        )
        return self.op("Gather", kept, self.const(2), axis=1)

    def roi_align(self, features: str, boxes: str, cells: int, stride: int) -> str:
        """Pool cells x cells bins of every box, as model.py does."""
        count = self.op("Slice", self.op("Shape", boxes), self.const([0]), self.const([1]))
        zeros = helper.make_tensor("value", TensorProto.INT64, [1], [0])
        image = self.op("ConstantOfShape", count, value=zeros)
        return self.op(
            "RoiAlign", features, boxes, image,
            coordinate_transformation_mode="half_pixel", mode="avg", output_height=cells,
            output_width=cells, sampling_ratio=2, spatial_scale=1 / stride,
        )  # fmt: skip


def build(model: StarterMaskRCNN) -> onnx.ModelProto:
    """The whole graph: image [3, H, W] -> boxes [N, 4], scores [N], masks [N, 1, 28, 28]."""
    w = Writer()
    x = w.op("Unsqueeze", "image", w.const([0]))
    c3 = w.module(x, model.c3)
    c4 = w.module(c3, model.c4)
    c5 = w.double(w.module(c4, model.c5))
    coarse = w.module(w.op("Add", c4, c5), model.coarse)
    down = w.double(w.module(coarse, model.down))
    fine = w.module(w.op("Add", w.module(c3, model.across), down), model.fine)

    # Proposals. Maps [1, 15 * n, h, w] -> rows [h * w * 15, n], in the order of the anchors.
    x = w.module(coarse, model.rpn)
    logits = w.op("Transpose", w.module(x, model.rpn_score), perm=[0, 2, 3, 1])
    logits = w.op("Reshape", logits, w.const([-1]))
    deltas = w.op("Transpose", w.module(x, model.rpn_box), perm=[0, 2, 3, 1])
    deltas = w.op("Reshape", deltas, w.const([-1, 4]))
    shape = w.op("Shape", coarse)
    zero, one = w.const(0), w.const(1)
    steps = {}
    for axis, place in (("y", 2), ("x", 3)):
        count = w.op("Gather", shape, w.const(place))
        numbers = w.op("Cast", w.op("Range", zero, count, one), to=TensorProto.FLOAT)
        steps[axis] = w.op("Mul", numbers, w.const(STRIDE, np.float32))
    y = w.op("Reshape", steps["y"], w.const([-1, 1]))
    x = w.op("Reshape", steps["x"], w.const([1, -1]))
    nothing = w.const(0, np.float32)
    y, x = w.op("Add", y, w.op("Mul", x, nothing)), w.op("Add", x, w.op("Mul", y, nothing))
    y, x = (w.op("Unsqueeze", v, w.const([2])) for v in (y, x))
    shifts = w.op("Concat", x, y, x, y, axis=2)
    shifts = w.op("Unsqueeze", shifts, w.const([2]))
    anchors = w.op("Add", shifts, w.const(cell_anchors().numpy(), np.float32))
    anchors = w.op("Reshape", anchors, w.const([-1, 4]))

    many = w.op("Min", w.op("Shape", logits), w.const([CANDIDATES]))
    top, places = w.ops("TopK", 2, logits, many, axis=0, largest=1, sorted=1)
    size = w.op("Cast", w.op("Shape", "image"), to=TensorProto.FLOAT)
    width, height = (w.op("Gather", size, w.const([i])) for i in (2, 1))
    limits = w.op("Concat", width, height, width, height, axis=0)
    boxes = w.decode(w.op("Gather", deltas, places), w.op("Gather", anchors, places))
    boxes = w.inside(boxes, limits)
    objectness = w.op("Sigmoid", top)
    kept = w.suppressed(boxes, objectness, PROPOSALS, PROPOSAL_NMS, 0.0)
    rois, objectness = w.op("Gather", boxes, kept), w.op("Gather", objectness, kept)

    # Boxes, twice: the head, given its own best boxes, corrects them (as in Cai and
    # Vasconcelos, "Cascade R-CNN", CVPR 2018, but with one set of weights).
    def refine(rois: str) -> tuple[str, str]:
        x = w.module(w.roi_align(fine, rois, BOX_CELLS, 8), model.box)
        x = w.op("Relu", w.linear(w.op("Flatten", x, axis=1), model.box_fc))
        score = w.op("Sigmoid", w.linear(x, model.box_score))
        delta = w.op("Div", w.linear(x, model.box_delta), w.const(BOX_SCALE, np.float32))
        return w.inside(w.decode(delta, rois), limits), w.op("Reshape", score, w.const([-1]))

    boxes, score = refine(rois)
    product = w.op("Mul", score, objectness)
    kept = w.suppressed(boxes, product, REFINED, REFINED_NMS, 0.0)
    boxes, score = refine(w.op("Gather", boxes, kept))
    product = w.op("Mul", score, w.op("Gather", product, kept))
    score = w.op("Pow", product, w.const(1 / 3, np.float32))  # the geometric mean of the three
    kept = w.suppressed(boxes, score, DETECTIONS, DETECTION_NMS, LEAST_SCORE)
    boxes = w.op("Gather", boxes, kept, out="boxes")
    w.op("Gather", score, kept, out="scores")

    # Masks
    x = w.module(w.roi_align(fine, boxes, MASK_CELLS, 8), model.mask)
    up = model.mask_up
    x = w.op(
        "ConvTranspose", x, w.weight(up.weight), w.weight(up.bias),
        kernel_shape=[2, 2], strides=[2, 2],
    )  # fmt: skip
    w.op("Sigmoid", w.module(w.op("Relu", x), model.mask_out), out="masks")

    def info(name, dims):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    graph = helper.make_graph(
        w.nodes,
        "starter-maskrcnn",
        [info("image", [3, "H", "W"])],
        [info("boxes", ["N", 4]), info("scores", ["N"]), info("masks", ["N", 1, 28, 28])],
        w.weights,
    )
    built = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8, producer_name="wordsight"
    )
    onnx.checker.check_model(built, full_check=True)
    return built


def export(weights: Path, out: Path) -> None:
    """Write out/model.onnx and out/detector.json from the weights of a training run."""
    model = StarterMaskRCNN().eval()
    model.load_state_dict(torch.load(weights))
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(build(model).SerializeToString())
    (out / "detector.json").write_text(json.dumps(DESCRIPTION, indent=2) + "\n")
