"""Write the trained network as one ONNX graph of standard operators, and describe it.

The graph is written node by node: batch normalisation is folded into the convolutions, large
weights are kept in 8 bits with a scale a channel and the others in 16 (they become float32 when
the graph is loaded), and everything between the maps and the final boxes (cells, decoding, TopK,
NonMaxSuppression, RoiAlign) is part of the graph, so that any height and width (multiples of 32,
as detector.json says) work.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.maskrcnn.boxes import MAX_LOG_SCALE, STRIDES
from training.maskrcnn.calibrate import fit, judge
from training.maskrcnn.model import (
    BOX_CELLS,
    BOX_SCALE,
    CLASSES,
    FINE,
    FINE_AT,
    MASK_CELLS,
    MIDDLE_AT,
    StarterMaskRCNN,
)
from training.maskrcnn.pictures import category_names, coco
from training.starter.backbone import MEAN, STD
from training.starter.export import halve, quantise

CANDIDATES = 800  # cells that are decoded
PROPOSALS = 100  # of these, boxes that the box head sees
PROPOSAL_NMS = 0.7
REFINED = 100  # of these, boxes that it sees a second time
REFINED_NMS = 0.6
DETECTIONS = 30
DETECTION_NMS = 0.5
LEAST_SCORE = 0.01
NAMED = 0.5  # a name is told where it is at least so likely


def description(names: list[str], short_side: int) -> dict:
    """What detector.json says."""
    return {
        "name": "starter-maskrcnn",
        "image": {
            "channels": "RGB", "scale": 1 / 255, "mean": [MEAN] * 3, "std": [STD] * 3,
            "short_side": short_side, "long_side": 2 * short_side, "multiple": 32,
            "batch_axis": False,
        },
        "input": "image",
        "outputs": {n: n for n in ("boxes", "scores", "labels", "masks")},
        "labels": {str(i): name for i, name in enumerate(names, 1)},
        "mask_frame": "box",
        "licence": "MIT",
        "source": "wordsight, training/maskrcnn",
    }  # fmt: skip


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
        """Add a weight."""
        return self.const(value.detach().numpy(), np.float32)

    def both(self, layer: nn.Module, weight: Tensor, bias: Tensor) -> tuple[str, str]:
        """Weight and bias of a layer, stored once however often it is used."""
        if layer not in self.stored:
            self.stored[layer] = (self.weight(weight), self.weight(bias))
        return self.stored[layer]

    def conv(
        self, x: str, layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None, act: str = ""
    ) -> str:
        """Add a convolution with its normalisation folded in.

        Padding is as the layer's, or, for the backbone's, what halves even sides (SAME).
        """
        weight, bias = layer.weight, layer.bias
        if norm is not None:
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = weight * gain[:, None, None, None]
            bias = norm.bias - norm.running_mean * gain
        if bias is None:
            bias = torch.zeros(layer.out_channels)
        weight, bias = self.both(layer, weight, bias)
        k, s = layer.kernel_size[0], layer.stride[0]
        first = (k - s) // 2
        last = k - s - first
        x = self.op(
            "Conv", x, weight, bias,
            kernel_shape=[k, k], strides=[s, s], pads=[first, first, last, last],
            group=layer.groups,
        )  # fmt: skip
        if act == "relu6":
            return self.op("Clip", x, self.const(0, np.float32), self.const(6, np.float32))
        return self.op("Relu", x) if act else x

    def module(self, x: str, module: nn.Module) -> str:
        """A convolution, or a Sequential of convolutions, norms, rectifiers and the like."""
        if isinstance(module, nn.Conv2d):
            return self.conv(x, module)
        layers = list(module)
        while layers:
            layer = layers.pop(0)
            if not isinstance(layer, nn.Conv2d):
                x = self.module(x, layer)
                continue
            norm = layers.pop(0) if layers and isinstance(layers[0], nn.BatchNorm2d) else None
            act = bool(layers) and isinstance(layers[0], nn.ReLU)
            if act:
                layers.pop(0)
            x = self.conv(x, layer, norm, "relu" if act else "")
        return x

    def taps(self, x: str, model: StarterMaskRCNN) -> list[str]:
        """What the pyramid takes from the backbone."""
        x, taps = self.conv(x, model.stem, act="relu6"), []
        for at, block in enumerate(model.blocks):
            wide = (
                x if block._expand_conv is None else self.conv(x, block._expand_conv, act="relu6")
            )
            if at in (FINE_AT, MIDDLE_AT):
                taps.append(wide)
            y = self.conv(self.conv(wide, block._depthwise_conv, act="relu6"), block._project_conv)
            x = self.op("Add", x, y) if block.skip else y
        return [*taps, x]

    def maps(self, x: str, model: StarterMaskRCNN) -> list[str]:
        """Maps at strides 8, 16 and 32."""
        taps = self.taps(x, model)
        summed = [self.module(t, a) for t, a in zip(taps, model.across, strict=True)]
        for at in (1, 0):
            summed[at] = self.op("Add", summed[at], self.double(summed[at + 1]))
        return [self.module(t, s) for t, s in zip(summed, model.smooth, strict=True)]

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

    def cells(self, said: str, stride: int) -> tuple[str, str]:
        """A map [1, 5, h, w] of a score and four sides -> logits [h * w], boxes [h * w, 4]."""
        shape = self.op("Shape", said)
        steps = {}
        for axis, place, form in (("x", 3, [1, -1]), ("y", 2, [-1, 1])):
            count = self.op("Gather", shape, self.const(place))
            numbers = self.op("Range", self.const(0), count, self.const(1))
            numbers = self.op("Cast", numbers, to=TensorProto.FLOAT)
            numbers = self.op("Add", numbers, self.const(0.5, np.float32))
            numbers = self.op("Mul", numbers, self.const(stride, np.float32))
            steps[axis] = self.op("Reshape", numbers, self.const(form))
        nothing = self.const(0, np.float32)
        x = self.op("Add", steps["x"], self.op("Mul", steps["y"], nothing))
        y = self.op("Add", steps["y"], self.op("Mul", steps["x"], nothing))
        x, y = (self.op("Reshape", v, self.const([-1, 1])) for v in (x, y))
        rows = self.op(
            "Reshape", self.op("Transpose", said, perm=[0, 2, 3, 1]), self.const([-1, 5])
        )
        logit, sides = self.ops("Split", 2, rows, self.const([1, 4]), axis=1)
        sides = self.op("Exp", self.op("Min", sides, self.const(MAX_LOG_SCALE, np.float32)))
        sides = self.op("Mul", sides, self.const(stride, np.float32))
        left, up, right, down = self.columns(sides)
        boxes = self.op(
            "Concat", self.op("Sub", x, left), self.op("Sub", y, up),
            self.op("Add", x, right), self.op("Add", y, down), axis=1,
        )  # fmt: skip
        return self.op("Reshape", logit, self.const([-1])), boxes

    def look(self, rois: str, map_: str, limits: str, model: StarterMaskRCNN) -> tuple[str, ...]:
        """What the box head says of boxes [N, 4]: boxes, scores [N], logits of names [N, 81]."""
        x = self.op("Flatten", self.roi_align(map_, rois, BOX_CELLS, FINE), axis=1)
        x = self.op("Relu", self.linear(x, model.box))
        x = self.op("Relu", self.linear(x, model.box_again))
        score = self.op("Sigmoid", self.linear(x, model.box_score))
        delta = self.linear(x, model.box_delta)
        delta = self.op("Div", delta, self.const(BOX_SCALE, np.float32))
        boxes = self.inside(self.decode(delta, rois), limits)
        names = self.linear(x, model.box_class)
        return boxes, self.op("Reshape", score, self.const([-1])), names

    def calibrated(self, score: str, slope: float, offset: float) -> str:
        """Probabilities from scores: a line through their logits."""
        tiny = self.const(1e-6, np.float32)
        score = self.op("Min", self.op("Max", score, tiny), self.const(1 - 1e-6, np.float32))
        odds = self.op("Div", score, self.op("Sub", self.const(1, np.float32), score))
        logit = self.op("Mul", self.op("Log", odds), self.const(slope, np.float32))
        return self.op("Sigmoid", self.op("Add", logit, self.const(offset, np.float32)))

    def named(self, logits: str) -> str:
        """Label numbers [N], 1 to 80, or 0 where no name is likely enough."""
        likely = self.op("Softmax", logits, axis=1)
        ends = (self.const([0]), self.const([CLASSES]), self.const([1]))
        likely = self.op("Slice", likely, *ends)
        best = self.op("ArgMax", likely, axis=1, keepdims=0)
        most = self.op("ReduceMax", likely, axes=[1], keepdims=0)
        sure = self.op("GreaterOrEqual", most, self.const(NAMED, np.float32))
        number = self.op("Add", best, self.const(1))
        return self.op("Where", sure, number, self.const(0))


def build(model: StarterMaskRCNN, slope: float = 1.0, offset: float = 0.0) -> onnx.ModelProto:
    """The whole graph: image [3, H, W] -> boxes [N, 4], scores [N], labels [N], masks."""
    w = Writer()
    maps = w.maps(w.op("Unsqueeze", "image", w.const([0])), model)
    found = [
        w.cells(w.module(w.module(x, tower), says), stride)
        for x, tower, says, stride in zip(maps, model.towers, model.says, STRIDES, strict=True)
    ]
    logits = w.op("Concat", *(f[0] for f in found), axis=0)
    boxes = w.op("Concat", *(f[1] for f in found), axis=0)

    many = w.op("Min", w.op("Shape", logits), w.const([CANDIDATES]))
    top, places = w.ops("TopK", 2, logits, many, axis=0, largest=1, sorted=1)
    size = w.op("Cast", w.op("Shape", "image"), to=TensorProto.FLOAT)
    width, height = (w.op("Gather", size, w.const([i])) for i in (2, 1))
    limits = w.op("Concat", width, height, width, height, axis=0)
    boxes = w.inside(w.op("Gather", boxes, places), limits)
    objectness = w.op("Sigmoid", top)
    kept = w.suppressed(boxes, objectness, PROPOSALS, PROPOSAL_NMS, 0.0)
    rois, objectness = w.op("Gather", boxes, kept), w.op("Gather", objectness, kept)

    # Boxes, twice: the head, given its own best boxes, corrects them (as in Cai and
    # Vasconcelos, "Cascade R-CNN", CVPR 2018, but with one set of weights).
    narrow = w.module(maps[0], model.squeeze)
    boxes, score, _ = w.look(rois, narrow, limits, model)
    product = w.op("Mul", score, objectness)
    kept = w.suppressed(boxes, product, REFINED, REFINED_NMS, 0.0)
    boxes, score, names = w.look(w.op("Gather", boxes, kept), narrow, limits, model)
    product = w.op("Mul", score, w.op("Gather", product, kept))
    score = w.op("Pow", product, w.const(1 / 3, np.float32))  # the geometric mean of the three
    score = w.calibrated(score, slope, offset)
    kept = w.suppressed(boxes, score, DETECTIONS, DETECTION_NMS, LEAST_SCORE)
    boxes = w.op("Gather", boxes, kept, out="boxes")
    w.op("Gather", score, kept, out="scores")
    w.op("Gather", w.named(names), kept, out="labels")

    x = w.module(w.roi_align(maps[0], boxes, MASK_CELLS, FINE), model.mask)
    up = model.mask_up
    x = w.op(
        "ConvTranspose", x, w.weight(up.weight), w.weight(up.bias),
        kernel_shape=[2, 2], strides=[2, 2],
    )  # fmt: skip
    w.op("Sigmoid", w.module(w.op("Relu", x), model.mask_out), out="masks")
    return packed(w)


def packed(w: Writer) -> onnx.ModelProto:
    """The written nodes as a model with small weights."""

    def info(name: str, dims: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    graph = helper.make_graph(
        w.nodes,
        "starter-maskrcnn",
        [info("image", [3, "H", "W"])],
        [info("boxes", ["N", 4]), info("scores", ["N"]),
         info("labels", ["N"], TensorProto.INT64), info("masks", ["N", 1, 28, 28])],
        w.weights,
    )  # fmt: skip
    built = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8, producer_name="wordsight"
    )
    quantise(built)
    halve(built)
    onnx.checker.check_model(built, full_check=True)
    return built


def export(weights: Path, out: Path, data: Path, short_side: int = 416) -> None:
    """Write out/model.onnx and out/detector.json from the weights of a training run.

    The scores are calibrated on the photographs of the COCO pack that training left out.
    """
    model = StarterMaskRCNN().eval()
    model.load_state_dict(torch.load(weights))
    out.mkdir(parents=True, exist_ok=True)
    names = category_names(data)
    described = json.dumps(description(names, short_side), indent=2)
    (out / "detector.json").write_text(described + "\n", encoding="utf-8")
    (out / "model.onnx").write_bytes(build(model).SerializeToString())
    kept = [p for p in coco(data)[0] if p.dev]
    judged = judge(out, kept)
    slope, offset = fit(judged.scores, judged.right)
    (out / "model.onnx").write_bytes(build(model, slope, offset).SerializeToString())
    size = (out / "model.onnx").stat().st_size
    print(
        f"export: {size / 1e6:.2f} MB; on {len(kept)} photographs kept back recall "
        f"{np.mean(judged.found):.3f} of {len(judged.found)}, names right "
        f"{np.mean(judged.named):.3f} of {len(judged.named)}; "
        f"slope {slope:.3f}, offset {offset:.3f}"
    )
