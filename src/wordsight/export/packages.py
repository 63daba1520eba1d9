"""The packages of the extra ``export``: imported when they are needed, their errors in one line."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from wordsight.errors import ModelError, one_line


def package(name: str) -> Any:
    """Import a package of the extra ``export``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise ModelError(
            f'export needs the package {missing}: pip install "wordsight[export]"'
        ) from error
    except Exception as error:  # torchvision beside a torch of another version, for one
        raise ModelError(
            f"the package {name} cannot be loaded ({one_line(error)}); do torch and torchvision "
            'fit together? pip install "wordsight[export]" in a new environment'
        ) from error


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn what a library raises into one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # each library raises kinds of its own
        raise ModelError(f"{what} ({one_line(error)})") from error
