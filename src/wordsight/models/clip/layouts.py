"""The layouts of a CLIP model directory, each read into one description.

open_clip's, as the Immich project publishes about sixty models and `wordsight export` writes them::

    config.json                     embed_dim, text_cfg (context_length, tokenizer_kwargs), ...
    visual/model.onnx               float32 [N, 3, H, W] -> float32 [N, D]
    visual/preprocess_cfg.json      size, mean, std, interpolation, resize_mode, fill_color
    textual/model.onnx              int32 or int64 [N, context] -> float32 [N, D]
    textual/tokenizer.json          Hugging Face `tokenizers` form
    textual/tokenizer_config.json   pad_token

transformers', as transformers.js reads them and most ONNX models on the hub are laid out::

    config.json                     model_type, text_config, vision_config, projection_dim
    preprocessor_config.json        of CLIPImageProcessor, SiglipImageProcessor and their like
    tokenizer.json, tokenizer_config.json
    onnx/vision_model.onnx          pixel_values [N, 3, H, W] -> image_embeds [N, D]
    onnx/text_model.onnx            input_ids [N, context] and others -> text_embeds [N, D]

In the latter, SigLIP's graphs name both outputs ``pooler_output``. The graphs may be there in
another precision (``vision_model_fp16.onnx``), which is taken where fp32 is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError
from wordsight.models.clip import preprocess
from wordsight.models.clip.tokenizer import CLEANING, TokenizerSettings
from wordsight.models.external_data import external_data
from wordsight.runtime.onnxfile import output_shapes

OPEN_CLIP = (
    "config.json",
    "visual/model.onnx",
    "visual/preprocess_cfg.json",
    "textual/model.onnx",
    "textual/tokenizer.json",
    "textual/tokenizer_config.json",
)
"""The files of a directory in open_clip's layout."""

TRANSFORMERS = (
    "config.json",
    "onnx/vision_model.onnx",
    "preprocessor_config.json",
    "onnx/text_model.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""The files of a directory in transformers' layout, in the order of the other."""

LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "open_clip": (OPEN_CLIP,),
    "transformers": tuple(
        tuple(file.replace("_model.onnx", f"_model{variant}.onnx") for file in TRANSFORMERS)
        for variant in ("", "_fp16", "_quantized", "_int8", "_uint8", "_q4")
    ),
}
"""By name: the sets of files that make a directory of this layout, the best first."""

FILE_SETS = tuple(files for sets in LAYOUTS.values() for files in sets)
"""All of these, in the order in which they are looked for."""

# What CLIP models trained with a softmax end at: open_clip and OpenAI clamp the scale to 100.
SOFTMAX_SCALE = 100.0

_MOST = 1 << 16  # numbers or tokens: no model has as many

# Text models that became towers allow thousands of tokens. Each text is padded to the context, and
# no prompt is as long.
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Description:
    """What the files of a model directory say, whatever their layout."""

    files: tuple[str, ...]
    """The files of the layout; the graphs may name others."""
    image_graph: str
    text_graph: str
    outputs: tuple[str, ...]
    """Names of the outputs that hold the vectors, the best first (:func:`pick_output`)."""
    dim: int | None
    """Length of the vectors; None where only the graphs know."""
    preprocess: preprocess.Preprocess
    tokenizer: TokenizerSettings
    logit_scale: float
    """What turns a cosine into a logit: ``scale * cosine + bias``."""
    logit_bias: float | None
    """None for models that were trained with a softmax."""


def choose(names: Collection[str]) -> tuple[str, ...] | None:
    """Choose the first set of files that is all among ``names``; None if none is."""
    return next((files for files in FILE_SETS if set(files) <= set(names)), None)


def missing(names: Collection[str]) -> list[str]:
    """Tell what is missing from the set of files that most of ``names`` belong to."""
    sets = ([file for file in files if file not in names] for files in FILE_SETS)
    return min(sets, key=len)


def beside(folder: Path) -> list[str]:
    """Return the files of weights that the graphs of a model directory refer to."""
    return [
        (Path(graph).parent / name).as_posix()
        for graph in _files(folder)
        if graph.endswith(".onnx")
        for name in external_data(folder / graph)
    ]


def describe(folder: Path) -> Description:
    """Read a model directory. Raises ModelError where a file is missing or makes no sense."""
    files = _files(folder)
    read = _open_clip if files == OPEN_CLIP else _transformers
    try:
        found = read(folder, files)
        if not (found.dim is None or 1 <= found.dim <= _MOST):
            raise ValueError(f"vectors of {found.dim} numbers")
        if not 2 <= found.tokenizer.context <= _MOST:
            raise ValueError(f"a context of {found.tokenizer.context} tokens")
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise ModelError(
            f"{folder}: config.json or {files[2]} makes no sense "
            f"({type(error).__name__}: {error}); fetch the model again"
        ) from error


def pick_output(names: Sequence[str], shapes: Mapping[str, Sequence[int | None]]) -> str | None:
    """Pick the output that holds the vectors: by name, else the first one [N, D].

    Not by its shape ``pooler_output``: in CLIP's towers that is what the vector is projected from.
    """
    for name in names:
        if name in shapes:
            return name
    flat = (n for n, shape in shapes.items() if len(shape) == 2 and n != "pooler_output")
    return next(flat, None)


def _files(folder: Path) -> tuple[str, ...]:
    names = {file for files in FILE_SETS for file in files if (folder / file).is_file()}
    files = choose(names)
    if files is None:
        if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
            raise ModelError(
                f"{folder}: contains PyTorch weights instead of ONNX graphs; convert them "
                f"to a model directory: wordsight export {folder} --out {folder}-onnx"
            )
        raise ModelError(
            f"{folder}: not a complete CLIP model directory ({', '.join(missing(names))} missing)"
        )
    return files


