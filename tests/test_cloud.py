"""A library at a URL: in memory, and in a stand-in for S3 on this machine (`make test-cloud`)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel

import wordsight
from wordsight.cli import main
from wordsight.errors import LibraryError, SourceError, StorageError

pytest.importorskip("obstore", reason="obstore (the extra cloud) is not installed: make test-cloud")

from benchmarks.faulty import faulty
from wordsight import storage
from wordsight.library import ImageRecord, Store, ViewRecord
from wordsight.library.remote import lease, replica
from wordsight.library.remote.store import RemoteStore
from wordsight.storage import Objects

Photos = Callable[..., Path]
Machine = Callable[[str], None]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of no library yet; searches ask at once what it names."""
    monkeypatch.setattr(storage, "_memory", {})
    monkeypatch.setattr("wordsight.library.remote.store._LOOK_EVERY", 0)
    return "memory://bucket/library"


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """From now on, be on the machine of this name: it has a cache of its own."""
    return lambda name: monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / name))


def opened(place: str | Path) -> wordsight.Library:
    return wordsight.open(place, ColourModel())  # type: ignore[arg-type]


def made(place: str | Path) -> wordsight.Library:
    return wordsight.create(place, ColourModel())  # type: ignore[arg-type]


def pictures(colour: str, count: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), ANCHORS[colour], np.uint8) for _ in range(count)]


def reds(library: wordsight.Library) -> int:
    hits = library.search("red", 1000, anyway=True).hits
    return sum(Path(hit.path).name.startswith("red") for hit in hits)


def test_it_answers_as_a_library_in_a_directory(
    tmp_path: Path, photos: Photos, url: str, on_machine: Machine
) -> None:
    folder = photos(red=12, blue=12, green=12)
    local, remote = made(tmp_path / "lib"), made(url)
    local.index(folder, crops="tiles")
    report = remote.index(folder, crops="tiles")
    assert (report.images, remote.place, str(remote)[8:-1].split(",")[0]) == (36, url, f"{url!r}")
    on_machine("other")
    for library in (remote, opened(url)):
        for query in ("red", "blue + green", "zebra"):
            mine, theirs = library.search(query).to_json(), local.search(query).to_json()
            assert {**mine, "timings_ms": 0} == {**theirs, "timings_ms": 0}
    again = opened(url)
    assert again.index(folder).unchanged == 36
    assert again.store.crops == "tiles"  # it remembers how it was indexed


def test_readers_follow_what_is_written(
    photos: Photos, url: str, on_machine: Machine, tmp_path: Path
) -> None:
    writer = made(url)
    writer.index(photos(red=3, blue=3))
    on_machine("other")
    reader = opened(url)
    assert reds(reader) == 3
    on_machine("writer again")
    writer = opened(url)
    for file in list((tmp_path / "photos").glob("red-*"))[:2]:
        file.unlink()
    assert writer.index(tmp_path / "photos", prune=True).removed == 2
    on_machine("other")
    assert reds(reader) == 1
    assert reader.undo_prune() == 2
    assert reds(reader) == reds(writer) == 3
    reader.compact()
    assert reader.undo_prune() == 0
    assert (len(reader), reds(opened(url))) == (6, 3)


