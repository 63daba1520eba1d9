"""From a source to the library: list -> read -> decode -> regions -> encode -> write.

Reading, decoding and preprocessing run in worker threads, a bounded number of images ahead of
the encoder, and with a bound on the bytes of what they decode at once, so that memory does not grow
with the number or the size of images. Each encoded batch is one atomic write. A run that is killed
has lost nothing that it had written, and the next one goes on from there.
"""

from wordsight.indexing.adding import add_images
from wordsight.indexing.decoding import reduced_side, reduced_side_for_crops
from wordsight.indexing.int8 import Int8Check, check_int8
from wordsight.indexing.memory import MemoryBudget
from wordsight.indexing.pipeline import BATCH, WRITE_EVERY, Progress
from wordsight.indexing.run import index

__all__ = [
    "BATCH",
    "WRITE_EVERY",
    "Int8Check",
    "MemoryBudget",
    "Progress",
    "add_images",
    "check_int8",
    "index",
    "reduced_side",
    "reduced_side_for_crops",
]
