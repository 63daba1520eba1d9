"""CLIP: images and texts as unit vectors in one space, from a model directory.

Nothing about a particular model is written here, nor of how its files are laid out:
:mod:`wordsight.models.clip.layouts` reads what they say.
"""

from __future__ import annotations

import math
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.models.clip.layouts import beside, describe, pick_output
from wordsight.models.clip.tokenizer import CLEANING
from wordsight.models.external_data import plain_folder
from wordsight.runtime.cache import remembered
from wordsight.runtime.devices import check_name, check_vectors, open_on
from wordsight.runtime.graph import Graph, check_choice, choose_runtime, open_graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from tokenizers import Tokenizer

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

# How many images go through the image tower at once: ViT-B/32 in bf16 makes 131, 153, 173 and 178
# images/s of them in batches of 16, 32, 64 and 128 (two cores with AMX), and 64 more take 100 MB.
IMAGE_BATCH = 64
TEXT_BATCH = 64

_SAME = 1e-6  # Vectors whose cosine is at most this far from 1 are the same.


class ClipModel:
    """An opened CLIP model. Towers load when first used; all methods are thread-safe.

    Args:
        path: a model directory.
        name: what to call it; the directory's name if not given.
        source: what :func:`wordsight.load_model` opens it again with; the directory if not given.
        runtime: "auto", "openvino" or "onnxruntime".
        precision: "auto", "fp32", "bf16" or "int8" (:func:`wordsight.runtime.graph.open_graph`).
            With "auto" the image tower computes in bf16 where that is fast (cosines to fp32 above
            0.9999, about four times the speed), the text tower in fp32. "int8" concerns the image
            tower alone; :func:`wordsight.indexing.check_int8` says what it changes.
        logit_scale: overrides what `config.json` says.
        logit_bias: likewise.
        device: what the image tower runs on, "cpu", "gpu" or "npu" (of Intel, by OpenVINO); refused
            when it is opened and its vectors are not the CPU's (:mod:`wordsight.runtime.devices`).

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
        device: str = "cpu",
    ) -> None:
        self.path = Path(path)
        self._files = describe(self.path)
        self.name = name or self.path.resolve().name
        self.source = source or str(self.path.resolve())
        check_choice(runtime, precision)  # now, not when the first image is encoded
        self.runtime = runtime
        self.precision = precision
        self._device = check_name(device)
        self._lock = threading.Lock()
        self._visual_graph: Graph | None = None
        self._textual_graph: Graph | None = None
        self._trims = False  # whether texts are padded to the longest of a batch, not the context
        self._context = self._files.tokenizer.context
        self._clean = CLEANING[self._files.tokenizer.clean]
        self._preprocess = self._files.preprocess
        self.logit_scale = self._files.logit_scale if logit_scale is None else logit_scale
        self.logit_bias = self._files.logit_bias if logit_bias is None else logit_bias

    def __repr__(self) -> str:
        return f"ClipModel({self.name!r}, dim={self.dim}, path={str(self.path)!r})"

    @cached_property
    def hash(self) -> str:
        """Content hash of the model's files: 16 hex digits, the same on any runtime."""
        from wordsight.models.hashing import content_hash

        return content_hash(self.path, self.files)

    @property
    def files(self) -> list[str]:
        """The model's files, relative to its directory."""
        return [*self._files.files, *beside(self.path)]

    @cached_property
    def dim(self) -> int:
        """Length of the vectors."""
        if self._files.dim is None:  # neither the files nor the graphs' shapes say it
            graph = self._textual
            feeds = self._text_feeds(graph, *self._tokens([""]))
            return int(self._vectors(graph, graph(feeds)).shape[-1])
        return self._files.dim

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
        graph = self._visual
        return self._run(graph, dict.fromkeys(graph.inputs, pixels), IMAGE_BATCH, self.normalise)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Encode texts: float32 [N, dim], unit length. Long ones are cut to the context."""
        import numpy as np

        if len(texts) == 0:
            return np.empty((0, self.dim), np.float32)
        graph = self._textual
        ids, mask = self._tokens(texts)
        used = np.maximum(mask.sum(axis=1), 1) if self._trims else np.full(len(ids), self._context)
        out = np.empty((len(ids), self.dim), np.float32)
        # Texts of one length go together: a phrase has five tokens, a context 77.
        parts = math.ceil(len(ids) / TEXT_BATCH)
        for rows in np.array_split(np.argsort(used, kind="stable"), parts):
            most = used[rows].max()
            feeds = self._text_feeds(graph, ids[rows, :most], mask[rows, :most])
            out[rows] = self._run(graph, feeds, TEXT_BATCH)
        return out

    def encode(
        self,
        inputs: Any,
        *,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        normalize_embeddings: bool = True,
    ) -> Floats:
        """Texts, images or image files, one or a list: as ``SentenceTransformer.encode`` is called.

        Strings are texts; paths (``pathlib``), PIL images and RGB arrays are images, and a list may
        mix them. float32 [N, dim], [dim] for one, of unit length whatever the options say, which
        are there for code that passes them. Raises ImageError for a file that cannot be read.
        """
        import numpy as np

        from wordsight.images import open_image

        del batch_size, show_progress_bar, convert_to_numpy, normalize_embeddings
        several = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        out = np.empty((len(several), self.dim), np.float32)
        texts = [i for i, one in enumerate(several) if isinstance(one, str)]
        out[texts] = self.encode_texts([several[i] for i in texts])
        others = [i for i, one in enumerate(several) if not isinstance(one, str)]
        for start in range(0, len(others), IMAGE_BATCH):  # opened some at a time
            part = others[start : start + IMAGE_BATCH]
            out[part] = self.encode_images(
                [
                    open_image(one) if isinstance(one, Path) else one
                    for one in (several[i] for i in part)
                ]
            )
        return out if several is inputs else out[0]

    def token_ids(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokenize texts as the text tower sees them: int64 [N, context]."""
        return self._tokens(texts)[0]

    def truncated(self, text: str) -> bool:
        """Tell whether a text is longer than the model's context, so that its end is ignored."""
        (tokens,) = self._encode([text])
        return bool(tokens.overflowing)

    def unreadable(self, text: str) -> bool:
        """Tell whether the tokenizer knows nothing of a text, so that all such texts are one to it.

        Of tokenizers that spell every character in bytes no text is.
        """
        (found,) = self._encode([text])
        return _told(found) <= self._unknown

    def unread(self, text: str) -> list[str]:
        """Return the parts of a text that the tokenizer does not know, marks aside.

        Of tokenizers that spell every character in bytes it is none.
        """
        (found,) = self._encode([text])
        cleaned = self._clean(text)
        spans: list[tuple[int, int]] = []
        for token, (start, end) in zip(found.ids, found.offsets, strict=True):
            if token not in self._unknown:
                continue
            joins = spans and not cleaned[spans[-1][1] : start].strip()
            spans.append((spans.pop()[0] if joins else start, end))
        parts = [cleaned[start:end] for start, end in spans]
        return [part for part in parts if any(map(_says_something, part))]

    @cached_property
    def _unknown(self) -> set[int]:
        """The tokens that stand for what the tokenizer does not know."""
        # What two letters that no model learns (Ugaritic, Vai) have in common: bytes they do not
        # share.
        one, other = self._encode(["\U00010380", "\ua601"])
        return _told(one) & _told(other)

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

    def _text_feeds(
        self, graph: Graph, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]
    ) -> dict[str, npt.NDArray[np.int64]]:
        import numpy as np

        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        others = {
            "attention_mask": mask,
            "position_ids": places,
            "token_type_ids": np.zeros_like(ids),
        }
        return {name: others.get(name, ids) for name in graph.inputs}

    def _vectors(self, graph: Graph, outputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        shapes = {name: tensor.shape for name, tensor in graph.outputs.items()}
        return outputs[pick_output(self._files.outputs, shapes) or ""]

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
            vectors = self._vectors(graph, graph(rows)).astype(np.float32, copy=False)
            if vectors.shape != (n, self.dim):
                raise ModelError(
                    f"{graph.path}: gives vectors of shape {list(vectors.shape)} where "
                    f"[{n}, {self.dim}] are expected; the model's files do not fit together"
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

    def _check_outputs(self, graph: Graph) -> None:
        found = {name: list(tensor.shape) for name, tensor in graph.outputs.items()}
        if pick_output(self._files.outputs, found) is None:
            raise ModelError(
                f"{graph.path}: expected an output {' or '.join(self._files.outputs)} [N, D], "
                "found " + ", ".join(f"{name} {shape}" for name, shape in found.items())
            )

    @property
    def _visual(self) -> Graph:
        with self._lock:
            if self._visual_graph is None:
                height, width = self.image_size
                graph = open_graph(
                    plain_folder(self.path / self._files.image_graph),
                    runtime=self.runtime,
                    precision=self.precision,
                    any_batch=True,
                )
                shape = {1: 3, 2: height, 3: width}
                _check_signature(graph, ("image", "pixel_values"), (), 4, shape)
                self._check_outputs(graph)
                self._visual_graph = graph if self._device == "cpu" else self._elsewhere(graph)
            return self._visual_graph

    def _elsewhere(self, here: Graph) -> Graph:
        """The image tower on the device, once it has shown that it gives the vectors of the CPU."""

        def on(graph: Graph) -> Callable[[list[Pixels]], Floats]:
            inputs = graph.inputs
            return lambda pixels: self._run(
                graph, dict.fromkeys(inputs, pixels), IMAGE_BATCH, self.normalise
            )

        there = open_on(here.path, self._device, self.precision)
        check_vectors(self._device, on(there), on(here), self.image_size)
        return there

    @property
    def _textual(self) -> Graph:
        with self._lock:
            if self._textual_graph is None:
                graph = self._open_texts()
                others = ("attention_mask", "position_ids", "token_type_ids")
                _check_signature(graph, ("text", "input_ids"), others, 2, {1: self._context})
                self._check_outputs(graph)
                self._textual_graph = graph
            return self._textual_graph

    def _open_texts(self) -> Graph:
        path = plain_folder(self.path / self._files.text_graph)
        precision = "bf16" if self.precision == "bf16" else "fp32"
        opened = partial(open_graph, path, runtime=self.runtime, cold=True, any_batch=True)
        runtime = choose_runtime(self.runtime, cold=precision != "bf16")
        self._trims = remembered(
            path,
            runtime,
            "length",
            lambda: self._ignores_padding(opened(precision="fp32", any_length=True)),
        )
        return opened(precision=precision, any_length=self._trims)

    def _ignores_padding(self, graph: Graph) -> bool:
        """Whether texts have the same vectors without most of their padding.

        CLIP's tower looks at nothing behind a text's end, others are given a mask; SigLIP's was
        trained to see 64 tokens, whatever they are.
        """
        import numpy as np

        ids, mask = self._tokens(["a", "a dog"])
        short = mask.sum(axis=1).max()
        if short == self._context:
            return False  # nothing to gain
        found = []
        for length in (self._context, short):
            feeds = self._text_feeds(graph, ids[:, :length], mask[:, :length])
            vectors = self._vectors(graph, graph(feeds)).astype(np.float64)
            found.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return bool(((found[0] - found[1]) ** 2).sum(axis=1).max() < 2 * _SAME)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._files.tokenizer.open()


def _told(found: Any) -> set[int]:
    """The tokens of an encoded text, without special ones and bare spaces."""
    pieces = zip(found.ids, found.tokens, found.special_tokens_mask, strict=True)
    # "▁" is SentencePiece's space.
    return {token for token, piece, special in pieces if not special and piece != "▁"}


def _says_something(character: str) -> bool:
    """Letters, digits and pictures do; punctuation and the signs of sums and money do not."""
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "So"


def _check_signature(
    graph: Graph, names: Sequence[str], others: Sequence[str], rank: int, axes: dict[int, int]
) -> None:
    """Refuse a graph that does not take what this module would feed it.

    It has one input of ``names``, and may have any of ``others``; ``axes`` are the sizes that
    dimensions must have where the graph fixes them.
    """
    found = {name: list(tensor.shape) for name, tensor in graph.inputs.items()}
    wanted = ["N", *("*" for _ in range(rank - 1))]
    for axis, size in axes.items():
        wanted[axis] = str(size)
    fits = len(found.keys() - set(others)) == len(found.keys() & set(names)) == 1 and all(
        len(shape) == rank and all(shape[axis] in (None, size) for axis, size in axes.items())
        for shape in found.values()
    )
    if not fits:
        more = f" (and perhaps {', '.join(others)})" if others else ""
        raise ModelError(
            f"{graph.path}: expected the input {' or '.join(names)} [{', '.join(wanted)}]{more}, "
            "found " + ", ".join(f"{name} {shape}" for name, shape in found.items())
        )
