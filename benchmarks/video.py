"""Videos: speed and memory of indexing, times, still frames, moments, false alarms of ``watch``.

    python -m benchmarks.video [--data DIR] [--only speed clips truth watch] [--seconds 60]

``--data`` is the folder of the data packs, with ``video``. *speed* makes videos of its traffic
(1080p25 H.264 of traffic, the same with one still picture, HEVC, 4K) of ``--seconds`` and indexes
each with the starter in a process of its own: times real time by the clock, by processor time over
all processors (what an idle machine would need at least), and peak memory beside that of indexing
photographs (VmHWM, for getrusage's figure is at least the parent's). *clips* holds the times of
samples against the numbers burned into the frames; *truth*
measures still frames and moments; *watch* shows a camera 24 hours composed of ``truth`` in fast
motion and counts alarms for 20 prompts that never occur, stated one a day. With ``--footage DIR``
*truth* and *watch* take recordings that are composed there from ``--seed`` (see
:mod:`benchmarks.footage`), which nothing was tuned on, and *watch* other prompts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import footage
from benchmarks.common import finish, parser

# Beside what the pack says is absent: nothing of these is in it either.
ABSENT = ["an elephant", "a helicopter", "a lobster", "a kangaroo", "a flamingo", "a rooster",
          "a guitar", "a tent", "a giraffe"]  # fmt: skip
# Chosen before any was tried, for footage that was composed later.
FRESH = ["a sheep", "a cow", "a fox", "a bus", "a train", "a ladder", "a wheelbarrow", "a stroller",
         "a shopping cart", "a snowman", "a kite", "a surfboard", "a penguin", "a tractor",
         "a crane", "a mailbox", "a trampoline", "a drum", "a teapot", "a balloon"]  # fmt: skip
_DAY = 86_400.0
_RATE = 25

INDEX = """
import json, re, sys, time
from pathlib import Path
import wordsight
place, folder, every = sys.argv[1:]
library = wordsight.create(place, "starter")
library.model.encode_images([__import__("PIL.Image").Image.new("RGB", (320, 240))] * 2)
begun, used = time.perf_counter(), time.process_time()
report = library.index(folder, every=every if every == "keyframes" else float(every))
status = Path("/proc/self/status").read_text()
print(json.dumps({"images": report.images, "wall": time.perf_counter() - begun,
                  "cpu": time.process_time() - used,
                  "peak_mb": int(re.findall("VmHWM: *\\t *([0-9]+)", status)[0]) / 1024}))
