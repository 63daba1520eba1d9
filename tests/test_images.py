"""Opening images, conversion to RGB, crops: through the public functions, on files made here."""

from __future__ import annotations

import io
import math
import os
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wordsight.errors import ImageError
from wordsight.images import IMAGE_SUFFIXES, crop, open_image, to_rgb

LOSSLESS = ["PNG", "BMP", "TIFF"]
ALL = [*LOSSLESS, "JPEG", "WEBP", "GIF", "AVIF"]


def picture(width: int = 64, height: int = 48) -> PIL.Image.Image:
    """A smooth picture without symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    blue = 127 + 127 * np.sin(x / 9.0) * np.cos(y / 7.0)
    return PIL.Image.fromarray(np.stack([red, green, blue], 2).astype(np.uint8))


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def on_white(image: PIL.Image.Image) -> np.ndarray:
    clear = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return pixels(PIL.Image.alpha_composite(white, clear).convert("RGB"))


def reason(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Formats


@pytest.mark.parametrize("kind", ALL)
def test_every_format_opens_as_pillow_would(tmp_path: Path, kind: str) -> None:
    data = encoded(picture(), kind)
    file = tmp_path / "picture"  # no suffix: the content decides
    file.write_bytes(data)
    expected = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    for source in (data, file, str(file)):
        image = open_image(source)
        assert type(image) is PIL.Image.Image
        assert image.mode == "RGB"
        assert image.info.keys() == {"full_size", "metadata"}
        assert image.info["full_size"] == image.size
        assert np.array_equal(pixels(image), pixels(expected))
    if kind in LOSSLESS:
        assert np.array_equal(pixels(open_image(data)), pixels(picture()))


def test_heic() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(file, quality=95)
    image = open_image(file.getvalue())
    assert image.size == (64, 48)
    assert abs(pixels(image) - pixels(picture())).mean() < 4
    assert "HEIF" not in PIL.Image.OPEN  # the embedding program's Pillow stays as it was
    assert "corrupt HEIC" in reason(file.getvalue()[:200])


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    header = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(100)
    assert reason(header, name="a.heic").startswith("a.heic: HEIC images need the package")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO", "TIFF"])
def test_several_frames_give_the_first_one(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (20, 10), color) for color in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert open_image(data).getpixel((5, 5)) in {(255, 0, 0), (254, 0, 0)}


def test_suffix_does_not_decide(tmp_path: Path) -> None:
    file = tmp_path / "really_a_png.jpg"
    file.write_bytes(encoded(picture(), "PNG"))
    assert open_image(file).size == (64, 48)
    assert {".jpg", ".jpeg", ".png", ".webp", ".heic", ".avif"} <= IMAGE_SUFFIXES


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = picture(64, 48)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # to be turned clockwise when shown
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](np.asarray(upright))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}
    image = PIL.Image.fromarray(np.ascontiguousarray(stored))
    data = encoded(image, kind, exif=exif.tobytes(), **options.get(kind, {}))
    opened = open_image(data)
    assert opened.size == upright.size
    assert abs(pixels(opened) - pixels(upright)).mean() < 4


def test_orientation_after_reduced_decode() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(800, 400), "JPEG", exif=exif.tobytes(), quality=95)
    small = open_image(data, min_side=100)
    assert small.size == (100, 200)
    full = open_image(data).resize(small.size, PIL.Image.Resampling.BOX)
    assert abs(pixels(small) - pixels(full)).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x01\x02")
    assert open_image(data).size == (64, 48)


# Reduced scale


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    min_side=st.integers(1, 600),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
)
def test_reduced_scale_keeps_the_short_side(
    width: int, height: int, min_side: int, mode: str
) -> None:
    data = encoded(picture(width, height).convert(mode), "JPEG")
    image = open_image(data, min_side=min_side)
    short = min(width, height)
    assert min(image.size) >= min(min_side, short)
    assert max(image.size) <= max(width, height)
    assert min(image.size) < max(2 * min_side, 2)
    assert image.info["full_size"] == (width, height)


def test_reduced_scale_shows_the_same() -> None:
    data = encoded(picture(1024, 768), "JPEG", quality=95)
    small = open_image(data, min_side=96)
    assert small.size == (128, 96)
    full = open_image(data).resize(small.size, PIL.Image.Resampling.BOX)
    assert abs(pixels(small) - pixels(full)).mean() < 2


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    min_side=st.integers(1, 200),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    strip=st.sampled_from([1, 1000, 20_000, 1 << 20]),
    orientation=st.integers(1, 8),
)
def test_reduced_images_are_averages_of_the_whole_one(
    width: int, height: int, min_side: int, mode: str, strip: int, orientation: int
) -> None:
    image = picture(width, height)
    if mode == "I;16":
        image = PIL.Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif)
    with mock.patch("wordsight.images.colour.STRIP_PIXELS", strip):
        small = open_image(data, min_side=min_side)
        whole = open_image(data)
    factor = max(1, min(width, height) // min_side)
    assert whole.size == small.info["full_size"] == whole.info["full_size"]
    assert small.size == tuple(-(-side // factor) for side in whole.size)
    stored = to_rgb(PIL.Image.open(io.BytesIO(data)))  # on white
    averages = stored.resize((-(-width // factor), -(-height // factor)), PIL.Image.Resampling.BOX)
    for opened, expected in ((whole, stored), (small, averages)):
        expected.getexif()[0x0112] = orientation
        difference = pixels(opened) - pixels(PIL.ImageOps.exif_transpose(expected))
        assert abs(difference).max() <= (0 if opened is whole else 1)  # rounded once or twice


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP"])
def test_every_format_is_reduced(kind: str) -> None:
    data = encoded(picture(400, 300), kind)
    image = open_image(data, min_side=30)
    assert image.size == (40, 30)
    averages = open_image(data).resize((40, 30), PIL.Image.Resampling.BOX)
    assert np.array_equal(pixels(image), pixels(averages))


@pytest.mark.parametrize("kind", [*ALL, "JPEG-progressive"])
def test_what_decoding_takes_is_told_before(kind: str) -> None:
    form, _, progressive = kind.partition("-")
    data = encoded(picture(640, 480), form, **({"progressive": True} if progressive else {}))
    told: list[int] = []
    open_image(data, reserve=told.append)
    assert len(told) == 1
    assert told[0] >= 640 * 480 * (1 if form == "GIF" else 4)
    if form == "JPEG":
        # Of a progressive one all coefficients are held, even for a small picture.
        open_image(data, min_side=60, reserve=told.append)
        assert told[1] >= 640 * 480 * 3 if progressive else told[1] < 640 * 480


# Modes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_modes_equal_pillow(mode: str) -> None:
    image = picture().convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_image(encoded(image, "PNG"))
    assert abs(pixels(opened) - on_white(image)).max() <= 1


def test_palette_with_transparency_equals_pillow_without_its_warning() -> None:
    image = picture().quantize(16)
    data = encoded(image, "PNG", transparency=bytes(range(0, 256, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_image(data)
    assert abs(pixels(opened) - on_white(PIL.Image.open(io.BytesIO(data)))).max() <= 1
    gif = encoded(image, "GIF", transparency=3)
    expected = on_white(PIL.Image.open(io.BytesIO(gif)))
    assert np.array_equal(pixels(open_image(gif)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    grey = np.linspace(0, 65535, 64 * 48).round().astype(np.uint16).reshape(48, 64)
    opened = pixels(open_image(encoded(PIL.Image.fromarray(grey), kind)))
    assert np.array_equal(opened[..., 0], np.rint(grey / 257))
    assert np.array_equal(opened[..., 0], opened[..., 2])


def test_16_bit_rgb_png_is_scaled() -> None:
    rgb = np.linspace(0, 65535, 48 * 64 * 3).round().astype(np.uint16).reshape(48, 64, 3)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    opened = pixels(open_image(b"\x89PNG\r\n\x1a\n" + header + body))
    assert abs(opened - rgb / 257).max() <= 1


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.linspace(0, 1, 12, dtype=np.float32), 1),
        (np.linspace(-1, 200, 12, dtype=np.float32), 255),
        (np.linspace(0, 60000, 12, dtype=np.float32), 65535),
        (np.linspace(0, 1e6, 12, dtype=np.float32), 1e6),
        (np.linspace(0, 90, 12, dtype=np.int32), 255),
        (np.linspace(0, 60000, 12, dtype=np.int32), 65535),
        (np.linspace(0, 2e9, 12, dtype=np.int32), 2e9),
    ],
)
def test_wide_grey_tiff_is_scaled(values: np.ndarray, white: float) -> None:
    image = PIL.Image.fromarray(values.reshape(3, 4))
    opened = pixels(open_image(encoded(image, "TIFF")))[..., 0]
    expected = np.rint(values.astype(float).reshape(3, 4).clip(0) / white * 255)
    assert abs(opened - expected).max() <= 1


def test_float_tiff_with_undefined_pixels() -> None:
    values = np.array([[0.0, np.nan], [np.inf, 1.0]], np.float32)
    opened = pixels(open_image(encoded(PIL.Image.fromarray(values), "TIFF")))[..., 0]
    assert opened.tolist() == [[0, 0], [0, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_equals_pillow(kind: str) -> None:
    # Pillow writes CMYK JPEGs with the Adobe marker, that is with inverted values.
    data = encoded(picture().convert("CMYK"), kind)
    assert (b"Adobe" in data) == (kind == "JPEG")
    opened = pixels(open_image(data))
    assert np.array_equal(opened, pixels(PIL.Image.open(io.BytesIO(data)).convert("RGB")))
    assert abs(opened - pixels(picture())).mean() < 6


# What cannot be used


def test_reasons_for_files(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.jpg") == f"{tmp_path / 'gone.jpg'}: no such file"
    assert reason(tmp_path).endswith(": not a regular file")
    assert reason("a\0b.jpg").startswith("a\0b.jpg: cannot be read")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert reason(tmp_path / "pipe.jpg").endswith(": not a regular file")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert reason(empty) == f"{empty}: the file is empty"
    assert reason(b"") == "image data: the file is empty"
    assert reason(b"", name="x.tar::a.jpg") == "x.tar::a.jpg: the file is empty"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_reason_for_missing_permission() -> None:
    folder = Path(tempfile.mkdtemp())  # not tmp_path: only root could look into that one
    file = folder / "secret.png"
    file.write_bytes(encoded(picture(), "PNG"))
    was_root = os.geteuid() == 0
    try:
        folder.chmod(0o755)
        file.chmod(0)
        if was_root:
            os.seteuid(65534)
        assert reason(file) == f"{file}: no permission to read it"
    finally:
        if was_root:
            os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG or XML"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "SVG or XML"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"just some words\nin two lines", "text, not an image"),
        (b"%PDF-1.7\n\xe2\xe3\xcf\xd3", "a PDF document, not an image"),
        (b"PK\3\4\x14\0IMG_1.HEIC", "a ZIP archive"),
        (bytes(100), "it begins with nothing but zeros"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(50), "a video or sound"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "macOS metadata"),
        (b"\x93NUMPY\1\0v\0", "not an image in a known format"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "disguised.jpg"
    file.write_bytes(data)
    assert reason(file).startswith(f"{file}: {why}")


def test_formats_that_start_programs_are_not_opened() -> None:
    assert "not an image" in reason(encoded(picture(), "EPS"))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_images_are_refused(kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    data = encoded(PIL.Image.fromarray(noise), kind)
    assert reason(data[: int(len(data) * part)], name="a").startswith(
        (f"a: truncated {kind}", "a: corrupt", "a: not an image")
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("min_side", [None, 10])
def test_truncated_jpegs_are_refused_at_any_scale(progressive: bool, min_side: int | None) -> None:
    data = encoded(picture(640, 480), "JPEG", progressive=progressive, quality=95)
    for part in (0.2, 0.5, 0.8, 0.97):
        message = reason(data[: int(len(data) * part)], min_side=min_side)
        assert message == "image data: truncated JPEG: the end of the file is missing"


@given(st.sampled_from(ALL), st.data())
def test_damaged_images_open_or_raise_image_errors(kind: str, data: st.DataObject) -> None:
    broken = bytearray(encoded(picture(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about odd metadata
        try:
            # A flipped bit in a header may ask for much: the limit keeps the test small.
            outcome = open_image(bytes(broken), max_pixels=1_000_000).mode
        except ImageError as error:
            outcome = str(error)
    assert outcome == "RGB" or outcome.startswith("image data: ")


# Limits


def test_pixel_limit_comes_before_decoding() -> None:
    # A PNG header that announces 50,000 x 50,000 pixels, with no data behind it.
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header + crc + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    message = reason(bomb, name="bomb.png")
    assert message.startswith("bomb.png: too large: 50000 x 50000 pixels are above the limit")


@pytest.mark.parametrize("kind", ALL)
def test_pixel_limit_holds_for_every_format(kind: str) -> None:
    data = encoded(picture(100, 100), kind)
    assert "too large: 100 x 100 pixels" in reason(data, max_pixels=9_999)
    # One limit of memory: some decoders hold an image several times.
    times = {"WEBP": 4, "AVIF": 2.5}.get(kind, 1)
    assert open_image(data, max_pixels=int(10_000 * times)).size == (100, 100)
    assert "too large" in reason(data, max_pixels=int(10_000 * times) - 1)


def test_large_jpeg_passes_where_its_reduced_scale_is_below_the_limit() -> None:
    data = encoded(picture(800, 800), "JPEG")
    assert open_image(data, min_side=100, max_pixels=10_000).size == (100, 100)
    assert "too large" in reason(data, min_side=101, max_pixels=10_000)
    assert "too large" in reason(data, max_pixels=10_000)
    # A progressive one needs the memory of all its pixels at any scale.
    progressive = encoded(picture(800, 800), "JPEG", progressive=True)
    assert "too large" in reason(progressive, min_side=100, max_pixels=10_000)


@pytest.mark.parametrize(("subsampling", "times"), [("4:2:0", 1.0), ("4:4:4", 1.5625)])
def test_limit_of_a_progressive_jpeg_counts_its_coefficients(
    subsampling: str, times: float
) -> None:
    # Three bytes a pixel, six without halved colour, whatever the scale.
    data = encoded(picture(795, 795), "JPEG", progressive=True, subsampling=subsampling)
    enough = math.ceil(795 * 795 * times)
    assert open_image(data, min_side=99, max_pixels=enough).size == (100, 100)
    assert "too large: 795 x 795 pixels" in reason(data, min_side=99, max_pixels=600_000)
    assert ("progressive" in reason(data, min_side=99, max_pixels=600_000)) == (times > 1)


@pytest.mark.parametrize("kind", sorted(set(ALL) - {"WEBP"}))  # its decoder asks for itself
def test_limit_of_the_embedding_program_is_neither_used_nor_changed(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = encoded(picture(), kind)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(data).size == (64, 48)
    assert PIL.Image.MAX_IMAGE_PIXELS == 100


def test_many_threads() -> None:
    pictures = {
        (kind, side): encoded(picture(side, side), kind) for kind in ALL for side in (9, 99)
    }

    def opens(key: tuple[str, int]) -> bool:
        return open_image(pictures[key], min_side=8).size[0] in (9, 13)  # of 99: 1/12, or 1/8

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(opens, list(pictures) * 20))


# to_rgb


def test_to_rgb_returns_rgb_as_it_is() -> None:
    image = picture()
    assert to_rgb(image) is image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "CMYK", "YCbCr"])
def test_to_rgb_equals_pillow(mode: str) -> None:
    base = picture().convert("LA" if mode == "La" else "RGBA" if mode == "RGBa" else "RGB")
    image = base.convert("P").convert("PA") if mode == "PA" else base.convert(mode)
    expected = on_white(image.convert("LA") if mode == "La" else image)
    assert abs(pixels(to_rgb(image)) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_to_rgb_scales_16_bit(mode: str) -> None:
    image = PIL.Image.new(mode, (2, 1))
    image.putpixel((0, 0), 65535)
    image.putpixel((1, 0), 32768)
    assert pixels(to_rgb(image))[0].tolist() == [[255] * 3, [128] * 3]


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)]),
        st.one_of(
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
            st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4])),
        ),
    )
)
def test_to_rgb_of_integer_arrays(array: np.ndarray) -> None:
    opened = pixels(to_rgb(array))
    scale = {1: 255, 255: 1, 65535: 1 / 257}[
        True if array.dtype == bool else np.iinfo(array.dtype).max
    ]
    planes = array if array.ndim == 3 else array[:, :, None]
    for y, x in np.ndindex(array.shape[:2]):
        colors = planes[y, x, :3] if planes.shape[2] > 1 else np.repeat(planes[y, x], 3)
        assert opened[y, x].tolist() == [int(float(c) * scale + 0.5) for c in colors]


@given(hnp.arrays(np.float32, (3, 4, 3), elements=st.floats(0, 1, width=32)))
def test_to_rgb_of_float_arrays(array: np.ndarray) -> None:
    expected = np.rint(array.astype(float) * 255)
    assert np.array_equal(pixels(to_rgb(array)), expected)
    assert np.array_equal(pixels(to_rgb(array[::-1, ::2])), expected[::-1, ::2])


def test_to_rgb_clips_small_overshoot_of_floats() -> None:
    assert pixels(to_rgb(np.array([[-0.1, 1.1]])))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((5, 5, 2), np.uint8), "shape"),
        (np.zeros((3, 5, 5), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (np.zeros((1, 5, 5, 3), np.uint8), "shape"),
        (np.full((5, 5, 3), 200.0), "between 0 and 1"),
        (np.full((5, 5), np.nan), "between 0 and 1"),
        (np.zeros((5, 5, 3), np.int64), "int64"),
    ],
)
def test_to_rgb_refuses_other_arrays(array: np.ndarray, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        to_rgb(array)


# crop


def test_crop_takes_the_pixels_in_the_box() -> None:
    image = picture()
    assert np.array_equal(pixels(crop(image, (3, 4, 10, 20))), pixels(image)[4:20, 3:10])
    assert np.array_equal(pixels(crop(image, (3.7, 4.2, 9.1, 19.5))), pixels(image)[4:20, 3:10])
    whole = crop(image, (-5, -5, 1000, 1000))
    assert np.array_equal(pixels(whole), pixels(image))
    assert whole is not image


_edges = st.floats(-100, 200)


@given(_edges, _edges, _edges, _edges)
def test_crop_stays_inside_and_is_never_empty(x0: float, y0: float, x1: float, y1: float) -> None:
    image = picture()
    try:
        part = crop(image, (x0, y0, x1, y1))
    except ImageError:
        assert x1 < x0 or y1 < y0 or x0 >= 64 or y0 >= 48 or x1 <= 0 or y1 <= 0
    else:
        assert 1 <= part.width <= min(64, x1 - x0 + 2)
        assert 1 <= part.height <= min(48, y1 - y0 + 2)


@pytest.mark.parametrize(
    "box", [(70, 0, 80, 10), (5, 5, 1, 9), (-9, -9, -1, -1), (float("nan"), 0, 5, 5)]
)
def test_crop_outside_is_an_error(box: tuple[float, ...]) -> None:
    with pytest.raises(ImageError, match="lies outside the image of 64 x 48 pixels"):
        crop(picture(), box)
