"""Near-duplicates: how many copies are found, and how many different pictures are taken for one.

    python -m benchmarks.duplicates --data DATA [--part judge] [--model starter]
        [--false-merge 0.0003 ...] [--list]

The pictures are photographs of COCO and some of each class of Caltech-101, so that most have
different pictures of the same kind of thing beside them. Four in five have one copy: encoded again
(quality 20 to 60), made smaller (to 0.3 to 0.7 of the sides, no less than 64 pixels), cropped (to
0.75 to 0.95 of each side, anywhere), or a second frame of a burst (another window of the picture,
shifted by up to 4 % of the sides, turned by up to 2 degrees, 4 % nearer or farther, brightness and
colour changed by up to 20 %, noise, at times blurred). One part is for choosing settings, the other
(``judge``), of other pictures, for the figures that are published. A third one (``unseen``) has
no copies, only pictures of Caltech-101 that are in neither: whatever is grouped there is wrong, or
one of the pictures that the data hold twice. ``catalogue`` has no copies either: the other pictures
of those classes of which there are many (motorcycles, aeroplanes, watches, ...), in the half that
no setting was chosen on. ``video`` has real bursts: frames of clips.

*precision* is the share of right pairs among all pairs that share a group, *recall* the share of
copies that are in the group of their picture, in all and of each kind; *wrong* the images that
share a group with a picture that they are no copy of, as a share of all. Caltech-101 holds some
pictures twice: pairs that were looked at and found to be one picture are named in
``lists/same_pictures.txt`` and count neither way. ``--list`` prints the other wrong pairs.
"""

from __future__ import annotations

import io
import itertools
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

import wordsight
from benchmarks.common import finish, parser
from wordsight.duplicates import FALSE_MERGE, Duplicates, find, read_prints

KINDS = ("encoded", "smaller", "cropped", "burst", "alone")
_PARTS = {  # of each class, in each of two halves
    "choose": range(8), "judge": range(8, 14), "unseen": range(14, 34), "catalogue": range(34, 999)
}  # fmt: skip
_HALF = {"choose": 0, "judge": 1, "catalogue": 1}
_ALONE = ("unseen", "catalogue")
_FRAME = 0.92  # a burst's frames show so much of each side of the picture
_SAME = Path(__file__).parent / "lists" / "same_pictures.txt"


def pictures(data: Path, part: str) -> dict[str, Image.Image]:
    """The pictures of a part by name, "coco/1.jpg" or "dolphin/image_0001.jpg"."""
    found: dict[str, Image.Image] = {}
    taken: Counter[tuple[str, int]] = Counter()
    for archive, prefix in (("coco-captions/images.tar", "coco/"), ("caltech101/images.tar", "")):
        with tarfile.open(data / archive) as tar:
            for member in tar:
                name = prefix + member.name
                kind = name.partition("/")[0]
                half = zlib.crc32(name.encode()) % 2
                file = tar.extractfile(member) if member.isfile() else None
                # Faces_easy are crops of Faces: copies, but not ones of ours.
                if (
                    file is None
                    or kind == "Faces_easy"
                    or (part in _ALONE and prefix)
                    or half != _HALF.get(part, half)
                ):
                    continue
                number = taken[kind, half]
                taken[kind, half] += 1
                if prefix or number in _PARTS[part]:
                    found[name] = Image.open(io.BytesIO(file.read())).convert("RGB")
    return found


def copy_of(
    image: Image.Image, kind: str, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image | None, int]:
    """The picture as it is in the library, its copy, and the quality that this is saved in."""
    width, height = image.size
    if kind == "alone":
        return image, None, 0
    if kind == "encoded":
        return image, image, int(rng.integers(20, 60))
    if kind == "smaller":
        scale = min(max(rng.uniform(0.3, 0.7), 64 / min(image.size)), 1.0)
        size = (round(width * scale), round(height * scale))
        return image, image.resize(size, Image.Resampling.LANCZOS), 85
    if kind == "cropped":
        across, down = rng.uniform(0.75, 0.95, 2)
        x, y = rng.uniform(0, 1 - across) * width, rng.uniform(0, 1 - down) * height
        return (
            image,
            image.crop((int(x), int(y), int(x + across * width), int(y + down * height))),
            85,
        )
    return _window(image, (1.0, 0.0, 0.0, 0.0)), _second_frame(image, rng), 88


