"""Near-duplicates: what is grouped, what is not, and that nothing happens to the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from test_cli import Cli, run  # noqa: F401  (a fixture)

import wordsight
from wordsight.duplicates import read_prints
from wordsight.duplicates.candidates import pairs_in
from wordsight.duplicates.likeness import Details, likeness, print_of
from wordsight.duplicates.statistics import LIKENESS, Tail, standing_out
from wordsight.errors import QueryError


def scene(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A picture of a hundred shapes that are nowhere else."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(60, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(100):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(10, 90, 2)
        draw.ellipse((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    return image.filter(ImageFilter.GaussianBlur(1))


def alike(one: Image.Image, other: Image.Image) -> float:
    return likeness(Details(print_of(one)), Details(print_of(other)))


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((40, 10, 420, 330))


def turned(image: Image.Image) -> Image.Image:
    return image.rotate(2, Image.Resampling.BICUBIC).crop((20, 20, 460, 340))


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: 0.7 * value + 60)


@pytest.mark.parametrize("change", [smaller, cropped, turned, brighter])
def test_a_changed_copy_is_alike(change: Callable[[Image.Image], Image.Image]) -> None:
    assert alike(scene(1), change(scene(1))) > 0.9


def test_other_pictures_are_not() -> None:
    assert alike(scene(1), scene(2)) < 0.5
    blank = Image.new("RGB", (480, 360), "white")
    assert alike(scene(1), blank) == 0
    assert alike(blank, blank) == 0  # there is nothing to see that would make them one


def test_the_cut_off_follows_the_librarys_own_pairs() -> None:
    rng = np.random.default_rng(0)
    calm = np.tanh(0.2 + rng.exponential(0.04, 20_000))
    lively = np.tanh(0.2 + rng.exponential(0.08, 20_000))
    copies = np.full(2000, 0.97)
    low, high = (Tail.of(LIKENESS, np.append(some, copies)).cut_off(2) for some in (calm, lively))
    assert low < high
    # Of different pictures as many reach it as were expected, give or take chance.
    assert (lively >= high).sum() <= 8
    assert Tail.of(LIKENESS, lively).cut_off(200) < high
    assert Tail.of(LIKENESS, lively).expected(high) == pytest.approx(2)


def test_where_no_cut_off_holds_the_rate_the_result_says_what_to_expect() -> None:
    """As in a catalogue: one in a hundred pairs of different pictures is above any cut-off."""
    rng = np.random.default_rng(0)
    catalogue = np.tanh(0.4 + rng.exponential(0.25, 20_000))
    tail = Tail.of(LIKENESS, catalogue)
    cut_off = tail.cut_off(0.1)
    seen = (catalogue >= cut_off).sum()
    assert seen > 100
    assert tail.expected(cut_off) == pytest.approx(seen, rel=0.5)


def test_a_pair_stands_out_from_the_neighbours_of_both_its_pictures() -> None:
    """0 and 1 are a copy; 2 is in a catalogue of things as alike to it as 3 is."""
    pairs = np.array(
        [[0, 1], [0, 4], [0, 5], [1, 4], [1, 5], [2, 3], [2, 6], [2, 7], [3, 8], [3, 9]]
    )
    alike = np.array([0.92, 0.2, 0.2, 0.2, 0.2, 0.92, 0.8, 0.8, 0.2, 0.2])
    copy, catalogue = standing_out(pairs, alike)[[0, 5]]
    assert copy == pytest.approx(np.tanh(np.arctanh(0.92) - np.arctanh(0.2)))
    assert catalogue == pytest.approx(np.tanh(np.arctanh(0.92) - np.arctanh(0.8)))
    assert catalogue < 0.5 < copy
    # Copies of a picture are none of its background, nor does one neighbour make one.
    several = standing_out(np.array([[0, 1], [0, 2], [0, 3], [1, 2]]), np.full(4, 0.9))
    assert (several > 0.8).all()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six pictures; of the first a small copy, a crop and an equal file, of the second a copy."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(6):
        scene(number).save(folder / f"{number}.jpg", quality=92)
    smaller(scene(0)).save(folder / "0 small.jpg")
    cropped(scene(0)).save(folder / "0 crop.jpg")
    (folder / "0 again.jpg").write_bytes((folder / "0.jpg").read_bytes())
    scene(1).save(folder / "1 copy.jpg", quality=40)
    return folder


GROUPS = [{"0.jpg", "0 small.jpg", "0 crop.jpg", "0 again.jpg"}, {"1.jpg", "1 copy.jpg"}]


def test_groups(album: Path, tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "library", model)
    library.index(album)
    before = {path.name: path.read_bytes() for path in album.iterdir()}
    found = library.duplicates()
    assert [{Path(copy.path).name for copy in g.images} for g in found.groups] == GROUPS
    assert [Path(g.keep.path).name for g in found.groups] in (
        ["0.jpg", "1.jpg"],
        ["0 again.jpg", "1.jpg"],  # the same bytes
    )
    assert found.groups[1].likeness > 0.9
    blurred = scene(1).filter(ImageFilter.GaussianBlur(4))
    blurred.save(album / "1 blurred.png")  # a larger file
    library.index(album)
    assert Path(library.duplicates().groups[1].keep.path).name == "1.jpg"
    assert {name: (album / name).read_bytes() for name in before} == before
    # What was read is kept; images that are gone meanwhile are left out, new ones are added.
    (album / "2.jpg").rename(album / "2 moved.jpg")
    assert library.duplicates().skipped == [(str(album / "2.jpg"), "no such file")]
    scene(1).resize((240, 180)).save(album / "1 small.jpg")
    library.index(album)
    assert len(library.duplicates().groups[1].images) == 4


def test_a_damaged_file_of_prints_is_made_anew(
    album: Path, tmp_path: Path, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "library", model)
    library.index(album)
    first = library.duplicates().to_json()
    kept = tmp_path / "library/prints.sqlite"
    whole = kept.read_bytes()
    for damaged in (b"nothing", whole[:20_000], whole[:40_000] + b"\0" * 900 + whole[40_900:], b""):
        kept.write_bytes(damaged)
        assert library.duplicates().to_json() == first
        assert kept.read_bytes() == whole
    kept.unlink()
    kept.mkdir()  # as where nothing can be written
    assert library.duplicates().to_json() == first


def test_a_library_that_is_too_large_for_memory_has_the_same_duplicates(
    album: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "library", model)
    library.index(album)
    found = library.duplicates().to_json()
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", "0.0001")  # room for a few images
    opened = wordsight.open(tmp_path / "library", model)
    assert opened.duplicates().to_json() == found
    assert not opened.store.in_memory


@pytest.mark.parametrize("room", [1024, 0.01, 0.0001])
def test_the_nearest_images_are_found_a_part_at_a_time(
    room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", str(room))
    vectors = np.random.default_rng(0).normal(size=(203, 16)).astype(np.float32)
    numbers = np.random.default_rng(1).permutation(203)
    times = 0

    def space() -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        nonlocal times
        times += 1
        for begin, end in ((0, 90), (90, 90), (90, 100), (100, 203)):
            yield numbers[begin:end], vectors[begin:end]

    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :5]
    wanted = {
        tuple(sorted((int(numbers[row]), int(numbers[other]))))
        for row, others in enumerate(nearest)
        for other in others
    }
    assert {tuple(pair) for pair in pairs_in(space).tolist()} == wanted
    assert times == {1024: 3, 0.01: 2 * 2 + 1, 0.0001: 2 * 203 + 1}[room]


def test_an_interrupted_run_keeps_what_it_has_read(
    album: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wordsight.duplicates.prints._AT_ONCE", 3)
    library = wordsight.create(tmp_path / "library", model)
    library.index(album)
    todo = []

    def interrupt(done: int, total: int) -> None:
        todo.append(total)
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_prints(library.store, progress=interrupt)
    read_prints(library.store, progress=interrupt)
    assert (todo[0], todo[-1]) == (9, 3)  # two of the ten files are equal


def test_few_images_and_unreadable_ones(tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "library", model)
    assert library.duplicates().groups == []
    folder = tmp_path / "one"
    folder.mkdir()
    scene(1).save(folder / "1.jpg")
    scene(2).save(folder / "2.jpg")
    library.index(folder)
    (folder / "1.jpg").unlink()
    found = library.duplicates()
    assert (found.groups, [Path(p).name for p, _ in found.skipped]) == ([], ["1.jpg"])
    with pytest.raises(QueryError, match="between 0 and 1"):
        library.duplicates(false_merge=2)


def test_on_the_command_line(run: Cli, album: Path) -> None:  # noqa: F811
    run("index", album)
    said = run("duplicates", "--library", album)
    assert said.code == 0
    assert "note:" not in said.err
    assert said.out.count("  * ") == 2
    assert "2 groups in 10 images; 4 images beside the best ones (*)." in said.out
    found = json.loads(run("duplicates", "--library", album, "--json").out)
    names = [{Path(i["path"]).name for i in group["images"]} for group in found["groups"]]
    assert names == GROUPS
    assert found["groups"][0]["keep"] == found["groups"][0]["images"][0]["id"]
    extra = run("duplicates", "--library", album, "--extra", "-0").out.split("\0")
    assert len(extra) == 5
    assert run("duplicates", "--library", album, "--false-merge", "0").code == 2
    assert run("duplicates", "--library", album, "--json", "--extra").code == 2


def test_a_copy_that_is_gone_is_no_copy(run: Cli, tmp_path: Path) -> None:  # noqa: F811
    """Who acts on --extra would lose the last one."""
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        scene(1).save(folder / name)
    run("index", folder)
    assert len(run("duplicates", "--library", folder, "--extra").out.splitlines()) == 1
    (folder / "1.jpg").unlink()
    said = run("duplicates", "--library", folder, "--extra")
    assert (said.code, said.out) == (0, "")
    assert "1.jpg: no such file" in said.err


def test_without_any_the_command_line_says_so(run: Cli, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "two").mkdir()
    for n in (1, 2):
        scene(n).save(tmp_path / f"two/{n}.jpg")
    run("index", tmp_path / "two")
    said = run("duplicates", "--library", tmp_path / "two")
    assert (said.code, said.out) == (0, "No duplicates in 2 images.\n")
