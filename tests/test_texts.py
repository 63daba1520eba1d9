"""Text vectors kept in the cache: asked of the model once, and never taken for another's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel

import wordsight
from wordsight.bank import kind_texts
from wordsight.models.texts import WORTH_A_FILE, encode_texts_cached

TEXTS = [f"thing {number}" for number in range(WORTH_A_FILE)]


class Counting(ColourModel):
    """A model that counts the texts it encodes."""

    def __init__(self, hash: str = "c0104250c0104250") -> None:
        super().__init__(hash)
        self.encoded = 0

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        self.encoded += len(texts)
        return super().encode_texts(texts)


def test_many_texts_are_encoded_once_for_each_model() -> None:
    first, again, other = Counting(), Counting(), Counting("0000000000000000")
    vectors = encode_texts_cached(first, TEXTS)
    np.testing.assert_array_equal(encode_texts_cached(again, TEXTS), vectors)
    assert (first.encoded, again.encoded) == (len(TEXTS), 0)
    encode_texts_cached(other, TEXTS)
    encode_texts_cached(again, TEXTS[::-1])
    assert (other.encoded, again.encoded) == (len(TEXTS), len(TEXTS))


def test_a_damaged_file_is_made_again() -> None:
    cache = Path(os.environ["WORDSIGHT_CACHE"])
    others = set(cache.rglob("texts/*.npy"))
    vectors = encode_texts_cached(Counting(), TEXTS)
    (file,) = set(cache.rglob("texts/*.npy")) - others
    for broken in (b"", file.read_bytes()[:200]):
        file.write_bytes(broken)
        np.testing.assert_array_equal(encode_texts_cached(Counting(), TEXTS), vectors)
    np.save(file, vectors[:3])
    np.testing.assert_array_equal(encode_texts_cached(Counting(), TEXTS), vectors)


def test_without_a_cache_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "file"))
    model = Counting()
    assert len(encode_texts_cached(model, TEXTS)) == len(TEXTS)
    assert len(encode_texts_cached(model, TEXTS[:2])) == 2
    assert model.encoded == len(TEXTS) + 2


def test_a_second_library_of_a_model_does_not_wait_for_the_bank(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    made = wordsight.create(tmp_path / "one", model=first)
    wordsight.create(tmp_path / "two", model=second)
    texts = len(made.store.bank()[0]) + len(kind_texts())
    assert (first.encoded, second.encoded) == (texts, 0)
