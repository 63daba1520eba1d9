"""From an embedded image to its record in the library; the same here and on a cluster's workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from wordsight.library import Entry, ImageRecord, ViewRecord
from wordsight.library.fragments import Fragment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.indexing.decoding import Decoded
    from wordsight.sources import Item


@dataclass(slots=True)
class Written:
    """Images new to the library whose rows a worker wrote."""

    fragment: Fragment
    images: int
    regions: list[int] = field(default_factory=list)
    """How many an image has, where regions were looked for."""
    labels: Counter[str] = field(default_factory=Counter)


def record_of(
    decoded: Decoded,
    owner: Item | Entry,
    donor: ImageRecord | None,
    vectors: Sequence[NDArray[np.float32]],
    crops: str,
) -> ImageRecord:
    """The record of an image; ``vectors`` are those of its ``pixels``.

    ``owner`` says its label and root, ``donor`` is the image that lends what was not made anew,
    ``crops`` what the image is marked with.
    """
    from wordsight.regions import in_context

    item = decoded.item
    place = {
        "id": item.id,
        "path": item.path,
        "root": owner.root,
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "label": owner.label,
    }
    metadata = donor.metadata if donor else None
    if decoded.metadata:
        metadata = asdict(decoded.metadata)
    if metadata is not None or item.caption is not None:
        metadata = {**(metadata or {}), "caption": item.caption}
    if donor and decoded.regions is None:
        return replace(donor, metadata=metadata, **place)  # type: ignore[arg-type]
    own: Iterator[NDArray[np.float32]] = iter(vectors)
    whole = donor.views[0] if donor else ViewRecord(next(own))
    views = [
        ViewRecord(in_context(next(own), whole.vector), "crop", r.box, r.label, r.score)
        for r in decoded.regions or ()
    ]
    views += [ViewRecord(next(own), "moving", box) for box in item.parts]
    return ImageRecord(
        **place,  # type: ignore[arg-type]
        hash=decoded.hash,
        width=decoded.width,
        height=decoded.height,
        crops=crops,
        metadata=metadata,
        views=[whole, *views],
    )
