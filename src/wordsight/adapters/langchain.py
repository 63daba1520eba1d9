"""For LangChain (``langchain-core``): a model as ``Embeddings``, a library as ``VectorStore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from wordsight.api import Library
from wordsight.models import ClipModel, load_model
from wordsight.search import Hit


class WordsightEmbeddings(Embeddings):
    """A CLIP model: texts, and images by their paths, as vectors of one space."""

    def __init__(self, model: ClipModel | str = "auto") -> None:
        self.model = load_model(model) if isinstance(model, str) else model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of texts, of unit length."""
        return self.model.encode(texts).tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text."""
        return self.embed_documents([text])[0]

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        """Vectors of image files. Raises ImageError."""
        return self.model.encode([Path(uri) for uri in uris]).tolist()  # type: ignore[no-any-return]


class WordsightStore(VectorStore):
    """The images of a library as documents: their paths, with what is known of them as metadata.

    What does not match gives no documents, unless ``anyway=True`` is passed on; so are the other
    options of :meth:`wordsight.Library.search` (``where``, ``label``, ``false_accept``).
    """

    def __init__(self, library: Library) -> None:
        self.library = library

    @property
    def embeddings(self) -> Embeddings:
        """The library's model."""
        return WordsightEmbeddings(self.library.model)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The images that fit best; none where nothing matches."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The same, each with its cosine."""
        hits = self.library.search(query, k, **kwargs).hits
        return [(_document(hit), hit.score) for hit in hits]

    def add_images(self, uris: Sequence[str | Path]) -> None:
        """Index image files or folders."""
        self.library.index(list(uris))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Remove images by id from the library; the files stay."""
        return self.library.remove(ids or []) == len(ids or [])

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> WordsightStore:
        """Refused: a library holds images."""
        raise NotImplementedError("a wordsight library holds images: use add_images")


def _document(hit: Hit) -> Document:
    known = {"rank": hit.rank, "score": hit.score, "z": hit.z, "label": hit.label}
    return Document(id=hit.id, page_content=hit.path, metadata={**hit.metadata, **known})
