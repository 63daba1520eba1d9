"""Fetching models: against a stand-in for the hub, whole and broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from fake_models import make_clip
from hub_standin import COMMIT, StandIn, serve

import wordsight
from wordsight.errors import HubError, ModelError
from wordsight.models import hashing, hub, hub_cache, load_model, repositories
from wordsight.models.clip.layouts import OPEN_CLIP
from wordsight.models.transfer import within

REPOSITORY = "someone/some-clip"
BIG = "visual/model.onnx"


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "own"))
    # The library reads the variables once, and another test may have imported it by now.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {name: rng.bytes(200) for name in OPEN_CLIP}
    return found | {BIG: rng.bytes(300_000), "README.md": b"read me", "visual/model.armnn": b"x"}


@pytest.fixture
def stand_in(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def fetch(**options: float) -> Path:
    return hub.fetch(REPOSITORY, OPEN_CLIP, **options)


def leftovers(tmp_path: Path) -> list[str]:
    return [p.name for p in tmp_path.rglob("*.part")]


def test_fetches_the_needed_files_only_into_the_shared_cache(
    stand_in: StandIn, tmp_path: Path
) -> None:
    folder = fetch()
    assert folder == tmp_path / "hf/hub/models--someone--some-clip/snapshots" / COMMIT
    for name in OPEN_CLIP:
        assert (folder / name).read_bytes() == stand_in.files[name]
    assert not (folder / "README.md").exists()
    assert not (folder / "visual/model.armnn").exists()
    assert leftovers(tmp_path) == []


def test_nothing_but_the_model_is_asked_for(stand_in: StandIn) -> None:
    """From 2.4 the library would ask for a list of programs that might be driving it, once."""
    program = (
        "import huggingface_hub.utils\n"  # imported first, it reads the variables
        "from wordsight.models import hub\n"
        f"hub.fetch({REPOSITORY!r}, {OPEN_CLIP!r})\n"
    )
    allowed = {"HF_HUB_DISABLE_TELEMETRY": "0", "DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "0"}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | allowed)
    asked = {path for path, _ in stand_in.requests}
    assert asked == {f"/api/models/{REPOSITORY}/revision/main", *(f"/cdn/{n}" for n in OPEN_CLIP)}


def outside(folder: Path, name: str) -> None:
    """Move the weights of a graph into a file of this name beside it."""
    import onnx

    model = onnx.load(str(folder / "visual/model.onnx"))
    onnx.save_model(
        model,
        str(folder / "visual/model.onnx"),
        save_as_external_data=True,
        location=name,
        size_threshold=0,
    )


@pytest.mark.parametrize(
    "name", ["model.onnx.data", "model.onnx_data", "transformer.layer.20.dense.bias", "a.proj"]
)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_weights_that_a_graph_names_come_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, runtime: str
) -> None:
    folder = make_clip(tmp_path / "made")
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    plain = load_model(folder, runtime=runtime, precision="fp32").encode_pixels(pixels)
    outside(folder, name)
    files = {file: (folder / file).read_bytes() for file in (*OPEN_CLIP, f"visual/{name}")}
    files |= {"visual/other.bias": b"no graph names it", "README.md": b"read me"}
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        model = load_model(REPOSITORY, runtime=runtime, precision="fp32")
    assert (model.path / "visual" / name).is_file()
    assert not (model.path / "visual/other.bias").exists()
    np.testing.assert_allclose(model.encode_pixels(pixels), plain, atol=1e-6)
    before = model.hash
    changed = tmp_path / "changed"
    shutil.copytree(model.path, changed)
    data = bytearray((changed / "visual" / name).read_bytes())
    data[0] ^= 1
    (changed / "visual" / name).write_bytes(data)
    assert load_model(changed).hash != before


def test_a_graph_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "made")
    graph = folder / "visual/model.onnx"
    outside(folder, "secret")
    graph.write_bytes(graph.read_bytes().replace(b"secret", b"../../"))
    with pytest.raises(ModelError, match="outside its folder"):
        _ = load_model(folder).hash


def test_the_cache_needs_no_network(stand_in: StandIn) -> None:
    folder = fetch()
    before = len(stand_in.requests)
    assert fetch() == folder
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP) == folder
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
    stand_in.cut_after[BIG] = [120_000, *([0] * 8)]
    with pytest.raises(HubError, match=r"stopped at 120,000 bytes.* run it again"):
        fetch()
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP) is None
    stand_in.cut_after.clear()
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
    with pytest.raises(HubError, match=r"hash differs|Consistency"):
        fetch()
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP) is None


def test_refuses_a_file_that_is_too_long(stand_in: StandIn) -> None:
    stand_in.instead[BIG] = stand_in.files[BIG] + b"more"
    with pytest.raises(HubError, match=r"hash differs|Consistency"):
        fetch()


@pytest.mark.parametrize("name", [BIG, "config.json"])
def test_refuses_a_file_with_another_hash(stand_in: StandIn, name: str, tmp_path: Path) -> None:
    right = stand_in.files[name]
    stand_in.instead[name] = b"?" + right[1:]
    with pytest.raises(HubError, match="its hash differs"):
        fetch()
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP) is None
    assert leftovers(tmp_path) == []
    del stand_in.instead[name]
    assert (fetch() / name).read_bytes() == right


def test_the_hub_library_alone_loses_what_a_cut_leaves(stand_in: StandIn, tmp_path: Path) -> None:
    """Why models/transfer.py is there: once this fails it can go."""
    from huggingface_hub import hf_hub_download

    stand_in.cut_every = 100_000
    with pytest.raises(Exception, match=r"peer closed|complete message"):
        hf_hub_download(REPOSITORY, BIG, endpoint=stand_in.url, cache_dir=tmp_path / "alone")
    assert set(stand_in.downloads(BIG)) == {None}  # from the start each time
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_again_and_again(stand_in: StandIn, reset: bool) -> None:
    stand_in.cut_every, stand_in.reset = 20_000, reset
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7', "Retry-After": "1"}]
)
def test_too_many_requests_wait_as_long_as_the_hub_says(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    headers: dict[str, str],
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    stand_in.statuses = [(429, headers)]
    assert (fetch() / BIG).is_file()
    assert 7 in waits
    assert "(status 429); trying again in 7 s" in capsys.readouterr().err


def test_too_many_requests_wait_until_a_date(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    stand_in.statuses = [(429, {"Retry-After": formatdate(time.time() + 20, usegmt=True)})]
    assert (fetch() / BIG).is_file()
    assert any(18 <= wait <= 20 for wait in waits)


def test_too_many_requests_without_a_word_wait_longer_and_longer(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    stand_in.statuses = [(429, {})] * 99
    with pytest.raises(HubError, match=r"status 429\) and does not take more; try again later"):
        fetch()
    assert [wait for wait in waits if wait >= 1] == [1, 2, 4, 8, 16]
    assert capsys.readouterr().err.count("trying again in") == 5


def test_no_wait_is_silent(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wordsight.progress.FIRST_SECONDS", 0.05)
    monkeypatch.setattr("wordsight.progress.LINE_SECONDS", 0.1)
    stand_in.silent = True
    with pytest.raises(HubError, match="no answer from"):
        fetch(reach_seconds=0.4)
    assert f"{REPOSITORY}: waiting for {stand_in.url}" in capsys.readouterr().err
    stand_in.silent = False
    stand_in.rate, stand_in.cut_after[BIG] = 500_000, [200_000, *([0] * 8)]
    with pytest.raises(HubError, match="run it again to continue"):
        fetch()
    told = capsys.readouterr().err
    assert re.search(rf"{REPOSITORY}: [\d.]+ K?B of 301\.0 KB, [\d.]+ [KM]B/s, \d+ s left", told)
    stand_in.cut_after.clear()
    fetch()
    assert "0.2 MB are already here" in capsys.readouterr().err


def test_too_long_a_wait_is_told(stand_in: StandIn) -> None:
    stand_in.statuses = [(429, {"Retry-After": "3600"})]
    with pytest.raises(HubError, match=r"asks to wait 3600 s"):
        fetch()


def test_too_long_a_wait_for_a_file(stand_in: StandIn) -> None:
    # the list comes, then the first file is refused
    stand_in.statuses = []
    ask = hub.listing
    with pytest.MonkeyPatch.context() as patch:

        def then_refuse(*args: object) -> object:
            answer = ask(*args)  # type: ignore[arg-type]
            stand_in.statuses = [(429, {"Retry-After": "3600"})] * 9
            return answer

        patch.setattr(hub, "listing", then_refuse)
        with pytest.raises(HubError, match=r"asks to wait 3600 s"):
            fetch()


def test_a_gated_repository(stand_in: StandIn) -> None:
    stand_in.statuses = [(403, {"X-Error-Code": "GatedRepo"})]
    with pytest.raises(HubError, match=r"gated; accept its terms at .* HF_TOKEN"):
        fetch()


def test_the_page_of_a_captive_portal(stand_in: StandIn) -> None:
    stand_in.page = b"<html>Welcome to our hotel</html>"
    with pytest.raises(HubError, match="log-in page on this network"):
        fetch()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("certificate verify failed: certificate is not yet valid", "set the clock"),
        ("certificate verify failed: certificate has expired", "set the clock"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "SSL_CERT_FILE"),
    ],
)
def test_certificates(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    import httpx2

    def fails(*args: object, **options: object) -> None:
        raise httpx2.ConnectError(text)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fails)
    with pytest.raises(HubError, match=told) as error:
        fetch()
    assert "\n" not in str(error.value)


def test_a_proxy_that_refuses(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    def fails(*args: object, **options: object) -> None:
        raise httpx2.ProxyError("407 Proxy Authentication Required")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fails)
    with pytest.raises(HubError, match=r"the proxy refused .*407.*HTTPS_PROXY"):
        fetch()


def test_a_full_disk(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(HubError, match=r"No space left on device.*make room"):
        fetch()


def test_a_repository_of_pytorch_weights(stand_in: StandIn) -> None:
    del stand_in.files[BIG]
    stand_in.files["model.safetensors"] = b"weights"
    with pytest.raises(HubError, match=rf"wordsight export {REPOSITORY} --out models/some-clip"):
        fetch()


def test_a_revision(stand_in: StandIn) -> None:
    assert repositories.split(f"{REPOSITORY}@{COMMIT}") == (REPOSITORY, COMMIT)
    assert repositories.split(REPOSITORY) == (REPOSITORY, "main")
    folder = hub.fetch(REPOSITORY, OPEN_CLIP, revision=COMMIT)
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP, COMMIT) == folder
    with pytest.raises(HubError, match="has no revision v9"):
        hub.fetch(REPOSITORY, OPEN_CLIP, revision="v9")


def test_what_comes_is_told(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    fetch()
    err = capsys.readouterr().err
    assert f"fetching {REPOSITORY}: 0.3 MB from {stand_in.url}" in err


def test_the_verb_fetches(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    from wordsight.cli import main as entry

    def main(arguments: list[str]) -> int:
        try:
            return int(entry(arguments) or 0)
        except SystemExit as end:
            return int(end.code or 0)

    for name in OPEN_CLIP:  # the graphs are read for what they name
        if name.endswith(".onnx"):
            stand_in.files[name] = b""
    assert main(["models", "fetch", REPOSITORY, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == REPOSITORY
    assert Path(told["path"]).is_dir()
    assert main(["models", "fetch", "nothing-like-it"]) == 2
    assert "nothing to fetch" in capsys.readouterr().err


def test_an_unknown_repository(stand_in: StandIn) -> None:
    with pytest.raises(HubError, match=r"has no model nobody/nothing .*status 404"):
        hub.fetch("nobody/nothing", OPEN_CLIP)


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
    monkeypatch.setattr("hub_standin._info", lambda *_: {"hello": "world"})
    with pytest.raises(HubError, match="does not answer like a hub"):
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
        within(0.1, never.wait)
    assert hub.REACH_SECONDS <= 15
    never.set()


def test_a_transfer_that_stands_still(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    fetch_list = hub.listing

    def then_silence(*args: object) -> object:
        result = fetch_list(*args)  # type: ignore[arg-type]
        stand_in.silent = True
        return result

    monkeypatch.setattr(hub, "listing", then_silence)
    with pytest.raises(HubError, match="no answer from"):
        fetch()


def test_a_standstill_is_bounded(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.cut_after[BIG] = [100_000, *([0] * 8)]
    with pytest.raises(HubError, match="stopped at 100,000 bytes"):
        fetch()
    stand_in.cut_after.clear()
    with monkeypatch.context() as patch:
        patch.setattr("wordsight.models.transfer.STILL_SECONDS", 0)
        with pytest.raises(HubError, match=r"no data came for 0 s\); run it again"):
            fetch()
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]
    assert stand_in.downloads(BIG)[-1] == "bytes=100000-"


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
        assert hub_cache.cached(REPOSITORY, OPEN_CLIP) == folder
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
    monkeypatch.setattr(hub_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(HubError, match="0 MB are free"):
        fetch()


def test_what_an_earlier_run_fetched_needs_no_room(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = len(stand_in.files[BIG]) - 10
    stand_in.cut_after[BIG] = [most, *([0] * 8)]
    with pytest.raises(HubError, match="run it again to continue"):
        fetch()
    stand_in.cut_after.clear()
    left = sum(len(stand_in.files[name]) for name in OPEN_CLIP) + len(stand_in.files[BIG])
    monkeypatch.setattr(
        hub_cache.shutil, "disk_usage", lambda path: type("usage", (), {"free": left})
    )
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_a_removed_blob_is_fetched_again(stand_in: StandIn) -> None:
    folder = fetch()
    if not (folder / BIG).is_symlink():
        pytest.skip("no symbolic links here")
    (folder / BIG).resolve().unlink()
    assert hub_cache.cached(REPOSITORY, OPEN_CLIP) is None
    assert (fetch() / BIG).read_bytes() == stand_in.files[BIG]


def test_a_model_from_the_hub_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_clip(tmp_path / "made")
    files = {name: (folder / name).read_bytes() for name in OPEN_CLIP}
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        model = load_model(REPOSITORY, runtime="onnxruntime")
    local = wordsight.load_model(folder, runtime="onnxruntime")
    assert (model.name, model.source) == (REPOSITORY, f"{REPOSITORY}@{COMMIT}")
    assert model.hash == local.hash
    assert np.array_equal(model.encode_texts(["a dog"]), local.encode_texts(["a dog"]))


@pytest.mark.parametrize("given", [REPOSITORY, f"{REPOSITORY}@main"])
def test_a_library_asks_for_the_commit_that_it_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    def published(folder: str, dim: int) -> dict[str, bytes]:
        made = make_clip(tmp_path / folder, dim=dim)
        return {name: (made / name).read_bytes() for name in OPEN_CLIP}

    with serve(StandIn(REPOSITORY, published("first", 8))) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        place = wordsight.create(tmp_path / "lib", given).path
        # The repository is uploaded again.
        running.older, running.commit = {COMMIT: running.files}, COMMIT[::-1]
        running.files = published("second", 12)
        assert load_model(REPOSITORY).dim == 8  # in the cache
        shutil.rmtree(tmp_path / "hf")
        assert load_model(REPOSITORY).dim == 12
        asked = len(running.requests)

        library = wordsight.open(place)
        assert library.store.model.source == f"{REPOSITORY}@{COMMIT}"
        assert (library.store.model.name, library.model.dim) == (REPOSITORY, 8)
        assert len(running.requests) > asked  # fetched again
        assert load_model(REPOSITORY).dim == 12
        assert wordsight.open(place).model.path == library.model.path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert wordsight.open(place).model.hash == library.model.hash  # from the cache


def test_a_library_whose_record_names_no_commit_still_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_clip(tmp_path / "made")
    files = {name: (folder / name).read_bytes() for name in OPEN_CLIP}
    with serve(StandIn(REPOSITORY, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        record = wordsight.create(tmp_path / "lib", REPOSITORY).path / "library.json"
        record.write_text(record.read_text("utf-8").replace(f"@{COMMIT}", ""), "utf-8")
        library = wordsight.open(tmp_path / "lib")
        assert library.store.model.source == REPOSITORY
        assert library.model.source == f"{REPOSITORY}@{COMMIT}"


def test_content_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    first = hashing.content_hash(tmp_path, ["a", "b"])
    assert first == hashing.content_hash(tmp_path, ["b", "a"])
    assert len(first) == 16
    (tmp_path / "a").write_bytes(b"2")
    (tmp_path / "b").write_bytes(b"1")
    assert hashing.content_hash(tmp_path, ["a", "b"]) != first


def test_content_hash_of_large_files_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(33 << 20)
    reads: list[Path] = []
    digest = hashing.file_digest
    monkeypatch.setattr(hashing, "file_digest", lambda p, d: reads.append(p) or digest(p, d))
    first = hashing.content_hash(tmp_path, ["big"])
    assert hashing.content_hash(tmp_path, ["big"]) == first
    assert reads == [big]
    with big.open("r+b") as out:
        out.write(b"other")
    os.utime(big, ns=(1, 1))
    assert hashing.content_hash(tmp_path, ["big"]) != first
