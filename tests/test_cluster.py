"""Indexing on a Ray cluster: the same library as without, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.errors import WordsightError
from wordsight.indexing import BATCH
from wordsight.indexing.cluster import Cluster, _model_of, _Task
from wordsight.indexing.decoding import Decoder
from wordsight.indexing.records import Written
from wordsight.indexing.report import Failure, IndexReport
from wordsight.library.fragments import FragmentWriter
from wordsight.sources.base import Item, item_id

IMAGES = 3 * BATCH
MARK = "WORDSIGHT_TEST_CLUSTER"


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="make test-cloud installs it")
    os.environ[MARK] = str(os.getpid())
    os.environ.setdefault("RAY_worker_niceness", "0")  # else they starve on a busy machine
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures, one of them twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for n in range(IMAGES - 1):
        noise = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(noise).resize((48, 48)).save(folder / f"{n:04}.png")
    (folder / "again.png").write_bytes((folder / "0000.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def vectors(library: wordsight.Library) -> dict[str, np.ndarray[Any, Any]]:
    ids = [entry.id for entry in library.store.entries()]
    assert len(ids) == len(set(ids)) == library.store.count_views()
    return {image.path: image.views[0].vector for image in library.store.images(ids)}


def assert_complete(library: wordsight.Library, folder: Path) -> None:
    assert {Path(path).name for path in vectors(library)} == {
        path.name for path in folder.glob("*.png") if path.name != "broken.png"
    }


def workers() -> list[int]:
    """Those of this test's cluster."""
    found = subprocess.run(["pgrep", "-f", "ray::_Worker"], capture_output=True, check=False)
    own = []
    for pid in map(int, found.stdout.split()):
        with contextlib.suppress(OSError):
            if f"{MARK}={os.getpid()}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                own.append(pid)
    return own


def test_without_ray_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WordsightError, match=r"pip install 'wordsight\[ray\]'"):
        wordsight.create(tmp_path / "lib", model="starter").index(tmp_path, cluster="auto")


def test_a_library_is_the_same_as_without_a_cluster(ray: Any, folder: Path, tmp_path: Path) -> None:
    alone = wordsight.create(tmp_path / "alone", model="starter")
    alone.index(folder)
    shared = wordsight.create(tmp_path / "shared", model="starter")
    seen: list[tuple[int, int]] = []
    report = shared.index(folder, cluster="auto", progress=lambda *done: seen.append(done))
    assert [Path(failure.path).name for failure in report.failed] == ["broken.png"]
    assert report.images == report.indexed + report.reused == IMAGES
    assert seen[-1] == (IMAGES + 1, IMAGES + 1)
    mine, theirs = vectors(shared), vectors(alone)
    assert mine.keys() == theirs.keys()
    assert min(float(mine[path] @ theirs[path]) for path in mine) > 0.999
    assert shared.index(folder, cluster="auto").unchanged == IMAGES


def test_crops_come_with_the_workers(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n, colour in enumerate(["red", "green"]):
        Image.new("RGB", (640, 480), colour).save(tmp_path / "in" / f"{n}.png")
    library = wordsight.create(tmp_path / "lib", model="starter")
    report = library.index(tmp_path / "in", crops="tiles", cluster="auto")
    assert report.crops is not None
    assert report.crops.per_image[0] == report.crops.per_image[1] > 1
    assert report.views == 2 + sum(report.crops.per_image)


def test_killed_workers_lose_nothing(ray: Any, folder: Path, tmp_path: Path) -> None:
    library = wordsight.create(tmp_path / "lib", model="starter")
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2) and len(killed) < 3:
            for pid in set(workers()) - set(killed):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break

    killer = threading.Thread(target=kill)
    killer.start()
    library.index(folder, cluster="auto")
    over.set()
    killer.join()
    assert killed
    assert_complete(library, folder)


