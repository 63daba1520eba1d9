"""A disk without room under the caches: the work goes on, or stops with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_models import make_clip
from hub_standin import StandIn, serve

import wordsight
from wordsight.cli import main
from wordsight.errors import HubError
from wordsight.models import hub
from wordsight.models.clip.layouts import OPEN_CLIP
from wordsight.models.texts import encode_texts_cached

Mount = Callable[..., Path]


@pytest.fixture
def full(tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wordsight's cache, with room for 16 kB."""
    folder = mount(tmp_path / "full", size="16k")
    monkeypatch.setenv("WORDSIGHT_CACHE", str(folder))
    return folder


def run(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    "options", [["--runtime", "openvino"], ["--runtime", "onnxruntime"], ["--precision", "int8"]]
)
def test_compiled_graphs(
    full: Path,
    tmp_path: Path,
    photos: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    model = make_clip(tmp_path / "model", dim=64, size=32)
    command = ["index", str(photos(red=2)), "--model", str(model), *options]
    for name in ("first", "second"):  # what the first leaves there must not hurt the second
        assert run([*command, "--library", str(tmp_path / name)]) == 0
        out, err = capfd.readouterr()
        assert "2 images indexed" in out
        notes = [line for line in err.splitlines() if not line.startswith(("int8:", "Next, try:"))]
        if "int8" in options:
            assert notes
            assert all(
                "No space left on device): it will be made again each time" in x for x in notes
            )
        else:
            assert notes == []


def test_no_room_for_int8_at_all(
    full: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    photos: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(full))
    model = make_clip(tmp_path / "model", dim=64, size=32)
    command = ["index", str(photos(red=2)), "--model", str(model), "--precision", "int8"]
    assert run([*command, "--library", str(tmp_path / "library")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "(No space left on device); make room, or set WORDSIGHT_CACHE" in line


def test_text_vectors(full: Path, tmp_path: Path) -> None:
    model = wordsight.load_model(make_clip(tmp_path / "model", dim=64, size=32))
    texts = [f"a photo of {i}" for i in range(100)]
    vectors = encode_texts_cached(model, texts)
    np.testing.assert_array_equal(vectors, model.encode_texts(texts))
    assert not list(full.rglob("*.npy"))
    np.testing.assert_array_equal(encode_texts_cached(model, texts), vectors)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    rng = np.random.default_rng(0)
    return StandIn("some/model", {name: rng.bytes(100_000) for name in OPEN_CLIP})


def test_bytes_on_their_way(full: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "visual/model.onnx"
    stand_in.cut_after[name] = [50_000]
    with serve(stand_in) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        folder = hub.fetch("some/model", OPEN_CLIP)
    assert (folder / name).read_bytes() == stand_in.files[name]
    assert not [path for path in full.rglob("*") if path.is_file()]


def test_the_hubs_cache(
    tmp_path: Path, mount: Mount, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = mount(tmp_path / "hf", size="300k")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(small))
    with serve(stand_in) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        with pytest.raises(HubError, match=r"MB are free; make room, or set HF_HOME"):
            hub.fetch("some/model", OPEN_CLIP)
    assert stand_in.downloads("") == []
