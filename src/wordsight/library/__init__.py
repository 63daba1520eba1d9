"""The library on disk: a searchable set of images as one table of views, plus what explains it.

A library is a directory::

    library.json     format, model (name, source, content hash, dimension), bank, creation time
    views.lance/     one row per view (the whole image, or one crop of it); Lance, a columnar
                     format with versions: appends are atomic, readers never see half a batch;
                     checksums.json in it: sizes and CRC-32 of its files
    bank.npz         text vectors of the neutral phrases, made with the library's model
    closest.npz      what the bank's phrases find, for "No match"; for one version of the table
    sidecar.npz      what else a search needs, without opening the table; for one version of it
    views-N.ann      in a large library: an approximate index of the table's version N
    nearby.npz       in a large library: what the decision needs there
    flat.npz         in a large library: where its vectors lie in the files of the table
    lines.lance/     text that was read in the images, by the hash of their files (see lines.py)
    prints.sqlite    grey thumbnails of the images, to find duplicates by (see prints.py)
    skipped.json     files that were left out when their folders were last indexed, and why
    devices.json     devices that folders were on when they were indexed (see pruning.py)
    incoming/        while a cluster indexes: what its workers wrote and nobody committed yet
    lock             held by the one process that writes

A library is **large** when its vectors, as float32, take more than 1 GiB, or than what the
environment variable ``WORDSIGHT_EXACT_MB`` says. It is then not read into memory: an approximate
index names the views that may be nearest, and these are read and scored exactly. The index belongs
to one version of the table, and searches see that version; the writer makes the next one when it
is done.

A library may be at a URL too, in object storage: see :mod:`wordsight.library.remote`.

A library is replaced whole (``index --remodel``) by one that is made in a hidden directory beside
it: see :mod:`wordsight.library.swap`.

Nothing else in wordsight knows how a library is stored.
"""

from wordsight.library.frames import Frames, frames_where
from wordsight.library.index.large import exact_bytes
from wordsight.library.places import default_location, find, is_library
from wordsight.library.prints import Print, Prints
from wordsight.library.records import (
    Entry,
    ImageRecord,
    ModelRecord,
    ViewRecord,
    id_from_int,
    id_to_int,
)
from wordsight.library.snapshot import Snapshot
from wordsight.library.store import Store
from wordsight.library.vectors import image_vectors
from wordsight.storage import is_url

__all__ = [
    "Entry",
    "Frames",
    "ImageRecord",
    "ModelRecord",
    "Print",
    "Prints",
    "Snapshot",
    "Store",
    "ViewRecord",
    "default_location",
    "exact_bytes",
    "find",
    "frames_where",
    "id_from_int",
    "id_to_int",
    "image_vectors",
    "is_library",
    "is_url",
]
