"""Another model for a library: all images embedded again, and what a crash may leave of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from fake_models import make_clip
from fakes import ColourModel
from PIL import Image

import wordsight
from wordsight import models
from wordsight.cli import main
from wordsight.errors import LibraryChangedError, LibraryError, ModelError
from wordsight.indexing import pipeline
from wordsight.library import Store, find, swap
from wordsight.models import registry

Photos = Callable[..., Path]


class Other(ColourModel):
    """A model of another space: to vectors of the first it says the opposite."""

    name = source = "others"

    def __init__(self, hash: str = "0therothe20ther0") -> None:
        super().__init__(hash)

    def encode_pixels(self, pixels: list[np.ndarray]) -> np.ndarray:
        return -super().encode_pixels(pixels)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return -super().encode_texts(texts)


@pytest.fixture(autouse=True)
def _known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {model.source: model for model in (ColourModel, Other)}
    load = models.load_model
    monkeypatch.setattr(
        models, "load_model", lambda name, **rest: made.get(name, lambda: load(name, **rest))()
    )


@pytest.fixture
def library(tmp_path: Path, photos: Photos, model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)
    made.index(photos(red=4, blue=3))
    return made


def beside(library: wordsight.Library) -> set[str]:
    """What is in the library's folder that is hidden."""
    return {path.name for path in library.path.parent.iterdir() if path.name.startswith(".")}


def facts(library: wordsight.Library) -> list[tuple[object, ...]]:
    return sorted(
        (e.id, e.path, e.root, e.size, e.mtime_ns, e.hash, e.crops, e.label)
        for e in library.store.entries()
    )


def reds(library: wordsight.Library) -> list[str]:
    found = library.search("red", k=4)
    assert found.match
    return [Path(hit.path).name[:3] for hit in found.hits]


def test_everything_but_the_vectors_stays(tmp_path: Path, model: ColourModel) -> None:
    rng = np.random.default_rng(0)
    for name in ("cats/a.png", "cats/b.png", "dogs/c.png", "dogs/thumbs/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (300, 400, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos/dogs/bad.png").write_bytes(b"no image")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(tmp_path / "photos", crops="tiles", exclude=["thumbs/"])
    store, before = library.store, facts(library)
    settings = (store.crops, store.exclude, store.skipped(), store.devices, store.count_views())
    identity, (ids, vectors) = store.record["id"], library.vectors()
    assert {entry[-1] for entry in before} == {"cats", "dogs"}

    report = library.remodel(Other())
    assert report is not None
    assert (report.indexed, report.images, report.removed, report.failed) == (3, 3, 0, [])
    assert facts(library) == before
    now = (store.crops, store.exclude, store.skipped(), store.devices, store.count_views())
    assert now == settings
    assert store.record["id"] != identity
    assert (store.model.name, library.model.name) == ("others", "others")
    again, negated = library.vectors()
    assert again == ids
    np.testing.assert_allclose(negated, -vectors, atol=1e-3)
    assert beside(library) == set()
    assert library.index(tmp_path / "photos").unchanged == 3  # with the same choices


def test_of_this_model_already(library: wordsight.Library) -> None:
    model = ColourModel()
    identity = library.store.record["id"]
    assert library.remodel(model) is None
    assert model.encoded_images == 0
    assert library.store.record["id"] == identity


