"""What is done with hits on the command line: filters, paths, CSV, copies, links, exit codes."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image
from test_cli import Cli, run  # noqa: F401  (a fixture)
from test_metadata import exif

import wordsight
from wordsight import render
from wordsight.cli.console import linked

Photos = Callable[..., Path]


@pytest.fixture
def folder(run: Cli, photos: Photos) -> Path:  # noqa: F811
    """An indexed folder: twelve of each of two colours, and one photograph."""
    root = photos(red=12, blue=12)
    Image.new("RGB", (32, 24), ANCHORS["red"]).save(root / "a trip.jpg", exif=exif().tobytes())
    assert run("index", root).code == 0
    os.chdir(root)
    return root


def names(out: str) -> list[str]:
    return [Path(line).name for line in out.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--after", "2023-07"], ["a trip.jpg"]),
        (["--before", "2023-07"], None),
        (["--near", "48.1,11.6,10km"], ["a trip.jpg"]),
        (["--in", ".", "--after", "2023", "--where", "camera like 'Pixel%'"], ["a trip.jpg"]),
        (["--where", "path like '%red-1.png'"], ["red-1.png"]),
        (["--in", "elsewhere"], None),
        (["--label", "nothing"], None),
    ],
)
def test_filters(run: Cli, folder: Path, options: list[str], expected: list[str] | None) -> None:  # noqa: F811
    answer = run("search", "red", "--paths", "--anyway", *options)
    if expected is None:
        assert (answer.code, answer.out) == (2, "")
        assert "no image in the library" in answer.err
    else:
        assert (answer.code, names(answer.out)) == (0, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--where", "taken >"], "the filter cannot be read: taken >"),
        (["--where", "taken >="], "(sql parser error: Expected: an expression, found: its end). W"),
        (["--where", "camra = 'x'"], "Did you mean 'camera'?). Write it like: taken >= '2023-07'"),
        (["--where", "date > '2023'"], "No field named date"),
        (["--after", "July"], "cannot read the date 'July'"),
        (["--near", "Munich"], "cannot read the place 'Munich'"),
        (["--in", ""], "--in is empty"),
        (["--paths", "--json"], "choose one: --json, --paths (or -0), --csv, --compare"),
        (["--csv", "-0"], "choose one"),
        (["a b.csv", "--csv"], "write: wordsight search red --csv > 'a b.csv'"),
        (["--copy-to", "red-1.png"], "red-1.png cannot be written"),
    ],
)
def test_mistakes_are_one_line(run: Cli, folder: Path, options: list[str], said: str) -> None:  # noqa: F811
    answer = run("search", "red", *options)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_paths_for_pipes(run: Cli, folder: Path) -> None:  # noqa: F811
    found = run("search", "red", "-k", "13", "--paths")
    paths = found.out.splitlines()
    assert (len(paths), found.err) == (13, "")
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in paths)
    ended = run("search", "red", "-k", "13", "-0").out
    assert ended == "".join(f"{path}\0" for path in paths)
    relative = run("search", "red", "-k", "13", "--paths", "--relative").out.splitlines()
    assert relative == [Path(path).name for path in paths]
    sizes = subprocess.run(
        ["xargs", "-0", "ls", "-1"], input=ended, text=True, capture_output=True, check=True
    )
    assert sorted(sizes.stdout.splitlines()) == sorted(paths)
    shown = run("search", "red", "--relative", "--json").json["hits"]
    assert shown[0]["path"] in relative


def test_no_match_is_said_beside_the_output(run: Cli, folder: Path) -> None:  # noqa: F811
    for form in ("--paths", "-0"):
        answer = run("search", "a phrase about nothing in it", form)
        assert (answer.code, answer.out) == (0, "")
        assert "no match" in answer.err
    table = run("search", "a phrase about nothing in it", "--csv").out
    assert len(table.splitlines()) == 1


def test_exit_codes_are_those_of_grep(run: Cli, folder: Path) -> None:  # noqa: F811
    assert run("search", "red", "--exit-code").code == 0
    for more in ([], ["--json"], ["--paths", "--anyway"]):
        assert run("search", "a phrase about nothing in it", "--exit-code", *more).code == 1
    assert run("search", "red", "--exit-code", "--where", "oops").code == 2
    asked = run("search", "--exit-code", stdin="red\n")
    assert (asked.code, "need a query" in asked.err) == (2, True)


def test_csv(run: Cli, folder: Path) -> None:  # noqa: F811
    answer = run("search", "red", "-k", "30", "--csv", "--anyway", "--sort", "taken")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert len(rows) == 25
    assert rows[0]["path"] == str(folder / "a trip.jpg")
    assert rows[0]["taken"] == "2023-07-14T18:03:22+02:00"
    assert rows[0]["camera"] == "Pixel 7"
    assert float(rows[0]["latitude"]) == pytest.approx(48.1375)
    assert {row["orientation"] for row in rows} == {"landscape"}
    assert sorted(int(row["rank"]) for row in rows) == list(range(1, 26))


def test_copies_are_numbered_and_overwrite_nothing(run: Cli, folder: Path) -> None:  # noqa: F811
    paths = run("search", "red", "-k", "3", "--paths").out.splitlines()
    for start in (1, 4):
        answer = run("search", "red", "-k", "3", "--paths", "--copy-to", "out/found")
        assert answer.err == "3 images copied to out/found\n"
        assert answer.out.splitlines() == paths
        for number, path in enumerate(paths, start):
            copy = Path(f"out/found/{number:03}-{Path(path).name}")
            assert copy.read_bytes() == Path(path).read_bytes()
            assert copy.stat().st_mtime == pytest.approx(Path(path).stat().st_mtime)
    assert len(list(Path("out/found").iterdir())) == 6
    nothing = run("search", "a phrase about nothing in it", "--copy-to", "none")
    assert "nothing was put into none" in nothing.err
    assert not Path("none").exists()


def test_a_member_of_an_archive_is_a_query(run: Cli, tmp_path: Path, photos: Photos) -> None:  # noqa: F811
    """By the path that results print, also from the folder that it is relative to."""
    root = photos(red=2)
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(root / "red-0.png", "deep/red.png")
    run("index", "some.tar", root, "--library", "lib")
    for query in ("some.tar::deep/red.png", f"{tmp_path}/some.tar::deep/red.png"):
        for written in (query, f'@"{query}"'):
            answer = run("search", written, "--library", "lib", "--paths")
            assert answer.code == 0
            assert {"red-0.png", "red-1.png"} <= {Path(p).name for p in answer.out.splitlines()}
    gone = run("search", '@"some.tar::no.png"', "--library", "lib")
    assert (gone.code, "no longer in the archive" in gone.err) == (2, True)


def test_copies_of_odd_names(run: Cli, folder: Path) -> None:  # noqa: F811
    long = "é" * 125 + ".png"  # 254 bytes, as long as names may be
    shutil.copy("red-0.png", long)
    shutil.copy("red-0.png", "a ::t=1.png")
    run("index", ".")
    answer = run("search", "red", "-k", "40", "--copy-to", "out")
    assert "left out" not in answer.err
    copies = [path.name for path in Path("out").iterdir()]
    assert len([name for name in copies if name.endswith("éééé.png")]) == 1
    assert len([name for name in copies if name.endswith("-a ::t=1.png")]) == 1


@pytest.mark.parametrize(
    "option",
    [["--where", "x"], ["--paths"], ["-0"], ["--csv"], ["--grid", "g.png"], ["--copy-to", "c"]],
)
def test_moments_refuse_what_they_have_not(run: Cli, folder: Path, option: list[str]) -> None:  # noqa: F811
    answer = run("search", "red", "--moments", *option)
    assert (answer.code, answer.out) == (2, "")
    assert "cannot be combined with --moments" in answer.err
    assert not Path("c").exists()
    picture = run("search", "red-0.png", "--moments")
    assert (picture.code, "is a file, and --moments finds words alone" in picture.err) == (2, True)


def test_a_home_that_the_shell_left_alone(
    run: Cli,  # noqa: F811
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert run("search", "red", "--grid=~/hits.png").code == 0
    assert (tmp_path / "hits.png").is_file()
    assert not Path("~").exists()


def test_links(run: Cli, folder: Path) -> None:  # noqa: F811
    paths = run("search", "red", "-k", "3", "--paths").out.splitlines()
    run("search", "red", "-k", "3", "--relative", "--link-to", "links")
    links = sorted(Path("links").iterdir())
    assert [str(link.resolve()) for link in links] == paths
    assert all(link.is_symlink() for link in links)


def test_images_in_archives_and_images_that_are_gone(
    run: Cli,  # noqa: F811
    photos: Photos,
    tmp_path: Path,
) -> None:
    root = photos(red=2)
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(root / "red-0.png", "deep/red-0.png")
    run("index", tmp_path / "shard.tar", root / "red-1.png", "--library", "lib")
    (root / "red-1.png").unlink()
    search = ("search", "red", "--anyway", "--library", "lib")
    answer = run(*search, "--copy-to", "out")
    assert [path.name for path in Path("out").iterdir()] == ["001-red-0.png"]
    assert Path("out/001-red-0.png").read_bytes() == (root / "red-0.png").read_bytes()
    assert "red-1.png: " in answer.err
    linked = run(*search, "--link-to", "links")
    assert "inside an archive or a video, so it cannot be linked; use --copy-to" in linked.err
    assert "0 images linked" in linked.err
    inside = run(*search, "--in", "shard.tar", "--paths", "--relative").out
    assert inside == "shard.tar::deep/red-0.png\n"


def test_an_older_library_says_what_it_gained(run: Cli, folder: Path) -> None:  # noqa: F811
    from wordsight.library import Store
    from wordsight.library.table import METADATA

    Store.open(folder).dataset.drop_columns(list(METADATA))
    answer = run("search", "red", "--after", "2023")
    assert "wordsight index FOLDER adds it, without" in answer.err
    answer = run("index", folder)
    assert "25 of them now with metadata" in answer.out
    assert "Nothing to do" in run("index", folder).out
    assert names(run("search", "red", "--after", "2023", "--paths", "--anyway").out) == [
        "a trip.jpg"
    ]


def test_open(run: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    answer = run("search", "red", "--paths", "--open", 2)
    assert opened == [answer.out.splitlines()[1]]
    refused = run("search", "red", "-k", 3, "--open", 9)
    assert (refused.code, len(opened)) == (2, 1)
    assert "there is no result 9: 3 results." in refused.err
    monkeypatch.setattr("typer.launch", lambda _path: 1)
    refused = run("search", "red", "--open", 1)
    assert refused.code == 2
    assert "no viewer could be started for /" in refused.err
    assert (
        'no match for "the quiet of the evening": nothing'
        in run("search", "the quiet of the evening", "--csv").err
    )


def test_names_that_repeat_get_their_folder(run: Cli, photos: Photos, tmp_path: Path) -> None:  # noqa: F811
    """In the captions of a grid."""
    library = wordsight.create(tmp_path / "lib", ColourModel())  # type: ignore[arg-type]
    library.index(photos(red=2))
    library.index(photos("other", red=3))
    drawn: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            render, "grid", lambda tiles, **_: drawn.append([t.caption[1] for t in tiles])
        )
        library.grid(library.search("red", k=5, anyway=True))
    assert sorted(drawn[0]) == [
        "other/red-0.png", "other/red-1.png", "photos/red-0.png", "photos/red-1.png", "red-2.png"
    ]  # fmt: skip


@pytest.mark.parametrize(("terminal", "links"), [("xterm-256color", True), ("linux", False)])
def test_paths_lead_to_their_files_where_the_terminal_can(
    monkeypatch: pytest.MonkeyPatch, terminal: str, links: bool
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.delenv("WT_SESSION", raising=False)
    path = str(Path("/photos/a trip.tar::1.jpg"))
    assert linked("1.jpg", path) == "1.jpg"  # not on a terminal
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    address = Path("/photos/a trip.tar").absolute().as_uri()
    expected = f"\x1b]8;;{address}\x1b\\1.jpg\x1b]8;;\x1b\\"
    assert linked("1.jpg", path) == (expected if links else "1.jpg")


PIPES = {
    "fzf": ("--paths", "fzf --filter trip", "a trip.jpg"),
    "exiftool": ("-0", "xargs -0 exiftool -s3 -DateTimeOriginal", "2023:07:14"),
    "mogrify": (  # of ImageMagick
        "-0",
        "mkdir small; xargs -0 mogrify -path small -resize 16x16; ls small",
        "a trip.jpg",
    ),
}


@pytest.mark.parametrize("program", PIPES)
def test_pipes_into_other_programs(run: Cli, folder: Path, program: str) -> None:  # noqa: F811
    """As docs/how-to/filters.md shows them; a name with a space goes through each."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    option, command, expected = PIPES[program]
    paths = run("search", "red", option, "--anyway", "--after", "2023-07").out
    done = subprocess.run(
        command, shell=True, cwd=folder, input=paths, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
