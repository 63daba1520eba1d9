"""Export: a checkpoint of PyTorch becomes a model directory, and is held against the original.

CLIP models of ``open_clip`` and ``transformers`` become a directory in open_clip's layout
(:mod:`wordsight.models.layouts`), a Mask R-CNN of ``torchvision`` one in that of
:mod:`wordsight.models.maskrcnn`. This is the only module of the package that needs PyTorch (the
extra ``export``); running what it writes does not.

After the export the directory is opened as any other and compared with the original on a few odd
images and prompts, from the pixels and the letters on: preprocessing, tokenizer and towers, or
boxes, scores and masks. Beyond a tolerance nothing is written.

Checkpoints are read with ``weights_only=True`` or from safetensors: nothing in them is executed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import logging
import math
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import HubError, ModelError
from wordsight.models import hub, repositories
from wordsight.models.clip import ClipModel
from wordsight.models.hub_cache import cached
from wordsight.models.hub_report import WAYS_OUT
from wordsight.models.layouts import OPEN_CLIP
from wordsight.models.maskrcnn import DESCRIPTION, GRAPH, Detections, load_detector
from wordsight.paths import expanded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    Floats = npt.NDArray[np.float32]
    Progress = Callable[[int, int], None]

KINDS = ("auto", "open_clip", "transformers", "maskrcnn")

CLIP_TOLERANCE = 1e-3
"""Euclidean distance between two unit vectors of the same image or text."""

DETECTOR_TOLERANCE = 1e-2
"""Of 1 - IoU, of scores, and of a mask's probabilities in the mean."""

_OPSET = 17

PROMPTS = (
    "a photo of a dog",
    "A Red CAR, at night!",
    "",
    "don't: it's 3.5 x 2",
    "naïve café, 10 €",
    "日本の犬 🐕",
    "word " * 200,
)
"""What text vectors are compared on: nothing that cleaning alone would repair."""

# The files that make a repository of the hub complete, best first.
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_SETS = {
    "open_clip": (
        (_OPEN_CLIP_CONFIG, "open_clip_model.safetensors"),
        (_OPEN_CLIP_CONFIG, "open_clip_pytorch_model.bin"),
    ),
    "transformers": (
        ("config.json", "model.safetensors"),
        ("config.json", "model.safetensors.index.json"),
        ("config.json", "pytorch_model.bin"),
    ),
}


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, and how far it is from the original."""

    path: Path
    kind: str
    """"open_clip", "transformers" or "maskrcnn"."""
    source: str
    differences: dict[str, float]
    """The greatest found: ``images`` and ``texts`` of a CLIP model (Euclidean distance of unit
    vectors); ``boxes`` (1 - IoU), ``scores`` and ``masks`` (a mask's mean) of a detector."""
    tolerance: float
    compared: dict[str, int]
    """On how many images, prompts or boxes."""
    facts: dict[str, Any]
    """``dim``, ``image_size``, ``context``, ``logit_scale``, ``logit_bias`` of a CLIP model,
    ``labels`` (how many names) of a detector."""
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as what `json.dumps` takes."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "source": self.source,
            "differences": self.differences,
            "tolerance": self.tolerance,
            "compared": self.compared,
            **self.facts,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 2),
        }


