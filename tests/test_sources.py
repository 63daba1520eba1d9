"""Listing and reading images: folders, files, tar archives, class labels, COCO annotations."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wordsight.errors import ImageError, SourceError
from wordsight.sources import Head, Item, open_source, read_location
from wordsight.sources.base import class_labels
from wordsight.sources.cifar10 import open_archive
from wordsight.sources.coco import CocoImage, CocoObject, read_coco
from wordsight.sources.location import archive_of
from wordsight.sources.tar import TarSource, walk


def write(folder: Path, *names: str) -> None:
    """Make files whose content is their name."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def relative(items: list, folder: Path) -> list[str]:
    return [Path(item.path).relative_to(folder).as_posix() for item in items]


def make_tar(file: Path, names: list[str], **options: object) -> Path:
    with tarfile.open(file, "w", **options) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            data = f"bytes of {name}".encode() * 100
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


# Folders


def test_folder_lists_images_below_it_sorted(folder: Path) -> None:
    write(folder, "b.JPG", "a.png", "deep/er/c.webp", "deep/d.heic", "notes.txt", "noext", "jpg")
    source = open_source(folder)
    items = source.items()
    assert relative(items, folder) == ["a.png", "b.JPG", "deep/d.heic", "deep/er/c.webp"]
    assert source.problems == []
    assert source.root == f"{folder}{os.sep}"
    for item in items:
        assert item.path.startswith(source.root)
        assert item.root == source.root
        assert item.label is None
        assert re.fullmatch("[0-9a-f]{16}", item.id)
        status = Path(item.path).stat()
        assert (item.size, item.mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert item.read() == Path(item.path).read_bytes()
    assert len({item.id for item in items}) == 4
    assert open_source(str(folder)).items() == items


def test_ids_depend_on_the_place_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "x/a.png", "x/b.png")
    ids = {item.path: item.id for item in open_source(folder).items()}
    monkeypatch.chdir(folder)
    assert {item.path: item.id for item in open_source("x").items()} == ids
    assert [item.id for item in open_source("x/../x/a.png").items()] == [
        ids[str(folder / "x" / "a.png")]
    ]
    (folder / "x" / "a.png").write_bytes(b"changed")
    changed = open_source(folder).items()
    assert {item.path: item.id for item in changed} == ids
    assert changed[0].size == 7


def test_hidden_and_technical_folders_are_passed_over(folder: Path) -> None:
    write(folder, ".wordsight/a.png", ".hidden/b.png", ".c.png", "@eaDir/d.png", "._e.jpg", "f.png")
    assert relative(open_source(folder).items(), folder) == ["f.png"]
    assert len(open_source(folder / ".hidden").items()) == 1  # named by the user


def test_links_are_followed_once_and_loops_end(folder: Path) -> None:
    write(folder, "in/z/a.png", "out/b.png", "out/sub/c.png")
    (folder / "in" / "z" / "up").symlink_to(folder / "in")
    (folder / "in" / "a_link_to_z").symlink_to(folder / "in" / "z")
    (folder / "in" / "outside").symlink_to(folder / "out")
    (folder / "in" / "outside_again").symlink_to(folder / "out")
    (folder / "in" / "picture.png").symlink_to(folder / "out" / "b.png")
    source = open_source(folder / "in")
    assert relative(source.items(), folder / "in") == [
        "outside/b.png",
        "outside/sub/c.png",
        "picture.png",
        "z/a.png",  # under its own name, not under that of the link
    ]
    assert source.problems == []
    (folder / "link").symlink_to(folder / "in")
    assert open_source(folder / "link").root == source.root


