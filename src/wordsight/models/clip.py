"""CLIP: images and texts as unit vectors in one space, from a model directory.

The directory is the layout that the Immich project publishes for about sixty open_clip models::

    config.json                     embed_dim, text_cfg (context_length, tokenizer_kwargs), ...
    visual/model.onnx               float32 [N, 3, H, W] -> float32 [N, D]
    visual/preprocess_cfg.json      size, mean, std, interpolation, resize_mode, fill_color
    textual/model.onnx              int32 or int64 [N, context] -> float32 [N, D]
    textual/tokenizer.json          Hugging Face `tokenizers` form
    textual/tokenizer_config.json   pad_token

Preprocessing follows open_clip's ``transform.py`` (evaluation) and ``tokenizer.py``; both are
described by the files, nothing about a particular model is written here.
"""

from __future__ import annotations

import html
import json
import math
import re
import string
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.models.external_data import external_data, plain_folder
from wordsight.models.runtime import Graph, check_choice, open_graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from tokenizers import Tokenizer

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

LAYOUT = (
    "config.json",
    "visual/model.onnx",
    "visual/preprocess_cfg.json",
    "textual/model.onnx",
    "textual/tokenizer.json",
    "textual/tokenizer_config.json",
)
"""The files of a model directory."""


def beside(folder: Path) -> list[str]:
    """Return the files of weights that the graphs of a model directory refer to."""
    return [
        f"{tower}/{name}"
        for tower in ("visual", "textual")
        for name in external_data(folder / tower / "model.onnx")
    ]


# What CLIP models trained with a softmax end at: open_clip and OpenAI clamp the scale to 100.
SOFTMAX_SCALE = 100.0

# How many images go through the image tower at once: ViT-B/32 in bf16 makes 131, 153, 173 and 178
# images/s of them in batches of 16, 32, 64 and 128 (two cores with AMX), and 64 more take 100 MB.
IMAGE_BATCH = 64
TEXT_BATCH = 64
_MOST, _MOST_PIXELS = 1 << 16, 4096  # numbers or tokens, pixels a side: no model has as many

# Images are resized so that the short side fits and then cropped at the centre. Beyond this ratio
# of sides the ends are cut off first: a 1 x 20,000 strip would otherwise become gigabytes.
MAX_ASPECT = 16


