"""A library after a power cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight.errors import LibraryError


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


def _damages(data: bytes) -> Iterator[bytes]:
    """What a power cut or a disk makes of a file."""
    yield b""
    yield data[: len(data) // 2]
    for share in (0.02, 0.3, 0.5, 0.7, 0.98):
        flipped = bytearray(data)
        flipped[int(len(data) * share)] ^= 0xFF
        yield bytes(flipped)


def _ask(path: Path, model: ColourModel) -> dict[tuple[str, str], float]:
    library = wordsight.open(path, model)
    return {
        (query, hit.path): round(hit.score, 5)
        for query in ("red", "blue")
        for hit in library.search(query, k=40, anyway=True).hits
    }


def _asked(path: Path, model: ColourModel) -> tuple[dict[tuple[str, str], float], str]:
    """What :func:`_ask` finds, or what the error says."""
    try:
        return _ask(path, model), ""
    except LibraryError as error:
        return {}, str(error)


def _library(path: Path, photos: Callable[..., Path], model: ColourModel) -> list[Path]:
    """A library with a past: two folders, crops, images that were removed and replaced."""
    folders = [photos(red=6), photos("more", blue=6, green=2)]
    library = wordsight.create(path, model)
    library.index(folders[0], crops="tiles")
    library.index(folders[1])
    (folders[1] / "green-0.png").unlink()
    library.index(folders[1], prune=True)
    Image.new("RGB", (40, 30), ANCHORS["blue"]).save(folders[1] / "green-1.png")
    library.index(folders[1])
    return folders


@pytest.mark.filterwarnings("ignore:.*damaged|.*differ from what was")
def test_any_damaged_file_is_told_or_does_no_harm_and_indexing_mends_it(
    tmp_path: Path, photos: Callable[..., Path], model: ColourModel
) -> None:
    path, copy = tmp_path / "lib", tmp_path / "copy"
    red, others = _library(path, photos, model)
    truth = _ask(path, model)
    files = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    assert {"data", "_deletions", "_versions"} <= {
        file.parts[1] for file in files if file.parts[1:]
    }
    refused = set()
    for file in files:
        for bad in _damages((path / file).read_bytes()) if (path / file).stat().st_size else ():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(path, copy)
            (copy / file).write_bytes(bad)
            found, said = _asked(copy, model)
            assert str(copy) in said if said else found
            if not said:
                other = found.items() - truth.items()
                wrong = {image for (_, image), _ in other}
                # The version before the newest, which is told, has the older picture.
                assert wrong <= (
                    {str(others / "green-1.png")} if "_versions" in file.parts else set()
                )
            try:
                wordsight.open(copy, model).index(red, crops="tiles")
                wordsight.open(copy, model).index(others)
                assert _ask(copy, model) == truth, file
            except LibraryError:
                refused.add(str(file))
    assert refused == {"library.json", "bank.npz"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_damaged_approximate_index_is_made_anew(
    tmp_path: Path,
    photos: Callable[..., Path],
    model: ColourModel,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
) -> None:
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=150, blue=60))
    before = library.search("blue", k=60, anyway=True)
    (index,) = (tmp_path / "lib").glob("views-*.ann")
    data = bytearray(index.read_bytes())
    data[int(len(data) * share)] ^= 0xFF
    index.write_bytes(bytes(data))
    after = wordsight.open(tmp_path / "lib", model).search("blue", k=60, anyway=True)
    assert [hit.path for hit in after.hits] == [hit.path for hit in before.hits]
    assert index.read_bytes() != bytes(data)
