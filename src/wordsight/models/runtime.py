"""One function that runs an ONNX graph: on OpenVINO, or on ONNX Runtime.

Nothing here knows what a graph means; :mod:`wordsight.models.clip` and
:mod:`wordsight.models.maskrcnn` do.

Which runtime ``auto`` means, in this order:

1. the environment variable ``WORDSIGHT_RUNTIME`` (``openvino`` or ``onnxruntime``);
2. ONNX Runtime, where its build for a GPU (CUDA, DirectML) is installed;
3. ONNX Runtime, for a graph that a fresh process runs a few times (``cold``), unless bf16 is asked
   for;
4. OpenVINO, where it is installed: on CPUs with bf16 it is several times faster;
5. ONNX Runtime.

Measured on two busy cores of an AMD EPYC with avx512_bf16 (openvino 2026.4, onnxruntime 1.32).
Images/s of a ViT-B/32 image tower: ONNX Runtime fp32 3.5, OpenVINO fp32 3.9, bf16 14.5; shapes
compiled in advance for one batch size gained nothing (13.3 against 13.3), so shapes stay free. Of a
small convolutional tower (32 x 32 pixels, 1.4 million parameters): 164, 180, 372. One prompt in a
fresh process, import to vector: small text tower 0.12 s in ONNX Runtime, 0.37 s in OpenVINO from
its cache (0.50 s without); of ViT-B/32's size 0.6 s and 0.66 s (2.9 s without), and OpenVINO's
cache of it is another 250 MB on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from wordsight.errors import ModelError
from wordsight.models.onnxfile import check_file, fixed_size, output_shapes, with_free_axes
from wordsight.paths import expanded
from wordsight.privacy import IN_CHILDREN, import_onnxruntime

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

RUNTIMES = ("auto", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16", "int8")

# Graphs above this many bytes are worth a copy in the cache that opens without being read.
_LARGE = 32 << 20

# What kept copies are called by how many of their inputs' axes were left open.
_KINDS = ("", "-any-batch", "-any-length")

# A graph of a few matrix products per layer stops scaling beyond this many cores.
MAX_THREADS = 16


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
            exported for (:mod:`wordsight.models.batching`).
        any_length: leave the second dimension of the inputs open too. Nothing is tried: the graph
            may be unable to run on another length, or not open.

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
            return _open(path, name, precision, cold=cold, free_axes=axes)
        return _open_any_batch(path, name, precision, batch, cold=cold, free_axes=max(axes, 1))
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(
            f"the runtime {name} cannot be loaded ({_one_line(error)}): "
            f"pip install {name}, or choose another with --runtime"
        ) from error
    except Exception as error:  # each runtime raises kinds of its own
        raise ModelError(
            f"{path}: {name} cannot open this graph ({_one_line(error)}); "
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
) -> Graph:
    if name == "openvino":
        return _OpenVinoGraph(path, precision, free_axes=free_axes, at_once=at_once)
    return _OnnxRuntimeGraph(path, precision, cold=cold, free_axes=free_axes, at_once=at_once)


def _open_any_batch(
    path: Path, name: str, precision: str, batch: int, *, cold: bool, free_axes: int
) -> Graph:
    from wordsight.models.batching import Parts, allows_free_batch

    def allowed() -> bool:
        free = _open(path, name, "fp32", free_axes=1)
        return allows_free_batch(batch, _open(path, name, "fp32"), free)

    if remembered(path, name, "batch", allowed):
        return _open(path, name, precision, cold=cold, free_axes=free_axes)
    threads = cpu_threads()
    return Parts(_open(path, name, precision, cold=cold, at_once=threads), batch, threads)


def remembered(path: Path, runtime: str, axis: str, try_it: Callable[[], bool]) -> bool:
    """Whether an axis of a graph may be left open: tried once, then kept in the cache.

    Anything that ``try_it`` raises is a no; a bad graph fails again, in words.
    """
    folder = writable_cache(axis)
    memory = folder / f"{_fingerprint(path)}-{runtime}-{version(runtime)}" if folder else None
    if memory:
        with contextlib.suppress(OSError):
            if (known := memory.read_text(encoding="ascii")) in ("free", "fixed"):
                return known == "free"
    try:
        free = try_it()
    except Exception:  # each runtime raises kinds of its own
        free = False
    if memory:
        with contextlib.suppress(OSError):
            memory.write_text("free" if free else "fixed", encoding="ascii")
    return free


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


def cache_folder() -> Path:
    """Return wordsight's folder in the user's cache; it need not exist nor be writable.

    The environment variable ``WORDSIGHT_CACHE`` overrides it.
    """
    root = os.environ.get("WORDSIGHT_CACHE")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("wordsight", appauthor=False)
    return expanded(root)


def writable_cache(name: str) -> Path | None:
    """Return the folder ``name`` in the cache, made if need be; None if it cannot be written."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _fingerprint(path: Path) -> str:
    """Tell apart the graphs that one path may hold over time.

    OpenVINO knows its compiled models by the path alone, and would go on with the old one. Size
    and time are not enough either: installers may give all versions of a package one time.
    """
    digest = hashlib.sha256(str(path.resolve()).encode())
    beside = filter(Path.is_file, path.parent.iterdir())  # weights may be in files of their own
    for file in sorted(beside):
        state = file.stat()
        digest.update(f"\0{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    edge = 1 << 16
    with path.open("rb") as stream:
        digest.update(stream.read(edge))
        stream.seek(max(edge, path.stat().st_size - edge))
        digest.update(stream.read(edge))
    return digest.hexdigest()[:16]


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


class _OpenVinoGraph:
    runtime = "openvino"

    def __init__(self, path: Path, precision: str, *, free_axes: int = 0, at_once: int = 1) -> None:
        spared = _spare_broken_amx()
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
        }
        if precision == "fp32":
            # Else products with weights of 8 bits are computed in 8 bits: cosines down to 0.9985.
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        cache = writable_cache(f"openvino/{_fingerprint(path)}")
        if cache:
            _opened.append(cache.resolve())
        compiled = _compile(core, path, options, cache, free_axes=free_axes)
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
        with self._request() as request:
            arrays = _cast(feeds, self.inputs)
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
    core: Any, path: Path, options: dict[str, Any], cache: Path | None, *, free_axes: int
) -> Any:
    """Open the compiled graph that the cache holds, else compile it (and keep it there)."""

    def compile_with(options: dict[str, Any]) -> Any:
        if not free_axes:
            return core.compile_model(str(path), "CPU", options)
        model = core.read_model(str(path))
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
        return {blob for blob in cache.glob("*.blob") if blob.stat().st_size > _LARGE}
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


