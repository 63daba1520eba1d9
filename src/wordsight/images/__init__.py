"""Opening images: formats, orientation, reduced scale, limits; colour; crops."""

from wordsight.images.colour import to_rgb
from wordsight.images.crops import crop
from wordsight.images.formats import IMAGE_SUFFIXES, RAW_SUFFIXES, SOFTWARE, readable_suffixes
from wordsight.images.metadata import Metadata
from wordsight.images.opening import MAX_PIXELS, decoding_bytes, open_image, read_metadata
from wordsight.images.profiles import Coding, to_srgb
from wordsight.images.reasons import unreadable_reason

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "RAW_SUFFIXES",
    "SOFTWARE",
    "Coding",
    "Metadata",
    "crop",
    "decoding_bytes",
    "open_image",
    "read_metadata",
    "readable_suffixes",
    "to_rgb",
    "to_srgb",
    "unreadable_reason",
]