def test_problems_are_reported_and_stop_nothing(folder: Path) -> None:
    write(folder, "a.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    source = open_source(folder)
    assert relative(source.items(), folder) == ["a.png"]
    assert source.problems == [(str(folder / "gone.png"), "a link to nothing")]
    source.items()
    assert len(source.problems) == 1  # of the last listing


def test_links_that_cannot_be_followed_are_reported(folder: Path) -> None:
    write(folder, "a.png")
    targets = {
        "loop": "loop",
        "loop.png": "loop.png",
        "long": "n" * 300,
        "long.png": "/" + "n" * 300,
        "through_a_file": "a.png/inner",
    }
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    (folder / "not_an_image").symlink_to("nowhere")
    source = open_source(folder)
    assert relative(source.items(), folder) == ["a.png"]
    circle, nothing = "a link that leads back to itself", "a link to nothing"
    assert {Path(path).name: reason for path, reason in source.problems} == {
        "loop": circle,
        "loop.png": circle,
        "long": nothing,
        "long.png": nothing,
        "through_a_file": nothing,
    }
    with pytest.raises(SourceError, match="loop: cannot be read"):
        open_source(folder / "loop")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that others may read, which ``tmp_path`` is not; gone afterwards."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    folder = Path(os.path.realpath(tempfile.mkdtemp()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def shut(folder: Path) -> Iterator[None]:
    """Nobody may look into a folder meanwhile, and the administrator is nobody."""
    was_root = os.geteuid() == 0
    folder.chmod(0)
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_links_into_forbidden_folders_are_reported(shared: Path) -> None:
    write(shared, "in/a.png", "closed/album/b.png")
    (shared / "in" / "album").symlink_to(shared / "closed" / "album")
    (shared / "in" / "b.png").symlink_to(shared / "closed" / "album" / "b.png")
    with shut(shared / "closed"):
        source = open_source(shared / "in")
        assert relative(source.items(), shared / "in") == ["a.png"]
        assert source.problems == [
            (str(shared / "in" / name), "no permission to read it") for name in ("album", "b.png")
        ]


def test_a_folder_that_is_removed_while_it_is_listed_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "a.png", "going/b.png")
    real = os.stat

    def stat(place: str) -> os.stat_result:
        if place.endswith("going"):
            shutil.rmtree(place)
        return real(place)

    source = open_source(folder)
    monkeypatch.setattr("wordsight.sources.folder.os.stat", stat)
    items = source.items()
    monkeypatch.undo()
    assert relative(items, folder) == ["a.png"]
    assert source.problems == [(str(folder / "going"), "no such file")]


def test_unreadable_folders_are_reported(shared: Path) -> None:
    write(shared, "a.png", "closed/b.png")
    with shut(shared / "closed"):
        source = open_source(shared)
        assert relative(source.items(), shared) == ["a.png"]
        assert source.problems == [(str(shared / "closed"), "no permission to read it")]
        with pytest.raises(SourceError, match="closed: no permission to read it"):
            open_source(shared / "closed").items()


def test_names_that_are_not_utf8_are_reported(folder: Path) -> None:
    write(folder, "a.png")
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    source = open_source(folder)
    assert relative(source.items(), folder) == ["a.png"]
    [(path, reason)] = source.problems
    assert "not valid UTF-8" in reason
    path.encode()


def test_folder_with_archives_only_says_so(folder: Path) -> None:
    make_tar(folder / "x.tar", ["a.png"])
    source = open_source(folder)
    assert source.items() == []
    assert source.problems == [
        (str(folder), "holds no images but 1 .tar archives: name these instead")
    ]


def test_the_first_images_of_a_source(folder: Path) -> None:
    write(folder, "dog/1.jpg", "cat/1.jpg", "cat/2.jpg")
    source = open_source(folder)
    part = Head(source, 2)
    assert part.items() == source.items()[:2]
    assert (part.name, part.root, part.problems) == (source.name, source.root, source.problems)
    assert len(Head(source, 9).items()) == 3


def test_single_file_and_missing_ones(folder: Path) -> None:
    write(folder, "photo")
    source = open_source(folder / "photo")
    [item] = source.items()
    assert item.path == item.root == source.root == str(folder / "photo")
    assert item.read() == b"photo"
    (folder / "photo").unlink()
    with pytest.raises(ImageError, match=f"^{folder}/photo: no such file$"):
        item.read()
    with pytest.raises(SourceError, match="photo: no such file"):
        source.items()
    with pytest.raises(SourceError, match="photo: no such file or folder"):
        open_source(folder / "photo")


