"""What an indexing run did, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wordsight.indexing.pruning import Kept

_EXTRAS = {"RAW": "raw", "JPEG XL": "jxl", "video": "video"}  # what reads these


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that was left out, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class CropReport:
    """The crops that one run made: how many an image, of what, and what they cost.

    ``propose_seconds`` is summed over the threads that proposed, beside the encoding.
    """

    proposer: str
    per_image: list[int] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    propose_seconds: float = 0.0
    encode_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The field ``crops`` of ``wordsight index --json``."""
        from statistics import median

        counts = self.per_image or [0]
        return {
            "proposer": self.proposer,
            "images": len(self.per_image),
            "crops": sum(self.per_image),
            "min": min(counts),
            "median": median(counts),
            "max": max(counts),
            "labels": dict(self.labels.most_common()),
            "propose_seconds": round(self.propose_seconds, 3),
            "encode_seconds": round(self.encode_seconds, 3),
        }


@dataclass(slots=True)
class IndexReport:
    """What one run did; the counts are of images.

    Some of the unchanged ones are ``relabelled``, or ``described``: a library that was made before
    metadata were kept has theirs now.

    ``gone`` counts images that are gone from their sources, or left out by now, and would have been
    removed if that had been asked for. ``kept`` are images that are gone and were not pruned all
    the same, which ``failed`` says too. ``not_read``
    counts files beside images that were passed over, by their kind ("RAW", "video"). ``videos``
    were read in this run; their frames count as images. ``notices`` say what is odd of some.
    """

    indexed: int = 0
    unchanged: int = 0
    relabelled: int = 0
    described: int = 0
    reused: int = 0
    removed: int = 0
    gone: int = 0
    failed: list[Failure] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    not_read: Counter[str] = field(default_factory=Counter)
    videos: int = 0
    notices: list[Failure] = field(default_factory=list)
    images: int = 0
    views: int = 0
    seconds: float = 0.0
    crops: CropReport | None = None

    @property
    def changed(self) -> bool:
        """Whether the run changed anything in the library."""
        return bool(
            self.indexed or self.reused or self.removed or self.relabelled or self.described
        )

    @property
    def images_per_second(self) -> float:
        """Images that were embedded in this run, a second."""
        return self.indexed / self.seconds if self.seconds > 0 else 0.0

    def others(self) -> str:
        """What was not read, in words, and how to read it: ``not read: 12 RAW, 3 videos``."""
        # Formats have no plural.
        counts = [
            f"{number:,} {kind}{'s' if number > 1 and kind.islower() else ''}"
            for kind, number in self.not_read.most_common()
        ]
        missing = [kind for kind in _EXTRAS if kind in self.not_read]
        extras = ",".join(_EXTRAS[kind] for kind in missing)
        kinds = " and ".join(filter(None, (", ".join(missing[:-1]), *missing[-1:])))
        how = f" ({kinds}: pip install 'wordsight[{extras}]')" if missing else ""
        return f"not read: {', '.join(counts)}{how}"

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight index --json`` prints."""
        return {
            "indexed": self.indexed,
            "unchanged": self.unchanged,
            "relabelled": self.relabelled,
            "described": self.described,
            "reused": self.reused,
            "removed": self.removed,
            "gone": self.gone,
            "kept": sum(kept.images for kept in self.kept),
            "not_read": dict(self.not_read.most_common()),
            "videos": self.videos,
            "notices": [{"path": n.path, "reason": n.reason} for n in self.notices],
            "failed": [{"path": f.path, "reason": f.reason} for f in self.failed],
            "images": self.images,
            "views": self.views,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            **({"crops": self.crops.to_json()} if self.crops else {}),
        }
