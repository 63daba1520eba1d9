"""A CLIP of ViT-B/32's real shape with random weights: speed does not depend on the weights.

Written with ``onnx`` alone, in the model directory layout of wordsight; :func:`as_rclip` puts the
same graphs where rclip looks for its own.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = {"width": 768, "layers": 12, "heads": 12}
TEXT = {"width": 512, "layers": 12, "heads": 8}
DIM, PATCH, CONTEXT, VOCABULARY = 512, 32, 77, 49408


class _Graph:
    """Collects nodes and random weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(0)
        self.count = 0

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.count += 1
        name = f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        self.count += 1
        name = f"c_{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def random(self, *shape: int, scale: float = 0.02) -> str:
        return self.constant(self.rng.standard_normal(shape, np.float32) * scale, np.float32)

    def norm(self, x: str, width: int) -> str:
        gain = self.constant(np.ones(width), np.float32)
        return self.op("LayerNormalization", x, gain, self.random(width), axis=-1)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        return self.op(
            "Add", self.op("MatMul", x, self.random(inputs, outputs)), self.random(outputs)
        )

    def block(self, x: str, width: int, heads: int, mask: str | None) -> str:
        """One residual attention block, as in CLIP (QuickGELU)."""
        y = self.norm(x, width)
        split = self.constant([0, 0, heads, width // heads])
        q, k, v = (
            self.op("Transpose", self.op("Reshape", self.linear(y, width, width), split), perm=p)
            for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = self.op("MatMul", q, k)
        scores = self.op("Mul", scores, self.constant((width // heads) ** -0.5, np.float32))
        if mask:
            scores = self.op("Add", scores, mask)
        y = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        y = self.op("Reshape", y, self.constant([0, 0, width]))
        x = self.op("Add", x, self.linear(y, width, width))
        y = self.linear(self.norm(x, width), width, 4 * width)
        gate = self.op("Sigmoid", self.op("Mul", y, self.constant(1.702, np.float32)))
        return self.op("Add", x, self.linear(self.op("Mul", y, gate), 4 * width, width))

    def save(
        self, path: Path, name: str, kind: int, shape: list[Any], out: str, named: str
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.nodes.append(helper.make_node("Identity", [out], [named]))
        graph = helper.make_graph(
            self.nodes,
            "vit",
            [helper.make_tensor_value_info(name, kind, shape)],
            [helper.make_tensor_value_info(named, TensorProto.FLOAT, ["batch", DIM])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(path))


def image_tower(path: Path, size: int, name: str = "image", output: str = "embedding") -> None:
    """A ViT-B/32 image tower for pictures of ``size`` pixels."""
    g, width = _Graph(), IMAGE["width"]
    kernel = g.random(width, 3, PATCH, PATCH)
    x = g.op("Conv", name, kernel, kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
    tokens = (size // PATCH) ** 2
    x = g.op("Transpose", g.op("Reshape", x, g.constant([0, width, tokens])), perm=[0, 2, 1])
    first = g.op("Slice", x, g.constant([0]), g.constant([1]), g.constant([1]))
    first = g.op("Add", g.op("Mul", first, g.constant(0, np.float32)), g.random(width))
    x = g.op("Add", g.op("Concat", first, x, axis=1), g.random(tokens + 1, width))
    x = g.norm(x, width)
    for _ in range(IMAGE["layers"]):
        x = g.block(x, width, IMAGE["heads"], None)
    x = g.op("Gather", x, g.constant(0), axis=1)
    out = g.op("MatMul", g.norm(x, width), g.random(width, DIM))
    g.save(path, name, TensorProto.FLOAT, ["batch", 3, size, size], out, output)


def text_tower(path: Path, kind: int, name: str = "text", output: str = "embedding") -> None:
    """CLIP's text tower; ``kind`` is the integer type of its input."""
    g, width = _Graph(), TEXT["width"]
    x = g.op("Gather", g.random(VOCABULARY, width), name, axis=0)
    x = g.op("Add", x, g.random(CONTEXT, width))
    mask = g.constant(np.triu(np.full((CONTEXT, CONTEXT), -1e9), 1), np.float32)
    for _ in range(TEXT["layers"]):
        x = g.block(x, width, TEXT["heads"], mask)
    x = g.norm(x, width)
    # The vector at the end token, which has the highest number.
    end = g.op("ArgMax", name, axis=1, keepdims=0)
    picked = g.op("OneHot", end, g.constant(CONTEXT), g.constant([0, 1], np.float32), axis=-1)
    x = g.op("MatMul", g.op("Unsqueeze", picked, g.constant([1])), x)
    x = g.op("Squeeze", x, g.constant([1]))
    out = g.op("MatMul", x, g.random(width, DIM))
    g.save(path, name, kind, ["batch", CONTEXT], out, output)


def image_flops(size: int) -> float:
    """Floating point operations of the image tower for one picture (two a multiply-add)."""
    tokens, width = (size // PATCH) ** 2 + 1, IMAGE["width"]
    layer = 12 * width * width * tokens + 2 * tokens * tokens * width
    return 2.0 * (IMAGE["layers"] * layer + (tokens - 1) * 3 * PATCH * PATCH * width + width * DIM)


def make_clip(folder: Path, tokenizer: Path, size: int = 256) -> Path:
    """Write the model directory; ``tokenizer`` is a folder with CLIP's ``tokenizer.json``."""
    image_tower(folder / "visual/model.onnx", size)
    text_tower(folder / "textual/model.onnx", TensorProto.INT32)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / "textual" / name)
    (folder / "visual/preprocess_cfg.json").write_text(
        json.dumps(
            {
                "size": [size, size],
                "mode": "RGB",
                "mean": [0.48145466, 0.4578275, 0.40821073],
                "std": [0.26862954, 0.26130258, 0.27577711],
                "interpolation": "bicubic",
                "resize_mode": "shortest",
                "fill_color": 0,
            }
        ),
        encoding="utf-8",
    )
    vision = {"image_size": size, "patch_size": PATCH, "head_width": 64, **IMAGE}
    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, **TEXT}
    (folder / "config.json").write_text(
        json.dumps({"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text}), encoding="utf-8"
    )
    return folder


def with_fixed_batch(folder: Path) -> Path:
    """A copy of the model directory, beside it, whose towers take one image or text at a time."""
    place = folder.with_name(f"{folder.name}-fixed")
    shutil.copytree(folder, place)
    for tower in ("visual", "textual"):
        model = onnx.load(str(place / tower / "model.onnx"))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, str(place / tower / "model.onnx"))
    return place


def as_rclip(folder: Path, tokenizer: Path) -> Path:
    """Write the same towers as rclip's own files (for ``RCLIP_DATADIR``)."""
    place = folder / "ViT-B-32-256-datacomp_s34b_b86k"
    image_tower(place / "visual.onnx", 256, "input", "output")
    text_tower(place / "textual.onnx", TensorProto.INT64, "input", "output")
    merges = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    pairs = [m if isinstance(m, str) else " ".join(m) for m in merges["merges"]]
    (folder / "tokenizer").mkdir(exist_ok=True)
    text = "\n".join(["#version", *pairs, ""])
    with gzip.open(folder / "tokenizer/bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as f:
        f.write(text)
    for name in ("LICENSE", "LICENSE.datacomp", "LICENSE.open_clip", "NOTICE"):
        (place / name).write_text("random weights\n", encoding="utf-8")
    return folder