def test_places_that_cannot_be_looked_at(folder: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        open_source("a\0b")
    with pytest.raises(SourceError, match="cannot be read"):
        open_source("a" * 5000)
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source("~no_such_user_here/photos")


def test_huge_files_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "large.png")
    monkeypatch.setattr("wordsight.sources.base.MAX_FILE_BYTES", 5)
    [item] = open_source(folder).items()
    with pytest.raises(ImageError, match=r"large\.png: larger than"):
        item.read()


# Labels


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["dog", "cat"], ["dog", "cat"]),
        (["test/dog", "test/cat"], ["dog", "cat"]),
        (["test/dog", "train/dog", "test/cat"], ["dog", "dog", "cat"]),
        (["n01440764", "n01443537"], ["n01440764", "n01443537"]),
        (["BACKGROUND_Google", "car_side"], ["BACKGROUND_Google", "car_side"]),
        ([], []),
        ([""], []),
        (["dog"], []),  # one class says nothing
        (["test/dog", "train/dog"], []),
        (["", "dog", "cat"], []),  # images beside the class folders
        (["dog", "dog/puppies", "cat"], []),  # not only in leaves
        (["holiday/rome", "dog"], []),
        (["2020", "2021"], []),
        (["2021/05", "2021/06"], []),
        (["2021-05-01", "2021-05-02"], []),
        (["2021-05 Rome", "2021-06 Paris"], []),
        (["100CANON", "101CANON"], []),
        (["Rome", "Paris", "2019"], []),
    ],
)
def test_class_labels(folders: list[str], labels: list[str]) -> None:
    assert class_labels(folders) == dict(zip(folders, labels, strict=False))


def test_class_folders_label_their_images(folder: Path) -> None:
    write(folder, "test/dog/1.jpg", "test/dog/2.jpg", "test/cat/1.jpg", "test/readme.txt")
    labels = [item.label for item in open_source(folder).items()]
    assert labels == ["cat", "dog", "dog"]
    assert {item.label for item in open_source(folder / "test" / "dog").items()} == {None}


def test_photo_folders_give_no_labels(folder: Path) -> None:
    write(folder, "holiday/2021/1.jpg", "holiday/2022/1.jpg", "holiday/2022/2.jpg")
    assert {item.label for item in open_source(folder).items()} == {None}
    write(folder, "party/1.jpg", "family/grandma/1.jpg")
    assert {item.label for item in open_source(folder).items()} == {None}


# Tar archives

NAMES = ["test/dog/0.jpg", "test/cat/0.jpg", "test/dog/1.jpg"]
BLOCK = 512 + 2560  # bytes of one member: the header and 2300 bytes in whole blocks


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_lists_members_in_order_with_labels(folder: Path, form: int) -> None:
    long = [] if form == tarfile.USTAR_FORMAT else ["test/cat/" + "ü" * 150 + ".png"]
    file = make_tar(folder / "x.tar", [*NAMES, *long], format=form)
    source = open_source(file)
    items = source.items()
    assert [item.path for item in items] == [f"{file}::{name}" for name in NAMES + long]
    assert [item.label for item in items[:3]] == ["dog", "cat", "dog"]
    assert source.problems == []
    assert source.root == f"{file}::"
    for item, name in zip(items, NAMES + long, strict=True):
        assert item.read() == f"bytes of {name}".encode() * 100
        assert item.size == len(item.read())
        assert item.root == source.root
    assert len({item.id for item in items}) == len(items)
    assert open_source(str(file)).items() == items


