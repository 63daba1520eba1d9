"""For LlamaIndex (``llama-index-core``): a model as ``MultiModalEmbedding``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding

from wordsight.models import ClipModel, load_model


class WordsightEmbedding(MultiModalEmbedding):
    """A CLIP model: texts, and images (by path, or as PIL images), in one space."""

    _model: Any = PrivateAttr()

    def __init__(self, model: ClipModel | str = "auto", **options: Any) -> None:
        loaded = load_model(model) if isinstance(model, str) else model
        super().__init__(model_name=loaded.name, **options)
        self._model = loaded

    @classmethod
    def class_name(cls) -> str:
        """As which LlamaIndex writes it down."""
        return "WordsightEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.encode(texts).tolist()  # type: ignore[no-any-return]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        images = [Path(image) if isinstance(image, str) else image for image in img_file_paths]
        return self._model.encode(images).tolist()  # type: ignore[no-any-return]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)
