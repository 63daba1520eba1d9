"""What verbs say and write: results to standard output, all about them to standard error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from wordsight.errors import WordsightError, reason
from wordsight.progress import bar, lines, said, transfer

if TYPE_CHECKING:
    from typing_extensions import Self

# With what breaks lines, and what turns the direction of writing: "\u202egnp.exe" reads "exe.png".
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def say(text: str) -> None:
    """A line for the person, never part of the result."""
    print(text, file=sys.stderr)
    said()


def step(text: str) -> None:
    """A line of a result that comes line by line, at once even in a pipe."""
    print(text, flush=True)
    said()


def prepare_streams() -> None:
    """Make the standard streams take whatever a verb writes.

    One that the caller has closed leads nowhere. Characters that the output's encoding has not are
    written as escapes (on Windows in a pipe, and under the locale C); standard error does so by
    itself. Bytes that are no text in the input's encoding are read as question marks.
    """
    for name in ("stdin", "stdout", "stderr"):  # in this order they get their usual numbers
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def shown(path: str) -> str:
    """A path on one line: control characters, which a terminal would obey, are escapes."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], path)


def nearby(path: str) -> str:
    """A path for people: from the current folder where that is shorter, on one line."""
    if os.path.isabs(path):  # noqa: PTH117  (of an image in an archive too)
        with contextlib.suppress(ValueError, OSError):  # another drive; no current folder
            path = min(os.path.relpath(path), path, key=len)
    return shown(path)


def linked(text: str, path: str) -> str:
    """Text that leads to a file, where standard output is a terminal that has links (OSC 8).

    A terminal that does not know them shows the text alone; the few that would show the address
    too get none. An image in an archive leads to the archive, a frame to its video.
    """
    file = Path(path.partition("::")[0])
    plain = os.environ.get("TERM", "") in ("", "dumb", "linux") and "WT_SESSION" not in os.environ
    if plain or not sys.stdout.isatty() or not file.is_absolute():
        return text
    return f"\x1b]8;;{file.as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


def print_json(value: object) -> None:
    """One line of JSON; in ASCII where the output's encoding has not all characters."""
    has_all = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(value, ensure_ascii=not has_all))


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def count(number: int, noun: str) -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@contextmanager
def text_file(output: Path) -> Iterator[TextIO]:
    """A text file to write; WordsightError where it cannot be written."""
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise WordsightError(f"cannot write {output}: {reason(error)}.") from None


def write_lines(output: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines."""
    with text_file(output) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; in a pipe, a line every few seconds."""

    def line(done: int, total: int | None) -> str:
        return f"{title}: {done:,} of {total:,} {unit}" if total else f"{title} ..."

    if not sys.stderr.isatty():
        with lines(line) as report:
            yield report
        return
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        first: tuple[float, float] | None = None  # when something was done for the first time

        def render(self, task: Task) -> Text:
            if not task.completed or task.elapsed is None:
                return Text("")
            began, had = self.first = self.first or (task.elapsed, task.completed)
            seconds = task.elapsed - began
            # Batches come at once: a moment says nothing about a rate.
            return Text(f"{(task.completed - had) / seconds:.0f} {unit}/s" if seconds > 2 else "")

    class Done(ProgressColumn):
        def render(self, task: Task) -> Text:  # of an unknown total it says nothing, not 0/?
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")

    with bar(title, Done(), Rate()) as report:
        yield report


class Transfer:
    """What is shown of downloads: a bar on a terminal; in a pipe, a line every few seconds.

    Nothing is shown before the first line of :meth:`notice` says what is fetched.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._open = ExitStack()
        self._report: Callable[[int, int | None], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def notice(self, text: str) -> None:
        """Say a line; from now on the download is shown."""
        say(text)
        if self._report is None:
            self._report = self._open.enter_context(transfer(self._title))

    def progress(self, done: int, total: int | None) -> None:
        """Note that ``done`` of ``total`` bytes are here."""
        if self._report:
            self._report(done, total)


def check_files(files: Iterable[Path | None]) -> None:
    """Refuse what no file can be written to now, not after the work; missing folders are made."""
    for path in filter(None, files):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WordsightError(f"cannot write {path}: {reason(error)}.") from None
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise WordsightError(f"cannot write {path}; choose another name.")


def _keep_fonts() -> None:
    """Let matplotlib keep its list of fonts in our cache, not beside that of other programs."""
    from wordsight.runtime.cache import writable_cache

    if folder := writable_cache("matplotlib"):
        os.environ.setdefault("MPLCONFIGDIR", str(folder))


def check_pictures(pictures: Iterable[Path | None] = (), plots: Iterable[Path | None] = ()) -> None:
    """Refuse names that no picture can be written under now, not after the work."""
    for paths, plot in ((pictures, False), (plots, True)):
        for path in filter(None, paths):
            from wordsight import render

            render.check_suffix(path, plot)
            if plot:
                _keep_fonts()
