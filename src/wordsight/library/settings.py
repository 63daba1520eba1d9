"""What a library remembers beside its images: how it was last indexed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wordsight.library.files import read_record, write_atomically, writing


class Settings:
    """The choices in ``library.json``, and ``devices.json``. Another process may write them too."""

    path: Path
    record: dict[str, Any]

    @property
    def crops(self) -> str:
        """How regions were proposed when the library was last indexed with a choice of it."""
        return str(self._written_record().get("crops", "none"))  # another process may choose too

    @crops.setter
    def crops(self, proposer: str) -> None:
        self._choose("crops", proposer, self.crops)

    @property
    def exclude(self) -> list[str]:
        """Patterns of what was left out when the library was last indexed with a choice of it."""
        return [str(pattern) for pattern in self._written_record().get("exclude", [])]

    @exclude.setter
    def exclude(self, patterns: Sequence[str]) -> None:
        self._choose("exclude", list(patterns), self.exclude)

    @property
    def every(self) -> str:
        """Seconds between the frames of videos, or "keyframes", when last chosen."""
        return str(self._written_record().get("every", "1.0"))

    @every.setter
    def every(self, every: str) -> None:
        self._choose("every", every, self.every)

    @property
    def text(self) -> bool:
        """Whether the text in new images is read too, as when it was last asked for."""
        return bool(self._written_record().get("text", False))

    @text.setter
    def text(self, wanted: bool) -> None:
        self._choose("text", wanted, self.text)

    @property
    def replaces(self) -> str | None:
        """The id of the library whose place this one takes, or took (see swap.py)."""
        return self._text("replaces")

    @replaces.setter
    def replaces(self, identity: str) -> None:
        self._choose("replaces", identity, self.replaces)

    @property
    def suggested(self) -> str | None:
        """The better model that was last suggested to the user, who need not read it again."""
        return self._text("suggested")

    @suggested.setter
    def suggested(self, name: str) -> None:
        self._choose("suggested", name, self.suggested)

    def _text(self, name: str) -> str | None:
        value = self._written_record().get(name)
        return None if value is None else str(value)

    def _choose(self, name: str, value: object, before: object) -> None:
        if value != before:
            record = {**self._written_record(), name: value}
            with writing(self.path):
                data = json.dumps(record, indent=2).encode()
                write_atomically(self.path / "library.json", data)
            self.record = record

    @property
    def devices(self) -> dict[str, int]:
        """The devices that images were on when they were indexed, by folder."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            found = json.loads((self.path / "devices.json").read_text(encoding="utf-8"))
            return {str(folder): int(device) for folder, device in found.items()}
        return {}

    @devices.setter
    def devices(self, devices: Mapping[str, int]) -> None:
        if devices != self.devices:
            with writing(self.path):
                write_atomically(self.path / "devices.json", json.dumps(devices).encode())

    def skipped(self) -> list[tuple[str, str]]:
        """Files that the last runs over their folders left out, as (path, reason)."""
        try:
            found = json.loads((self.path / "skipped.json").read_text(encoding="utf-8"))
            return [(str(path), str(reason)) for path, reason in found]
        except (OSError, ValueError, TypeError):
            return []

    def save_skipped(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Keep what was left out, for people to look at."""
        if skipped or (self.path / "skipped.json").exists():
            with contextlib.suppress(OSError):
                write_atomically(self.path / "skipped.json", json.dumps(skipped).encode())

    def _written_record(self) -> dict[str, Any]:
        """The record as it is on the disk; the one that is known where that cannot be read."""
        return read_record(self.path) or self.record
