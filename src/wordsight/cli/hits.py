"""What is done with hits beside showing them: paths and CSV for other programs, copies, links."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.cli.console import count, say, shown
from wordsight.errors import WordsightError, reason
from wordsight.video import split_frame

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search import Hit, Result

_NUMBERED = re.compile(r"(\d{3,9})-")
_LONGEST = 255 - len("123456789-")
_METADATA = (
    "taken",
    "camera",
    "lens",
    "latitude",
    "longitude",
    "orientation",
    "media",
    "keywords",
    "caption",
)


def print_paths(hits: Sequence[Hit], *, zero: bool) -> None:
    """A path a line, as it is; with ``zero`` each ends in a zero byte, as ``xargs -0`` reads."""
    for hit in hits:
        print(hit.path, end="\0" if zero else "\n")


def print_csv(hits: Sequence[Hit]) -> None:
    """A table with a line of names; boxes and keywords are parted by semicolons."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        ("rank", "path", "score", "z", "label", "width", "height", "view", "box", *_METADATA)
    )
    for hit in hits:
        known = hit.metadata | {"keywords": "; ".join(hit.metadata.get("keywords", []))}
        box = "; ".join(f"{side:.1f}" for side in hit.view.box or ())
        z = "" if hit.z is None else f"{hit.z:.5f}"
        row = (hit.rank, hit.path, f"{hit.score:.5f}", z, hit.label, hit.width, hit.height)
        table.writerow((*row, hit.view.kind, box, *(known.get(name) for name in _METADATA)))


def made_relative(result: Result) -> Result:
    """The same with paths from the current folder, where they can be."""
    return replace(result, hits=[replace(hit, path=_relative(hit.path)) for hit in result.hits])


def _relative(path: str) -> str:
    try:
        return os.path.relpath(path) if os.path.isabs(path) else path  # noqa: PTH117
    except ValueError:  # on another drive of Windows
        return path


def open_hit(library: Library, result: Result, number: int) -> None:
    """Show a hit in the viewer of the system. Raises WordsightError where there is no such hit."""
    import typer

    hit = next((hit for hit in result.hits if hit.rank == number), None)
    if hit is None:
        raise WordsightError(f"there is no result {number}: {count(len(result.hits), 'result')}.")
    if Path(hit.path).is_file():
        if typer.launch(hit.path):
            raise WordsightError(f"no viewer could be started for {hit.path}.")
    else:  # in an archive
        library.image(hit).show(title=hit.path)


def put_into(hits: Sequence[Hit], folder: Path, *, link: bool) -> None:
    """Copy the images of hits into a folder, or link to them, and say how many.

    Names begin with numbers in the order of the hits, which go on from those that are there, so
    that nothing is overwritten. What cannot be copied is said and left out. Raises WordsightError
    when the folder cannot be written.
    """
    if not hits:
        say(f"nothing matches, so nothing was put into {folder}")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = _free_numbers(folder)
    except OSError as error:
        raise WordsightError(f"{folder} cannot be written: {reason(error)}.") from None
    done = 0
    for hit in hits:
        try:
            _put(hit, folder, numbers, link=link)
            done += 1
        except (OSError, WordsightError) as error:
            why = error if isinstance(error, WordsightError) else reason(error)
            say(f"left out {shown(hit.path)}: {str(why).removeprefix(f'{hit.path}: ')}")
    say(f"{count(done, 'image')} {'linked' if link else 'copied'} to {folder}")


def _free_numbers(folder: Path) -> Iterator[int]:
    used = [int(found[1]) for path in folder.iterdir() if (found := _NUMBERED.match(path.name))]
    return iter(range(max(used, default=0) + 1, sys.maxsize))


def _short(name: str) -> str:
    """The end of a name that leaves room for a number before it; file systems take 255 bytes."""
    return os.fsencode(name)[-_LONGEST:].decode(errors="ignore")


def _put(hit: Hit, folder: Path, numbers: Iterator[int], *, link: bool) -> None:
    from wordsight.sources import read_location

    source = Path(hit.path).absolute()
    content = None if source.is_file() else read_location(hit.path)  # which says what is wrong
    if link and content is not None:
        raise WordsightError(
            "it is inside an archive or a video, so it cannot be linked; use --copy-to"
        )
    frame = split_frame(hit.path)
    name = source.name if content is None else Path(hit.path.rpartition("::")[2]).name
    if content is not None and frame:
        name = f"{Path(frame[0]).stem}-{frame[1]:.3f}.jpg"
    name = _short(name)
    for number in numbers:
        target = folder / f"{number:03}-{name}"
        with contextlib.suppress(FileExistsError):  # another program was faster
            if link:
                target.symlink_to(source)
            elif content is not None:
                with target.open("xb") as file:
                    file.write(content)
            else:
                with source.open("rb") as original, target.open("xb") as copy:
                    shutil.copyfileobj(original, copy)
                shutil.copystat(source, target)
            return
