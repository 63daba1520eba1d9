"""Opening models by name, and what "auto" means."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_models import make_clip
from hub_standin import COMMIT, StandIn, serve
from PIL import Image

import wordsight
from wordsight import models
from wordsight.cli import main
from wordsight.errors import HubError, ModelError
from wordsight.models import load_model, registry, repositories
from wordsight.models.clip.layouts import LAYOUTS, OPEN_CLIP
from wordsight.models.maskrcnn import load_detector

PREFERRED = registry.ENTRIES[0]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub that has the preferred model."""
    folder = make_clip(tmp_path / "published", dim=12)
    files = {name: (folder / name).read_bytes() for name in OPEN_CLIP}
    monkeypatch.setattr(registry.Entry, "sha256", {})  # those of the real files
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serve(
        StandIn(PREFERRED.repository, files, commit=PREFERRED.revision or COMMIT)
    ) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_real_models_with_their_facts() -> None:
    assert len(registry.ENTRIES) >= 8
    assert {entry.layout for entry in registry.ENTRIES} == set(LAYOUTS)
    for entry in registry.ENTRIES:
        assert repositories.is_repository(entry.address)
        assert entry.licence
        assert entry.dim in (512, 768, 1152)
        assert entry.cifar10 is None or 50 < entry.cifar10 < 100
        assert entry.bytes is None or 1e8 < entry.bytes < 5e9
        assert entry.bytes is None or entry.bytes >= sum(
            file["bytes"] or 0 for file in entry.files.values()
        )
        assert set(entry.files) <= set(LAYOUTS[entry.layout][0])
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in entry.sha256.values())
        assert entry.revision is None or re.fullmatch("[0-9a-f]{40}", entry.revision)
        assert entry.verified_by
    assert len(set(registry.NAMES)) == len(registry.NAMES)
    for name in ("clip-vit-b32", "clip-vit-b16", "clip-vit-l14"):  # not Immich's: GELU
        entry = registry.find(name)
        assert entry
        assert entry.repository.startswith("Xenova/")


def test_models_info_lists_what_is_here(starter: Path, online: StandIn) -> None:
    rows = {row["name"]: row for row in registry.models_info()}
    assert list(rows) == [name for name in registry.NAMES if name != "auto"]
    assert rows["starter"]["cached"]
    assert rows["starter"]["dim"] == 8
    assert not rows[PREFERRED.name]["cached"]
    model = load_model(PREFERRED.name)
    row = next(r for r in registry.models_info() if r["name"] == PREFERRED.name)
    assert row["cached"]
    assert row["path"] == str(model.path)


def test_a_directory_as_text_and_as_path(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "my model")
    for given in (folder, str(folder)):
        model = wordsight.load_model(given)
        assert (model.name, model.path, model.source) == ("my model", folder, str(folder))
        assert load_model(model.source).hash == model.hash


def test_a_directory_from_where_we_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    model = load_model("mine")
    monkeypatch.chdir("/")
    assert load_model(model.source).name == "mine"


def test_a_name_goes_before_a_directory(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "starter", dim=4)
    monkeypatch.chdir(tmp_path)
    assert load_model("starter").dim == 8
    assert load_model("./starter").dim == 4


def test_unknown_names_get_close_ones() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'clip-vit-b23': did you mean clip-vit-b"):
        load_model("clip-vit-b23")
    with pytest.raises(ModelError, match="`wordsight models` lists the names"):
        load_model("zzz")
    for name in ("z" * 300, Path("z" * 300)):
        with pytest.raises(ModelError, match="zzz"):
            load_model(name)
    with pytest.raises(ModelError, match="no such model directory"):
        load_model(Path("/nowhere/at/all"))


def test_siglip_gets_the_scale_that_its_files_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_clip(tmp_path / "siglip", config={"init_logit_bias": -10})
    monkeypatch.setattr(registry, "cached", lambda *args: folder)
    model = load_model("siglip-b16")
    assert (model.logit_scale, model.logit_bias) == (117.330795, -12.932437)


