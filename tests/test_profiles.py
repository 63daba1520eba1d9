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
