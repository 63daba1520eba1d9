"""Decoding, encoding and writing on the machines of a Ray cluster, for a run on one of them.

Ray starts the workers, moves what they are told and starts again what died. What a worker answers
depends on the bytes of an image and on the model alone, so that it does no harm to ask twice.
Images that are new to the library come as fragments of its table
(:mod:`wordsight.library.fragments`), all others as vectors. One process commits, the one that holds
the library's lock, and it takes one answer for each image: an image is one row therefore, whatever
is killed when.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight import storage
from wordsight.errors import ModelError, WordsightError
from wordsight.indexing.decoding import Decoded, Decoder
from wordsight.indexing.pipeline import BATCH, WRITE_EVERY, batches
from wordsight.indexing.records import Written, record_of
from wordsight.indexing.report import CropReport, Failure, IndexReport
from wordsight.paths import drafted

if TYPE_CHECKING:
    from wordsight.library import Entry
    from wordsight.library.fragments import FragmentWriter
    from wordsight.models.clip import ClipModel
    from wordsight.sources import Item

_AHEAD = 2  # chunks that a worker has at once, so that it never waits
_TURNS = 8  # and at least so many in a run, so that all workers end at about the same time
_PARTS = 8  # in so many a chunk is tried again whose worker died twice: one image may be why


@dataclass(frozen=True, slots=True)
class _Task:
    """What workers need to know before the first image."""

    source: str
    hash: str
    files: Any  # a reference to the model's files, for machines that lack it
    runtime: str
    precision: str
    crops: str
    known: Any  # a reference to what the library holds
    recheck: bool
    writer: Any  # a reference to the FragmentWriter
    storage: dict[str, dict[str, str]]  # settings of storage at URLs


@dataclass(slots=True)
class _Answer:
    """What became of a chunk's images, and what else the worker noticed.

    ``known`` are images that the library has or lends vectors to, by their places in the chunk.
    """

    written: Written | None = None
    known: list[tuple[int, Decoded]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    spoilt: list[str] = field(default_factory=list)
    propose_seconds: float = 0.0
    encode_seconds: float = 0.0


class _Worker:
    """One core, or one GPU, with the models."""

    def __init__(self, task: _Task) -> None:
        import ray

        from wordsight.regions import load_proposer

        os.environ["WORDSIGHT_THREADS"] = "1"
        for url, options in task.storage.items():
            storage.configure(options, url)
        self.model = _model_of(task, ray.get)
        proposer = None if task.crops == "none" else load_proposer(task.crops)
        self.report = IndexReport(crops=CropReport(proposer.name) if proposer else None)
        known: dict[str, Entry] = ray.get(task.known)
        self.decoder = Decoder(self.model, proposer, known, self.report, recheck=task.recheck)
        self.writer: FragmentWriter = ray.get(task.writer)

    def embed(self, chunk: Sequence[Item]) -> _Answer:
        """Decode and encode a chunk, and write what is new."""
        answer = _Answer()
        places = {item.id: place for place, item in enumerate(chunk)}
        new: list[Decoded] = []
        for batch in batches(self._decoded(chunk, answer.failed)):
            self._encode(batch, answer)
            for one in batch:
                if one.donor or one.item.id in self.decoder.known:
                    answer.known.append((places[one.item.id], one))
                else:
                    new.append(one)
        if new:
            answer.written = self._write(new)
        answer.spoilt, self.decoder.spoilt = self.decoder.spoilt, []
        if crops := self.report.crops:
            answer.propose_seconds, crops.propose_seconds = crops.propose_seconds, 0.0
        return answer

    def _decoded(self, chunk: Sequence[Item], failed: list[Failure]) -> Iterator[Decoded]:
        for one in map(self.decoder.decode, chunk):
            if isinstance(one, Failure):
                failed.append(one)
            else:
                yield one

    def _encode(self, batch: Sequence[Decoded], answer: _Answer) -> None:
        pixels = [view for one in batch for view in one.pixels]
        started = time.perf_counter()
        vectors = iter(self.model.encode_pixels(pixels) if pixels else ())
        answer.encode_seconds += time.perf_counter() - started
        for one in batch:
            one.vectors = [next(vectors) for _ in one.pixels]
            one.pixels = []

    def _write(self, new: Sequence[Decoded]) -> Written:
        crops = self.decoder.crops
        records = [record_of(one, one.item, None, one.vectors, crops) for one in new]
        found = [one.regions or [] for one in new]
        labels = Counter(r.label for regions in found for r in regions if r.label)
        return Written(self.writer.write(records), len(new), [len(r) for r in found], labels)


@dataclass(slots=True)
class Cluster:
    """A Ray cluster to index on.

    ``address`` is "auto" (a cluster that runs on this machine, or one of its own cores) or
    "ray://HOST:10001". ``gpus`` is how many GPUs a worker holds, a part of one too.
    Raises WordsightError when Ray is not installed or does not answer.
    """

    address: str = "auto"
    gpus: float = 0.0
    worker: type = _Worker
    """The class of the actors that embed."""
    _ray: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise WordsightError("a cluster needs Ray: pip install 'wordsight[ray]'") from None
        self._ray = ray
        if ray.is_initialized():
            return
        # As urgent as this process: by default Ray's workers give way to everything else.
        if hasattr(os, "nice"):
            os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its advice is not for users
        where = {} if self.address == "auto" else {"address": self.address}
        try:
            ray.init(**where, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises it bare where a node does not start in time
            raise WordsightError(
                f"no Ray cluster answers at {self.address} "
                f"({str(error).splitlines()[0]}); start one with: ray start --head"
            ) from None

    def workers(self) -> int:
        """How many workers the cluster has room for: one a core, or one a GPU."""
        room = self._ray.cluster_resources()
        return max(1, int(room.get("GPU", 0) / self.gpus if self.gpus else room.get("CPU", 1)))

    def embedded(
        self, decoder: Decoder, crops: str, writer: FragmentWriter, todo: Sequence[Item]
    ) -> Iterator[Decoded | Written | Failure]:
        """What workers wrote, what they embedded, and why other items cannot be used."""
        ray = self._ray
        count = self.workers()
        size = min(WRITE_EVERY, max(BATCH, len(todo) // (count * _TURNS)))
        chunks = _parts(todo, size)
        task = self._task(decoder, crops, writer)
        kind = ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=-1, max_task_retries=1)
        workers = [kind(self.worker).remote(task) for _ in chunks[:count]]
        ahead = _AHEAD
        while chunks:
            suspects: list[Sequence[Item]] = []
            for chunk, answer in self._answers(workers * ahead, chunks):
                if answer is not None:
                    yield from _taken(decoder, answer, chunk)
                elif len(chunk) == ahead == 1:
                    yield Failure(chunk[0].path, "each worker that read it died; index it alone")
                else:
                    suspects += _parts(chunk, -(-len(chunk) // _PARTS))
            chunks, ahead = suspects, 1  # so that no other chunk dies with a suspect

    def _answers(
        self, idle: Sequence[Any], chunks: Sequence[Sequence[Item]]
    ) -> Iterator[tuple[Sequence[Item], _Answer | None]]:
        """Chunks as workers are done with them; None for an answer where the worker died."""
        free, left = deque(idle), deque(chunks)
        waiting: dict[Any, tuple[Any, Sequence[Item]]] = {}
        while left or waiting:
            while free and left:
                worker, chunk = free.popleft(), left.popleft()
                waiting[worker.embed.remote(chunk)] = worker, chunk
            (done,), _ = self._ray.wait(list(waiting), num_returns=1)
            worker, chunk = waiting.pop(done)
            free.append(worker)
            yield chunk, self._answer(done)

    def _task(self, decoder: Decoder, crops: str, writer: FragmentWriter) -> _Task:
        model, ray = decoder.model, self._ray
        return _Task(
            model.source,
            model.hash,
            ray.put({name: (model.path / name).read_bytes() for name in model.files}),
            model.runtime,
            model.precision,
            crops,
            ray.put(decoder.known),
            decoder.recheck,
            ray.put(writer),
            storage.settings(),
        )

    def _answer(self, done: Any) -> _Answer | None:
        try:
            answer: _Answer = self._ray.get(done)
        except self._ray.exceptions.RayActorError:
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, WordsightError) else error) from None
        return answer


def _parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _taken(
    decoder: Decoder, answer: _Answer, chunk: Sequence[Item]
) -> Iterator[Decoded | Written | Failure]:
    decoder.spoilt += answer.spoilt
    if decoder.report.crops:
        decoder.report.crops.propose_seconds += answer.propose_seconds
        decoder.report.crops.encode_seconds += answer.encode_seconds
    if answer.written:
        yield answer.written
    yield from answer.failed
    for place, result in answer.known:
        yield replace(result, item=chunk[place])


def _model_of(task: _Task, get: Any) -> ClipModel:
    """The very model of the library: of this machine, or else made of the files that were sent."""
    from wordsight.models import load_model
    from wordsight.models.clip import ClipModel
    from wordsight.runtime.cache import writable_cache

    with contextlib.suppress(ModelError):
        model = load_model(task.source, runtime=task.runtime, precision=task.precision)
        if model.hash == task.hash:
            return model
    files: dict[str, bytes] = get(task.files)
    cache = writable_cache("cluster")
    folder = (cache or Path(tempfile.mkdtemp())) / task.hash
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with drafted(folder / name) as draft:
            draft.write_bytes(data)
    return ClipModel(folder, source=task.source, runtime=task.runtime, precision=task.precision)
