"""For Haystack (``haystack-ai``): a model as components that embed texts and image documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from wordsight.models import ClipModel, load_model


class _Embedder:
    """What both have: a model by its name, which pipelines write down and load again."""

    def __init__(self, model: ClipModel | str = "auto") -> None:
        self.model = load_model(model) if isinstance(model, str) else model

    def to_dict(self) -> dict[str, Any]:
        """The component as a pipeline keeps it."""
        return default_to_dict(self, model=self.model.source)  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """The inverse."""
        return default_from_dict(cls, data)


@component
class WordsightTextEmbedder(_Embedder):
    """The vector of a text."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed one text: {"embedding": a list of floats, of unit length}."""
        return {"embedding": self.model.encode(text).tolist()}


@component
class WordsightImageEmbedder(_Embedder):
    """The vectors of documents that name an image file in ``meta["file_path"]``."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the images: {"documents": copies with their embeddings}. Raises ImageError."""
        vectors = self.model.encode([Path(document.meta["file_path"]) for document in documents])
        pairs = zip(documents, vectors.tolist(), strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
