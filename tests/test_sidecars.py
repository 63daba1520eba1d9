"""``classify --write-xmp``: keywords beside images; nothing else is touched."""

from __future__ import annotations

import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from test_cli import Cli, run  # noqa: F401  (a fixture)

from wordsight.cli.sidecars import write_sidecar

Photos = Callable[..., Path]
DC = "{http://purl.org/dc/elements/1.1/}subject"


def keywords(sidecar: Path) -> list[str | None]:
    bag = next(ET.parse(sidecar).getroot().iter(DC))
    return [item.text for item in bag[0]]


def test_the_best_label_is_a_keyword_beside_the_image(run: Cli, photos: Photos) -> None:  # noqa: F811
    root = photos(red=2)
    before = {path: path.read_bytes() for path in root.iterdir()}
    said = run("classify", root, "--labels", "red,blue", "--write-xmp", "--closed")
    assert said.code == 0
    assert "2 sidecars written; 0 images without a label." in said.err
    assert keywords(root / "red-0.png.xmp") == ["red"]
    assert {path: path.read_bytes() for path in before} == before
    # Our own sidecar follows; that of another program stays.
    (root / "red-1.png.xmp").write_text("<mine/>")
    again = run("classify", root, "--labels", "blue", "--write-xmp", "--closed")
    assert keywords(root / "red-0.png.xmp") == ["blue"]
    assert (root / "red-1.png.xmp").read_text() == "<mine/>"
    assert "red-1.png.xmp belongs to another program" in again.err
    assert "1 sidecar written" in again.err


def test_where_none_can_lie(run: Cli, photos: Photos, tmp_path: Path) -> None:  # noqa: F811
    archive = tmp_path / "some.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(photos(red=1) / "red-0.png", "red.png")
    said = run("classify", archive, "--labels", "red,blue", "--write-xmp", "--closed")
    assert (said.code, "so it cannot have a sidecar" in said.err) == (0, True)
    assert [path.name for path in tmp_path.glob("*.xmp")] == []


def test_odd_words_are_escaped(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.touch()
    assert keywords(write_sidecar(str(image), ["R&B <live>", "caf\u00e9"])) == [
        "R&B <live>",
        "caf\u00e9",
    ]
