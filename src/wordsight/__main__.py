"""``python -m wordsight``, and the command ``wordsight``."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is still being imported is no traceback either."""
    try:
        from wordsight.cli import run

        run()
    except KeyboardInterrupt:
        print("wordsight: stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
