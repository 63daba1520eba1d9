"""Images that are in memory, added under names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wordsight.indexing.decoding import hash_of
from wordsight.library import ImageRecord, Store, ViewRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.models.clip import ClipModel


def add_images(
    store: Store,
    model: ClipModel,
    images: Sequence[Image | NDArray[Any]],
    names: Sequence[str],
    labels: Sequence[str | None],
) -> list[str]:
    """Embed images that are in memory and add them under these names; their ids, one a name.

    A name that the library has is replaced, and of one that is given twice the last image counts.
    Raises ModelMismatchError for another model, ValueError when there are not as many names and
    labels as images, or one of them is not valid UTF-8.
    """
    from wordsight.images import to_rgb
    from wordsight.sources.base import item_id

    store.check_model(model.name, model.hash)
    for what, texts in (("names", names), ("labels", labels)):
        if len(texts) != len(images):
            raise ValueError(f"{len(texts)} {what} for {len(images)} images: give one for each.")
        for text in texts:
            try:
                (text or "").encode()
            except UnicodeEncodeError:
                raise ValueError(f"{what}: {text!r} is not valid UTF-8.") from None
    ids = [item_id(name) for name in names]
    places = sorted({name: place for place, name in enumerate(names)}.values())
    upright = [to_rgb(images[place]) for place in places]
    vectors = model.encode_images(upright)
    records = []
    for place, image, vector in zip(places, upright, vectors, strict=True):
        data = image.tobytes()
        records.append(
            ImageRecord(
                id=ids[place],
                path=names[place],
                root="",
                size=len(data),
                mtime_ns=0,
                hash=hash_of(data),
                width=image.width,
                height=image.height,
                label=labels[place],
                views=[ViewRecord(vector)],
            )
        )
    with store.lock():
        store.refresh()
        store.check_model(model.name, model.hash)  # another library may be in its place by now
        store.put(records, replace=True)
        store.settle()
    return ids