def export(
    source: str | Path,
    out: str | Path,
    *,
    pretrained: str | Path | None = None,
    kind: str = "auto",
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Export:
    """Write a checkpoint as a model directory and compare it with the original.

    Args:
        source: a folder of ``open_clip`` (``open_clip_config.json`` and weights) or of
            ``transformers`` (``config.json`` and weights); a hub repository id ("owner/name", also
            as "hf-hub:owner/name") with such files; the name of an architecture of open_clip
            ("ViT-B-32") or of torchvision ("maskrcnn_resnet50_fpn"), with ``pretrained``; or the
            file of a torchvision Mask R-CNN's weights (.pth, .pt, .safetensors).
        out: the directory to write; must not be there, or be empty. Appears complete or not at all.
        pretrained: the weights of an architecture: a file, or a tag that the library knows.
        kind: "open_clip", "transformers" or "maskrcnn" where "auto" guesses wrongly.
        tolerance: the difference that is accepted; :data:`CLIP_TOLERANCE` or
            :data:`DETECTOR_TOLERANCE` if not given.
        progress: called with (steps done, steps) as the work goes on.

    Raises:
        ModelError: PyTorch or another package of the extra is missing; the source is not there or
            is none of these; its parts do not fit the layout; the directory cannot be written; or
            the difference is too great.
        HubError: the source could not be fetched.
    """
    started = time.perf_counter()
    step = _steps(progress)
    out = expanded(out).absolute()
    with _draft(out) as draft:
        kind, place = _find(str(source), kind, pretrained is not None)
        with _quiet(draft / "cache"):
            if kind == "maskrcnn":
                done = _export_detector(place, pretrained, draft, step)
            else:
                name = expanded(str(source).rpartition(":")[2]).resolve().name
                done = _export_clip(kind, place, pretrained, name, draft, step)
        if tolerance is None:
            tolerance = DETECTOR_TOLERANCE if kind == "maskrcnn" else CLIP_TOLERANCE
        # Written so that a NaN is refused too.
        if not all(value <= tolerance for value in done.differences.values()):
            told = ", ".join(f"{what} {value:.2g}" for what, value in done.differences.items())
            raise ModelError(
                f"{source}: what was exported differs from the original by more than "
                f"{tolerance:g} ({told}{done.hint}); nothing was written"
            )
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Export(
        path=out,
        kind=kind,
        source=str(source),
        differences=done.differences,
        tolerance=tolerance,
        compared=done.compared,
        facts=done.facts,
        bytes=size,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    differences: dict[str, float]
    compared: dict[str, int]
    facts: dict[str, Any]
    hint: str = ""


# -- where the checkpoint is --------------------------------------------------------------------


def _find(source: str, kind: str, has_pretrained: bool) -> tuple[str, str]:
    """Tell what a source is and where: its kind, and a folder, a file or an architecture's name."""
    if kind not in KINDS:
        raise ModelError(f"unknown kind {kind!r}: use one of {', '.join(KINDS)}")
    name = source.removeprefix("local-dir:")
    path = expanded(name)
    if path.is_file():
        if kind not in ("auto", "maskrcnn"):
            raise ModelError(
                f"{path}: weights alone do not say their architecture; name it and give the file "
                f"as weights: wordsight export MODEL --pretrained {path} --out DIR"
            )
        return "maskrcnn", str(path)
    if path.is_dir():
        return _kind_of_folder(path, kind), str(path)
    if name.startswith("maskrcnn_") or kind == "maskrcnn":
        return "maskrcnn", name
    if name.startswith("hf-hub:") or repositories.is_repository(name):
        folder = _from_hub(name.removeprefix("hf-hub:"), kind)
        return _kind_of_folder(folder, kind), str(folder)
    if kind == "transformers" or path.suffix or os.sep in name or name != source:
        raise ModelError(f"{source}: there is no such folder or file")
    if not has_pretrained:
        raise ModelError(
            f"{source}: there is no such folder; if this is a model of open_clip, say which "
            "weights with --pretrained TAG or --pretrained FILE"
        )
    return "open_clip", name


def _kind_of_folder(folder: Path, kind: str) -> str:
    if all((folder / file).is_file() for file in OPEN_CLIP) or (folder / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: is a model directory of wordsight already; use it as it is")
    files = {"open_clip": _OPEN_CLIP_CONFIG, "transformers": "config.json"}
    for name, file in files.items():
        if kind in ("auto", name) and (folder / file).is_file():
            return name
    wanted = " or ".join(file for name, file in files.items() if kind in ("auto", name))
    raise ModelError(
        f"{folder}: not a checkpoint of open_clip or transformers (no {wanted or 'weights'}); for "
        "a Mask R-CNN of torchvision name the file of its weights"
    )


def _from_hub(repository: str, kind: str) -> Path:
    """Fetch a checkpoint into the shared cache; return its folder."""
    if not repositories.is_repository(repository):
        raise ModelError(f"{repository}: not a hub repository id (owner/name)")
    sets = [files for name in _SETS if kind in ("auto", name) for files in _SETS[name]]
    for files in sets:
        if folder := cached(repository, files):
            return folder
    try:
        names = set(hub.list_files(repository))
    except HubError as error:
        reason = str(error).removesuffix(f"; {WAYS_OUT}")
        raise HubError(f"{reason}; there is no folder {repository} here either") from error
    for files in sets:
        if names.issuperset(files):
            return hub.fetch(repository, files, extra=_is_beside_weights)
    raise ModelError(
        f"{repositories.endpoint()}/{repository}: not a checkpoint of open_clip or transformers "
        f"(none of {', '.join(' + '.join(files) for files in sets)})"
    )


def _is_beside_weights(file: str) -> bool:
    """Tell whether a file of a repository is read beside the weights: settings, tokenizer."""
    if "/" in file:
        return False
    return file.endswith((".json", ".txt", ".model")) or file.startswith("model-0")


# -- CLIP ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clip:
    """A CLIP model in torch, and how it is fed by its own library."""

    model: Any
    image: Callable[..., Any]
    """Pixels [N, 3, H, W] -> vectors [N, D]."""
    text: Callable[..., Any]
    """Token ids int64 [N, context], and with a second input an attention mask -> [N, D]."""
    text_inputs: tuple[str, ...]
    prepare: Callable[[PIL.Image.Image], Any]
    """The library's own preprocessing: [3, H, W]."""
    tokenize: Callable[[list[str]], tuple[Any, ...]]
    """The library's own tokenizer: what ``text`` takes."""
    tokenizer: Any
    """The same as an object of `tokenizers`."""
    pad: str
    preprocess: dict[str, Any]
    """`preprocess_cfg.json`."""
    context: int
    clean: str
    """How texts are cleaned first; a key of :data:`wordsight.models.tokenizer.CLEANING`."""


def _export_clip(
    kind: str,
    place: str,
    pretrained: str | Path | None,
    name: str,
    draft: Path,
    step: Callable[[], None],
) -> _Done:
    torch = _package("torch")
    clip = (_open_clip if kind == "open_clip" else _transformers)(place, pretrained)
    step()
    folder = draft / "model"
    height, width = clip.preprocess["size"]
    pictures = _pictures(min(height, width))
    image, text = _unit(clip.model, clip.image), _unit(clip.model, clip.text)
    with _telling(f"{place}: cannot be run on an image and a text"), torch.inference_mode():
        pixels = torch.stack([clip.prepare(picture) for picture in pictures]).float()
        tokens = clip.tokenize(list(PROMPTS))
        image_vectors, text_vectors = image(pixels).numpy(), text(*tokens).numpy()
    _write_graph(image, (pixels[:2],), ["image"], folder / "visual/model.onnx", draft)
    step()
    shown = tuple(ids[:2] for ids in tokens)
    _write_graph(text, shown, list(clip.text_inputs), folder / "textual/model.onnx", draft)
    step()
    _write_settings(clip, name, image_vectors.shape[1], folder)
    done = _compare_clip(clip, folder, pictures, image_vectors, text_vectors, tokens[0].numpy())
    step()
    return done


def _unit(model: Any, encode: Callable[..., Any]) -> Any:
    """Return a torch module that encodes and brings to unit length."""
    torch = _package("torch")

    def forward(*inputs: Any) -> Any:
        return torch.nn.functional.normalize(encode(*inputs).float(), dim=-1)

    return _module(model, forward)


def _module(model: Any, forward: Callable[..., Any]) -> Any:
    torch = _package("torch")
    module = torch.nn.Module()
    module.model = model  # so that its weights belong to the module
    module.forward = forward
    return module.eval()


def _write_settings(clip: _Clip, name: str, dim: int, folder: Path) -> None:
    scale, bias = _logits(clip.model)
    config: dict[str, Any] = {
        "embed_dim": dim,
        "vision_cfg": {"image_size": clip.preprocess["size"]},
        "text_cfg": {
            "context_length": clip.context,
            "tokenizer_kwargs": {"clean": clip.clean},
        },
        # What reads it takes a value below 5 for the logarithm.
        "logit_scale": scale if scale >= 5 else math.log(scale),
        "model_name": name,
    }
    if bias is not None:
        config["logit_bias"] = bias
    _write_json(folder / "config.json", config)
    _write_json(folder / "visual/preprocess_cfg.json", clip.preprocess)
    _write_json(folder / "textual/tokenizer_config.json", {"pad_token": clip.pad})
    (folder / "textual/tokenizer.json").write_text(clip.tokenizer.to_str(), encoding="utf-8")


def _logits(model: Any) -> tuple[float, float | None]:
    """Return the factor and, of a sigmoid model, the offset that turn a cosine into a logit."""
    bias = getattr(model, "logit_bias", None)
    scale = float(model.logit_scale.detach().float().exp())
    return scale, None if bias is None else float(bias.detach().float())


def _compare_clip(
    clip: _Clip,
    folder: Path,
    pictures: Sequence[PIL.Image.Image],
    image_vectors: Floats,
    text_vectors: Floats,
    ids: npt.NDArray[np.int64],
) -> _Done:
    import numpy as np

    model: ClipModel = _load_clip(folder)
    images = np.linalg.norm(model.encode_images(pictures) - image_vectors, axis=1)
    texts = np.linalg.norm(model.encode_texts(PROMPTS) - text_vectors, axis=1)
    scale, bias = _logits(clip.model)
    if not (math.isclose(model.logit_scale, scale, rel_tol=1e-6) and model.logit_bias == bias):
        raise ModelError(
            f"the logit scale {scale:g} and bias {bias} came back as {model.logit_scale:g} and "
            f"{model.logit_bias}; nothing was written"
        )
    others = [
        p for p, a, b in zip(PROMPTS, model.token_ids(PROMPTS), ids, strict=True) if (a != b).any()
    ]
    height, width = model.image_size
    return _Done(
        {"images": float(images.max()), "texts": float(texts.max())},
        {"images": len(pictures), "prompts": len(PROMPTS)},
        {
            "dim": model.dim,
            "image_size": [height, width],
            "context": clip.context,
            "logit_scale": model.logit_scale,
            "logit_bias": model.logit_bias,
        },
        f"; other token ids for {others[0][:40]!r}" if others else "",
    )


def _load_clip(folder: Path) -> ClipModel:
    from wordsight.models import load_model

    return load_model(folder, precision="fp32")


def _pictures(side: int) -> list[PIL.Image.Image]:
    """Draw images of odd sizes and modes, the same each time, for an input of ``side`` pixels.

    None is transparent (transformers puts white behind those, this package and open_clip nothing),
    none has a palette (open_clip resizes those before it looks up the colours).
    """
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)

    def draw(width: int, height: int, mode: str) -> Image.Image:
        # At some sizes the crop of transformers is a pixel beside that of open_clip, which is
        # this package's: the one rounds the corner down, the other to the nearest even number.
        short, long = sorted((width, height))
        while (int(side * long / short) - side) % 4 == 3:
            long += 1
        size = (long, short) if width > height else (short, long)
        coarse = rng.integers(0, 256, (9, 11, 3), np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)

    return [
        draw(641, 427, "RGB"),
        draw(333, 500, "L"),
        draw(401, 267, "RGB"),
        draw(5, 7, "RGB"),
        draw(900, 90, "RGB"),
    ]


# -- open_clip


def _open_clip(place: str, pretrained: str | Path | None) -> _Clip:
    torch, open_clip = _package("torch"), _package("open_clip")
    folder = Path(place).is_dir()
    name = f"local-dir:{place}" if folder else place
    if folder and pretrained is not None:
        raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
    if not folder and place not in open_clip.list_models():
        raise ModelError(
            f"{place}: no such folder, and no model of open_clip by that name"
            + _close(place, open_clip.list_models())
        )
    if pretrained is not None and not expanded(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(place)
        if str(pretrained) not in tags:
            known = f"it knows {', '.join(tags)}" if tags else "it knows none"
            raise ModelError(
                f"{pretrained}: neither a file nor weights that open_clip has for {place}; {known}"
            )
        # open_clip only warns of this, and the comparison with the original would be with the
        # same wrong one.
        trained = open_clip.get_pretrained_cfg(place, str(pretrained)).get("quick_gelu", False)
        if bool(trained) != bool(open_clip.get_model_config(place).get("quick_gelu", False)):
            other = f"{place}-quickgelu" if trained else place.removesuffix("-quickgelu")
            raise ModelError(
                f"{pretrained}: these weights were trained with another activation than {place} "
                f"has; export {other} instead"
            )
    weights = None if pretrained is None else str(expanded(pretrained))
    with _telling(f"open_clip cannot load {place}"):
        model = open_clip.create_model(
            name, pretrained=weights, precision="fp32", require_pretrained=True, weights_only=True
        ).eval()
        tokenizer = open_clip.get_tokenizer(name)
        settings = dict(open_clip.get_model_preprocess_cfg(model))
        transform = _package("open_clip.transform")
        prepare = transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False)
    size = settings["size"]
    settings["size"] = [size, size] if isinstance(size, int) else list(size)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        inner, pad = _byte_pairs(tokenizer), "!"  # id 0, with which open_clip fills up
    else:
        inner, pad = _fast(inner), str(inner.pad_token)
    separator = tokenizer.tokenizer.sep_token_id if _strips(tokenizer) else None

    def text(ids: Any) -> Any:
        if separator is not None:
            ids = torch.where(ids == separator, torch.zeros_like(ids), ids)
        return model.encode_text(ids)

    return _Clip(
        model=model,
        image=model.encode_image,
        text=text,
        text_inputs=("text",),
        prepare=prepare,
        tokenize=lambda texts: (tokenizer(texts),),
        tokenizer=inner,
        pad=pad,
        preprocess=settings,
        context=int(tokenizer.context_length),
        clean=_cleaning_of(tokenizer),
    )


def _strips(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "strip_sep_token", False))


def _cleaning_of(tokenizer: Any) -> str:
    """Name the function with which a tokenizer of open_clip cleans texts."""
    choose = _package("open_clip.tokenizer").get_clean_fn
    used = getattr(tokenizer, "clean_fn", None)
    names = ("lower", "whitespace", "canonicalize")
    return next((name for name in names if choose(name) is used), "canonicalize")


def _byte_pairs(tokenizer: Any) -> Any:
    """Put the byte pairs of CLIP's first tokenizer, as open_clip keeps them, into `tokenizers`."""
    clip_tokenizer = _package("transformers").CLIPTokenizer
    # The names that open_clip gives the two special tokens are not those in published files.
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in tokenizer.encoder.items()}
    return _fast(clip_tokenizer(vocab=vocabulary, merges=list(tokenizer.bpe_ranks)))