def _open_clip(folder: Path, files: tuple[str, ...]) -> Description:
    config = _read_json(folder / "config.json")
    text_config = config.get("text_cfg") or {}
    tokenizer_config = _read_json(folder / "textual/tokenizer_config.json")
    # `tokenizer_kwargs.clean` says how texts are cleaned ("canonicalize" in SigLIP models); without
    # it, CLIP's own tokenizer lowers the case and any other (M-CLIP's XLM-R) does not.
    clean = (text_config.get("tokenizer_kwargs") or {}).get("clean")
    if not clean:
        other = text_config.get("hf_tokenizer_name") or not _is_clips(tokenizer_config)
        clean = "whitespace" if other else "lower"
    if clean not in CLEANING:
        raise ValueError(f"clean {clean!r}")
    scale, bias = _logits(config)
    return Description(
        files=files,
        image_graph="visual/model.onnx",
        text_graph="textual/model.onnx",
        outputs=("embedding",),
        dim=int(config["embed_dim"]),
        preprocess=preprocess.from_open_clip(_read_json(folder / "visual/preprocess_cfg.json")),
        tokenizer=TokenizerSettings(
            folder / "textual/tokenizer.json",
            tokenizer_config,
            int(text_config.get("context_length") or 77),
            clean,
        ),
        logit_scale=scale,
        logit_bias=bias,
    )


def _transformers(folder: Path, files: tuple[str, ...]) -> Description:
    config = _read_json(folder / "config.json")
    tokenizer_config = _read_json(folder / "tokenizer_config.json")
    sigmoid = str(config.get("model_type")).startswith("siglip")
    # These files do not hold scale and bias: for SigLIP that leaves where its training started.
    start = {"init_logit_scale": math.log(10), "init_logit_bias": -10} if sigmoid else {}
    scale, bias = _logits({**start, **config})
    outputs = ("image_embeds", "text_embeds", *(["pooler_output"] if sigmoid else []))
    image_graph, text_graph = files[1], files[3]
    dims = {_vector_length(folder / graph, outputs) for graph in (image_graph, text_graph)} - {None}
    return Description(
        files=files,
        image_graph=image_graph,
        text_graph=text_graph,
        outputs=outputs,
        dim=dims.pop() if len(dims) == 1 else _said_length(config, sigmoid),
        preprocess=preprocess.from_transformers(_read_json(folder / "preprocessor_config.json")),
        tokenizer=TokenizerSettings(
            folder / "tokenizer.json",
            tokenizer_config,
            _context(config.get("text_config") or {}, tokenizer_config, sigmoid),
            _cleaning(tokenizer_config, sigmoid),
        ),
        logit_scale=scale,
        logit_bias=bias,
    )


def _vector_length(graph: Path, outputs: Sequence[str]) -> int | None:
    shapes = output_shapes(graph)
    name = pick_output(outputs, shapes)
    return shapes[name][-1] if name and shapes[name] else None


def _said_length(config: dict[str, Any], sigmoid: bool) -> int | None:
    """The length of the vectors where the graphs leave it open (PyTorch's exporter often does)."""
    if sigmoid:  # without a projection
        return (config.get("vision_config") or {}).get("hidden_size")
    return config.get("projection_dim")


def _context(text_config: dict[str, Any], tokenizer_config: dict[str, Any], sigmoid: bool) -> int:
    """The tokens of a text: the least of what the model and its tokenizer say.

    Settings at their defaults are often left out, and tokenizers without a limit say 10^30. Those
    of larger models (Gemma's) know nothing of SigLIP's 64.
    """
    positions = text_config.get("max_position_embeddings") or (64 if sigmoid else None)
    limits = (positions, tokenizer_config.get("model_max_length"))
    said = (int(limit) for limit in limits if limit and limit <= _MOST)
    return min(min(said, default=77), _LONGEST)


def _cleaning(tokenizer_config: dict[str, Any], sigmoid: bool) -> str:
    """How texts are cleaned for a tokenizer of transformers.

    CLIP's lowers the case, SigLIP's takes punctuation away too. SigLIP 2 was trained on lower case,
    which its tokenizer (Gemma's) keeps; others do in `tokenizer.json` what they need.
    """
    kind = str(tokenizer_config.get("tokenizer_class") or "")
    if kind.startswith("SiglipTokenizer"):
        return "canonicalize"
    lower = sigmoid or tokenizer_config.get("do_lower_case") or _is_clips(tokenizer_config)
    return "lower" if lower else "whitespace"


def _is_clips(tokenizer_config: dict[str, Any]) -> bool:
    kind = str(tokenizer_config.get("tokenizer_class") or "CLIPTokenizer")
    return kind.startswith("CLIPTokenizer")


def _logits(config: dict[str, Any]) -> tuple[float, float | None]:
    """Read the factor and the offset that turn a cosine into a logit.

    `config.json` may carry `logit_scale` (the factor itself; a value below 5 is taken for its
    natural logarithm, which is what checkpoints hold) and `logit_bias`. The published directories
    carry only `init_logit_bias` (and `init_logit_scale`), where training *started*: the bias tells
    that a model is of the sigmoid kind (SigLIP), and both are what is left to go by for one.
    Softmax models end at the factor 100, whatever they started from.
    """
    bias = config.get("logit_bias", config.get("init_logit_bias"))
    if "logit_scale" in config:
        scale = float(config["logit_scale"])
        scale = math.exp(scale) if scale < 5 else scale
    elif bias is not None and "init_logit_scale" in config:
        scale = math.exp(float(config["init_logit_scale"]))
    else:
        scale = SOFTMAX_SCALE
    return scale, None if bias is None else float(bias)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: a JSON object is expected; fetch the model again")
    return value
