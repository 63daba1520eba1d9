"""Reading videos beside amon-hen and clip-video-encode: times of frames, and processor time.

    python -m benchmarks.video_peers --peers PYTHON [--data DIR]

``--peers`` is the Python of an environment with ``amon-hen==0.1.21``, ``video2numpy==2.3.0`` (which
reads the frames for clip-video-encode, and is of its authors) and ``opencv-python-headless``.
Encoders are left out: the models of amon-hen come from the hub, clip-video-encode needs PyTorch
below 2. Each reads a frame a second of every clip of the pack that has frame numbers burned in, one
after the other in one run. A clip is right where no time is off by more than a frame.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import finish, parser
from benchmarks.video import burned_number

RATE = 12.5  # frames a second of the clips
Read = Callable[[str], Iterator[tuple[float, Any]]]


def wordsight(path: str) -> Iterator[tuple[float, Any]]:
    """Seconds and pictures, a second apart."""
    from wordsight.video.opening import Video
    from wordsight.video.sampling import samples

    with Video(path) as video:
        for sample in samples(video, 1.0, side=360):
            yield sample.time, sample.picture


def amon_hen(path: str) -> Iterator[tuple[float, Any]]:
    """The same by amon-hen's own function."""
    from amonhen.decode import iter_frames  # type: ignore[import-not-found]

    for frame in iter_frames(path, 1.0):
        yield frame.ts_ms / 1000, frame.image


def video2numpy(path: str) -> Iterator[tuple[float, Any]]:
    """The same by video2numpy: every so many frames; it crops the numbers away, so uncropped."""
    import cv2
    from video2numpy import read_vids_cv2 as module  # type: ignore[import-not-found]

    rate = cv2.VideoCapture(path).get(cv2.CAP_PROP_FPS) or 25.0
    step = max(1, round(rate))
    found: list[Any] = []

    class Queue:
        @classmethod
        def from_export(cls, *_: Any) -> Queue:
            return cls()

        def put(self, frames: Any, info: Any) -> None:
            del info
            found.extend(frames)

    module.SharedQueue = Queue
    module.Resizer = lambda *_: lambda image: image[:, :, ::-1]
    module.read_vids([(path, 0)], 0, step, 224, -1, ())
    for number, frame in enumerate(found):
        yield number * step / rate, frame


READERS: dict[str, Read] = {
    "wordsight": wordsight,
    "amon-hen": amon_hen,
    "clip-video-encode": video2numpy,
}


def one(name: str, clips: list[str]) -> dict[str, Any]:
    """Largest error of time by clip, what could not be read, and seconds of processor time."""
    errors: dict[str, float] = {}
    failed: dict[str, str] = {}
    for clip in clips:
        try:
            pairs = [(t, burned_number(np.asarray(p))) for t, p in READERS[name](clip)]
        except Exception as error:
            failed[Path(clip).name] = f"{type(error).__name__}: {error}"[:100]
            continue
        off = [abs(time - number / RATE) for time, number in pairs if number is not None]
        if off:
            errors[Path(clip).name] = max(off)
        else:
            failed[Path(clip).name] = "no frame number could be read"
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in spent)
    return {"errors": errors, "failed": failed, "processor_seconds": seconds}


def main() -> None:
    """Run each reader in a process of its own, and print them side by side."""
    if len(sys.argv) > 2 and sys.argv[1] == "--one":
        print("ANSWER" + json.dumps(one(sys.argv[2], sys.argv[3:])))
        return
    made = parser(__doc__, "data")
    made.add_argument("--peers", required=True, metavar="PYTHON")
    options = made.parse_args()
    folder = options.data / "video/clips"
    listed = json.loads((folder / "clips.json").read_text())["clips"]
    clips = [str(folder / c["file"]) for c in listed if c["expect"] == "ok" and c["numbers"]]
    figures: dict[str, Any] = {}
    for name in READERS:
        python = sys.executable if name == "wordsight" else options.peers
        command = [python, "-m", "benchmarks.video_peers", "--one", name]
        none = subprocess.run([*command], capture_output=True, text=True, check=True, env=_env())
        done = subprocess.run(
            [*command, *clips], capture_output=True, text=True, check=True, env=_env()
        )
        found, empty = (json.loads(d.stdout.split("ANSWER")[-1]) for d in (done, none))
        right = [clip for clip, error in found["errors"].items() if error <= 1 / RATE + 1e-6]
        spent = found["processor_seconds"] - empty["processor_seconds"]
        figures[name] = {**found, "right": len(right), "of": len(clips), "processor_seconds": spent}
        worst = sorted(found["errors"].items(), key=lambda each: -each[1])[:6]
        wrong = ", ".join(f"{clip} {error:.2f} s" for clip, error in worst if clip not in right)
        print(
            f"{name:18} right {len(right)} of {len(clips)}, {spent:.1f} s of processor time; "
            f"off: {wrong or 'none'}; not read: {', '.join(found['failed']) or 'none'}",
            flush=True,
        )
    finish(options, figures)


def _env() -> dict[str, str]:
    here = Path(__file__).resolve().parents[1]
    paths = [str(here), str(here / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    main()