# -- transformers


def _transformers(place: str, pretrained: str | Path | None) -> _Clip:
    if pretrained is not None:
        raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
    torch, transformers = _package("torch"), _package("transformers")
    transformers.utils.logging.disable_progress_bar()
    with _telling(f"transformers cannot load {place}"):
        # Decided by the settings alone, before gigabytes of another kind of model are read.
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        if not (hasattr(config, "vision_config") and hasattr(config, "text_config")):
            raise ModelError(
                f"{place}: a {config.model_type} model, not one with an image and a text tower"
            )
        model, report = transformers.AutoModel.from_pretrained(
            place, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
        if not all(
            hasattr(model, n) for n in ("get_image_features", "get_text_features", "logit_scale")
        ):
            raise ModelError(f"{place}: a {config.model_type} model, which is not of CLIP's kind")
        lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        if lost:
            raise ModelError(
                f"{place}: the weights are not whole ({len(lost)} missing or of another shape, "
                f"{lost[0]} for one)"
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        processor = transformers.AutoImageProcessor.from_pretrained(
            place, trust_remote_code=False, backend="pil"
        )
        preprocess = _preprocess_of(processor, place)
        context = int(min(config.text_config.max_position_embeddings, tokenizer.model_max_length))
    model.eval()
    # CLIP's text tower looks back only, and SigLIP's was trained to look at the padding too.
    masked = (
        config.model_type not in ("clip", "siglip", "siglip2")
        and "attention_mask" in tokenizer.model_input_names
    )
    names = ("input_ids", "attention_mask") if masked else ("text",)

    def image(pixels: Any) -> Any:
        return _pooled(model.get_image_features(pixel_values=pixels))

    def text(ids: Any, mask: Any = None) -> Any:
        more = {} if mask is None else {"attention_mask": mask}
        return _pooled(model.get_text_features(input_ids=ids, **more))

    def tokenize(texts: list[str]) -> tuple[Any, ...]:
        found = tokenizer(
            texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        return (found["input_ids"], found["attention_mask"]) if masked else (found["input_ids"],)

    # The tokenizer of SigLIP cleans in Python, all others within their description.
    clean = "canonicalize" if hasattr(tokenizer, "canonicalize_text") else "whitespace"
    return _Clip(
        model=model,
        image=image,
        text=text,
        text_inputs=names,
        prepare=lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0],
        tokenize=tokenize,
        tokenizer=_fast(tokenizer),
        pad=str(tokenizer.pad_token),
        preprocess=preprocess,
        context=context,
        clean=clean,
    )


def _pooled(found: Any) -> Any:
    return getattr(found, "pooler_output", found)  # before transformers 5 the tensor itself


def _preprocess_of(processor: Any, place: str) -> dict[str, Any]:
    """Say the settings of an image processor in open_clip's words."""
    from PIL.Image import Resampling

    def sides(value: Any) -> list[int]:
        return [value, value] if isinstance(value, int) else [value["height"], value["width"]]

    size = processor.size
    short = size if isinstance(size, int) else dict(size).get("shortest_edge")
    crop = sides(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    interpolation = Resampling(int(processor.resample)).name.lower()
    problems = [
        (not processor.do_resize, "does not resize"),
        (not processor.do_rescale, "does not scale pixels to 0..1"),
        (abs(processor.rescale_factor * 255 - 1) > 1e-3, "scales pixels otherwise than to 0..1"),
        (short is not None and crop != [short, short], "crops to another size than it resizes to"),
        (short is None and "height" not in dict(size), f"resizes in its own way ({size})"),
        (short is None and crop not in (None, sides(size)), "crops after fitting to a size"),
    ]
    for wrong, what in problems:
        if wrong:
            raise ModelError(f"{place}: its image processor {what}, which this layout cannot say")
    plain = not processor.do_normalize
    return {
        "size": crop or sides(size),
        "mode": "RGB",
        "mean": [0.0] * 3 if plain else list(processor.image_mean),
        "std": [1.0] * 3 if plain else list(processor.image_std),
        "interpolation": interpolation,
        "resize_mode": "squash" if short is None else "shortest",
        "fill_color": 0,
    }


def _fast(tokenizer: Any) -> Any:
    """Return a tokenizer of transformers as an object of `tokenizers`."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        if not getattr(tokenizer, "vocab_file", None):
            raise ModelError(
                f"{type(tokenizer).__name__} is written in Python alone and has no tokenizer.json"
            )
        # This converter is that of plain SentencePiece models that end texts with </s>.
        converter = _package("transformers.convert_slow_tokenizer").UdopConverter
        with _telling("the tokenizer cannot be converted to a tokenizer.json"):
            backend = converter(tokenizer).converted()
    return Tokenizer.from_str(backend.to_str())


# -- Mask R-CNN ---------------------------------------------------------------------------------


def _export_detector(
    place: str, pretrained: str | Path | None, draft: Path, step: Callable[[], None]
) -> _Done:
    torch, torchvision = _package("torch"), _package("torchvision")
    model, labels, name = _detector(torchvision, place, pretrained)
    step()

    def forward(image: Any) -> tuple[Any, Any, Any, Any]:
        # GeneralizedRCNN.forward, but for the masks: those stay in the frame of their boxes.
        images, _ = model.transform([image])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        (found,), _ = model.roi_heads(features, proposals, images.image_sizes)
        boxes = torchvision.models.detection.transform.resize_boxes(
            found["boxes"], images.image_sizes[0], image.shape[-2:]
        )
        return boxes, found["scores"], found["labels"], found["masks"]

    folder = draft / "model"
    pictures = _scenes()
    tensors = [torchvision.transforms.functional.to_tensor(picture) for picture in pictures]
    module, outputs = _module(model, forward), ["boxes", "scores", "labels", "masks"]
    _write_graph(
        module,
        (tensors[0],),
        ["image"],
        folder / GRAPH,
        draft,
        outputs=outputs,
        axes={"image": {1: "height", 2: "width"}, **{output: {0: "n"} for output in outputs}},
    )
    step()
    _write_json(
        folder / DESCRIPTION,
        {
            "name": name,
            "image": {"channels": "RGB", "scale": 1 / 255},
            "labels": labels,
            "mask_frame": "box",
            "source": f"torchvision {torchvision.__version__}, {name}",
        },
    )
    step()
    detector = load_detector(folder)
    differences, compared = {"boxes": 0.0, "scores": 0.0, "masks": 0.0}, 0
    masks: list[Any] = []  # before the original pastes them into the image
    hook = model.roi_heads.register_forward_hook(
        lambda _module, _inputs, found: masks.append(found[0][0]["masks"][:, 0].numpy())
    )
    for picture, tensor in zip(pictures, tensors, strict=True):
        with torch.inference_mode():
            (found,) = model([tensor])
        boxes, scores = found["boxes"].numpy(), found["scores"].numpy()
        compared += len(scores)
        for what, value in _apart(boxes, scores, masks.pop(), detector(picture)).items():
            differences[what] = max(differences[what], value)
    hook.remove()
    step()
    count = sum(name not in ("__background__", "N/A") for name in labels or ())
    return _Done(differences, {"images": len(pictures), "boxes": compared}, {"labels": count})


def _is_coco_v1(file: Path) -> bool:
    """Whether this is torchvision's own file of the weights COCO_V1, whatever it is called."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return digest.startswith("bf2d0c1e")  # the end of its published name


def _detector(
    torchvision: Any, place: str, pretrained: str | Path | None
) -> tuple[Any, list[str] | None, str]:
    """Build a Mask R-CNN: the model, the names of its labels if they are known, its name."""
    names = torchvision.models.list_models(torchvision.models.detection, include="maskrcnn*")
    file = expanded(place)
    weights = None
    if file.is_file():
        if pretrained is not None:
            raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
        state = _state(file)
        # The second version has two convolutions in its proposal head, the first one.
        second = any(key.startswith("rpn.head.conv.1.") for key in state)
        architecture, name = "maskrcnn_resnet50_fpn" + ("_v2" if second else ""), file.stem
    elif place in names:
        if pretrained is None:
            raise ModelError(
                f"{place}: say which weights with --pretrained FILE or --pretrained COCO_V1"
            )
        architecture = name = place
        file = expanded(pretrained)
        if file.is_file():
            state = _state(file)
        else:
            known = torchvision.models.get_model_weights(place)
            if str(pretrained) not in known.__members__:
                raise ModelError(
                    f"{pretrained}: neither a file nor weights that torchvision has for {place}; "
                    f"it knows {', '.join(known.__members__)}"
                )
            weights = known[str(pretrained)]
            with _telling(f"the weights {pretrained} of {place} cannot be fetched"):
                state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    else:
        raise ModelError(
            f"{place}: no such file, and no Mask R-CNN of torchvision by that name; "
            f"it has {', '.join(names)}"
        )
    classes = state.get("roi_heads.box_predictor.cls_score.weight")
    if classes is None or "roi_heads.mask_predictor.mask_fcn_logits.weight" not in state:
        clip = {"visual.conv1.weight", "logit_scale", "visual.trunk.pos_embed"} & state.keys()
        raise ModelError(
            f"{file}: not the weights of a Mask R-CNN of torchvision"
            + (
                "; for a CLIP model name its architecture: wordsight export MODEL --pretrained "
                f"{file} --out DIR"
                if clip
                else ""
            )
        )
    with _telling(f"{file}: the weights do not fit torchvision's {architecture}"):
        model = torchvision.models.get_model(
            architecture, weights=None, weights_backbone=None, num_classes=len(classes)
        )
        lost = model.load_state_dict(state, strict=False)
        # Frozen batch norms, which trained models have, do not count batches.
        missing = [k for k in lost.missing_keys if not k.endswith("num_batches_tracked")]
        if missing or lost.unexpected_keys:
            raise ModelError(
                f"{file}: the weights do not fit torchvision's {architecture} ({len(missing)} "
                f"missing, {len(lost.unexpected_keys)} unknown: "
                f"{[*missing, *lost.unexpected_keys][0]})"
            )
    official = weights.name == "COCO_V1" if weights else _is_coco_v1(file)
    if official and architecture == names[0]:
        for module in model.modules():
            if hasattr(module, "running_var"):
                module.eps = 0.0  # as torchvision does for these weights alone
    coco = torchvision.models.get_model_weights(names[0]).DEFAULT.meta["categories"]
    return model.eval(), list(coco) if len(classes) == len(coco) else None, name


def _state(file: Path) -> dict[str, Any]:
    """Read weights without executing anything in them."""
    torch = _package("torch")
    try:
        if file.suffix == ".safetensors":
            found = _package("safetensors.torch").load_file(file)
        else:
            # torchvision's training script keeps its arguments beside the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # pickle, zip and torch raise kinds of their own
        raise ModelError(
            f"{file}: not a file of weights that can be read safely ({_one_line(error)}); save "
            "the state_dict alone: torch.save(model.state_dict(), FILE)"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(torch.is_tensor(v) for v in found.values()):
        raise ModelError(f"{file}: holds no state_dict; torch.save(model.state_dict(), FILE)")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def _scenes() -> list[PIL.Image.Image]:
    """Draw a landscape and a portrait with some plain things on noise, the same each time."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(3)
    scenes = []
    for width, height in ((333, 250), (181, 260)):
        noise = rng.integers(60, 200, (height, width, 3), np.uint8)
        scene = Image.fromarray(noise)
        pen = ImageDraw.Draw(scene)
        for _ in range(6):
            x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
            box = [int(x), int(y), int(x + rng.integers(20, 90)), int(y + rng.integers(20, 90))]
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            (pen.ellipse if rng.integers(2) else pen.rectangle)(box, fill=colour)
        scenes.append(scene)
    return scenes


def _apart(boxes: Floats, scores: Floats, masks: Floats, found: Detections) -> dict[str, float]:
    """Pair the original's boxes with those found; return the greatest differences of a pair."""
    import numpy as np

    if len(boxes) != len(found):
        return {"boxes": 1.0}
    if not len(boxes):
        return {}
    overlap = _iou(boxes, found.boxes)
    planes = np.stack(found.masks or [])
    # The masks too, because classes may share a box.
    unlike = np.abs(masks[:, None] - planes).mean(axis=(2, 3))
    partner = (1 - overlap + np.abs(scores[:, None] - found.scores) + unlike).argmin(axis=1)
    return {
        "boxes": float(1 - overlap[np.arange(len(boxes)), partner].min()),
        "scores": float(np.abs(scores - found.scores[partner]).max()),
        "masks": float(np.abs(masks - planes[partner]).mean(axis=(1, 2)).max()),
    }


def _iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union: boxes [N, 4] and [M, 4] -> [N, M]."""
    import numpy as np

    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(x[:, 2:] - x[:, :2], 0, None).prod(axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    result: Floats = shared / np.maximum(union, 1e-9)
    return result


# -- shared -------------------------------------------------------------------------------------


def _write_graph(
    module: Any,
    sample: tuple[Any, ...],
    inputs: list[str],
    path: Path,
    draft: Path,
    *,
    outputs: Sequence[str] = ("embedding",),
    axes: dict[str, dict[int, str]] | None = None,
) -> None:
    """Trace a module on a sample and write it as ONNX; by default with a batch of any size."""
    torch, onnx = _package("torch"), _package("onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = draft / "scratch"
    scratch.mkdir()
    traced = scratch / "traced.onnx"
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no such operator
    try:
        with torch.inference_mode():
            # The older of the two exporters: the newer cannot follow a Mask R-CNN, whose number of
            # boxes depends on the image (torch 2.14).
            torch.onnx.export(
                module,
                sample,
                str(traced),
                input_names=inputs,
                output_names=list(outputs),
                dynamic_axes=axes or {name: {0: "batch"} for name in (*inputs, *outputs)},
                opset_version=_OPSET,
                dynamo=False,
            )
        if len(list(scratch.iterdir())) == 1:
            traced.replace(path)
        else:  # above 2 GiB torch writes a file for each tensor; they are gathered into one
            onnx.save_model(
                onnx.load(str(traced)),
                str(path),
                save_as_external_data=True,
                location=f"{path.name}.data",
            )
    except OSError:
        raise
    except Exception as error:  # torch and onnx raise kinds of their own
        raise ModelError(
            f"torch cannot write {path.parent.name}/{path.name} as ONNX ({_one_line(error)}); "
            "nothing was written"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        shutil.rmtree(scratch)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Give a folder to work in; its ``model`` becomes ``out`` if all goes well, else all goes."""
    if out.is_dir() and any(out.iterdir()):
        raise ModelError(f"{out}: is there already; remove it or choose another --out")
    if out.exists() and not out.is_dir():
        raise ModelError(f"{out}: is a file; choose another --out")
    above = next(folder for folder in out.parents if folder.exists())
    draft = above / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        draft.mkdir()
        yield draft
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            out.rmdir()  # Windows does not put a folder in place of another
        (draft / "model").rename(out)
    except OSError as error:
        raise ModelError(
            f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _quiet(cache: Path) -> Iterator[None]:
    """Silence what the libraries say on the way, and keep compiled graphs of the draft in it."""
    before = os.environ.get("WORDSIGHT_CACHE")
    level = logging.root.manager.disable
    os.environ["WORDSIGHT_CACHE"] = str(cache)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            del os.environ["WORDSIGHT_CACHE"]
        else:
            os.environ["WORDSIGHT_CACHE"] = before


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what a library raises into one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # each library raises kinds of its own
        raise ModelError(f"{what} ({_one_line(error)})") from error


def _package(name: str) -> Any:
    """Import a package of the extra ``export``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise ModelError(
            f'export needs the package {missing}: pip install "wordsight[export]"'
        ) from error
    except Exception as error:  # torchvision beside a torch of another version, for one
        raise ModelError(
            f"the package {name} cannot be loaded ({_one_line(error)}); do torch and torchvision "
            'fit together? pip install "wordsight[export]" in a new environment'
        ) from error


def _steps(progress: Progress | None, total: int = 4) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    if progress:
        progress(0, total)
    return step


def _close(name: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
