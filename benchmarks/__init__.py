"""Measurements behind the claims. Run one with ``python -m benchmarks.NAME --help``.

Each prints a table and the machine it ran on; ``--json FILE`` keeps the figures too.
"""

import os

# As the command line does: see wordsight/cli/__init__.py.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