def test_an_empty_library(tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    report = library.remodel(Other())
    assert report is not None
    assert (report.images, library.store.model.name, len(library)) == (0, "others", 0)


class Stopped(BaseException):
    """The process is killed here."""


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BATCH", 1)
    monkeypatch.setattr(pipeline, "WRITE_EVERY", 1)


def stop_after(count: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == count:
            raise Stopped

    return progress


@pytest.mark.usefixtures("one_by_one")
def test_it_goes_on_where_it_was_cut_and_searches_go_on_meanwhile(
    library: wordsight.Library,
) -> None:
    reader = wordsight.open(library.path)

    def look(done: int, total: int) -> None:
        assert reds(reader) == ["red"] * 4
        assert reader.store.model.name == "colours"
        if done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        library.remodel(Other(), progress=look)
    assert reds(library) == ["red"] * 4
    assert beside(library) == {".lib.remodel"}
    model = Other()
    report = library.remodel(model)
    assert report is not None
    assert (report.indexed, report.unchanged, model.encoded_images) == (3, 4, 3)
    assert reds(library) == ["red"] * 4
    assert beside(library) == set()


@pytest.mark.usefixtures("one_by_one")
def test_another_model_begins_anew_and_the_own_one_gives_it_up(library: wordsight.Library) -> None:
    with pytest.raises(Stopped):
        library.remodel(Other("1" * 16), progress=stop_after(4))
    model = Other("2" * 16)
    with pytest.raises(Stopped):
        library.remodel(model, progress=stop_after(2))
    assert model.encoded_images == 2
    assert library.remodel(ColourModel()) is None
    assert beside(library) == set()


@pytest.mark.usefixtures("one_by_one")
def test_what_the_library_became_meanwhile_counts(
    library: wordsight.Library, photos: Photos, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        library.remodel(Other(), progress=stop_after(6))
    (tmp_path / "photos" / "blue-0.png").unlink()
    (tmp_path / "photos" / "red-0.png").write_bytes(
        (tmp_path / "photos" / "blue-1.png").read_bytes()
    )
    library.index(photos("more", green=1))
    library.index(tmp_path / "photos", prune=True)
    before = facts(library)
    assert library.remodel(Other()) is not None
    assert facts(library) == before
    assert len(reds(library)) == 4


OPENERS: dict[str, Callable[[Path], Path]] = {
    "open": lambda place: wordsight.open(place).path,
    "find": lambda place: find(place.parent / "photos"),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_killed_at_any_step_of_the_swap(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch, opener: str
) -> None:
    folder = photos(red=4, blue=3)
    wordsight.create(tmp_path / "made", ColourModel()).index(folder)
    real = {"rename": Path.rename, "unlink": Path.unlink, "rmtree": shutil.rmtree}
    steps, seen = 0, set()
    while True:
        place = tmp_path / f"run-{steps}" / ".wordsight"
        shutil.copytree(tmp_path / "made", place)
        (place.parent / "photos").mkdir()
        library = wordsight.open(place)
        left = steps

        def dying(do: Callable[..., object]) -> Callable[..., object]:
            def step(*arguments: object, **options: object) -> object:
                nonlocal left
                if not left:
                    raise Stopped
                left -= 1
                return do(*arguments, **options)

            return step

        def dying_swap(path: Path) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(Path, "rename", dying(real["rename"]))
                patch.setattr(Path, "unlink", dying(real["unlink"]))
                patch.setattr(shutil, "rmtree", dying(real["rmtree"]))
                swap.swap(path)

        monkeypatch.setattr("wordsight.library.store.swap", dying_swap)
        try:
            library.remodel(Other())
            finished = True
        except Stopped:
            finished = False
        monkeypatch.setattr("wordsight.library.store.swap", swap.swap)
        hidden = {path.name for path in place.parent.iterdir()} - {"photos"}
        seen.add(tuple(sorted(hidden)))

        assert OPENERS[opener](place) == place
        again = wordsight.open(place)
        assert again.store.model.name == ("colours" if steps == 0 else "others")
        assert reds(again) == ["red"] * 4
        with pytest.raises(LibraryError, match="already holds a library"):
            wordsight.create(place, ColourModel())
        again.remodel(Other())
        again.index(folder)  # deletes what is left
        assert again.store.model.name == "others"
        assert {path.name for path in place.parent.iterdir()} == {".wordsight", "photos"}
        assert reds(again) == ["red"] * 4
        if finished:
            break
        steps += 1
    assert steps >= 6
    assert seen == {
        (".wordsight",),
        (".wordsight", ".wordsight.remodel"),  # before the first rename
        (".wordsight.remodel", ".wordsight.replaced"),  # before the second
        (".wordsight", ".wordsight.replaced"),  # as the old one is deleted
    }


def test_what_is_not_ours_is_not_taken_for_a_cut_swap(library: wordsight.Library) -> None:
    aside = library.path.with_name(".lib.replaced")
    shutil.copytree(library.path, aside)  # of another library, for all that is known
    with pytest.raises(LibraryError, match=r"lib\.replaced is in the way"):
        library.remodel(Other())
    library.index(library.path.parent / "photos")
    assert aside.is_dir()
    shutil.rmtree(library.path)  # by its owner
    with pytest.raises(LibraryError, match="no library at"):
        wordsight.open(library.path)


def test_a_swap_that_the_system_refuses_leaves_the_library(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == ".lib.remodel":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(LibraryError, match=r"cannot be renamed \(Permission denied\)"):
        library.remodel(Other())
    assert wordsight.open(library.path).store.model.name == "colours"
    monkeypatch.setattr(Path, "rename", rename)
    assert library.remodel(Other()) is not None


def test_where_it_cannot_be_renamed_nothing_begins(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Other()
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, m: Path(p) != library.path.parent and access(p, m))
    with pytest.raises(LibraryError, match=r"cannot be written to; .*--library DIR --model"):
        library.remodel(model)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == library.path)
    with pytest.raises(LibraryError, match="it is a mount point"):
        library.remodel(model)
    assert model.encoded_images == 0


def test_a_library_behind_a_link(library: wordsight.Library, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.mkdir()
    link /= "link"
    link.symlink_to(library.path)
    wordsight.open(link).remodel(Other())
    assert link.is_symlink()
    assert wordsight.open(library.path).store.model.name == "others"
    assert [path.name for path in link.parent.iterdir()] == ["link"]


def test_one_writer_at_a_time(library: wordsight.Library, photos: Photos) -> None:
    def intrude(done: int, total: int) -> None:
        with pytest.raises(LibraryError, match="another process is writing"):
            wordsight.open(library.path).index(photos("more", green=1))

    assert library.remodel(Other(), progress=intrude) is not None


# images that cannot be had now


def test_images_that_are_gone_are_named_before_the_start(
    library: wordsight.Library, photos: Photos, tmp_path: Path
) -> None:
    library.index(photos("drive", green=2))
    library.add([np.zeros((8, 8, 3), np.uint8)], ["drawn"])
    shutil.rmtree(tmp_path / "drive")
    model = Other()
    with pytest.raises(LibraryError) as refused:
        library.remodel(model)
    said = str(refused.value)
    assert "3 of 10 images" in said
    assert f"2 of {tmp_path / 'drive'}/, 1 added from memory" in said
    assert "--prune=force" in said
    assert "\n" not in said
    with pytest.raises(LibraryError, match="3 of 10 images"):  # its drive may be missing
        library.remodel(model, prune=True)
    assert model.encoded_images == 0
    assert len(library) == 10
    report = library.remodel(model, prune="force")
    assert report is not None
    assert (report.images, report.removed, len(library)) == (7, 3, 7)


def test_images_that_were_deleted_may_be_let_go(library: wordsight.Library, tmp_path: Path) -> None:
    (tmp_path / "photos" / "red-0.png").unlink()
    with pytest.raises(LibraryError, match="1 of 7 images"):
        library.remodel(Other())
    report = library.remodel(Other(), prune=True)
    assert report is not None
    assert (report.images, report.removed) == (6, 1)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("prune", [False, "force"])
def test_a_drive_that_goes_away_meanwhile_costs_nothing(
    library: wordsight.Library, tmp_path: Path, prune: Literal[False, "force"]
) -> None:
    def unplug(done: int, total: int) -> None:
        if done == 1:
            (tmp_path / "photos").rename(tmp_path / "away")

    with pytest.raises(LibraryError, match=r"of 7 images .* could not be read .* it keeps its"):
        library.remodel(Other(), prune=prune, progress=unplug)
    assert (len(library), library.store.model.name) == (7, "colours")


def test_an_image_that_cannot_be_read_any_more(library: wordsight.Library, tmp_path: Path) -> None:
    (tmp_path / "photos" / "red-0.png").write_bytes(b"spoilt")
    with pytest.raises(LibraryError, match=r"1 of 7 images .*red-0\.png: .*--prune=force"):
        library.remodel(Other())
    assert (len(library), library.store.model.name) == (7, "colours")
    model = Other()
    report = library.remodel(model, prune="force")
    assert report is not None
    assert (report.images, report.removed, model.encoded_images) == (6, 1, 0)
    assert [Path(failure.path).name for failure in report.failed] == ["red-0.png"]


# others that have the library open


@pytest.mark.parametrize("used", ["not yet", "searched", "listed"])
def test_others_that_have_it_open_go_over_too(library: wordsight.Library, used: str) -> None:
    reader = wordsight.open(library.path)
    if used == "searched":
        assert reds(reader) == ["red"] * 4
    elif used == "listed":
        assert reader.store.labels()
    library.remodel(Other())
    assert reds(reader) == ["red"] * 4
    assert reader.model.name == "others"
    assert reader.search("red").model == "others"


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("sidecar", [False, True])
def test_a_search_that_the_swap_overtakes_begins_again(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch, opened: bool, sidecar: bool
) -> None:
    if not sidecar:
        monkeypatch.setattr(Store, "make_sidecar", lambda store: None)
    reader = wordsight.open(library.path)
    # Else it is in the middle of the first search.
    monkeypatch.setattr(Store, "preload", lambda store, **_: None)
    encode = ColourModel.encode_texts

    def overtaken(self: ColourModel, texts: list[str]) -> np.ndarray:
        monkeypatch.setattr(ColourModel, "encode_texts", encode)
        library.remodel(Other())
        return encode(self, texts)

    if opened:  # and its files go
        assert reader.store.dataset is not None
    assert reader.model.name == "colours"
    monkeypatch.setattr(ColourModel, "encode_texts", overtaken)
    assert reds(reader) == ["red"] * 4
    assert reader.search("red").model == "others"


@pytest.mark.parametrize("used", [False, True])
def test_a_search_between_the_two_renames(
    library: wordsight.Library, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    reader = wordsight.open(library.path)
    if used:
        reds(reader)
    rename = Path.rename
    found = []

    def halfway(path: Path, target: Path) -> Path:
        if path.name == ".lib.remodel":
            monkeypatch.setattr(Path, "rename", rename)
            assert not library.path.exists()
            found.extend(reds(reader))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", halfway)
    assert library.remodel(Other()) is not None
    assert found == ["red"] * 4
    assert (reader.model.name, library.model.name) == ("others", "others")
    assert beside(library) == set()


def test_a_writer_that_the_swap_overtakes_writes_with_the_new_model(
    library: wordsight.Library, photos: Photos
) -> None:
    writer = wordsight.open(library.path)
    assert writer.model.name == "colours"
    library.remodel(Other())
    with pytest.raises(LibraryChangedError, match="run the same command again"):
        writer.index(photos("more", green=1))
    writer.index(photos("more", green=1))
    assert [Path(hit.path).name for hit in writer.search("green", k=1).hits] == ["green-0.png"]


def test_the_server_goes_over_too(library: wordsight.Library) -> None:
    from fastapi.testclient import TestClient

    from wordsight.web import create_app

    with TestClient(
        create_app(wordsight.open(library.path)), base_url="http://localhost"
    ) as client:

        def ask() -> tuple[str, str]:
            answer = client.get("/api/v1/search", params={"q": "red"}).json()
            return answer["model"], client.get("/api/v1/library").json()["model"]["name"]

        assert ask() == ("colours", "colours")
        library.remodel(Other())
        assert ask() == ("others", "others")


# the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_from_the_starter_to_what_auto_means(
    starter: Path,
    tmp_path: Path,
    photos: Photos,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = photos(red=2)
    assert run(capsys, "index", folder, "--model", "starter")[0] == 0
    code, out, err = run(capsys, "index", "--remodel", "--library", folder)
    assert (code, out.count("\n")) == (0, 1)
    assert "Nothing to do" in out
    assert "already uses starter" in out
    better = make_clip(tmp_path / "better", dim=12)
    with monkeypatch.context() as cache:
        cache.setattr(registry, "cached", lambda *_: better)
        assert "index --remodel --library" in run(capsys, "index", folder)[2]
        code, out, err = run(capsys, "index", "--remodel", "--library", folder, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["indexed"], report["images"]) == (2, 2)
    assert report["model"]["name"] == registry.ENTRIES[0].name
    assert report["replaced"]["name"] == "starter"
    assert report["library"] == str(folder / ".wordsight")
    # Nothing is in the cache any more: no way back without a word.
    code, out, err = run(capsys, "index", "--remodel", "--library", folder)
    assert (code, out) == (2, "")
    assert "only the built-in model is on this machine" in err
    code, out, err = run(capsys, "index", folder, "--remodel", "--model", "starter")
    assert code == 0, err
    assert out.startswith("2 images embedded again in ")
    assert out.endswith(f"(model starter, before {registry.ENTRIES[0].name})\n")
    other = wordsight.create(tmp_path / "lib", ColourModel())
    with pytest.raises(ModelError, match="only the built-in model"):
        other.remodel()


def test_what_is_gone_is_one_line(
    library: wordsight.Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_clip(tmp_path / "other")
    (tmp_path / "photos" / "red-0.png").unlink()
    arguments = ("index", "--remodel", "--library", library.path, "--model", model)
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"1 of {tmp_path / 'photos'}/" in err
    code, out, err = run(capsys, *arguments, "--prune=force")
    assert code == 0, err
    assert "6 images embedded again" in out
    assert "1 left out" in out


def test_an_index_option_that_means_nothing_here(
    library: wordsight.Library, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "index", "--remodel", "-L", library.path, "--crops", "tiles")
    assert code == 2
    assert "--remodel does not go with" in err
