"""How often "No match" is right on real CLIP vectors, and on a model's own over CIFAR-10.

    python -m benchmarks.no_match_study --data DATA [--splits 20] [--model starter]

``clip-vectors/`` of DATA holds 500 CIFAR-10 image vectors of OpenAI's ViT-B/32 and the vectors of
1283 LVIS and COCO category names. No text encoder for those is at hand, so the bank is drawn from
names that are unrelated to CIFAR-10 (``lists/related.txt`` says which are not), and the other
unrelated names are the absent queries, over random splits: bank and queries never share a head
noun. With ``--model`` the package's own bank is encoded, the images are ``cifar10/test.tar``, and
the absent queries are the names of ``lists/absent.txt``.

Two columns, with the rule's rivals and without. The rows: AUROC and FPR95 of the ten class names
against absent names; the share of absent names that match at a stated 0.01, 0.05 and 0.10; how many
of the ten names match; of ten libraries that lack a class, how many refuse its name ("none" or
"unsure"), and the same for other names of the classes (``lists/synonyms.txt``); how often 1, 5, 20
and 100 images of a class among all of the other nine are found ("match", and "match" or "unsure").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import finish, lines_of, parser
from benchmarks.nouns import head, spoken
from wordsight import nomatch
from wordsight.bank import bank_phrases, kind_groups, with_article
from wordsight.evaluate.calibration import auroc, fpr_at_95_tpr
from wordsight.nomatch.rivals import Kinds

Array = npt.NDArray[Any]
RATES = (0.01, 0.05, 0.10)
NEEDLES = (1, 5, 20, 100)
DRAWS = 6  # of the images that are left of a class
CLIP_SCALE = 100.0  # of OpenAI's ViT-B/32
CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip


@dataclass(frozen=True)
class Gallery:
    """Images, their bank, and the queries that are asked of them."""

    images: Array
    """Vectors [N, D]."""
    labels: Array
    """The class number [N] of each."""
    bank: Array
    """Text vectors [B, D]."""
    kinds: Kinds
    classes: Array
    """Text vectors [10, D] of the classes' names."""
    synonyms: Array
    """Text vectors of other names of theirs, and of which class [S] they are."""
    synonym_of: Array
    absent: Array
    """Text vectors of names of nothing that is there."""


class Judge:
    """The rule over some of a gallery's images, with what the bank gets from these or from all."""

    def __init__(
        self, gallery: Gallery, some: Array, *, rivals: bool, null: nomatch.Null | None = None
    ) -> None:
        self.gallery, self.rivals = gallery, rivals
        self.images = gallery.images[some]
        fused = self.images @ gallery.bank.T
        self.mean, self.sd = nomatch.background(fused)
        if null is None:
            z = nomatch.leave_one_out(fused.T, self.mean, self.sd, len(gallery.bank))
            null = nomatch.Null(*self._closest(gallery.bank, z))
        self.null = null

    def _closest(self, texts: Array, z: Array) -> tuple[Array, Array]:
        """z and log odds [Q, 3] of the images closest to each text."""
        places = nomatch.closest(z)
        odds = self.gallery.kinds.log_odds(texts, self.images[places])
        best = np.take_along_axis(z, places, axis=1)
        return best, odds if self.rivals else np.full(odds.shape, 9.0)

    def ask(self, text: Array) -> tuple[Array, Array]:
        """z and log odds [3] of the images closest to the query of this vector [D]."""
        z = nomatch.zscore(self.images @ text, self.mean, self.sd)
        best, odds = self._closest(text[None], z[None])
        return best[0], odds[0]

    def decide(self, text: Array) -> nomatch.Decision:
        """The decision on the query of this vector [D]."""
        return self.null.decide(*self.ask(text))


