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
    places: bool = True,
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
    _text_tower(folder / "textual/model.onnx", dim, context, batch, text_inputs, places)
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
    """Write an object; ``...`` stands for what is left out."""
    value = {key: item for key, item in value.items() if item is not ...}
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
    path: Path, dim: int, context: int, batch: int | str, names: tuple[str, ...], places: bool
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    words = rng.standard_normal((len(WORDS) + 4, dim)).astype(np.float32)
    # Without places the tower takes texts of any length.
    place = rng.standard_normal((context, 1) if places else (1, 1)).astype(np.float32)
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


def to_transformers(
    source: Path,
    folder: Path,
    *,
    kind: str = "clip",
    variant: str = "",
    more_inputs: tuple[str, ...] = (),
    tell_dim: bool = True,
    config: dict[str, Any] | None = None,
    preprocess: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    """Write a directory in open_clip's layout again in transformers' layout: the same towers.

    As on the hub: token ids are int64, batch and sequence vary, SigLIP's towers give
    ``last_hidden_state`` first and their vector as ``pooler_output``.
    """
    import shutil

    (folder / "onnx").mkdir(parents=True)
    old = json.loads((source / "config.json").read_text(encoding="utf-8"))
    picture = json.loads((source / "visual/preprocess_cfg.json").read_text(encoding="utf-8"))
    said = json.loads((source / "textual/tokenizer_config.json").read_text(encoding="utf-8"))
    context, dim = old["text_cfg"]["context_length"], old["embed_dim"] if tell_dim else "D"
    outputs = {"image": "image_embeds", "text": "text_embeds"}
    if kind.startswith("siglip"):
        outputs = dict.fromkeys(outputs, "pooler_output")
    _rename(
        source / "visual/model.onnx",
        folder / f"onnx/vision_model{variant}.onnx",
        {"pixel_values": None},
        outputs["image"],
        dim,
    )
    _rename(
        source / "textual/model.onnx",
        folder / f"onnx/text_model{variant}.onnx",
        dict.fromkeys(("input_ids", *more_inputs), context),
        outputs["text"],
        dim,
    )
    _json(
        folder / "config.json",
        {
            "model_type": kind,
            "text_config": {"max_position_embeddings": context},
            "logit_scale_init_value": 2.6592,
            **(config or {}),
        },
    )
    height, width = picture["size"]
    _json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": height},
            "do_center_crop": True,
            "crop_size": {"height": height, "width": width},
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 0.00392156862745098,
            "do_normalize": True,
            "image_mean": picture["mean"],
            "image_std": picture["std"],
            **(preprocess or {}),
        },
    )
    _json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": context, **said}
        | (tokenizer or {}),
    )
    shutil.copy(source / "textual/tokenizer.json", folder / "tokenizer.json")
    return folder


def _rename(
    source: Path, path: Path, inputs: dict[str, int | None], output: str, dim: int | str
) -> None:
    """Give a graph other inputs and another output; ids in int64, all masks and places in use."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    old, made = graph.input[0], graph.output[0].name
    names = list(inputs)
    nodes, last = [], names[0]
    if names == ["pixel_values"]:
        nodes.append(helper.make_node("Identity", [last], [old.name]))
        shape = [d.dim_value for d in old.type.tensor_type.shape.dim]
        values = [
            helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch_size", *shape[1:]])
        ]
    else:
        context = inputs[last]
        if "attention_mask" in inputs:  # padding has the number 0
            nodes.append(helper.make_node("Mul", [last, "attention_mask"], ["seen"]))
            last = "seen"
        if "position_ids" in inputs:  # nothing is added at the right places
            count = numpy_helper.from_array(np.arange(context, dtype=np.int64), "count")
            graph.initializer.append(count)
            nodes.append(helper.make_node("Sub", ["position_ids", "count"], ["off"]))
            nodes.append(helper.make_node("Add", [last, "off"], ["placed_ids"]))
            last = "placed_ids"
        if "token_type_ids" in inputs:  # all of one kind
            nodes.append(helper.make_node("Add", [last, "token_type_ids"], ["kinds"]))
            last = "kinds"
        to = old.type.tensor_type.elem_type
        nodes.append(helper.make_node("Cast", [last], [old.name], to=to))
        values = [
            helper.make_tensor_value_info(n, TensorProto.INT64, ["batch_size", "sequence_length"])
            for n in names
        ]
    ends = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch_size", dim])]
    if output == "pooler_output":
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
        nodes_after = [helper.make_node("Unsqueeze", [made, "one"], ["last_hidden_state"])]
        shape = ["batch_size", 1, dim]
        ends.insert(0, helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape))
    else:
        nodes_after = []
    nodes_after.append(helper.make_node("Identity", [made], [output]))
    body = [*nodes, *graph.node, *nodes_after]
    for field, new in (("node", body), ("input", values), ("output", ends)):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(new)
    del graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
