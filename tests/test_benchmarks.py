"""The benchmarks' own parts: tables that say what was measured, and the exact nearest in blocks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import common, machine, photographs, scale, synthetic, tables

ROOT = Path(__file__).resolve().parents[1]


def timing(p50: float) -> dict[str, float]:
    return {"p50": p50, "p99": 2 * p50}


@pytest.fixture
def figures() -> tables.Figures:
    """What the scripts write, in small and made up."""
    mode = {"one": timing(3.0), "batch": timing(40.0), "memory": 5e8}
    row = {"views": 10_000, "disk": {"table": 11e6, "index": 1e6}, "recall": 0.99}
    exact = {**mode, "product": timing(2.0), "product32": timing(20.0)}
    starts = [("python -c pass", 0.02), ("import wordsight", 0.07), ("wordsight --help", 0.15)]
    searches = [("search, 10,000 views", 0.8), ("rclip, 10,000 images", 1.2)]
    rates = {
        key: {"images_per_second": 9.0, "ratio": 1.5, "processor_ratio": 1.4}
        for key in ("wordsight", "int8", "rclip")
    }
    served = {"queries_per_second": 400.0, "ratio": 0.8, "p50_ms": 150.0, "p99_ms": 300.0}
    served |= {"errors": {}, "resident_mib": [500.0, 510.0]}
    seen = {"megapixels": 12, "weight_kb": 38.25, "hits": 900}
    seen |= {"long_tasks": 2, "longest_ms": 71.8}
    p50s = {key: {"p50_ms": 80.0} for key in ("answer", "first", "screen", "processor")}
    found: dict[str, dict[str, Any]] = {
        "cold_start": {
            "rows": [{"what": w, "median": s, "asked": 0.9} for w, s in [*starts, *searches]]
        },
        "scale": {
            "rows": [
                {**row, "exact": exact, "index": mode, "same_decision": 1.0},
                {**row, "views": 3_000_000, "index": {**mode, "one": timing(30.0)}},
            ]
        },
        "rerun": {"files": 100, "seconds": 1.0},
        "memory": {
            "megapixels": 100.0,
            "rows": [
                {"model": "starter", "crops": c, "images": n, "offered": n, "peak_bytes": 5e8}
                for c in ("none", "tiles")
                for n in (1, 20)
            ],
        },
        "encoder": {
            "ratios": {
                f"wordsight (auto) of {name}": (0.5, 0.6)
                for name in ("product f32", "onnxruntime fp32", "onnxruntime int8")
            }
        },
        "pipeline": {"images": 500, "ratio": 0.97},
        "rclip": {"rows": [{"set": "photos of 12 MP", "images": 60, **rates}]},
        "serve": {"views": 100_000, "clients": {"1": served, "64": served}},
        "page": {"images": 1000, "rows": [{**seen, **p50s}]},
    }
    return {
        name: {"command": f"python -m benchmarks.{name}", "machine": machine.describe(), **one}
        for name, one in found.items()
    }


def test_every_script_gets_its_row(figures: tables.Figures) -> None:
    lines = list(tables.speed(figures))
    assert lines[0] == "| how fast | measured | command |"
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert all(len(row) == 3 for row in cells)
    assert {row[2].split(".")[-1].strip("`") for row in cells[:-1]} == set(figures)
    text = "\n".join(lines)
    assert "over 10,000 views | 0.80 s; rclip 1.20 s |" in text
    assert "exact; relative to the bare matrix product | 3.0 ms; 1.5 |" in text
    assert "over 3,000,000 views; recall@10 | 30 ms; 0.990 |" in text
    assert (
        "20 images of 100 megapixels (20 are read), crops: none / tiles | starter 500 / 500 MB |"
        in text
    )
    assert "int8 2.00 times as fast" in text
    assert "9.0 (1.5x), int8 9.0 (1.5x), rclip 9.0 images/s" in text
    assert "while 900 hits scroll by | 80, 80, 80 ms; 80 ms; 38.2 kB; 72 ms |" in text
    assert cells[-1][:2] == ["the machine", machine.line()]


def test_figures_of_two_machines_are_told_apart(figures: tables.Figures) -> None:
    figures["rerun"]["machine"] = {**machine.describe(), "processor": "another"}
    named = [line for line in tables.speed(figures) if line.startswith("| the machine of")]
    assert len(named) == 2
    assert any(line.startswith("| the machine of rerun | another, ") for line in named)


def test_a_page_keeps_all_but_its_blocks(figures: tables.Figures) -> None:
    page = "a\n<!-- figures: cold -->\nold\n<!-- /figures -->\nb\n"
    made = tables.filled(page, figures)
    assert made.startswith("a\n<!-- figures: cold -->\n| views |")
    assert made.endswith("| 10,000 | 0.80 s | 0.9 s | 1.20 s |\n<!-- /figures -->\nb\n")
    assert tables.filled(made, figures) == made


def test_the_growth_table_names_its_slopes(figures: tables.Figures) -> None:
    lines = list(tables.growth(figures))
    assert "| 3,000,000 | index | 30 (60) |" in "\n".join(lines)
    assert any("(index, to 3,000,000 views)" in line for line in lines)


@pytest.mark.parametrize("page", ["docs/benchmarks.md", "docs/scale.md"])
def test_pages_say_what_is_recorded(page: str) -> None:
    figures = json.loads(tables.FIGURES.read_text(encoding="utf-8"))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- figures: " in text
    assert tables.filled(text, figures) == text, "python -m benchmarks --tables"
    assert not re.search(r"(?<![\w.])/(home|tmp|work|root)\b", json.dumps(figures))


def test_json_holds_command_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/rerun.py", "--json", "x.json", "--runs", "2"])
    arguments = common.parser("Title.\n\nMore.")
    arguments.add_argument("--runs", type=int)
    options = arguments.parse_args(["--json", str(tmp_path / "new" / "rerun.json")])
    common.finish(options, {"seconds": 1.5})
    found = json.loads((tmp_path / "new" / "rerun.json").read_text(encoding="utf-8"))
    assert found["command"] == "python -m benchmarks.rerun --runs 2"
    assert (found["machine"], found["seconds"]) == (machine.describe(), 1.5)
    assert capsys.readouterr().out == f"{machine.line()}\n"


def test_the_exact_nearest_in_blocks(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = synthetic.fill(tmp_path / "lib", data, 700)
    words = synthetic.Words(data)
    monkeypatch.setattr(scale, "BLOCK", 64)
    found = scale.nearest(tmp_path / "lib", words.vectors[:20])
    ids, vectors = library.vectors()
    order = np.argsort(-(words.vectors[:20] @ vectors.T), axis=1)[:, : scale.K]
    assert found == [[ids[place] for place in row] for row in order]


def test_photographs_held_out_are_none_of_the_pack_and_hold_what_their_captions_say(
    tmp_path: Path, data: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    pack = json.loads((data / "coco-captions/captions.json").read_text())
    known = pack["images"][0]["file_name"]
    said = {"new-1.jpg": "Two ladies on a sofa.", "new-2.jpg": "A bus.", known: "A kangaroo."}
    images = [
        {"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(said)
    ]
    notes = [{"image_id": i, "id": i, "caption": text} for i, text in enumerate(said.values())]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    for name in said:
        Image.new("RGB", (40, 30)).save(folder / name)
    truth = photographs.held_out(folder, data)
    assert {Path(item.path).name for item in truth.photographs.items()} == {
        "new-1.jpg",
        "new-2.jpg",
    }
    assert {name: set(files) for name, files in truth.there.items()} == {
        "person": {"new-1.jpg"},
        "couch": {"new-1.jpg"},
        "bus": {"new-2.jpg"},
    }
    assert "kangaroo" in truth.absent
    assert not truth.sized
