"""The bank: neutral phrases against which images and queries are judged."""

from __future__ import annotations


def load_bank() -> list[str]:
    """The phrases of ``bank.txt``, in order, without comments."""
    from importlib.resources import files

    text = (files("wordsight") / "bank.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
