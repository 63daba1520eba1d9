"""For Hugging Face's ``datasets``: a data set as a source of images."""

from __future__ import annotations

from typing import Any

from wordsight.errors import SourceError
from wordsight.sources import Source
from wordsight.sources.tables import TableSource


def source(dataset: Any) -> Source:
    """The images of a ``datasets.Dataset`` whose rows lie in files, as ``load_dataset`` gives it.

    For :meth:`wordsight.Library.index_sources`. Images are read from those files, now and when a
    hit is shown. Raises SourceError for one that is in memory, filtered or shuffled: save it first.
    """
    files = [part["filename"] for part in dataset.cache_files]
    if not files or dataset._indices is not None:
        raise SourceError(
            "this data set is in memory or reordered; write it with "
            "dataset.save_to_disk(DIR), then index DIR."
        )
    return TableSource(files, name=str(dataset.builder_name or files[0]), root="")
