"""What a library keeps of images: records without storage, and their ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model that a library was made with; its vectors compare with no other's."""

    name: str
    source: str
    hash: str
    dim: int
    preprocessing: str


@dataclass(slots=True)
class ViewRecord:
    """One thing that was embedded: a whole image (``box`` is None) or a crop of it.

    ``vector`` is float [D] of unit length; ``box`` is x0, y0, x1, y1 in pixels of the upright
    original image.
    """

    vector: NDArray[np.floating[Any]]
    kind: str = "image"
    box: tuple[float, float, float, float] | None = None
    label: str | None = None
    score: float | None = None


@dataclass(slots=True)
class ImageRecord:
    """One image and its views; ``views[0]`` is the whole image.

    ``size`` is in bytes, ``mtime_ns`` in nanoseconds, ``hash`` that of the file's bytes,
    ``crops`` names how its regions were proposed ("none" when they were not), ``metadata`` is what
    its file says of it, by the names of the table's columns, or None where that was not read.
    """

    id: str
    path: str
    root: str
    size: int
    mtime_ns: int
    hash: str
    width: int
    height: int
    label: str | None = None
    crops: str = "none"
    metadata: dict[str, Any] | None = None
    views: list[ViewRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the library knows of one image without its vectors (see :class:`ImageRecord`)."""

    id: str
    path: str
    root: str
    size: int
    mtime_ns: int
    hash: str
    crops: str
    label: str | None
    media: str | None
    """Kind of file, "photo" or "raw"; None where its metadata were not read yet."""


def id_to_int(image_id: str) -> int:
    """The 16 hex digits of an image id as the signed 64-bit number that is stored."""
    if len(image_id) != 16 or not set(image_id) <= _HEX_DIGITS:  # int() takes 0x, +, _ and more
        raise LibraryError(f"'{image_id}' is not an image id (16 hexadecimal digits).")
    value = int(image_id, 16)
    return value - (1 << 64) if value >> 63 else value


def id_from_int(value: int) -> str:
    """The inverse of :func:`id_to_int`."""
    return f"{int(value) & 0xFFFFFFFFFFFFFFFF:016x}"
