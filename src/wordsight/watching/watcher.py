"""Cameras watched for prompts: scores against each camera's own history, events, records.

A camera's history (vectors of the frames that changed) lies in a folder of its own, with the
thumbnails of its events; both are kept for as long as asked, and no longer.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wordsight.nomatch import background, leave_one_out, zscore
from wordsight.nomatch.rivals import OWN
from wordsight.video.live import Gap, Picture, hidden, live
from wordsight.video.still import glance, is_still
from wordsight.watching.alarms import DAY, LEARNING, Alarm, Episode, cutoff, usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wordsight.models.clip import ClipModel

Emit = Callable[[dict[str, Any]], None]

_FIRST = 60.0  # seconds of history before which nothing is said
_SAVE_EVERY = 300.0  # seconds
_AGAIN = 1.1
"""The cut-offs are made anew when the history has grown by so much."""


class Prompts:
    """What is looked for: text vectors, those of the bank, and of the kinds that are rivals."""

    def __init__(self, model: ClipModel, texts: Sequence[str]) -> None:
        from wordsight.bank import bank_phrases
        from wordsight.models.texts import encode_texts_cached
        from wordsight.search import make_kinds

        self.texts = list(dict.fromkeys(texts))
        self.vectors = model.encode_texts(self.texts)
        phrases = bank_phrases()
        self.bank = encode_texts_cached(model, phrases)
        self.kinds = make_kinds(model)

    def z(self, frames: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """z of the prompts [n, P] and of the bank's phrases [n, B] for frames [n, D]."""
        scores = frames @ self.bank.T
        mean, sd = background(scores)
        z = zscore(frames @ self.vectors.T, mean[:, None], sd[:, None])
        return z, leave_one_out(scores.T, mean, sd, len(self.bank)).T

    def is_own(self, frame: NDArray[np.float32], prompt: int) -> bool:
        """Whether a frame [D] shows the prompt rather than a rival, or what else it looks like.

        A camera waits for what is rare: before it, something else is the likelier explanation.
        """
        query = self.vectors[prompt, None]
        odds = self.kinds.log_odds(query, frame[None, None], lookalikes=True)
        return bool(odds >= np.log(OWN / (1 - OWN)))