def test_auto_takes_a_cached_model_without_asking(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_clip(tmp_path / "cached")
    second = registry.ENTRIES[1]
    monkeypatch.setattr(
        registry,
        "cached",
        lambda repository, *rest: folder if repository == second.repository else None,
    )
    assert load_model("auto").name == second.name
    assert caplog.records == []


def test_auto_fetches_the_preferred_model(starter: Path, online: StandIn) -> None:
    model = load_model()
    source = f"{PREFERRED.repository}@{PREFERRED.revision}"
    assert (model.name, model.source, model.dim) == (PREFERRED.name, source, 12)


def test_a_library_keeps_repository_and_commit_of_a_name(
    starter: Path, online: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wordsight.create(tmp_path / "lib", PREFERRED.name).store.model
    assert (made.name, made.source) == (PREFERRED.name, PREFERRED.address)
    # The name means another repository one day.
    with monkeypatch.context() as later:
        other = registry.ENTRIES[1]
        later.setattr(models, "find", lambda name: other if name == made.name else None)
        assert wordsight.open(tmp_path / "lib").model.hash == made.hash
    # A record of an older version has the name alone.
    record = tmp_path / "lib/library.json"
    record.write_text(record.read_text("utf-8").replace(made.source, made.name), "utf-8")
    library = wordsight.open(tmp_path / "lib")
    assert (library.store.model.source, library.model.name) == (PREFERRED.name, PREFERRED.name)


def test_auto_offline_is_the_starter_with_a_notice(
    starter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model("auto")
    assert (model.name, model.source, model.path) == ("starter", "starter", starter)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "using the small built-in model" in record.message
    assert f"{PREFERRED.name} (609 MB)" in record.message  # what to fetch, and how large it is
    assert f"wordsight models fetch {PREFERRED.name}" in record.message
    assert "\n" not in record.message


def test_auto_asks_an_unreachable_hub_once_in_a_while(starter: Path, online: StandIn) -> None:
    online.status = 503
    notices: list[str] = []
    assert load_model("auto", notice=notices.append).name == "starter"
    asked = len(online.requests)
    assert load_model("auto", notice=notices.append).name == "starter"
    assert len(online.requests) == asked
    assert "status 503" in notices[0]
    assert "a moment ago" in notices[1]
    assert models.AUTO_REACH_SECONDS <= 5
    with pytest.raises(HubError):  # by name it is asked again
        load_model(PREFERRED.name)
    assert len(online.requests) > asked


def test_the_home_of_nobody_is_a_path_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("~nobody-of-this-name/model", Path("~nobody-of-this-name/model")):
        with pytest.raises(ModelError):
            load_model(name)
        with pytest.raises(ModelError):
            load_detector(name)
    monkeypatch.setenv("WORDSIGHT_CACHE", "~nobody-of-this-name/cache")
    assert registry.models_info()


def test_a_folder_that_is_not_there_is_not_only_a_repository(starter: Path) -> None:
    with pytest.raises(HubError, match="there is no directory models/mine here either"):
        load_model("models/mine")


def test_auto_survives_a_broken_transfer(
    starter: Path, online: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    online.lost.add("visual/model.onnx")
    notices: list[str] = []
    assert load_model("auto", notice=notices.append).name == "starter"
    assert "404" in notices[0]


def test_auto_goes_on_with_a_transfer_that_was_cut(
    starter: Path, online: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    online.cut_after["visual/model.onnx"] = [100, *([0] * 8)]
    notices: list[str] = []
    assert load_model("auto", notice=notices.append).name == "starter"
    assert "run it again to continue: using the small built-in" in notices[0]
    assert load_model("auto", notice=notices.append).name == PREFERRED.name
    assert online.downloads("visual/model.onnx")[-1] == "bytes=100-"
    assert len(notices) == 1


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "red.png")
    return folder


def test_a_new_library_says_first_that_it_keeps_the_starter(
    starter: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["index", str(photo)])
    said = capsys.readouterr().err
    assert f"unset HF_HUB_OFFLINE, then wordsight models fetch {PREFERRED.name}" in said
    assert "this library will use the small built-in model" in said
    assert "without this note: --model starter" in said
    run(["index", str(photo)])  # later, with nothing better here
    assert "note:" not in capsys.readouterr().err


def test_the_starter_by_choice_needs_no_words(
    starter: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["index", str(photo), "--model", "starter"])
    assert "note:" not in capsys.readouterr().err


def test_a_later_run_names_the_better_model_that_came(
    starter: Path, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["index", str(photo), "--model", "starter"])
    capsys.readouterr()
    monkeypatch.setattr(registry, "cached", lambda repository, *_: Path("here"))
    run(["index", str(photo)])
    said = capsys.readouterr().err
    assert f"{PREFERRED.name}, which finds more than this library's built-in model" in said
    assert "wordsight index --remodel --library " in said
    run(["index", str(photo)])  # once is enough
    assert "--remodel" not in capsys.readouterr().err
