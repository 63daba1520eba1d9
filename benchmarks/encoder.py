"""How near the encoder comes to what the machine can compute.

    python -m benchmarks.encoder --tokenizer DIR [--size 224] [--batches 6] [--json]

A random ViT-B/32 (``benchmarks/vit.py``) runs as wordsight runs it, and in ONNX Runtime in fp32;
the ceiling is a chain of the tower's own largest matrix products, in OpenVINO at the same
precision, in the same run. DIR holds CLIP's ``tokenizer.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import wordsight
from benchmarks import machine, vit


def _best(action: Callable[[], Any], runs: int) -> float:
    action()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def product_rate(precision: str, runs: int, rows: int = 4096) -> float:
    """Operations a second of 12 products [rows, 768] x [768, 3072] x [3072, 768]."""
    import openvino as ov
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    start = x = ops.parameter([rows, 768], np.float32)
    for shape in [(768, 3072), (3072, 768)] * 12:
        weight = rng.standard_normal(shape, np.float32) * 0.02
        x = ops.matmul(x, ops.constant(weight), False, False)
    hint = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(ov.Model([x], [start]), "CPU", hint)
    value = rng.standard_normal((rows, 768), np.float32)
    return 24 * 2.0 * rows * 768 * 3072 / _best(lambda: compiled(value), runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape = (options.batch, 3, options.size, options.size)
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    flops = vit.image_flops(options.size)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = vit.make_clip(Path(folder) / "vit", options.tokenizer, options.size)
        for runtime, precision in [
            ("openvino", "auto"),
            ("openvino", "fp32"),
            ("onnxruntime", "fp32"),
        ]:
            model = wordsight.load_model(place, runtime=runtime, precision=precision)
            seconds = _best(lambda m=model: m.encode_pixels(pixels), options.batches)  # type: ignore[misc]
            rate = options.batch / seconds
            rows.append(
                {
                    "what": f"{runtime} {precision}",
                    "images_per_second": rate,
                    "flops_per_second": rate * flops,
                }
            )
    ceilings = {p: product_rate(p, options.batches) for p in ("bf16", "f32")}
    ratios = {
        "of the bf16 product rate": rows[0]["flops_per_second"] / ceilings["bf16"],
        "of ONNX Runtime fp32": rows[0]["images_per_second"] / rows[2]["images_per_second"],
    }
    if options.json:
        print(
            json.dumps(
                {"machine": machine.describe(), "rows": rows, "products": ceilings, **ratios}
            )
        )
        return
    print(machine.line())
    print(f"ViT-B/32 at {options.size} px, {flops / 1e9:.1f} GFLOP an image, batch {options.batch}")
    for row in rows:
        print(
            f"{row['what']:<18} {row['images_per_second']:7.1f} images/s  "
            f"{row['flops_per_second'] / 1e12:6.3f} TFLOP/s"
        )
    for name, value in ceilings.items():
        print(f"matrix product {name:<4} {'':14} {value / 1e12:6.3f} TFLOP/s")
    print(f"wordsight (auto) is {ratios['of the bf16 product rate']:.2f} of the bf16 product rate")
    print(f"wordsight (auto) is {ratios['of ONNX Runtime fp32']:.2f} x ONNX Runtime fp32")


if __name__ == "__main__":
    main()
