"""wordsight: find images by words, on your own machine.

>>> import wordsight
>>> library = wordsight.create("photos.lib", model="starter")   # doctest: +SKIP
>>> library.index(["photos/"])                                  # doctest: +SKIP
>>> library.search("a dog", k=10).hits[0].path                  # doctest: +SKIP
'photos/rex.jpg'

Names are imported when they are used, so that ``import wordsight`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, although little else is: importing the module of this name later would put the module
# in the place of the function.
from wordsight.classify import classify
from wordsight.privacy import switch_off

switch_off()  # now, before anything imports the libraries that it concerns

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wordsight.api import Library, create, open
    from wordsight.classify import Classification
    from wordsight.errors import WordsightError
    from wordsight.models import load_model
    from wordsight.search import Hit, Query, Result, Term, View

_HOMES = {
    "Classification": "classify",
    "Library": "api",
    "create": "api",
    "open": "api",
    "WordsightError": "errors",
    "load_model": "models",
    "Hit": "search",
    "Query": "search",
    "Result": "search",
    "Term": "search",
    "View": "search",
}

__all__ = [
    "Classification",
    "Hit",
    "Library",
    "Query",
    "Result",
    "Term",
    "View",
    "WordsightError",
    "__version__",
    "classify",
    "create",
    "load_model",
    "open",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"wordsight.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'wordsight' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
