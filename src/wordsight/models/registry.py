"""The models that have a name here: what ``registry.json`` says, and little else.

Its fields are those of :class:`Entry`. What no public source states is null there, never guessed.
The sources (``verified_by``) are other projects' pins of these files; the hub itself was not asked.
Licences are those of the original weights' cards. The accuracy is zero-shot top-1 on CIFAR-10 as
open_clip publishes it for the weights (``docs/openclip_results.csv``, an average over its prompt
templates).

OpenAI's models come from repositories in transformers' layout. Those that Immich publishes were
exported with another activation (GELU, not QuickGELU) than the weights were trained with: other
projects measured cosines of 0.95 to 0.97 to true CLIP. They open by their hub id.

``clip-vit-b32-256-datacomp`` (ViT-B-32-256, 96.5 % on CIFAR-10) is missing because it is not
published in a layout that :mod:`wordsight.models.clip.layouts` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.models.clip.layouts import LAYOUTS
from wordsight.models.hub_cache import cached

STARTER = "starter"
STARTER_FOLDER = Path(__file__).parent / "weights" / STARTER


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on the hub that has a name here."""

    name: str
    repository: str
    revision: str | None
    """The commit that the name stands for; None where it is not known: then the newest."""
    layout: str
    """Of :data:`wordsight.models.clip.layouts.LAYOUTS`."""
    bytes: int | None
    """To be downloaded, small files aside."""
    files: Mapping[str, Mapping[str, Any]]
    """What is known of the files, by name: ``bytes`` and ``sha256``, or None."""
    licence: str | None
    dim: int
    image_size: int
    cifar10: float | None
    """Published zero-shot top-1 accuracy, per cent."""
    logit_scale: float | None
    """For models whose directory does not say it."""
    logit_bias: float | None
    converted_from: tuple[str, ...]
    """Repositories with the same weights for PyTorch."""
    note: str
    verified_by: tuple[str, ...]
    """What states all this, a source each."""

    @property
    def address(self) -> str:
        """Return "owner/name", with "@revision" where one is known."""
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @property
    def sha256(self) -> dict[str, str]:
        """The files' hashes, as far as they are known."""
        return {name: file["sha256"] for name, file in self.files.items() if file["sha256"]}


def _entries() -> tuple[Entry, ...]:
    text = Path(__file__).with_name("registry.json").read_text(encoding="utf-8")
    return tuple(
        Entry(
            **entry | {key: tuple(entry[key]) for key in ("converted_from", "verified_by")},
        )
        for entry in json.loads(text)
    )


# The first is what "auto" prefers: the cost of OpenAI's ViT-B/32, better on CIFAR-10 and in
# text-to-image retrieval (Flickr30k R@1 66.8 against 58.8 %).
ENTRIES = _entries()

NAMES = ("auto", STARTER, *(entry.name for entry in ENTRIES))
"""Every name that :func:`wordsight.load_model` knows."""


def find(name: str) -> Entry | None:
    """Return the entry of a name, or None."""
    return next((entry for entry in ENTRIES if entry.name == name), None)


def of_repository(repository: str) -> Entry | None:
    """Return the entry whose files are in a repository, or None."""
    return next((entry for entry in ENTRIES if entry.repository == repository), None)


def converted(repository: str) -> Entry | None:
    """Return the entry that has the same weights as a repository of PyTorch weights, or None."""
    return next((entry for entry in ENTRIES if repository in entry.converted_from), None)


def located(entry: Entry) -> Path | None:
    """Return the entry's folder in the cache: its revision, else what "main" was; None if neither.

    A cache that another tool filled may hold only the latter.
    """
    files = LAYOUTS[entry.layout][0]
    found = cached(entry.repository, files, entry.revision) if entry.revision else None
    return found or cached(entry.repository, files)


def models_info() -> list[dict[str, Any]]:
    """List the models that have a name, the one in the package first.

    Each row has ``name``, ``repository`` (None: in the package), ``revision`` (None: the newest),
    ``layout``, ``bytes`` (of the download; None if unknown or none), ``files`` (what is known of
    them, by name), ``licence``, ``dim``, ``image_size``, ``cifar10`` (published zero-shot accuracy
    in per cent, or None), ``note``, ``verified_by`` (what states all this), ``cached`` (whether it
    opens without the network) and ``path`` (of its directory, or None).
    """
    rows: list[dict[str, Any]] = []
    starter = STARTER_FOLDER if (STARTER_FOLDER / "config.json").is_file() else None
    config = json.loads((starter / "config.json").read_text(encoding="utf-8")) if starter else {}
    rows.append(
        {
            "name": STARTER,
            "repository": None,
            "revision": None,
            "layout": "open_clip",
            "bytes": None,
            "files": {},
            "licence": "MIT",
            "dim": config.get("embed_dim"),
            "image_size": (config.get("vision_cfg") or {}).get("image_size"),
            "cifar10": None,
            "note": "inside the package, no download: everyday things in photographs; English",
            "verified_by": [],
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
                "layout": entry.layout,
                "bytes": entry.bytes,
                "files": entry.files,
                "licence": entry.licence,
                "dim": entry.dim,
                "image_size": entry.image_size,
                "cifar10": entry.cifar10,
                "note": entry.note,
                "verified_by": list(entry.verified_by),
                "cached": folder is not None,
                "path": str(folder) if folder else None,
            }
        )
    return rows
