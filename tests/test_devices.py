"""Other devices: refused with the reason where they are not there or give other vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import make_clip

from wordsight.cli import main
from wordsight.errors import ModelError
from wordsight.models import ClipModel, load_model
from wordsight.runtime import devices
from wordsight.runtime.graph import open_graph

Photos = Callable[..., Path]


class Broken:
    """A graph that does something to what another gives."""

    def __init__(self, graph: Any, harm: Callable[[Any], Any]) -> None:
        self._graph, self._harm = graph, harm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def __call__(self, feeds: Any) -> Any:
        return {name: self._harm(array) for name, array in self._graph(feeds).items()}


def _put(monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any], Any]) -> None:
    def open_on(path: Path, device: str, precision: str) -> Any:
        return Broken(open_graph(path, runtime="onnxruntime", any_batch=True), harm)

    monkeypatch.setattr("wordsight.models.clip.model.open_on", open_on)


def test_a_device_that_gives_the_same_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def noted(array: Any) -> Any:
        used.append(len(array))
        return array * np.float32(1.00001)

    _put(monkeypatch, noted)
    folder = make_clip(tmp_path / "clip")
    images = [np.full((40, 30, 3), value, np.uint8) for value in (10, 200)]
    vectors = ClipModel(folder, device="GPU").encode_images(images)
    np.testing.assert_allclose(vectors, ClipModel(folder).encode_images(images), atol=1e-2)
    assert used[:2] == [1, 8]  # the comparison: one, and several at once
    assert sum(used) == 9 + 2


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda array: array * np.nan, "not finite"),
        (lambda array: array[::-1].copy(), "cosine"),  # those of other images in the batch
        (lambda array: -array, "cosine -1.000"),
    ],
)
def test_a_device_that_gives_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any], Any], told: str
) -> None:
    _put(monkeypatch, harm)
    model = ClipModel(make_clip(tmp_path / "clip"), device="npu")
    with pytest.raises(ModelError, match=told) as refused:
        model.encode_images([np.zeros((32, 32, 3), np.uint8)])
    assert "the NPU does not give this model's vectors" in str(refused.value)
    assert "--device cpu" in str(refused.value)


def test_devices_that_are_not_there(
    tmp_path: Path, photos: Photos, capsys: pytest.CaptureFixture[str], starter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("WORDSIGHT_DEVICE", "")  # put back after the test
    pytest.importorskip("openvino")
    import openvino

    if "NPU" in openvino.Core().available_devices:
        pytest.skip("there is an NPU here")
    with pytest.raises(SystemExit) as end:
        main(["index", str(photos(red=2)), "--library", str(tmp_path / "L"), "--model", "starter",
              "--device", "npu"])  # fmt: skip
    assert end.value.code == 2
    assert "there is no NPU that OpenVINO can use here (it sees CPU" in capsys.readouterr().err
    with pytest.raises(ModelError, match="unknown device 'tpu'"):
        load_model(starter, device="tpu")


@pytest.mark.parametrize("batch", [None, 8])
def test_the_graph_of_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    """On the CPU, the one device that is here: with free shapes, and fixed ones as NPUs need."""
    pytest.importorskip("openvino")
    folder = make_clip(tmp_path / "clip")
    model = ClipModel(folder)
    opened = devices.DeviceGraph(folder / "visual/model.onnx", "cpu", "fp32", batch)
    graph = devices.Parts(opened, batch, 1) if batch else opened
    monkeypatch.setattr("wordsight.models.clip.model.open_on", lambda *_: graph)
    images = list(np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8))
    vectors = ClipModel(folder, device="gpu").encode_images(images)
    np.testing.assert_allclose(vectors, model.encode_images(images), atol=5e-2)