class _OnnxRuntimeGraph:
    runtime = "onnxruntime"

    def __init__(
        self,
        path: Path,
        precision: str,
        *,
        cold: bool = False,
        free_axes: int = 0,
        at_once: int = 1,
    ) -> None:
        onnxruntime = import_onnxruntime()
        if precision == "bf16":
            raise ModelError(
                "ONNX Runtime computes in fp32 here: use --runtime openvino for bf16, "
                "or --precision fp32 (or auto)"
            )
        self.path = path
        self.precision = "int8" if precision == "int8" else "fp32"
        providers = _providers(onnxruntime.get_available_providers(), precision)
        self._session: Any = None
        if precision == "int8":
            with _int8_graph(path, free_axes=free_axes) as graph:
                self._session = onnxruntime.InferenceSession(
                    str(graph), _session_options(at_once=at_once), providers=providers
                )
        elif cold and providers == ["CPUExecutionProvider"] and path.stat().st_size > _LARGE:
            # A full disk or a damaged cache must not stop anybody.
            with contextlib.suppress(Exception):
                self._session = onnxruntime.InferenceSession(
                    str(_mapped_copy(path, free_axes=free_axes)),
                    _session_options(mapped=True, at_once=at_once),
                    providers=providers,
                )
        self._session = self._session or onnxruntime.InferenceSession(
            *_model_and_options(path, _session_options(at_once=at_once), free_axes=free_axes),
            providers=providers,
        )
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4  # what fails is raised, too
        self.inputs = {t.name: _onnx_tensor(t) for t in self._session.get_inputs()}
        self.outputs = {t.name: _onnx_tensor(t) for t in self._session.get_outputs()}

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        arrays = self._session.run(None, _cast(feeds, self.inputs), self._run_options)
        return dict(zip(self.outputs, arrays, strict=True))


def _model_and_options(path: Path, options: Any, *, free_axes: int) -> tuple[Any, Any]:
    """What a session takes of a graph: its path, or its bytes with axes left open."""
    if not free_axes:
        return str(path), options
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(path.parent))
    return with_free_axes(path.read_bytes(), free_axes), options


def _session_options(*, mapped: bool = False, at_once: int = 1) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, cpu_threads() // at_once)
    options.log_severity_level = 3  # errors only: warnings about a graph help no user
    # Spinning threads take the cores that decode the next batch of images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if mapped:
        # The graph is optimised already, and packing weights anew would read and copy them all.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _mapped_copy(path: Path, *, free_axes: int = 0) -> Path:
    """The graph optimised, its weights in a file beside it that is mapped into memory, not read.

    Made once and kept in the cache: of ViT-B/32's text tower it is 250 MB, and one prompt in a
    fresh process takes 0.28 s of processor time with it against 1.1 s without.
    Raises OSError when the cache cannot be written.
    """
    onnxruntime = import_onnxruntime()

    def write(making: Path) -> None:
        options = _session_options()
        options.optimized_model_filepath = str(making / "model.onnx")
        # Not the layouts of this very processor: the cache may be shared by several machines.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        external = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{external}file_name", "weights")
        options.add_session_config_entry(f"{external}min_size_in_bytes", "1024")
        model, options = _model_and_options(path, options, free_axes=free_axes)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    return _kept_copy(f"{_fingerprint(path)}{_KINDS[free_axes]}-{onnxruntime.__version__}", write)