@dataclass
class History:
    """The frames of one camera that changed: POSIX seconds and vectors, oldest first."""

    times: list[float] = field(default_factory=list)
    untils: list[float] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long the camera was seen."""
        return float(np.sum(np.subtract(self.untils, self.times)))

    def forget(self, before: float) -> None:
        """Drop what ended before this time."""
        gone = sum(until < before for until in self.untils)
        for kept in (self.times, self.untils, self.vectors):
            del kept[:gone]

    def save(self, file: Path, model: str) -> None:
        """Write it, whole or not at all."""
        from wordsight.paths import drafted

        vectors = np.asarray(self.vectors, np.float16)
        with drafted(file) as part, part.open("wb") as out:
            np.savez(out, times=self.times, untils=self.untils, vectors=vectors, model=model)

    @classmethod
    def load(cls, file: Path, model: str) -> History:
        """What was saved for this model; nothing where there is none, or it cannot be read."""
        try:
            with np.load(file) as saved:
                if str(saved["model"]) == model:
                    vectors = list(saved["vectors"].astype(np.float32))
                    return cls(saved["times"].tolist(), saved["untils"].tolist(), vectors)
        except (OSError, ValueError, KeyError):
            pass
        return cls()


class Camera:
    """One camera with its history and what is going on before it.

    ``rate`` is how many false alarms a day each prompt may raise here.
    """

    def __init__(
        self, name: str, folder: Path, model: ClipModel, prompts: Prompts, rate: float, emit: Emit
    ) -> None:
        self.name, self.folder = name, folder
        self.model, self.prompts, self.rate, self.emit = model, prompts, rate, emit
        self.history = History.load(folder / "history.npz", model.hash)
        self.episodes = [Episode() for _ in prompts.texts]
        self._ids = [0] * len(prompts.texts)
        self._seen: NDArray[np.float32] | None = None
        self._scores: NDArray[np.float64] | None = None  # of the frame that is shown
        self._usual: NDArray[Any] | None = None
        self._cutoff = float("inf")
        self._made = 0.0
        self._learning: bool | None = None

    def see(self, shown: Picture) -> None:
        """Take in what the camera shows now."""
        now = glance(shown.picture)
        history = self.history
        if self._seen is not None:
            history.untils[-1] = shown.time
        if self._seen is None or not is_still(self._seen, now):
            self._seen = now
            self._change(shown.time, self.model.encode_images([shown.picture])[0])
        self._judge(shown.time, shown.picture)

    def judge(self, begin: float, end: float, vector: NDArray[np.float32]) -> None:
        """Take in a frame's vector [D], which stands for what is shown from ``begin`` to ``end``.

        As :meth:`see`, where pictures were read before: footage in fast motion.
        """
        self._change(begin, vector)
        self._judge(begin, None)
        self.history.untils[-1] = end
        self._judge(end, None)

    def _change(self, time: float, vector: NDArray[np.float32]) -> None:
        self.history.times.append(time)
        self.history.untils.append(time)
        self.history.vectors.append(vector)
        self._scores = self.prompts.z(vector[None])[0][0].astype(np.float64)

    def _judge(self, time: float, picture: Any) -> None:
        self._learn()
        if self._usual is None or self._scores is None:
            return
        for place, episode in enumerate(self.episodes):
            score = float(self._scores[place] - self._usual[place])
            if episode.begin is None and score >= self._cutoff:
                score = score if self.prompts.is_own(self.history.vectors[-1], place) else 0.0
            for alarm in episode.feed(time, score, self._cutoff):
                self._tell(place, alarm, picture)

    def lose(self, gap: Gap) -> None:
        """Nothing is seen for a while: events end, and none goes on over it."""
        if gap.end is None:
            self.stop()
            self._seen = None
        self.emit(
            {
                "event": "gap",
                "camera": self.name,
                "start": stamp(gap.start),
                "end": None if gap.end is None else stamp(gap.end),
                "reason": gap.reason,
            }
        )

    def stop(self) -> None:
        """End what is going on."""
        for place, episode in enumerate(self.episodes):
            for alarm in episode.stop():
                self._tell(place, alarm, None)

    def keep(self, seconds: float) -> None:
        """Save the history, and forget what is older than that."""
        oldest = time.time() - seconds
        self.history.forget(oldest)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.history.save(self.folder / "history.npz", self.model.hash)
        for picture in self.folder.glob("*.jpg"):
            if picture.stat().st_mtime < oldest:
                picture.unlink(missing_ok=True)

    def _learn(self) -> None:
        history = self.history
        seconds = history.seconds
        if seconds < _FIRST:
            self._say_learning(seconds)
            return
        if self._usual is None or seconds > self._made * _AGAIN:
            lengths = np.maximum(np.subtract(history.untils, history.times), 1e-3)
            z, bank = self.prompts.z(np.asarray(history.vectors, np.float32))
            self._usual = usual(z, lengths)
            # Of a camera before which nothing has changed yet, the latter would say nothing.
            self._cutoff = max(
                cutoff(each.max(axis=0), seconds, self.rate)
                for each in (bank, bank - usual(bank, lengths))
            )
            self._made = seconds
        self._say_learning(seconds)

    def _say_learning(self, seconds: float) -> None:
        learning = seconds < LEARNING
        if learning != self._learning:
            if learning or self._learning is not None:
                kind = "learning" if learning else "learned"
                self.emit({"event": kind, "camera": self.name, "history_seconds": round(seconds)})
            self._learning = learning

    def _tell(self, place: int, alarm: Alarm, picture: Any) -> None:
        prompt = self.prompts.texts[place]
        if alarm.kind == "begin":
            self._ids[place] = int(alarm.begin * 1000)
        event = {
            "event": alarm.kind,
            "id": f"{self.name}-{self._ids[place]}-{place}",
            "camera": self.name,
            "prompt": prompt,
            "start": stamp(alarm.begin),
            "end": stamp(alarm.end) if alarm.kind == "end" else None,
            "best": stamp(alarm.best),
            "z": round(alarm.score, 3),
            "cutoff": round(self._cutoff, 3),
            "learning": bool(self._learning),
        }
        if alarm.kind == "begin" and picture is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            words = re.sub(r"\W+", "-", prompt).strip("-")[:40]
            file = self.folder / f"{self._ids[place]}-{words}.jpg"
            picture.save(file, "JPEG", quality=85)
            event["thumbnail"] = str(file)
        self.emit(event)


def stamp(seconds: float) -> str:
    """POSIX seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def camera_name(source: str) -> str:
    """A short name for an address, device or folder; of an address without user and password."""
    bare = re.sub(r"^\w+://(?:[^/@]*@)*", "", source).partition("?")[0].strip("/")
    return re.sub(r"[^\w.-]+", "-", os.path.basename(bare) or bare).strip("-") or "camera"  # noqa: PTH119


def watch(
    cameras: Sequence[tuple[str, str]],
    prompts: Sequence[str],
    model: ClipModel,
    emit: Emit,
    *,
    folder: Path,
    false_alarms: float = 1.0,
    every: float = 1.0,
    keep: float = 7 * DAY,
    stop: threading.Event,
) -> None:
    """Watch cameras, (name, source) each, until ``stop`` is set; events go to ``emit``.

    ``false_alarms`` is how many a day all prompts at all cameras may raise together, ``keep`` how
    many seconds histories and thumbnails stay in ``folder``. Events are dicts of JSON, in the order
    in which they come; ``emit`` is called by one thread at a time.
    """
    known = Prompts(model, prompts)
    rate = false_alarms / max(1, len(known.texts) * len(cameras))
    side = max(model.image_size) * 4 // 3
    turn, telling = threading.Lock(), threading.Lock()
    errors: list[BaseException] = []

    def tell(event: dict[str, Any]) -> None:
        with telling:
            emit(event)

    def follow(name: str, source: str) -> None:
        camera = Camera(name, folder / name, model, known, rate, tell)
        saved = time.monotonic()
        try:
            for shown in live(source, every=every, side=side, stop=stop):
                if isinstance(shown, Gap):
                    camera.lose(shown)
                    continue
                with turn:  # one model for all
                    camera.see(shown)
                if time.monotonic() - saved > _SAVE_EVERY:
                    camera.keep(keep)
                    saved = time.monotonic()
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            camera.stop()
            camera.keep(keep)

    threads = [
        threading.Thread(target=follow, args=camera, name=f"watch {hidden(camera[0])}")
        for camera in cameras
    ]
    _run(threads, stop)
    if errors:
        raise errors[0]


def _run(threads: Sequence[threading.Thread], stop: threading.Event) -> None:
    """Run threads to their end, which ``stop`` brings about; it is set if this is interrupted."""
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.2)
            if not threads[0].is_alive():
                for thread in threads:
                    thread.join(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
