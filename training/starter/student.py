"""The text tower: a small transformer over word pieces, and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor, nn

START, END, PAD, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|pad|>", "<|unknown|>"
CONTEXT = 40


def train_tokenizer(lines: Iterable[str], size: int) -> Tokenizer:
    """Word pieces over lower-case text without accents."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[PAD, UNKNOWN, START, END], show_progress=False,
        limit_alphabet=200, initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
    )  # fmt: skip
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (START, END)],
    )
    return tokenizer


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        rows, length, width = x.shape
        shape = (rows, length, self.heads, width // self.heads)
        q, k, v = self.qkv(self.norm1(x)).split(width, -1)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in (q, k, v))
        weights = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + bias
        mixed = weights.softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextTower(nn.Module):
    """Token ids, padded with 0, to unit vectors; padding changes nothing."""

    def __init__(
        self, vocabulary: int, dim: int, narrow: int = 96, width: int = 192,
        layers: int = 2, heads: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, narrow)
        self.widen = nn.Linear(narrow, width, bias=False)
        self.places = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 1)
        self.head = nn.Linear(width, dim)
        nn.init.normal_(self.tokens.weight, std=0.05)

    def forward(self, ids: Tensor) -> Tensor:
        """Unit vectors, one row for each text."""
        ids = ids.long()
        bias = (ids == 0).float() * -1e4
        x = self.widen(self.tokens(ids)) + self.places[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias[:, None, None, :])
        x = self.norm(x)
        weights = (self.attend(x)[..., 0] + bias).softmax(-1)
        pooled = (weights[..., None] * x).sum(1)
        return F.normalize(self.head(pooled).float(), dim=-1)
