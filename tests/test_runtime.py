"""Graphs on either runtime: the rule of auto, caches, memory, processors."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import make_clip

from wordsight.errors import ModelError
from wordsight.models.clip import ClipModel
from wordsight.runtime import graph, onnxruntime, openvino, processor
from wordsight.runtime.graph import Tensor, choose_runtime, open_graph

RUNTIMES = ["openvino", "onnxruntime"]


def test_the_rule_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORDSIGHT_RUNTIME", raising=False)
    monkeypatch.setattr(graph, "_has_gpu_build", lambda: False)
    assert choose_runtime() == "openvino"
    assert choose_runtime(cold=True) == "onnxruntime"
    assert choose_runtime("openvino", cold=True) == "openvino"
    monkeypatch.setenv("WORDSIGHT_RUNTIME", "onnxruntime")
    assert choose_runtime() == "onnxruntime"
    assert choose_runtime("openvino") == "openvino"
    monkeypatch.setenv("WORDSIGHT_RUNTIME", "abacus")
    with pytest.raises(ModelError, match="WORDSIGHT_RUNTIME='abacus'"):
        choose_runtime()
    monkeypatch.delenv("WORDSIGHT_RUNTIME")
    monkeypatch.setattr(graph, "_has_gpu_build", lambda: True)
    assert choose_runtime() == "onnxruntime"


@pytest.mark.parametrize("name", RUNTIMES)
def test_files_that_are_no_graphs(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="cannot be read"):
        open_graph(path, runtime=name)
    for content in (b"", b"version https://git-lfs.github.com/spec/v1", b"<html>"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="this is not a complete ONNX graph"):
            open_graph(path, runtime=name)
    whole = (make_clip(tmp_path / "m") / "visual/model.onnx").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], whole + b"?"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="this is not a complete ONNX graph"):
            open_graph(path, runtime=name)
    path.write_bytes(whole.replace(b"MatMul", b"MadMul"))
    with pytest.raises(ModelError, match=f"{name} cannot open this graph"):
        open_graph(path, runtime=name)
    assert capfd.readouterr() == ("", "")  # the runtimes write nothing of their own


def test_unknown_choices(tmp_path: Path) -> None:
    graph = make_clip(tmp_path / "m") / "visual/model.onnx"
    with pytest.raises(ModelError, match="unknown precision 'FP32': use one of auto"):
        ClipModel(tmp_path / "m", precision="FP32")
    with pytest.raises(ModelError, match="unknown runtime 'abacus'"):
        open_graph(graph, runtime="abacus")
    with pytest.raises(ModelError, match="unknown precision 'fp8'"):
        open_graph(graph, precision="fp8")
    with pytest.raises(ModelError, match="use --runtime openvino for bf16"):
        open_graph(graph, runtime="onnxruntime", precision="bf16")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_graph_tells_its_inputs_and_outputs(tmp_path: Path, name: str) -> None:
    graph = open_graph(make_clip(tmp_path / "m") / "textual/model.onnx", runtime=name)
    assert graph.runtime == name
    assert graph.inputs == {"text": Tensor((None, 8), "int32")}
    assert graph.outputs == {"embedding": Tensor((None, 8), "float32")}
    first = graph({"text": np.ones((2, 8), np.int64)})["embedding"]
    kept = first.copy()
    graph({"text": np.zeros((2, 8), np.int64)})
    assert np.array_equal(first, kept)  # results are not overwritten by later calls
    with pytest.raises(ModelError, match=r"takes \['text'\], it was given \['words'\]"):
        graph({"words": np.ones((2, 8))})


def test_a_replaced_graph_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    first, second = (make_clip(tmp_path / n, dim=d) for n, d in (("m", 8), ("other", 8)))
    path = first / "visual/model.onnx"
    pixels = {"image": np.ones((1, 3, 16, 16), np.float32)}
    before = open_graph(path, runtime="openvino", precision="fp32")(pixels)["embedding"]
    state = path.stat()
    changed = bytearray((second / "visual/model.onnx").read_bytes())
    place = changed.index(np.random.default_rng(0).standard_normal(8).astype(np.float32).tobytes())
    changed[place : place + 32] = np.full(8, 100, np.float32).tobytes()
    path.write_bytes(changed)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = open_graph(path, runtime="openvino", precision="fp32")(pixels)["embedding"]
    assert np.abs(after - before).min() > 90


@pytest.mark.parametrize("state", ["fresh", "read-only", "in the way"])
def test_any_state_of_the_compiled_model_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    cache = tmp_path / "cache"
    if state == "read-only":
        cache.mkdir()
        cache.chmod(0o555)
        monkeypatch.setattr(os, "access", lambda *args: False)  # the superuser may anything
    elif state == "in the way":
        cache.write_text("a file")
    monkeypatch.setenv("WORDSIGHT_CACHE", str(cache))
    folder = make_clip(tmp_path / "m")
    before = sorted(folder.rglob("*"))
    model = ClipModel(folder, runtime="openvino", precision="fp32")
    assert model.encode_texts(["a dog"]).shape == (1, 8)
    assert sorted(folder.rglob("*")) == before  # nothing is written beside the model
    if state == "fresh":
        assert list((cache / "openvino").rglob("*.blob"))


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_damaged_compiled_model_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "cache"))
    path = make_clip(tmp_path / "m") / "visual/model.onnx"
    pixels = {"image": np.ones((1, 3, 16, 16), np.float32)}
    wanted = open_graph(path, runtime="openvino")(pixels)["embedding"]
    (blob,) = tmp_path.rglob("*.blob")
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-100] if damage is None else damage)
    found = open_graph(path, runtime="openvino")(pixels)["embedding"]
    assert np.array_equal(found, wanted)


def test_a_cold_search_maps_the_weights_and_finds_the_same(
    test_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path))
    folder = test_models / "tiny-clip-random"

    def found() -> Any:
        return ClipModel(folder, runtime="onnxruntime").encode_texts(["a dog", "a red car"])

    wanted = found()
    assert not list(tmp_path.rglob("weights"))
    monkeypatch.setattr(onnxruntime, "LARGE", 0)
    for _ in range(2):
        np.testing.assert_array_equal(found(), wanted)
        (weights,) = tmp_path.rglob("weights")
        weights.write_bytes(weights.read_bytes()[:100])  # cut: then without it


def test_weights_that_are_let_go_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "cache"))
    path = make_clip(tmp_path / "m") / "visual/model.onnx"
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((n, 3, 16, 16), np.float32) for n in (2, 1, 5, 2)]
    plain = open_graph(path, runtime="openvino", precision="fp32")
    wanted = [plain({"image": batch})["embedding"] for batch in batches]
    for blob in tmp_path.rglob("*.blob"):
        blob.unlink()
    monkeypatch.setattr(openvino, "LARGE", 0)
    monkeypatch.setattr(openvino, "_opened", [])
    let_go: list[Path] = []
    forget = openvino._forget_pages

    def noted(folder: Path) -> None:
        let_go.append(folder)
        forget(folder)

    monkeypatch.setattr(openvino, "_forget_pages", noted)
    for times in (4, 0):  # from a new cache; and again, beside the first
        graph = open_graph(path, runtime="openvino", precision="fp32")
        found = [graph({"image": batch})["embedding"] for batch in batches]
        assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
        assert len(let_go) == times  # when opened, and once for each size
        let_go.clear()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_pages_of_mapped_files_are_given_back(tmp_path: Path) -> None:
    def resident() -> int:
        maps = Path("/proc/self/smaps").read_text(encoding="utf-8")
        return int(maps.split(str(tmp_path / "in"), 1)[1].split("Rss:", 1)[1].split()[0])

    content = os.urandom(1 << 20)
    (tmp_path / "in").mkdir()
    file = tmp_path / "in/weights file"
    file.write_bytes(content)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content
        assert resident() == 1 << 10
        openvino._forget_pages(tmp_path)
        assert resident() == 1 << 10  # only of files in the folder itself
        openvino._forget_pages(tmp_path / "in")
        assert resident() == 0
        assert mapped[:] == content


@pytest.mark.parametrize(("flags", "status", "probes"), [
    ("avx512_bf16", -4, 0), ("amx_tile amx_bf16", 0, 1), ("amx_tile amx_bf16", -4, 1),
])  # fmt: skip
def test_tile_registers_that_do_not_work_are_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, status: int, probes: int
) -> None:
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "cache"))
    # Set and deleted, so that what the function sets is undone at the end.
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : {flags}\ncpu MHz : 1\n\nflags : {flags}\n", encoding="utf-8")
    runs: list[int] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        runs.append(1)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):  # the second time, the first answer is remembered
        os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
        told = processor.spare_broken_amx.__wrapped__(cpuinfo)
        spared = os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX512_CORE_FP16"
        assert told == spared == (probes > 0 and status != 0)
    assert len(runs) == probes


def test_the_probe_of_the_tile_registers_runs_where_they_are_capped() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}
    subprocess.run([sys.executable, "-c", processor._AMX_PROBE], check=True, env=environment)


def test_threads_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    processor.cpu_threads.cache_clear()
    monkeypatch.setenv("WORDSIGHT_THREADS", "3")
    assert processor.cpu_threads() == 3
    processor.cpu_threads.cache_clear()
    monkeypatch.setenv("WORDSIGHT_THREADS", "lots")
    with pytest.raises(ModelError, match="WORDSIGHT_THREADS='lots'"):
        processor.cpu_threads()
    monkeypatch.delenv("WORDSIGHT_THREADS")
    assert 1 <= processor.cpu_threads() <= processor.MAX_THREADS
    processor.cpu_threads.cache_clear()
