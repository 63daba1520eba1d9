"""The statistics behind "No match": pure functions of scores (see ``statistics.py``)."""

from wordsight.nomatch.statistics import (
    CLOSEST,
    Decision,
    Null,
    Verdict,
    background,
    certainty,
    closest,
    leave_one_out,
    lift,
    zscore,
)

__all__ = [
    "CLOSEST",
    "Decision",
    "Null",
    "Verdict",
    "background",
    "certainty",
    "closest",
    "leave_one_out",
    "lift",
    "zscore",
]
