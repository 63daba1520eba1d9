"""Switches off what the libraries underneath send to their makers, before they are imported.

``import wordsight`` calls :func:`switch_off`, and each of its modules, commands and notebooks
begins with that import. What each library sends, and what forbids it, as its source says:

- ONNX Runtime from 1.32: its version, the processor, the system and a device id, to a host of
  Microsoft some seconds after it was loaded. ``ORT_DISABLE_TELEMETRY``, read when it is loaded;
  builds for Windows heed :func:`onnxruntime.disable_telemetry_events` alone.
- OpenVINO: each import, to Google Analytics, through the package ``openvino_telemetry``. It has a
  stub in the place of this package where that cannot be imported, and no variable.
- huggingface_hub and hf_xet, and transformers through them: what else is installed, which agent
  drives the program (from 2.4 it asks the hub for a list of these, ``/api/agent-harnesses``), how
  transfers went. ``HF_HUB_DISABLE_TELEMETRY``.
- Ray: its version, the cluster's size and which of its libraries run, each hour, from the machine
  that started the cluster. ``RAY_USAGE_STATS_ENABLED``, which says the opposite: 0.
- ``DO_NOT_TRACK`` (https://donottrack.sh) is what others ask, those that come later among them.

Lance, PyArrow, faiss and Pillow send nothing of this kind.
"""

from __future__ import annotations

import os
import sys
from typing import Any

SWITCHES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that are set, so that child processes inherit them."""

_BLOCKED = "openvino_telemetry"

IN_CHILDREN = f'import sys; sys.modules["{_BLOCKED}"] = None\n'
"""The first line of a program that imports OpenVINO in a process of its own, without wordsight."""


def switch_off() -> None:
    """Forbid it to this process and to those that it starts; imports nothing.

    Whatever a variable said before is lost on purpose: the other values allow sending. Libraries
    that the caller imported earlier are told in their own ways.
    """
    os.environ.update(SWITCHES)
    sys.modules.setdefault(_BLOCKED, None)  # type: ignore[arg-type]  # an import of it fails
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    if runtime := sys.modules.get("onnxruntime"):
        _quieten(runtime)


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "TRUE", "YES", "ON")


def hub_address() -> str:
    """Return the hub's address: ``HF_ENDPOINT`` (a mirror), or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT", "").strip() or "https://huggingface.co").rstrip("/")


def import_onnxruntime() -> Any:
    """ONNX Runtime, told in its own way too."""
    import onnxruntime

    _quieten(onnxruntime)
    return onnxruntime


def _quieten(onnxruntime: Any) -> None:
    if disable := getattr(onnxruntime, "disable_telemetry_events", None):
        disable()