def test_tar_members_that_are_no_images_are_passed_over(folder: Path) -> None:
    file = folder / "x.tar"
    with tarfile.open(file, "w") as archive:
        for name in ["./a.png", "b.txt", ".c.png", ".d/e.png", "__MACOSX/f.png", "./a.png"]:
            member = tarfile.TarInfo(name)
            member.size = len(archive.getmembers()) + 1
            archive.addfile(member, io.BytesIO(b"123456"))
        for kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"special{kind!r}.png")
            member.type, member.linkname = kind, "a.png"
            archive.addfile(member)
    [item] = open_source(file).items()
    assert item.path == f"{file}::a.png"
    assert item.read() == b"123456"  # of two with one name the later


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hard_links_in_a_tar_are_images(folder: Path, form: int) -> None:
    file = folder / "x.tar"
    long = "d" * 90 + "/" + "e" * 90 + ".png"
    with tarfile.open(file, "w", format=form) as archive:
        for name in ("./a.png", long):
            member = tarfile.TarInfo(name)
            member.size = 6
            archive.addfile(member, io.BytesIO(f"{name[-5]}23456".encode()))
        for name, target in (("b.png", "a.png"), ("c.png", long), ("d.png", "nowhere.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            if len(target) > 100 and form == tarfile.USTAR_FORMAT:
                continue  # that format has no room for it
            archive.addfile(member)
    source = open_source(file)
    read = {item.path.rpartition("::")[2]: item.read() for item in source.items()}
    assert read.pop(long) == b"e23456"
    assert read == {"a.png": b"a23456", "b.png": b"a23456"} | (
        {"c.png": b"e23456"} if form != tarfile.USTAR_FORMAT else {}
    )
    assert source.problems == [(f"{file}::d.png", "a link to nowhere.png: not there")]


def test_tar_items_tell_a_changed_archive(folder: Path) -> None:
    file = make_tar(folder / "x.tar", NAMES)
    os.utime(file, ns=(10**18, 10**18))
    before = open_source(file).items()
    assert open_source(file).items() == before
    os.utime(file, ns=(10**18, 10**18 + 1))
    touched = open_source(file).items()
    assert [item.id for item in touched] == [item.id for item in before]
    assert all(a.mtime_ns != b.mtime_ns for a, b in zip(before, touched, strict=True))
    # Another archive with the same time: members of the same size must not pass for unchanged.
    make_tar(file, NAMES + [f"more/{i}.jpg" for i in range(20)])
    os.utime(file, ns=(10**18, 10**18))
    assert not {(i.id, i.size, i.mtime_ns) for i in before} & {
        (i.id, i.size, i.mtime_ns) for i in open_source(file).items()
    }


def test_tar_is_read_by_many_threads(folder: Path) -> None:
    names = [f"{i}.png" for i in range(50)]
    items = open_source(make_tar(folder / "x.tar", names)).items()
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda item: item.read(), items * 20))
    assert contents == [f"bytes of {name}".encode() * 100 for name in names] * 20


# A name with a slash at its end is a folder's; versions of tarfile differ over files with one.
_name = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150
).filter(lambda name: not name.endswith("/"))
_kinds = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]