def test_a_killed_driver_loses_nothing(ray: Any, folder: Path, tmp_path: Path) -> None:
    library = wordsight.create(tmp_path / "lib", model="starter")
    program = (
        "import sys, wordsight\n"
        "from wordsight.indexing import pipeline\n"
        "pipeline.WRITE_EVERY = 64\n"
        "wordsight.open(sys.argv[1]).index(sys.argv[2], cluster='auto',"
        " progress=lambda done, _: print(done, flush=True))\n"
    )
    command = [sys.executable, "-c", program, str(library.path), str(folder)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        if int(line) > BATCH:
            break
    driver.kill()
    driver.wait()
    left = list((library.path / "incoming").glob("*"))
    report = library.index(folder, cluster="auto")
    assert_complete(library, folder)
    assert report.unchanged + report.indexed + report.reused == IMAGES
    assert left
    assert not (library.path / "incoming").exists()


def test_what_the_library_knows_is_written_by_the_driver(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n, colour in enumerate(["red", "green", "blue"]):
        Image.new("RGB", (64, 48), colour).save(tmp_path / "in" / f"{n}.png")
    library = wordsight.create(tmp_path / "lib", model="starter")
    assert library.index(tmp_path / "in", cluster="auto").indexed == 3
    Image.new("RGB", (64, 48), "white").save(tmp_path / "in" / "0.png")  # another picture
    (tmp_path / "in" / "1.png").rename(tmp_path / "in" / "moved.png")
    Image.new("RGB", (64, 48), "black").save(tmp_path / "in" / "new.png")
    report = library.index(tmp_path / "in", cluster="auto")
    assert (report.indexed, report.reused, report.unchanged, report.removed) == (2, 1, 1, 1)
    found = {Path(path).name: vector for path, vector in vectors(library).items()}
    assert found.keys() == {"0.png", "moved.png", "2.png", "new.png"}
    alone = wordsight.create(tmp_path / "alone", model="starter")
    alone.index(tmp_path / "in")
    for path, vector in vectors(alone).items():
        assert float(found[Path(path).name] @ vector) > 0.999


def test_a_worker_that_does_not_see_the_library_sends_what_it_wrote(
    ray: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine: nothing is at this place there."""
    library = wordsight.create(tmp_path / "lib", model="starter")
    beside = FragmentWriter.beside

    def elsewhere(*arguments: Any) -> FragmentWriter:
        return replace(beside(*arguments), place=tmp_path / "nowhere")

    monkeypatch.setattr(FragmentWriter, "beside", elsewhere)
    library.index(folder, cluster="auto")
    assert_complete(library, folder)
    assert not (tmp_path / "nowhere").exists()
    assert wordsight.open(library.path).store.info()["images"] == IMAGES


def test_an_image_that_kills_its_worker_is_found(ray: Any, folder: Path, tmp_path: Path) -> None:
    def die(item: Item) -> bytes:
        os._exit(1)

    def item(path: str, reader: Any) -> Item:
        return Item(item_id(path), path, 1, 1, None, "", reader)

    good = folder / "0001.png"
    model = wordsight.load_model("starter")
    decoder = Decoder(model, None, {}, IndexReport(), recheck=False)
    todo = [item(f"/a/{n}.png", lambda _: good.read_bytes()) for n in range(BATCH + 9)]
    todo[3] = item("/a/bad.png", die)
    library = wordsight.create(tmp_path / "lib", model)
    with library.store.lock():
        writer = library.store.fragment_writer()
        found = list(Cluster().embedded(decoder, "none", writer, todo))
        written = [one for one in found if isinstance(one, Written)]
        library.store.append(writer, [one.fragment for one in written])
    failed = [one for one in found if isinstance(one, Failure)]
    assert [(one.path, "that read it died" in one.reason) for one in failed] == [
        ("/a/bad.png", True)
    ]
    assert sum(one.images for one in written) == len(library) == len(todo) - 1
    assert "/a/bad.png" not in vectors(library)


def test_a_machine_without_the_model_is_sent_it(tmp_path: Path) -> None:
    model = wordsight.load_model("starter")
    files = {name: (model.path / name).read_bytes() for name in model.files}
    task = _Task(
        str(tmp_path / "nowhere"), model.hash, files, "auto", "auto", "none", {}, False, None, {}
    )  # type: ignore[arg-type]
    sent = _model_of(task, lambda reference: reference)
    assert sent.hash == model.hash
    assert sent.path != model.path


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="make test-cloud installs it")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.png")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "wordsight", "index", str(tmp_path), "--ray", "ray://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, time.monotonic() - began
    assert "no Ray cluster answers at ray://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_manifest_for_kubernetes_reads_as_one() -> None:
    yaml = pytest.importorskip("yaml")
    page = Path(__file__).parents[1] / "docs/how-to/cluster.md"
    text = page.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0]
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in pods):
        mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}
