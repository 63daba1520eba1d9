"""Pixels of any mode as 8-bit RGB: wide grey, transparency, arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wordsight.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

STRIP_PIXELS = 1 << 20  # pixels converted at once: what that takes beside the image stays small


def to_rgb(image: PIL.Image.Image | np.ndarray[Any, Any]) -> PIL.Image.Image:
    """Convert a Pillow image of any mode, or an array, to an 8-bit RGB image in sRGB.

    Transparent pixels lie on white. An ICC profile in ``info`` is applied. 16-bit
    grey is scaled to 8 bits (Pillow would clip it). Grey of 32-bit integers or floats is scaled by
    the first of 1 (floats only), 255, 65535 and its own maximum that no value exceeds.
    EXIF orientation is not applied: that is part of opening a file.

    Arrays have the shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha dropped) and are bool,
    uint8, uint16 or float with values from 0 to 1. Raises ImageError for other arrays.
    """
    import PIL.Image

    if not isinstance(image, PIL.Image.Image):
        return PIL.Image.fromarray(_array_to_rgb8(image))
    image.load()
    if image.mode == "RGB" and not {"icc_profile", "transparency"} & image.info.keys():
        return image
    return reduced_rgb(image, 1)


def reduced_rgb(image: PIL.Image.Image, factor: int) -> PIL.Image.Image:
    """RGB at 1/factor of the size (rounded up); never the same object, but it may share pixels."""
    import PIL.Image

    from wordsight.images.profiles import to_srgb

    width, height = image.size
    if factor == 1 and image.mode == "RGB" and "transparency" not in image.info:
        # Without the file and the EXIF (which still says "rotate").
        return to_srgb(image._new(image.im), image.info)
    white = _white(image)
    across, down = -(-width // factor), -(-height // factor)
    # Averaged across, by strips, and then down: what Pillow's resize does, without a second image
    # of the full size. Every pixel of the result is a mean of equally many, the edges too.
    rows = max(1, STRIP_PIXELS // width)
    narrow: PIL.Image.Image | None = None
    for top in range(0, height, rows):
        strip = _plain(image.crop((0, top, width, min(top + rows, height))), white)
        if narrow is None:
            narrow = PIL.Image.new(strip.mode, (across, height))
        narrow.paste(strip.resize((across, strip.height), PIL.Image.Resampling.BOX), (0, top))
    assert narrow is not None
    return to_srgb(narrow.resize((across, down), PIL.Image.Resampling.BOX), image.info)


def _plain(image: PIL.Image.Image, white: float) -> PIL.Image.Image:
    """8 bits a channel, opaque: RGB, or L, CMYK and LAB, whose own profile comes later."""
    if image.mode.startswith("I;16"):
        pixels = _pixels(image)
        grey = _grey(_uint16_to_8(pixels))
        clear = image.info.get("transparency")
        return grey if clear is None else _on_white(grey, _grey(_unit_to_8(pixels != clear)))
    if image.mode in ("I", "F"):
        return _grey(_unit_to_8(_finite(_pixels(image)) / white))
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        elif image.mode not in ("RGBA", "LA"):
            image = image.convert("RGBA")
        return _on_white(image.convert(image.mode.removesuffix("A")), image.getchannel("A"))
    if image.mode in ("RGB", "L", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: PIL.Image.Image, alpha: PIL.Image.Image) -> PIL.Image.Image:
    import PIL.Image

    white = PIL.Image.new(image.mode, image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _pixels(image: PIL.Image.Image) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.asarray(image)


def _uint16_to_8(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    # 65535 = 255 * 257, so this is the nearest integer of pixels * 255 / 65535.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _white(image: PIL.Image.Image) -> float:
    """What counts as white in grey of 32-bit integers or floats (other modes: nothing)."""
    if image.mode not in ("I", "F"):
        return 0.0
    rows = max(1, STRIP_PIXELS // image.width)
    strips = (
        image.crop((0, top, image.width, min(top + rows, image.height)))
        for top in range(0, image.height, rows)
    )
    largest = max(float(_finite(_pixels(strip)).max()) for strip in strips)
    return white_of(largest, integers=image.mode == "I")


def white_of(largest: float, *, integers: bool) -> float:
    """What counts as white where the largest value is this one, and no format says it."""
    whites = [255.0, 65535.0] if integers else [1.0, 255.0, 65535.0]
    return next((white for white in whites if largest <= white), largest)


def _finite(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    values = pixels.astype(np.float64)
    finite: np.ndarray[Any, Any] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return finite


def _unit_to_8(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    grey: np.ndarray[Any, Any] = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return grey


def _grey(pixels: np.ndarray[Any, Any]) -> PIL.Image.Image:
    import PIL.Image

    return PIL.Image.fromarray(pixels)


def _array_to_rgb8(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ImageError(
            f"an array of shape {list(np.shape(array))} is not an image; "
            "give [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
        )
    pixels = pixels[:, :, :3]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype == np.uint16:
        pixels = _uint16_to_8(pixels)
    elif pixels.dtype.kind == "f":
        # Resampling overshoots a little, which is clipped; more is another scale.
        if not np.isfinite(pixels).all() or pixels.max() > 1.5 or pixels.min() < -0.5:
            raise ImageError(
                "float pixels must be between 0 and 1; divide by 255 or convert to uint8"
            )
        pixels = _unit_to_8(pixels.astype(np.float64))
    elif pixels.dtype != np.uint8:
        raise ImageError(
            f"pixels of type {pixels.dtype} are not supported; give uint8, uint16, bool or float"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