@given(
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    members=st.lists(st.tuples(_name, st.binary(max_size=1500), st.sampled_from(_kinds))),
)
def test_walking_a_tar_equals_the_standard_library(
    form: int, members: list[tuple[str, bytes, bytes]]
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = kind, name[::-1], 1.5
            member.size = len(data) if kind in tarfile.REGULAR_TYPES else 0
            archive.addfile(member, io.BytesIO(data))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        expected = [
            (m.name.removeprefix("./"), m.offset_data, m.size) for m in archive if m.isreg()
        ]
    # tarfile drops slashes at the end of names, which are of folders.
    found = [(m.name.rstrip("/"), m.offset, m.size) for m in walk(file) if not m.same_as]
    assert found == expected


@given(st.data())
def test_damaged_tars_list_something_or_raise_source_errors(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        form = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
        file = make_tar(Path(name) / "x.tar", [*NAMES, "ü" * 120 + ".png"], format=form)
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            # In one of the headers, with a checksum that fits: the deeper layers are meant.
            start = BLOCK * data.draw(st.integers(0, 3))
            content[start + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
            header = content[start : start + 512]
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
        file.write_bytes(content)
        refusal = "not a tar archive"
        try:
            items = open_source(file).items()
        except SourceError as error:
            items, refusal = [], str(error)
        assert "not a tar archive" in refusal
        assert all(len(item.read()) == item.size for item in items)


def test_gnu_sparse_members_are_reported(folder: Path) -> None:
    file = make_tar(folder / "x.tar", NAMES[:2])
    content = bytearray(file.read_bytes())
    content[156:157] = b"S"
    header = content[:148] + b" " * 8 + content[156:512]
    content[148:156] = b"%06o\0 " % sum(header)
    file.write_bytes(content)
    source = open_source(file)
    assert [item.path for item in source.items()] == [f"{file}::{NAMES[1]}"]
    assert source.problems == [(f"{file}::{NAMES[0]}", "stored as a sparse file: not supported")]


@given(keep=st.integers(1, 3 * BLOCK + 1023))
def test_cut_tar_gives_what_is_whole(keep: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        file = make_tar(folder / "x.tar", NAMES)
        data = file.read_bytes()
        ends = [512 + 2300 + i * BLOCK for i in range(3)]
        file.write_bytes(data[:keep])
        whole = sum(end <= keep for end in ends)
        source = open_source(file)
        if keep < 512:
            with pytest.raises(SourceError, match="not a tar archive"):
                source.items()
            return
        items = source.items()
        assert len(items) == whole
        for item, member in zip(items, NAMES, strict=False):
            assert item.read() == f"bytes of {member}".encode() * 100
        assert any("damaged or cut archive" in reason for _, reason in source.problems) == (
            keep < 3 * BLOCK + 512  # the end mark
        )


def test_damage_in_the_middle_of_a_tar_is_reported(folder: Path) -> None:
    file = make_tar(folder / "x.tar", NAMES)
    data = bytearray(file.read_bytes())
    data[BLOCK : BLOCK + 512] = b"\x55" * 512  # the second header
    file.write_bytes(data)
    source = open_source(file)
    assert [item.path for item in source.items()] == [f"{file}::{NAMES[0]}"]
    [(path, reason)] = source.problems
    assert path == str(file)
    assert "only 1 images could be listed" in reason


def test_tar_that_shrinks_after_listing(folder: Path) -> None:
    file = make_tar(folder / "x.tar", NAMES)
    items = open_source(file).items()
    os.truncate(file, 3000)
    with pytest.raises(ImageError, match=r"x\.tar::test/dog/1\.jpg: the archive ends before"):
        items[2].read()


def test_tar_that_is_replaced_or_removed_while_it_is_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_tar(folder / "x.tar", NAMES)
    source = open_source(file)
    before = source.items()

    def swap(archive: object) -> object:
        yield from walk(archive)  # type: ignore[arg-type]
        other.replace(file)

    other = make_tar(folder / "other.tar", NAMES[::-1])
    os.utime(other, ns=(5, 5))
    monkeypatch.setattr("wordsight.sources.tar.walk", swap)
    assert source.items() == before  # the next run must find that the archive is another one
    monkeypatch.undo()
    assert not {item.mtime_ns for item in source.items()} & {item.mtime_ns for item in before}

    def remove(archive: object) -> object:
        yield from walk(archive)  # type: ignore[arg-type]
        file.unlink()

    monkeypatch.setattr("wordsight.sources.tar.walk", remove)
    [item, *_] = source.items()
    with pytest.raises(ImageError, match="no such file"):
        item.read()


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, 1 << 70])
def test_tar_with_an_impossible_size_gives_what_comes_before(folder: Path, size: int) -> None:
    file = make_tar(folder / "x.tar", NAMES[:2], format=tarfile.GNU_FORMAT)
    data = bytearray(file.read_bytes())
    header = data[BLOCK : BLOCK + 512]
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[BLOCK : BLOCK + 512] = header
    file.write_bytes(data)
    source = open_source(file)
    assert [item.path for item in source.items()] == [f"{file}::{NAMES[0]}"]
    assert source.problems[0] == (f"{file}::{NAMES[1]}", "cut off: the archive ends before it")
    assert "only 1 images could be listed" in source.problems[1][1]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("x.tar.gz", gzip.compress), ("x.tgz", gzip.compress), ("x.tar", gzip.compress)],
)
def test_compressed_tar_says_how_to_unpack(folder: Path, name: str, pack: object) -> None:
    data = make_tar(folder / "plain", NAMES).read_bytes()
    (folder / name).write_bytes(pack(data))
    with pytest.raises(SourceError, match=f"unpack it first: gunzip .*{name}"):
        open_source(folder / name).items()


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 8])
def test_what_is_no_tar(folder: Path, data: bytes) -> None:
    (folder / "x.tar").write_bytes(data)
    with pytest.raises(SourceError, match=r"x\.tar: not a tar archive"):
        open_source(folder / "x.tar").items()


