"""Peak memory of indexing a folder with very large images.

    python -m benchmarks.memory [--images 20] [--megapixels 100] [--crops none tiles maskrcnn]
        [--model starter vit] [--tokenizer DIR] [--small 0] [--folder DIR]

Writes the images into a temporary folder, or into DIR to be used again (JPEG: baseline, progressive
without subsampling, turned by EXIF, CMYK; PNG: 8 and 16 bits a channel, grey, palette, alpha; TIFF:
plain, compressed, CMYK, 16 bits, floats; WebP; BMP), in turn until there are ``--images``; with
``--small``, so many of 1 megapixel too. Then ``wordsight index`` runs as a process of its own,
which makes its library, and the greatest resident memory that the system counted for it (VmHWM) is
printed, beside that of the same command on one small image: the model and the programs themselves.
``--model vit`` is a random ViT-B/32 (``benchmarks/vit.py``; DIR of ``--tokenizer`` holds CLIP's
``tokenizer.json``). Linux only.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import vit
from benchmarks.common import finish, parser

KINDS = [
    *("jpeg", "png", "jpeg-progressive", "tiff", "png-16", "jpeg-turned", "png-grey-16"),
    *("jpeg-cmyk", "png-turned", "tiff-lzw", "png-alpha", "tiff-cmyk", "png-palette", "tiff-16"),
    *("jpeg-grey", "bmp", "webp", "png-grey", "jpeg-444", "tiff-float"),
]


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Large soft shapes with some detail; RGB."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (12, 18, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def write(file: Path, kind: str, width: int, height: int, seed: int = 0) -> Path:
    """One image of a kind of ``KINDS``; its path with the right suffix."""
    image = picture(width, height, seed)
    exif = Image.Exif()
    if kind.endswith("turned"):
        exif[0x0112] = 6
    form, _, variant = kind.partition("-")
    file = file.with_suffix(f".{form}")
    if form == "jpeg":
        options: dict[str, Any] = {"quality": 90, "exif": exif}
        if variant == "progressive":
            options |= {"progressive": True, "subsampling": 0}
        elif variant == "444":
            options["subsampling"] = 0
        elif variant in ("cmyk", "grey"):
            image = image.convert("CMYK" if variant == "cmyk" else "L")
        image.save(file, "JPEG", **options)
    elif form == "png":
        if variant == "16":
            _write_png16(file, image)
            return file
        if variant == "grey-16":
            image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
        elif variant in ("alpha", "palette", "grey"):
            image = image.convert({"alpha": "RGBA", "palette": "P", "grey": "L"}[variant])
        image.save(file, "PNG", compress_level=1, exif=exif)
    elif form == "tiff":
        if variant == "16":
            _write_tiff16(file, image)
        elif variant == "float":
            Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255).save(file)
        elif variant == "cmyk":
            image.convert("CMYK").save(file)
        else:
            image.save(file, compression="tiff_lzw" if variant == "lzw" else None)
    elif form == "webp":
        image.save(file, "WEBP", quality=80, method=0)
    else:
        image.save(file)
    return file


def _write_png16(file: Path, image: Image.Image) -> None:
    """16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", image.width, image.height, 16, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    with file.open("wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        for top in range(0, image.height, 256):
            strip = image.crop((0, top, image.width, min(image.height, top + 256)))
            rows = np.asarray(strip, ">u2") * 257
            body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
            out.write(chunk(b"IDAT", packer.compress(body)))
        out.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def _write_tiff16(file: Path, image: Image.Image) -> None:
    """Uncompressed RGB of 16 bits a channel in one strip (TIFF 6.0)."""
    entries = [
        (256, 4, 1, image.width),
        (257, 4, 1, image.height),
        (258, 3, 3, 134),  # bits a sample, at offset 134
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, 2),  # RGB
        (273, 4, 1, 140),  # the strip, at offset 140
        (277, 3, 1, 3),  # samples a pixel
        (278, 4, 1, image.height),
        (279, 4, 1, image.width * image.height * 6),
        (284, 3, 1, 1),
    ]
    with file.open("wb") as out:
        out.write(b"II*\0" + struct.pack("<IH", 8, len(entries)))
        for entry in entries:
            out.write(struct.pack("<HHII", *entry))
        out.write(struct.pack("<I", 0) + struct.pack("<HHH", 16, 16, 16))
        for top in range(0, image.height, 256):
            strip = image.crop((0, top, image.width, min(image.height, top + 256)))
            out.write((np.asarray(strip, "<u2") * 257).astype("<u2").tobytes())


