"""Near-duplicates and bursts: prints of pictures, how alike two of them are, groups."""

from wordsight.duplicates.grouping import FALSE_MERGE, Copy, Duplicates, check_rate, find
from wordsight.duplicates.prints import read_prints

__all__ = ["FALSE_MERGE", "Copy", "Duplicates", "check_rate", "find", "read_prints"]
