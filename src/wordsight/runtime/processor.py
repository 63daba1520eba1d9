"""What the processor offers: threads, instructions, tile registers that may not work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from wordsight.errors import ModelError
from wordsight.privacy import IN_CHILDREN
from wordsight.runtime.cache import writable_cache

# A graph of a few matrix products per layer stops scaling beyond this many cores.
MAX_THREADS = 16


@lru_cache(maxsize=1)
def cpu_threads() -> int:
    """How many threads a graph may use: the cores this process may run on, at most 16.

    Counts the scheduler's affinity and a container's CPU quota, which the runtimes themselves do
    not; the environment variable ``WORDSIGHT_THREADS`` overrides it.
    """
    wanted = os.environ.get("WORDSIGHT_THREADS", "").strip()
    if wanted:
        if not wanted.isdigit() or int(wanted) < 1:
            raise ModelError(f"WORDSIGHT_THREADS={wanted!r}: give a number of threads, 1 or more")
        return int(wanted)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return min(cores, MAX_THREADS)


def cpu_has(*flags: str) -> bool:
    """Whether the processor has one of these features, by their names in ``/proc/cpuinfo``."""
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].split()
    except OSError:
        return False  # not Linux: the careful form runs everywhere
    return any(flag in known for flag in flags)


# A product of two bf16 matrices: the least that uses the tile registers (AMX).
_AMX_PROBE = (
    IN_CHILDREN
    + """
import numpy as np, openvino as ov
from openvino import opset13 as op
x = op.parameter([64, 64], np.float32)
y = op.matmul(x, op.constant(np.ones((64, 64), np.float32)), False, False)
model = ov.Core().compile_model(ov.Model([y], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
assert model(np.ones((64, 64), np.float32))[0].max() == 64
"""
)


@lru_cache(maxsize=1)
def spare_broken_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Keep oneDNN, which computes for OpenVINO, off tile registers that do not work; was it needed?

    Some virtual machines announce AMX and leave its description (CPUID leaf 1DH) empty; the first
    bf16 product then ends the process with an illegal instruction. So a process of its own tries
    one, once for each processor and version of OpenVINO. Elsewhere this costs nothing.
    """
    setting = "ONEDNN_MAX_CPU_ISA"
    try:
        cpu = cpuinfo.read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return False  # not Linux
    if "amx_tile" not in cpu:
        return False
    if setting in os.environ:
        return "AMX" not in os.environ[setting].upper()
    told = "\n".join(line for line in cpu.splitlines() if "MHz" not in line)
    key = hashlib.sha256(f"{told} {version('openvino')} {platform.release()}".encode())
    folder = writable_cache("openvino")
    memory = folder / f"amx-{key.hexdigest()[:16]}" if folder else None
    with contextlib.suppress(OSError):
        if memory and memory.read_text() == "works":
            return False
        if memory and memory.read_text() == "broken":
            os.environ[setting] = "AVX512_CORE_FP16"
            return True
    probe = subprocess.run([sys.executable, "-c", _AMX_PROBE], capture_output=True, check=False)
    if broken := probe.returncode != 0:
        os.environ[setting] = "AVX512_CORE_FP16"
    if memory:
        with contextlib.suppress(OSError):
            memory.write_text("broken" if broken else "works")
    return broken
