"""Write the model as ONNX files with small weights, and the settings that its reader needs."""

from __future__ import annotations

import json
import shutil
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from .backbone import MEAN, SIZE, STD
from .head import ImageTower
from .student import CONTEXT, PAD, load_text_tower, open_tokenizer
from .table import DIM

VERSION = "2.4"
OPSET = 17


def quantise(model: onnx.ModelProto) -> None:
    """Keep the weights of large convolutions and matrices in 8 bits, with a scale a channel.

    They are whole numbers in the file alone: the runtimes compute with them as floats.
    """
    graph = model.graph
    rows = {n.input[1] for n in graph.node if n.op_type == "Gemm"}
    columns = {n.input[1] for n in graph.node if n.op_type == "MatMul"}
    convolutions = {n.input[1] for n in graph.node if n.op_type == "Conv"}
    tables = {n.input[0]: n for n in graph.node if n.op_type == "Gather"}
    for i, tensor in enumerate(graph.initializer):
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.dtype != np.float32 or values.size < 4096:
            continue
        if name not in rows | columns | convolutions | set(tables):
            continue
        axis = values.ndim - 1 if name in columns else 0
        others = tuple(k for k in range(values.ndim) if k != axis)
        scale = np.abs(values).max(others, keepdims=True).astype(np.float32) / 127 + 1e-12
        whole = np.rint(values / scale).astype(np.int8)
        graph.initializer[i].CopyFrom(numpy_helper.from_array(whole, f"{name}_8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        if name in tables:  # look rows up first, so that only those become floats
            _look_up(graph, tables[name], name)
            continue
        # Not DequantizeLinear: ONNX Runtime folds these two when it opens the file, that one not.
        graph.node.insert(0, helper.make_node("Mul", [f"{name}_f", f"{name}_scale"], [name]))
        graph.node.insert(
            0, helper.make_node("Cast", [f"{name}_8"], [f"{name}_f"], to=onnx.TensorProto.FLOAT)
        )


def _look_up(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> None:
    """Gather whole numbers and their scales, and multiply."""
    out, ids = node.output[0], node.input[1]
    at = list(graph.node).index(node)
    node.input[0], node.output[0] = f"{name}_8", f"{out}_8"
    after = [
        helper.make_node("Cast", [f"{out}_8"], [f"{out}_f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scale"], axis=0),
        helper.make_node("Mul", [f"{out}_f", f"{out}_scale"], [out]),
    ]
    for step, extra in enumerate(after, start=1):
        graph.node.insert(at + step, extra)


def halve(model: onnx.ModelProto) -> None:
    """Keep float weights in 16 bits, each with a cast back to 32 in front of its users."""
    graph = model.graph
    casts = []
    for i, tensor in enumerate(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            continue
        old, name = tensor.name, f"{tensor.name}_16"
        graph.initializer[i].CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
        gather = [n for n in graph.node if n.op_type == "Gather" and n.input[0] == old]
        if gather:  # look rows up first, so that only those are cast
            for node in gather:
                node.input[0] = name
                out = node.output[0]
                node.output[0] = f"{out}_16"
                cast = helper.make_node("Cast", [f"{out}_16"], [out], to=onnx.TensorProto.FLOAT)
                graph.node.insert(list(graph.node).index(node) + 1, cast)
            continue
        casts.append(helper.make_node("Cast", [name], [old], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def _onnx(module: nn.Module, sample: Tensor, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (sample,), str(path), input_names=[name], output_names=["embedding"],
            dynamic_axes={name: {0: "batch"}, "embedding": {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    quantise(model)
    halve(model)
    model.producer_name, model.producer_version, model.doc_string = "wordsight", VERSION, ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def image_tower(work: Path) -> ImageTower:
    """The trained image tower."""
    saved = torch.load(work / "image.pt", weights_only=True)
    tower = ImageTower.empty(saved["kind"])
    tower.load_state_dict(saved["tower"])
    return tower


def english(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's file without the letters of other scripts; the numbers of its tokens stay.

    The tower has never read a word of them: so they are unknown, and a prompt in them is told.
    """
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {
        f"[foreign{number}]"
        if any(c.isalpha() and "LATIN" not in unicodedata.name(c, "") for c in token)
        else token: number
        for token, number in vocabulary.items()
    }
    return tokenizer


def _write_text_tower(work: Path, out: Path) -> None:
    ids = torch.zeros(2, CONTEXT, dtype=torch.int32)
    ids[:, :3] = torch.tensor([101, 5, 102])
    _onnx(load_text_tower(work), ids, "text", out / "model.onnx")
    _json(out / "tokenizer.json", english(json.loads(open_tokenizer().to_str())))
    _json(out / "tokenizer_config.json", {
        "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]", "pad_token": PAD,
        "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast",
    })  # fmt: skip


def write(work: Path, out: Path, textual: Path | None = None) -> None:
    """Write all files of the model but its card; the text tower may be another model's."""
    vision = image_tower(work)
    _onnx(vision, torch.randn(2, 3, SIZE, SIZE), "image", out / "visual/model.onnx")
    if textual is None:
        _write_text_tower(work, out / "textual")
    else:
        shutil.copytree(textual / "textual", out / "textual", dirs_exist_ok=True)
    _json(out / "visual/preprocess_cfg.json", {
        "size": [SIZE, SIZE], "mode": "RGB", "mean": [MEAN] * 3, "std": [STD] * 3,
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    })  # fmt: skip
    _json(out / "config.json", {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIZE},
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": open_tokenizer().get_vocab_size(),
            "tokenizer_kwargs": {"clean": "lower"},
        },
        "logit_scale": round(vision.head.word_scale.exp().item(), 4), "model_name": "starter",
        "version": VERSION, "license": "MIT",
    })  # fmt: skip
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"export: {total / 1e6:.2f} MB in {out}")


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