@contextlib.contextmanager
def _int8_graph(path: Path, *, free_axes: int = 0) -> Iterator[Path]:
    """The graph with its matrix products in int8 (dynamic quantisation), made once and kept.

    Where the cache cannot take it, it is made for this time, with a warning. Raises ModelError when
    the package ``onnx`` is missing or there is no room for that either.
    """
    try:
        import onnx
        from onnxruntime.quantization import quantize_dynamic  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"int8 needs the package onnx ({_one_line(error)}): pip install 'wordsight[int8]'"
        ) from error

    # Without 8-bit dot products (VNNI) sums of two products saturate at 16 bits: one bit less.
    narrow = not _cpu_has("avx512_vnni", "avx_vnni", "asimddp")
    kind = "int8-narrow" if narrow else "int8"  # machines of both kinds may share the cache
    kind += _KINDS[free_axes]

    def write(making: Path) -> None:
        _write_int8(path, making / "model.onnx", narrow=narrow, free_axes=free_axes)

    with contextlib.ExitStack() as opened:
        try:
            copy = _kept_copy(f"{_fingerprint(path)}-{kind}-{onnx.__version__}", write)
        except OSError as error:
            why = error.strerror or error
            try:
                making = Path(opened.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
                write(making)
            except OSError:
                raise ModelError(
                    f"the int8 form of {path} cannot be written to {cache_folder()} ({why}); make "
                    "room, or set WORDSIGHT_CACHE to another folder"
                ) from error
            warnings.warn(
                f"{cache_folder()} cannot take the int8 form of {path} ({why}): it is made anew "
                "each time",
                stacklevel=2,
            )
            copy = making / "model.onnx"
        yield copy


def _write_int8(path: Path, copy: Path, *, narrow: bool, free_axes: int) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    graph = onnx.load(path)
    if free_axes:
        del graph.graph.value_info[:]  # shapes with the old batch in them
        for value in [*graph.graph.input, *graph.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    add_pre_process_metadata(graph)  # else it warns, through the root logger
    quantize_dynamic(
        graph,
        copy,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=narrow,
        weight_type=QuantType.QInt8,
        use_external_data_format=path.stat().st_size > 1 << 30,
    )


def _cpu_has(*flags: str) -> bool:
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].split()
    except OSError:
        return False  # not Linux: the careful form runs everywhere
    return any(flag in known for flag in flags)


def _kept_copy(key: str, write: Callable[[Path], None]) -> Path:
    """A graph made of another, in the cache: ``write`` makes its files in a folder.

    Raises OSError when the cache cannot be written.
    """
    folder = cache_folder() / "onnxruntime" / key
    copy = folder / "model.onnx"
    if copy.is_file():
        return copy
    making = folder.with_name(f"{key}.{os.getpid()}-{threading.get_ident()}.new")
    making.mkdir(parents=True)
    try:
        write(making)
        with contextlib.suppress(OSError):  # another process was quicker: the same copy
            making.rename(folder)
        return copy
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _providers(available: list[str], precision: str) -> list[Any]:
    """Pick execution providers, best first; the CPU is always the last."""
    chosen: list[Any] = []
    if "CUDAExecutionProvider" in available:
        # TF32 keeps 10 bits of the mantissa, which is not what "fp32" promises.
        tf32 = "0" if precision == "fp32" else "1"
        chosen.append(("CUDAExecutionProvider", {"use_tf32": tf32}))
    if "DmlExecutionProvider" in available:
        chosen.append("DmlExecutionProvider")
    if "CoreMLExecutionProvider" in available and precision == "auto":  # it computes in fp16
        chosen.append("CoreMLExecutionProvider")
    return [*chosen, "CPUExecutionProvider"]


def _cast(feeds: Mapping[str, Array], inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    import numpy as np

    missing = inputs.keys() - feeds.keys()
    unknown = feeds.keys() - inputs.keys()
    if missing or unknown:
        raise ModelError(f"the graph takes {sorted(inputs)}, it was given {sorted(feeds)}")
    return {
        name: np.ascontiguousarray(array, dtype=inputs[name].dtype) for name, array in feeds.items()
    }


def _port_name(port: Any, told: Collection[str] = ()) -> str:
    # A port that is also an inner tensor has several names. The file tells which one is the
    # graph's own; else it is that of its node, and exporters begin inner ones with a slash.
    names, own = port.get_names(), str(port.get_node().get_friendly_name())
    if found := names & set(told):
        return str(min(found))
    if own in names or not names:
        return own
    return str(min(names, key=lambda name: (name.startswith("/"), name)))


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
def _spare_broken_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
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


def _openvino_tensor(port: Any) -> Tensor:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
    return Tensor(shape, str(port.get_element_type().to_dtype()))


_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}


def _onnx_tensor(value: Any) -> Tensor:
    shape = tuple(d if isinstance(d, int) else None for d in value.shape)
    plain = value.type.removeprefix("tensor(").removesuffix(")")  # "int64", "uint8", ...
    return Tensor(shape, _ONNX_TYPES.get(value.type, plain))


# OpenVINO puts the places in its sources before what happened.
_SOURCE_PLACES = re.compile(r"Exception from \S+:\d+:\s*|Check '.*?' failed at \S+:\d+:\s*")


def _one_line(error: BaseException) -> str:
    text = " ".join(_SOURCE_PLACES.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