class ClipModel:
    """An opened CLIP model. Towers load when first used; all methods are thread-safe.

    Args:
        path: a model directory.
        name: what to call it; the directory's name if not given.
        source: what :func:`wordsight.load_model` opens it again with; the directory if not given.
        runtime: "auto", "openvino" or "onnxruntime".
        precision: "auto", "fp32", "bf16" or "int8" (:func:`wordsight.models.runtime.open_graph`).
            With "auto" the image tower computes in bf16 where that is fast (cosines to fp32 above
            0.9999, about four times the speed), the text tower in fp32. "int8" concerns the image
            tower alone; :func:`wordsight.indexing.check_int8` says what it changes.
        logit_scale: overrides what `config.json` says.
        logit_bias: likewise.

    Raises:
        ModelError: a file of the layout is missing or makes no sense, or there is no such runtime
            or precision.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        source: str | None = None,
        runtime: str = "auto",
        precision: str = "auto",
        logit_scale: float | None = None,
        logit_bias: float | None = None,
    ) -> None:
        self.path = Path(path)
        missing = [file for file in LAYOUT if not (self.path / file).is_file()]
        if missing:
            raise ModelError(
                f"{self.path}: not a whole CLIP model directory ({', '.join(missing)} missing)"
            )
        self.name = name or self.path.resolve().name
        self.source = source or str(self.path.resolve())
        check_choice(runtime, precision)  # now, not when the first image is encoded
        self._runtime = runtime
        self._precision = precision
        self._lock = threading.Lock()
        self._visual_graph: Graph | None = None
        self._textual_graph: Graph | None = None
        config = _read_json(self.path / "config.json")
        text_config = config.get("text_cfg") or {}
        preprocess = _read_json(self.path / "visual/preprocess_cfg.json")
        try:
            self.dim = int(config["embed_dim"])
            self._context = int(text_config.get("context_length") or 77)
            self._clean = _cleaning(text_config, self.path / "textual/tokenizer_config.json")
            self._preprocess = _Preprocess(preprocess)
            self.logit_scale, self.logit_bias = _logits(config, logit_scale, logit_bias)
            if not (1 <= self.dim <= _MOST and 2 <= self._context <= _MOST):
                raise ValueError("embed_dim or context_length")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"{self.path}: config.json or visual/preprocess_cfg.json makes no sense "
                f"({type(error).__name__}: {error}); fetch the model again"
            ) from error

    def __repr__(self) -> str:
        return f"ClipModel({self.name!r}, dim={self.dim}, path={str(self.path)!r})"

    @cached_property
    def hash(self) -> str:
        """Content hash of the model's files: 16 hex digits, the same on any runtime."""
        from wordsight.models.hub import content_hash

        return content_hash(self.path, [*LAYOUT, *beside(self.path)])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image tower's input, in pixels."""
        return self._preprocess.size

    @property
    def preprocessing(self) -> str:
        """How images are prepared, in one line; vectors made otherwise do not compare."""
        return str(self._preprocess)

    def preprocess(
        self, image: Image | npt.NDArray[Any], full_size: tuple[int, int] | None = None
    ) -> Pixels:
        """Resize and cut one image (any mode) for the image tower: uint8 [H, W, 3].

        ``full_size`` is the width and height of the original where the image was decoded at a
        reduced scale: what is cut off at the ends is that of the original, to the pixel.
        """
        return self._preprocess(image, full_size)

    def normalise(self, pixels: Pixels | Sequence[Pixels]) -> Floats:
        """What the graph is given for prepared images: uint8 [N, H, W, 3] -> float32 [N, 3, H, W].

        ``(x / 255 - mean) / std``, with mean and sd of each colour from the model's files.
        """
        return self._preprocess.normalise(pixels)

    def encode_images(self, images: Sequence[Image | npt.NDArray[Any]]) -> Floats:
        """Encode images (PIL images of any mode or RGB arrays): float32 [N, dim], unit length."""
        import numpy as np

        out = np.empty((len(images), self.dim), np.float32)
        step = 4 * IMAGE_BATCH  # bounds the memory of the prepared pixels
        for start in range(0, len(images), step):
            pixels = [self.preprocess(image) for image in images[start : start + step]]
            out[start : start + step] = self.encode_pixels(pixels)
        return out

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> Floats:
        """Encode prepared images (:meth:`preprocess`), N of uint8 [H, W, 3]: float32 [N, dim].

        The vectors have unit length. Raises ValueError for pixels of another shape or type.
        """
        import numpy as np

        shape = (*self.image_size, 3)
        for image in pixels:
            if image.dtype != np.uint8 or image.shape != shape:
                raise ValueError(
                    f"images must be uint8 {list(shape)}, not {image.dtype} {list(image.shape)}"
                )
        if len(pixels) == 0:
            return np.empty((0, self.dim), np.float32)
        # Four times as large as floats: they are made a batch at a time.
        return self._run(self._visual, {"image": pixels}, IMAGE_BATCH, self.normalise)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Encode texts: float32 [N, dim], unit length. Long ones are cut to the context."""
        import numpy as np

        if len(texts) == 0:
            return np.empty((0, self.dim), np.float32)
        ids, mask = self._tokens(texts)
        graph = self._textual
        feeds = {name: mask if name == "attention_mask" else ids for name in graph.inputs}
        return self._run(graph, feeds, TEXT_BATCH)

    def token_ids(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokenize texts as the text tower sees them: int64 [N, context]."""
        return self._tokens(texts)[0]

    def truncated(self, text: str) -> bool:
        """Tell whether a text is longer than the model's context, so that its end is ignored."""
        (tokens,) = self._encode([text])
        return bool(tokens.overflowing)

    def unreadable(self, text: str) -> bool:
        """Tell whether the tokenizer knows nothing of a text, so that all such texts are one to it.

        A character that is in no language (U+E000) shows which tokens stand for the unknown; of
        tokenizers that spell every character in bytes no text is unreadable.
        """
        asked, unknown = (
            {
                token
                for token, special in zip(found.ids, found.special_tokens_mask, strict=True)
                if not special
            }
            for found in self._encode([text, "\ue000"])
        )
        return asked <= unknown

    def unread(self, text: str) -> list[str]:
        """Return the parts of a text that the tokenizer does not know, marks aside.

        Of tokenizers that spell every character in bytes it is none.
        """
        # What two characters that are in no language have in common stands for the unknown: bytes
        # they do not share. "▁" is SentencePiece's space.
        found, one, other = self._encode([text, "\ue000", "\uf8ff"])
        unknown = {
            token
            for token, piece, special in zip(
                one.ids, one.tokens, one.special_tokens_mask, strict=True
            )
            if not special and piece != "▁" and token in other.ids
        }
        cleaned = self._clean(text)
        spans: list[tuple[int, int]] = []
        for token, (start, end) in zip(found.ids, found.offsets, strict=True):
            if token not in unknown:
                continue
            joins = spans and not cleaned[spans[-1][1] : start].strip()
            spans.append((spans.pop()[0] if joins else start, end))
        parts = [cleaned[start:end] for start, end in spans]
        return [part for part in parts if any(map(_says_something, part))]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        return self._tokenizer.encode_batch([self._clean(text) for text in texts])

    def _tokens(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        import numpy as np

        encodings = self._encode(texts)
        shape = (len(encodings), self._context)
        ids = np.array([e.ids for e in encodings], np.int64).reshape(shape)
        mask = np.array([e.attention_mask for e in encodings], np.int64).reshape(shape)
        return ids, mask

    def _run(
        self,
        graph: Graph,
        feeds: Mapping[str, Any],
        batch: int,
        prepare: Callable[[Any], npt.NDArray[Any]] = lambda rows: rows,
    ) -> Floats:
        """Run a tower over any number of rows, some at a time, and normalise what comes out."""
        import numpy as np

        count = len(next(iter(feeds.values())))
        # In parts of nearly one size: for a batch of one OpenVINO packs the weights a second time,
        # and keeps both.
        step = math.ceil(count / math.ceil(count / batch))
        out = np.empty((count, self.dim), np.float32)
        for start in range(0, count, step):
            rows = {name: prepare(array[start : start + step]) for name, array in feeds.items()}
            n = min(step, count - start)
            vectors = _embedding(graph(rows)).astype(np.float32, copy=False)
            if vectors.shape != (n, self.dim):
                raise ModelError(
                    f"{graph.path}: gives vectors of shape {list(vectors.shape)} where "
                    f"config.json says embed_dim {self.dim}; the model's files do not fit together"
                )
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            if not np.isfinite(norms).all():
                raise ModelError(
                    f"{graph.path}: gives vectors that are not finite, in {graph.precision} on "
                    f"{graph.runtime}; try --precision fp32 or another --runtime, else fetch the "
                    "model again"
                )
            out[start : start + n] = vectors / np.maximum(norms, 1e-12)
        return out

    def release_texts(self) -> None:
        """Give back the memory of the text tower; it is opened again when a text is encoded."""
        with self._lock:
            self._textual_graph = None

    @property
    def _visual(self) -> Graph:
        with self._lock:
            if self._visual_graph is None:
                height, width = self.image_size
                graph = open_graph(
                    plain_folder(self.path / "visual/model.onnx"),
                    runtime=self._runtime,
                    precision=self._precision,
                    any_batch=True,
                )
                _check_signature(graph, [{"image"}], 4, {1: 3, 2: height, 3: width})
                self._visual_graph = graph
            return self._visual_graph

    @property
    def _textual(self) -> Graph:
        with self._lock:
            if self._textual_graph is None:
                graph = open_graph(
                    plain_folder(self.path / "textual/model.onnx"),
                    runtime=self._runtime,
                    precision="bf16" if self._precision == "bf16" else "fp32",
                    cold=True,
                    any_batch=True,
                )
                names = [{"text"}, {"input_ids", "attention_mask"}]
                _check_signature(graph, names, 2, {1: self._context})
                self._textual_graph = graph
            return self._textual_graph

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        folder = self.path / "textual"
        config = _read_json(folder / "tokenizer_config.json")
        pad = config.get("pad_token")
        if isinstance(pad, dict):  # older files write the token with its flags
            pad = pad.get("content")
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare exceptions
            raise ModelError(
                f"{folder / 'tokenizer.json'}: not a tokenizer ({error}); fetch the model again"
            ) from error
        pad_id = tokenizer.token_to_id(pad) if isinstance(pad, str) else None
        if pad_id is None:
            raise ModelError(
                f"{folder / 'tokenizer_config.json'}: pad_token {pad!r} is not in tokenizer.json"
            )
        tokenizer.enable_padding(length=self._context, pad_token=pad, pad_id=pad_id)
        # Truncation leaves room for the start and end tokens, as CLIP was trained.
        tokenizer.enable_truncation(max_length=self._context)
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a prompt is ordinary text
        return tokenizer


class _Preprocess:
    """open_clip's evaluation transform, described by `preprocess_cfg.json`."""

    def __init__(self, config: dict[str, Any]) -> None:
        import numpy as np

        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else (size * 2)[:2]
        self.size = (int(height), int(width))
        if not 1 <= min(self.size) <= max(self.size) <= _MOST_PIXELS:
            raise ValueError(f"size {size!r}")
        self.mode = str(config.get("resize_mode") or "shortest")
        if self.mode not in ("shortest", "longest", "squash"):
            raise ValueError(f"resize_mode {self.mode!r}")
        self.interpolation = str(config.get("interpolation") or "bicubic")
        if self.interpolation == "random":  # open_clip: random in training, bicubic afterwards
            self.interpolation = "bicubic"
        if self.interpolation not in ("bicubic", "bilinear", "nearest", "lanczos"):
            raise ValueError(f"interpolation {self.interpolation!r}")
        self.fill = int(config.get("fill_color") or 0)
        mean = np.broadcast_to(np.asarray(config["mean"], np.float64), 3)
        std = np.broadcast_to(np.asarray(config["std"], np.float64), 3)
        if not ((std > 0).all() and np.isfinite([mean, std]).all()):
            raise ValueError(f"mean {config['mean']}, std {config['std']}")
        # (x / 255 - mean) / std as one multiplication and one addition
        self._scale = (1 / (255 * std)).astype(np.float32)
        self._shift = (-mean / std).astype(np.float32)
        self._text = (
            f"{self.mode} {self.size[1]}x{self.size[0]} {self.interpolation} "
            f"mean {_numbers(mean)} std {_numbers(std)}"
        )

    def __str__(self) -> str:
        return self._text

    def __call__(
        self, image: Image | npt.NDArray[Any], full_size: tuple[int, int] | None = None
    ) -> Pixels:
        import numpy as np

        from wordsight.images import to_rgb

        return np.asarray(self._fit(to_rgb(image), full_size))

    def normalise(self, pixels: Pixels | Sequence[Pixels]) -> Floats:
        import numpy as np

        planes = np.empty((len(pixels), 3, *self.size), np.float32)
        # Image by image: one stays in the processor's cache.
        for image, into in zip(pixels, planes, strict=True):
            into[...] = image.transpose(2, 0, 1)
            for colour in range(3):
                into[colour] *= self._scale[colour]
                into[colour] += self._shift[colour]
        return planes

    def _fit(self, image: Image, full_size: tuple[int, int] | None) -> Image:
        from PIL.Image import Resampling

        height, width = self.size
        resampling = Resampling[self.interpolation.upper()]
        if self.mode == "squash":
            return image.resize((width, height), resampling)
        if self.mode == "shortest":
            whole = image.size
            image = _without_far_ends(image)
            # A side that is rounded up in the reduced image can move the result by a pixel.
            full = full_size if full_size and image.size == whole else image.size
            if height == width:  # torchvision's Resize(int): the long side is truncated
                w, h = (int(height * side / min(full)) for side in full)
            else:
                ratio = min(full[1] / height, full[0] / width)
                w, h = round(full[0] / ratio), round(full[1] / ratio)
        else:
            full = full_size or image.size
            ratio = max(full[1] / height, full[0] / width)
            w, h = max(1, round(full[0] / ratio)), max(1, round(full[1] / ratio))
        return _centre(image.resize((w, h), resampling), width, height, self.fill)


def _without_far_ends(image: Image) -> Image:
    short, long = min(image.size), max(image.size)
    extra = long - MAX_ASPECT * short
    if extra <= 0:
        return image
    # An even cut keeps the centre where it was.
    cut = extra // 2
    if image.width > image.height:
        return image.crop((cut, 0, image.width - cut, image.height))
    return image.crop((0, cut, image.width, image.height - cut))


def _centre(image: Image, width: int, height: int, fill: int) -> Image:
    """Crop and pad at the centre (torchvision's and open_clip's rounding)."""
    if image.width < width or image.height < height:
        from PIL import Image as pillow

        canvas = pillow.new(
            "RGB", (max(width, image.width), max(height, image.height)), (fill, fill, fill)
        )
        canvas.paste(
            image, (max(0, (width - image.width) // 2), max(0, (height - image.height) // 2))
        )
        image = canvas
    if image.size == (width, height):
        return image
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _cleaning(text_config: dict[str, Any], tokenizer_config: Path) -> Any:
    """Pick how open_clip cleans texts for this model.

    ``tokenizer_kwargs.clean`` says it ("canonicalize" in SigLIP models); without it, CLIP's own
    tokenizer lowers the case and any other (`hf_tokenizer_name`, or another `tokenizer_class` in
    `tokenizer_config.json`: M-CLIP's XLM-R) does not.
    """
    named = (text_config.get("tokenizer_kwargs") or {}).get("clean")
    kind = str(_read_json(tokenizer_config).get("tokenizer_class") or "CLIPTokenizer")
    other = text_config.get("hf_tokenizer_name") or not kind.startswith("CLIPTokenizer")
    default = "whitespace" if other else "lower"
    return {
        "whitespace": _clean_whitespace,
        "lower": _clean_lower,
        "canonicalize": _clean_canonicalize,
    }[named or default]


# Outside of these characters ftfy changes nothing, and importing it takes longer than a query.
_MAYBE_BROKEN = re.compile(r"[^\t\n\r\x20-\x25\x27-\x7e]")


def _says_something(character: str) -> bool:
    """Letters, digits and pictures do; punctuation and the signs of sums and money do not."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "So"


def _clean_whitespace(text: str) -> str:
    if _MAYBE_BROKEN.search(text):
        import ftfy

        text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip()


def _clean_lower(text: str) -> str:
    return _clean_whitespace(text).lower()


_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def _clean_canonicalize(text: str) -> str:
    # big_vision's `canonicalize_text`: no punctuation, lower case
    text = _clean_whitespace(text).translate(_NO_PUNCTUATION).lower()
    return re.sub(r"\s+", " ", text).strip()


def _logits(
    config: dict[str, Any], scale: float | None, bias: float | None
) -> tuple[float, float | None]:
    """Pick the factor and the offset that turn a cosine into a logit.

    `config.json` may carry `logit_scale` (the factor itself; a value below 5 is taken for its
    natural logarithm, which is what checkpoints hold) and `logit_bias`. The published directories
    carry only `init_logit_bias` (and `init_logit_scale`), where training *started*: the bias tells
    that a model is of the sigmoid kind (SigLIP), and both are what is left to go by for one.
    Softmax models end at the factor 100, whatever they started from.
    """
    if scale is None and "logit_scale" in config:
        scale = float(config["logit_scale"])
        scale = math.exp(scale) if scale < 5 else scale
    if bias is None:
        bias = config.get("logit_bias", config.get("init_logit_bias"))
    if scale is None:
        scale = SOFTMAX_SCALE
        if bias is not None and "init_logit_scale" in config:
            scale = math.exp(float(config["init_logit_scale"]))
    return scale, None if bias is None else float(bias)


def _embedding(outputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if "embedding" in outputs:
        return outputs["embedding"]
    return next(array for array in outputs.values() if array.ndim == 2)


def _check_signature(graph: Graph, names: list[set[str]], rank: int, axes: dict[int, int]) -> None:
    """Refuse a graph that does not take what this module would feed it.

    ``names`` are the sets of input names that are understood, ``axes`` the sizes that dimensions
    must have where the graph fixes them.
    """
    found = {name: list(tensor.shape) for name, tensor in graph.inputs.items()}
    wanted = ["N", *("*" for _ in range(rank - 1))]
    for axis, size in axes.items():
        wanted[axis] = str(size)
    fits = set(graph.inputs) in names and all(
        len(tensor.shape) == rank
        and all(tensor.shape[axis] in (None, size) for axis, size in axes.items())
        for tensor in graph.inputs.values()
    )
    if not fits:
        expected = " or ".join("+".join(sorted(n)) for n in names)
        raise ModelError(
            f"{graph.path}: expected the input {expected} [{', '.join(wanted)}], found "
            + ", ".join(f"{name} {shape}" for name, shape in found.items())
        )
    if not any(len(tensor.shape) == 2 for tensor in graph.outputs.values()):
        raise ModelError(
            f"{graph.path}: expected an output embedding [N, D], found "
            + ", ".join(f"{name} {list(t.shape)}" for name, t in graph.outputs.items())
        )


def _numbers(values: npt.NDArray[np.float64]) -> str:
    return "/".join(f"{value:.4g}" for value in values)


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
