"""WebDataset's shards: what lies beside the images of a tar archive, and names of many shards.

The format: files of a sample share their path up to the first dot of the name
(https://github.com/webdataset/webdataset#the-webdataset-format).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.sources.tar import TarDamage, walk

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_LARGEST = 1 << 20  # bytes of a text beside an image


def expand_braces(location: str | Path) -> list[str]:
    """The shards that a pattern like ``data/{0000..0099}.tar`` names, as a shell writes them.

    ``{a,b}`` too. A place of just this name goes before, and so does one without such braces.
    """
    text = str(location)
    if os.path.exists(text):  # noqa: PTH110
        return [text]
    found = _BRACES.search(text)
    if not found:
        return [text]
    first, last, choice = found.groups()
    if choice is None:
        width = len(first) if first.startswith("0") else 0
        step = 1 if int(first) <= int(last) else -1
        numbers = range(int(first), int(last) + step, step)
        parts = [f"{number:0{width}}" for number in numbers]
    else:
        parts = choice.split(",")
    whole = [f"{text[: found.start()]}{part}{text[found.end() :]}" for part in parts]
    return [one for part in whole for one in expand_braces(part)]


def key_of(name: str) -> str:
    """Which sample a member belongs to: its path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def texts_beside(archive: str | Path, *suffixes: str) -> dict[str, dict[str, str]]:
    """The small texts of an archive with these suffixes ("txt"), by sample and then by suffix.

    Raises SourceError for what cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    try:
        with open(archive, "rb") as file:  # noqa: PTH123
            for member in walk(file):
                suffix = member.name.rpartition(".")[2].lower()
                if suffix not in suffixes or member.size > _LARGEST:
                    continue
                back = file.tell()
                file.seek(member.offset)
                text = file.read(member.size).decode("utf-8", "replace")
                file.seek(back)
                found.setdefault(key_of(member.name), {})[suffix] = text
    except TarDamage as error:
        if not found:
            raise SourceError(f"{archive}: not a tar archive ({error})") from error
    except OSError as error:
        raise SourceError(f"{archive}: {unreadable_reason(error)}") from error
    return found
