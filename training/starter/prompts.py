"""What the text tower makes of the training words: the fixed side that pictures are aligned with.

The pictures learn the vectors of the text tower itself, not those of its teacher ("locked-image
tuning" the other way round; Zhai et al., LiT, CVPR 2022): what the tower gets a little wrong about
a word costs nothing then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from .student import CONTEXT, TextTower
from .table import DIM
from .teacher import Vectors, unit

Encode = Callable[[Sequence[str]], Vectors]
TEMPLATES = ("a photo of a {}.", "{}", "a {}", "a blurry photo of a {}.")
# A noun nearer than this to a word that pictures are shown with is no negative.
NEAR = 0.5


def text_tower(work: Path) -> Encode:
    """The trained text tower as a function of texts."""
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(pad_id=0, pad_token=tokenizer.id_to_token(0))
    state = torch.load(work / "text.pt", weights_only=False)["tower"]  # our own file
    tower = TextTower(state["tokens.weight"].shape[0], DIM)
    tower.load_state_dict(state)
    tower.eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Vectors:
        rows = [
            tower(torch.tensor([e.ids for e in tokenizer.encode_batch(texts[k : k + 256])]))
            for k in range(0, len(texts), 256)
        ]
        return torch.cat(rows).numpy()

    return encode


def build(work: Path, encode: Encode) -> None:
    """Read the words, nouns and captions of ``table.json`` and write ``prompts.npz``."""
    lists = json.loads((work / "table.json").read_text(encoding="utf-8"))

    def meaning(words: Sequence[str]) -> Vectors:
        return unit(sum(encode([t.format(w) for w in words]) for t in TEMPLATES))

    words = meaning([w for group in lists["words"] for w in group])
    nouns = meaning(lists["negatives"])
    captions = [c for group in lists["captions"] for c in group]
    np.savez(
        work / "prompts.npz",
        words=words,
        owner=np.repeat(np.arange(len(lists["words"])), [len(g) for g in lists["words"]]),
        negatives=nouns[(nouns @ words.T).max(1) < NEAR],
        captions=encode(captions),
        caption_owner=np.repeat(
            np.arange(len(lists["captions"])), [len(g) for g in lists["captions"]]
        ),
    )
