"""What reading metadata adds to indexing photographs of 12 megapixels.

    python -m benchmarks.metadata --data DATA [--photos 24] [--rounds 7]

The photographs are those of the COCO pack, enlarged to 4000 x 3000 and saved as JPEGs of quality 90
with EXIF (time, camera, lens, place) and XMP (twenty keywords). They are indexed by the starter
into a new library, in turn with metadata and with a reader that finds none. Times are those of the
process (user and system, all threads). *ratio* is the median over the rounds of both times; *share*
is the time spent in the reader itself, of the runs with metadata, which a busy machine sways less.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

import wordsight
from benchmarks.common import finish, parser
from wordsight.images.metadata import Metadata, metadata_of
from wordsight.models import ClipModel

_SIZE = (4000, 3000)


def _xmp() -> bytes:
    words = "".join(f"<rdf:li>keyword {n}</rdf:li>" for n in range(20))
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def write(data: Path, folder: Path, number: int) -> None:
    """So many photographs of 12 megapixels that say when, where and with what they were taken."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Camera X100"
    exif.get_ifd(0x8769).update({0x9003: "2023:07:14 18:00:00", 0x9011: "+02:00", 0xA434: "35mm"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    with tarfile.open(data / "coco-captions/images.tar") as tar:
        files = [tar.extractfile(member) for member in tar if member.isfile()][:number]
        for n, file in enumerate(files):
            assert file is not None
            photo = Image.open(io.BytesIO(file.read())).convert("RGB").resize(_SIZE)
            photo.save(folder / f"{n}.jpg", quality=90, exif=exif, xmp=_xmp())


def seconds(folder: Path, place: Path, model: ClipModel) -> float:
    """Processor time of indexing a folder into a new library."""
    library = wordsight.create(place, model)
    started = time.process_time()
    library.index(folder)
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--photos", type=int, default=24)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    model = wordsight.load_model("starter")
    spent = [0.0]

    def timed(image: Image.Image, size: tuple[int, int]) -> Metadata:
        started = time.thread_time()
        found = metadata_of(image, size)
        spent[0] += time.thread_time() - started
        return found

    some = mock.patch("wordsight.images.opening.metadata_of", timed)
    none = mock.patch("wordsight.images.opening.metadata_of", return_value=Metadata())
    times: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "photos")
        folder.mkdir()
        write(options.data, folder, options.photos)
        seconds(folder, Path(work, "first"), model)  # compiled and cached what there is
        for number in range(options.rounds):
            order = ("without", "with") if number % 2 else ("with", "without")
            for kind in order:
                place = Path(work, f"{number}-{kind}")
                with none if kind == "without" else some:
                    times[kind].append(seconds(folder, place, model))
    each = [w / o for w, o in zip(times["with"], times["without"], strict=True)]
    ratio = float(np.median(each))
    share = spent[0] / sum(times["with"])
    least, most = min(each), max(each)
    with_it, without = (np.median(times[kind]) / options.photos for kind in ("with", "without"))
    print(
        f"{options.photos} photographs of 12 MP, processor time of each: {with_it:.3f} s with "
        f"metadata, {without:.3f} s without; ratio {ratio:.3f} ({least:.3f} to {most:.3f} in "
        f"{options.rounds} rounds), share {share:.4f}"
    )
    finish(options, {"photos": options.photos, "ratio": ratio, "share": share, "times": times})


if __name__ == "__main__":
    main()
