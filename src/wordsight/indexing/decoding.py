"""From an item to pixels: reading, decoding, regions; bounded in memory."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.errors import ImageError, WordsightError
from wordsight.indexing.footage import Frame
from wordsight.indexing.memory import MemoryBudget
from wordsight.indexing.report import Failure, IndexReport
from wordsight.library import Entry
from wordsight.paths import file_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.images import Metadata
    from wordsight.models.clip import ClipModel
    from wordsight.models.maskrcnn import Detector
    from wordsight.regions import Region, Tiles
    from wordsight.sources import Item

DECODE_BYTES = 512 << 20
"""How many bytes may be decoded at once, over all threads; an image above it goes alone."""

LARGE_FILE = 32 << 20
"""A file of more bytes is not read into memory, but decoded from the disk; and goes alone."""


def reduced_side(input_side: int) -> int:
    """The short side, in pixels, at which a JPEG is decoded for an encoder of this input.

    A third more than the encoder sees, so that a photograph of 12 megapixels comes at 1/8 for 256
    pixels too (vectors of a random ViT-B/32 keep cosines of 0.999:
    ``benchmarks/reduced_scale.py``), and never below 192: at 32 pixels, scales nearer to the input
    moved vectors of photographs to cosines of 0.96; so they stay above 0.995.
    """
    return max(input_side * 4 // 3, 192)


def reduced_side_for_crops(input_side: int) -> int:
    """The short side at which an image is decoded whose crops are embedded too.

    Four times that without crops, so that a crop of a quarter of the image still fills the
    encoder's input as well, and at least 2048: photographs of up to 24 megapixels come in full.
    """
    return max(4 * reduced_side(input_side), 2048)


@dataclass(slots=True)
class Decoded:
    """An item on its way to the encoder."""

    item: Item
    hash: str
    width: int = 0
    height: int = 0
    donor: str | None = None
    """The id of an image in the library with the same bytes: its whole-image vector is reused."""
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    """What is to be encoded: the whole image unless there is a donor, then the crops, then the
    item's ``parts``."""
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    """Instead of ``pixels``, where these were encoded elsewhere."""
    regions: list[Region] | None = None
    """None: with a donor, its crops are reused too."""
    metadata: Metadata | None = None
    """None: with a donor, its metadata are reused too."""


