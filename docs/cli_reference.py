"""Writes ``docs/reference/cli.md``, the commands as ``--help`` tells them: ``make reference``."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from wordsight.cli import app

PAGE = Path(__file__).parent / "reference/cli.md"
VERBS = (
    "index",
    "search",
    "clip",
    "watch",
    "duplicates",
    "serve",
    "mcp",
    "classify",
    "evaluate",
    "demo",
    "info",
    "models",
    "models fetch",
    "export",
    "export-vectors",
    "compact",
)
WIDTH = 80


def help_of(*verb: str) -> str:
    """Return what ``wordsight VERB --help`` prints on a terminal of a fixed width."""
    result = CliRunner().invoke(
        app,
        [*verb, "--help"],
        prog_name="wordsight",
        env={"NO_COLOR": "1", "TERM": "dumb"},
        terminal_width=WIDTH,
        max_content_width=WIDTH,
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def page() -> str:
    """Return the whole page."""
    parts = [
        "# Command line",
        "Commands print results to standard output and messages to standard error. Exit status: 0 "
        "success (also for\n*No match*; 1 with `search --exit-code`), 2 an error, 130 stopped by "
        "Ctrl-C.",
        f"```text\n{help_of()}\n```",
    ]
    parts += [f"## {verb}\n\n```text\n{help_of(*verb.split())}\n```" for verb in VERBS]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
