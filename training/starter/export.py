"""Write the model as ONNX files with small weights, and the settings that its reader needs."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .concepts import SYNONYMS, UNSEEN
from .images import SIZE
from .student import CONTEXT, END, PAD, START, UNKNOWN, TextTower
from .table import DIM
from .train_vision import normalise
from .vision import MEAN, STD, VisionTower, soft_colour

VERSION = "1.3"
OPSET = 17


class FoldedVision(nn.Module):
    """The image tower with its batch norms folded into the convolutions before them."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        tower.eval()
        self.whiten = tower.whiten
        # A norm comes after the pooling, but its gain is positive, so it may come before too.
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                fuse_conv_bn_eval(getattr(b, f"conv{k}"), getattr(b, f"norm{k}")) for k in (1, 2, 3)
            )
            for b in tower.blocks
        )
        self.head = tower.head

    def forward(self, image: Tensor) -> Tensor:
        """As :meth:`VisionTower.forward`."""
        x = F.gelu(self.whiten(soft_colour(image)))
        for first, second, third in self.blocks:
            # The same as a 2 x 2 window; OpenVINO 2026.4 computes convolution and 2 x 2
            # pooling together in fp32, and wrongly so on some processors.
            x = F.gelu(F.max_pool2d(F.max_pool2d(first(x), (2, 1)), (1, 2)))
            x = F.gelu(third(F.gelu(second(x))) + x)
        return F.normalize(self.head(x.amax((2, 3))), dim=-1)


class Mirrored(nn.Module):
    """A tower's mean vector of a picture and of its mirror image: one point of accuracy more."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, image: Tensor) -> Tensor:
        """Unit vectors, one row for each picture."""
        both = self.tower(torch.cat([image, image.flip(-1)]))
        return F.normalize(both.reshape(2, -1, both.shape[-1]).sum(0), dim=-1)


def quantise(model: onnx.ModelProto) -> None:
    """Keep the weights of convolutions in 8 bits, with a scale for each output channel.

    They are whole numbers in the file alone: the runtimes compute with them as floats.
    """
    graph = model.graph
    for i, tensor in enumerate(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.ndim != 4 or values.size < 4096:
            continue
        name = tensor.name
        scale = np.abs(values).max((1, 2, 3)).astype(np.float32) / 127
        whole = np.rint(values / scale[:, None, None, None]).astype(np.int8)
        graph.initializer[i].CopyFrom(numpy_helper.from_array(whole, f"{name}_8"))
        graph.initializer.append(
            numpy_helper.from_array(scale[:, None, None, None], f"{name}_scale")
        )
        # Not DequantizeLinear: ONNX Runtime folds these two when it opens the file, that one not.
        graph.node.insert(0, helper.make_node("Mul", [f"{name}_f", f"{name}_scale"], [name]))
        graph.node.insert(
            0, helper.make_node("Cast", [f"{name}_8"], [f"{name}_f"], to=onnx.TensorProto.FLOAT)
        )


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


def load_towers(work: Path) -> tuple[VisionTower, TextTower, float]:
    """The trained towers and the scale of their cosines."""
    seen = torch.load(work / "settled.pt")
    vision = VisionTower(DIM)
    vision.load_state_dict(seen["tower"])
    read = torch.load(work / "text.pt", weights_only=False)  # our own file
    text = TextTower(read["tower"]["tokens.weight"].shape[0], DIM)
    text.load_state_dict(read["tower"])
    return vision.eval(), text.eval(), float(seen["scale"])


def write(work: Path, out: Path) -> None:
    """Write all files of the model but its card."""
    vision, text, scale = load_towers(work)
    tower = Mirrored(FoldedVision(vision))
    _onnx(tower, torch.randn(2, 3, SIZE, SIZE), "image", out / "visual/model.onnx")
    ids = torch.zeros(2, CONTEXT, dtype=torch.int32)
    ids[:, :3] = torch.tensor([2, 5, 3])
    _onnx(text, ids, "text", out / "textual/model.onnx")
    shutil.copy(work / "tokenizer.json", out / "textual/tokenizer.json")
    _json(out / "textual/tokenizer_config.json", {
        "bos_token": START, "eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD,
        "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast",
    })  # fmt: skip
    _json(out / "visual/preprocess_cfg.json", {
        "size": [SIZE, SIZE], "mode": "RGB", "mean": list(MEAN), "std": list(STD),
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    })  # fmt: skip
    _json(out / "config.json", {
        "embed_dim": DIM,
        "vision_cfg": {
            "image_size": SIZE, "widths": [b.conv1.out_channels for b in vision.blocks],
        },
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": text.tokens.num_embeddings,
            "width": text.head.in_features, "heads": text.layers[0].heads,
            "layers": len(text.layers), "tokenizer_kwargs": {"clean": "lower"},
        },
        "logit_scale": round(scale, 4), "model_name": "starter", "version": VERSION,
        "license": "MIT",
    })  # fmt: skip
    _samples(vision, text, work)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"export: {size / 1e6:.2f} MB in {out}")


@torch.inference_mode()
def _samples(vision: VisionTower, text: TextTower, work: Path) -> None:
    """Inputs and 32-bit outputs of the towers themselves, to hold the files against."""
    pixels = np.load(work / "pictures.npz")["pixels"][::97][:64]
    image = normalise(torch.from_numpy(pixels)).contiguous()
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT)
    words = [w for group in (*SYNONYMS.values(), *UNSEEN.values()) for w in group]
    rows = [e.ids for w in words for e in [tokenizer.encode(f"a photo of a {w}.")]]
    # The towers read each text without padding, the files with.
    read = torch.cat([text(torch.tensor([r])) for r in rows])
    padded = np.array([r + [0] * (CONTEXT - len(r)) for r in rows], np.int32)
    np.savez(work / "samples.npz", image=image.numpy(), seen=Mirrored(vision)(image).numpy(),
             text=padded, read=read.numpy())  # fmt: skip


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
