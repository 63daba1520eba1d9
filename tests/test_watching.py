"""Watching cameras: local servers that stop, freeze and come back; folders; events and records."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ColourModel
from PIL import Image
from videos import colour_frame, write_video

from wordsight.cli import main
from wordsight.cli.watch import _Told
from wordsight.errors import WordsightError
from wordsight.video import live as module
from wordsight.video.live import Gap, Picture, hidden, live
from wordsight.watching import Camera, History, Prompts, camera_name, watch


class MjpegCamera:
    """multipart/x-mixed-replace on this machine; may stop, freeze and come back."""

    def __init__(self) -> None:
        self.colour, self.frozen = "white", False
        self.running = threading.Event()
        self.port = 0
        self.start()

    def start(self) -> None:
        camera = self
        self.running.set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                kind = "multipart/x-mixed-replace; boundary=frame"
                self.send_header("Content-Type", kind)
                self.end_headers()
                number = 0
                try:
                    while camera.running.is_set():
                        if not camera.frozen:
                            data = io.BytesIO()
                            Image.fromarray(colour_frame(camera.colour, number)).save(data, "JPEG")
                            body = data.getvalue()
                            head = (
                                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                            )
                            self.wfile.write(head % len(body) + body + b"\r\n")
                            number += 1
                        time.sleep(0.05)
                except OSError:
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        self.running.clear()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://me:secret@127.0.0.1:{self.port}/video"


class Webhook:
    """Takes in what is posted, on this machine."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posted.append((self.headers["Content-Type"], json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/events?token=secret"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    served = Webhook()
    yield served
    served.end()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[MjpegCamera]:
    monkeypatch.setattr(module, "_PAUSES", (0.1,))
    monkeypatch.setattr(module, "_READ_SECONDS", 1.0)
    served = MjpegCamera()
    yield served
    served.end()


def collected(
    source: str, until: Callable[[list[Any]], bool], act: Callable[[list[Any]], None] | None = None
) -> list[Any]:
    """What a source gives until enough of it was seen."""
    stop, found = threading.Event(), []
    timer = threading.Timer(60, stop.set)
    timer.start()
    for shown in live(source, every=0.1, side=54, stop=stop):
        found.append(shown)
        if act:
            act(found)
        if until(found):
            stop.set()
    timer.cancel()
    return found


def gaps(found: list[Any]) -> list[Gap]:
    return [shown for shown in found if isinstance(shown, Gap)]


def test_a_camera_that_restarts_comes_back_after_a_gap(camera: MjpegCamera) -> None:
    def act(found: list[Any]) -> None:
        if len(found) == 3:
            camera.end()
        if gaps(found) and not camera.running.is_set():
            camera.start()

    found = collected(
        camera.url,
        lambda found: len(gaps(found)) == 2 and isinstance(found[-1], Picture),
        act,
    )
    lost, back = gaps(found)
    assert lost.end is None
    assert back.end is not None
    assert back.end >= back.start
    assert "secret" not in str(found)


def test_a_frozen_camera_is_a_gap(camera: MjpegCamera) -> None:
    def act(found: list[Any]) -> None:
        camera.frozen = len(found) >= 3 and not gaps(found)

    found = collected(camera.url, lambda found: len(gaps(found)) == 2, act)
    assert gaps(found)[0].reason


def test_nobody_there_is_told_without_the_password() -> None:
    (gap,) = collected("http://me:secret@127.0.0.1:9/x", bool)
    assert isinstance(gap, Gap)
    assert "secret" not in gap.reason
    with pytest.raises(WordsightError, match="not a folder, a device or an address"):
        next(live("no/such", every=1, side=9, stop=threading.Event()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://u:p@h/x", "rtsp://u:***@h/x"),
        ("failed: rtsp://u:p@ss:w@h:554/x?a=1", "failed: rtsp://u:***@h:554/x?a=1"),
        ("http://h/x?user=u&password=p&b=2", "http://h/x?user=u&password=***&b=2"),
        ("http://h/x?token=abc", "http://h/x?token=***"),
        ("http://h/plain", "http://h/plain"),
    ],
)
def test_passwords_are_hidden(text: str, shown: str) -> None:
    assert hidden(text) == shown


def test_names_of_cameras_hold_no_passwords() -> None:
    assert camera_name("rtsp://u:p@10.0.0.5:554/stream1?x=p") == "stream1"
    assert camera_name("http://u:p@10.0.0.5") == "10.0.0.5"
    assert camera_name("/srv/front/") == "front"


