"""Tables and plot of speed in docs/benchmarks.md and docs/scale.md, from what scripts measured.

``python -m benchmarks`` leaves each script's figures in ``benchmarks/results``. :func:`write` takes
the newest of each script that has a row into ``benchmarks/figures.json``, which is kept with the
project, and makes the tables from that file alone, so that they never say what was not measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
FIGURES = ROOT / "benchmarks/figures.json"

Figures = dict[str, Any]
"""By script: what its ``--json`` wrote."""


def write() -> None:
    """Keep the newest figures, and write every table from them."""
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for script in sorted({script for script, _ in _ROWS}):
        if (path := RESULTS / f"{script}.json").exists():
            figures[script] = json.loads(path.read_text(encoding="utf-8"))
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    plot_growth(figures["scale"]["rows"], ROOT / "docs/img/growth.png")
    for page in ("docs/benchmarks.md", "docs/scale.md"):
        path = ROOT / page
        path.write_text(filled(path.read_text(encoding="utf-8"), figures), encoding="utf-8")


def filled(page: str, figures: Figures) -> str:
    """A page with each block between ``<!-- figures: NAME -->`` and ``<!-- /figures -->`` anew."""

    def block(found: re.Match[str]) -> str:
        lines = "\n".join(TABLES[found[2]](figures))
        return f"{found[1]}\n{lines}\n{found[3]}"

    return re.sub(
        r"(<!-- figures: (\w+) -->)\n.*?(<!-- /figures -->)", block, page, flags=re.DOTALL
    )


def speed(figures: Figures) -> Iterator[str]:
    """The table of speed: a row for what each script found, with its command."""
    yield from ("| how fast | measured | command |", "| --- | --- | --- |")
    for script, row in _ROWS:
        if script in figures:
            what, measured = row(figures[script])
            yield f"| {what} | {measured} | `{figures[script]['command']}` |"
    yield from _machines(figures)


def growth(figures: Figures) -> Iterator[str]:
    """How the cost of a search grows."""
    columns = (
        *("views", "how", "one query, ms: p50 (p99)", "relative to the matrix product"),
        *("32 queries at once, ms", "relative to the matrix product", "recall@10"),
        *("memory", "on disk, relative to the float16 vectors"),
    )
    yield from ("| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns))
    for row in figures["scale"]["rows"]:
        for mode in ("exact", "index"):
            if found := row.get(mode):
                one, batch = found["one"]["p50"], found["batch"]["p50"]
                bare, bare32 = (found.get(key) for key in ("product", "product32"))
                disk = row["disk"]["table"] + (row["disk"]["index"] if mode == "index" else 0)
                cells = (
                    f"{row['views']:,}",
                    mode,
                    f"{_ms(one)} ({_ms(found['one']['p99'])})",
                    f"{one / bare['p50']:.1f}" if bare else "",
                    _ms(batch),
                    f"{batch / bare32['p50']:.1f}" if bare32 else "",
                    "1" if mode == "exact" else f"{row['recall']:.3f}",
                    f"{found['memory'] / 1e9:.1f} GB",
                    f"{disk / row['views'] / 1024:.2f}",
                )
                yield "| " + " | ".join(cells) + " |"
    yield ""
    grows = [
        f"views^{exponent:.2f} ({mode}, to {most:,} views)"
        for mode in ("exact", "index")
        for exponent, most in [slope(figures["scale"]["rows"], mode)]
    ]
    judged = [row for row in figures["scale"]["rows"] if "same_decision" in row]
    same = min(row["same_decision"] for row in judged)
    yield f"From 10,000 views on, time grows as {' and '.join(grows)}. Up to"
    most = judged[-1]["views"]
    yield (
        f"{most:,} views, the index decides like the exact search for at least {same:.1%} of 200 "
        "queries."
    )


def cold(figures: Figures) -> Iterator[str]:
    """A search in a fresh process, beside rclip and the project's own aim."""
    median = _medians(figures["cold_start"])
    yield from ("| views | wordsight | aim | rclip 3.3 with as many images |", "|" + " --- |" * 4)
    for row in figures["cold_start"]["rows"]:
        if found := re.fullmatch(r"search, ([\d,]+) views", row["what"]):
            peer = median.get(f"rclip, {found[1]} images")
            cells = (f"{row['median']:.2f} s", f"{row['asked']} s", f"{peer:.2f} s" if peer else "")
            yield f"| {found[1]} | " + " | ".join(cells) + " |"


