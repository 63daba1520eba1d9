"""Everything with weights: registry, hub, runtime, CLIP, Mask R-CNN."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wordsight.errors import HubError, ModelError
from wordsight.models import hub, repositories
from wordsight.models.clip import ClipModel
from wordsight.models.clip.layouts import FILE_SETS, LAYOUTS, beside
from wordsight.models.hub_cache import commit_of
from wordsight.models.hub_report import WAYS_OUT, NoAnswerError
from wordsight.models.registry import (
    ENTRIES,
    NAMES,
    STARTER,
    STARTER_FOLDER,
    Entry,
    converted,
    find,
    located,
    of_repository,
)
from wordsight.paths import expanded
from wordsight.privacy import hub_address, is_offline
from wordsight.runtime.cache import writable_cache

__all__ = ["ClipModel", "fetch_model", "load_model"]

AUTO_REACH_SECONDS = 4.0
"""How long "auto" waits for the hub to answer before it takes the starter."""

AUTO_LIMIT_SECONDS = 900.0
"""How long "auto" may take to fetch its model before it takes the starter."""

AUTO_RETRY_SECONDS = 600.0
"""For how long "auto" remembers that the hub did not answer, and does not ask again."""

_log = logging.getLogger("wordsight")


def load_model(
    name: str | Path = "auto",
    *,
    runtime: str = "auto",
    precision: str = "auto",
    device: str = "",
    notice: Callable[[str], None] | None = None,
) -> ClipModel:
    """Open a CLIP model.

    Args:
        name: a registry name (`wordsight models` lists them), a directory or a hub repository id
            ("owner/name", or "owner/name@revision") in a layout of
            :mod:`wordsight.models.clip.layouts`, or "auto": the first model of the registry
            that is in the cache; else the preferred one, if the hub answers within 4 s and it comes
            within 15 minutes; else the starter model in the package, with a notice. A name goes
            before a directory of that name in the working directory; write "./starter" for the
            latter. The ``source`` of a model from the hub names its commit.
        runtime: "auto", "openvino" or "onnxruntime": see :mod:`wordsight.runtime.graph`.
        precision: "auto", "fp32", "bf16" or "int8": see :class:`ClipModel`.
        device: "cpu", "gpu" or "npu": see :class:`ClipModel`. Without one the environment variable
            ``WORDSIGHT_DEVICE`` says it, else it is the CPU.
        notice: takes a line that the user should read; without it the line is logged as a warning
            of the logger "wordsight", which Python prints on stderr.

    Raises:
        ModelError: the name is not known, or the model's files make no sense.
        HubError: the model could not be fetched. Where the hub does not answer this comes within
            15 seconds.
    """

    found = _find(name, notice or _log.warning)
    entry = found.entry
    return ClipModel(
        found.folder,
        name=found.name,
        source=found.source,
        runtime=runtime,
        precision=precision,
        device=device or os.environ.get("WORDSIGHT_DEVICE", "").strip() or "cpu",
        logit_scale=entry.logit_scale if entry else None,
        logit_bias=entry.logit_bias if entry else None,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A model directory, what to call the model, and what opens it again."""

    folder: Path
    source: str
    name: str | None = None
    entry: Entry | None = None


def _find(name: str | Path, notice: Callable[[str], None]) -> _Found:
    """Find what :func:`load_model` is asked for; fetch it if need be."""
    if isinstance(name, Path):
        return _folder(name)
    if name == "auto":
        entry, folder = _auto(notice)
        return _from_hub(folder, entry.name, entry) if entry and folder else _starter()
    if name == STARTER:
        return _starter()
    if entry := find(name):
        return _from_hub(located(entry) or _fetch_entry(entry), name, entry)
    if os.path.isdir(expanded(name)):  # noqa: PTH112  (a name of any length)
        return _folder(Path(name))
    if repositories.is_repository(name):
        try:
            folder = _fetch(name)
        except repositories.NoGraphsError:  # the hub has it
            raise
        except HubError as error:
            raise type(error)(f"{error}; there is no directory {name} here either") from error
        # The registry knows scale and bias of some models whose files lack them.
        repository = repositories.split(name)[0]
        return _from_hub(folder, name, of_repository(repository), repository)
    raise _unknown(name)


def _starter() -> _Found:
    return _Found(STARTER_FOLDER, STARTER, STARTER)


