"""Measurements behind the claims. Run one with ``python -m benchmarks.NAME --help``.

Each prints a table and the machine it ran on; ``--json`` prints one object.
"""
