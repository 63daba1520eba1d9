"""Text in pictures: what is read of signs whose words are known, and what reading costs.

    python -m benchmarks.text --data DATA [--signs 120] [--photos 100]

Signs are one to three words of ``lists/absent.txt``, drawn in the fonts that are here (matplotlib's
DejaVu, Pillow's own), 12 to 60 pixels high, in any two colours of enough contrast, turned by up to
10 degrees and laid over photographs of the COCO pack at a random place; then a JPEG of quality 75.
*read* is the share of words that are among the words read, by height; *found* the share of signs
that a search for all their words finds. *said* is how many of the plain photographs text was read
in: some show signs, and what else is read there is listed with ``--list``. Seconds are those of the
process (all its threads), a picture: the pictures are 640 x 480 and of 12 megapixels.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import wordsight
from benchmarks.common import finish, parser
from wordsight.library.lines import words_of
from wordsight.models.ocr import Reader
from wordsight.search.text import read_texts

_HEIGHTS = (12, 16, 20, 28, 40, 60)
_SIZE = (640, 480)
_LARGE = (4000, 3000)
_NAMES = Path(__file__).parent / "lists" / "absent.txt"


def vocabulary() -> list[str]:
    """Words to write on signs."""
    lines = _NAMES.read_text(encoding="utf-8").splitlines()
    return sorted({word for line in lines if line[:1] not in ("#", "") for word in words_of(line)})


def fonts() -> list[Path]:
    """The fonts to write with."""
    import matplotlib

    place = Path(matplotlib.get_data_path()) / "fonts/ttf"
    names = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
    return [place / f"{name}.ttf" for name in names]


def sign(ground: Image.Image, text: str, height: int, rng: np.random.Generator) -> Image.Image:
    """A photograph with a sign in it, whose letters are so many pixels high."""
    font = ImageFont.truetype(fonts()[rng.integers(len(fonts()))], round(height / 0.73))
    left, top, right, bottom = font.getbbox(text)
    pad = height // 2
    size = (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad)
    while True:
        back, front = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
        if abs(np.dot(np.subtract(back, front), (0.299, 0.587, 0.114))) > 90:
            break
    board = Image.new("RGBA", size, (*back, 255))
    ImageDraw.Draw(board).text((pad - left, pad - top), text, font=font, fill=(*front, 255))
    board = board.rotate(float(rng.uniform(-10, 10)), Image.Resampling.BICUBIC, expand=True)
    image = ground.copy()
    x = int(rng.integers(0, max(image.width - board.width, 1)))
    y = int(rng.integers(0, max(image.height - board.height, 1)))
    image.paste(board, (x, y), board)
    return image


def photographs(data: Path, count: int) -> list[Image.Image]:
    """The first photographs of the COCO pack, in one size."""
    found: list[Image.Image] = []
    with tarfile.open(data / "coco-captions/images.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and len(found) < count:
                image = Image.open(io.BytesIO(file.read())).convert("RGB")
                found.append(image.resize(_SIZE, Image.Resampling.LANCZOS))
    return found


def write_signs(
    folder: Path, grounds: list[Image.Image], rng: np.random.Generator
) -> dict[str, tuple[str, int]]:
    """Write a sign over each of the photographs; the words and heights by name of the file."""
    words, truth = vocabulary(), {}
    for number, ground in enumerate(grounds):
        height = _HEIGHTS[number % len(_HEIGHTS)]
        chosen = rng.choice(words, 1 if height > 40 else int(rng.integers(1, 4)), replace=False)
        name = f"{number:04}.jpg"
        truth[name] = " ".join(chosen), height
        sign(ground, truth[name][0], height, rng).save(folder / name, quality=75)
    return truth


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--signs", type=int, default=120)
    arguments.add_argument("--photos", type=int, default=100)
    arguments.add_argument("--list", action="store_true")
    options = arguments.parse_args()
    rng = np.random.default_rng(0)
    grounds = photographs(options.data, max(options.signs, options.photos))
    with tempfile.TemporaryDirectory() as place:
        signs, plain = Path(place, "signs"), Path(place, "plain")
        for folder in (signs, plain):
            folder.mkdir()
        truth = write_signs(signs, grounds[: options.signs], rng)
        for number, ground in enumerate(grounds[: options.photos]):
            ground.save(plain / f"{number:04}.jpg", quality=88)
        library = wordsight.create(Path(place, "library"), "starter")
        library.index([signs, plain])
        reader = Reader()
        reader.read(grounds[0])  # the models are loaded
        started, wall = time.process_time(), time.perf_counter()
        report = read_texts(library.store, reader)
        seconds = (time.process_time() - started) / report.read
        wall = (time.perf_counter() - wall) / report.read
        large = grounds[0].resize(_LARGE, Image.Resampling.BICUBIC)
        large.save(Path(place, "large.jpg"), quality=90)
        library.index(Path(place, "large.jpg"))
        started = time.process_time()
        read_texts(library.store, reader)
        large_seconds = time.process_time() - started

        read: dict[int, list[float]] = defaultdict(list)
        found: dict[int, list[bool]] = defaultdict(list)
        paths = {entry.hash: Path(entry.path) for entry in library.store.entries()}
        lines = library.store.lines
        for name, (text, height) in truth.items():
            hits = {paths[hit.hash].name for hit in lines.find(text, 50) if hit.hash in paths}
            found[height].append(name in hits)
        rows = lines.all()
        said = 0
        for row in rows:
            path = paths[row.hash]
            if path.parent.name == "signs":
                text, height = truth[path.name]
                there = {word.casefold() for line in row.lines for word in words_of(line)}
                wanted = [word.casefold() for word in words_of(text)]
                read[height].append(float(np.mean([word in there for word in wanted])))
            elif row.lines and path.parent.name == "plain":
                said += 1
                if options.list:
                    print(f"  {path.name}: {' | '.join(row.lines)}")
    for height in _HEIGHTS:
        print(
            f"letters of {height} pixels: read {np.mean(read[height]):.3f}, "
            f"found {np.mean(found[height]):.3f} of {len(found[height])} signs"
        )
    print(f"text in {said} of {options.photos} plain photographs")
    print(
        f"{seconds:.2f} s of processor time a picture of {_SIZE[0]} x {_SIZE[1]} ({wall:.2f} s by "
        f"the clock), {large_seconds:.2f} s of one of 12 megapixels"
    )
    figures = {
        "read": {str(height): float(np.mean(read[height])) for height in _HEIGHTS},
        "found": {str(height): float(np.mean(found[height])) for height in _HEIGHTS},
        "said": said / options.photos,
        "seconds": seconds,
        "large_seconds": large_seconds,
    }
    finish(options, figures)


if __name__ == "__main__":
    main()
