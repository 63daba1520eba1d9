"""The interactive prompt of ``wordsight search``: prompts, and commands that build on the last."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from wordsight import __version__
from wordsight.cli.console import check_files, check_pictures, nearby, say, shown
from wordsight.cli.hits import open_hit
from wordsight.errors import WordsightError
from wordsight.library.filters import unknown_label
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.search import Result

HELP = """\
Type what you are looking for, an image's path, or terms: "beach" + "sunset" - "people"
  :more         show more results
  :anyway       show the closest images even if nothing matches
  :open N       open image N
  :label NAME   search only images with this label; :label alone searches all again
  :save FILE    save the results as a picture, for example grid.png
  :help         show this help
  exit          leave (or Ctrl-D)"""


class Answer(Protocol):
    """Searches, shows what was found from place ``after`` on, and returns all of it."""

    def __call__(
        self, text: str, *, k: int, anyway: bool, label: str | None, after: int = 0
    ) -> Result:
        """Raise WordsightError where the prompt makes no sense."""


class Session:
    """What was asked last, and the commands that build on it.

    ``k`` is how many images a prompt gets, and ``:more`` adds. ``line`` raises WordsightError
    with what to type instead.
    """

    def __init__(self, library: Library, answer: Answer, *, k: int, anyway: bool) -> None:
        self._library, self._answer, self._step, self._anyway = library, answer, k, anyway
        self._text, self._asked = "", k
        self._result: Result | None = None
        self._label: str | None = None

    def line(self, text: str) -> None:
        """Answer a prompt, or obey a command."""
        name, _, rest = text.strip().partition(" ")
        if not name.startswith(":"):
            self._text = text
            self._search(self._anyway)
            return
        command = {
            ":help": self._help,
            ":more": self._more,
            ":anyway": self._closest,
            ":open": self._open,
            ":label": self._choose,
            ":save": self._save,
        }.get(name)
        if command is None:
            raise WordsightError(f"there is no command {name}; :help lists them.")
        command(rest.strip())

    def _search(self, anyway: bool) -> None:
        self._asked = self._step
        self._result = None  # a prompt that fails leaves nothing to build on
        self._result = self._answer(self._text, k=self._step, anyway=anyway, label=self._label)

    def _last(self) -> Result:
        if self._result is None:
            raise WordsightError("search for something first.")
        return self._result

    def _help(self, _: str) -> None:
        say(HELP)

    def _more(self, _: str) -> None:
        last = self._last()
        seen = len(last.hits)
        if seen < self._asked or seen == len(self._library):
            say("There are no more results.")
            return
        self._asked = seen + self._step
        anyway = last.verdict == "none"  # where nothing matches they are the closest
        self._result = self._answer(
            self._text, k=self._asked, anyway=anyway, label=self._label, after=seen
        )

    def _closest(self, _: str) -> None:
        self._last()
        self._search(True)

    def _open(self, number: str) -> None:
        if not number.isdecimal():
            raise WordsightError("write the number of a result, for example: :open 1")
        open_hit(self._library, self._last(), int(number))

    def _choose(self, label: str) -> None:
        labels = self._library.store.labels().values() if label else ()
        if label and label not in labels:
            raise WordsightError(unknown_label(label, labels))
        self._label = label or None
        say(f"Searching images labelled {label}." if label else "Searching all images.")
        if self._text:
            self._search(self._anyway)

    def _save(self, name: str) -> None:
        from wordsight import render

        result = self._last()
        if not name:
            raise WordsightError("write a file name, for example: :save grid.png")
        path = expanded(name)
        check_pictures([path])
        check_files([path])
        render.save(self._library.grid(result), path)
        say(f"Saved {nearby(str(path))}.")


def loop(answer: Callable[[str], object], about: str, *, echo: bool) -> None:
    """Read prompts until ``exit``, ``quit`` or the end of input; errors do not end it.

    ``echo`` repeats those that come through a pipe, so that each answer says what it answers.
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive:
        print(f"wordsight {__version__}: {about}. Type what you are looking for, or :help.")
    for line in _prompts(interactive):
        text = line.rstrip("\r\n")  # names of files may begin or end with spaces
        if text.strip().lower() in ("exit", "quit"):
            break
        if not text.strip():
            continue
        if echo and not interactive:
            print(f"> {shown(text)}")
        try:
            answer(text)
        except WordsightError as error:
            say(f"wordsight: {error}")
        sys.stdout.flush()


def _prompts(interactive: bool) -> Iterator[str]:
    if not interactive:
        yield from sys.stdin
        return
    from platformdirs import user_state_path
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History
    try:
        folder = user_state_path("wordsight", ensure_exists=True)
        file = folder / "history"
        file.touch(0o600)  # what people look for is nobody else's business
        file.chmod(0o600)
        history = FileHistory(str(file))
    except OSError:
        history = InMemoryHistory()
    session: PromptSession[str] = PromptSession(history=history)
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
