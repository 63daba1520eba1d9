"""CIFAR-10 from each of its places; downloads come from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wordsight.errors import SourceError
from wordsight.images import open_image
from wordsight.sources import cifar10, download, open_source, read_location
from wordsight.sources.cifar10 import Download
from wordsight.sources.download import fetch

BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]


def records(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3073), np.uint8)
    data[:, 0] = rng.integers(0, 10, count)
    return data


def archive_bytes(batches: dict[str, np.ndarray]) -> bytes:
    """A small archive in the form of the official one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in [
            ("batches.meta.txt", "\n".join(cifar10.CLASSES).encode()),
            *((f"{name}.bin", data.tobytes()) for name, data in batches.items()),
            ("data_batch_1", pickle.dumps("never read")),
        ]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


TEST = records(30, seed=1)
TRAIN = {name: records(6, seed=i + 2) for i, name in enumerate(BATCHES)}
# The official archive too has its batches in no particular order.
ARCHIVE = archive_bytes({"data_batch_2": TRAIN["data_batch_2"], "test_batch": TEST, **TRAIN})
MD5 = hashlib.md5(ARCHIVE).hexdigest()


OFFICIAL = Download("http://127.0.0.1:1/x", cifar10.ARCHIVE, MD5, len(ARCHIVE))


def parquet_bytes(data: np.ndarray) -> bytes:
    """A small file in the form of the hub's."""
    pictures = [{"bytes": cifar10._png(record[1:]), "path": None} for record in data]
    shape = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"img": pa.array(pictures, shape), "label": pa.array(data[:, 0].astype(np.int64))}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return file.getvalue()


PARQUET = parquet_bytes(TEST)
SHA256 = hashlib.sha256(PARQUET).hexdigest()
HUB = Download("/datasets/x/resolve/1/test.parquet", cifar10.PARQUET, SHA256, len(PARQUET))


class Server:
    """Serves one file; ``cuts`` are the numbers of bytes after which it hangs up, one a request.

    What lies below ``/datasets`` is the hub's file. ``refusals`` are (status, Retry-After), one a
    request, before anything is served.
    """

    def __init__(self) -> None:
        self.content = ARCHIVE
        self.cuts: list[int] = []
        self.ranges = True
        self.status = 200
        self.requests: list[str | None] = []
        self.refusals: list[tuple[int, str]] = []
        self.hub: bytes | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                content = outer.content
                if self.path.startswith("/datasets"):
                    if outer.hub is None:
                        self.send_error(404)
                        return
                    content = outer.hub
                outer.requests.append(wanted)
                if outer.refusals:
                    status, pause = outer.refusals.pop(0)
                    self.send_response(status)
                    self.send_header("Retry-After", pause)
                    self.end_headers()
                    return
                if outer.status != 200:
                    self.send_error(outer.status)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                start = start if outer.ranges else 0
                if start and start >= len(content):
                    self.send_error(416)
                    return
                body = content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cuts.pop(0)] if outer.cuts else body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/{cifar10.ARCHIVE}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no archive that the environment names, no proxy."""
    for name in ("WORDSIGHT_CIFAR10", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("WORDSIGHT_CACHE", str(cache))
    return cache


@pytest.fixture
def no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "_sample_files", list)


def load(server: Server, split: str = "test", **options: Any) -> cifar10.Cifar10:
    """From the server alone, as the official host and as the hub."""
    official = replace(OFFICIAL, url=server.url, size=len(server.content))
    hub = replace(HUB, url=server.url.rpartition("/")[0] + HUB.url)
    return cifar10.load(split, official=official, hub=hub, **options)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which do not happen."""
    pauses: list[float] = []
    monkeypatch.setattr(download, "_pause", pauses.append)
    return pauses


def expected_labels(data: np.ndarray) -> list[str]:
    return [cifar10.CLASSES[label] for label in data[:, 0]]


# The official binary archive


def check_archive_items(source: cifar10.Cifar10, data: np.ndarray, split: str) -> None:
    items = source.items()
    assert [item.label for item in items] == expected_labels(data)
    counts: dict[str, int] = {}
    for item, record in zip(items, data, strict=True):
        pixels = np.asarray(open_image(item.read()))
        # The form: one byte of label, then red, green and blue, 1024 bytes each, row by row.
        for channel in range(3):
            plane = record[1 + 1024 * channel :][:1024].reshape(32, 32)
            assert np.array_equal(pixels[:, :, channel], plane)
        number = counts.setdefault(str(item.label), 0)
        counts[str(item.label)] += 1
        assert item.path.endswith(f"{cifar10.ARCHIVE}::{split}/{item.label}/{number:04d}.png")
        assert item.path.startswith(source.root)
        assert item.root == source.root
    assert len({item.id for item in items}) == len(items)
    assert source.items() == items
    assert read_location(items[-1].path) == items[-1].read()
    assert source.notice is None
    assert source.name == "cifar10"