def test_tar_without_images(folder: Path) -> None:
    assert open_source(make_tar(folder / "x.tar", [])).items() == []
    assert open_source(make_tar(folder / "x.tar", ["a.txt"])).items() == []


# Reading again by the recorded path


def test_read_location(folder: Path) -> None:
    write(folder, "a.png", "odd::name.png")
    file = make_tar(folder / "x.tar", NAMES)
    for item in [*open_source(folder).items(), *open_source(file).items()]:
        assert read_location(item.path) == item.read()
    make_tar(file, NAMES[1:])  # a changed archive is listed again
    assert read_location(f"{file}::{NAMES[1]}") == f"bytes of {NAMES[1]}".encode() * 100
    with pytest.raises(ImageError, match=r"x\.tar::test/dog/0\.jpg: no longer in the archive"):
        read_location(f"{file}::{NAMES[0]}")
    file.write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"x\.tar::test/dog/0\.jpg: .*not a tar archive"):
        read_location(f"{file}::{NAMES[0]}")
    file.unlink()
    for gone in (f"{file}::{NAMES[0]}", str(folder / "b.png")):
        with pytest.raises(ImageError, match=f"^{gone}: no such file$"):
            read_location(gone)


def test_members_at_the_top_of_a_tar_are_listed_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i}.jpg" for i in range(20)]
    file = make_tar(folder / "x.tar", names)
    listed = []
    items = TarSource.items

    def counted(source: TarSource) -> list[Item]:
        listed.append(source)
        return items(source)

    monkeypatch.setattr(TarSource, "items", counted)
    for name in names:
        assert read_location(f"{file}::{name}") == f"bytes of {name}".encode() * 100
    assert len(listed) == 1


def test_read_location_of_an_archive_behind_a_link(folder: Path) -> None:
    (folder / "old").mkdir()
    file = make_tar(folder / "old" / "x.tar", NAMES)
    paths = [item.path for item in open_source(file).items()]
    (folder / "old").rename(folder / "new")
    (folder / "old").symlink_to(folder / "new")
    for path, name in zip(paths, NAMES, strict=True):
        assert read_location(path) == f"bytes of {name}".encode() * 100


