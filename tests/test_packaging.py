"""What people install: the wheel's contents, extras, completion, the Pythons that are supported."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import wordsight
from wordsight.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/wordsight"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this folder."""
    pytest.importorskip("build", reason="pip install -r requirements-dev.txt")
    out = tmp_path_factory.mktemp("wheel")
    here = importlib.util.find_spec("hatchling") is not None
    command = [sys.executable, "-m", "build", "--wheel", *(["--no-isolation"] if here else [])]
    subprocess.run([*command, "--outdir", out], cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_is_the_package_and_its_metadata(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        f"wordsight/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".gitignore"
    }
    assert names == wanted


def test_the_wheel_has_what_runs_without_the_checkout(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    weights = "wordsight/models/weights/"
    assert {
        "wordsight/bank.txt",
        "wordsight/kinds.txt",
        "wordsight/labels/cifar10.txt",
        "wordsight/labels/imagenet.txt",
        "wordsight/models/detectors.json",
        "wordsight/py.typed",
        "wordsight/web/static/index.html",
        f"{weights}starter/visual/model.onnx",
        f"{weights}starter/textual/model.onnx",
        f"{weights}starter/textual/tokenizer.json",
        f"{weights}starter-maskrcnn/model.onnx",
        f"{weights}starter-maskrcnn/detector.json",
    } <= names
    for model in ("starter", "starter-maskrcnn"):
        assert {f"{weights}{model}/LICENSE", f"{weights}{model}/MODEL_CARD.md"} <= names


def test_the_wheel_has_all_licences_and_no_test_data(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    licences = {name.split(".dist-info/licenses/")[1] for name in names if "/licenses/" in name}
    shipped = PACKAGE.glob("models/weights/*/LICENSE")
    assert licences == {"LICENSE", *(path.relative_to(ROOT).as_posix() for path in shipped)}
    strangers = re.compile(r"test|\.(jpe?g|png|tar|npy|npz|ipynb|pt|safetensors)$|MagicMock")
    # The demo's photographs: anybody may pass them on (their README says why).
    ours = "wordsight/photographs/"
    assert [n for n in names if strangers.search(n) and not n.startswith(ours)] == []
    assert f"{ours}README.md" in names


def test_the_metadata(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Version"] == wordsight.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    required = metadata.get_all("Requires-Dist", [])
    assert all("extra == 'export'" in line for line in required if "torch" in line)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `wordsight\[(\w+)\]`", readme, re.MULTILINE))
    assert documented == set(metadata.get_all("Provides-Extra", []))


def completions(*words: str) -> set[str]:
    """What bash offers after these words, the last of them unfinished."""
    environment = {
        **os.environ,
        "_WORDSIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("wordsight", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = [Path(sys.executable).parent / "wordsight"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return set(done.stdout.split())


def test_completion_offers_verbs_options_and_values() -> None:
    assert {"search", "serve"} <= completions("se")
    assert "--library" in completions("search", "--l")
    assert completions("index", "--precision", "") == {"auto", "fp32", "bf16", "int8"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_there(shell: str) -> None:
    from typer.completion import get_completion_script

    script = get_completion_script(
        prog_name="wordsight", complete_var="_WORDSIGHT_COMPLETE", shell=shell
    )
    assert "_WORDSIGHT_COMPLETE" in script


def test_every_verb_has_an_example() -> None:
    for command in app.registered_commands:
        assert command.epilog, command.callback
        assert re.search(r"^Examples?:\n  wordsight \w+", command.epilog, re.MULTILINE)


def test_the_container_copies_what_exists_and_starts_with_options_that_exist() -> None:
    from typer.main import get_command

    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert copied
    assert [name for line in copied for name in line.split() if not (ROOT / name).exists()] == []
    verb, *options = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])
    found = get_command(app).commands[verb]  # type: ignore[attr-defined]
    known = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in options if word.startswith("--")} <= known
    assert {"--host", "--allow-index"} <= set(options)