def test_another_program_reads_the_table(url: str, photos: Photos, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    made(url).index(photos(red=3))
    stored = Objects(url)
    for name in stored.ages("views.lance"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        stored.fetch(name, stored.state(name)[0], tmp_path / name)
    assert lance.dataset(str(tmp_path / "views.lance")).count_rows() == 3


def test_a_long_run_publishes_now_and_then(
    url: str, photos: Photos, on_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made(url)
    on_machine("reader")
    reader = opened(url)
    monkeypatch.setattr("wordsight.library.remote.store._PUBLISH_EVERY", -1)
    with writer.store.lock():
        for number in range(2):
            record = red_image(number)
            writer.store.put([record], replace=False)
            assert len(reader.search("red", anyway=True).hits) == number + 1
    assert len(writer) == 2


def red_image(number: int) -> ImageRecord:
    """An image that is red."""
    vector = ColourModel().encode_texts(["red"])[0]
    name = f"red {number}"
    return ImageRecord(f"{number:016x}", name, "", 1, 1, name, 8, 8, views=[ViewRecord(vector)])


def test_two_writers(url: str, on_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(url)
    on_machine("other")
    second = opened(url)
    with first.store.lock():
        with pytest.raises(LibraryError, match="is writing to the library memory://bucket"):
            second.add(pictures("red", 1), ["red"])
        assert len(second) == 0  # it is read meanwhile
    second.add(pictures("red", 1), ["red"])
    assert reds(first) == 1


def test_a_lease_that_expired_is_taken_over_and_its_holder_refused(
    url: str, on_machine: Machine
) -> None:
    slow = made(url)
    on_machine("other")
    fast = opened(url)

    def sleep_too_long() -> None:
        with slow.store.lock():
            slow.store.crops = "tiles"
            stored = Objects(url)
            state = stored.get(lease.LEASE)
            assert state
            over = json.dumps({**json.loads(state.data), "until": 0}).encode()
            assert stored.put_if(lease.LEASE, over, state.tag)
            fast.add(pictures("red", 2), ["red 1", "red 2"])

    with pytest.raises(LibraryError, match="another process wrote to the library"):
        sleep_too_long()
    assert (reds(slow), slow.store.crops) == (2, "none")


def test_a_lease_is_renewed(url: str) -> None:
    made(url)
    stored = Objects(url)
    with lease.leased(stored, seconds=0.3):
        first = stored.get(lease.LEASE)
        while stored.get(lease.LEASE) == first:
            time.sleep(0.01)
        with pytest.raises(LibraryError, match="wait until it has finished"):
            lease._expect_over(stored, lease._lease(60))
    with lease.leased(stored):
        pass


def test_a_put_whose_answer_was_lost_is_no_other_process(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage's client tries again, and finds what it put itself."""
    stored = Objects(url)

    class Twice:
        def __init__(self, store: Any) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def put(self, *arguments: Any, **options: Any) -> Any:
            self.store.put(*arguments, **options)
            return self.store.put(*arguments, **options)

    stored._store = Twice(stored._store)  # type: ignore[assignment]
    tag = stored.put_if("one", b"1", None)
    assert tag
    assert stored.put_if("one", b"2", tag)
    assert stored.put_if("one", b"3", tag) is None


class Killed(BaseException):
    """The process is gone: nothing after this is done."""


def test_a_crash_between_two_puts_shows_one_version_or_the_other(
    url: str, on_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(url).add(pictures("red", 2), ["red 1", "red 2"])
    cut = 0
    for last in range(60):
        on_machine(f"writer {last}")
        writer = opened(url)
        before, left = len(writer), [last]

        def counted(real: Any, left: list[int], *arguments: Any) -> Any:
            if arguments[1] != lease.LEASE:
                if not left[0]:
                    raise Killed
                left[0] -= 1
            return real(*arguments)

        with monkeypatch.context() as patch:
            for name in ("put", "put_if", "delete"):
                real = getattr(Objects, name)
                patch.setattr(Objects, name, lambda *a, r=real, n=left: counted(r, n, *a))
            try:
                writer.add(pictures("red", 2), [f"red {last} a", f"red {last} b"])
                whole = True
            except Killed:
                whole, cut = False, cut + 1
        on_machine("reader")
        reader = opened(url)
        assert len(reader) == reds(reader)
        assert len(reader) in ({before + 2} if whole else {before, before + 2})
        if whole:
            break
    assert whole
    assert cut > 5
    on_machine("another writer")
    again = opened(url)
    again.compact()
    assert len(again) == len(again.store.entries())


def test_a_reader_beside_a_writer_sees_whole_versions(url: str, on_machine: Machine) -> None:
    """Each change adds two pictures, so there is never an odd number."""
    made(url).add(pictures("red", 2), ["red 1", "red 2"])
    on_machine("reader")
    reader = opened(url)
    seen, failed, done = set(), [], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.add(reds(reader))
        except Exception as error:
            failed.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        on_machine("writer")
        writer = opened(url)
        for number in range(6):
            writer.add(pictures("red", 2), [f"red a {number}", f"red b {number}"])
            if number % 3 == 2:
                writer.compact()
    finally:
        done.set()
        reading.join()
    assert failed == []
    assert {count % 2 for count in seen} == {0}
    assert reds(reader) == 14


def test_objects_that_go_while_they_are_fetched(
    url: str, on_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer was faster: what the record names now is there."""
    writer = made(url)
    writer.add(pictures("red", 1), ["red 1"])
    on_machine("reader")
    fetch = Objects.fetch

    def overtaken(self: Objects, name: str, size: int, path: Path) -> None:
        monkeypatch.setattr(Objects, "fetch", fetch)
        raise FileNotFoundError(name)

    monkeypatch.setattr(Objects, "fetch", overtaken)
    assert reds(opened(url)) == 1
    on_machine("third")
    monkeypatch.setattr(Objects, "fetch", lambda *_: (_ for _ in ()).throw(FileNotFoundError("x")))
    with pytest.raises(LibraryError, match="lists are missing"):
        opened(url)


def test_what_does_not_hold_what_was_written_is_said(url: str, on_machine: Machine) -> None:
    made(url).add(pictures("red", 1), ["red 1"])
    stored = Objects(url)
    (data,) = [name for name in stored.ages("views.lance") if "/data/" in name]
    stored.put(data, b"something else")
    on_machine("reader")
    with pytest.raises(LibraryError, match="differs from what was written"):
        opened(url)


def test_a_cache_that_was_cleared_is_filled_again(url: str) -> None:
    library = made(url)
    library.add(pictures("red", 2), ["red 1", "red 2"])
    for file in library.path.rglob("*.lance"):
        if file.is_file():
            file.unlink()
    assert reds(opened(url)) == 2
    assert reds(library) == 2


def test_the_cache_is_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(url)
    first.add(pictures("red", 2), ["red 1", "red 2"])
    takes = sum(file.stat().st_size for file in first.path.parent.rglob("*") if file.is_file())
    monkeypatch.setenv("WORDSIGHT_CACHE_GB", str(1.5 * takes / 1e9))
    made(url + "-2").add(pictures("red", 2), ["red 1", "red 2"])
    assert first.path.exists()  # in use a moment ago
    os.utime(first.path.parent / "state.json", (1, 1))
    made(url + "-3")
    assert not first.path.exists()
    assert reds(first) == 2  # fetched again
    monkeypatch.setenv("WORDSIGHT_CACHE_GB", "0.0001")
    with pytest.raises(LibraryError, match="set it to a larger number"):
        made(url + "-4")
    monkeypatch.setenv("WORDSIGHT_CACHE_GB", "much")
    with pytest.raises(LibraryError, match="give a number of gigabytes"):
        made(url + "-5")


def test_other_objects_beside_it_stay(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "_KEPT", -1)  # seconds: all that no version names goes at once
    stored = Objects(url)
    stored.put("shards/000.tar", b"mine")
    library = made(url)
    for number in range(3):
        library.add(pictures("red", 1), [f"red {number}"])
    library.compact()
    named = {file.key for file in library.store.replica.state().files.values()}  # type: ignore[attr-defined]
    blobs = set(stored.ages("blobs"))
    library.add(pictures("red", 1), ["red 3"])
    assert blobs & named
    assert len(blobs) < 25  # those of versions before went
    assert reds(library) == 4
    library.store.delete()
    assert set(stored.ages("")) == {"shards/000.tar"}


def test_what_is_not_to_be_had_is_one_line(
    url: str, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LibraryError, match=f"no library at {url}; create one with: wordsight"):
        Store.open(url)
    made(url)
    with pytest.raises(LibraryError, match="already holds a library"):
        made(url)
    library = opened(url)
    library.add(pictures("red", 1), ["red 1"])
    stored = Objects(url)
    stored.put("library.json", b"{}")
    with pytest.raises(LibraryError, match="damaged or was not written"):
        Store.open(url)
    outside = {"files": {"../../outside": [1, "0", "blobs/0"]}}  # from a bucket of someone else
    stored.put("library.json", json.dumps(outside).encode())
    with pytest.raises(LibraryError, match="damaged or was not written"):
        Store.open(url)


def shard(path: Path, folder: Path) -> bytes:
    """A tar archive of a folder's pictures, each with a caption beside it."""
    import io
    import tarfile

    with tarfile.open(path, "w") as archive:
        for picture in sorted(folder.iterdir()):
            archive.add(picture, picture.name)
            text = f"a picture of {picture.stem}".encode()
            about = tarfile.TarInfo(f"{picture.stem}.txt")
            about.size = len(text)
            archive.addfile(about, io.BytesIO(text))
    return path.read_bytes()


def test_shards_at_urls(tmp_path: Path, photos: Photos, model: ColourModel, url: str) -> None:
    stored = Objects("memory://shards")
    local = []
    for number, counts in enumerate(({"red": 3}, {"blue": 2, "green": 1})):
        local.append(tmp_path / f"{number}.tar")
        stored.put(f"{number}.tar", shard(local[-1], photos(f"shard {number}", **counts)))
    at_url, here = made(url), made(tmp_path / "lib")
    report = at_url.index("memory://shards/{0..1}.tar")
    here.index([str(path) for path in local])
    assert (report.images, report.failed) == (6, [])
    mine, theirs = (
        sorted((Path(hit.path).name, hit.score, hit.metadata["caption"]) for hit in found.hits)
        for found in (at_url.search("red", anyway=True), here.search("red", anyway=True))
    )
    assert mine == theirs
    hit = at_url.search("red").hits[0]
    assert hit.path.startswith("memory://shards/0.tar::red-")
    assert at_url.image(hit).size == (32, 24)
    again = at_url.index("memory://shards/{0..1}.tar")  # nothing is embedded twice
    assert (again.unchanged, again.indexed) == (6, 0)
    stored.put("1.tar", stored.part("1.tar", 0, 3000))
    broken = at_url.index("memory://shards/{0..1}.tar")
    assert broken.failed
    stored.delete(["1.tar"])
    with pytest.raises(SourceError, match=r"memory://shards/1.tar: .*(No such|not there|no such)"):
        at_url.index("memory://shards/1.tar")
    with pytest.raises(SourceError, match=r"at URLs only \.tar shards and \.parquet tables"):
        at_url.index("https://example.org/a.jpg")


def test_tables_and_patterns_at_urls(tmp_path: Path, photos: Photos, url: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = Objects("memory://tables")
    for number, colour in enumerate(("red", "blue")):
        folder = photos(colour, **{colour: 4})
        images = [path.read_bytes() for path in sorted(folder.iterdir())]
        table = pa.table({"jpg": images, "caption": [f"{colour} {n}" for n in range(4)]})
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
        stored.put(f"{number}.parquet", tmp_path / "x.parquet")
    stored.put("more/2.parquet", b"a pattern stays in its folder")
    library = made(url)
    report = library.index("memory://tables/*.parquet")
    assert (report.indexed, report.failed) == (8, [])
    hits = library.search("red", 4).hits
    assert {hit.path for hit in hits} == {f"memory://tables/0.parquet::{n}" for n in range(4)}
    assert library.image(hits[0]).size == (32, 24)
    assert hits[0].metadata["caption"].startswith("red ")
    assert library.index("memory://tables/[01].parquet").unchanged == 8
    for pattern in ("memory://tables/*.tar", "memory://nothing/"):
        with pytest.raises(SourceError, match=r"no \.tar shard or \.parquet table is there"):
            library.index(pattern)
    stored.put("2.parquet", b"no table")
    with pytest.raises(SourceError, match="no parquet file"):
        library.index("memory://tables/2.parquet")
    with pytest.raises(SourceError, match="no such"):
        library.index("memory://tables/9.parquet")


def test_another_model_for_a_library_at_a_url(
    url: str, photos: Photos, on_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(red=3, blue=3)
    writer = made(url)
    writer.index(folder)
    on_machine("reader")
    reader = wordsight.open(url)
    assert len(reader) == 6
    on_machine("writer")
    other = ColourModel("other0ther0ther0")
    (folder / "red-0.png").rename(folder.parent / "red-0.png")
    with pytest.raises(LibraryError, match=f"of the library {url} are missing"):
        writer.remodel(other)  # type: ignore[arg-type]
    (folder.parent / "red-0.png").rename(folder / "red-0.png")
    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "succeed", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            writer.remodel(other)  # type: ignore[arg-type]
    assert reds(opened(url)) == 3  # as it was
    again = ColourModel("other0ther0ther0")
    report = writer.remodel(again)  # type: ignore[arg-type]
    assert report
    assert (report.images, again.encoded_images) == (6, 0)  # what was embedded then was kept
    on_machine("reader")
    reader.store.refresh()
    assert (reader.store.model.hash, len(reader)) == (other.hash, 6)
    on_machine("third")
    third = wordsight.open(url, other)  # type: ignore[arg-type]
    assert reds(third) == 3
    assert third.remodel(other) is None  # type: ignore[arg-type]
    assert third.index(folder).unchanged == 6


# A stand-in for S3


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of moto's server."""
    pytest.importorskip("moto", reason="moto[server] is not installed: make test-cloud")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


SECRET = "wJalrXUtnFEMI-K7MDENG-secret"


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, which the environment gives access to."""
    from obstore.store import S3Store

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setattr(storage, "_options", {})
    monkeypatch.setattr("wordsight.library.remote.store._LOOK_EVERY", 0)
    name = f"bucket-{os.urandom(4).hex()}"
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT"), timeout=60)
    assert S3Store
    return f"s3://{name}/lib"


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit status and what was printed."""
    try:
        main(arguments)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    assert "Traceback" not in err
    return status, out, err


def test_the_verbs_take_a_url(
    bucket: str,
    photos: Photos,
    tmp_path: Path,
    on_machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wordsight.models, "load_model", lambda *_, **__: ColourModel())
    folder = photos(red=3, blue=2)
    status, out, err = run("index", str(folder), "--library", bucket, capsys=capsys)
    assert (status, bucket in out + err) == (0, True)
    on_machine("other")
    at = ("--library", bucket)
    status, out, err = run("search", "red", *at, "--json", "--anyway", "-k", "2", capsys=capsys)
    assert status == 0, err
    assert [Path(hit["path"]).name[:3] for hit in json.loads(out)["hits"]] == ["red"] * 2
    status, out, _ = run("info", *at, "--json", capsys=capsys)
    assert (status, json.loads(out)["library"], json.loads(out)["images"]) == (0, bucket, 5)
    (folder / "red-0.png").unlink()
    status, out, _ = run("index", str(folder), "--prune", *at, "--json", capsys=capsys)
    assert (status, json.loads(out)["removed"]) == (0, 1)
    status, out, err = run("compact", *at, "--json", capsys=capsys)
    assert (status, json.loads(out)["library"]) == (0, bucket)
    truth = tmp_path / "truth.csv"
    truth.write_text(f"query,path\nblue,{folder / 'blue-0.png'}\nblue,{folder / 'blue-1.png'}\n")
    status, out, err = run("evaluate", "--queries", str(truth), *at, "--json", capsys=capsys)
    assert status == 0, err
    import lance

    options = {"allow_http": "true", "aws_endpoint": os.environ["AWS_ENDPOINT_URL"]}
    table = lance.dataset(f"{bucket}/views.lance", storage_options=options)
    assert table.count_rows() == 4  # by Lance itself, without wordsight


def test_a_benchmark_is_read_where_it_lies(
    bucket: str, s3: str, tmp_path: Path, model: ColourModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a bucket and from a web server the figures are those of the same files on a disk."""
    import urllib.request

    from test_standard import write_classes, write_retrieval

    from wordsight.evaluate.standard import measure, read_benchmark

    at = bucket.removesuffix("/lib")
    for name, write in (("told", write_retrieval), ("classes", write_classes)):
        folder = write(tmp_path / name)
        for file in (path for path in folder.rglob("*") if path.is_file()):
            address = f"{s3}/{at.removeprefix('s3://')}/{name}/{file.relative_to(folder)}"
            public = {"x-amz-acl": "public-read", "Content-Type": "application/x-tar"}
            put = urllib.request.Request(address, file.read_bytes(), public, method="PUT")
            urllib.request.urlopen(put, timeout=60).close()
        here = measure(model, read_benchmark(f"wds:{folder}")).figures  # type: ignore[arg-type]
        on_the_web = f"{s3}/{at.removeprefix('s3://')}/{name}"
        for place in (f"{at}/{name}", f"{at}/{name}/:test", on_the_web, f"{on_the_web}:test"):
            found = measure(model, read_benchmark(f"wds:{place}"))  # type: ignore[arg-type]
            assert (found.figures, found.skipped) == (here, [])
    evaluate = ("evaluate", "--model", "starter", "--benchmark")
    for spec, words in (
        (f"wds:{at}/nothing", "nothing/test/nshards.txt cannot be read: no such object"),
        (f"wds:{on_the_web}:train", "classes/train/nshards.txt cannot be read: no such object"),
        (f"flickr30k:{at}/told", "is read from a folder on this machine"),
    ):
        status, out, err = run(*evaluate, spec, capsys=capsys)
        assert (status, out, words in err, err.count("\n")) == (2, "", True, 1), err


def test_a_server_follows_what_is_written(bucket: str, on_machine: Machine) -> None:
    client = pytest.importorskip("fastapi.testclient")
    from wordsight import web

    made(bucket).add(pictures("red", 2), ["red 1", "red 2"])
    on_machine("server")
    library = opened(bucket)
    with client.TestClient(web.create_app(library), base_url="http://localhost") as asked:

        def found() -> int:
            answer = asked.get("/api/v1/search", params={"q": "red", "k": 50, "anyway": True})
            return len(answer.json()["hits"])

        assert found() == 2
        on_machine("writer")
        opened(bucket).add(pictures("red", 2), ["red 3", "red 4"])
        on_machine("server")
        assert found() == 4
        assert asked.get("/api/v1/ready").status_code == 200


def test_a_writer_that_is_killed_before_its_last_put(
    bucket: str, on_machine: Machine, tmp_path: Path
) -> None:
    made(bucket).add(pictures("red", 2), ["red 1", "red 2"])
    code = """
        import functools, os, sys
        from fakes import ANCHORS, ColourModel
        import numpy as np
        import wordsight
        from wordsight.library.remote import store
        from wordsight.storage import Objects
        store.leased = functools.partial(store.leased, seconds=1)
        put_if = Objects.put_if
        Objects.put_if = lambda self, name, *rest: (
            os._exit(9) if name == "library.json" else put_if(self, name, *rest))
        library = wordsight.open(sys.argv[1], ColourModel())
        library.add([np.full((8, 8, 3), ANCHORS["red"], np.uint8)], ["red 3"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), bucket]
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=there, check=False).returncode == 9
    on_machine("reader")
    assert reds(opened(bucket)) == 2
    time.sleep(1)  # until the lease of the killed one is over
    writer = opened(bucket)
    writer.add(pictures("red", 1), ["red 4"])
    assert reds(writer) == 3
    assert {Path(hit.path).name for hit in writer.search("red", anyway=True).hits} == {
        "red 1",
        "red 2",
        "red 4",
    }


def test_options_of_the_storage(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(bucket)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    settings = {
        "aws_endpoint_url": endpoint,
        "aws_access_key_id": "AKID",
        "aws_secret_access_key": SECRET,
    }
    assert len(wordsight.open(bucket, storage_options=settings)) == 0
    monkeypatch.setattr(storage, "_options", {})
    given = [f"--storage-option={key}={value}" for key, value in settings.items()]
    status, out, err = run("info", "--library", bucket, *given, "--json", capsys=capsys)
    assert (status, json.loads(out)["images"]) == (0, 0), err
    for wrong, said in (("region", "write it as KEY=VALUE"), (f"a_b={SECRET}", "unknown option")):
        monkeypatch.setattr(storage, "_options", {})
        options = [*given, f"--storage-option={wrong}"]
        status, _, err = run("info", "--library", bucket, *options, capsys=capsys)
        assert (status, said in err, err.count("\n")) == (2, True, 1), err


def refusing(status: int) -> Iterator[str]:
    """A server that answers all requests with this status."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_storage_that_refuses_is_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "_RETRIES", {"max_retries": 1})

    def said() -> str:
        status, out, err = run("info", "--library", bucket, capsys=capsys)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err

    assert f"no library at {bucket}" in said()
    for code, words in ((403, "check the credentials"), (503, "answered with an error (503")):
        for endpoint in refusing(code):
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            assert words in said()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in said()


def test_no_bucket(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run("info", "--library", "s3://nowhere/lib", capsys=capsys)
    assert (status, "there is no bucket of s3://nowhere/lib" in err) == (2, True), err


def test_a_reader_goes_on_while_the_storage_is_away(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = made(bucket)
    library.add(pictures("red", 2), ["red 1", "red 2"])

    def away(_self: Objects, _name: str) -> None:
        raise StorageError("the storage cannot be reached")

    monkeypatch.setattr(Objects, "get", away)
    with pytest.warns(UserWarning, match="cannot be reached"):
        assert reds(library) == 2
    assert isinstance(library.store, RemoteStore)


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        ("gs://bucket/lib", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container/lib", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("abfss://container@account.dfs.core.windows.net/lib", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_other_clouds_without_credentials(
    place: str, variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own servers are out of reach: a proxy answers that access is refused."""
    monkeypatch.setattr(storage, "_RETRIES", {"max_retries": 0})
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    key = ""
    if place.startswith("gs://"):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    elif place.startswith("abfss://"):
        key = "not base64"
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", key)
    status, out, err = run("info", "--library", place, capsys=capsys)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert place in err
    assert variable in err
    assert not key or key not in err


def test_a_storage_that_fails_now_and_then(
    bucket: str,
    s3: str,
    on_machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503, delays, answers that are cut, writes whose answer is lost: nothing is lost or twice."""
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for number in range(4):
            library = made(bucket) if number == 0 else opened(bucket)
            library.add(pictures("red", 5), [f"red {number} {n}" for n in range(5)])
            assert reds(opened(bucket)) == 5 * (number + 1)
        opened(bucket).compact()
        assert min(proxy.met[fault] for fault in ("503", "delay", "cut")) > 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    on_machine("another")
    assert [reds(opened(bucket)), len(opened(bucket).store.entries())] == [20, 20]
