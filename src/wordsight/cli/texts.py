"""Text in images, read by ``wordsight index``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wordsight.cli.console import count, nearby, progress_bar, say

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search.text import TextReport

KEPT = "What is indexed so far is kept. Run the same command again to continue."


def read_texts(library: Library, wanted: bool | None) -> TextReport | None:
    """Read the text in what is new, if that is wanted now or was the last time."""
    if wanted is not None:
        library.store.text = wanted
    if not library.store.text:
        return None
    try:
        with progress_bar("reading text", "images") as progress:
            return library.read_texts(progress=progress)
    except KeyboardInterrupt:
        say(KEPT)
        raise


def print_texts(report: TextReport) -> None:
    """What was read, and what was not."""
    for path, reason in report.failed:
        say(f"No text read in {nearby(path)}: {reason}")
    if report.read:
        found = f"Text in {report.with_text:,} of {count(report.read, 'image')}"
        print(f"{found}, read in {report.seconds:.1f} s.")