def test_a_folder_that_grows(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "old.mp4", [("red", 1)])
    whole = write_video(tmp_path / "a.mkv", [("red", 3), ("blue", 3)], moves=True).read_bytes()

    def act(found: list[Any]) -> None:
        if len(found) == 1:
            (folder / "a.mkv").write_bytes(whole[: len(whole) // 2])
        elif len(found) > 1 and (folder / "a.mkv").stat().st_size < len(whole):
            (folder / "a.mkv").write_bytes(whole)

    threading.Timer(0.3, lambda: Image.new("RGB", (64, 64), "red").save(folder / "1.png")).start()

    def is_blue(found: list[Any]) -> bool:
        red, _, blue = np.asarray(found[-1].picture, np.float32).mean(axis=(0, 1))
        return bool(blue > red)

    found = collected(str(folder), is_blue, act)
    times = [shown.time for shown in found[1:]]
    assert len(times) == len(set(times))


class Clock:
    """Pictures of a camera, a second apart, hours in no time."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.now = camera, 1_800_000_000.0

    def show(self, colour: str, seconds: float, step: float = 1.0) -> None:
        for _ in range(round(seconds / step)):
            self.camera.see(Picture(self.now, Image.fromarray(colour_frame(colour))))
            self.now += step


@pytest.fixture
def watched(tmp_path: Path, model: ColourModel) -> tuple[Clock, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    prompts = Prompts(model, ["red", "yellow"])  # type: ignore[arg-type]
    camera = Camera("gate", tmp_path / "gate", model, prompts, 0.5, events.append)  # type: ignore[arg-type]
    return Clock(camera), events


def test_an_event_is_told_and_drawn(watched: tuple[Clock, list[dict[str, Any]]]) -> None:
    clock, events = watched
    clock.show("white", 4000, 10)
    clock.show("red", 5)
    clock.show("white", 30)
    kinds = [event["event"] for event in events]
    assert kinds == ["learning", "learned", "begin", "end"]
    begin, end = events[2:]
    assert (begin["camera"], begin["prompt"], begin["learning"]) == ("gate", "red", False)
    assert begin["id"] == end["id"]
    assert begin["z"] > begin["cutoff"]
    assert np.asarray(Image.open(begin["thumbnail"]))[30, 50, 0] > 150
    assert end["end"] > end["start"]


def test_in_the_first_hour_it_says_so(watched: tuple[Clock, list[dict[str, Any]]]) -> None:
    clock, events = watched
    clock.show("white", 30)
    clock.show("red", 3)  # nothing is known yet
    clock.show("white", 120)
    clock.show("red", 3)
    assert [event["event"] for event in events] == ["learning", "begin"]
    assert events[1]["learning"]


def test_no_event_goes_on_over_a_gap(watched: tuple[Clock, list[dict[str, Any]]]) -> None:
    clock, events = watched
    clock.show("white", 4000, 10)
    clock.show("red", 3)
    clock.camera.lose(Gap(clock.now, None, "it froze"))
    clock.now += 3600
    clock.camera.lose(Gap(clock.now - 3600, clock.now, "it is back"))
    clock.show("red", 3)
    kinds = [event["event"] for event in events[2:]]
    assert kinds == ["begin", "end", "gap", "gap", "begin"]
    assert clock.camera.history.seconds < 4100


def test_history_is_kept_and_bounded(
    watched: tuple[Clock, list[dict[str, Any]]], model: ColourModel
) -> None:
    clock, _ = watched
    clock.now = time.time() - 7200
    clock.show("white", 60)
    clock.show("red", 60)
    clock.camera.keep(86_400)
    file = clock.camera.folder / "history.npz"
    loaded = History.load(file, model.hash)
    assert loaded.times == clock.camera.history.times
    assert History.load(file, "another model").times == []
    clock.camera.keep(10)
    assert History.load(file, model.hash).times == []
    file.write_bytes(b"broken")
    assert History.load(file, model.hash).times == []


WATCHED = """
import sys
from fakes import ColourModel
from wordsight import models
from wordsight.cli import main
from wordsight.watching import watcher
models.load_model = lambda *_, **__: ColourModel()
watcher._FIRST = 0.3
main(sys.argv[1:])
"""
"""``wordsight`` with a small model and little to learn, in a process that Ctrl-C may end."""


def test_on_the_command_line(camera: MjpegCamera, webhook: Webhook, tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text("import sys; open('told', 'a').write(sys.stdin.read() + '\\n')")
    words = ["watch", f"gate={camera.url}", "--prompt", "red", "--for", "120", "--every", "0.2"]
    words += ["--on-event", f"{sys.executable} {script}", "--webhook", webhook.url]
    watching = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    told = [json.loads(watching.stdout.readline())]
    time.sleep(2.5)  # it learns what is usual here
    for colour, number in (("red", 1), ("white", 2)):
        camera.colour = colour
        while len(webhook.posted) < number:
            assert watching.poll() is None
            time.sleep(0.05)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 130, err
    told += [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in told] == ["learning", "begin", "end"]
    assert "secret" not in out + err
    noted = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert noted == told[1:]
    assert webhook.posted == [("application/json", event) for event in noted]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["x", "--false-alarms", "often"], "is not a rate"),
        (["x", "--keep", "long"], "is not a duration"),
        (["x", "--prompt", " "], "--prompt is empty"),
        (["old.mp4"], "old.mp4 is a recording, not a camera"),
    ],
)
def test_wrong_options_are_refused(
    wrong: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "old.mp4", [("red", 1)])
    with pytest.raises(SystemExit) as ended:
        main(["watch", "--prompt", "a", *wrong])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_webhook_that_is_gone_is_told_without_its_secret(
    webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook.end()
    told = _Told(None, webhook.url)
    told.emit({"event": "begin", "camera": "gate"})
    told.close()
    out, err = capsys.readouterr()
    assert json.loads(out) == {"event": "begin", "camera": "gate"}
    assert "an event could not be passed on" in err
    assert "secret" not in out + err


def test_a_webcam_is_opened_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    asked: list[Any] = []
    really = av.open

    def opened(source: str, *, format: str | None, **options: Any) -> Any:
        asked.append((source, format))
        return really("testsrc=size=96x54:rate=20", format="lavfi", **options)

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(module.os.path, "exists", lambda _: True)
    found = collected("/dev/video0", lambda found: len(found) >= 3)
    assert asked == [("/dev/video0", "v4l2")]
    assert {shown.picture.size for shown in found} == {(96, 54)}


@pytest.mark.parametrize("freezes", [False, True])
def test_an_rtsp_server_that_stops_and_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freezes: bool
) -> None:
    server = Path(sys.executable).with_name("rtsp-server")
    if not server.exists():
        pytest.skip("needs an RTSP server: pip install 'aio-rtsp-toolkit[server]'")
    import socket

    monkeypatch.setattr(module, "_PAUSES", (0.2,))
    with socket.socket() as free, socket.socket() as other:
        free.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, control = free.getsockname()[1], other.getsockname()[1]
    write_video(tmp_path / "pub/cam.mp4", [("white", 30)], rate=10, moves=True)
    command = [
        *(str(server), "--dir", str(tmp_path / "pub"), "--host", "127.0.0.1"),
        *("--port", str(port), "--control-port", str(control)),
    ]

    def serve() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    process = serve()

    def act(found: list[Any]) -> None:
        nonlocal process
        pictures = [shown for shown in found if isinstance(shown, Picture)]
        if len(pictures) == 4 and not gaps(found[-1:]) and process.poll() is None:
            if freezes:
                process.send_signal(signal.SIGSTOP)
                return
            process.terminate()
            process.wait()
        elif gaps(found[-1:]) and process.poll() is not None:
            process = serve()
        elif gaps(found[-1:]) and freezes:
            process.send_signal(signal.SIGCONT)

    try:
        found = collected(
            f"rtsp://127.0.0.1:{port}/cam.mp4",
            lambda found: sum(isinstance(s, Picture) for s in found) >= 8,
            act,
        )
    finally:
        process.kill()  # a frozen one too
        process.wait()
    lost = [gap.end is None for gap in gaps(found)]
    assert (True, False) in pairwise(lost)  # it went, and came back


def test_what_goes_wrong_ends_the_watching(tmp_path: Path, model: ColourModel) -> None:
    with pytest.raises(WordsightError, match="not a folder, a device or an address"):
        watch(
            [("a", "no/such"), ("b", str(tmp_path))],
            ["red"],
            model,  # type: ignore[arg-type]
            print,
            folder=tmp_path / "w",
            stop=threading.Event(),
        )
    shutil.rmtree(tmp_path / "w", ignore_errors=True)
