"""The models that have a name here: data, and little else.

Repositories and sizes are what the hub's pages show, licences those of the original weights'
cards; the accuracy is zero-shot top-1 on CIFAR-10 as open_clip publishes it
(``docs/openclip_results.csv``, an average over its prompt templates). What could not be verified
is None. That is so for OpenAI's models: these files were exported with another activation (GELU,
not QuickGELU) than the weights were trained with, other projects measured cosines of 0.95 to 0.97
to true CLIP, and the published accuracies do not describe them. `wordsight export
ViT-B-32-quickgelu --pretrained openai` makes a true one.

``clip-vit-b32-256-datacomp`` (ViT-B-32-256, 96.5 % on CIFAR-10) is missing because it is not
published in the directory layout that :mod:`wordsight.models.clip` reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.models import hub
from wordsight.models.clip import LAYOUT

STARTER = "starter"
STARTER_FOLDER = Path(__file__).parent / "weights" / STARTER


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on the hub that has a name here."""

    name: str
    repository: str
    megabytes: int | None
    """To be downloaded, in units of 10^6 bytes."""
    licence: str | None
    dim: int
    image_size: int
    cifar10: float | None
    """Published zero-shot top-1 accuracy, per cent."""
    note: str
    logit_scale: float | None = None
    """For models whose directory does not say it."""
    logit_bias: float | None = None
    revision: str | None = None
    """The commit that the name stands for; None where it is not known: then the newest."""

    @property
    def address(self) -> str:
        """Return "owner/name", with "@revision" where one is known."""
        return self.repository + (f"@{self.revision}" if self.revision else "")


ENTRIES = (
    # The first is what "auto" prefers: the cost of the next one, better on CIFAR-10 and in
    # text-to-image retrieval (Flickr30k R@1 66.8 against 58.8 %).
    Entry(
        "clip-vit-b32-laion2b",
        "immich-app/ViT-B-32__laion2b-s34b-b79k",
        609,
        "MIT",
        512,
        224,
        93.6,
        "ViT-B/32 trained on LAION-2B; fast, retrieves better than OpenAI's",
        revision="19a057a0fb927cf239541300e74237cd56c7ffe2",
    ),
    Entry(
        "clip-vit-b32",
        "immich-app/ViT-B-32__openai",
        609,
        "MIT",
        512,
        224,
        None,
        "OpenAI's ViT-B/32, exported with GELU in place of QuickGELU; fast",
        revision="a857c8de2c07bbcfa6646adfcf31b798845afa1e",
    ),
    Entry(
        "clip-vit-b16",
        "immich-app/ViT-B-16__openai",
        601,
        "MIT",
        512,
        224,
        None,
        "OpenAI's ViT-B/16, exported with GELU in place of QuickGELU; four times the work of B/32",
    ),
    Entry(
        "clip-vit-l14",
        "immich-app/ViT-L-14__openai",
        1717,
        "MIT",
        768,
        224,
        None,
        "OpenAI's ViT-L/14, exported with GELU in place of QuickGELU; 18 times the work of B/32",
        revision="9b27c6b49d2ff4957fa0b5a25521eee12f109543",
    ),
    Entry(
        "siglip-b16",
        "immich-app/ViT-B-16-SigLIP__webli",
        812,
        "Apache-2.0",
        768,
        224,
        92.3,
        "Google's SigLIP B/16; strong retrieval (Flickr30k R@1 74.7 %)",
        logit_scale=117.33,
        logit_bias=-12.93,
    ),
    Entry(
        "siglip2-b16",
        "immich-app/ViT-B-16-SigLIP2__webli",
        None,
        "Apache-2.0",
        768,
        224,
        None,
        "Google's SigLIP 2 B/16; understands many languages (its confidences are not calibrated)",
    ),
)

NAMES = ("auto", STARTER, *(entry.name for entry in ENTRIES))
"""Every name that :func:`wordsight.load_model` knows."""


def find(name: str) -> Entry | None:
    """Return the entry of a name, or None."""
    return next((entry for entry in ENTRIES if entry.name == name), None)


def located(entry: Entry) -> Path | None:
    """Return the entry's folder in the cache: its revision, else what "main" was; None if neither.

    A cache that another tool filled may hold only the latter.
    """
    found = hub.cached(entry.repository, LAYOUT, entry.revision) if entry.revision else None
    return found or hub.cached(entry.repository, LAYOUT)


def models_info() -> list[dict[str, Any]]:
    """List the models that have a name, the one in the package first.

    Each row has ``name``, ``repository`` (None: in the package), ``revision`` (None: the
    newest), ``bytes`` (of the download; None
    if unknown or none), ``licence``, ``dim``, ``image_size``, ``cifar10`` (published zero-shot
    accuracy in per cent, or None), ``note``, ``cached`` (whether it opens without the network) and
    ``path`` (of its directory, or None).
    """
    rows: list[dict[str, Any]] = []
    starter = STARTER_FOLDER if (STARTER_FOLDER / LAYOUT[0]).is_file() else None
    config = json.loads((starter / LAYOUT[0]).read_text(encoding="utf-8")) if starter else {}
    rows.append(
        {
            "name": STARTER,
            "repository": None,
            "revision": None,
            "bytes": None,
            "licence": "MIT",
            "dim": config.get("embed_dim"),
            "image_size": (config.get("vision_cfg") or {}).get("image_size"),
            "cifar10": None,
            "note": "inside the package: some 150 kinds of everyday things, no download",
            "cached": starter is not None,
            "path": str(starter) if starter else None,
        }
    )
    for entry in ENTRIES:
        folder = located(entry)
        rows.append(
            {
                "name": entry.name,
                "repository": entry.repository,
                "revision": entry.revision,
                "bytes": None if entry.megabytes is None else entry.megabytes * 10**6,
                "licence": entry.licence,
                "dim": entry.dim,
                "image_size": entry.image_size,
                "cifar10": entry.cifar10,
                "note": entry.note,
                "cached": folder is not None,
                "path": str(folder) if folder else None,
            }
        )
    return rows