"""


def make(source: Path, target: Path, seconds: int, size: tuple[int, int], codec: str, *,
         still: bool = False) -> Path:  # fmt: skip
    """A video at 25 frames a second of the frames of ``source``, scaled, over and over."""
    import av

    with av.open(str(source)) as container:
        frames = [
            frame.reformat(*size, "yuv420p").to_ndarray()
            for frame, _ in zip(container.decode(video=0), range(200), strict=False)
        ]
    with av.open(str(target), "w") as output:
        stream: Any = output.add_stream(codec, rate=_RATE)
        stream.width, stream.height = size
        stream.gop_size = 2 * _RATE
        stream.options = {"preset": "veryfast"} if codec == "libx264" else {"preset": "ultrafast"}
        for number in range(seconds * _RATE):
            pixels = frames[0 if still else number % len(frames)]
            frame: Any = av.VideoFrame.from_ndarray(pixels, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target


def _indexed(folder: Path, every: str = "1") -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", INDEX, f"{place}/a.lib", str(folder), every]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def speed(data: Path, seconds: int) -> list[dict[str, Any]]:
    """Times real time and memory of each kind of video."""
    from PIL import Image

    source = data / "real/car-detection.mp4"
    full, large = (1920, 1080), (3840, 2160)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        photographs = Path(scratch) / "photographs"
        photographs.mkdir()
        rng = np.random.default_rng(0)
        for number in range(64):
            pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
            Image.fromarray(pixels).resize((1600, 1200)).save(photographs / f"{number}.jpg")
        base = _indexed(photographs)["peak_mb"]
        print(f"photographs: peak {base:.0f} MB")
        kinds = [
            ("1080p H.264, busy", full, "libx264", False, "1", seconds),
            ("1080p H.264, quiet", full, "libx264", True, "1", seconds),
            ("1080p H.264, keyframes", full, "libx264", False, "keyframes", seconds),
            ("1080p HEVC, busy", full, "libx265", False, "1", max(10, seconds // 3)),
            ("4K H.264, busy", large, "libx264", False, "1", max(10, seconds // 4)),
        ]
        for name, size, codec, still, every, length in kinds:
            folder = Path(scratch) / name.replace(" ", "-").replace(",", "")
            folder.mkdir()
            make(source, folder / "a.mp4", length, size, codec, still=still)
            found = _indexed(folder, every)
            row = {
                "video": name,
                "seconds": length,
                "times_real_time": length / found["wall"],
                "by_processor_time": length / found["cpu"] * (os.cpu_count() or 1),
                "more_memory_mb": found["peak_mb"] - base,
                "frames": found["images"],
            }
            rows.append(row)
            print(
                f"{name:24} {row['times_real_time']:6.1f}x by the clock, "
                f"{row['by_processor_time']:6.1f}x by processor time, "
                f"{row['more_memory_mb']:+5.0f} MB, {found['images']:.0f} frames"
            )
    return rows


def burned_number(picture: Any) -> int | None:
    """The frame number in the squares at the bottom left of a clip (see the pack's README)."""
    grey = np.asarray(picture, np.float32).mean(axis=2)
    height, width = grey.shape
    row = int(height - 6 * height / 360)
    values = [grey[row, int((place + 0.5) * 12 * width / 640)] for place in range(12)]
    if values[0] < 150 or values[1] > 110:
        return None
    middle = (values[0] + values[1]) / 2
    return sum(int(value > middle) << (9 - k) for k, value in enumerate(values[2:]))


def clips(data: Path) -> dict[str, Any]:
    """Errors of time over all readable clips with numbers, in seconds."""
    from wordsight.video.opening import Video
    from wordsight.video.sampling import samples

    listed = json.loads((data / "clips/clips.json").read_text())["clips"]
    errors, unread = {}, []
    for clip in listed:
        if clip["expect"] != "ok" or not clip["numbers"]:
            continue
        with Video(str(data / "clips" / clip["file"])) as video:
            found = [
                (sample.time, burned_number(sample.picture))
                for sample in samples(video, 1.0, side=360)
            ]
        off = [abs(time - number / 12.5) for time, number in found if number is not None]
        unread += [clip["file"] for _, number in found if number is None]
        errors[clip["file"]] = max(off)
    stamped = {name: error for name, error in errors.items() if name != "raw.h264"}
    print(f"clips: {len(stamped)} with time stamps, largest error {max(stamped.values()):.4f} s; "
          f"raw.h264 (no stamps, nominal rate): {errors.get('raw.h264', 0):.2f} s")  # fmt: skip
    return {"errors": errors, "unread": unread}


def truth(folder: Path, crops: str) -> dict[str, Any]:
    """Still frames skipped, moments lost, and what moments are worth; passing things apart.

    ``folder`` holds recordings and their ``truth.json``.
    """
    import wordsight
    from wordsight.evaluate.moments import Judged, evaluate_moments

    told = json.loads((folder / "truth.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        library = wordsight.create(f"{place}/a.lib", "starter")
        library.index(folder, crops=crops)
        frames = library.store.frames()
        times: dict[str, list[float]] = {}
        for video, time in zip(frames.videos, frames.times, strict=True):
            times.setdefault(video.partition(f"/{folder.name}/")[2], []).append(float(time))
        still = skipped = lost = moments = 0
        for video in told["videos"]:
            kept = times.get(video["file"], [])
            for start, end in video.get("still", ()):
                all_samples = [n for n in range(int(video["duration"]) + 1) if start + 1 < n < end]
                still += len(all_samples)
                skipped += len(all_samples) - sum(start + 1 < time < end for time in kept)
            for moment in video["moments"]:
                moments += 1
                lost += not any(moment["start"] <= time < moment["end"] for time in kept)
        figures: dict[str, Any] = {"lost": lost, "of": moments}
        if still:
            figures["still_skipped"] = skipped / still
        for kind in ("all", "full", "passing"):
            judged = [
                Judged(
                    each["query"],
                    tuple(
                        (m["file"], m["start"], m["end"])
                        for m in each["moments"]
                        if kind in ("all", m["kind"]) or (kind == "full" and m["kind"] != "passing")
                    ),
                )
                for each in told["queries"]
            ]
            found = evaluate_moments(library, judged).to_json()
            figures[kind] = {k: v for k, v in found.items() if k not in ("missed", "false")}
            if kind != "all":  # what is of the other kind is shown too, and not false
                for name in ("event_precision", "shown", "mAP@0.5", "mAP@0.7"):
                    figures[kind].pop(name)
        figures["absent_shown"] = {
            text: len(library.moments(text).moments) for text in told.get("absent", ())
        }
    print(f"{folder.name}, crops {crops}: {json.dumps(figures, indent=1)}")
    return figures


def watch(folder: Path, prompts: Sequence[str], seeds: int = 3) -> dict[str, Any]:
    """False alarms over 24 hours in fast motion of the recordings in a folder.

    ``prompts`` occur in none of them.
    """
    from tempfile import TemporaryDirectory

    import wordsight
    from wordsight.watching import Camera, Prompts

    counts, repeated = [], []
    with TemporaryDirectory() as place:
        library = wordsight.create(f"{place}/a.lib", "starter")
        library.index(folder)
        frames = library.store.frames()
        known = Prompts(library.model, prompts)
        for seed in range(seeds):
            events: list[dict[str, Any]] = []
            camera = Camera(
                "all", Path(place) / "w", library.model, known, 1 / len(prompts), events.append
            )
            _play(camera, frames, np.random.default_rng(seed))
            begun = [event for event in events if event["event"] == "begin"]
            counts.append(sum(not event["learning"] for event in begun))
            repeated.append(sorted({event["prompt"] for event in begun}))
            early = len(begun) - counts[-1]
            print(
                f"watch, {folder.name}, day {seed}: {counts[-1]} false alarms after the first "
                f"hour, {early} in it ({', '.join(repeated[-1]) or 'none'})"
            )
    return {"false_alarms": counts, "prompts": repeated, "stated": 1}


def _play(camera: Any, frames: Any, rng: np.random.Generator) -> None:
    """A day of scenes in random order, quiet between them, through the camera's own judgement."""
    videos = np.array(frames.videos)
    scenes = [np.flatnonzero(videos == video) for video in sorted(set(frames.videos))]
    order: list[int] = []
    lengths: list[float] = []
    while sum(lengths) < _DAY:
        scene = scenes[int(rng.integers(len(scenes)))]
        order += scene.tolist()
        lengths += (frames.untils[scene] - frames.times[scene]).tolist()
        lengths[-1] += float(rng.exponential(1200))  # the empty view goes on
    begins = 1_800_000_000.0 + np.cumsum([0.0, *lengths])
    for place, begin, end in zip(order, begins[:-1], begins[1:], strict=True):
        camera.judge(float(begin), float(end), frames.whole[place])


def main() -> None:
    """Run what is asked for."""
    made = parser(__doc__, "data")
    made.add_argument("--only", nargs="*", default=["speed", "clips", "truth", "watch"])
    made.add_argument("--seconds", type=int, default=60)
    made.add_argument("--footage", type=Path, metavar="DIR")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--crops", nargs="*", default=["none"])
    options = made.parse_args()
    data = options.data / "video"
    figures: dict[str, Any] = {}
    if "clips" in options.only:
        figures["clips"] = clips(data)
    fresh = options.footage
    if fresh:
        footage.write_truth(fresh, options.data, options.seed)
    folder = fresh or data / "truth"
    if "truth" in options.only:
        figures["truth"] = {crops: truth(folder, crops) for crops in options.crops}
    if "watch" in options.only:
        told = json.loads((data / "truth/truth.json").read_text())
        figures["watch"] = watch(folder, FRESH if fresh else [*told["absent"], *ABSENT])
    if "speed" in options.only:
        figures["speed"] = speed(data, options.seconds)
    finish(options, figures)


if __name__ == "__main__":
    main()