def measure(gallery: Gallery, *, rivals: bool, rng: np.random.Generator) -> dict[str, float]:
    """One column."""
    whole = Judge(gallery, np.arange(len(gallery.images)), rivals=rivals)
    own, absent = (
        [whole.ask(text) for text in texts] for texts in (gallery.classes, gallery.absent)
    )
    strength = [np.array([whole.null.evidence(*asked) for asked in one]) for one in (own, absent)]
    row = {"AUROC": auroc(*strength), "FPR95": fpr_at_95_tpr(*strength)}
    for rate in RATES:
        row[f"absent at {rate:.2f}"] = share(whole.null.decide(*q, rate).match for q in absent)
    row["classes matched"] = sum(whole.null.decide(*asked).match for asked in own)
    refused, synonyms = [], []
    found: dict[int, list[str]] = {n: [] for n in NEEDLES}
    for number, text in enumerate(gallery.classes):
        inside = np.flatnonzero(gallery.labels == number)
        without = np.flatnonzero(gallery.labels != number)
        lacking = Judge(gallery, without, rivals=rivals)
        refused.append(not lacking.decide(text).match)
        for other in gallery.synonyms[gallery.synonym_of == number]:
            synonyms.append(not lacking.decide(other).match)
        for count, verdicts in found.items():
            for _ in range(DRAWS if count < len(inside) else 0):
                some = np.append(without, rng.choice(inside, count, replace=False))
                # Images more or less hardly move what the bank gets.
                few = Judge(gallery, some, rivals=rivals, null=whole.null)
                verdicts.append(few.decide(text).verdict)
    row |= {"classes refused where absent": sum(refused), "other names refused": share(synonyms)}
    for count, verdicts in found.items():
        if verdicts:
            row[f"{count} found"] = share(v == "match" for v in verdicts)
            row[f"{count} found or unsure"] = share(v != "none" for v in verdicts)
    return row


def share(true: Iterable[bool]) -> float:
    """How many of these are true."""
    return float(np.mean(list(true)))


def columns(gallery: Gallery, seed: int) -> dict[str, dict[str, float]]:
    """Both columns of a gallery."""
    return {
        name: measure(gallery, rivals=rivals, rng=np.random.default_rng(seed))
        for name, rivals in (("with rivals", True), ("without", False))
    }


def kinds_of(vectors: dict[str, Array]) -> Kinds:
    """The kinds of the package, as far as there is a vector for them."""
    rows = [
        (number, word == group[0], vectors[word])
        for number, group in enumerate(kind_groups())
        for word in group
        if word in vectors
    ]
    number, above, vector = zip(*rows, strict=True)
    return Kinds(np.stack(vector), np.array(number), np.array(above), CLIP_SCALE)


def synonyms() -> tuple[list[str], Array]:
    """Other names of the classes, and the class number of each."""
    pairs = [line.split(":", 1) for line in lines_of("synonyms.txt")]
    names = [(CLASSES.index(key), name) for key, group in pairs for name in group.split()]
    return [name for _, name in names], np.array([number for number, _ in names])