def slope(rows: Sequence[dict[str, Any]], mode: str) -> tuple[float, int]:
    """The exponent of time from 10,000 views on (the slope of the logarithms), and up to where."""
    points = [(r["views"], r[mode]["one"]["p50"]) for r in rows if mode in r if r["views"] >= 1e4]
    if len(points) < 2:
        return float("nan"), points[-1][0] if points else 0
    sizes, times = np.log(np.array(points)).T
    return float(np.polyfit(sizes, times, 1)[0]), points[-1][0]


def plot_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Time and memory against the number of views, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for mode, colour in (("exact", "#1f6f8b"), ("index", "#c8553d")):
        mine = [row for row in rows if mode in row]
        sizes = [row["views"] for row in mine]
        label = "exact, vectors in memory" if mode == "exact" else "approximate index"
        time_axes.plot(
            sizes, [r[mode]["one"]["p50"] for r in mine], "o-", color=colour, label=label
        )
        memory = [max(r[mode]["memory"], 1) / 2**20 for r in mine]
        memory_axes.plot(sizes, memory, "o-", color=colour, label=label)
    for axes, title in ((time_axes, "One warm query, ms (median)"), (memory_axes, "Memory, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="views", title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


TABLES: dict[str, Callable[[Figures], Iterator[str]]] = {
    "speed": speed,
    "growth": growth,
    "cold": cold,
}


def _machines(figures: Figures) -> Iterator[str]:
    """What was measured on which machine; one row where it was one."""
    scripts: dict[str, list[str]] = {}
    for script in dict.fromkeys(script for script, _ in _ROWS if script in figures):
        scripts.setdefault(machine.line(figures[script]["machine"]), []).append(script)
    for line, names in scripts.items():
        of = f" of {', '.join(names)}" if len(scripts) > 1 else ""
        yield f"| the machine{of} | {line} | `python -m benchmarks.machine` |"


# -- a row each: what, and what was measured ----------------------------------------------------

Row = Callable[[dict[str, Any]], tuple[str, str]]


def _medians(found: dict[str, Any]) -> dict[str, float]:
    return {row["what"]: row["median"] for row in found["rows"]}


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def _joined(values: Sequence[str]) -> str:
    return " / ".join(values)


def _search(found: dict[str, Any]) -> tuple[str, str]:
    median = _medians(found)
    sizes = [w.split()[1] for w in median if w.startswith("search, ")]
    measured = _joined([f"{median[f'search, {n} views']:.2f}" for n in sizes]) + " s"
    peers = [median.get(f"rclip, {n} images") for n in sizes]
    if all(peers):
        measured += f"; rclip {_joined([f'{peer:.2f}' for peer in peers])} s"
    what = f"a search in a new process, ViT-B/32's text tower, over {_joined(sizes)} views"
    return what, measured


def _start(found: dict[str, Any]) -> tuple[str, str]:
    median = _medians(found)
    whole, bare = median["import wordsight"], median["python -c pass"]
    return (
        "`import wordsight` (beyond Python itself), `wordsight --help`",
        f"{whole - bare:.2f} s, {median['wordsight --help']:.2f} s",
    )


def _warm(mode: str) -> Row:
    def row(found: dict[str, Any]) -> tuple[str, str]:
        least = 10_000 if mode == "exact" else 1_000_000
        rows = [r for r in found["rows"] if mode in r and r["views"] >= least]
        sizes = _joined([f"{r['views']:,}" for r in rows])
        measured = _joined([_ms(r[mode]["one"]["p50"]) for r in rows]) + " ms"
        if mode == "exact":
            ratios = [f"{r[mode]['one']['p50'] / r[mode]['product']['p50']:.1f}" for r in rows]
            return (
                f"a warm search over {sizes} views, exact; relative to the bare matrix product",
                f"{measured}; {_joined(ratios)}",
            )
        recall = _joined([f"{r['recall']:.3f}" for r in rows])
        return (
            f"the same through the approximate index, over {sizes} views; recall@10",
            f"{measured}; {recall}",
        )

    return row


def _rerun(found: dict[str, Any]) -> tuple[str, str]:
    return f"indexing {found['files']:,} unchanged files again", f"{found['seconds']:.1f} s"


def _memory(found: dict[str, Any]) -> tuple[str, str]:
    rows = [row for row in found["rows"] if row["images"] > 1]
    models = list(dict.fromkeys(row["model"] for row in rows))
    crops = list(dict.fromkeys(row["crops"] for row in rows))
    peaks = []
    for model in models:
        of = [f"{row['peak_bytes'] / 1e6:,.0f}" for row in rows if row["model"] == model]
        peaks.append(f"{model} {_joined(of)}")
    size = found["megapixels"]
    offered, read = rows[0]["offered"], rows[0]["images"]
    what = f"peak memory, {offered} images of {size:g} megapixels ({read} are read), crops: "
    return what + _joined(crops), f"{'; '.join(peaks)} MB"


def _encoder(found: dict[str, Any]) -> tuple[str, str]:
    def of(name: str) -> float:
        return float(found["ratios"][f"wordsight (auto) of {name}"][0])

    products = [k.split()[-1] for k in found["ratios"] if " product " in k]
    parts = [f"{of(f'product {p}'):.2f} of the {p} product" for p in products]
    parts.append(f"{of('onnxruntime fp32'):.2f} of ONNX Runtime fp32")
    parts.append(f"int8 {1 / of('onnxruntime int8'):.2f} times as fast")
    return (
        "speed of ViT-B/32's image tower, relative to matrix products on this machine",
        "; ".join(parts),
    )


def _pipeline(found: dict[str, Any]) -> tuple[str, str]:
    what = f"speed of indexing {found['images']} CIFAR-10 images, relative to the encoder alone"
    return what, f"{found['ratio']:.2f}"


def _rclip(found: dict[str, Any]) -> tuple[str, str]:
    def one(row: dict[str, Any]) -> str:
        rate = {key: row[key]["images_per_second"] for key in ("wordsight", "int8", "rclip")}
        return (
            f"{rate['wordsight']:.1f} ({row['wordsight']['ratio']:.1f}x), int8 {rate['int8']:.1f} "
            f"({row['int8']['ratio']:.1f}x), rclip {rate['rclip']:.1f} images/s"
        )

    sets = "; ".join(f"{row['images']} {row['set']}" for row in found["rows"])
    return f"indexing with wordsight, int8 and rclip, the same graph: {sets}", "; ".join(
        map(one, found["rows"])
    )


def _serve(found: dict[str, Any]) -> tuple[str, str]:
    rows = {int(n): row for n, row in found["clients"].items()}
    most, few = rows[max(rows)], rows[min(rows)]
    memory = [mib for row in rows.values() for mib in row["resident_mib"]]
    errors = sum(sum(row["errors"].values()) for row in rows.values())
    return (
        f"the server over {found['views']:,} views: {max(rows)} clients; {min(rows)}",
        f"{most['queries_per_second']:.0f} queries/s ({most['ratio']:.2f} of batches without a "
        f"server), p50 {_ms(most['p50_ms'])} ms, p99 {_ms(most['p99_ms'])} ms; "
        f"p50 {_ms(few['p50_ms'])} ms; {errors or 'no'} errors, memory {min(memory):.0f} to "
        f"{max(memory):.0f} MiB",
    )


def _page(found: dict[str, Any]) -> tuple[str, str]:
    def each(name: str) -> str:
        return _joined([f"{row[name]['p50_ms']:.0f}" for row in found["rows"]])

    rows = found["rows"]
    sizes = _joined([f"{row['megapixels']:g}" for row in rows])
    # Browsers tell of tasks from 50 ms on.
    longest = _joined([f"{row['longest_ms']:.0f}" if row["long_tasks"] else "< 50" for row in rows])
    return (
        f"the page over {found['images']:,} images of {sizes} megapixels: from the key press to "
        "the hits, the first image, the full screen; the server's processor time; the page without "
        f"images; the longest task while {rows[-1]['hits']:,} hits scroll by",
        f"{each('answer')}, {each('first')}, {each('screen')} ms; {each('processor')} ms; "
        f"{rows[-1]['weight_kb']:.1f} kB; {longest} ms",
    )


_ROWS: list[tuple[str, Row]] = [
    ("cold_start", _search),
    ("cold_start", _start),
    ("scale", _warm("exact")),
    ("scale", _warm("index")),
    ("rerun", _rerun),
    ("memory", _memory),
    ("encoder", _encoder),
    ("pipeline", _pipeline),
    ("rclip", _rclip),
    ("serve", _serve),
    ("page", _page),
]
