"""The application that verbs register with, and the form of their help."""

from __future__ import annotations

import time

import typer

STARTED = time.perf_counter()


def examples(*lines: str) -> str:
    """The end of a help text: commands, a line each, which are not wrapped."""
    return "\n".join(
        ("\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {x}" for x in lines))
    )


app = typer.Typer(
    name="wordsight",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find images by words, on your own machine.\n\n"
        "Index a folder once, then search it with words, with an image, or with both:\n\n"
        "\b\n"
        "  wordsight index ~/Pictures\n"
        '  wordsight search "a red car at night"'
    ),
)