def unit(vectors: Array) -> Array:
    """Float32 vectors of unit length."""
    wide = vectors.astype(np.float32)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def real_galleries(folder: Path, splits: int, bank_size: int) -> list[Gallery]:
    """The stored vectors, once for each split of the unrelated names."""
    names = json.loads((folder / "lvis_names.json").read_text())["names"]
    coco_names = json.loads((folder / "coco_names.json").read_text())["names"]
    coco_names = [name.replace(" ", "_") for name in coco_names]
    every = [*names, *coco_names]
    tables = {part: unit(np.load(folder / f"{part}_text_vectors.npy")) for part in ("lvis", "coco")}
    vectors = np.concatenate([tables["lvis"], tables["coco"]])
    info = json.loads((folder / "cifar10_test500.json").read_text())
    classes = [tables[r["vectors"].partition("_")[0]][r["row"]] for r in info["text_rows"]]
    others, synonym_of = synonyms()
    related = {word for line in lines_of("related.txt") for word in line.split()}
    lvis_heads = {head(name) for name in names}
    # Of COCO only what LVIS lacks: most of its names are LVIS's, with the same vector.
    pool = np.array(
        [
            i
            for i, name in enumerate(every)
            if name not in related and (i < len(names) or head(name) not in lvis_heads)
        ]
    )
    # A kind may stand in a qualifier's place ("car_(automobile)"); LVIS's names come second.
    by_name = {
        spoken(every[i]): vectors[i] for i in [*range(len(names), len(every)), *range(len(names))]
    }
    words = {word for group in kind_groups() for word in group}
    is_kind = np.array([spoken(every[i]) in words for i in pool])
    heads = np.array([head(every[i]) for i in pool])
    galleries = []
    for seed in range(splits):
        # Whole groups of names with one head noun go to one side, so that both sides are alike.
        nouns, noun = np.unique(heads, return_inverse=True)
        order = np.argsort(np.random.default_rng(seed).permutation(len(nouns))[noun], kind="stable")
        # No kind may be a bank phrase: those come last, among the queries.
        order = np.concatenate([order[~is_kind[order]], order[is_kind[order]]])
        bank, asked = order[:bank_size], order[bank_size:]
        asked = asked[
            ~np.isin(heads[asked], heads[bank])
        ]  # the one group that the cut went through
        galleries.append(
            Gallery(
                images=np.load(folder / "cifar10_test500_image_vectors.npy").astype(np.float32),
                labels=np.load(folder / "cifar10_test500_labels.npy"),
                bank=vectors[pool[bank]],
                kinds=kinds_of(by_name),
                classes=np.stack(classes),
                synonyms=np.stack([tables["lvis"][names.index(name)] for name in others]),
                synonym_of=synonym_of,
                absent=vectors[pool[asked]],
            )
        )
    return galleries


def model_gallery(name: str, data: Path) -> Gallery:
    """A model over CIFAR-10's test split, with the package's bank."""
    import wordsight
    from wordsight.classify import encode_items
    from wordsight.search import make_kinds
    from wordsight.sources import open_source

    model = wordsight.load_model(name)
    items = open_source(data / "cifar10" / "test.tar").items()
    found = [(vector, item.label) for item, vector in encode_items(model, items)]
    others, synonym_of = synonyms()

    def encoded(words: Sequence[str]) -> Array:
        return np.asarray(model.encode_texts([with_article(spoken(word)) for word in words]))

    return Gallery(
        images=np.stack([np.asarray(vector) for vector, _ in found]),
        labels=np.array([CLASSES.index(str(label)) for _, label in found]),
        bank=np.asarray(model.encode_texts(list(bank_phrases()))),
        kinds=make_kinds(model),
        classes=encoded(CLASSES),
        synonyms=encoded(others),
        synonym_of=synonym_of,
        absent=encoded(lines_of("absent.txt")),
    )


def averaged(tables: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, str]]:
    """Each figure's mean over the splits, and its standard deviation where there are several."""

    def cell(values: Sequence[float]) -> str:
        spread = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
        return f"{np.mean(values):.3f}{spread}"

    return {
        column: {row: cell([table[column][row] for table in tables]) for row in rows}
        for column, rows in tables[0].items()
    }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, "data")
    options.add_argument("--splits", type=int, default=20, help="random splits (seeds 0, 1, ...)")
    options.add_argument("--bank", type=int, default=300, help="names in the bank of each split")
    options.add_argument("--model", help="also a model over CIFAR-10's test split")
    given = options.parse_args()
    real = real_galleries(given.data / "clip-vectors", given.splits, given.bank)
    made: dict[str, Callable[[], list[Gallery]]] = {"real vectors": lambda: real}
    if given.model:
        made[given.model] = lambda: [model_gallery(given.model, given.data)]
    figures = {}
    for title, galleries in made.items():
        table = averaged([columns(gallery, seed) for seed, gallery in enumerate(galleries())])
        figures[title] = table
        print(f"\n{title:<32}" + "".join(f"{column:>20}" for column in table))
        for row in table["with rivals"]:
            print(f"{row:<32}" + "".join(f"{column[row]:>20}" for column in table.values()))
    finish(given, figures)


if __name__ == "__main__":
    main()
