"""Adapters, in the hands of the libraries that they are for (make test-connect has them all)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import make_clip
from fakes import ColourModel
from PIL import Image

import wordsight
from wordsight.models import ClipModel

Photos = Callable[..., Path]


def _need(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not here (make test-connect installs it)")


def _same(vectors: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(vectors, np.float32), wanted, atol=1e-6)


@pytest.fixture
def pictures(photos: Photos) -> list[Path]:
    return sorted(photos(red=1, blue=1).iterdir())


@pytest.fixture
def library(photos: Photos, model: ColourModel, tmp_path: Path) -> wordsight.Library:
    made = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    made.index(photos(red=3, blue=2))
    return made


def test_encode_takes_what_sentence_transformers_takes(
    tmp_path: Path, pictures: list[Path]
) -> None:
    model = ClipModel(make_clip(tmp_path / "clip"))
    images = [Image.open(path) for path in pictures]
    _same(model.encode(["red", "blue"], batch_size=2), model.encode_texts(["red", "blue"]))
    _same(model.encode("red"), model.encode_texts(["red"])[0])
    _same(model.encode(pictures), model.encode_images(images))
    _same(model.encode(np.asarray(images[0])), model.encode_images(images)[0])
    mixed = model.encode(["red", images[1], pictures[0]], show_progress_bar=False)
    _same(mixed[0], model.encode_texts(["red"])[0])
    _same(mixed[1:], model.encode_images([images[1], images[0]]))
    assert model.encode([]).shape == (0, model.dim)


def test_langchain_embeddings(model: ColourModel, pictures: list[Path]) -> None:
    _need("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    from wordsight.adapters.langchain import WordsightEmbeddings

    embeddings = WordsightEmbeddings(model)  # type: ignore[arg-type]
    _same(embeddings.embed_documents(["red", "blue"]), model.encode_texts(["red", "blue"]))
    _same(embeddings.embed_image([str(path) for path in pictures]), model.encode(pictures))
    store = InMemoryVectorStore.from_texts(["something red", "something blue"], embeddings)
    assert store.similarity_search("red", k=1)[0].page_content == "something red"


def test_langchain_store(library: wordsight.Library, photos: Photos) -> None:
    _need("langchain_core")
    from wordsight.adapters.langchain import WordsightStore

    store = WordsightStore(library)
    documents = store.as_retriever(search_kwargs={"k": 2}).invoke("red")
    assert [Path(one.page_content).name[:3] for one in documents] == ["red", "red"]
    assert documents[0].metadata["rank"] == 1
    assert store.similarity_search("a zebra") == []
    assert len(store.similarity_search("a zebra", anyway=True)) == 4
    ((_, score),) = store.similarity_search_with_score("red", 1)
    assert score == pytest.approx(library.search("red", 1).hits[0].score)
    store.add_images([photos("more", green=1)])
    assert len(library) == 6
    assert store.delete([documents[0].id])
    assert len(library) == 5


def test_llama_index(model: ColourModel, pictures: list[Path]) -> None:
    _need("llama_index.core")
    import asyncio

    from wordsight.adapters.llamaindex import WordsightEmbedding

    embedding = WordsightEmbedding(model)  # type: ignore[arg-type]
    red, images = model.encode_texts(["red"])[0], model.encode(pictures)
    _same(embedding.get_query_embedding("red"), red)
    _same(embedding.get_text_embedding_batch(["red", "red"]), [red, red])
    _same(embedding.get_image_embedding(str(pictures[0])), images[0])
    _same(embedding.get_image_embedding_batch([str(path) for path in pictures]), images)
    _same(asyncio.run(embedding.aget_image_embedding(str(pictures[0]))), images[0])
    assert embedding.model_name == "colours"


def test_haystack_pipelines(tmp_path: Path, model: ColourModel, pictures: list[Path]) -> None:
    _need("haystack")
    from haystack import Document, Pipeline

    from wordsight.adapters.haystack import WordsightImageEmbedder, WordsightTextEmbedder

    text = Pipeline()
    text.add_component("words", WordsightTextEmbedder(model))  # type: ignore[arg-type]
    _same(text.run({"words": {"text": "red"}})["words"]["embedding"], model.encode("red"))
    documents = [Document(meta={"file_path": str(path)}) for path in pictures]
    images = Pipeline()
    images.add_component("images", WordsightImageEmbedder(str(make_clip(tmp_path / "clip"))))
    mine = ["wordsight.adapters.haystack"]
    again = Pipeline.loads(images.dumps(), allowed_modules=mine)  # as it is written down
    found = [
        pipeline.run({"images": {"documents": documents}})["images"]["documents"]
        for pipeline in (images, again)
    ]
    first, second = ([one.embedding for one in each] for each in found)
    _same(first, second)
    _same(first, ClipModel(tmp_path / "clip").encode(pictures))


def test_fiftyone(model: ColourModel, pictures: list[Path]) -> None:
    _need("fiftyone")
    from fiftyone.core.models import Model

    from wordsight.adapters.fiftyone import WordsightModel

    adapted = WordsightModel(model)  # type: ignore[arg-type]
    assert isinstance(adapted, Model)
    images = [np.asarray(Image.open(path)) for path in pictures]
    _same(adapted.embed(images[0]), model.encode(pictures[0]))
    _same(adapted.embed_all(images), model.encode(pictures))
    _same(adapted.embed_prompt("red"), model.encode("red"))
    _same(adapted.embed_prompts(["red", "blue"]), model.encode(["red", "blue"]))
