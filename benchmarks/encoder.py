"""How near the encoder comes to what the machine can compute.

    python -m benchmarks.encoder [--tokenizer DIR] [--size 224] [--batches 6]

A random ViT-B/32 (``benchmarks/vit.py``) runs as wordsight runs it, and in ONNX Runtime in fp32;
beside it, the same graph with its batch fixed at 1. The ceiling is a chain of the tower's own
largest matrix products, in OpenVINO, in fp32 and, where the processor has it, in bf16. Beside
these the starter's image tower, as wordsight runs it (from bytes), its graph in OpenVINO (from
floats), and that without the head. All of them run in turn, ``--batches`` times; ratios are those
of one turn, and their median is printed: of wall time, and of processor time, which other work on
the machine disturbs less. DIR holds CLIP's ``tokenizer.json``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks import vit
from benchmarks.common import finish, parser, random_pixels, random_vit, timed


def product(precision: str, rows: int) -> tuple[Callable[[], Any], float]:
    """A chain of 12 products [rows, 768] x [768, 3072] x [3072, 768], and its operations."""
    import openvino as ov
    from openvino import opset13 as ops

    from wordsight.runtime.processor import cpu_threads

    rng = np.random.default_rng(0)
    start = x = ops.parameter([rows, 768], np.float32)
    for shape in [(768, 3072), (3072, 768)] * 12:
        weight = rng.standard_normal(shape, np.float32) * 0.02
        x = ops.matmul(x, ops.constant(weight), False, False)
    hint = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    hint["INFERENCE_NUM_THREADS"] = str(cpu_threads())
    compiled = ov.Core().compile_model(ov.Model([x], [start]), "CPU", hint)
    value = rng.standard_normal((rows, 768), np.float32)
    return lambda: compiled(value), 24 * 2.0 * rows * 768 * 3072


def graph(folder: Path, pixels: Any, head: bool) -> Callable[[], Any]:
    """An image tower in OpenVINO by itself: all of it, or up to the features that it pools."""
    import openvino as ov

    from wordsight.runtime.processor import cpu_threads

    core = ov.Core()
    whole = core.read_model(folder / "visual" / "model.onnx")
    pooled = [op for op in whole.get_ordered_ops() if op.get_type_name() == "ReduceMean"][-1]
    part = whole if head else ov.Model([pooled.output(0)], whole.get_parameters())
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if has_bf16() else "f32"}
    hint |= {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(cpu_threads())}
    compiled = core.compile_model(part, "CPU", hint)
    return lambda: compiled(pixels)


def has_bf16() -> bool:
    """Whether OpenVINO multiplies bf16 natively here."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "tokenizer")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--batches", type=int, default=6)
    options = arguments.parse_args()
    pixels = random_pixels(options.batch, options.size)
    flops = vit.image_flops(options.size)
    tokens = options.batch * ((options.size // vit.PATCH) ** 2 + 1)
    work: dict[str, tuple[Callable[[], Any], float]] = {}
    with random_vit(options.tokenizer, options.size) as folder:
        for runtime, precision in [
            ("openvino", "auto"),
            ("openvino", "fp32"),
            ("onnxruntime", "fp32"),
            ("onnxruntime", "int8"),
        ]:
            model = wordsight.load_model(folder, runtime=runtime, precision=precision)
            run = lambda m=model: m.encode_pixels(pixels)  # noqa: E731
            work[f"{runtime} {precision}"] = (run, flops * options.batch)
        model = wordsight.load_model(vit.with_fixed_batch(folder), runtime="openvino")
        run = lambda m=model: m.encode_pixels(pixels)  # noqa: E731
        work["fixed batch"] = (run, flops * options.batch)
        for precision in ("bf16", "f32") if has_bf16() else ("f32",):
            work[f"product {precision}"] = product(precision, tokens)
        starter = wordsight.load_model("starter")
        floats = np.random.default_rng(0).standard_normal((options.batch, 3, 224, 224), np.float32)
        small = random_pixels(options.batch, 224)
        seen: dict[str, Callable[[], Any]] = {
            "starter": lambda: starter.encode_pixels(small),
            "starter's graph": graph(Path(starter.path), floats, head=True),
            "its backbone": graph(Path(starter.path), floats, head=False),
        }
        actions = {name: action for name, (action, _) in work.items()} | seen
        for action in actions.values():
            action()
        turns = [
            {name: timed(action) for name, action in actions.items()}
            for _ in range(options.batches)
        ]

    def rate(name: str, which: int) -> float:
        """Operations a second (of wall time, or of processor time)."""
        return statistics.median(work[name][1] / turn[name][which] for turn in turns)

    def ratio(a: str, b: str) -> tuple[float, float]:
        """How many times as fast a is as b: by operations, or, of two that see images, by those."""
        share = work[a][1] / work[b][1] if a in work and b in work else 1.0
        wall, processor = (
            statistics.median(share * turn[b][i] / turn[a][i] for turn in turns) for i in (0, 1)
        )
        return wall, processor

    rows = {
        name: {"flops_per_second": rate(name, 0), "flops_per_processor_second": rate(name, 1)}
        for name in work
    }
    ratios = {
        f"wordsight (auto) of {name}": ratio("openvino auto", name)
        for name in work
        if name != "openvino auto"
    }
    ratios["starter of its graph without head"] = ratio("starter", "its backbone")
    ratios["starter's graph of the same without head"] = ratio("starter's graph", "its backbone")
    ratios["starter of ViT-B/32"] = ratio("starter", "openvino auto")
    images = {
        name: options.batch / statistics.median(turn[name][0] for turn in turns) for name in seen
    }
    finish(options, {"rows": rows, "images_per_second": images, "ratios": ratios})
    print(f"ViT-B/32 at {options.size} px, {flops / 1e9:.1f} GFLOP an image, batch {options.batch}")
    for name, row in rows.items():
        done = row["flops_per_second"]
        speed = "" if name.startswith("product") else f"{done / flops:7.1f} images/s"
        print(
            f"{name:<18} {speed:>16} {done / 1e9:8.1f} GFLOP/s, "
            f"{row['flops_per_processor_second'] / 1e9:6.1f} a processor second"
        )
    for name, speed in images.items():
        print(f"{name:<18} {speed:7.1f} images/s")
    for name, (wall, processor) in ratios.items():
        print(f"{name:<40} {wall:5.2f} (of processor time {processor:.2f})")


if __name__ == "__main__":
    main()