def _window(image: Image.Image, view: tuple[float, float, float, float]) -> Image.Image:
    """What a camera sees of the picture: scale, angle, and shift as shares of the sides."""
    scale, angle, right, down = view
    width, height = round(image.width * _FRAME), round(image.height * _FRAME)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = image.width * (0.5 + right), image.height * (0.5 + down)
    affine = (
        cos, -sin, x - cos * width / 2 + sin * height / 2,
        sin, cos, y - sin * width / 2 - cos * height / 2,
    )  # fmt: skip
    return image.transform(
        (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )


def _second_frame(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle = np.deg2rad(rng.uniform(-2, 2))
    right, down = rng.uniform(-0.04, 0.04, 2)
    frame = _window(image, (rng.uniform(0.96, 1.04), angle, right, down))
    frame = ImageEnhance.Brightness(frame).enhance(rng.uniform(0.8, 1.2))
    frame = ImageEnhance.Color(frame).enhance(rng.uniform(0.8, 1.2))
    pixels = np.asarray(frame) + rng.normal(0, 4, np.asarray(frame).shape)
    frame = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return frame.filter(ImageFilter.GaussianBlur(0.8)) if rng.random() < 0.3 else frame


def write(found: dict[str, Image.Image], folder: Path, *, alone: bool = False) -> dict[str, str]:
    """Write pictures and copies as files; the kind of copy of each picture, by name.

    ``alone``: without copies.
    """
    rng = np.random.default_rng(0)
    kinds = {}
    for number, (name, image) in enumerate(found.items()):
        kind = kinds[name] = "alone" if alone else KINDS[number % len(KINDS)]
        first, second, quality = copy_of(image, kind, rng)
        stem = folder / name.replace("/", "--").removesuffix(".jpg")
        first.save(f"{stem}.jpg", quality=92)
        if second is not None:
            second.save(f"{stem}--copy.jpg", quality=quality)
    return kinds


def write_bursts(data: Path, folder: Path) -> None:
    """Frames of real clips, of every four seconds the first 1.25, and 400 photographs beside."""
    import av

    for file in sorted((data / "video/real").glob("*.mp4")):
        with av.open(str(file)) as clip:
            after = 0.0
            for frame in clip.decode(video=0):
                burst, inside = divmod(frame.time or 0.0, 4.0)
                if burst < 12 and inside < 1.25 and (frame.time or 0.0) >= after:
                    name = f"{file.stem}--{burst:.0f}--{inside:.2f}.jpg"
                    frame.to_image().save(folder / name, quality=92)
                    after = (frame.time or 0.0) + 0.24
    with tarfile.open(data / "coco-captions/images.tar") as tar:
        for member in [one for one in tar if one.isfile()][:400]:
            file_in = tar.extractfile(member)
            assert file_in is not None
            (folder / f"coco--{member.name}").write_bytes(file_in.read())


def judged_bursts(found: Duplicates, folder: Path) -> dict[str, Any]:
    """Which share of a burst's pairs are in one group, over bursts; groups of several clips."""
    place, mixed = {}, 0
    for number, group in enumerate(found.groups):
        names = [Path(copy.path).name for copy in group.images]
        place.update(dict.fromkeys(names, number))
        clips = {name if name.startswith("coco") else name.split("--")[0] for name in names}
        mixed += len(clips) > 1
    bursts: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*--*--*.jpg")):
        bursts.setdefault(file.name.rpartition("--")[0], []).append(file.name)
    shares = [
        np.mean(
            [a in place and place[a] == place.get(b) for a, b in itertools.combinations(own, 2)]
        )
        for own in bursts.values()
        if len(own) > 1
    ]
    return {"bursts": len(shares), "together": float(np.mean(shares)), "mixed": mixed}


def measure_bursts(data: Path, work: Path, model: str) -> dict[str, Any]:
    """Index the frames, group them, print what came out."""
    folder = work / "frames"
    folder.mkdir()
    write_bursts(data, folder)
    library = wordsight.create(work / "library", model)
    library.index(folder)
    found = library.duplicates()
    row = judged_bursts(found, folder)
    print(
        f"video: {found.images} images, {row['bursts']} bursts, cut-off {found.cut_off:.3f}: "
        f"{row['together']:.3f} of the pairs of a burst in one group, {row['mixed']} groups of "
        f"several clips; expected to be wrong {found.expected:.4f}"
    )
    return row


def same_pictures() -> set[frozenset[str]]:
    """Pairs of Caltech-101 that are one picture."""
    pairs: set[frozenset[str]] = set()
    for line in _SAME.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, *numbers = line.split()
            names = [f"{kind}/image_{int(number):04}.jpg" for number in numbers]
            pairs |= {frozenset(pair) for pair in itertools.combinations(names, 2)}
    return pairs


def judged(
    found: Duplicates, kinds: dict[str, str]
) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
    """The figures, and the wrong pairs of pictures."""
    same = same_pictures()
    right: set[str] = set()
    wrong: Counter[tuple[str, str]] = Counter()
    wrongly: set[str] = set()
    for group in found.groups:
        names = [Path(copy.path).name.removesuffix(".jpg") for copy in group.images]
        for one, other in itertools.combinations(sorted(names), 2):
            a, b = (f"{n.removesuffix('--copy').replace('--', '/')}.jpg" for n in (one, other))
            if a == b:
                right.add(a)
            elif frozenset((a, b)) not in same:
                wrong[a, b] += 1
                wrongly |= {one, other}
    copied = [name for name, kind in kinds.items() if kind != "alone"]
    recalls = {
        kind: float(np.mean([name in right for name in copied if kinds[name] == kind]))
        for kind in KINDS[:-1]
        if copied
    }
    pairs = len(right) + sum(wrong.values())
    return {
        "images": found.images,
        "copies": len(copied),
        "false_merge": found.false_merge,
        "expected": found.expected,
        "cut_off": found.cut_off,
        "precision": len(right) / max(pairs, 1),
        "recall": len(right) / max(len(copied), 1),
        "recalls": recalls,
        "wrong": len(wrongly) / found.images,
    }, wrong


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--part", choices=(*_PARTS, "video"), default="judge")
    arguments.add_argument("--model", default="starter")
    arguments.add_argument("--false-merge", type=float, nargs="+", default=[FALSE_MERGE])
    arguments.add_argument("--list", action="store_true")
    options = arguments.parse_args()
    if options.part == "video":
        with tempfile.TemporaryDirectory() as work:
            row = measure_bursts(options.data, Path(work), options.model)
        finish(options, {"part": "video", "rows": [row]})
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        folder.mkdir()
        kinds = write(pictures(options.data, options.part), folder, alone=options.part in _ALONE)
        library = wordsight.create(Path(place, "library"), options.model)
        library.index(folder)
        started = time.perf_counter()
        prints, _ = read_prints(library.store)
        reading = time.perf_counter() - started
        for rate in options.false_merge:
            started = time.perf_counter()
            found = find(library.store, prints, false_merge=rate)
            comparing = time.perf_counter() - started
            row, wrong = judged(found, kinds)
            rows.append({**row, "read_seconds": reading, "compare_seconds": comparing})
            each = ", ".join(f"{kind} {share:.4f}" for kind, share in row["recalls"].items())
            print(
                f"{options.part}: {row['images']} images, {row['copies']} copies, stated rate "
                f"{rate:g}: cut-off {row['cut_off']:.3f}, precision {row['precision']:.4f}, recall "
                f"{row['recall']:.4f} ({each}), wrong {row['wrong']:.4f} (expected "
                f"{row['expected']:.4f}); reading {reading:.0f} s, comparing {found.compared} "
                f"pairs {comparing:.0f} s"
            )
            if options.list:
                for (a, b), times in wrong.most_common():
                    print(f"  {a}  {b}  {times}")
    finish(options, {"part": options.part, "rows": rows})


if __name__ == "__main__":
    main()
