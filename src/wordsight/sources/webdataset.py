"""WebDataset's shards: what lies beside the images of a tar archive.

The format: files of a sample share their path up to the first dot of the name
(https://github.com/webdataset/webdataset#the-webdataset-format).
"""

from __future__ import annotations

import json
from pathlib import Path

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.sources.files import opened
from wordsight.sources.tar import TarDamage, walk

_LARGEST = 1 << 20  # bytes of a text beside an image


def key_of(name: str) -> str:
    """Which sample a member belongs to: its path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def captions(archive: str | Path) -> dict[str, str]:
    """What shards say of their images in words, by sample: of a .txt, or of a .json's caption."""
    found = {}
    for key, texts in texts_beside(archive, "txt", "json").items():
        said = texts.get("txt") or _caption_in(texts.get("json", ""))
        if said.strip():
            found[key] = " ".join(said.split())
    return found


def _caption_in(text: str) -> str:
    try:
        said = json.loads(text)
        return next((said[key] for key in _CAPTIONS if isinstance(said.get(key), str)), "")
    except (ValueError, AttributeError):
        return ""


_CAPTIONS = ("caption", "text", "TEXT")


def texts_beside(archive: str | Path, *suffixes: str) -> dict[str, dict[str, str]]:
    """The small texts of an archive with these suffixes ("txt"), by sample and then by suffix.

    Raises SourceError for what cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    try:
        with opened(str(archive)) as (file, _):
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
