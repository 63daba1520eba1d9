"""The statistics behind "No match": pure functions of scores (see ``statistics.py``)."""

from wordsight.nomatch.statistics import (
    SINGLE_POSTERIOR,
    Calibration,
    Decision,
    Null,
    Posteriors,
    Verdict,
    background,
    certainty,
    group_statistic,
    leave_one_out,
    lift,
    single_statistic,
    zscore,
)

__all__ = [
    "SINGLE_POSTERIOR",
    "Calibration",
    "Decision",
    "Null",
    "Posteriors",
    "Verdict",
    "background",
    "certainty",
    "group_statistic",
    "leave_one_out",
    "lift",
    "single_statistic",
    "zscore",
]
