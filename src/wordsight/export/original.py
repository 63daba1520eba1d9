"""A CLIP model as its own library opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.export.packages import package, telling

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, slots=True)
class Clip:
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
    """How texts are cleaned first; a key of :data:`wordsight.models.clip.tokenizer.CLEANING`."""


def fast(tokenizer: Any) -> Any:
    """Return a tokenizer of transformers as an object of `tokenizers`."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        if not getattr(tokenizer, "vocab_file", None):
            raise ModelError(
                f"{type(tokenizer).__name__} is written in Python alone and has no tokenizer.json"
            )
        # This converter is that of plain SentencePiece models that end texts with </s>.
        converter = package("transformers.convert_slow_tokenizer").UdopConverter
        with telling("the tokenizer cannot be converted to a tokenizer.json"):
            backend = converter(tokenizer).converted()
    return Tokenizer.from_str(backend.to_str())


def logits(model: Any) -> tuple[float, float | None]:
    """Return the factor and, of a sigmoid model, the offset that turn a cosine into a logit."""
    bias = getattr(model, "logit_bias", None)
    scale = float(model.logit_scale.detach().float().exp())
    return scale, None if bias is None else float(bias.detach().float())
