"""A large library searched by a fleet on Ray: the answers of one process, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from PIL import Image
from test_large import add_random

import wordsight
from wordsight.api import Library
from wordsight.errors import LibraryError
from wordsight.library.index import ann, large
from wordsight.search import Result

SLICES = 3
WORDS = ["red", "a dog", "grand piano", "blue and white", "something else"]
ASKED: list[tuple[list[Any], dict[str, Any]]] = [
    (WORDS, {}),
    (WORDS, {"crops": False}),
    (WORDS, {"label": "l3"}),
    (WORDS, {"rank_by": "z", "skip": 5}),
    (['"red" - 0.5*"a dog"', '"red" + "blue"'], {}),
    ([Image.new("RGB", (32, 32), "red")], {}),
]


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    """Every library here is large, and its index has many parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORDSIGHT_EXACT_MB", "0")
        patch.setattr(ann, "PART", 128)
        patch.setattr(large, "BLOCK", 128)
        yield


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="make test-cloud installs it")
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which many score the same: each is there under two names."""
    place = tmp_path_factory.mktemp("fleet") / "lib"
    library = wordsight.create(place, ColourModel())
    add_random(library, range(500), crops=2)
    add_twice(library, range(500, 700))
    return place


def add_twice(library: Library, numbers: range) -> None:
    images = [np.full((8, 8, 3), (n % 250, 20, 20), np.uint8) for n in numbers]
    for name in ("one", "two"):
        library.add(images, [f"{n} {name}" for n in numbers])


@pytest.fixture(scope="module")
def fleet(ray: Any, place: Path) -> Iterator[Library]:
    library = wordsight.open(place, ColourModel())
    library.shard(SLICES)
    yield library
    assert library.store.fleet is not None
    library.store.fleet.close()


def answers(library: Library) -> list[Result]:
    return [
        result
        for queries, options in ASKED
        for result in library.search(queries, k=20, anyway=True, **options)
    ]


def assert_same(ours: Result, theirs: Result) -> None:
    assert ours.hits == theirs.hits
    assert ours.decision == theirs.decision
    assert ours.likeness == theirs.likeness
    assert (ours.verdict, ours.count, ours.top_z) == (theirs.verdict, theirs.count, theirs.top_z)


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"waited a minute for: {what}")


def replicas() -> set[int]:
    """Processes of the replicas on this machine."""
    found = subprocess.run(["pgrep", "-f", "ray::Holder"], capture_output=True, check=False)
    return {int(pid) for pid in found.stdout.split()}


def test_a_fleet_answers_as_one_process(fleet: Library, place: Path) -> None:
    alone = answers(wordsight.open(place, ColourModel()))
    together = answers(fleet)
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs)
        assert not ours.to_json()["partial"]
    scores = [hit.score for result in together for hit in result.hits]
    assert len(set(scores)) < len(scores)  # there were ties


def test_a_replica_that_dies_is_left_out_until_it_is_there_again(
    fleet: Library, place: Path
) -> None:
    alone = wordsight.open(place, ColourModel()).search(WORDS, k=300, anyway=True)
    os.kill(replicas().pop(), signal.SIGKILL)
    partial = fleet.search(WORDS, k=300, anyway=True)
    for some, all_ in zip(partial, alone, strict=True):
        told = some.to_json()
        assert told["partial"]
        assert 0.5 < told["answered"] < 0.8
        assert f"only {told['answered']:.0%} of the library answered" in told["notices"][0]
        ranked = [hit.id for hit in all_.hits]
        there = [hit.id for hit in some.hits if hit.id in ranked]
        assert there == [image for image in ranked if image in there]

    def whole() -> bool:
        return fleet.search("red").answered == 1

    until(whole, "the replica to be there again")
    for ours, theirs in zip(fleet.search(WORDS, k=300, anyway=True), alone, strict=True):
        assert_same(ours, theirs)


def test_a_new_version_is_rolled_out_without_a_failed_search(fleet: Library, place: Path) -> None:
    found: list[Result] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            found.append(fleet.search("red", anyway=True))

    def has_new() -> bool:
        return bool(found) and new in [hit.id for hit in found[-1].hits]

    writer = wordsight.open(place, ColourModel())
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        (new,) = writer.add([np.full((8, 8, 3), (220, 20, 20), np.uint8)], ["the reddest"])
        until(has_new, "the new version")
        writer.remove([new])
        writer.compact()  # the files of the version that is searched are gone
        until(lambda: not has_new(), "the version after it")
        assert asking.is_alive()
    finally:
        over.set()
        asking.join()
    assert {result.answered for result in found} == {1.0}
    for ours, theirs in zip(
        answers(fleet), answers(wordsight.open(place, ColourModel())), strict=True
    ):
        assert_same(ours, theirs)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Library, set[int]]]:
    """The API of ``wordsight serve --shards 2`` over 300 pictures, the library, its replicas."""
    pytest.importorskip("ray", reason="make test-cloud installs it")
    others = replicas()
    library = wordsight.create(tmp_path / "lib", "starter")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(300)]
    library.add(pictures, [f"picture {n}" for n in range(300)])
    command = [sys.executable, "-m", "wordsight", "serve", "--library", str(library.path)]
    serving = subprocess.Popen(
        [*command, "--shards", "2", "--ray", "auto", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        told = json.loads(serving.stdout.readline())
        started = replicas() - others
        assert len(started) == 2
        yield told["api"], library, started
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait()
    until(lambda: replicas() <= others, "the replicas to end")


def get(api: str, path: str, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(f"{api}/{path}", method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_page_and_the_api_in_front_of_a_fleet(served: tuple[str, Library, set[int]]) -> None:
    api, library, started = served
    question = "search?" + urllib.parse.urlencode({"q": "a noisy picture", "anyway": True})
    status, answer = get(api, question)
    assert status == 200, answer
    assert (answer["partial"], answer["answered"]) == (False, 1)
    alone = library.search("a noisy picture", k=20, anyway=True).to_json()
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in alone["hits"]]
    assert answer["p_value"] == alone["p_value"]
    for verb in ("evaluation", "duplicates"):
        status, problem = get(api, verb, "POST")
        assert (status, "a fleet answers searches alone" in problem["detail"]) == (501, True)
    os.kill(started.pop(), signal.SIGKILL)
    assert get(api, question)[1]["partial"]
    until(lambda: not get(api, question)[1]["partial"], "the replica to be there again")


def test_what_cannot_be_cut_is_refused_in_a_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="make test-cloud installs it")
    library = wordsight.open(place, ColourModel())
    with pytest.raises(LibraryError, match="cannot be cut into 500 slices"):
        library.shard(500)
    with pytest.raises(LibraryError, match="from a machine of its cluster"):
        library.shard(2, "ray://127.0.0.1:10001")
    monkeypatch.setenv("WORDSIGHT_EXACT_MB", "1024")
    with pytest.raises(LibraryError, match="fits into the memory of one process"):
        wordsight.open(place, ColourModel()).shard(2)


def test_a_fleet_reads_no_library_into_memory(fleet: Library) -> None:
    with pytest.raises(LibraryError, match="searched by a fleet"):
        fleet.vectors()