def _from_hub(
    folder: Path, given: str, entry: Entry | None, repository: str | None = None
) -> _Found:
    repository = repository or (entry.repository if entry else given)
    commit = commit_of(repository, "config.json", folder)
    source = f"{repository}@{commit}" if commit else given
    return _Found(folder, source, entry.name if entry else repository, entry)


def _unknown(name: str) -> ModelError:
    close = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return ModelError(
        f"unknown model {name!r}: {hint}`wordsight models` lists the names; you can also give a "
        "directory or a hub repository id (owner/name)"
    )


def fetch_model(name: str) -> Path:
    """Fetch a CLIP model by its registry name or hub id; return its folder in the cache.

    Raises ModelError for an unknown name, HubError for what cannot be fetched.
    """
    entry = find(name)
    if entry is None and not repositories.is_repository(name):
        raise ModelError(
            f"{name}: nothing to fetch; give a name of `wordsight models` or a hub repository id "
            "(owner/name or owner/name@revision)"
        )
    return _fetch_entry(entry) if entry else _fetch(name)


def _folder(path: Path) -> _Found:
    path = expanded(path)
    if not os.path.isdir(path):  # noqa: PTH112
        raise ModelError(f"{path}: no such model directory")
    # Written in full: a library remembers it, and may be opened from another place.
    path = path.resolve()
    return _Found(path, str(path))


def _fetch(repository: str) -> Path:
    """Fetch a repository in any layout."""
    name, revision = repositories.split(repository)
    try:
        return hub.fetch(name, *FILE_SETS, beside=beside, revision=revision)
    except repositories.NoGraphsError as error:
        if ready := converted(name):
            raise repositories.NoGraphsError(
                error.reason,
                f"the same weights are ready to use as {ready.name} ({ready.repository}): "
                f"--model {ready.name}",
            ) from error
        raise


def _fetch_entry(
    entry: Entry, reach: float = hub.REACH_SECONDS, limit: float | None = None
) -> Path:
    """Fetch a model of the registry, in fp32, and check what came against what is known of it."""
    return hub.fetch(
        entry.repository,
        LAYOUTS[entry.layout][0],
        beside=beside,
        revision=entry.revision or "main",
        sha256=entry.sha256,
        reach_seconds=reach,
        limit_seconds=limit,
    )


def _in_cache() -> tuple[Entry | None, Path | None]:
    """The first model of the registry that is in the cache, with its folder."""
    for entry in ENTRIES:
        if folder := located(entry):
            return entry, folder
    return None, None


def better_than(source: str) -> Entry | None:
    """The model in the cache that "auto" would take today, for a library made with the starter."""
    return _in_cache()[0] if source == STARTER else None


def how_to_fetch(entry: Entry = ENTRIES[0]) -> str:
    """How to get the model that "auto" prefers, in words."""
    size = f" ({entry.bytes / 1e6:,.0f} MB)" if entry.bytes else ""
    first = "unset HF_HUB_OFFLINE, then " if is_offline() else ""
    return f"{entry.name}{size} finds more; to get it: {first}wordsight models fetch {entry.name}"


def _auto(notice: Callable[[str], None]) -> tuple[Entry | None, Path | None]:
    """Choose what "auto" means here and now; (None, None) for the starter."""
    entry, folder = _in_cache()
    if entry:
        return entry, folder
    entry = ENTRIES[0]
    instead = f"using the small built-in model. {how_to_fetch(entry)}"
    if is_offline():
        notice(f"HF_HUB_OFFLINE is set and no CLIP model is in the cache: {instead}")
        return None, None
    memory = writable_cache("hub")
    mark = memory / "unreachable" if memory else None
    with contextlib.suppress(OSError):
        if mark and 0 <= time.time() - mark.stat().st_mtime < AUTO_RETRY_SECONDS:
            notice(f"{hub_address()} did not answer a moment ago: {instead}")
            return None, None
    try:
        return entry, _fetch_entry(entry, AUTO_REACH_SECONDS, AUTO_LIMIT_SECONDS)
    except HubError as error:
        with contextlib.suppress(OSError):
            if mark and isinstance(error, NoAnswerError):
                mark.touch()
        reason = str(error).removesuffix(WAYS_OUT).removesuffix("; ").removesuffix(", or ")
        notice(f"{reason}: {instead}")
        return None, None
