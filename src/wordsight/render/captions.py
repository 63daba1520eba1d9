"""What pictures of results call their images and queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wordsight.video import split_frame

_IMAGE_TERM = re.compile(r'@"([^"]*)"')


def _file_name(term: re.Match[str]) -> str:
    return Path(term[1]).name


def _file_named(path: str) -> str:
    """What a picture calls an image: the name of its file, of a frame the time first (m:ss).

    Long names are cut at their end.
    """
    frame = split_frame(path)
    if frame:
        minutes, seconds = divmod(int(frame[1]), 60)
        return f"{minutes}:{seconds:02}, {Path(frame[0]).name}"
    return Path(path.rsplit("::", maxsplit=1)[-1]).name


def names(paths: Sequence[str]) -> list[str]:
    """What a picture calls these images; with the folder where the name alone would not do."""
    short = [_file_named(path) for path in paths]
    return [
        f"{_folder(path)}/{name}" if short.count(name) > 1 else name
        for path, name in zip(paths, short, strict=True)
    ]


def _folder(path: str) -> str:
    """The name of the folder that an image lies in, or of the archive, or of its video's folder."""
    file, _ = split_frame(path) or (path.replace("::", "/"), 0)
    return Path(file).parent.name


def title(query: str) -> str:
    """A query as the heading of a picture; of image files only the names."""
    if image := _IMAGE_TERM.fullmatch(query):
        name = _file_name(image)
        return f"More like {'this image' if name == 'image' else name}"  # pixels have no name
    return f"\u201c{words(query)}\u201d"


def words(query: str) -> str:
    """A query as people read it: of image files only the names."""
    return _IMAGE_TERM.sub(_file_name, query)
