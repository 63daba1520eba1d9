"""A graph in OpenVINO."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError
from wordsight.runtime.cache import LARGE, fingerprint, writable_cache
from wordsight.runtime.graph import Tensor, converted
from wordsight.runtime.onnxfile import output_shapes
from wordsight.runtime.processor import cpu_threads, spare_broken_amx

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class OpenVinoGraph:
    """A graph that OpenVINO has compiled: a :class:`wordsight.runtime.graph.Graph`."""

    runtime = "openvino"

    def __init__(
        self,
        path: Path,
        precision: str,
        *,
        free_axes: int = 0,
        at_once: int = 1,
        without: Collection[str] = (),
    ) -> None:
        spared = spare_broken_amx()
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ModelError("this CPU has no bf16: use --precision fp32 (or auto)")
        if precision == "auto":
            # With the tile registers out of use, bf16 is slower than fp32 on a CPU that has them:
            # 13 against 22 images/s of ViT-B/32 (benchmarks/encoder.py).
            precision = "bf16" if has_bf16 and not spared else "fp32"
        if precision == "int8":
            raise ModelError("int8 runs on ONNX Runtime: use --runtime onnxruntime (or auto)")
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": cpu_threads(),
            # One stream with all threads, as we feed whole batches; or as many as parts at once.
            "PERFORMANCE_HINT": "LATENCY" if at_once == 1 else "THROUGHPUT",
            "NUM_STREAMS": at_once,
            # Else every process takes the first cores: two with a thread each share one of them.
            "ENABLE_CPU_PINNING": False,
        }
        if precision == "fp32":
            # Else products with weights of 8 bits are computed in 8 bits: cosines down to 0.9985.
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        cache = writable_cache(f"openvino/{fingerprint(path)}")
        if cache:
            _opened.append(cache.resolve())
        compiled = _compile(core, path, options, cache, free_axes=free_axes, without=without)
        self.path = path
        self.precision = precision
        self.inputs = {_port_name(p): _openvino_tensor(p) for p in compiled.inputs}
        told = output_shapes(path)
        self.outputs = {_port_name(p, told): _openvino_tensor(p) for p in compiled.outputs}
        self._compiled = compiled
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._weights = cache.resolve() if cache and _large_blobs(cache) else None
        self._sizes: set[int] = set()  # of the batches that were run
        self._forget_weights()

    @contextlib.contextmanager
    def _request(self) -> Iterator[Any]:
        with self._lock:
            request = self._idle.pop() if self._idle else None
        request = request or self._compiled.create_infer_request()
        try:
            yield request
        finally:
            with self._lock:
                self._idle.append(request)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph: arrays by input name -> new arrays by output name."""
        with self._request() as request:
            arrays = converted(feeds, self.inputs)
            request.infer(arrays, share_inputs=True)
            outputs = {
                name: request.get_output_tensor(i).data.copy()
                for i, name in enumerate(self.outputs)
            }
        size = len(next(iter(arrays.values())))
        if size not in self._sizes:  # weights may have been packed anew for it
            self._sizes.add(size)
            self._forget_weights()
        return outputs

    def _forget_weights(self) -> None:
        # OpenVINO computes with copies of its own. Another graph of this file that is closed just
        # now would leave the addresses to others: where there was one, the pages stay.
        if self._weights and _opened.count(self._weights) == 1:
            _forget_pages(self._weights)


_opened: list[Path] = []
"""The folders of the cache from which this process has opened graphs, one for each time."""


def _compile(
    core: Any,
    path: Path,
    options: dict[str, Any],
    cache: Path | None,
    *,
    free_axes: int,
    without: Collection[str],
) -> Any:
    """Open the compiled graph that the cache holds, else compile it (and keep it there)."""

    def compile_with(options: dict[str, Any]) -> Any:
        if not free_axes and not without:
            return core.compile_model(str(path), "CPU", options)
        model = core.read_model(str(path))
        for port in model.outputs:
            if _port_name(port, without) in without:
                model.remove_result(port.node)
        shapes = {port: port.get_partial_shape() for port in model.inputs}
        any_size = [-1] * free_axes
        model.reshape({port: any_size + list(shape)[free_axes:] for port, shape in shapes.items()})
        return core.compile_model(model, "CPU", options)

    # A full disk or a damaged cache must not stop anybody; a bad graph fails again below.
    with contextlib.suppress(RuntimeError):
        if cache is not None:
            cached = options | {"CACHE_DIR": str(cache)}
            before = _large_blobs(cache)
            compiled = compile_with(cached)
            if _large_blobs(cache) - before:
                # What was compiled just now holds its weights twice for good. Opened from the
                # cache one of the two is mapped, and can be let go.
                del compiled
                compiled = compile_with(cached)
            return compiled
    return compile_with(options)


def _large_blobs(cache: Path) -> set[Path]:
    with contextlib.suppress(OSError):
        return {blob for blob in cache.glob("*.blob") if blob.stat().st_size > LARGE}
    return set()


def _forget_pages(folder: Path) -> None:
    """Give back the memory of files in this folder that are mapped; Linux only.

    It counts as the process's own although the files hold the same. What is touched again is read
    again, as a rule from the system's cache (madvise(2), MADV_DONTNEED).
    """
    import ctypes
    import mmap

    with contextlib.suppress(OSError, AttributeError):
        lines = os.fsdecode(Path("/proc/self/maps").read_bytes()).splitlines()
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in lines:
            place, access, _, _, _, *file = line.split(maxsplit=5)
            if access.startswith("r--") and file and Path(file[0]).parent == folder:
                start, end = (int(address, 16) for address in place.split("-"))
                madvise(start, end - start, mmap.MADV_DONTNEED)


def _port_name(port: Any, told: Collection[str] = ()) -> str:
    # A port that is also an inner tensor has several names. The file tells which one is the
    # graph's own; else it is that of its node, and exporters begin inner ones with a slash.
    names, own = port.get_names(), str(port.get_node().get_friendly_name())
    if found := names & set(told):
        return str(min(found))
    if own in names or not names:
        return own
    return str(min(names, key=lambda name: (name.startswith("/"), name)))


def _openvino_tensor(port: Any) -> Tensor:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
    return Tensor(shape, str(port.get_element_type().to_dtype()))
