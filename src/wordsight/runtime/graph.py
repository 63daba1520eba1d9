"""What a graph is to the rest of wordsight, and :func:`open_graph`, which chooses its runtime.

Which runtime ``auto`` means, in this order:

1. the environment variable ``WORDSIGHT_RUNTIME`` (``openvino`` or ``onnxruntime``);
2. ONNX Runtime, where its build for a GPU (CUDA, DirectML) is installed;
3. ONNX Runtime, for a graph that a fresh process runs a few times (``cold``), unless bf16 is asked
   for;
4. OpenVINO, where it is installed: on CPUs with bf16 it is several times faster;
5. ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wordsight.errors import ModelError, one_line
from wordsight.runtime.cache import remembered
from wordsight.runtime.onnxfile import check_file, fixed_size
from wordsight.runtime.processor import cpu_threads

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


RUNTIMES = ("auto", "openvino", "onnxruntime")

PRECISIONS = ("auto", "fp32", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph; ``None`` stands for a dimension that may vary."""

    shape: tuple[int | None, ...]
    dtype: str
    """numpy's name of the element type: "float32", "int64", ..."""


class Graph(Protocol):
    """A compiled graph. Calling it is thread-safe."""

    @property
    def path(self) -> Path:
        """The graph's file."""

    @property
    def runtime(self) -> str:
        """ "openvino" or "onnxruntime"."""

    @property
    def precision(self) -> str:
        """What the matrix products are computed in: "fp32" or "bf16"."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """The inputs by name."""

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        """The outputs by name."""

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph: arrays by input name -> new arrays by output name.

        Feeds are converted to the graph's element types; shapes must fit.
        """


def open_graph(
    path: str | Path,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    cold: bool = False,
    any_batch: bool = False,
    any_length: bool = False,
    without: Collection[str] = (),
) -> Graph:
    """Open an ONNX graph.

    Args:
        path: the ``.onnx`` file.
        runtime: "openvino", "onnxruntime", or "auto" (the rule in this module's docstring).
        precision: "fp32", "bf16", or "auto": bf16 on OpenVINO where the CPU multiplies bf16
            natively, else fp32. ONNX Runtime computes in fp32 here. "int8": matrix products of
            8-bit integers, weights quantised by channel, activations as they come; on ONNX Runtime.
        cold: the graph will run a few times in a fresh process, so start-up counts more than
            throughput.
        any_batch: the first dimension of the inputs may be any number, whichever one the graph was
            exported for (:mod:`wordsight.runtime.batching`).
        any_length: leave the second dimension of the inputs open too. Nothing is tried: the graph
            may be unable to run on another length, or not open.
        without: outputs that nobody wants; what they alone need is not computed.

    Raises:
        ModelError: the file is missing or not a graph, the runtime is not installed, or the
            precision is not to be had.
    """
    path = Path(path)
    check_choice(runtime, precision)
    check_file(path)
    name = choose_runtime(runtime, cold=cold and precision != "bf16")
    if precision == "int8" and runtime == "auto":
        name = "onnxruntime"
    try:
        batch = fixed_size(path) if any_batch else None
        axes = 2 if any_length and fixed_size(path, 1) is not None else 0
        if batch is None:
            return _open(path, name, precision, cold=cold, free_axes=axes, without=without)
        return _open_any_batch(path, name, precision, batch, cold=cold, free_axes=max(axes, 1))
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(
            f"the runtime {name} cannot be loaded ({one_line(error)}): "
            f"pip install {name}, or choose another with --runtime"
        ) from error
    except Exception as error:  # each runtime raises kinds of its own
        told = one_line(_SOURCE_PLACES.sub("", str(error)) or error)
        raise ModelError(
            f"{path}: {name} cannot open this graph ({told}); "
            "if the file is damaged, delete it and fetch the model again"
        ) from error


def _open(
    path: Path,
    name: str,
    precision: str,
    *,
    cold: bool = False,
    free_axes: int = 0,
    at_once: int = 1,
    without: Collection[str] = (),
) -> Graph:
    if name == "openvino":
        from wordsight.runtime.openvino import OpenVinoGraph

        return OpenVinoGraph(path, precision, free_axes=free_axes, at_once=at_once, without=without)
    from wordsight.runtime.onnxruntime import OnnxRuntimeGraph

    return OnnxRuntimeGraph(
        path, precision, cold=cold, free_axes=free_axes, at_once=at_once, without=without
    )


def _open_any_batch(
    path: Path, name: str, precision: str, batch: int, *, cold: bool, free_axes: int
) -> Graph:
    from wordsight.runtime.batching import Parts, allows_free_batch

    def allowed() -> bool:
        free = _open(path, name, "fp32", free_axes=1)
        return allows_free_batch(batch, _open(path, name, "fp32"), free)

    if remembered(path, name, "batch", allowed):
        return _open(path, name, precision, cold=cold, free_axes=free_axes)
    threads = cpu_threads()
    return Parts(_open(path, name, precision, cold=cold, at_once=threads), batch, threads)


def check_choice(runtime: str, precision: str) -> None:
    """Raise ModelError for a runtime or a precision that there is not."""
    if runtime not in RUNTIMES:
        raise ModelError(f"unknown runtime {runtime!r}: use one of {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise ModelError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}")


def choose_runtime(runtime: str = "auto", *, cold: bool = False) -> str:
    """Return "openvino" or "onnxruntime" by the rule in this module's docstring."""
    if runtime != "auto":
        return runtime
    wanted = os.environ.get("WORDSIGHT_RUNTIME", "auto").strip().lower() or "auto"
    if wanted not in RUNTIMES:
        raise ModelError(f"WORDSIGHT_RUNTIME={wanted!r}: use one of {', '.join(RUNTIMES)}")
    if wanted != "auto":
        return wanted
    if cold or _has_gpu_build() or importlib.util.find_spec("openvino") is None:
        return "onnxruntime"
    return "openvino"


def _has_gpu_build() -> bool:
    # Looked up as files: importing ONNX Runtime to ask it would cost more than a text query.
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return False
    libraries = Path(spec.origin).parent / "capi"
    names = (
        "libonnxruntime_providers_cuda.so",
        "onnxruntime_providers_cuda.dll",
        "DirectML.dll",
    )
    return any((libraries / name).exists() for name in names)


def converted(feeds: Mapping[str, Array], inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    """The feeds of a graph as its inputs want them: of their element types, contiguous.

    Raises ModelError unless the names are those of the inputs.
    """
    import numpy as np

    missing = inputs.keys() - feeds.keys()
    unknown = feeds.keys() - inputs.keys()
    if missing or unknown:
        raise ModelError(f"the graph takes {sorted(inputs)}, it was given {sorted(feeds)}")
    return {
        name: np.ascontiguousarray(array, dtype=inputs[name].dtype) for name, array in feeds.items()
    }


# OpenVINO puts the places in its sources before what happened.
_SOURCE_PLACES = re.compile(r"Exception from \S+:\d+:\s*|Check '.*?' failed at \S+:\d+:\s*")
