"""Paths as people write them, and files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from wordsight.paths import drafted, expanded


def test_a_name_that_nobody_has_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/photos") == tmp_path / "photos"
    assert expanded("~nobody-is-called-so/photos") == Path("~nobody-is-called-so/photos")


@pytest.mark.parametrize("name", ["a.jpg", "a b.jpg", "été 日本.jpg", "50% #1?.jpg", "%41.jpg"])
def test_addresses_of_files_are_their_paths(tmp_path: Path, name: str) -> None:
    """As file managers give them (feh issue 584)."""
    path = tmp_path / name
    assert expanded(path.as_uri()) == path
    assert expanded(path.as_uri().replace("file://", "file://localhost", 1)) == path
    assert expanded(str(path)) == path


@pytest.mark.parametrize("address", ["file://host/a.jpg", "file://~/a.jpg", "file:a.jpg"])
def test_addresses_of_other_hosts_are_no_files_here(address: str) -> None:
    assert expanded(address) == Path(address)


def test_an_address_may_have_one_slash() -> None:
    """RFC 8089, appendix B."""
    assert expanded("file:/a%20b.jpg") == Path("/a b.jpg")
    assert expanded("FILE:///a.jpg") == Path("/a.jpg")


def test_a_draft_takes_the_place_of_the_file_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")  # as long as names may be
    path.write_text("old")
    with drafted(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert draft.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with drafted(path) as draft:
            draft.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    with pytest.raises(FileNotFoundError), drafted(tmp_path / "gone" / "a.txt") as draft:
        draft.write_text("new")
    assert list(tmp_path.iterdir()) == [path]
