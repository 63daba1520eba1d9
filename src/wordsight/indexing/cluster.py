"""Decoding and encoding on the machines of a Ray cluster, for a run on one of them.

Ray starts the workers, moves images' records and starts again what died. What a worker answers
depends on the bytes of an image and on the model alone, so that it does no harm to ask twice; and
one process writes, the one that holds the library's lock, as it does without a cluster. An image is
one row therefore, whatever is killed when.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError, WordsightError
from wordsight.indexing.decoding import Decoded, Decoder
from wordsight.indexing.report import CropReport, Failure, IndexReport
from wordsight.paths import drafted

if TYPE_CHECKING:
    from wordsight.library import Entry
    from wordsight.models.clip import ClipModel
    from wordsight.sources import Item

CHUNK = 64  # images that a worker is asked for at a time
_AHEAD = 2  # chunks that a worker has at once, so that it never waits
_RETRIES = 3  # a chunk whose worker dies as often is given up


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


@dataclass(slots=True)
class _Answer:
    """A chunk's images in order, with their vectors, and what else the worker noticed."""

    results: list[Decoded | Failure]
    spoilt: list[str]
    propose_seconds: float = 0.0
    encode_seconds: float = 0.0


@dataclass(slots=True)
class Cluster:
    """A Ray cluster to index on.

    ``address`` is "auto" (a cluster that runs on this machine, or one of its own cores) or
    "ray://HOST:10001". ``gpus`` is how many GPUs a worker holds, a part of one too.
    Raises WordsightError when Ray is not installed or does not answer.
    """

    address: str = "auto"
    gpus: float = 0.0
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
        where = {} if self.address == "auto" else {"address": self.address}
        try:
            ray.init(**where, log_to_driver=False, logging_level="error")
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise WordsightError(
                f"no Ray cluster answers at {self.address} "
                f"({str(error).splitlines()[0]}); start one with: ray start --head"
            ) from None

    def workers(self) -> int:
        """How many workers the cluster has room for: one a core, or one a GPU."""
        room = self._ray.cluster_resources()
        return max(1, int(room.get("GPU", 0) / self.gpus if self.gpus else room.get("CPU", 1)))

    def embedded(
        self, decoder: Decoder, crops: str, todo: Sequence[Item]
    ) -> Iterator[Decoded | Failure]:
        """Items with their vectors, or why they cannot be used, as workers finish them."""
        ray = self._ray
        model = decoder.model
        task = _Task(
            model.source,
            model.hash,
            ray.put({name: (model.path / name).read_bytes() for name in model.files}),
            model.runtime,
            model.precision,
            crops,
            ray.put(decoder.known),
            decoder.recheck,
        )
        chunks = iter([todo[n : n + CHUNK] for n in range(0, len(todo), CHUNK)])
        kind = ray.remote(
            num_cpus=1, num_gpus=self.gpus, max_restarts=-1, max_task_retries=_RETRIES
        )(_Worker)
        count = min(self.workers(), -(-len(todo) // CHUNK))
        idle = [kind.remote(task) for _ in range(count)] * _AHEAD
        waiting: dict[Any, tuple[Any, Sequence[Item]]] = {}
        while True:
            while idle and (chunk := next(chunks, None)) is not None:
                worker = idle.pop(0)
                waiting[worker.embed.remote(chunk)] = worker, chunk
            if not waiting:
                return
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            worker, chunk = waiting.pop(done)
            idle.append(worker)
            yield from self._taken(decoder, done, chunk)

    def _taken(
        self, decoder: Decoder, done: Any, chunk: Sequence[Item]
    ) -> Iterator[Decoded | Failure]:
        try:
            answer: _Answer = self._ray.get(done)
        except self._ray.exceptions.RayActorError:
            for item in chunk:
                yield Failure(item.path, f"its worker died {_RETRIES + 1} times; index it alone")
            return
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, WordsightError) else error) from None
        decoder.spoilt += answer.spoilt
        if decoder.report.crops:
            decoder.report.crops.propose_seconds += answer.propose_seconds
            decoder.report.crops.encode_seconds += answer.encode_seconds
        for item, result in zip(chunk, answer.results, strict=True):
            yield result if isinstance(result, Failure) else replace(result, item=item)


class _Worker:
    """One core, or one GPU, with the models."""

    def __init__(self, task: _Task) -> None:
        import ray

        from wordsight.regions import load_proposer

        os.environ["WORDSIGHT_THREADS"] = "1"
        self.model = _model_of(task, ray.get)
        proposer = None if task.crops == "none" else load_proposer(task.crops, masks=False)
        self.report = IndexReport(crops=CropReport(proposer.name) if proposer else None)
        known: dict[str, Entry] = ray.get(task.known)
        self.decoder = Decoder(self.model, proposer, known, self.report, recheck=task.recheck)

    def embed(self, chunk: Sequence[Item]) -> _Answer:
        """Decode and encode a chunk."""
        results = [self.decoder.decode(item) for item in chunk]
        pixels = [view for one in results if isinstance(one, Decoded) for view in one.pixels]
        started = time.perf_counter()
        vectors = iter(self.model.encode_pixels(pixels) if pixels else ())
        answer = _Answer([], self.decoder.spoilt, encode_seconds=time.perf_counter() - started)
        for one in results:
            if isinstance(one, Decoded):
                one.vectors = [next(vectors) for _ in one.pixels]
                one.pixels = []
            answer.results.append(one)
        self.decoder.spoilt = []
        return answer


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
