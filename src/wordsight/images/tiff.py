"""TIFF: the page that is the picture, and what Pillow cannot read, or would read wrongly."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

from wordsight.errors import ImageError
from wordsight.images.reasons import UnsupportedError

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Tags of TIFF 6.0 and DNG.
_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_PLANAR, _SUB_IFDS, _SAMPLE_FORMAT, _DNG_VERSION = 284, 330, 339, 50706
_CFA, _LINEAR_RAW = 32803, 34892
_COMPRESSIONS = {
    6: "old-style JPEG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL", 22610: "JPEG XR",
}  # fmt: skip
_FORMATS = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex", 6: "complex"}


def open_tiff(file: IO[bytes]) -> Any:
    """A TIFF as an image of Pillow that is not yet loaded; cameras' RAW files too.

    Of several pages the first that is not marked as a reduced copy. Raises UnsupportedError for what
    is neither Pillow's nor, where it is installed, tifffile's to read.
    """
    pages = list(_pages(file))
    header = file.seek(0) or file.read(16)
    file.seek(0)
    number = next((i for i, page in enumerate(pages) if not _is_reduced(page)), 0)
    page = pages[number]
    if number == 0 and len(pages) > 1 and _is_small_copy(page, pages[1]):
        number, page = 1, pages[1]
    inner = list(_sub_pages(file, header, pages[0]))
    if header[8:10] == b"CR" or any(_is_raw(each) for each in (pages[0], *inner)):
        from wordsight.images.raw import open_raw

        return open_raw(file)
    file.seek(0)
    if _is_reduced(page) and any(not _is_reduced(each) for each in inner):
        return _by_tifffile(file, None)
    if not _pillow_is_right(page):
        return _by_tifffile(file, number)
    try:
        return _tiff(number)(file)
    except (KeyError, SyntaxError) as error:
        # Pillow knows no such compression or pixels; a file that is damaged is no such thing.
        if not _is_known(page):
            raise
        file.seek(0)
        try:
            return _by_tifffile(file, number)
        except UnsupportedError:
            raise
        except Exception:
            raise error from None


def _pages(file: IO[bytes]) -> Iterator[ImageFileDirectory_v2]:
    """The directories of the pages; of very many, the first."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    header = file.read(8)
    header += file.read(8) if header[2:3] == b"+" or header[3:4] == b"+" else b""
    after = ImageFileDirectory_v2(header).next
    seen: set[int] = set()
    while after and after not in seen and len(seen) < 2 + 6:  # a pyramid of copies has few levels
        seen.add(after)
        page = ImageFileDirectory_v2(header)
        file.seek(after)
        page.load(file)
        yield page
        after = page.next
        if len(seen) > 1 and not _is_reduced(page):
            return


def _sub_pages(
    file: IO[bytes], header: bytes, page: ImageFileDirectory_v2
) -> Iterator[ImageFileDirectory_v2]:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    offsets = page.get(_SUB_IFDS) or ()
    for offset in (offsets if isinstance(offsets, tuple) else (offsets,))[:8]:
        inner = ImageFileDirectory_v2(header if header[2:3] == b"+" else header[:8])
        file.seek(int(offset))
        inner.load(file)
        yield inner


def _is_reduced(page: ImageFileDirectory_v2) -> bool:
    return bool(int(page.get(_REDUCED, 0)) & 1)


def _is_small_copy(page: ImageFileDirectory_v2, other: ImageFileDirectory_v2) -> bool:
    """Whether the other page is this one at more than twice its size, though nothing says so."""
    width, height = int(page.get(_WIDTH, 0)), int(page.get(_HEIGHT, 0))
    across, down = int(other.get(_WIDTH, 0)), int(other.get(_HEIGHT, 0))
    if min(width, height) < 1 or across < 2 * width or _is_reduced(other):
        return False
    # The smaller one's sides were rounded to whole pixels.
    return abs(down * width / across - height) <= 1


def _is_raw(page: ImageFileDirectory_v2) -> bool:
    return _DNG_VERSION in page or page.get(_PHOTOMETRIC) in (_CFA, _LINEAR_RAW)


def _pixels_of(page: ImageFileDirectory_v2) -> tuple[int, int, int]:
    """Bits, sample format and colour interpretation of a page."""
    bits, form = page.get(_BITS, 1), page.get(_SAMPLE_FORMAT, 1)
    return (
        max(bits) if isinstance(bits, tuple) else int(bits),
        max(form) if isinstance(form, tuple) else int(form),
        int(page.get(_PHOTOMETRIC, 0)),
    )


def _pillow_is_right(page: ImageFileDirectory_v2) -> bool:
    """Pillow 13 reads some pixels of more than 8 bits as others, without an error."""
    bits, form, photometric = _pixels_of(page)
    if bits <= 8:
        return True
    compressed = int(page.get(_COMPRESSION, 1)) != 1
    planar = int(page.get(_PLANAR, 1)) == 2 and not compressed
    upper_half = bits == 32 and form == 1
    return photometric != 0 and not planar and not upper_half


