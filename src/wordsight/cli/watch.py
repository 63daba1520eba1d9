"""``wordsight watch``."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wordsight.cli.app import app, examples
from wordsight.cli.console import say
from wordsight.cli.opening import load
from wordsight.cli.options import Precision, PrecisionOption, Runtime, RuntimeOption, given
from wordsight.errors import WordsightError
from wordsight.paths import expanded

_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}
_PATIENCE = 10.0  # seconds that a command or a webhook may take
_WAITING = 1000  # events that wait for them; beyond, they are left out

_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]URL|DIR|DEVICE...",
        help="Cameras: rtsp:// or http:// (MJPEG), a folder that gets new files, /dev/video0.",
    ),
]
_Prompt = Annotated[
    list[str],
    typer.Option("--prompt", "-p", metavar="TEXT", help="What to look for; may be repeated."),
]
_FalseAlarms = Annotated[
    str,
    typer.Option(
        metavar="N/day",
        help="False alarms allowed for all prompts and cameras together.",
    ),
]
_Every = Annotated[
    float, typer.Option(metavar="SECONDS", help="How often to look.", min=0.1, max=60)
]
_OnEvent = Annotated[
    str | None,
    typer.Option(
        metavar="CMD",
        parser=given("--on-event"),
        help="Run this command for each event, which it gets on standard input.",
    ),
]
_Webhook = Annotated[
    str | None,
    typer.Option(metavar="URL", parser=given("--webhook"), help="Post events to this URL as JSON."),
]
_Keep = Annotated[
    str,
    typer.Option(metavar="7d", help="How long to keep histories and thumbnails: 12h, 7d, 4w."),
]
_Folder = Annotated[
    Path,
    typer.Option(
        "--folder",
        metavar="DIR",
        parser=given("--folder"),
        help="Where to keep histories and thumbnails.",
    ),
]
_Duration = Annotated[
    float | None,
    typer.Option("--for", metavar="SECONDS", help="Stop after this time. Default: never.", min=0.1),
]
_Model = Annotated[
    str, typer.Option(metavar="NAME", parser=given("--model"), help="The model to watch with.")
]


@app.command(
    epilog=examples(
        'wordsight watch rtsp://user:secret@10.0.0.5/stream --prompt "a truck" --prompt "a car"',
        'wordsight watch front=rtsp://10.0.0.5/1 yard=http://10.0.0.6/mjpg --prompt "a fox"',
        'wordsight watch recordings --prompt "a parcel" --on-event ./tell.sh --keep 3d',
    )
)
def watch(
    sources: _Sources,
    prompt: _Prompt,
    false_alarms: _FalseAlarms = "1/day",
    every: _Every = 1.0,
    on_event: _OnEvent = None,
    webhook: _Webhook = None,
    keep: _Keep = "7d",
    folder: _Folder = Path("watch"),
    duration: _Duration = None,
    model: _Model = "auto",
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Watch cameras for prompts, and report events.

    Each event is a line of JSON on standard output. The cut-off comes from each camera's own
    history, so that false alarms are as rare as you ask for. So a camera that is new reports no
    events for a minute, and in its first hour they say that it is still learning
    ("learning": true).

    Needs the extra `video`: pip install "wordsight[video]".
    """
    from wordsight.watching import watch as run

    if not all(words.strip() for words in prompt):
        raise WordsightError("--prompt is empty; say what to watch for.")
    rate, seconds = _rate(false_alarms), _seconds(keep)
    cameras = _cameras(sources)
    loaded = load(model, runtime, precision)
    stop = threading.Event()
    told = _Told(on_event, webhook)
    if duration:
        timer = threading.Timer(duration, stop.set)
        timer.daemon = True
        timer.start()
    say(f"watching {', '.join(name for name, _ in cameras)}; Ctrl-C stops.")
    try:
        run(
            cameras,
            prompt,
            loaded,
            told.emit,
            folder=expanded(folder),
            false_alarms=rate,
            every=every,
            keep=seconds,
            stop=stop,
        )
    finally:
        told.close()


