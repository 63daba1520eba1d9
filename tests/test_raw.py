"""JPEG XL and cameras' RAW files, drawn here."""

from __future__ import annotations

import io
import sys

import numpy as np
import PIL.Image
import pytest

from wordsight.errors import ImageError
from wordsight.images import IMAGE_SUFFIXES, open_image, readable_suffixes


def dng() -> bytes:
    """A mosaic of 128 x 96 pixels, evenly red, without a preview."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
    sensor = np.zeros((96, 128), np.uint16)
    sensor[::2, ::2] = 40_000
    mosaic = [
        (33421, "H", 2, (2, 2)), (33422, "B", 4, bytes([0, 1, 1, 2])),
        (50706, "B", 4, bytes([1, 4, 0, 0])), (50708, "s", 0, "Nobody's camera"),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
    ]  # fmt: skip
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        options = {"photometric": 32803, "extratags": mosaic, "subfiletype": 0}
        tiff.write(sensor, **options)
    return file.getvalue()


def test_a_dng_is_developed_at_half_its_size() -> None:
    pytest.importorskip("rawpy", reason="needs the extra raw")
    opened = open_image(dng())
    assert opened.info["full_size"] == opened.size == (64, 48)
    red, green, blue = np.asarray(opened, int).reshape(-1, 3).mean(0)
    assert red > max(green, blue)
    assert open_image(dng(), min_side=20).size == (32, 24)


def test_without_the_extras_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    for data, extra in ((dng(), "raw"), (b"FUJIFILMCCD-RAW" + bytes(99), "raw"),
                        (b"\xff\x0a" + bytes(99), "jxl")):  # fmt: skip
        with pytest.raises(ImageError, match=rf"pip install 'wordsight\[{extra}\]'"):
            open_image(data)


def test_broken_raw_files_are_errors() -> None:
    pytest.importorskip("rawpy", reason="needs the extra raw")
    canon = b"II*\0\x10\0\0\0CR\2\0" + bytes(8)
    for data in (b"FUJIFILMCCD-RAW" + bytes(999), dng()[:400], canon):
        with pytest.raises(ImageError) as raised:
            open_image(data)
        assert "b'" not in str(raised.value)  # what LibRaw says comes as bytes


@pytest.mark.parametrize("size", [(64, 48), (57, 200), (300, 301), (1000, 16)])
@pytest.mark.parametrize("container", [False, True])
def test_jpeg_xl(size: tuple[int, int], container: bool) -> None:
    plugin = pytest.importorskip("pillow_jxl", reason="needs the extra jxl")
    assert plugin
    image = PIL.Image.radial_gradient("L").resize(size).convert("RGB")
    file = io.BytesIO()
    image.save(file, "JXL", lossless=True, use_container=container)
    opened = open_image(file.getvalue())
    assert opened.info["full_size"] == size
    assert np.array_equal(np.asarray(opened), np.asarray(image))
    with pytest.raises(ImageError, match="too large"):
        open_image(file.getvalue(), max_pixels=100)
    assert ".jxl" in readable_suffixes() - IMAGE_SUFFIXES
