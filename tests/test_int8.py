"""Image towers in 8-bit integers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.errors import ModelError
from wordsight.indexing import check_int8
from wordsight.runtime import onnxruntime
from wordsight.sources import open_source


@pytest.fixture
def tiny(test_models: Path) -> Path:
    return test_models / "tiny-clip-random"


@pytest.fixture
def coco(data: Path) -> Path:
    return data / "coco-captions/images.tar"


def test_vectors_are_near_those_of_fp32(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    golden = np.load(tiny / "golden/image_vectors.npy")
    files = sorted((tiny / "golden/images").iterdir())
    model = wordsight.load_model(tiny, precision="int8")
    plain = wordsight.load_model(tiny, precision="fp32")
    images = [Image.open(file) for file in files]
    ours, theirs = model.encode_images(images), plain.encode_images(images)
    assert len(ours) == len(golden)
    assert (ours * theirs).sum(axis=1).min() > 0.99
    assert np.abs(ours - theirs).max() > 1e-6  # it is another computation
    texts = ["a dog", "a red car at night"]
    np.testing.assert_array_equal(model.encode_texts(texts), plain.encode_texts(texts))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_the_check_compares_with_fp32(tiny: Path, coco: Path) -> None:
    model = wordsight.load_model(tiny, precision="int8")
    sources = [open_source(coco)]
    check = check_int8(model, sources, images=40, least=0.0)
    assert check.images == 40
    assert 0.99 < check.cosine < 1
    assert 0 < check.recall < 1
    with pytest.raises(ModelError, match="int8 changes the results of tiny-clip-random: only"):
        check_int8(model, sources, images=40, least=check.recall + 0.001)
    same = check_int8(wordsight.load_model(tiny, precision="fp32"), sources, images=20)
    assert same.recall == 1
    assert same.cosine == pytest.approx(1, abs=1e-5)


def test_machines_that_share_a_cache_keep_a_form_each(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path))
    path = tiny / "visual/model.onnx"
    kept = {}
    for has in (True, False):
        monkeypatch.setattr(onnxruntime, "cpu_has", lambda *_, has=has: has)
        with onnxruntime._int8_graph(path) as kept[has]:
            pass
    assert kept[True] != kept[False]
    # Without 8-bit dot products sums of two products saturate: weights of 7 bits.
    assert {has: greatest(copy) for has, copy in kept.items()} == {True: 127, False: 64}


def greatest(graph: Path) -> int:
    onnx = pytest.importorskip("onnx")
    weights = onnx.load(graph).graph.initializer
    arrays = [onnx.numpy_helper.to_array(one) for one in weights]
    return max(int(np.abs(a.astype(int)).max()) for a in arrays if a.dtype == np.int8 and a.ndim)


def test_one_image_needs_no_check(tiny: Path, photos: Callable[..., Path]) -> None:
    model = wordsight.load_model(tiny, precision="int8")
    assert check_int8(model, [open_source(photos(red=1))]).recall == 1


def test_what_int8_needs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black = [Image.new("RGB", (8, 8))]
    with pytest.raises(ModelError, match="int8 runs on ONNX Runtime"):
        wordsight.load_model(tiny, runtime="openvino", precision="int8").encode_images(black)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'wordsight\[int8\]'"):
        wordsight.load_model(tiny, precision="int8").encode_images(black)


def test_the_command_line_says_what_int8_changes(
    tiny: Path, coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from wordsight.cli import main

    command = ["index", str(coco), "--library", str(tmp_path / "lib"), "--precision", "int8"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--model", str(tiny)])
    out, err = capfd.readouterr()
    assert stop.value.code == 0
    assert re.search(r"int8: \d+% of the ten nearest images are the same as with fp32", err)
    assert "411 images indexed" in out


def test_a_refused_int8_leaves_no_library(
    tiny: Path,
    coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from wordsight import indexing
    from wordsight.cli import main

    def refuse(*_: object) -> None:
        raise ModelError("int8 changes what tiny finds")

    monkeypatch.setattr(indexing, "check_int8", refuse)
    library = tmp_path / "lib"
    words = ["--library", str(library), "--model", str(tiny), "--precision", "int8"]
    with pytest.raises(SystemExit) as stop:
        main(["index", str(coco), *words])
    assert stop.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1].endswith("int8 changes what tiny finds")
    assert not library.exists()
