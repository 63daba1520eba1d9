"""For FiftyOne (``fiftyone``): a model for ``compute_embeddings`` and ``compute_similarity``."""

from __future__ import annotations

from typing import Any

from fiftyone.core.models import EmbeddingsMixin, Model, PromptMixin

from wordsight.models import ClipModel, load_model


class WordsightModel(Model, EmbeddingsMixin, PromptMixin):
    """A CLIP model: images as arrays [H, W, 3] of uint8, prompts, and vectors of unit length."""

    def __init__(self, model: ClipModel | str = "auto") -> None:
        self.model = load_model(model) if isinstance(model, str) else model

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = True
    ragged_batches = True
    transforms = None
    preprocess = False
    preprocess_fn = None

    def predict(self, arg: Any) -> Any:
        """Refused: it has no labels; use :func:`wordsight.classify`."""
        raise NotImplementedError(
            "this model only embeds images; to label them, use wordsight.classify"
        )

    def get_embeddings(self) -> Any:
        """Refused, as :meth:`predict`."""
        raise NotImplementedError("call embed")

    def embed(self, arg: Any) -> Any:
        """The vector [D] of an image."""
        return self.model.encode(arg)

    def embed_all(self, args: Any) -> Any:
        """Vectors [N, D] of images."""
        return self.model.encode(list(args))

    def embed_prompt(self, prompt: str) -> Any:
        """The vector [D] of a prompt."""
        return self.model.encode(prompt)

    def embed_prompts(self, prompts: Any) -> Any:
        """Vectors [N, D] of prompts."""
        return self.model.encode(list(prompts))
