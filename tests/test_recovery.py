"""A library after a power cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ColourModel

import wordsight


@pytest.mark.parametrize("share", [0, 0.5])
def test_the_last_version_that_reads_is_shown_and_the_rest_indexed_again(
    tmp_path: Path, photos: Callable[..., Path], model: ColourModel, share: float
) -> None:
    folder, more = photos(red=3), photos("more", blue=2)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    library.index(more)
    newest = min((tmp_path / "lib/views.lance/_versions").glob("*.manifest"))
    data = newest.read_bytes()
    newest.write_bytes(data[: int(len(data) * share)])
    library = wordsight.open(tmp_path / "lib", model)
    with pytest.warns(UserWarning, match="3 images of the one before"):
        assert len(library) == 3
    assert len(library.search("red", anyway=True).hits) == 3
    with pytest.warns(UserWarning, match="are damaged"):
        report = wordsight.open(tmp_path / "lib", model).index([folder, more])
    assert (report.unchanged, report.indexed, report.images) == (3, 2, 5)
    library = wordsight.open(tmp_path / "lib", model)
    assert library.search("blue", k=1, anyway=True).hits[0].path.startswith(str(more))
