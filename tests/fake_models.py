"""Small CLIP directories made on the spot: right in form, random in content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
WORDS = ["a", "photo", "of", "dog", "cat", "the", "Red", "red", ".", ",", "'", "<|endoftext|>"]


def make_clip(
    folder: Path,
    *,
    dim: int = 8,
    size: int | list[int] = 16,
    context: int = 8,
    batch: int | str = "batch",
    image_input: str = "image",
    text_inputs: tuple[str, ...] = ("text",),
    config: dict[str, Any] | None = None,
    text_config: dict[str, Any] | None = None,
    preprocess: dict[str, Any] | None = None,
) -> Path:
    """Write a CLIP directory: a pooled linear image tower, a mean of word vectors."""
    pytest.importorskip("onnx")
    height, width = (size, size) if isinstance(size, int) else size
    for tower in ("visual", "textual"):
        (folder / tower).mkdir(parents=True, exist_ok=True)
    _image_tower(folder / "visual/model.onnx", dim, height, width, batch, image_input)
    _text_tower(folder / "textual/model.onnx", dim, context, batch, text_inputs)
    _json(
        folder / "config.json",
        {
            "embed_dim": dim,
            "vision_cfg": {"image_size": size},
            "text_cfg": {"context_length": context, **(text_config or {})},
            **(config or {}),
        },
    )
    _json(
        folder / "visual/preprocess_cfg.json",
        {
            "size": size if isinstance(size, list) else [size, size],
            "mean": CLIP_MEAN,
            "std": CLIP_STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
            **(preprocess or {}),
        },
    )
    _json(folder / "textual/tokenizer_config.json", {"pad_token": "<pad>"})
    _tokenizer(folder / "textual/tokenizer.json")
    return folder


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3}
    vocab |= {word: i + 4 for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<pad>", "<start>", "<end>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    tokenizer.save(str(path))


def _image_tower(
    path: Path, dim: int, height: int, width: int, batch: int | str, name: str
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    grid = rng.standard_normal((3 * height * width, dim)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", [name], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "visual",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dim])],
        [numpy_helper.from_array(grid, "w")],
    )
    _save(graph, path)


def _text_tower(
    path: Path, dim: int, context: int, batch: int | str, names: tuple[str, ...]
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    words = rng.standard_normal((len(WORDS) + 4, dim)).astype(np.float32)
    place = rng.standard_normal((context, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["words", names[0]], ["found"]),
        helper.make_node("Mul", ["found", "place"], ["placed"]),
    ]
    last = "placed"
    if len(names) == 2:  # an attention mask: padding counts for nothing
        nodes += [
            helper.make_node("Cast", [names[1]], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "two"], ["mask3"]),
            helper.make_node("Mul", ["placed", "mask3"], ["masked"]),
        ]
        last = "masked"
    nodes.append(helper.make_node("ReduceMean", [last], ["embedding"], axes=[1], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "textual",
        [helper.make_tensor_value_info(n, TensorProto.INT32, [batch, context]) for n in names],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dim])],
        [
            numpy_helper.from_array(words, "words"),
            numpy_helper.from_array(place, "place"),
            numpy_helper.from_array(np.array([2], np.int64), "two"),
        ],
    )
    _save(graph, path)


def _save(graph: Any, path: Path) -> None:
    import onnx
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