@pytest.mark.parametrize("in_folder", [False, True])
def test_archive_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_folder: bool
) -> None:
    file = tmp_path / cifar10.ARCHIVE
    file.write_bytes(ARCHIVE)
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(tmp_path if in_folder else file))
    source = cifar10.load("test", official=OFFICIAL)
    assert str(file) in source.origin
    check_archive_items(source, TEST, "test")
    train = np.concatenate([TRAIN[name] for name in BATCHES])
    check_archive_items(cifar10.load("train", official=OFFICIAL), train, "train")


def test_archive_with_another_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / cifar10.ARCHIVE
    file.write_bytes(ARCHIVE)
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(file))
    with pytest.raises(SourceError, match=f"not the official {cifar10.ARCHIVE}"):
        cifar10.load("test")


def test_archive_from_the_cache(cache: Path, no_sample: None) -> None:
    cache.mkdir()
    (cache / cifar10.ARCHIVE).write_bytes(ARCHIVE)
    check_archive_items(cifar10.load("test", official=OFFICIAL), TEST, "test")


@pytest.mark.parametrize(
    "data",
    [
        ARCHIVE[: len(ARCHIVE) // 2],
        b"nonsense",
        archive_bytes({}),
        archive_bytes({"test_batch": np.zeros(3073 + 5, np.uint8)}),
        archive_bytes({"test_batch": np.full(3073, 10, np.uint8)}),
    ],
)
def test_damaged_archive_in_the_cache(cache: Path, data: bytes) -> None:
    cache.mkdir()
    (cache / cifar10.ARCHIVE).write_bytes(data)
    with pytest.raises(SourceError, match=f"{cache}.*(damaged|binary form)"):
        cifar10.load("test").items()


# Tar shards


def make_shard(file: Path, split: str, numbers: range) -> None:
    with tarfile.open(file, "w") as tar:
        for number in numbers:
            for label, name in enumerate(cifar10.CLASSES):
                data = io.BytesIO()
                PIL.Image.new("RGB", (32, 32), (label, number, 0)).save(data, "PNG")
                member = tarfile.TarInfo(f"{split}/{name}/{number:04d}.png")
                member.size = len(data.getvalue())
                tar.addfile(member, io.BytesIO(data.getvalue()))


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    make_shard(folder / "test.tar", "test", range(3))
    for number in (0, 1, 2, 10):
        make_shard(folder / f"train-{number}.tar", "train", range(number * 2, number * 2 + 2))
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(folder))
    return folder


def test_folder_of_shards(shards: Path) -> None:
    source = cifar10.load("test")
    items = source.items()
    assert [item.label for item in items] == list(cifar10.CLASSES) * 3
    assert open_image(items[12].read()).getpixel((0, 0)) == (2, 1, 0)
    assert str(shards) in source.origin
    assert source.notice is None
    # The same images, whichever way the archive is named.
    assert open_source("cifar10").items() == items
    assert open_source(shards / "test.tar").items() == items


def test_train_shards_come_in_the_order_of_their_numbers(shards: Path) -> None:
    source = cifar10.load("train")
    items = source.items()
    numbers = [int(Path(item.path).stem) for item in items]
    assert numbers == sorted(numbers)
    assert max(numbers) == 21
    assert len(items) == len({item.id for item in items}) == 80
    assert {item.root for item in items} == {source.root}
    assert all(item.path.startswith(source.root) for item in items)
    for item in items:
        label = open_image(item.read()).getpixel((0, 0))[0]
        assert cifar10.CLASSES[label] == item.label


def test_single_shard_and_its_split(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(shards / "train-1.tar"))
    assert len(cifar10.load("train").items()) == 20
    with pytest.raises(SourceError, match=r"train-1\.tar: no member like test/dog"):
        cifar10.load("test").items()


def test_problems_of_shards_are_passed_on(shards: Path) -> None:
    os.truncate(shards / "test.tar", 512 * 21)
    source = cifar10.load("test")
    items = source.items()
    assert 0 < len(items) < 30
    assert any("damaged or cut archive" in reason for _, reason in source.problems)


def test_useless_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(tmp_path))
    with pytest.raises(SourceError, match=r"contains neither train-\*\.tar nor cifar-10-binary"):
        cifar10.load("train")
    with pytest.raises(SourceError, match=r"contains neither test\.tar nor cifar-10-binary"):
        cifar10.load("test")
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(tmp_path / "gone"))
    with pytest.raises(SourceError, match=r"WORDSIGHT_CIFAR10=.*gone: no such file or folder"):
        cifar10.load("test")
    with pytest.raises(SourceError, match="no split 'val'"):
        cifar10.load("val")


