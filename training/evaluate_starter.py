"""Measure the starter CLIP from its ONNX files: ``python -m training.evaluate_starter``.

Prints every figure of the model card; ``--json`` prints them for machines. ``--only`` picks
measurements by name, ``--model`` another folder. ``imagenet`` needs the packages of training.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from wordsight import load_model

from .starter import images, negatives, table
from .starter.concepts import CIFAR, SYNONYMS, UNSEEN
from .starter.figures import TEMPLATE, coco_figures
from .starter.wordnet import WordNet

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "src/wordsight/models/weights/starter"
BANK = HERE.parent / "src/wordsight/bank.txt"
WORK = HERE / "work" / "starter"
Rows = NDArray[np.float32]


class Model:
    """The exported files, read as every user of wordsight reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = load_model(folder, precision="fp32")

    def see(self, pictures: Iterable[Image | NDArray[np.uint8]], batch: int = 64) -> Rows:
        """Vectors of pictures."""
        waiting = iter(pictures)
        found = []
        while some := list(islice(waiting, batch)):
            found.append(self.model.encode_images(some))
        return np.concatenate(found)

    def read(self, texts: Sequence[str]) -> Rows:
        """Vectors of texts."""
        return self.model.encode_texts(list(texts))

    def words(self, words: Sequence[str]) -> Rows:
        """Vectors of words in the template of all measurements."""
        return self.read([TEMPLATE.format(w) for w in words])


def auroc(positive: Rows, negative: Rows) -> float:
    """How often a positive scores above a negative."""
    order = np.concatenate([positive, negative]).argsort(kind="stable").argsort()
    above = order[: len(positive)].sum() - len(positive) * (len(positive) - 1) / 2
    return float(above / (len(positive) * len(negative)))


def _quantiles(scores: Rows) -> dict[str, float]:
    return {f"q{q:02d}": round(float(np.quantile(scores, q / 100)), 4) for q in (5, 50, 95, 99)}


