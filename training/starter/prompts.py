"""What the text tower makes of all words: the fixed side that pictures are aligned with.

The pictures learn the vectors of the text tower itself, not those of its teacher ("locked-image
tuning" the other way round; Zhai et al., LiT, CVPR 2022): what the tower gets a little wrong about
a word costs nothing then.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from .names import mentions
from .student import load_text_tower, open_tokenizer, pack
from .table import DIM
from .teacher import Vectors, unit
from .wordnet import WordNet

Encode = Callable[[Sequence[str]], Vectors]
TEMPLATES = ("a photo of a {}.", "{}", "a {}", "a blurry photo of a {}.")
# A noun nearer than this to a word that pictures are shown with is no negative.
NEAR = 0.5
BATCH = 256


def text_tower(place: Path) -> Encode:
    """The text tower of a work folder or of a model directory, as a function of texts."""
    tokenizer = open_tokenizer()
    run = _exported(place) if (place / "textual").exists() else _trained(place)

    def encode(texts: Sequence[str]) -> Vectors:
        rows = [e.ids for e in tokenizer.encode_batch([text.lower() for text in texts])]
        found = np.empty((len(rows), DIM), np.float32)
        # Rows of like length run together, so that little of a batch is padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            found[some] = run(pack([rows[i] for i in some]))
        return found

    return encode


def _trained(work: Path) -> Callable[[torch.Tensor], Vectors]:
    tower = load_text_tower(work)

    @torch.inference_mode()
    def run(ids: torch.Tensor) -> Vectors:
        vectors: Vectors = tower(ids).numpy()
        return vectors

    return run


def _exported(directory: Path) -> Callable[[torch.Tensor], Vectors]:
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(directory / "textual" / "model.onnx"))
    graph.reshape([-1, -1])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(ids: torch.Tensor) -> Vectors:
        return np.array(compiled(ids.numpy())[0])

    return run


def meaning(encode: Encode, words: Sequence[str]) -> Vectors:
    """Mean vectors of words over the templates."""
    return unit(sum(encode([t.format(w) for w in words]) for t in TEMPLATES))


def _in_package(package: str, file: str) -> Path:
    """A file of a package that is not imported: these would ask for torchvision."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is missing: `make starter` installs what training needs.")
    return Path(spec.origin).parent / file


def imagenet_names() -> list[str]:
    """The usual names of ImageNet's 1,000 classes, in their order."""
    found = runpy.run_path(str(_in_package("open_clip", "zero_shot_metadata.py")))
    return list(found["IMAGENET_CLASSNAMES"])


def imagenet_classes(encode: Encode, wordnet: WordNet) -> Vectors:
    """A vector for each of ImageNet's 1,000 classes.

    Its usual name, with the mean of its synset's names (0.3) and the kinds above it (0.2, each
    further one weighing 0.7 of the one before).
    """
    listed = _in_package("timm", "data/_info/imagenet_synsets.txt")
    offsets = [int(line[1:]) for line in listed.read_text(encoding="utf-8").split()]
    lemmas = [[n.lower() for n in wordnet.synsets[o].lemmas] for o in offsets]
    above = [[wordnet.synsets[a].lemmas[0].lower() for a in wordnet.above(o)[:4]] for o in offsets]
    texts = sorted({t for group in (*lemmas, *above) for t in group})
    known = dict(zip(texts, meaning(encode, texts), strict=True))
    rows = meaning(encode, imagenet_names())
    rows = rows + 0.3 * np.stack([np.mean([known[n] for n in names], axis=0) for names in lemmas])
    for row, kinds in enumerate(above):
        for step, kind in enumerate(kinds):
            rows[row] += 0.2 * 0.7**step * known[kind]
    return unit(rows)


def build(work: Path, encode: Encode) -> None:
    """Read the words, nouns and captions of ``table.json`` and write ``prompts.npz``.

    And the names of things in the captions, with how often those of each photograph have them.
    """
    wordnet = WordNet()
    lists = json.loads((work / "table.json").read_text(encoding="utf-8"))
    words = meaning(encode, [w for group in lists["words"] for w in group])
    nouns = meaning(encode, lists["negatives"])
    classes = imagenet_classes(encode, wordnet)
    shown = np.concatenate([words, classes])
    captions = [c for group in lists["captions"] for c in group]
    names, counts = mentions(lists["captions"], wordnet)
    np.savez(
        work / "prompts.npz",
        words=words,
        owner=np.repeat(np.arange(len(lists["words"])), [len(g) for g in lists["words"]]),
        classes=classes,
        negatives=nouns[(nouns @ shown.T).max(1) < NEAR],
        names=meaning(encode, names) if names else np.zeros((0, DIM), np.float32),
        mentions=counts,
        captions=encode(captions),
        caption_owner=np.repeat(
            np.arange(len(lists["captions"])), [len(g) for g in lists["captions"]]
        ),
    )
