"""The options that several verbs share, each written once, as an annotated type."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from wordsight.errors import WordsightError


def given(option: str) -> Callable[[str | Path], str]:
    """A parser for an option's value that refuses an empty one, as a variable leaves that is unset.

    ``Path("")`` is the current folder, ``--host ""`` every address of the machine. A ``~`` that the
    shell left alone (``--grid=~/hits.png``) is the home folder here.
    """

    def parse(value: str | Path) -> str:  # a default comes as it is
        text = str(value)
        if not text.strip():
            raise WordsightError(f"{option} is empty; give it a value or omit it.")
        return os.path.expanduser(text)  # noqa: PTH111  (not of Path: it may be a URL)

    return parse


class Runtime(str, Enum):
    """What runs the models."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    """The precision models run in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


LibraryOption = Annotated[
    str | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        parser=given("--library"),
        envvar="WORDSIGHT_LIBRARY",
        help="The library's directory, or its URL in object storage (s3://, gs://, az://). "
        "Default: .wordsight here or in a folder above; `index`: in the folder that it gets.",
    ),
]


def _use_storage(settings: list[str] | None) -> list[str] | None:
    """Say it where the storage is opened, wherever in the verb that is."""
    options = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise WordsightError(f"--storage-option {key}: write it as KEY=VALUE.")
        options[key.strip().lower()] = value
    if options:
        from wordsight.storage import configure

        configure(options)
    return settings


StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        callback=_use_storage,
        help="A setting of the library's object storage, e.g. aws_endpoint_url=...; repeatable. "
        "Default: from the environment.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

RuntimeOption = Annotated[
    Runtime, typer.Option(help="Inference runtime; auto: OpenVINO on a CPU, if it is installed.")
]

PrecisionOption = Annotated[
    Precision,
    typer.Option(help="Numeric precision; auto: bf16 if the CPU supports it, else fp32."),
]


def _use_device(name: str | None) -> str | None:
    """Say it where models are loaded, wherever in the verb that is."""
    if name:
        os.environ["WORDSIGHT_DEVICE"] = name
    return name


DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="cpu|gpu|npu",
        parser=given("--device"),
        callback=_use_device,
        help="Where to encode images; gpu and npu are Intel's, with OpenVINO. Refused if the "
        "vectors differ from the CPU's. Default: cpu.",
    ),
]


RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ray://HOST:10001",
        parser=given("--ray"),
        help="Share the work with a Ray cluster (needs wordsight[ray]); auto: the cluster running "
        "on this machine, or else all its cores.",
    ),
]

# Of a new model; the model of a library is written in it, so a verb on one asks where it is now.
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        parser=given("--model"),
        help="A name of `wordsight models`, a directory, or a hub id.",
    ),
]

MovedModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=given("--model"),
        help="Where to find the library's model, if it has moved.",
    ),
]
