"""What is judged: a library's images and vectors, and the model that reads the queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wordsight.library import Store
    from wordsight.models.clip import ClipModel


class JudgedLibrary(Protocol):
    """An open library, such as :class:`wordsight.Library`, of which two things are needed."""

    @property
    def store(self) -> Store:
        """The images and their vectors."""

    @property
    def model(self) -> ClipModel:
        """The model that embedded them."""
