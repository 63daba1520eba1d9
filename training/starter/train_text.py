"""Teach the text tower the vectors of its teacher, in the model's own space."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from . import corpus as corpora
from .concepts import TEMPLATES
from .corpus import Corpus
from .precision import autocast
from .student import CONTEXT, from_teacher, open_tokenizer, pack
from .table import load_space


@dataclass
class TextPlan:
    """Choices of a training run."""

    steps: int = 1200
    # Then more steps in which half of the words are such as may name what the images show.
    focus: int = 400
    focus_lr: float = 2e-4
    focus_words: int = 12000
    words: int = 224
    phrases: int = 32
    texts: int = 64
    captions: int = 64
    lr: float = 5e-4
    contrast: float = 0.1
    scale: float = 15.0
    seed: int = 11
    chunk: int = 128
    # One word in so many is used (a trial takes few).
    every: int = 1


class Sampler:
    """Batches of token ids with their goals."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, plan: TextPlan) -> None:
        self.corpus, self.plan = corpus, plan
        self.random = np.random.default_rng(plan.seed)

        def ids(texts: list[str]) -> list[list[int]]:
            return [e.ids[1:-1] for e in tokenizer.encode_batch(texts)]

        self.start, self.end = tokenizer.encode("").ids
        self.words, self.texts = ids(corpus.words), ids(corpus.texts)
        self.captions = ids(corpus.captions)
        self.parts = ids(corpus.parts)
        self.frames = [ids(t.split("{}")) for t in TEMPLATES]
        self.word_weights = corpus.weights

    def _framed(self, word: int) -> list[int]:
        # Mostly a bare word: frames are soon learnt, and cost more.
        if self.random.random() < 0.7:
            return self.words[word]
        before, after = self.frames[self.random.integers(len(self.frames))]
        return before + self.words[word] + after

    def _phrase(self, word: int) -> tuple[list[int], np.ndarray]:
        """A word with an adjective, a scene or both; these turn its vector a little."""
        ids = self.words[word]
        vector = self.corpus.word_vectors[word].copy()
        kind = self.random.random()
        count = len(corpora.MODIFIERS)
        if kind < 0.75:
            part = self.random.integers(count)
            ids = self.parts[part] + ids
            vector += 0.3 * self.corpus.part_vectors[part]
        if self.random.random() < 0.5:
            before, after = self.frames[self.random.integers(len(self.frames))]
            ids = before + ids + after
        if kind > 0.6:
            part = self.random.integers(count, len(self.parts))
            ids = ids + self.parts[part]
            vector += 0.25 * self.corpus.part_vectors[part]
        return ids, vector

    def draw(self) -> tuple[Tensor, Tensor]:
        """Token ids and goals of one batch, words first."""
        plan, corpus = self.plan, self.corpus
        chosen = self.random.choice(
            len(self.words), plan.words + plan.phrases, replace=False, p=self.word_weights
        )
        rows = [self._framed(w) for w in chosen[: plan.words]]
        goals = [corpus.word_vectors[w] for w in chosen[: plan.words]]
        for w in chosen[plan.words :]:
            ids, vector = self._phrase(w)
            rows.append(ids)
            goals.append(vector)
        for t in self.random.integers(len(self.texts), size=plan.texts):
            rows.append(self.texts[t])
            goals.append(corpus.text_vectors[t])
        for t in self.random.integers(len(self.captions), size=plan.captions):
            rows.append(self.captions[t])
            goals.append(corpus.caption_vectors[t])
        ids = pack([[self.start, *r[: CONTEXT - 2], self.end] for r in rows])
        return ids, F.normalize(torch.from_numpy(np.stack(goals)), dim=-1)


