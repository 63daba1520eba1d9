"""Where a checkpoint is, and of which library it is."""

from __future__ import annotations

import os
from pathlib import Path

from wordsight.errors import HubError, ModelError
from wordsight.models import hub, repositories
from wordsight.models.clip.layouts import OPEN_CLIP
from wordsight.models.hub_cache import cached
from wordsight.models.hub_report import WAYS_OUT
from wordsight.models.maskrcnn import DESCRIPTION
from wordsight.paths import expanded
from wordsight.privacy import hub_address

KINDS = ("auto", "open_clip", "transformers", "maskrcnn")

# The files that make a repository of the hub complete, best first.
OPEN_CLIP_CONFIG = "open_clip_config.json"

_SETS = {
    "open_clip": (
        (OPEN_CLIP_CONFIG, "open_clip_model.safetensors"),
        (OPEN_CLIP_CONFIG, "open_clip_pytorch_model.bin"),
    ),
    "transformers": (
        ("config.json", "model.safetensors"),
        ("config.json", "model.safetensors.index.json"),
        ("config.json", "pytorch_model.bin"),
    ),
}


def find(source: str, kind: str, has_pretrained: bool) -> tuple[str, str]:
    """Tell what a source is and where: its kind, and a folder, a file or an architecture's name."""
    if kind not in KINDS:
        raise ModelError(f"unknown kind {kind!r}: use one of {', '.join(KINDS)}")
    name = source.removeprefix("local-dir:")
    path = expanded(name)
    if path.is_file():
        if kind not in ("auto", "maskrcnn"):
            raise ModelError(
                f"{path}: weights alone do not say their architecture; name it and give the file "
                f"as weights: wordsight export MODEL --pretrained {path} --out DIR"
            )
        return "maskrcnn", str(path)
    if path.is_dir():
        return _kind_of_folder(path, kind), str(path)
    if name.startswith("maskrcnn_") or kind == "maskrcnn":
        return "maskrcnn", name
    if name.startswith("hf-hub:") or repositories.is_repository(name):
        folder = _from_hub(name.removeprefix("hf-hub:"), kind)
        return _kind_of_folder(folder, kind), str(folder)
    if kind == "transformers" or path.suffix or os.sep in name or name != source:
        raise ModelError(f"{source}: there is no such folder or file")
    if not has_pretrained:
        raise ModelError(
            f"{source}: there is no such folder; if this is a model of open_clip, say which "
            "weights with --pretrained TAG or --pretrained FILE"
        )
    return "open_clip", name


def _kind_of_folder(folder: Path, kind: str) -> str:
    if all((folder / file).is_file() for file in OPEN_CLIP) or (folder / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: is already a wordsight model directory; use it directly")
    files = {"open_clip": OPEN_CLIP_CONFIG, "transformers": "config.json"}
    for name, file in files.items():
        if kind in ("auto", name) and (folder / file).is_file():
            return name
    wanted = " or ".join(file for name, file in files.items() if kind in ("auto", name))
    raise ModelError(
        f"{folder}: not a checkpoint of open_clip or transformers (no {wanted or 'weights'}); for "
        "a Mask R-CNN of torchvision name the file of its weights"
    )


def _from_hub(repository: str, kind: str) -> Path:
    """Fetch a checkpoint into the shared cache; return its folder."""
    if not repositories.is_repository(repository):
        raise ModelError(f"{repository}: not a hub repository id (owner/name)")
    sets = [files for name in _SETS if kind in ("auto", name) for files in _SETS[name]]
    for files in sets:
        if folder := cached(repository, files):
            return folder
    try:
        names = set(hub.list_files(repository))
    except HubError as error:
        reason = str(error).removesuffix(f"; {WAYS_OUT}")
        raise HubError(f"{reason}; there is no folder {repository} here either") from error
    for files in sets:
        if names.issuperset(files):
            return hub.fetch(repository, files, extra=_is_beside_weights)
    raise ModelError(
        f"{hub_address()}/{repository}: not a checkpoint of open_clip or transformers "
        f"(none of {', '.join(' + '.join(files) for files in sets)})"
    )


def _is_beside_weights(file: str) -> bool:
    """Tell whether a file of a repository is read beside the weights: settings, tokenizer."""
    if "/" in file:
        return False
    return file.endswith((".json", ".txt", ".model")) or file.startswith("model-0")
