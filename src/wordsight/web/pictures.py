"""Pictures of the library, as browsers show and save them; what a photograph says of itself."""

from __future__ import annotations

import contextlib
import io
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError
from wordsight.video import split_frame
from wordsight.web.guard import Problem

if TYPE_CHECKING:
    from PIL.Image import Image

    from wordsight.library import ImageRecord

SMALL, LARGE, WHOLE = 320, 1600, 8000
"""Longest sides, in pixels, of thumbnails, of pictures that fill a screen, and to zoom into."""
UPLOAD_SIDE = 2048
"""The short side, in pixels, at which a large upload is decoded: any encoder sees less of it."""
KEPT_SIDE = 1024
"""The longest side, in pixels, at which an upload is kept to be searched with again."""
LARGE_UPLOAD = 200 << 20  # bytes of decoding: such uploads go one after the other
_TAKEN = {
    0x010F: "make", 0x0110: "camera", 0x9003: "taken", 0xA434: "lens",
    0x829A: "exposure", 0x829D: "aperture", 0x8827: "iso", 0x920A: "focal length",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """The file of an image, and its state when it was indexed."""

    path: str
    hash: str
    mtime_ns: int

    @property
    def name(self) -> str:
        """The name under which it is saved; a frame of a video has its second in it."""
        frame = split_frame(self.path)
        if frame is not None:
            return f"{PurePath(frame[0]).stem} {frame[1]:.3f} s.jpg"
        return PurePath(self.path.rpartition("::")[2]).name


def jpeg(file: File, side: int, known: str | None = None) -> tuple[bytes | None, str]:
    """An image of the library as a JPEG of at most ``side`` pixels, and its ETag.

    None where the client has the one with the ETag ``known``.
    """
    etag = f'"{file.hash}-{file.mtime_ns}-{side}"'
    if known == etag:
        return None, etag
    small = opened(file.path, side)
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue(), etag


def opened(path: str, side: int | None) -> Image:
    """An image of the library, large enough for ``side``. Raises Problem 410 when it is gone."""
    from wordsight.images import open_image

    try:
        return open_image(original(path), min_side=side, name=path)
    except ImageError as error:
        raise Problem(410, f"the image is missing or unreadable ({error})") from None


def original(path: str) -> bytes:
    """The bytes of an image's file. Raises Problem 410 when it is gone."""
    from wordsight.sources import read_location

    try:
        return read_location(path)
    except (ImageError, OSError) as error:
        raise Problem(410, f"the image is missing or unreadable ({error})") from None


def zipped(files: Iterable[File]) -> Iterator[bytes]:
    """The files of images as a zip archive, part by part: one image in memory at a time.

    Names that repeat get a number; files that are gone are listed in "not included.txt".
    """
    out, taken, missing = _Drain(), set[str](), []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            try:
                data = original(file.path)
            except Problem as problem:
                missing.append(f"{file.path}: {problem.detail}\n")
                continue
            whole = name = file.name
            stem, suffix = PurePath(whole).stem, PurePath(whole).suffix
            number = 1
            while name in taken:
                number += 1
                name = f"{stem} ({number}){suffix}"
            taken.add(name)
            archive.writestr(name, data)
            yield out.take()
        if missing:
            archive.writestr("not included.txt", "".join(missing))
    yield out.take()


class _Drain(io.RawIOBase):
    """A file whose bytes are taken from it as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def decode(data: bytes) -> Image:
    """An uploaded image. Raises ImageError when it is none."""
    from wordsight.images import open_image

    with contextlib.ExitStack() as held:

        def reserve(count: int) -> None:
            if count > LARGE_UPLOAD:
                held.enter_context(_LARGE_UPLOADS)

        return open_image(data, min_side=UPLOAD_SIDE, name="the uploaded image", reserve=reserve)


_LARGE_UPLOADS = threading.Lock()


def kept(image: Image) -> tuple[bytes, tuple[int, int]]:
    """An upload as it is kept: a JPEG without metadata, and its size."""
    small = image.copy()
    small.thumbnail((KEPT_SIDE, KEPT_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue(), small.size


def placeless(image: dict[str, Any]) -> dict[str, Any]:
    """An image as it is told among others: without where it was taken."""
    known = image["metadata"].items()
    hidden = ("latitude", "longitude")
    return {**image, "metadata": {name: value for name, value in known if name not in hidden}}


def details(record: ImageRecord, location: bool) -> dict[str, Any]:
    """What is known of an image, with all its views; where it was taken only if asked for."""
    told = {
        "id": record.id,
        "path": record.path,
        "label": record.label,
        "width": record.width,
        "height": record.height,
        "bytes": record.size,
        "crops": record.crops,
        "metadata": record.metadata or {},
        "taken": _taken(record),
        "location": _location(record) if location else None,
        "views": [
            {"kind": v.kind, "box": v.box, "label": v.label, "score": v.score} for v in record.views
        ],
    }
    return placeless(told)


def _tags(record: ImageRecord, folder: int) -> dict[int, Any]:
    """What a photograph says of itself in a folder of its EXIF tags; nothing when it is odd."""
    from PIL import Image

    from wordsight.sources import read_location

    try:
        with Image.open(io.BytesIO(read_location(record.path))) as image:
            exif = image.getexif()
            return {**exif, **exif.get_ifd(folder)}
    except Exception:  # odd metadata is no reason to show nothing
        return {}


def _taken(record: ImageRecord) -> dict[str, str]:
    """When and with what a photograph was taken; the tags that say where are never read."""
    tags = _tags(record, 0x8769)
    return {name: str(tags[tag]).strip("\0 ")[:100] for tag, name in _TAKEN.items() if tag in tags}


def _location(record: ImageRecord) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive (EXIF 2.32, section 4.6.6)."""
    tags = _tags(record, 0x8825)
    try:
        north, east = (
            float(degrees) + float(minutes) / 60 + float(seconds) / 3600
            for degrees, minutes, seconds in (tags[2], tags[4])
        )
        found = (-north if tags[1] == "S" else north, -east if tags[3] == "W" else east)
        return found if abs(north) <= 90 and abs(east) <= 180 else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
