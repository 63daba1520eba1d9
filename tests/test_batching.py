"""Graphs that were exported for one batch size: any number of rows goes through them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from wordsight.errors import ModelError
from wordsight.runtime import batching
from wordsight.runtime.graph import open_graph
from wordsight.runtime.onnxfile import fixed_size, with_free_axes

WIDTH, OUT = 12, 5
RUNTIMES = [
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("openvino") is None, reason="no OpenVINO"
        ),
    ),
    "onnxruntime",
]


def write_graph(
    path: Path, *, batch: int | str = 1, baked: bool = False, mixed: bool = False
) -> Path:
    """``y = gelu(x reshaped) @ w``; the Reshape in the middle may have the batch written into it.

    ``mixed``: each row also gets the mean over all rows, so that an open batch changes the vectors.
    """
    rng = np.random.default_rng(0)
    count = 1 if isinstance(batch, str) else batch
    shape = [count, 3, WIDTH // 3] if baked else [-1, 3, WIDTH // 3]
    weights = [
        numpy_helper.from_array(np.array(shape, np.int64), "three"),
        numpy_helper.from_array(np.array([0, WIDTH], np.int64), "flat"),
        numpy_helper.from_array(rng.standard_normal((WIDTH, OUT)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "three"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "flat"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["d" if mixed else "y"]),
    ]
    if mixed:
        nodes.append(helper.make_node("ReduceMean", ["d"], ["m"], axes=[0], keepdims=1))
        nodes.append(helper.make_node("Add", ["d", "m"], ["y"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [batch, WIDTH])],
        [value("y", TensorProto.FLOAT, [batch, OUT])],
        weights,
        value_info=[value("a", TensorProto.FLOAT, [batch, 3, WIDTH // 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((7, WIDTH)).astype(np.float32)


def one_by_one(path: Path, rows: np.ndarray, batch: int, runtime: str) -> np.ndarray:
    graph = open_graph(path, runtime=runtime, precision="fp32")
    assert graph.inputs["x"].shape == (batch, WIDTH)
    found = []
    for row in rows:
        found.append(graph({"x": np.repeat(row[None], batch, axis=0)})["y"][0])
    return np.stack(found)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("baked", [False, True])
def test_any_number_of_rows(
    tmp_path: Path, rows: np.ndarray, runtime: str, batch: int, baked: bool
) -> None:
    path = write_graph(tmp_path / "model.onnx", batch=batch, baked=baked)
    expected = one_by_one(path, rows, batch, runtime)
    for _ in range(2):  # the second time by what the cache says
        graph = open_graph(path, runtime=runtime, precision="fp32", any_batch=True)
        assert graph.inputs["x"].shape == (None, WIDTH)
        assert graph.outputs["y"].shape == (None, OUT)
        assert graph.runtime == runtime
        assert isinstance(graph, batching.Parts) == baked  # parts are for what cannot be opened
        for count in (1, 2, 3, 7):
            found = graph({"x": rows[:count]})["y"]
            np.testing.assert_allclose(found, expected[:count], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_whose_rows_depend_on_each_other_keeps_its_batch(
    tmp_path: Path, rows: np.ndarray, runtime: str
) -> None:
    path = write_graph(tmp_path / "model.onnx", mixed=True)
    graph = open_graph(path, runtime=runtime, precision="fp32", any_batch=True)
    assert isinstance(graph, batching.Parts)
    np.testing.assert_allclose(
        graph({"x": rows})["y"], one_by_one(path, rows, 1, runtime), rtol=1e-5, atol=1e-6
    )


def test_an_open_batch_is_tried_once(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_graph(tmp_path / "model.onnx")
    open_graph(path, runtime="onnxruntime", any_batch=True)
    monkeypatch.setattr(batching, "_same_rows", lambda *_: pytest.fail("tried again"))
    assert len(open_graph(path, runtime="onnxruntime", any_batch=True)({"x": rows})["y"]) == 7


def test_a_damaged_graph_of_fixed_size_says_so(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    model.graph.node[1].op_type = "NoSuchThing"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="cannot open this graph"):
        open_graph(path, runtime="onnxruntime", any_batch=True)


def test_an_open_batch_in_int8(tmp_path: Path, rows: np.ndarray) -> None:
    path = write_graph(tmp_path / "model.onnx")
    graph = open_graph(path, precision="int8", any_batch=True)
    exact = open_graph(path, precision="fp32", runtime="onnxruntime", any_batch=True)
    assert not isinstance(graph, batching.Parts)
    np.testing.assert_allclose(graph({"x": rows})["y"], exact({"x": rows})["y"], atol=0.1)


def test_the_batch_of_a_file(tmp_path: Path) -> None:
    assert fixed_size(write_graph(tmp_path / "a.onnx", batch=3)) == 3
    assert fixed_size(write_graph(tmp_path / "b.onnx", batch="n")) is None
    (tmp_path / "c.onnx").write_bytes(b"\x3a\x05ab")
    assert fixed_size(tmp_path / "c.onnx") is None
    assert fixed_size(tmp_path / "none.onnx") is None


def test_an_opened_graph_is_whole_and_valid(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "model.onnx", batch=3)
    before = onnx.load(str(path))
    after = onnx.load_from_string(with_free_axes(path.read_bytes(), 1))
    onnx.checker.check_model(after)
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert after.graph.input[0].type.tensor_type.shape.dim[1].dim_value == WIDTH
    assert after.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert list(after.graph.node) == list(before.graph.node)
    assert list(after.graph.initializer) == list(before.graph.initializer)
    assert after.opset_import == before.opset_import
