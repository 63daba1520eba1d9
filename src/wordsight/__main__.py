"""``python -m wordsight``."""

from wordsight.cli import run

run()