def test_read_location_where_names_hold_the_mark_of_members(folder: Path) -> None:
    write(folder, "holi::days/a.png", "a::b.png", "c::d")
    file = make_tar(folder / "holi::days" / "x.tar", [*NAMES, "e::f.png"])
    items = [*open_source(folder).items(), *open_source(file).items()]
    assert len(items) == 6
    for item in items:
        assert read_location(item.path) == item.read()
    assert {archive_of(item.path) for item in items[:2]} == {None}
    assert {archive_of(item.path) for item in items[2:]} == {str(file)}
    file.unlink()
    with pytest.raises(ImageError, match="no such file"):
        read_location(items[-1].path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_location("a\0b")


def test_damaged_cifar10_archives_are_source_errors(folder: Path) -> None:
    file = folder / "cifar-10-binary.tar.gz"
    rows = bytes(random.Random(0).choices(range(10), k=3073 * 200))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = len(rows)
        archive.addfile(member, io.BytesIO(rows))
    whole = gzip.compress(tar.getvalue(), mtime=0)
    refused = 0
    for place in range(2000, len(whole), len(whole) // 40):
        file.write_bytes(whole[:place] + b"\xff" * 64 + whole[place + 64 :])
        try:
            open_archive(file, "test").items()
        except SourceError:
            refused += 1
    assert refused
    source = open_archive(file, "test")
    file.unlink()
    with pytest.raises(SourceError, match=r"cifar-10-binary\.tar\.gz: no such file$"):
        source.items()


# COCO annotations

IMAGES = [
    {"id": 7, "file_name": "7.jpg", "width": 100, "height": 50, "coco_split": "val2017"},
    {"id": 3, "file_name": "3.jpg", "width": 10, "height": 10},
    {"id": 5, "file_name": "5.jpg", "width": 10, "height": 10},
]
CAPTIONS = {
    "images": IMAGES,
    "annotations": [
        {"id": 1, "image_id": 7, "caption": " A dog \n runs. "},
        {"id": 2, "image_id": 3, "caption": "A cat."},
        {"id": 3, "image_id": 7, "caption": "A running dog."},
    ],
}
INSTANCES = {
    "images": IMAGES[:2],
    "categories": [{"id": 18, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 10], "area": 150},
        {"id": 2, "image_id": 7, "category_id": 18, "bbox": [0, 0, 100, 50], "iscrowd": 1},
    ],
}


def coco_file(folder: Path, name: str, data: object) -> Path:
    file = folder / name
    file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return file


def test_coco_captions_and_objects(folder: Path) -> None:
    captions = coco_file(folder, "captions.json", CAPTIONS)
    instances = coco_file(folder, "instances.json", INSTANCES)
    dog = CocoImage(
        id=7,
        file_name="7.jpg",
        width=100,
        height=50,
        split="val2017",
        captions=("A dog runs.", "A running dog."),
        objects=(
            CocoObject("dog", (10, 20, 40, 30), 0.03),
            CocoObject("dog", (0, 0, 100, 50), 1.0, crowd=True),
        ),
    )
    looked_at = CocoImage(3, "3.jpg", 10, 10, captions=("A cat.",), objects=())
    unknown = CocoImage(5, "5.jpg", 10, 10)
    assert read_coco(captions, instances) == [looked_at, unknown, dog]
    assert [image.objects for image in read_coco(captions)] == [None] * 3
    assert [image.captions for image in read_coco(instances=instances)] == [(), ()]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("{", "not a COCO"),
        ("[]", "not a COCO"),
        ({"images": []}, "KeyError: 'annotations'"),
        ({"images": IMAGES, "annotations": [{"image_id": 99, "caption": "x"}]}, "image 99"),
        ({"images": [{**IMAGES[0], "width": 0}], "annotations": []}, "no size"),
    ],
)
def test_coco_files_that_make_no_sense(folder: Path, data: object, why: str) -> None:
    file = coco_file(folder, "captions.json", data)
    with pytest.raises(SourceError, match=why) as caught:
        read_coco(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_coco_without_files(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.json: no such file"):
        read_coco(folder / "gone.json")
    with pytest.raises(SourceError, match="no COCO file given"):
        read_coco()


# Real packs


@pytest.fixture
def data() -> Path:
    place = os.environ.get("WORDSIGHT_DATA")
    if not place:
        pytest.skip("WORDSIGHT_DATA is not set to the folder of the data packs")
    return Path(place)


def test_real_caltech101(data: Path) -> None:
    source = open_source(data / "caltech101" / "images.tar")
    items = source.items()
    assert len(items) == 8124
    assert len({item.label for item in items}) == 102
    assert source.problems == []


def test_real_coco(data: Path) -> None:
    from wordsight.images import open_image

    pack = data / "coco-captions"
    images = read_coco(pack / "captions.json", pack / "instances.json")
    assert len(images) == 411
    assert sum(len(image.captions) for image in images) == 2056
    assert sum(image.objects is not None for image in images) == 333
    assert sum(len(image.objects or ()) for image in images) == 2803
    assert {image.split for image in images} == {"train2017", "val2017"}
    items = {
        item.path.rpartition("::")[2]: item for item in open_source(pack / "images.tar").items()
    }
    assert {item.label for item in items.values()} == {None}
    assert items.keys() == {image.file_name for image in images}
    first = images[0]
    assert open_image(items[first.file_name].read()).size == (first.width, first.height)
