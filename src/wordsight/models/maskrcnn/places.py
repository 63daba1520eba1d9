"""Where detectors are: in the package, on this machine, on the hub."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError
from wordsight.models.maskrcnn.description import DESCRIPTION, GRAPH, read_description, read_json
from wordsight.models.maskrcnn.detector import Detector
from wordsight.paths import expanded

STARTER = "starter-maskrcnn"

PREFERRED = "maskrcnn-r50-fpn"

_MODELS = Path(__file__).parents[1]


def load_detector(
    source: str | Path = "auto", *, runtime: str = "auto", masks: bool = True
) -> Detector:
    """Load a Mask R-CNN.

    Args:
        source: a directory with ``model.onnx`` and ``detector.json``; a registry name
            (``starter-maskrcnn``, ``maskrcnn-r50-fpn``, ``maskrcnn-r50-fpn-int8``); a hub
            repository id ("owner/name") with such a directory; or "auto": ``maskrcnn-r50-fpn`` if
            it is in the cache, else the starter. What is named and not in the cache is fetched.
        runtime: "auto", "openvino" or "onnxruntime".
        masks: whether masks are wanted; without them a small detector takes a tenth less time.

    Raises:
        ModelError: unknown name, missing or unreadable file, or a graph whose inputs and outputs
            are not those of its description (the message names both).
        HubError: the model could not be fetched.
    """
    from wordsight.runtime.graph import open_graph

    folder, graph_path, data = _locate(source)
    description = read_description(folder, data)
    without = [name for what, name in description.outputs.items() if what == "masks" and not masks]
    graph = open_graph(graph_path, runtime=runtime, precision="fp32", without=without)
    kept = {what: name for what, name in description.outputs.items() if name not in without}
    description = replace(description, outputs=kept)
    return Detector(description, graph, folder)


def registry() -> dict[str, Any]:
    """Read the detectors on the hub: name -> {"repository", "file", "megabytes", "description"}."""
    data: dict[str, Any] = read_json(_MODELS / "detectors.json")
    return data


def detectors_info() -> list[dict[str, Any]]:
    """List the detectors that have a name, the one in the package first.

    Each row has ``name``, ``repository`` (None: in the package), ``bytes`` (of the download, or
    None), ``licence``, ``note``, ``cached`` (whether it opens without the network) and ``path``
    (of its directory, or None).
    """
    from wordsight.models.hub_cache import cached

    starter = _starter_folder()
    rows: list[dict[str, Any]] = [
        {
            "name": STARTER,
            "repository": None,
            "bytes": None,
            "licence": "MIT",
            "note": "inside the package: finds objects without naming them, no download",
            "cached": (starter / GRAPH).is_file(),
            "path": str(starter),
        }
    ]
    for name, entry in registry().items():
        folder = cached(entry["repository"], [entry["file"]])
        rows.append(
            {
                "name": name,
                "repository": entry["repository"],
                "bytes": entry["megabytes"] * 10**6,
                "licence": entry["description"]["licence"],
                "note": entry["description"]["source"],
                "cached": folder is not None,
                "path": str(folder) if folder else None,
            }
        )
    return rows


def _starter_folder() -> Path:
    return _MODELS / "weights" / STARTER


def _locate(source: str | Path) -> tuple[Path, Path, dict[str, Any] | None]:
    """Find (folder, graph, description or None if it is in the folder) of a detector."""
    from wordsight.models import hub, repositories
    from wordsight.models.hub_cache import cached

    entries = registry()
    if source == "auto":
        entry = entries[PREFERRED]
        is_here = cached(entry["repository"], [entry["file"]]) is not None
        source = PREFERRED if is_here else STARTER
    if source == STARTER:
        folder = _starter_folder()
    elif isinstance(source, str) and source in entries:
        entry = entries[source]
        folder = hub.fetch(entry["repository"], [entry["file"]])
        return folder, folder / entry["file"], entry["description"]
    elif os.path.isdir(path := expanded(source)):  # noqa: PTH112  (of any length)
        folder = path
    elif isinstance(source, str) and repositories.is_repository(source):
        name, revision = repositories.split(source)
        folder = hub.fetch(
            name,
            [GRAPH, DESCRIPTION],
            extra=lambda file: file.endswith(".json"),
            revision=revision,
        )
    else:
        names = ", ".join([STARTER, *entries])
        raise ModelError(
            f"{source}: no such detector; use tiles, {names}, a directory with {GRAPH} and "
            f"{DESCRIPTION}, or a hub repository id (owner/name)"
        )
    return folder, folder / GRAPH, None
