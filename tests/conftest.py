"""What several tests need: shared data where it is, caches that are the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_models import make_clip
from fakes import ANCHORS, ColourModel
from hypothesis import settings
from PIL import Image

from wordsight import models
from wordsight.bank import bank_phrases, kind_texts
from wordsight.models import registry
from wordsight.models.texts import file_name

KEPT = ("batch", "length", "matplotlib", "openvino")

# A busy machine is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all tests keep together: graphs that were compiled, and what was found out of them."""
    kept = tmp_path_factory.mktemp("kept")
    for name in KEPT:
        (kept / name).mkdir()
    return kept


@pytest.fixture(scope="session")
def _starter_texts() -> list[str]:
    """The files in which the starter's vectors of the bank and of the kinds are kept."""
    model = models.load_model("starter")
    return [file_name(model.hash, texts) for texts in (bank_phrases(), kind_texts())]


@pytest.fixture(autouse=True)
def _own_folders(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    _kept: Path,
    _starter_texts: list[str],
) -> Iterator[None]:
    """No test reads or writes the user's caches, nor asks a real hub for anything."""
    home = tmp_path_factory.mktemp("home")
    (home / "cache/texts").mkdir(parents=True)
    for name in KEPT:  # under names that say which graph it is of, in which state
        (home / "cache" / name).symlink_to(_kept / name)
    for name in _starter_texts:
        if (_kept / name).exists():
            shutil.copy(_kept / name, home / "cache/texts" / name)
    monkeypatch.setenv("WORDSIGHT_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    # The hub library reads the variable once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hf/hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("WORDSIGHT_LIBRARY", raising=False)
    yield
    for name in _starter_texts:
        if (home / "cache/texts" / name).exists() and not (_kept / name).exists():
            shutil.copy(home / "cache/texts" / name, _kept / name)


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to stderr does not depend on how busy the machine is."""
    monkeypatch.setattr("wordsight.progress.FIRST_SECONDS", 600)


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not name a folder with the shared test data")
    return Path(value)


@pytest.fixture
def data() -> Path:
    """The data packs: cifar10, coco-captions, caltech101, clip-vectors."""
    return _folder("WORDSIGHT_DATA")


@pytest.fixture
def test_models() -> Path:
    """Third-party models to test loaders with."""
    return _folder("WORDSIGHT_TEST_MODELS")


@pytest.fixture
def model() -> ColourModel:
    """A stand-in encoder that knows colours."""
    return ColourModel()


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the place of the packaged one."""
    folder = make_clip(tmp_path / "starter-weights")
    monkeypatch.setattr(models, "STARTER_FOLDER", folder)
    monkeypatch.setattr(registry, "STARTER_FOLDER", folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of noisy pictures of colours: photos(red=3, blue=2) -> folder."""

    def make(folder: str = "photos", **counts: int) -> Path:
        root = tmp_path / folder
        rng = np.random.default_rng(len(folder))
        root.mkdir(exist_ok=True)
        for colour, count in counts.items():
            for i in range(count):
                pixels = np.array(ANCHORS[colour]) + rng.integers(-15, 15, (24, 32, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / f"{colour}-{i}.png")
        return root

    return make


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """Mount an empty file system over a folder: mount(folder, size="1M"). Skips if forbidden."""
    mounted: list[Path] = []

    def over(folder: Path, size: str = "50%") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if (
            not shutil.which("mount")
            or subprocess.run(command, check=False, capture_output=True).returncode
        ):
            pytest.skip("mounting is not permitted here")
        mounted.append(folder)
        return folder

    yield over
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
