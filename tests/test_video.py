"""Reading videos: times, pictures, what is odd of files; no index is involved."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videos import av, burned_number, write_video

from wordsight.errors import ImageError
from wordsight.sources import read_location
from wordsight.video import clock, frame_path, sampling, split_frame
from wordsight.video.frames import frame_at
from wordsight.video.moving import Scene
from wordsight.video.opening import Video
from wordsight.video.sampling import samples
from wordsight.video.still import glance, is_still

PACK = Path(os.environ.get("WORDSIGHT_DATA") or "-") / "video"
CLIPS = json.loads((PACK / "clips/clips.json").read_text())["clips"] if PACK.is_dir() else []
GOOD = [clip for clip in CLIPS if clip["expect"] == "ok"]
NUMBERED = [clip["file"] for clip in GOOD if clip["numbers"] and clip["file"] != "raw.h264"]
needs_pack = pytest.mark.skipif(not CLIPS, reason="WORDSIGHT_DATA has no pack of videos")


def read(path: Path, every: Any = 2.0, **options: Any) -> tuple[Video, list[sampling.Sample]]:
    with Video(str(path)) as video:
        found = list(samples(video, every, **options))
        video.finish()
    return video, found


@needs_pack
@pytest.mark.parametrize("file", NUMBERED)
def test_every_time_is_that_of_its_frame(file: str) -> None:
    """Codecs, open groups, stamps that start late, wrap, begin again, rotation, shapes, cuts."""
    clip = next(clip for clip in GOOD if clip["file"] == file)
    video, found = read(PACK / "clips" / file, side=360)
    assert [video.look.width, video.look.height] == clip["size"]
    assert found[0].picture.size == tuple(clip["size"])
    assert [s.time for s in found] == sorted(s.time for s in found)
    assert len(found) >= clip["duration"] / 2 - 1
    for sample in found:
        number = burned_number(sample.picture)
        assert number is not None
        assert sample.time == pytest.approx(number / 12.5, abs=0.001)
    assert video.end == pytest.approx(clip["duration"], abs=0.25)


@needs_pack
@pytest.mark.parametrize("file", ["h264-opengop.mkv", "joined.ts", "wrap.ts", "cut.mp4"])
def test_a_frame_is_found_again(file: str) -> None:
    path = PACK / "clips" / file
    for sample in read(path, 5.0, side=360)[1]:
        data = read_location(frame_path(str(path), sample.time))
        assert burned_number(frame_at(frame_path(str(path), sample.time))) == burned_number(
            sample.picture
        )
        assert data.startswith(b"\xff\xd8")


@needs_pack
@pytest.mark.parametrize("file", ["h264-bframes.mp4", "hevc.mp4"])
def test_what_is_skipped_in_decoding_is_not_seen(file: str) -> None:
    """Against all frames with all filters, at the size that is embedded."""
    path = PACK / "clips" / file
    for sample in read(path, 7.0, side=300)[1]:
        whole = np.asarray(frame_at(frame_path(str(path), sample.time), 300), np.float64)
        error = ((np.asarray(sample.picture) - whole) ** 2).mean()
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 39


@needs_pack
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("cut-no-index.mp4", "not finished or cut off"),
        ("picture-named.mp4", "an image, not a video"),
        ("empty.mp4", "the file is empty"),
        ("noise.mkv", "not a video"),
        ("sound-only.mp4", "audio without video"),
        ("cover-art.mp4", "audio without video"),
        ("no-such.mp4", "no such file"),
    ],
)
def test_what_is_no_video_is_refused_with_a_reason(file: str, reason: str) -> None:
    path = PACK / "clips" / file
    with pytest.raises(ImageError, match=reason) as caught:
        Video(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@needs_pack
def test_a_cut_video_says_what_is_there_of_it() -> None:
    (notice,) = read(PACK / "clips/cut.mkv")[0].notices
    assert "13.6 s of 20.0 s" in notice


@needs_pack
def test_without_stamps_times_are_estimates() -> None:
    video, found = read(PACK / "clips/raw.h264", 1.0)
    assert "no time stamps" in video.notices[0]
    assert "25 frames a second" in video.notices[0]
    assert [s.time for s in found] == [float(n) for n in range(10)]


@needs_pack
def test_one_frame_is_a_video() -> None:
    assert [s.time for s in read(PACK / "clips/one-frame.mp4")[1]] == [0.0]


@needs_pack
def test_hdr_looks_like_the_rest() -> None:
    plain = read(PACK / "clips/h264-bframes.mp4", 20.0)[1][0].picture
    hdr = read(PACK / "clips/hlg-10bit.mp4", 20.0)[1][0].picture
    means = [np.asarray(each, np.float32).mean(axis=(0, 1)) for each in (plain, hdr)]
    assert np.abs(means[0] - means[1]).max() < 12


def test_pq_looks_as_bright_as_sdr(tmp_path: Path) -> None:
    """Greys at a diffuse white of 203 cd/m2 (ITU-R BT.2408) in the curve of SMPTE ST 2084."""
    greys = np.array([60, 110, 160, 210], np.float64)
    linear = ((greys / 255 + 0.055) / 1.055) ** 2.4  # IEC 61966-2-1
    power = (203 * linear / 10_000) ** (2610 / 16384)
    a, b, c = 3424 / 4096, 2413 / 128, 2392 / 128
    coded = ((a + b * power) / (1 + c * power)) ** (2523 / 32)
    pixels = np.repeat(coded, 64)[None, :, None].repeat(64, 0).repeat(3, 2)
    path = tmp_path / "pq.mp4"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx265", rate=5)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
        stream.options = {"x265-params": f"{tags}:log-level=none", "preset": "ultrafast"}
        for number in range(5):
            frame: Any = av.VideoFrame.from_ndarray((pixels * 65535).astype(np.uint16), "rgb48le")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    video, (first, *_) = read(path, 1.0)
    assert (video.look.primaries, video.look.transfer) == (9, 16)
    shown = np.asarray(first.picture, np.float64)[20:44].mean(axis=(0, 2))
    assert [shown[32 + 64 * n] for n in range(4)] == pytest.approx(greys, abs=12)


@needs_pack
def test_of_an_interlaced_frame_one_field_is_shown() -> None:
    """Where the other field were in it too, moving edges would be combs: lines that alternate."""
    for sample in read(PACK / "clips/interlaced.ts", side=360)[1]:
        rows = np.asarray(sample.picture.convert("L"), np.float32)
        comb = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2) > 40
        assert comb.mean() < 0.01


@needs_pack
def test_of_several_streams_the_largest_counts() -> None:
    video, found = read(PACK / "real/nasa_13013.mp4", 5.0)
    assert (video.look.width, video.look.height) == (480, 270)
    assert [s.time for s in found] == pytest.approx([0, 5, 10], abs=0.2)


def test_keyframes_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [("red", 6)], gop=20, moves=True)
    assert [s.time for s in read(path, "keyframes")[1]] == [0.0, 2.0, 4.0]


def test_an_hour_between_key_frames_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", [("red", 8), ("blue", 8)], gop=1000, moves=True)
    plain = read(path, 1.0)[1]
    monkeypatch.setattr(sampling, "_MOST_BYTES", 200)
    held: list[int] = []
    decoded = sampling._decoded

    def counted(video: Any, group: Any, before: Any, side: int) -> Any:
        held.append(group.size)
        return decoded(video, group, before, side)

    monkeypatch.setattr(sampling, "_decoded", counted)
    pieces = read(path, 1.0)[1]
    assert len(held) > 5
    assert [s.time for s in pieces] == [s.time for s in plain]
    for one, other in zip(plain, pieces, strict=True):
        assert np.array_equal(np.asarray(one.picture), np.asarray(other.picture))


def test_reading_goes_on_from_a_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [("red", 9)], moves=True)
    whole = [s.time for s in read(path, 1.0)[1]]
    assert [s.time for s in read(path, 1.0, begin=whole[4])[1]] == whole[4:]


def test_an_error_at_the_end_is_the_end(tmp_path: Path) -> None:
    """As PyAV 17 raises where a file is cut."""
    path = write_video(tmp_path / "a.mp4", [("red", 5)], moves=True)

    class Raising:
        def __init__(self, container: Any) -> None:
            self.container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

        def demux(self, stream: Any) -> Any:
            for number, packet in enumerate(self.container.demux(stream)):
                if number == 30:
                    raise av.InvalidDataError(1, "Invalid data found")
                yield packet

    with Video(str(path)) as video:
        video._first_packets = []
        video.container.seek(0)
        video.container = Raising(video.container)
        assert [s.time for s in samples(video, 1.0)] == pytest.approx([0, 1, 2, 3], abs=0.15)
        video.finish()
    assert "cut off" in video.notices[0]


def test_paths_of_frames() -> None:
    assert frame_path("/a/b.mp4", 12.48) == "/a/b.mp4::t=12.480"
    assert split_frame("/a/b.mp4::t=12.480") == ("/a/b.mp4", 12.48)
    assert split_frame("/a/x.tar::t=1/1.jpg") is None
    with pytest.raises(ImageError, match=r"/no/b.mp4::t=1.000: no such file"):
        frame_at("/no/b.mp4::t=1.000")


def test_light_that_changes_everywhere_is_still_and_a_thing_is_not() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 160, (180, 320, 3)).astype(np.uint8)
    thing = scene.copy()
    thing[60:90, 100:130] = 255
    before, lighter, more = (
        glance(Image.fromarray(each.astype(np.uint8))) for each in (scene, scene * 1.4, thing)
    )
    assert before.shape == (36, 64)
    assert is_still(before, lighter)
    assert not is_still(before, more)


def test_what_moves_is_found_before_the_usual_view() -> None:
    wall = np.full((180, 320, 3), 120, np.uint8)
    scene = Scene()
    small = wall.copy()
    small[60:90, 100:130], small[150:154, 300:304] = 255, 0  # the second is of one cell
    assert scene.moving(glance(Image.fromarray(small))) is None  # nothing is known yet
    for light in (1.0, 1.1, 1.2, 1.1, 1.0):
        scene.feed(glance(Image.fromarray((wall * light).astype(np.uint8))))
    assert scene.moving(glance(Image.fromarray(wall))) is None
    part = scene.moving(glance(Image.fromarray(small)))
    assert part == pytest.approx((97 / 320, 57 / 180, 133 / 320, 93 / 180))
    everywhere = wall.copy()
    everywhere[10:170, 10:310] = 250
    assert scene.moving(glance(Image.fromarray(everywhere))) is None


@pytest.mark.parametrize(
    ("path", "metadata", "when", "camera"),
    [
        ("/d/gate_20260301_083000.ts", {}, datetime(2026, 3, 1, 8, 30), "gate"),
        ("/d/front-2026-03-01T08-30-00Z.mp4", {}, datetime(2026, 3, 1, 8, 30), "front"),
        (
            "/cams/yard/2026-03-01/20260301083000.mp4",
            {"creation_time": "2026-03-01T07:00:00.000000Z"},
            datetime(2026, 3, 1, 7),
            "yard",
        ),
        (
            "/d/IMG_1.MOV",
            {"com.apple.quicktime.creationdate": "2026-03-01T09:00:00+0200"},
            datetime(2026, 3, 1, 7),
            "IMG_1",
        ),
        ("/d/clip.mp4", {"creation_time": "1970-01-01T00:00:00Z"}, None, "clip"),
        ("/d/x_20261341_083000.ts", {}, None, "x_20261341_083000"),
    ],
)
def test_when_and_by_which_camera(
    path: str,
    metadata: dict[str, str],
    when: datetime | None,
    camera: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    expected = when.replace(tzinfo=timezone.utc) if when else None
    assert clock.recorded(path, metadata) == expected
    assert clock.camera(path) == camera
