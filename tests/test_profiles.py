"""Colours as sRGB, transparency on white, and the folder of odd images with their references."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from wordsight.errors import ImageError
from wordsight.images import open_image, to_rgb
from wordsight.images.profiles import Coding, to_srgb

ODD = Path(os.environ.get("WORDSIGHT_DATA", "")) / "odd-images"
INPUTS = sorted(p for p in ODD.glob("*.*") if not p.name.startswith(("ref_", "README")))


@pytest.mark.skipif(not INPUTS, reason="needs odd-images in WORDSIGHT_DATA")
def test_odd_images_look_as_their_references() -> None:
    for path in INPUTS:
        if path.suffix == ".tif":
            pytest.importorskip("tifffile")
        reference = PIL.Image.open(ODD / f"ref_{path.stem}.png").convert("RGB")
        opened = open_image(path)
        assert opened.size == reference.size, path.name
        difference = np.abs(np.asarray(opened, int) - np.asarray(reference, int))
        lossy = path.suffix in (".jpg", ".heic")  # halved colour along edges
        assert difference.mean() < (6 if lossy else 0.5), path.name


def saved(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("profile", [b"", b"broken", SRGB[:200], LAB, SRGB])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_profiles_that_are_broken_or_of_another_mode_change_nothing(
    profile: bytes, mode: str
) -> None:
    image = PIL.Image.linear_gradient("L").convert(mode)
    data = saved(image, "TIFF", icc_profile=profile) if profile else saved(image, "TIFF")
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(image.convert("RGB")))


def icc(colours: bytes, space: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile (ICC.1:2010, clause 7) of these tags and D50 as its white."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    tags = {b"wtpt": white, b"desc": b"desc\0\0\0\0\0\0\0\2x" + bytes(79), **tags}
    start = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, start + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">4x4xI4s4s4s12x4s", 0x02400000, kind, colours, space, b"acsp")
    head = head.ljust(68, b"\0") + white[8:]
    return struct.pack(">I", start + len(bodies)) + (head.ljust(128, b"\0") + table + bodies)[4:]


def inks() -> bytes:
    """A CMYK profile whose full inks are dull and whose black is brown."""
    lab = [(255, 128, 128)]  # paper; each ink takes away what it takes from there
    taken = ((120, 30, 50), (140, -60, 10), (30, 10, -90), (200, -10, -15))
    for ink in taken:  # the last ink varies fastest
        lab = [x for c in lab for x in (c, tuple(map(int.__sub__, c, ink)))]
    corners = bytes(min(max(v, 0), 255) for c in lab for v in c)
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    line = bytes(range(256))
    table = b"mft1\0\0\0\0\4\3\2\0" + matrix + 4 * line + corners + 3 * line
    return icc(b"CMYK", b"Lab ", b"prtr", {b"A2B0": table})


def grey(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(256 * gamma))
    return icc(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": curve})


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("min_side", [None, 16])
@pytest.mark.parametrize(
    ("profile", "mode"), [(inks(), "CMYK"), (grey(1.0), "L"), (grey(3.0), "L")]
)
def test_inks_and_greys_are_as_their_profile_says(
    profile: bytes, mode: str, kind: str, min_side: int | None
) -> None:
    colours = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]
    colours += [(120, 40, 200, 20), (30, 30, 30, 100)]
    levels = [0, 20, 60, 128, 190, 230, 255]
    image = PIL.Image.new(mode, (32 * len(levels), 32))
    for n, (inked, level) in enumerate(zip(colours, levels, strict=True)):
        image.paste(inked if mode == "CMYK" else level, (32 * n, 0, 32 * n + 32, 32))
    by_lcms = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = saved(image, kind, icc_profile=profile, **options)
    opened = open_image(data, min_side=min_side)
    unlike = 0
    for n in range(len(levels)):
        there = opened.getpixel((opened.width * (2 * n + 1) // (2 * len(levels)), 8))
        assert np.abs(np.subtract(there, by_lcms.getpixel((32 * n + 16, 16)))).max() <= 4, n
        plain = image.convert("RGB").getpixel((32 * n + 16, 16))
        unlike = max(unlike, np.abs(np.subtract(there, plain)).max())
    assert unlike > 20  # without the profile it would be another picture


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@pytest.mark.parametrize("min_side", [None, 10])
def test_a_black_drawing_on_nothing_is_black_on_white(mode: str, min_side: int | None) -> None:
    image = PIL.Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 40))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    for opened in (open_image(saved(image, "PNG"), min_side=min_side), to_rgb(image)):
        assert opened.getpixel((0, 0)) == (0, 0, 0)
        assert opened.getpixel((opened.width - 1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("transfer", [16, 18])
def test_white_at_203_nits_is_white(transfer: int) -> None:
    signal = {16: 0.58, 18: 0.75}[transfer]  # ITU-R BT.2408, table 1
    image = PIL.Image.new("RGB", (4, 4), (round(255 * signal),) * 3)
    for primaries in (1, 9, 12):
        shown = to_srgb(image, {"coding": Coding(primaries, transfer)}).getpixel((0, 0))
        assert min(shown) >= 250
    dark = to_srgb(PIL.Image.new("RGB", (1, 1)), {"coding": Coding(9, transfer)})
    assert dark.getpixel((0, 0)) == (0, 0, 0)


def test_png_tells_its_coding_in_a_chunk() -> None:
    data = saved(PIL.Image.new("RGB", (4, 4), (148, 148, 148)), "PNG")
    body = b"cICP" + bytes([9, 16, 0, 1])
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    assert min(open_image(data[:33] + chunk + data[33:]).getpixel((0, 0))) >= 250


@pytest.mark.parametrize("size", [2_000_000, 40_000_000])
def test_a_png_with_a_long_profile_is_read(size: int) -> None:
    """Pillow gives up on those of more than a megabyte (Pillow issue 8363)."""
    data = saved(PIL.Image.new("RGB", (4, 4), (148, 20, 20)), "PNG")
    body = b"iCCPtables\0\0" + zlib.compress(SRGB + bytes(size))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert open_image(data[:33] + chunk + data[33:]).getpixel((0, 0)) == (148, 20, 20)


def test_what_wordsight_drew_says_so(tmp_path: Path) -> None:
    from wordsight.render import save

    for suffix in (".png", ".jpg", ".webp", ".tif", ".gif"):
        path = save(PIL.Image.new("RGB", (20, 20), "red"), tmp_path / f"grid{suffix}")
        assert open_image(path).info["software"] == "wordsight", suffix
    assert "software" not in open_image(saved(PIL.Image.new("RGB", (9, 9)), "PNG")).info


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_without_its_end_is_read_and_one_with_missing_pixels_is_not(
    options: dict[str, object],
) -> None:
    y, x = np.mgrid[0:120, 0:160]
    noise = np.random.default_rng(0).integers(0, 40, (120, 160))
    pixels = np.stack([x + noise, y + noise, 80 + noise], 2).astype(np.uint8)
    data = saved(PIL.Image.fromarray(pixels), "JPEG", **options)
    whole = np.asarray(open_image(data))
    for cut in (1, 2):
        assert np.array_equal(np.asarray(open_image(data[:-cut])), whole)
    trailer = data[:-2] + b"\0\0\1\n\x0e\0\0\0Image_UTC_Data\xff\xd8\xff\xe0SEFH" + bytes(40)
    assert open_image(trailer).size == (160, 120)
    for cut in (60, 300, len(data) // 2):
        with pytest.raises(ImageError, match="truncated"):
            open_image(data[:-cut])
