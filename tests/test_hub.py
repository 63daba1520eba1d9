"""Fetching models: against a stand-in for the hub, whole and broken."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_models import make_clip
from hub_standin import COMMIT, StandIn, serve

import wordsight
from wordsight.errors import HubError
from wordsight.models import hub, load_model
from wordsight.models.clip import LAYOUT, is_external_data

REPOSITORY = "someone/some-clip"
BIG = "visual/model.onnx"


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "own"))
    # The library reads the variable once, and another test may have imported it by now.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0)


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {name: rng.bytes(200) for name in LAYOUT}
    return found | {BIG: rng.bytes(300_000), "README.md": b"read me", "visual/model.armnn": b"x"}


@pytest.fixture
def stand_in(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def fetch(**options: float) -> Path:
    return hub.fetch(REPOSITORY, LAYOUT, extra=is_external_data, **options)


def leftovers(tmp_path: Path) -> list[str]:
    return [p.name for p in tmp_path.rglob("*.part")]


def test_fetches_the_needed_files_only_into_the_shared_cache(
    stand_in: StandIn, tmp_path: Path
) -> None:
    folder = fetch()
    assert folder == tmp_path / "hf/hub/models--someone--some-clip/snapshots" / COMMIT
    for name in LAYOUT:
        assert (folder / name).read_bytes() == stand_in.files[name]
    assert not (folder / "README.md").exists()
    assert not (folder / "visual/model.armnn").exists()
    assert leftovers(tmp_path) == []


def test_fetches_weights_that_a_graph_keeps_outside(stand_in: StandIn) -> None:
    stand_in.files["visual/model.onnx.data"] = b"outside"
    stand_in.files["textual/onnx__MatMul_17"] = b"tensor"
    stand_in.files["textual/fp16/model"] = b"another form"
    folder = fetch()
    assert (folder / "visual/model.onnx.data").read_bytes() == b"outside"
    assert (folder / "textual/onnx__MatMul_17").read_bytes() == b"tensor"
    assert not (folder / "textual/fp16").exists()


def test_the_cache_needs_no_network(stand_in: StandIn) -> None:
    folder = fetch()
    before = len(stand_in.requests)
    assert fetch() == folder
    assert hub.cached(REPOSITORY, LAYOUT) == folder
    assert len(stand_in.requests) == before


def test_the_hub_library_finds_what_was_fetched(stand_in: StandIn, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    folder = fetch()
    cache = tmp_path / "hf/hub"
    found = try_to_load_from_cache(REPOSITORY, BIG, cache_dir=cache)
    assert found == str(folder / BIG)
    info = scan_cache_dir(cache)
    assert [repo.repo_id for repo in info.repos] == [REPOSITORY]
    assert info.warnings == []


def test_goes_on_after_a_cut_connection(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.cut_after[BIG] = [100_000, 50_000]
    folder = fetch()
    assert (folder / BIG).read_bytes() == stand_in.files[BIG]
    asked = stand_in.downloads(BIG)
    assert asked[0] is None
    assert asked[1:] == ["bytes=100000-", "bytes=150000-"]
    assert leftovers(tmp_path) == []


def test_goes_on_in_the_next_run(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.cut_after[BIG] = [120_000, 0, 0, 0]
    with pytest.raises(HubError, match=r"stopped at 120,000 of 300,000 bytes .* run it again"):
        fetch()
    assert hub.cached(REPOSITORY, LAYOUT) is None
    before = len(stand_in.downloads(BIG))
    folder = fetch()
    assert (folder / BIG).read_bytes() == stand_in.files[BIG]
    assert stand_in.downloads(BIG)[before:] == ["bytes=120000-"]


def test_goes_on_with_a_server_that_knows_no_ranges(stand_in: StandIn) -> None:
    stand_in.ranges = False
    stand_in.cut_after[BIG] = [100_000]
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_refuses_a_truncated_file(stand_in: StandIn) -> None:
    stand_in.instead[BIG] = stand_in.files[BIG][:-7]
    with pytest.raises(HubError, match="stopped at 299,993 of 300,000 bytes"):
        fetch()
    assert hub.cached(REPOSITORY, LAYOUT) is None


def test_refuses_a_file_that_is_too_long(stand_in: StandIn) -> None:
    stand_in.instead[BIG] = stand_in.files[BIG] + b"more"
    with pytest.raises(HubError, match="more than 300,000 bytes came"):
        fetch()


@pytest.mark.parametrize("name", [BIG, "config.json"])
def test_refuses_a_file_with_another_hash(stand_in: StandIn, name: str, tmp_path: Path) -> None:
    right = stand_in.files[name]
    stand_in.instead[name] = b"?" + right[1:]
    with pytest.raises(HubError, match="its hash differs"):
        fetch()
    assert hub.cached(REPOSITORY, LAYOUT) is None
    assert leftovers(tmp_path) == []
    del stand_in.instead[name]
    assert (fetch() / name).read_bytes() == right


def test_an_unknown_repository(stand_in: StandIn) -> None:
    with pytest.raises(HubError, match=r"has no model nobody/nothing .*status 404"):
        hub.fetch("nobody/nothing", LAYOUT)


def test_a_repository_of_another_layout(stand_in: StandIn) -> None:
    del stand_in.files["textual/tokenizer.json"]
    with pytest.raises(HubError, match=r"textual/tokenizer.json missing"):
        fetch()
    assert stand_in.downloads("") == []


def test_a_file_that_is_announced_but_gone(stand_in: StandIn) -> None:
    stand_in.lost.add(BIG)
    with pytest.raises(HubError, match=r"visual/model.onnx: the hub announced this file .* 404"):
        fetch()


def test_a_hub_in_trouble(stand_in: StandIn) -> None:
    stand_in.status = 503
    with pytest.raises(HubError, match="answered with status 503"):
        fetch()


def test_an_endpoint_that_is_no_hub(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.files["config.json"] = b"{}"
    monkeypatch.setattr("hub_standin._info", lambda stand_in: {"hello": "world"})
    with pytest.raises(HubError, match="does not answer as a hub does"):
        fetch()


def three_ways_out(error: pytest.ExceptionInfo[HubError]) -> bool:
    text = str(error.value)
    return (
        "\n" not in text
        and REPOSITORY in text
        and "in the cache" in text
        and "--model DIR" in text
        and "--model starter" in text
    )


def test_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubError, match=address) as error:
        fetch()
    assert three_ways_out(error)


def test_a_hub_that_never_answers(stand_in: StandIn) -> None:
    stand_in.silent = True
    with pytest.raises(HubError, match="no answer from http") as error:
        fetch(reach_seconds=0.3)
    assert three_ways_out(error)


def test_the_wait_is_bounded_whatever_hangs() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"waited 0\.1 s"):
        hub._within(0.1, never.wait)
    assert hub.REACH_SECONDS <= 15
    never.set()


def test_a_transfer_that_stands_still(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "STALL_SECONDS", 0.1)
    fetch_list = hub._list_files

    def then_silence(*args: object) -> object:
        result = fetch_list(*args)  # type: ignore[arg-type]
        stand_in.silent = True
        return result

    monkeypatch.setattr(hub, "_list_files", then_silence)
    with pytest.raises(HubError, match="stopped at 0 of"):
        fetch()


def test_a_time_limit_keeps_what_came(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="it took too long"):
        fetch(limit_seconds=0)
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_offline(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set") as error:
        fetch()
    assert three_ways_out(error)
    assert stand_in.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = fetch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch() == folder


def make_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


def make_writable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes do not bind the superuser: then refuse by hand what they forbid."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    access = os.access

    def honest(path: os.PathLike[str], mode: int) -> bool:
        denied = mode & os.W_OK and not Path(path).stat().st_mode & stat.S_IWUSR
        return not denied and access(path, mode)

    monkeypatch.setattr(os, "access", honest)


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_cache_is_read(stand_in: StandIn, tmp_path: Path) -> None:
    folder = fetch()
    make_read_only(tmp_path / "hf")
    try:
        assert fetch() == folder
    finally:
        make_writable(tmp_path / "hf")


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_cache_is_bypassed(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "hf/hub").mkdir(parents=True)
    make_read_only(tmp_path / "hf")
    try:
        folder = fetch()
        assert folder.is_relative_to(tmp_path / "own")
        assert hub.cached(REPOSITORY, LAYOUT) == folder
    finally:
        make_writable(tmp_path / "hf")


@pytest.mark.usefixtures("unprivileged")
def test_no_cache_at_all(stand_in: StandIn, tmp_path: Path) -> None:
    for name in ("hf/hub", "own/hub"):
        (tmp_path / name).mkdir(parents=True)
        make_read_only(tmp_path / name)
    try:
        with pytest.raises(HubError, match="no cache can be written"):
            fetch()
    finally:
        make_writable(tmp_path)


def test_no_room(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(HubError, match="0 MB are free"):
        fetch()


def test_what_an_earlier_run_fetched_needs_no_room(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0)
    most = len(stand_in.files[BIG]) - 10
    stand_in.cut_after[BIG] = [most, 0, 0, 0]
    with pytest.raises(HubError, match="go on from there"):
        fetch()
    left = sum(len(stand_in.files[name]) for name in LAYOUT if name != BIG) + 10
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("usage", (), {"free": left}))
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_a_removed_blob_is_fetched_again(stand_in: StandIn) -> None:
    folder = fetch()
    if not (folder / BIG).is_symlink():
        pytest.skip("no symbolic links here")
    (folder / BIG).resolve().unlink()
    assert hub.cached(REPOSITORY, LAYOUT) is None
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_a_model_from_the_hub_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_clip(tmp_path / "made")
    files = {name: (folder / name).read_bytes() for name in LAYOUT}
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        model = load_model(REPOSITORY, runtime="onnxruntime")
    local = wordsight.load_model(folder, runtime="onnxruntime")
    assert (model.name, model.source) == (REPOSITORY, REPOSITORY)
    assert model.hash == local.hash
    assert np.array_equal(model.encode_texts(["a dog"]), local.encode_texts(["a dog"]))


def test_content_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    first = hub.content_hash(tmp_path, ["a", "b"])
    assert first == hub.content_hash(tmp_path, ["b", "a"])
    assert len(first) == 16
    (tmp_path / "a").write_bytes(b"2")
    (tmp_path / "b").write_bytes(b"1")
    assert hub.content_hash(tmp_path, ["a", "b"]) != first


def test_content_hash_of_large_files_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(33 << 20)
    reads: list[Path] = []
    digest = hub._digest
    monkeypatch.setattr(hub, "_digest", lambda p, d: reads.append(p) or digest(p, d))
    first = hub.content_hash(tmp_path, ["big"])
    assert hub.content_hash(tmp_path, ["big"]) == first
    assert reads == [big]
    with big.open("r+b") as out:
        out.write(b"other")
    os.utime(big, ns=(1, 1))
    assert hub.content_hash(tmp_path, ["big"]) != first