def _is_known(page: ImageFileDirectory_v2) -> bool:
    """Whether this is what a TIFF may hold, so that an error is Pillow's limit and no damage."""
    bits, form, photometric = _pixels_of(page)
    return (
        _WIDTH in page
        and _HEIGHT in page
        and photometric in (0, 1, 2, 3, 4, 5, 6, 8)
        and bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32, 64)
        and form in (*_FORMATS, 4)
    )


def _described(page: ImageFileDirectory_v2) -> str:
    bits, form, _ = _pixels_of(page)
    compression = int(page.get(_COMPRESSION, 1))
    if compression in _COMPRESSIONS:
        return f"{_COMPRESSIONS[compression]} in TIFF"
    kind = _FORMATS.get(form, "values")
    planes = " in separate planes" if page.get(_PLANAR, 1) == 2 else ""
    return f"TIFF of {bits}-bit {kind}{planes}"


@lru_cache(maxsize=8)
def _tiff(number: int) -> type:
    """Pillow's class, opening this page, and without the process-wide limit that it asks for."""
    from PIL import Image, ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    class Tiff(TiffImageFile):
        def _seek(self, frame: int) -> None:
            super()._seek(max(frame, number))

        def load_prepare(self) -> None:
            if getattr(self, "_im", None) is None:
                size = getattr(self, "_tile_size", self.size)
                self.im = Image.core.new(self.mode, size)  # type: ignore[attr-defined]
            ImageFile.ImageFile.load_prepare(self)

    return Tiff


def _by_tifffile(file: IO[bytes], number: int | None) -> Any:
    """A page by tifffile: that of a number, or (None) the first full one inside the first page."""
    header = file.read(16)
    file.seek(0)
    try:
        import imagecodecs  # noqa: F401
        from tifffile import TiffFile
    except ImportError:
        page = list(_pages(file))[number or 0]
        if number is None:
            page = next(p for p in _sub_pages(file, header, page) if not _is_reduced(p))
        raise UnsupportedError(
            f"{_described(page)}; pip install 'wordsight[tiff]' reads it"
        ) from None
    tiff = TiffFile(io.BytesIO(file.read()))
    if number is None:
        chosen: Any = next(p for p in tiff.pages[0].pages if not p.is_reduced)  # type: ignore[union-attr]
    else:
        chosen = tiff.pages[number]
    return _Pages(chosen)


class _Pages:
    """A page of tifffile with what is asked of an image of Pillow."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.size: tuple[int, int] = (page.imagewidth, page.imagelength)
        self.mode = "RGB"
        self.bytes_each: float = 4 + 3 * page.bitspersample / 8 * page.samplesperpixel
        self.info: dict[str, Any] = {}
        if 34675 in page.tags:
            self.info["icc_profile"] = bytes(page.tags[34675].value)

    def getexif(self) -> dict[int, Any]:
        return {t.code: t.value for t in self._page.tags if t.code in (0x0112, 0x0131)}

    def loaded(self) -> Any:
        """The page as an image of Pillow, in 8 bits."""
        import numpy as np
        from PIL import Image

        page = self._page
        try:
            pixels: Any = page.asarray()
        except (ValueError, NotImplementedError) as error:
            if "not supported" in str(error) or isinstance(error, NotImplementedError):
                raise UnsupportedError(f"{page.compression.name} in TIFF ({error})") from None
            raise
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        photometric = int(page.photometric)
        if pixels.ndim != 3 or pixels.dtype.kind not in "uif" or photometric not in (0, 1, 2, 5, 6):
            raise UnsupportedError(f"TIFF of {pixels.dtype} values, {page.photometric.name}")
        colours = {2: 3, 5: 4, 6: 3}.get(photometric, 1)
        values = _to_8(pixels[..., : colours + 1], page, colours)
        if photometric == 0:
            values[..., 0] = 255 - values[..., 0]
        has_alpha = values.shape[2] > colours and tuple(page.extrasamples)[:1] in ((1,), (2,))
        if colours == 4 or not has_alpha:
            values = values[..., :colours]
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if colours == 4 else "RGBA"}[values.shape[2]]
        if has_alpha and mode in ("LA", "RGBA") and page.extrasamples[0] == 1:
            mode = mode[:-1] + "a"  # premultiplied
        data = np.ascontiguousarray(values.squeeze(-1) if mode == "L" else values)
        image = Image.frombytes(mode, self.size, data.tobytes())
        image.info = dict(self.info)
        return image


def _to_8(pixels: Any, page: Any, colours: int) -> Any:
    """8-bit values. Integers have the range of their type; floats are scaled as floats of grey."""
    import numpy as np

    from wordsight.images.colour import white_of

    if pixels.dtype == np.uint8 and page.bitspersample == 8:
        return pixels.copy()
    if pixels.dtype.kind == "u":
        most = (1 << page.bitspersample) - 1
    else:
        pixels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        largest = float(pixels[..., :colours].max(initial=0.0))
        most = white_of(largest, integers=page.sampleformat == 2) or 1.0
    return np.rint(np.clip(pixels / np.float32(most), 0, 1) * 255).astype(np.uint8)


def missing(package: str, extra: str, what: str) -> ImageError:
    """The error where an extra would read it."""
    return ImageError(f"{what} need the package {package}: pip install 'wordsight[{extra}]'")