def focused(corpus: Corpus, work: Path, count: int) -> np.ndarray:
    """Word weights of which half go to the ``count`` words nearest to any concept with images."""
    table = np.load(work / "table.npz")
    concepts = np.stack(
        [table["words"][table["owner"] == c].mean(0) for c in range(int(table["owner"].max()) + 1)]
    )
    concepts /= np.linalg.norm(concepts, axis=1, keepdims=True)
    vectors = corpus.word_vectors / np.linalg.norm(corpus.word_vectors, axis=1, keepdims=True)
    nearest = (vectors @ concepts.T).max(1).argsort()[-count:]
    weights = 0.5 * corpus.weights
    weights[nearest] += 0.5 * corpus.weights[nearest] / corpus.weights[nearest].sum()
    return weights / weights.sum()


def distil_loss(mine: Tensor, goals: Tensor, plan: TextPlan) -> Tensor:
    """Cosine to the goal, and telling the goal from those of the other texts."""
    cosine = (1 - (mine * goals).sum(-1)).mean()
    between = goals @ goals.T
    # Two texts that mean the same are not told apart.
    same = (between > 0.8) & ~torch.eye(len(goals), dtype=torch.bool)
    logits = (plan.scale * mine @ goals.T).masked_fill(same, -1e4)
    return cosine + plan.contrast * F.cross_entropy(logits, torch.arange(len(goals)))


def train(work: Path, plan: TextPlan | None = None) -> None:
    """Train the text tower, with a checkpoint now and then; goes on from the last one."""
    plan = plan or TextPlan()
    torch.manual_seed(plan.seed)
    corpus = corpora.build(work, plan.every)
    tokenizer = open_tokenizer()
    sampler = Sampler(corpus, tokenizer, plan)
    print(f"text: {len(corpus.words)} words, {len(corpus.texts)} texts, "
          f"{len(corpus.captions)} captions", flush=True)  # fmt: skip
    tower = from_teacher(load_space(work))
    optimiser = torch.optim.AdamW(tower.parameters(), lr=plan.lr, betas=(0.9, 0.98),
                                  weight_decay=0.01)  # fmt: skip
    saved, first = work / "text.pt", 0
    if saved.exists():
        state = torch.load(saved, weights_only=False)  # our own file
        tower.load_state_dict(state["tower"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        sampler.random = np.random.default_rng([plan.seed, first])
    started, kept = time.time(), []
    total = plan.steps + plan.focus
    for step in range(first, total):
        if step < plan.steps:
            now, lr = step / plan.steps, plan.lr * min(1.0, (step + 1) / 50)
        else:
            now, lr = (step - plan.steps) / plan.focus, plan.focus_lr
            if step in (first, plan.steps):
                sampler.word_weights = focused(corpus, work, plan.focus_words)
        for group in optimiser.param_groups:
            group["lr"] = lr * (0.5 + 0.5 * math.cos(math.pi * now))
        ids, goals = sampler.draw()
        optimiser.zero_grad(set_to_none=True)
        # Rows of like length run together, so that little of a batch is padding.
        order = (ids != 0).sum(1).argsort()
        parts = []
        for rows in order.split(plan.chunk):
            some = ids[rows]
            with autocast():
                parts.append(tower(some[:, : int((some != 0).sum(1).max())]))
        mine = torch.cat(parts)[order.argsort()]
        loss = distil_loss(mine, goals, plan)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        cut = plan.words + plan.phrases
        kept.append(float((mine[:cut].detach() * goals[:cut]).sum(-1).mean()))
        last = step == total - 1
        if step % 25 == 0 or last:
            print(f"text {step}/{total} loss {loss.item():.3f} cosine of words "
                  f"{np.mean(kept[-25:]):.3f} {time.time() - started:.0f} s",
                  flush=True)  # fmt: skip
        if (step + 1) % 100 == 0 or last:
            state = {"tower": tower.state_dict(), "optimiser": optimiser.state_dict(),
                     "step": step + 1}  # fmt: skip
            torch.save(state, saved.with_suffix(".part"))
            saved.with_suffix(".part").replace(saved)
