"""The command line: one module a verb, and what they share.

Results go to standard output, everything about them (progress, notices, errors) to standard
error. Errors are one line and exit status 2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from wordsight import __version__
from wordsight.cli.app import app
from wordsight.cli.console import prepare_streams, say
from wordsight.errors import WordsightError, reason

# Verbs register when they are imported; their order is that of `wordsight --help`.
# isort: off
from wordsight.cli import index, search, duplicates, moments, watch  # noqa: F401
from wordsight.cli import serve, mcp, classify, evaluate, demo  # noqa: F401
from wordsight.cli import library, vectors, models  # noqa: F401
# isort: on

__all__ = ["app", "main", "run"]

# After each matrix product numpy's threads would spin for tens of milliseconds, in the way of what
# comes next: a search of a million views takes 18 ms with this and 31 without. Read when numpy is
# imported, which is after this module.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
STOPPED = 130  # by Ctrl-C: 128 and the number of the signal
_STOPPED = "wordsight: stopped."


def _version(value: bool) -> None:
    if value:
        print(f"wordsight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit status: 0 done, 1 no match (with --exit-code), 2 an error that the message explains, 130
    stopped by Ctrl-C.
    """
    prepare_streams()
    # What Pillow thinks of odd metadata is nothing the user can act on.
    warnings.filterwarnings("ignore", module="PIL")
    warnings.showwarning = _show_warning
    try:
        app(args=list(arguments) if arguments is not None else None)
    except WordsightError as error:
        say(f"wordsight: {error}")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        _unwritten(error)
        sys.exit(2)
    except KeyboardInterrupt:  # before typer is there to see it
        say(_STOPPED)
        sys.exit(STOPPED)
    except SystemExit as end:  # what typer makes of these two
        if end.code == STOPPED:
            say(_STOPPED)
        if isinstance(end.__context__, BrokenPipeError):  # the reader (head, less) went away
            sys.exit(0)
        raise


def _show_warning(
    message: Warning | str, category: type[Warning], *_args: object, **_: object
) -> None:
    """As a line; what libraries tell those who program with them concerns nobody here."""
    if "Deprecat" not in category.__name__:
        say(f"note: {message}")


def _unwritten(error: OSError) -> None:
    say(f"wordsight: could not write the output ({reason(error)}).")


def run() -> None:
    """Run the command line as the whole of this process, which then ends at once.

    Taking apart the interpreter and the libraries, object by object, would take 0.1 s and free
    what the system frees anyway.
    """
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            code = 0
        except OSError as error:
            if not code:  # else something is said already
                _unwritten(error)
            code = 2
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)
