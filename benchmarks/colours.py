"""What colour profiles cost when photographs are indexed.

    python -m benchmarks.colours [--data DATA] [--images 40] [--rounds 3] [--model starter]
        [--crops none tiles]

Indexes photographs of 12 megapixels (COCO's, enlarged, JPEG quality 90) without a profile, with one
of sRGB, and with one of Display P3, as telephones write them, in turn. Printed are images a second
and, of the processor time without a profile, how much is taken: other work on the machine disturbs
that less.
"""

from __future__ import annotations

import statistics
import struct
import tempfile
from functools import partial
from pathlib import Path

from PIL import ImageCms

import wordsight
from benchmarks.common import finish, parser, timed
from benchmarks.rclip import write_photos

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# The colorants of Display P3 beside D50, as XYZ.
_P3 = {
    b"rXYZ": (0.51512, 0.2412, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.1571, 0.06657, 0.78407),
}


def display_p3() -> bytes:
    """The profile of sRGB with the colorants of Display P3: both have the same curve."""
    profile = bytearray(_SRGB)
    (count,) = struct.unpack_from(">I", profile, 128)
    for entry in range(count):
        tag, start, _ = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
        if tag in _P3:
            struct.pack_into(">3i", profile, start + 8, *(round(v * 65536) for v in _P3[tag]))
    return bytes(profile)


PROFILES = {"no profile": None, "sRGB": _SRGB, "Display P3": display_p3()}


def with_profile(jpeg: bytes, profile: bytes | None) -> bytes:
    """A JPEG with an ICC profile put in (ICC.1, annex B.4), its pixels untouched."""
    if profile is None:
        return jpeg
    body = b"ICC_PROFILE\0\1\1" + profile
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--images", type=int, default=40)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--model", default="starter")
    arguments.add_argument("--crops", nargs="+", default=["none", "tiles"])
    options = arguments.parse_args()
    model = wordsight.load_model(options.model)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_photos(options.data / "coco-captions/images.tar", place / "first", options.images)
        for name, profile in PROFILES.items():
            (place / name).mkdir()
            for photo in (place / "first").iterdir():
                (place / name / photo.name).write_bytes(with_profile(photo.read_bytes(), profile))
        wordsight.create(place / "bank.lib", model).index(place / "first")  # opens all there is
        for crops in options.crops:
            measured: dict[str, list[tuple[float, float]]] = {name: [] for name in PROFILES}
            for number in range(options.rounds):
                for name, times in measured.items():
                    library = wordsight.create(place / f"{crops}-{number}-{name}.lib", model)
                    times.append(timed(partial(library.index, place / name, crops=crops)))
                    assert len(library) == options.images
            plain = statistics.median(processor for _, processor in measured["no profile"])
            rows += [
                {
                    "crops": crops,
                    "profile": name,
                    "images_per_second": options.images / statistics.median(w for w, _ in times),
                    "processor_ratio": statistics.median(p for _, p in times) / plain,
                }
                for name, times in measured.items()
            ]
    finish(options, {"model": model.name, "images": options.images, "rows": rows})
    print(
        f"{options.images} JPEGs of 12 megapixels, {model.name}; median of {options.rounds} rounds"
    )
    print("crops   profile      images/s   of the processor time without a profile")
    for row in rows:
        print(
            f"{row['crops']:<7} {row['profile']:<11} {row['images_per_second']:9.1f}   "
            f"{row['processor_ratio']:.2f}"
        )


if __name__ == "__main__":
    main()