class Measures:
    """Every measurement, each made when it is first asked for."""

    def __init__(
        self,
        model: Model,
        data: Path,
        bank: Path,
        work: Path,
        folder: Path | None = None,
        sample: Path | None = None,
    ) -> None:
        self.model, self.data, self.bank, self.work = model, data, bank, work
        self.folder, self.sample = folder, sample
        self.wordnet = WordNet()

    @cached_property
    def gallery(self) -> tuple[Rows, NDArray[np.int64]]:
        """Vectors and classes of the CIFAR-10 test pictures."""
        pictures = images.cifar(self.data, train=False)
        classes = np.array([CIFAR.index(p.concept) for p in pictures])
        return self.model.see(p.open() for p in pictures), classes

    @cached_property
    def nouns(self) -> tuple[list[str], list[str]]:
        """Unrelated nouns of training and of evaluation."""
        return negatives.split(self.wordnet, self.bank)

    @cached_property
    def unrelated(self) -> Rows:
        """Top scores of the held-out unrelated nouns."""
        return self._top(self.nouns[1])

    def _top(self, words: list[str] | tuple[str, ...]) -> Rows:
        return np.asarray((self.model.words(words) @ self.gallery[0].T).max(1))

    def _guess(self, vectors: Rows) -> NDArray[np.int64]:
        return np.asarray((vectors @ self.model.words(CIFAR).T).argmax(1))

    def accuracy(self) -> dict[str, Any]:
        """Zero-shot labelling of the CIFAR-10 test pictures."""
        vectors, classes = self.gallery
        guess = self._guess(vectors)
        each = {c: round(float((guess[classes == i] == i).mean()), 4)
                for i, c in enumerate(CIFAR)}  # fmt: skip
        return {"top1": round(float((guess == classes).mean()), 4), "by_class": each}

    def raw(self) -> dict[str, Any]:
        """The first 500 test pictures as CIFAR-10 has them, and the same with a JPEG's losses."""
        folder = self.data / "clip-vectors"
        classes = np.load(folder / "cifar10_test500_labels.npy")
        names = json.loads((folder / "cifar10_test500.json").read_text())["test_tar_members"]
        files = dict(images.members(self.data / "cifar10" / "test.tar"))
        pixels = self.model.see(np.load(folder / "cifar10_test500_images.npy"))
        jpegs = self.model.see(images.Picture(files[name]).open() for name in names)
        share = {
            name: round(float((self._guess(vectors) == classes).mean()), 4)
            for name, vectors in (("top1", pixels), ("top1_as_jpegs", jpegs))
        }
        return {"pictures": len(classes), **share}

    def _precision(self, words: dict[str, tuple[str, ...]]) -> dict[str, Any]:
        vectors, classes = self.gallery
        each: dict[str, float] = {}
        for i, name in enumerate(CIFAR):
            if not words[name]:
                continue
            scores = self.model.words(words[name]) @ vectors.T
            best = np.argsort(-scores, axis=1)[:, :10]
            for word, row in zip(words[name], best, strict=True):
                each[word] = float((classes[row] == i).mean())
        return {"words": len(each), "mean": round(float(np.mean(list(each.values()))), 4),
                "below_0.5": {w: v for w, v in each.items() if v < 0.5}}  # fmt: skip

    def unseen(self) -> dict[str, Any]:
        """Precision at 10 of words that were never used with pictures."""
        return self._precision(UNSEEN)

    def class_names(self) -> dict[str, Any]:
        """Precision at 10 of the words that were."""
        return self._precision(SYNONYMS)

    def hyponyms(self) -> dict[str, Any]:
        """Precision at 10 of all everyday words that WordNet puts under a class."""
        used = {w for group in SYNONYMS.values() for w in group}
        found: dict[str, tuple[str, ...]] = {}
        for name, inside in negatives.class_synsets(self.wordnet).items():
            lemmas = {n for o in inside for n in self.wordnet.synsets[o].lemmas if n.islower()}
            found[name] = tuple(
                sorted(
                    w for w in lemmas
                    if w not in used
                    and sum(p for o, p in self.wordnet.weighted_senses(w) if o in inside) > 0.6
                )
            )  # fmt: skip
        result = self._precision(found)
        result.pop("below_0.5")
        each = {c: self._precision({**dict.fromkeys(CIFAR, ()), c: found[c]})["mean"]
                for c in CIFAR}  # fmt: skip
        return {**result, "by_class": each}

    def no_match(self) -> dict[str, Any]:
        """Top scores of class names and unseen words against those of unrelated nouns."""
        names = self._top(CIFAR)
        unseen = self._top([w for group in UNSEEN.values() for w in group])
        practised = self._top(self.nouns[0])
        bank = [line.strip() for line in self.bank.read_text(encoding="utf-8").splitlines()
                if line.strip() and not line.startswith("#")]  # fmt: skip
        neutral = (self.model.read(bank) @ self.gallery[0].T).max(1)
        both = np.concatenate([names, unseen])
        worst = np.argsort(-self.unrelated)[:15]
        return {
            "nouns": len(self.unrelated),
            "auroc": round(auroc(both, self.unrelated), 4),
            "auroc_class_names": round(auroc(names, self.unrelated), 4),
            "auroc_unseen": round(auroc(unseen, self.unrelated), 4),
            "auroc_unseen_to_bank": round(auroc(unseen, neutral), 4),
            "auroc_practised_to_held_out": round(auroc(practised, self.unrelated), 4),
            "class_names": _quantiles(names), "unseen": _quantiles(unseen),
            "held_out_nouns": _quantiles(self.unrelated), "practised_nouns": _quantiles(practised),
            "bank": _quantiles(neutral),
            "highest_held_out": {self.nouns[1][i]: round(float(self.unrelated[i]), 3)
                                 for i in worst},
        }  # fmt: skip

    def near_misses(self) -> dict[str, Any]:
        """Mean of the five best scores of a class name with and without its class."""
        vectors, classes = self.gallery
        scores = self.model.words(CIFAR) @ vectors.T
        nouns = np.sort(self.model.words(self.nouns[1]) @ vectors.T, axis=1)[:, -5:].mean(1)
        found: dict[str, Any] = {}
        for i, name in enumerate(CIFAR):
            others = scores[i][classes != i]
            without = float(np.sort(others)[-5:].mean())
            nearest = np.bincount(classes[classes != i][np.argsort(-others)[:20]], minlength=10)
            found[name] = {
                "with": round(float(np.sort(scores[i])[-5:].mean()), 3),
                "median_of_class": round(float(np.median(scores[i][classes == i])), 3),
                "without": round(without, 3),
                "unrelated_nouns_below": round(float((nouns < without).mean()), 3),
                "nearest": CIFAR[int(nearest.argmax())],
            }
        return {"unrelated_nouns": _quantiles(nouns), **found}

    def caltech(self) -> dict[str, Any]:
        """Labelling of held-out Caltech-101 pictures among all its concepts."""
        pictures = images.caltech(self.data, train=False)
        names = sorted({p.concept for p in pictures})
        goal = np.array([names.index(p.concept) for p in pictures])
        seen = self.model.see(p.open() for p in pictures)
        right = (seen @ self.model.words(names).T).argmax(1) == goal
        means = [right[goal == i].mean() for i in range(len(names))]
        return {"pictures": len(goal), "concepts": len(names),
                "top1": round(float(right.mean()), 4),
                "mean_of_concepts": round(float(np.mean(means)), 4)}  # fmt: skip

    def coco(self) -> dict[str, Any]:
        """Captions and names of objects find COCO's photographs, which were all trained on."""
        seen = self.model.see(p.open() for p in images.coco(self.data))
        return coco_figures(seen, images.coco_records(self.data), self.model)

    def photographs(self) -> dict[str, Any]:
        """Captions find photographs of a folder (``--photographs``), best such as no step saw."""
        if self.folder is None:
            return {}
        records, pictures = images.captioned(self.folder)
        return coco_figures(self.model.see(p.open() for p in pictures), records, self.model)

    def imagenet(self) -> dict[str, Any]:
        """Naming among ImageNet's classes, beside the published backbone (``--imagenet``).

        The folder holds a picture of each class, its names in the order of the classes.
        """
        if self.sample is None:
            return {}
        import torch

        from .starter import backbone, features, prompts

        files = sorted(self.sample.glob("*.JPEG"))
        pictures = [images.Picture(file.read_bytes()) for file in files]
        truth = np.arange(len(pictures))
        names = self.model.words(prompts.imagenet_names())
        mine = (self.model.see(p.open() for p in pictures) @ names.T).argmax(1) == truth
        published = backbone.imagenet("lite2")
        encode = features.encoder(published, "cpu")
        with torch.inference_mode():
            rows = encode(images.prepare(p.open(), features.SIZE) for p in pictures)
            own = published.classify(rows).argmax(1).numpy() == truth
        return {"pictures": len(truth), "top1": round(float(mine.mean()), 4),
                "backbone": round(float(own.mean()), 4),
                "kept": round(float(mine.mean() / own.mean()), 4)}  # fmt: skip

    def teacher(self) -> dict[str, Any]:
        """Cosine between the text tower and its teacher (needs the work folder)."""
        if not (self.work / "table.npz").exists():
            return {}
        _, _, meanings = table.open_teacher(self.work)
        space = table.load_space(self.work)
        groups = {
            "used_with_pictures": [w for g in SYNONYMS.values() for w in g],
            "unseen": [w for g in UNSEEN.values() for w in g],
            "practised_nouns": self.nouns[0], "held_out_nouns": self.nouns[1],
        }  # fmt: skip
        return {
            name: round(float((self.model.words(words) * space(meanings(words))).sum(1).mean()), 4)
            for name, words in groups.items()
        }


ALL = ("accuracy", "raw", "unseen", "class_names", "hyponyms", "no_match", "near_misses",
       "caltech", "coco", "photographs", "imagenet", "teacher")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORDSIGHT_DATA"))
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--bank", type=Path, default=BANK)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="JPEGs and captions.json")
    parser.add_argument("--imagenet", type=Path, metavar="DIR", help="a JPEG of each class")
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data (or WORDSIGHT_DATA) is needed")
    measures = Measures(Model(args.model), Path(args.data), args.bank, args.work,
                        args.photographs, args.imagenet)  # fmt: skip
    found = {}
    for name in args.only.split(","):
        found[name] = getattr(measures, name)()
        if not args.json:
            _show(name, found[name])
    if args.json:
        print(json.dumps(found, indent=1))


def _show(name: str, values: dict[str, Any]) -> None:
    print(f"\n{name}")
    for key, value in values.items():
        shown = " ".join(f"{k}={v}" for k, v in value.items()) \
            if isinstance(value, dict) else value  # fmt: skip
        print(f"  {key:28} {shown}", flush=True)


if __name__ == "__main__":
    main()
