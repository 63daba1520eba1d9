"""The errors a user can meet. Each message says what happened, with which file, and what to do.

The command line prints the message and exits with status 2; Python callers catch
:class:`WordsightError` or one of its kinds.
"""

from __future__ import annotations


class WordsightError(Exception):
    """Base of every error that wordsight raises on purpose."""


class ModelError(WordsightError):
    """A model is unknown, incomplete, unreadable, or has another signature than expected."""


class HubError(ModelError):
    """A model could not be fetched from the hub."""


class ImageError(WordsightError):
    """An image cannot be used: missing, unreadable, truncated, too large or not an image."""


class SourceError(WordsightError):
    """A place that images were to come from is missing, unreadable or holds none."""


class StorageError(WordsightError):
    """Object storage refuses access, cannot be reached, or has no such bucket."""


class LibraryError(WordsightError):
    """A library is missing, damaged, busy, read-only, or of a newer format."""


class LibraryChangedError(LibraryError):
    """Another process rewrote a library while it was read; reading it again helps."""


class ModelMismatchError(LibraryError):
    """A library was made with another model than the one that was given."""


class QueryError(WordsightError):
    """A query, a label set or a judgements file makes no sense as it was written."""


def one_line(error: BaseException | str) -> str:
    """What a library raised, for the middle of a message: on one line, at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def reason(error: Exception) -> str:
    """Why something failed, without number and path: for the end of a message that has them."""
    return str(getattr(error, "strerror", None) or error)
