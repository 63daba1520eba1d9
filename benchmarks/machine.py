"""The machine and the versions that a measurement belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Widest first, as Linux names them; the first two compute in bfloat16.
_ARITHMETIC = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "sse4_2")
_PACKAGES = ("wordsight", "numpy", "openvino", "onnxruntime", "pylance", "pillow")


def describe() -> dict[str, Any]:
    """Processor, cores, memory in GiB, Python, and the versions of the packages that matter."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def line(found: dict[str, Any] | None = None) -> str:
    """The same in one line, for above a table; ``found`` is what :func:`describe` said earlier."""
    found = found or describe()
    packages = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, "
        f"Python {found['python']}, {packages}"
    )


def _processor() -> str:
    """Its name, its generation, and the widest arithmetic it has: one name is given to many."""
    try:
        rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except OSError:
        rows = []
    told = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in rows)}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    flags = told.get("flags", "").split()
    widest = next((name for name in _ARITHMETIC if name in flags), "none of them")
    return f"{told['model name']} (family {told['cpu family']}, model {told['model']}; {widest})"


if __name__ == "__main__":
    print(line())