def peak(command: list[str]) -> tuple[int, float, dict[str, Any]]:
    """Greatest resident bytes of a command, its seconds, and the JSON that it prints."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    status, most = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        # The system keeps the peak; only what comes in the last moments can be missed.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                most = int(line.split()[1]) * 1024
        time.sleep(0.02)
    assert process.stdout is not None
    text = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return most, time.perf_counter() - started, json.loads(text)


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, optional="tokenizer")
    arguments.add_argument("--images", type=int, default=20)
    arguments.add_argument("--megapixels", type=float, default=100)
    arguments.add_argument("--crops", nargs="+", default=["none", "tiles", "maskrcnn"])
    arguments.add_argument("--model", nargs="+", default=["starter"])
    arguments.add_argument("--small", type=int, default=0)
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options = arguments.parse_args()
    if "vit" in options.model and options.tokenizer is None:
        arguments.error("--model vit needs --tokenizer")
    width = round((options.megapixels * 1e6 * 3 / 2) ** 0.5)
    height = round(width * 2 / 3)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folders = {name: name for name in options.model}
        if "vit" in folders:
            folders["vit"] = str(vit.make_clip(place / "model", options.tokenizer, 224))
        (place / "one").mkdir()
        write(place / "one/small", "jpeg", 600, 400)
        many = options.folder or place / "many"
        many.mkdir(exist_ok=True)
        for i in range(options.images):
            kind = options.kinds[i % len(options.kinds)]
            if list(many.glob(f"{i:03}-{kind}.*")):
                continue
            # In a process of its own, so that this one stays small.
            code = "from benchmarks import memory; from pathlib import Path; import sys; "
            code += "memory.write(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))"
            where = [str(many / f"{i:03}-{kind}"), kind, str(width), str(height), str(i)]
            subprocess.run([sys.executable, "-c", code, *where], check=True, env=os.environ)
        for i in range(options.small):
            write(many / f"small-{i:04}", "jpeg", 1224, 816, i)
        for name, crops, folder in itertools.product(
            options.model, options.crops, (place / "one", many)
        ):
            library = place / f"{name}-{crops}-{folder.name}.lib"
            command = [sys.executable, "-m", "wordsight", "index", str(folder)]
            command += ["--library", str(library), "--model", folders[name], "--crops", crops]
            most, seconds, report = peak([*command, "--json"])
            rows.append(
                {
                    "model": name,
                    "crops": crops,
                    "offered": report["indexed"] + len(report["failed"]),
                    "images": report["indexed"],
                    "failed": [
                        {"path": Path(f["path"]).name, "reason": f["reason"]}
                        for f in report["failed"]
                    ],
                    "views": report["views"],
                    "peak_bytes": most,
                    "seconds": seconds,
                }
            )
    finish(options, {"megapixels": options.megapixels, "rows": rows})
    print(f"{width} x {height} pixels; peak of the whole process")
    head = ("images", "failed", "views")
    print(f"{'model':<10} {'crops':<10}", *(f"{name:>7}" for name in head), " seconds  peak MB")
    for row in rows:
        counts = (row["images"], len(row["failed"]), row["views"])
        print(
            f"{row['model']:<10} {row['crops']:<10}",
            *(f"{count:>7}" for count in counts),
            f"{row['seconds']:>8.1f} {row['peak_bytes'] / 1e6:>8.0f}",
        )
        for failure in row["failed"]:
            print(f"  {failure['path']}: {failure['reason']}")


if __name__ == "__main__":
    main()
