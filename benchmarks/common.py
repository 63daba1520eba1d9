"""What the scripts share: their arguments, their clocks, and how their figures are kept."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from wordsight.sources import Item

GIVEN = {
    "data": ("WORDSIGHT_DATA", "", "folder of the data packs"),
    "tokenizer": (
        "WORDSIGHT_TEST_MODELS",
        "tiny-clip-random/textual",
        "folder with CLIP's tokenizer.json",
    ),
    "rclip": ("WORDSIGHT_RCLIP", "", "the rclip command of an environment of its own"),
}
"""Options whose defaults are named by the environment: the variable, what is below it, the help."""


@dataclass
class Part:
    """Some of the images of an archive, as a source."""

    root: str
    chosen: list[Item]
    name: str = "part of an archive"
    problems: list[tuple[str, str]] = field(default_factory=list)

    def items(self) -> list[Item]:
        """The chosen images."""
        return self.chosen


def lines_of(name: str) -> list[str]:
    """The lines of a list in ``lists/``, without comments."""
    lines = (Path(__file__).parent / "lists" / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def parser(text: str | None, *given: str, optional: str = "") -> argparse.ArgumentParser:
    """A parser for the script of this docstring, with ``--json`` and these options of ``GIVEN``.

    They must be given, here or in the environment, but for the ``optional`` one.
    """
    made = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    for name in [*given, *filter(None, [optional])]:
        variable, below, about = GIVEN[name]
        default = Path(os.environ[variable], below) if os.environ.get(variable) else None
        made.add_argument(
            f"--{name}",
            type=Path,
            default=default,
            required=default is None and name != optional,
            help=f"{about} (default: from {variable})",
        )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return made


def finish(options: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Print the machine, and keep the figures with it and the command where ``--json`` says."""
    print(machine.line())
    if options.json:
        found = {"command": _command(), "machine": machine.describe(), **figures}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _command() -> str:
    """How this script was started, without the options that only say where files lie."""
    words = sys.argv[1:]
    for option in ("--json", "--keep", "--folder", "--data"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    return " ".join([f"python -m benchmarks.{Path(sys.argv[0]).stem}", *words])


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of a call in this process."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def timed_process(
    command: list[str], where: Path | None = None, env: Mapping[str, str] = MappingProxyType({})
) -> tuple[float, float, str]:
    """Wall and processor seconds of one process, and what it prints.

    Its modules come compiled after a first run, as those of an installed package do, whatever
    PYTHONDONTWRITEBYTECODE says.
    """
    around = {**os.environ, **env}
    around.pop("PYTHONDONTWRITEBYTECODE", None)
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=where, env=around
    )
    wall, after = time.perf_counter() - started, os.times()
    user = after.children_user - before.children_user
    return wall, user + after.children_system - before.children_system, done.stdout


@contextlib.contextmanager
def random_vit(tokenizer: Path, size: int) -> Iterator[Path]:
    """The folder of a random ViT-B/32 for pictures of ``size`` pixels, with room beside it."""
    from benchmarks import vit  # needs onnx, which environments of a cluster lack

    with tempfile.TemporaryDirectory() as temporary:
        yield vit.make_clip(Path(temporary) / "vit", tokenizer, size)


def random_pixels(count: int, size: int) -> NDArray[np.uint8]:
    """Prepared images, uint8 [count, size, size, 3]: what is in them does not matter."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