# Download


def test_download(server: Server, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    source = load(server, "test", progress=lambda *at: seen.append(at))
    check_archive_items(source, TEST, "test")
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert (cache / cifar10.ARCHIVE).read_bytes() == ARCHIVE
    assert not list(cache.glob("*.part"))
    load(server, "train")
    assert len(server.requests) == 1  # the second time from the cache


def test_cut_download_is_taken_up_where_it_broke_off(server: Server) -> None:
    server.cuts = [5000, 7000]
    source = load(server, "test")
    check_archive_items(source, TEST, "test")
    assert server.requests == [None, "bytes=5000-", "bytes=12000-"]


def test_a_download_that_was_whole_when_it_was_killed(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{cifar10.ARCHIVE}.part").write_bytes(ARCHIVE)
    check_archive_items(load(server, "test"), TEST, "test")
    assert server.requests == [f"bytes={len(ARCHIVE)}-"]  # and nothing again


def test_cut_download_is_taken_up_by_the_next_call(
    server: Server, cache: Path, no_sample: None
) -> None:
    server.cuts = [5000, 0, 0, 0, 0]  # four in a row bring nothing: given up
    with pytest.raises(SourceError, match=r"the connection was cut after 5,000 of"):
        load(server, "test")
    assert not (cache / cifar10.ARCHIVE).exists()
    load(server, "test")
    assert server.requests[-1] == "bytes=5000-"
    assert (cache / cifar10.ARCHIVE).read_bytes() == ARCHIVE


def test_a_download_is_not_given_up_while_its_attempts_bring_something(server: Server) -> None:
    server.cuts = [3000] * 8 + [0, 0, 0] + [3000] * 2
    check_archive_items(load(server), TEST, "test")
    assert len(server.requests) == 14


def test_the_hub_comes_first(server: Server, cache: Path) -> None:
    server.hub = PARQUET
    server.cuts = [5000]
    said: list[str] = []
    seen: list[tuple[int, int | None]] = []
    source = load(
        server,
        notice=lambda line: said.append(line if not seen else f"late: {line}"),
        progress=lambda *at: seen.append(at),
    )
    assert server.requests == [None, "bytes=5000-"]
    assert len(said) == 1  # before the first byte
    assert re.match(
        r"downloading CIFAR-10: 0\.\d MB, once, from http://127.*test\.parquet", said[0]
    )
    assert seen[-1] == (len(PARQUET), len(PARQUET))
    assert [file.name for file in cache.iterdir() if file.suffix != ".lock"] == [cifar10.PARQUET]
    items = source.items()
    assert [item.label for item in items] == expected_labels(TEST)
    for item, record in zip(items, TEST, strict=True):
        planes = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
        assert np.array_equal(np.asarray(open_image(item.read())), planes)
    assert read_location(items[-1].path) == items[-1].read()
    assert load(server).items() == items  # from the cache
    assert len(server.requests) == 2


def test_the_hub_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    file = "/plain_text/test-00000-of-00001.parquet"
    assert cifar10.HUB.address.startswith("https://huggingface.co/datasets/uoft-cs/cifar10/resolve")
    assert cifar10.HUB.address.endswith(file)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub/")
    assert cifar10.HUB.address.startswith("https://mirror.example/hub/datasets/uoft-cs/cifar10/")


@pytest.mark.parametrize("content", [b"PAR1 of something else" * 9, parquet_bytes(TEST[:0])])
def test_a_hub_with_another_file_is_passed_by(server: Server, content: bytes) -> None:
    server.hub = content
    check_archive_items(load(server), TEST, "test")


def test_a_busy_server_is_asked_again_when_it_says(server: Server, pauses: list[float]) -> None:
    server.hub = PARQUET
    server.refusals = [(429, "7"), (503, "Mon, 01 Jan 2001 00:00:00 GMT"), (429, "soon")]
    said: list[str] = []
    assert len(load(server, notice=said.append).items()) == len(TEST)
    assert pauses == [7, 0, 4]
    assert "answered 429 Too Many Requests and asks for a pause of 7 s; trying again" in said[1]


def test_a_server_that_is_busy_for_long_is_not_waited_for(
    server: Server, pauses: list[float]
) -> None:
    server.hub = PARQUET
    server.refusals = [(429, "3600")]
    said: list[str] = []
    check_archive_items(load(server, notice=said.append), TEST, "test")
    assert pauses == []
    _, why, instead = said
    assert "test.parquet: the server answered 429" in why
    assert cifar10.ARCHIVE in instead


def test_server_without_ranges_sends_all_again(server: Server, cache: Path) -> None:
    server.cuts, server.ranges = [5000], False
    load(server, "test")
    assert (cache / cifar10.ARCHIVE).read_bytes() == ARCHIVE


@pytest.mark.parametrize("left", [b"of another file" * 100, ARCHIVE + b"too long"])
def test_wrong_beginning_is_thrown_away(server: Server, cache: Path, left: bytes) -> None:
    cache.mkdir()
    (cache / f"{cifar10.ARCHIVE}.part").write_bytes(left)
    load(server, "test")
    assert (cache / cifar10.ARCHIVE).read_bytes() == ARCHIVE


def test_wrong_checksum(server: Server, cache: Path, no_sample: None) -> None:
    server.content = ARCHIVE[:-1] + b"!"
    with pytest.raises(SourceError, match="checksum of the downloaded file is wrong"):
        load(server, "test")
    assert len(server.requests) == 1
    assert {file.suffix for file in cache.iterdir()} <= {".lock"}


def test_download_that_is_too_large(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(SourceError, match="larger than expected"):
        fetch(server.url, target, digest=MD5, max_bytes=1000)
    assert not target.exists()


def test_unfriendly_server_and_no_server(server: Server, no_sample: None) -> None:
    server.status = 404
    with pytest.raises(SourceError, match="the server answered 404") as caught:
        load(server, "test")
    for way in ("WORDSIGHT_CIFAR10", "into ", "connect to the internet", "wordsight\\[sample\\]"):
        assert caught.match(way)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(SourceError, match="Connection refused"):
        load(server, "train")


def test_server_that_never_answers(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(SourceError, match=r"no answer within 0\.2 s|timed out"):
            fetch(url, tmp_path / "x", digest=MD5, max_bytes=10, timeout=0.2)


def test_cache_that_cannot_be_written(server: Server, cache: Path, no_sample: None) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(SourceError, match="cannot get CIFAR-10"):
        load(server, "test")


def test_offline_does_not_ask(
    server: Server, monkeypatch: pytest.MonkeyPatch, no_sample: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        load(server, "test")
    assert server.requests == []


# The sample


@pytest.fixture
def fake_foolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    def make() -> Path:
        data = tmp_path / "site" / "foolbox" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise RuntimeError('must not be imported')")
        for index, label in enumerate([3, 8, 8, 0]):
            image = PIL.Image.new("RGB", (32, 32), (index, label, 0))
            image.save(data / f"cifar10_{index:02d}_{label}.png")
            image.save(data / f"cifar100_{index:02d}_49.png")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        for name in [name for name in sys.modules if name.split(".")[0] == "foolbox"]:
            monkeypatch.delitem(sys.modules, name)
        return data

    return make


def test_sample_of_an_installed_package(
    fake_foolbox: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fake_foolbox()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = cifar10.load("test")
    items = source.items()
    assert [item.label for item in items] == ["cat", "ship", "ship", "airplane"]
    assert [open_image(item.read()).getpixel((0, 0)) for item in items] == [
        (0, 3, 0),
        (1, 8, 0),
        (2, 8, 0),
        (3, 0, 0),
    ]
    assert "foolbox" in source.origin
    assert source.notice is not None
    assert "only 4 of CIFAR-10's test images" in source.notice
    assert "HF_HUB_OFFLINE" in source.notice
    assert {item.root for item in items} == {source.root}
    assert Path(source.root).samefile(data)
    assert "foolbox" not in sys.modules
    with pytest.raises(SourceError, match="cannot get CIFAR-10"):
        cifar10.load("train")  # there is no sample of the training images


# Real data


def test_real_shards_and_sample_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("WORDSIGHT_DATA")
    if not data:
        pytest.skip("WORDSIGHT_DATA is not set to the folder of the data packs")
    monkeypatch.setenv("WORDSIGHT_CIFAR10", str(Path(data) / "cifar10"))
    items = cifar10.load("test").items()
    assert len(items) == 10_000
    assert {label: sum(i.label == label for i in items) for label in cifar10.CLASSES} == (
        dict.fromkeys(cifar10.CLASSES, 1000)
    )
    first = {item.path.rpartition("::")[2]: item for item in items[:200]}
    if not cifar10._sample_files():
        pytest.skip("needs the extra sample")
    monkeypatch.delenv("WORDSIGHT_CIFAR10")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    numbers: dict[str, int] = {}
    sample = cifar10.load("test").items()
    assert len(sample) == 20
    for item in sample:
        # The n-th image of a class in the sample is the n-th one in the shard, there as a JPEG.
        number = numbers.setdefault(str(item.label), 0)
        numbers[str(item.label)] += 1
        exact = np.asarray(open_image(item.read())).astype(int)
        lossy = np.asarray(open_image(first[f"test/{item.label}/{number:04d}.jpg"].read()))
        assert abs(exact - lossy).mean() < 15  # other pictures of the class: 30 and more