def _cameras(sources: Sequence[str]) -> list[tuple[str, str]]:
    """Name and place of each source, as typed: "NAME=PLACE", or a place, which gets a name."""
    from wordsight.watching import camera_name

    cameras: list[tuple[str, str]] = []
    for source in sources:
        named = re.fullmatch(r"([\w.-]+)=(.+)", source)
        name, place = (named[1], named[2]) if named else (camera_name(source), source)
        if "://" not in place:
            place = str(expanded(place))
            if _is_recording(place):
                raise WordsightError(
                    f"{place} is a recording, not a camera. To find moments in it: wordsight index "
                    f"{shlex.quote(place)}, then wordsight search PROMPT --moments"
                )
        taken = {other for other, _ in cameras}
        number = 2
        while name in taken:
            name, number = f"{name.rstrip('0123456789').rstrip('-')}-{number}", number + 1
        cameras.append((name, place))
    return cameras


def _is_recording(place: str) -> bool:
    from wordsight.video import looks_like_video

    if not os.path.isfile(place):  # noqa: PTH113
        return False
    try:
        with Path(place).open("rb") as file:
            return looks_like_video(file.read(512))
    except OSError:  # watching says what is wrong
        return False


def _rate(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\s*/\s*(hour|day|week))?", text.strip())
    days = {"hour": 1 / 24, "day": 1.0, "week": 7.0}
    value = float(found[1]) / days[found[2] or "day"] if found else 0.0
    if not value > 0:
        raise WordsightError(f"--false-alarms {text} is not a rate; write 1/day, 3/week or 1/hour.")
    return value


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text.strip())
    if not found or not float(found[1]):
        raise WordsightError(f"--keep {text} is not a duration; write 12h, 7d or 4w.")
    return float(found[1]) * _SECONDS[found[2]]


class _Told:
    """Prints events, and hands them to a command and a webhook, one after the other, beside it."""

    def __init__(self, command: str | None, webhook: str | None) -> None:
        self.command = shlex.split(command) if command else None
        self.webhook = webhook
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True, name="events")
        if command or webhook:
            self._thread.start()

    def emit(self, event: dict[str, Any]) -> None:
        """Print an event; hand it on unless it is about the watching itself."""
        print(json.dumps(event), flush=True)
        if event["event"] == "learning":
            wait = "" if event["history_seconds"] else " It reports nothing in its first minute."
            say(f"note: {event['camera']} is still learning, for the first hour.{wait}")
        elif event["event"] == "gap":
            back = event["end"] is not None
            say(f"note: {event['camera']}: {'back' if back else 'no pictures: '}"
                f"{'' if back else event['reason']}")  # fmt: skip
        else:
            self.put(event)

    def put(self, event: dict[str, Any]) -> None:
        if not self._thread.ident:
            return
        try:
            self._events.put_nowait(event)
        except queue.Full:
            say("note: events come faster than they can be passed on; one was dropped.")

    def close(self) -> None:
        """Hand on what waits."""
        if self._thread.ident:
            self._events.put(None)
            self._thread.join(2 * _PATIENCE)

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            data = json.dumps(event).encode()
            for hand_on in (self._call, self._post):
                try:
                    hand_on(data)
                except Exception as error:
                    from wordsight.video.live import hidden

                    say(f"note: an event could not be passed on: {hidden(str(error))[:200]}")

    def _call(self, data: bytes) -> None:
        if self.command:
            subprocess.run(
                self.command, input=data, timeout=_PATIENCE, check=True, stdout=subprocess.DEVNULL
            )

    def _post(self, data: bytes) -> None:
        if self.webhook:
            from urllib.request import Request, urlopen

            headers = {"Content-Type": "application/json"}
            with urlopen(Request(self.webhook, data, headers), timeout=_PATIENCE):
                pass
