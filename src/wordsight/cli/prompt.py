"""The interactive prompt of ``wordsight search``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from wordsight import __version__
from wordsight.cli.console import say
from wordsight.errors import WordsightError


def loop(answer: Callable[[str], object], about: str) -> None:
    """Read prompts until ``exit``, ``quit`` or the end of input; errors do not end it."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive:
        print(f"wordsight {__version__}: {about}. Type a prompt; exit ends.")
    for line in _prompts(interactive):
        text = line.rstrip("\r\n")  # names of files may begin or end with spaces
        if text.strip().lower() in ("exit", "quit"):
            break
        if not text.strip():
            continue
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
