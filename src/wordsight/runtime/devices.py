"""OpenVINO's other devices: GPUs and NPUs of Intel, only where their vectors are the CPU's.

Drivers of such devices were seen to give NaN, and vectors of something else. So the first thing
that runs on one is a comparison with the CPU, and what fails it is refused. Text towers stay on the
CPU: a prompt takes it milliseconds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError, one_line
from wordsight.runtime.batching import Parts
from wordsight.runtime.cache import fingerprint, writable_cache
from wordsight.runtime.graph import Graph, Tensor, converted
from wordsight.runtime.openvino import _openvino_tensor, _port_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST_COSINE = 0.999
"""Between a device's vectors and the CPU's in fp32; those of bf16 and fp16 lie above."""

_NAME = re.compile(r"cpu|(gpu|npu)(\.\d+)?")
_NPU_BATCH = 8  # NPUs take shapes that are fixed


def check_name(device: str) -> str:
    """A device's name in lower case. Raises ModelError for none of "cpu", "gpu", "npu", "gpu.1"."""
    name = device.strip().lower()
    if not _NAME.fullmatch(name):
        raise ModelError(f"unknown device {device!r}: use cpu, gpu, npu, or gpu.1 for a second GPU")
    return name


class DeviceGraph:
    """A graph compiled for a device other than the CPU; one call at a time."""

    runtime = "openvino"

    def __init__(self, path: Path, device: str, precision: str, batch: int | None = None) -> None:
        """``batch``: a fixed first dimension, for devices that need one. Raises ModelError."""
        try:
            import openvino
        except ImportError:
            raise ModelError(f"--device {device} needs OpenVINO: pip install openvino") from None
        core = openvino.Core()
        name = device.upper()
        if name not in core.available_devices and f"{name}.0" not in core.available_devices:
            raise ModelError(
                f"there is no {name} that OpenVINO can use here (it sees "
                f"{', '.join(core.available_devices)}); check its driver, or use --device cpu"
            )
        options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if precision == "fp32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        if cache := writable_cache(f"openvino/{fingerprint(path)}-{name.replace('.', '-')}"):
            options["CACHE_DIR"] = str(cache)
        try:
            model = core.read_model(str(path))
            shapes = {port: list(port.get_partial_shape()) for port in model.inputs}
            model.reshape({port: [batch or -1, *shape[1:]] for port, shape in shapes.items()})
            compiled = core.compile_model(model, name, options)
        except RuntimeError as error:
            raise ModelError(
                f"{path}: the {name} cannot run this graph ({one_line(error)}); use --device cpu"
            ) from None
        self.path = path
        self.precision = precision
        self.inputs: Mapping[str, Tensor] = {
            _port_name(p): _openvino_tensor(p) for p in compiled.inputs
        }
        self.outputs: Mapping[str, Tensor] = {
            _port_name(p): _openvino_tensor(p) for p in compiled.outputs
        }
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph: arrays by input name -> new arrays by output name."""
        with self._lock:
            self._request.infer(converted(feeds, self.inputs))
            return {
                name: self._request.get_output_tensor(i).data.copy()
                for i, name in enumerate(self.outputs)
            }


def open_on(path: Path, device: str, precision: str) -> Graph:
    """Open an image tower on a device ("gpu", "npu", "gpu.1"). Raises ModelError."""
    if device.startswith("npu"):
        return Parts(DeviceGraph(path, device, precision, _NPU_BATCH), _NPU_BATCH, 1)
    return DeviceGraph(path, device, precision)


def check_vectors(
    device: str,
    there: Callable[[list[npt.NDArray[np.uint8]]], npt.NDArray[np.float32]],
    here: Callable[[list[npt.NDArray[np.uint8]]], npt.NDArray[np.float32]],
    size: tuple[int, int],
) -> float:
    """Refuse a device whose vectors of probe images are not the CPU's; the least cosine.

    ``there`` and ``here`` encode prepared images (uint8 [H, W, 3]) on the device and on the CPU;
    the probes are noise in blocks, in batches of one and of several. Raises ModelError.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    height, width = (-(-side // 8) for side in size)
    probes = [np.kron(one, np.ones((height, width, 1), np.uint8)) for one in blocks]
    probes = [one[: size[0], : size[1]] for one in probes]
    why = ""
    least = -1.0
    try:
        found = np.concatenate([there(probes[:1]), there(probes[1:])])
        least = float((found * here(probes)).sum(axis=1).min())
    except ModelError as error:
        why = str(error).partition("; ")[0]
    if not least >= LEAST_COSINE:
        raise ModelError(
            f"the {device.upper()} does not give this model's vectors "
            f"({why or f'cosine {least:.3f} to those of the CPU'}); use --device cpu, or try "
            "another driver or --precision fp32"
        )
    return least
