"""A graph in ONNX Runtime: on a GPU where its build has one, else on the processor."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError, one_line
from wordsight.privacy import import_onnxruntime
from wordsight.runtime.cache import LARGE, cache_folder, fingerprint, kept_copy
from wordsight.runtime.graph import Tensor, converted
from wordsight.runtime.onnxfile import with_free_axes
from wordsight.runtime.processor import cpu_has, cpu_threads

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


# What kept copies are called by how many of their inputs' axes were left open.
_KINDS = ("", "-any-batch", "-any-length")


class OnnxRuntimeGraph:
    """A graph that ONNX Runtime has opened: a :class:`wordsight.runtime.graph.Graph`."""

    runtime = "onnxruntime"

    def __init__(
        self,
        path: Path,
        precision: str,
        *,
        cold: bool = False,
        free_axes: int = 0,
        at_once: int = 1,
        without: Collection[str] = (),
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
        elif cold and providers == ["CPUExecutionProvider"] and path.stat().st_size > LARGE:
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
        self._run_options.only_execute_path_to_fetches = bool(without)
        outputs = {t.name: _onnx_tensor(t) for t in self._session.get_outputs()}
        self.outputs = {name: outputs[name] for name in outputs if name not in without}

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph: arrays by input name -> new arrays by output name."""
        arrays = self._session.run(
            list(self.outputs), converted(feeds, self.inputs), self._run_options
        )
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

    return kept_copy(f"{fingerprint(path)}{_KINDS[free_axes]}-{onnxruntime.__version__}", write)


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
            f"int8 needs the package onnx ({one_line(error)}): pip install 'wordsight[int8]'"
        ) from error

    # Without 8-bit dot products (VNNI) sums of two products saturate at 16 bits: one bit less.
    narrow = not cpu_has("avx512_vnni", "avx_vnni", "asimddp")
    kind = "int8-narrow" if narrow else "int8"  # machines of both kinds may share the cache
    kind += _KINDS[free_axes]

    def write(making: Path) -> None:
        _write_int8(path, making / "model.onnx", narrow=narrow, free_axes=free_axes)

    with contextlib.ExitStack() as opened:
        try:
            copy = kept_copy(f"{fingerprint(path)}-{kind}-{onnx.__version__}", write)
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
                f"{cache_folder()} cannot take the int8 form of {path} ({why}): it will be made "
                "again each time",
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
