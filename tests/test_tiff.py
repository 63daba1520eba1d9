"""TIFFs that Pillow would read wrongly; the page that is taken."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from wordsight.errors import ImageError
from wordsight.images import open_image

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")


def written(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    byteorder = options.pop("byteorder", "<")
    with tifffile.TiffWriter(file, byteorder=byteorder) as tiff:
        tiff.write(pixels, **options)
    return file.getvalue()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bands", [3, 4])
def test_16_bits_a_channel(byteorder: str, tile: object, planar: str, bands: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 56, bands)).astype(np.uint16) * 257
    if bands == 4:
        values[..., 3] = 65535
    pixels = np.moveaxis(values, -1, 0) if planar == "separate" else values
    data = written(
        pixels, byteorder=byteorder, tile=tile, photometric="rgb", planarconfig=planar,
        extrasamples=["unassalpha"] if bands == 4 else None,
    )  # fmt: skip
    assert np.abs(np.asarray(open_image(data), int) - values[..., :3] // 257).max() <= 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_of_any_width(byteorder: str, dtype: str, photometric: str) -> None:
    unit = np.linspace(0, 1, 40 * 56).reshape(40, 56)
    most = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    data = written((unit * most).astype(dtype), byteorder=byteorder, photometric=photometric)
    expected = 255 * (1 - unit if photometric == "miniswhite" else unit)
    assert np.abs(np.asarray(open_image(data), int)[..., 0] - expected).max() <= 1.1


@pytest.mark.parametrize("marked", [True, False])
def test_the_full_page_is_taken_and_not_its_thumbnail(marked: bool) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        small = np.zeros((24, 32, 3), np.uint8)
        tiff.write(small, photometric="rgb", subfiletype=int(marked))
        tiff.write(np.full((96, 128, 3), 200, np.uint8), photometric="rgb")
    assert open_image(file.getvalue()).size == (128, 96)


def test_without_the_extra_the_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(np.zeros((9, 9, 3), np.float32), photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"not supported: TIFF of 32-bit floats; pip install"):
        open_image(data)
