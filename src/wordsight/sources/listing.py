"""What a listing leaves out, and what it counts without reading it.

Patterns are gitignore's (https://git-scm.com/docs/gitignore), by the library pathspec: of those
that match a path, the last one in the nearest place decides.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wordsight.errors import SourceError
from wordsight.images import RAW_SUFFIXES, readable_suffixes
from wordsight.sources.base import Source

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".wordsightignore"
"""Holds patterns for the folder that it lies in and everything below."""


@runtime_checkable
class Listing(Source, Protocol):
    """A source of files, which may hold more than images."""

    exclude: Sequence[str]
    """Patterns of what the next listing leaves out, relative to the source."""

    not_read: dict[str, str]
    """What the last listing found beside images: its kind (see :func:`other_kind`), by path."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns of what is left out, each set with the folder that it holds for, outermost first.

    Folders end with "/", or are "" for the place where all paths begin.
    """

    sets: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def within(self, folder: str, lines: Iterable[str]) -> Patterns:
        """These and others for a folder. Raises ValueError for what is no pattern."""
        lines = [line for line in lines if line.strip()]
        if not lines:
            return self
        from pathspec import GitIgnoreSpec

        return Patterns((*self.sets, (folder, GitIgnoreSpec.from_lines(lines))))

    def match(self, path: str) -> bool:
        """Whether a path is left out; that of a folder ends with "/"."""
        for folder, spec in reversed(self.sets):
            decision = spec.check_file(path[len(folder) :]).include
            if decision is not None:
                return decision
        return False


def excluding(patterns: Sequence[str], root: str) -> Patterns:
    """The patterns that a user gave for a source.

    Raises SourceError for what is none, and for paths from elsewhere (``./thumbs``, or with the
    ``root`` of the source), which as patterns would leave nothing out.
    """
    for pattern in patterns:
        path = pattern.removeprefix("!")
        if path.startswith(("./", "../")) or (len(root) > 1 and path.startswith(root)):
            raise SourceError(
                f"--exclude: '{pattern}' would exclude nothing; write patterns relative to "
                "the folder that you index, such as '/thumbs' or 'trips/2019/'."
            )
    try:
        return Patterns().within("", patterns)
    except ValueError as error:
        raise SourceError(
            f"--exclude: {error}; write patterns as in .gitignore, such as 'thumbs/' or '*.gif'."
        ) from None


def lines_of(data: bytes) -> list[str]:
    """The lines of an ignore file: UTF-8, or UTF-16 with its mark, as Notepad may write it."""
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig", errors="replace").splitlines()


def is_derivative(folder: str, name: str) -> bool:
    """Whether ``name`` in this folder holds what macOS Photos made of the photographs in it."""
    return folder.lower().endswith(".photoslibrary") and name.lower() in _DERIVATIVES


_DERIVATIVES = {"derivatives", "previews", "resources", "thumbnails"}


def raw_twins(paths: Iterable[str]) -> set[str]:
    """The RAW files among these paths that have a JPEG or HEIC of the same name beside them."""
    stems: dict[str, str] = {}
    finished: set[str] = set()
    for path in paths:
        stem, dot, ending = path.rpartition(".")
        suffix = (dot + ending).lower()
        if suffix in RAW_SUFFIXES:
            stems[path] = stem
        elif suffix in _FINISHED:
            finished.add(stem)
    return {path for path, stem in stems.items() if stem in finished}


_FINISHED = {".jpg", ".jpeg", ".heic", ".heif", ".hif"}  # what cameras write beside a RAW file


def other_kind(suffix: str) -> str | None:
    """What a file is, by its suffix (lower case), that people may take for an image to be read.

    One word for one of them, in capitals where it is a format; None for other files and for
    images that can be read.
    """
    return None if suffix in readable_suffixes() else _kinds().get(suffix)


@lru_cache(maxsize=1)
def _kinds() -> dict[str, str]:
    suffixes = {
        "RAW": RAW_SUFFIXES,
        "JPEG XL": {".jxl"},
        "JPEG 2000": {".jp2", ".j2k", ".jpf", ".jpx"},
        "PSD": {".psd", ".psb"},
        "SVG": {".svg", ".svgz"},
        "video": {".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
        | {
            ".264",
            ".265",
            ".flv",
            ".h264",
            ".h265",
            ".mpe",
            ".ogv",
            ".ts",
            ".vob",
            ".webm",
            ".wmv",
        },
        "tar archive": {".tar"},
        "zip archive": {".zip"},
    }
    return {suffix: kind for kind, those in suffixes.items() for suffix in those}