class Decoder:
    """Makes items ready for the encoder, in several threads at once."""

    def __init__(
        self,
        model: ClipModel,
        proposer: Detector | Tiles | None,
        known: dict[str, Entry],
        report: IndexReport,
        *,
        recheck: bool,
    ) -> None:
        self.model = model
        self.proposer = proposer
        self.known = known
        self.report = report
        self.recheck = recheck
        self.by_hash = {entry.hash: entry for entry in known.values()}
        self.memory = MemoryBudget(DECODE_BYTES)
        self.spoilt: list[str] = []  # in the library, and now other bytes that are no image

    @property
    def side(self) -> int:
        """The short side, in pixels, at which pictures are decoded."""
        input_side = max(self.model.image_size)
        return reduced_side_for_crops(input_side) if self.proposer else reduced_side(input_side)

    @property
    def frame_side(self) -> int:
        """As :attr:`side`, of frames of videos: what moves through one is a part of it."""
        return max(self.side, 2 * reduced_side(max(self.model.image_size)))

    def has_vectors(self, entry: Entry, item: Item) -> bool:
        """Whether the library holds an item as it is, crops included."""
        return (entry.size, entry.mtime_ns) == (item.size, item.mtime_ns) and self.has_crops(entry)

    def has_crops(self, entry: Entry) -> bool:
        """Whether an image of the library has the crops that are wanted, or none are."""
        return self.proposer is None or entry.crops == self.crops

    @property
    def crops(self) -> str:
        """What images are marked with; older libraries hold crops without context, by the name."""
        return f"{self.proposer.name}, in context" if self.proposer else "none"

    def decode(self, item: Item) -> Decoded | Failure:
        """An image, ready for the encoder, or why it cannot be used."""
        try:
            with contextlib.ExitStack() as held:
                return self._decode_within(item, held)
        except WordsightError as error:
            return Failure(item.path, str(error).removeprefix(f"{item.path}: "))
        except OSError as error:
            return Failure(item.path, error.strerror or str(error))
        except MemoryError:
            return Failure(item.path, "not enough memory to decode it")

    def prepared(self, frame: Frame | Failure) -> Decoded | Failure:
        """A frame of a video, ready for the encoder."""
        if isinstance(frame, Failure):
            return frame
        decoded = Decoded(frame.item, frame.hash, *frame.size, metadata=frame.metadata)
        if frame.picture is None:
            decoded.donor = frame.donor
        else:
            decoded.regions = []
            decoded.pixels.append(self.model.preprocess(frame.picture, frame.size))
            self._add_crops(decoded, frame.picture)
        return decoded

    def _decode_within(self, item: Item, held: contextlib.ExitStack) -> Decoded:
        """Decode one image; what it takes of the memory budget is given back with ``held``."""
        from wordsight.images import open_image, read_metadata

        entry = self.known.get(item.id)
        if entry and not self.recheck and self.has_vectors(entry, item):
            # The label alone is another, or metadata are missing.
            found = None if entry.media else _head_of(item)
            return Decoded(item, entry.hash, donor=entry.id, metadata=found)

        def reserve(count: int) -> None:
            if item.size <= LARGE_FILE:
                held.enter_context(self.memory.hold(count))

        if item.size > LARGE_FILE:
            held.enter_context(self.memory.hold(self.memory.limit))
        source = item.read() if item.size <= LARGE_FILE or not item.is_file else Path(item.path)
        digest = item.hash or (hash_of(source) if isinstance(source, bytes) else _hash_file(source))
        donor = entry if entry and entry.hash == digest else self.by_hash.get(digest)
        if donor and self.has_crops(donor):
            found = None if donor.media and not self.recheck else read_metadata(source)
            return Decoded(item, digest, donor=donor.id, metadata=found)
        try:
            image = open_image(source, min_side=self.side, name=item.path, reserve=reserve)
        except ImageError:
            if entry and entry.hash != digest:
                self.spoilt.append(item.id)
            raise
        if "software" in image.info:
            raise ImageError(f"{item.path}: made by wordsight (a grid, plot or card)")
        width, height = image.info["full_size"]
        decoded = Decoded(item, digest, width, height, regions=[])
        decoded.metadata = item.metadata or image.info["metadata"]
        if donor:
            decoded.donor = donor.id
        else:
            decoded.pixels.append(self.model.preprocess(image, (width, height)))
        self._add_crops(decoded, image)
        return decoded

    def _add_crops(self, decoded: Decoded, image: Image) -> None:
        """Add the regions that the proposer finds, if there is one, and the item's own parts."""
        from wordsight.images import crop

        across, down = decoded.width / image.width, decoded.height / image.height
        if self.proposer and min(image.size) > max(self.model.image_size):
            # Of a smaller one the encoder sees every pixel already.
            decoded.regions = self._regions(decoded, image, across, down)
        for x0, y0, x1, y1 in decoded.item.parts:
            box = x0 / across, y0 / down, x1 / across, y1 / down
            decoded.pixels.append(self.model.preprocess(crop(image, box)))

    def _regions(self, decoded: Decoded, image: Image, across: float, down: float) -> list[Region]:
        from wordsight.regions import crop_region, propose

        assert self.proposer is not None
        assert self.report.crops is not None
        started = time.perf_counter()
        (regions,) = propose([image], self.proposer)
        self.report.crops.propose_seconds += time.perf_counter() - started
        decoded.pixels += [self.model.preprocess(crop_region(image, region)) for region in regions]
        return [_scaled(region, across, down) for region in regions]


def _scaled(region: Region, across: float, down: float) -> Region:
    x0, y0, x1, y1 = region.box
    return replace(region, box=(x0 * across, y0 * down, x1 * across, y1 * down))


def _head_of(item: Item) -> Metadata | None:
    """What an item's file says of its picture; None where that cannot be read."""
    from wordsight.images import read_metadata

    with contextlib.suppress(WordsightError, OSError):
        return read_metadata(Path(item.path) if item.is_file else item.read())
    return None


def hash_of(data: bytes) -> str:
    """The hash of a file's bytes, by which copies are found."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _hash_file(path: Path) -> str:
    """As :func:`hash_of`, read piece by piece."""
    return file_digest(path, hashlib.blake2b(digest_size=16))
