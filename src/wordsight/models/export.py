"""The former name of :mod:`wordsight.export`, for programs that import from here."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(import_module("wordsight.export"), name)
