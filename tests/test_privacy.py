"""Nothing is sent anywhere: the commands, the library and the notebooks, watched by strace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from watched import Watched

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SERVED = 60.0  # seconds: makers' libraries wait some before they report


def _photos(folder: Path) -> Path:
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for name, colour in {"red": (220, 20, 20), "blue": (20, 20, 220)}.items():
        Image.new("RGB", (64, 48), colour).save(photos / f"{name}.png")
    return photos


def _command(folder: Path, *arguments: str, **environment: str) -> Watched:
    return Watched(folder, ["-m", "wordsight", *arguments], environment)


def _done(watched: Watched, says: str = "") -> None:
    status, output = watched.wait()
    assert status == 0, output
    assert says in output
    watched.assert_private()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, float]]:
    """A server that runs while the other tests do, and when it began."""
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("served")
    _photos(folder)
    _done(_command(folder, "index", "photos", "--library", "L", "--model", "starter"), "2 images")
    server = _command(folder, "serve", "--library", "L", "--port", "0")
    yield server, time.monotonic()
    server.stop(signal.SIGKILL)


@pytest.fixture(autouse=True)
def _meanwhile(served: tuple[Watched, float]) -> None:
    """Whatever test comes first starts the server."""


def test_index_search_and_classify_send_nothing(tmp_path: Path) -> None:
    _photos(tmp_path)
    places = ("--library", "L")
    crops = ("--crops", "tiles", "--plot", "crops.png")
    _done(_command(tmp_path, "index", "photos", *places, "--model", "starter", *crops), "2 images")
    _done(_command(tmp_path, "search", "red", *places, "--anyway", "--grid", "hits.png"), ".png")
    _done(_command(tmp_path, "info", *places))
    _done(_command(tmp_path, "classify", "photos", "--labels", "red,blue", "--model", "starter"))
    for runtime in ("openvino", "onnxruntime"):
        search = ("search", "photos/red.png", *places, "--runtime", runtime)
        _done(_command(tmp_path, *search), ".png")


def test_the_library_sends_nothing_whatever_was_set(tmp_path: Path) -> None:
    _photos(tmp_path)
    program = (
        "import wordsight, openvino, onnxruntime, huggingface_hub, time\n"
        "library = wordsight.create('L', 'starter'); library.index('photos')\n"
        "assert len(library.search('red', anyway=True).hits) == 2\n"
        "from huggingface_hub.utils import build_hf_headers, send_telemetry\n"
        "build_hf_headers(); send_telemetry('anything')\n"
        "time.sleep(5)\n"
    )
    allowed = {"ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "0"}
    _done(Watched(tmp_path, ["-c", program], allowed))


def test_the_child_that_tries_amx_sends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "cpuinfo").write_text("flags: amx_tile amx_bf16\n")
    program = (
        "from pathlib import Path\n"
        "from wordsight.runtime import processor\n"
        "processor.spare_broken_amx(Path('cpuinfo'))\n"
    )
    watched = Watched(tmp_path, ["-c", program])
    _done(watched)
    assert "openvino" in watched.trace.read_text()  # the child was there


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name[0])
def test_the_notebooks_begin_without_sending(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("foolbox")
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells[:2]).splitlines()
    source = "\n".join(line for line in lines if not line.startswith("%matplotlib"))
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "import sys\n"
        f"result = InteractiveShell.instance().run_cell({source!r})\n"
        "sys.exit(not result.success)\n"
    )
    # What IPython and matplotlib keep of their own is theirs, not what the notebook sends.
    own = {"IPYTHONDIR": str(tmp_path / "ipython"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    pytest.importorskip("IPython")
    _done(Watched(tmp_path, ["-c", program], own | {"HF_HUB_OFFLINE": "1"}))


def test_libraries_that_came_first_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import huggingface_hub.constants as hub, onnxruntime, sys\n"
        "told = []\n"
        "onnxruntime.disable_telemetry_events = lambda: told.append(1)\n"
        "assert not hub.HF_HUB_DISABLE_TELEMETRY\n"
        "import wordsight\n"
        "assert hub.HF_HUB_DISABLE_TELEMETRY and told\n"
    )
    keep = {k: v for k, v in os.environ.items() if k not in _switches()}
    subprocess.run([sys.executable, "-c", program], check=True, env=keep)


def test_children_inherit_it() -> None:
    program = "import wordsight, subprocess, sys; subprocess.run(['env'], check=True)"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in _switches().items()} <= set(output)


def _switches() -> dict[str, str]:
    from wordsight.privacy import SWITCHES

    return SWITCHES


def test_strace_would_see_it(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "open('/etc/resolv.conf').close()\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9))\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))\n"
        "from pathlib import Path; (Path.home() / 'id').write_text('x')\n"
    )
    watched = Watched(tmp_path, ["-c", program])
    assert watched.wait()[0] == 0
    assert {line.split("(")[0].split()[-1] for line in watched.sent()} >= {"openat", "connect"}
    assert "127.0.0.1" not in "".join(watched.sent())
    assert len(watched.written()) == 1


def test_serve_sends_nothing_in_a_minute(served: tuple[Watched, float]) -> None:
    """Last in this file: the server has run while the others did."""
    server, began = served
    time.sleep(max(0.0, began + SERVED - time.monotonic()))
    server.stop(signal.SIGINT)
    _, output = server.wait(30)
    assert "http://127.0.0.1" in output
    server.assert_private()
