"""Colours as sRGB: ICC profiles, and the code points of ITU-T H.273 (PQ, HLG, wide primaries)."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image


class Coding(NamedTuple):
    """Code points of ITU-T H.273: ``primaries`` (table 2) and ``transfer`` (table 3)."""

    primaries: int
    transfer: int


def told_coding(kind: str, info: dict[Any, Any], file: IO[bytes]) -> Coding | None:
    """What the container of an image says of its colours where no ICC profile counts more."""
    if kind == "HEIC":
        nclx = info.get("nclx_profile") or {}
        found = nclx.get("color_primaries", 0), nclx.get("transfer_characteristics", 0)
    elif kind in _CODED:
        mark, width = _CODED[kind]
        place = file.tell()
        file.seek(0)
        head = file.read(1 << 16)  # it comes before the pixels
        file.seek(place)
        at = head.find(mark) + len(mark)
        if at < len(mark) or at + 2 * width > len(head):
            return None
        found = (
            int.from_bytes(head[at : at + width], "big"),
            int.from_bytes(head[at + width : at + 2 * width], "big"),
        )
    else:
        return None
    coding = Coding(*found)
    first = kind == "PNG" or coding.transfer in (_PQ, _HLG)
    return coding if first or not info.get("icc_profile") else None


def to_srgb(image: PIL.Image.Image, info: dict[Any, Any]) -> PIL.Image.Image:
    """Convert an opaque image of mode L, RGB, CMYK or LAB to RGB in sRGB.

    By the first that ``info`` holds: ``coding`` (a :class:`Coding`), ``icc_profile``, ``gamma`` (of
    PNG, unless it says ``srgb``). A profile that is broken or of another mode changes nothing.
    """
    import PIL.Image

    coding = info.get("coding")
    if isinstance(coding, Coding) and image.mode == "RGB" and _tables(coding):
        return _decoded(image, coding)
    profile = info.get("icc_profile")
    if image.mode == "LAB":
        transform = _transform(None, "LAB")
    elif isinstance(profile, bytes) and profile:
        transform = _transform(profile, image.mode)
    else:
        transform = None
    if transform:
        return transform.apply(image)
    image = image.convert("RGB")
    gamma = info.get("gamma")
    # 0.45455 is sRGB's as far as one number can say it.
    if gamma and not profile and "srgb" not in info and abs(gamma * 2.2 - 1) > 0.1:
        levels = [_encoded((level / 255) ** (1 / gamma)) for level in range(256)]
        return image.point([round(255 * level) for level in levels] * 3)
    return PIL.Image.Image._new(image, image.im)


@lru_cache(maxsize=16)
def _transform(profile: bytes | None, mode: str) -> Any:
    """What converts images of this mode; None where that would change nothing, or cannot be made.

    Most photographs carry a profile of sRGB itself, from many makers: it is known by what it does.
    """
    from PIL import Image, ImageCms

    try:
        source = (
            ImageCms.createProfile("LAB")
            if profile is None
            else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        )
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB":
            steps = range(0, 256, 15)
            colours = bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
            sample = Image.frombytes("RGB", (len(steps) ** 2, len(steps)), colours)
            converted = transform.apply(sample).tobytes()
            if max(abs(a - b) for a, b in zip(colours, converted, strict=True)) <= 2:
                return None
        return transform
    except Exception:  # a broken profile is no reason to refuse the picture
        return None


_CODED = {"PNG": (b"\0\0\0\x04cICP", 1), "AVIF": (b"colrnclx", 2)}
"""What stands before the code points, and how many bytes each of them has."""

_D65 = (0.3127, 0.329)
_PRIMARIES = {
    1: ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06)),  # BT.709 and sRGB
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),  # Display P3
}
_LINEAR, _PQ, _HLG = 8, 16, 18
_WHITE_NITS = 203.0  # ITU-R BT.2408: reference white
_HLG_NITS = 1000.0


def _tables(coding: Coding) -> bool:
    """Whether these colours are known, and not sRGB's."""
    wide = coding.transfer in (_LINEAR, _PQ, _HLG)
    return coding.primaries in _PRIMARIES and (wide or coding.primaries != 1)


def _decoded(image: PIL.Image.Image, coding: Coding) -> PIL.Image.Image:
    """Linear light, sRGB's primaries, 203 nits as white (brighter is clipped), sRGB's curve."""
    import numpy as np
    import PIL.Image

    from wordsight.images.colour import STRIP_PIXELS

    level = np.arange(256) / 255
    curve = {_LINEAR: lambda v: v, _PQ: _pq_light, _HLG: _hlg_light}.get(
        coding.transfer, _srgb_light
    )
    light = curve(level).astype(np.float32)
    steps = 1 << 14
    encoded = np.rint(255 * _encoded(np.arange(steps + 1) / steps)).astype(np.uint8)
    matrix = np.linalg.solve(_to_xyz(1), _to_xyz(coding.primaries)).astype(np.float32)
    rows = max(1, STRIP_PIXELS // image.width)
    result = PIL.Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        linear = light[np.asarray(image.crop(box))]
        if coding.transfer == _HLG:  # BT.2100: the system's gamma goes by luminance
            luminance = linear @ _to_xyz(coding.primaries)[1].astype(np.float32)
            linear *= luminance[..., None] ** 0.2 * (_HLG_NITS / _WHITE_NITS)
        index = np.rint(np.clip(linear @ matrix.T, 0, 1) * steps).astype(np.int32)
        result.paste(PIL.Image.fromarray(encoded[index]), (0, top))
    return result


def _to_xyz(primaries: int) -> np.ndarray[Any, Any]:
    """The matrix [3, 3] from linear RGB to XYZ (SMPTE RP 177)."""
    import numpy as np

    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    x, y = _D65
    matrix: np.ndarray[Any, Any] = columns * np.linalg.solve(
        columns, np.array([x / y, 1, (1 - x - y) / y])
    )
    return matrix


def _pq_light(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """SMPTE ST 2084, in units of the reference white."""
    import numpy as np

    root = value ** (1 / 78.84375)
    low = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    light: np.ndarray[Any, Any] = low ** (1 / 0.1593017578125) * (10_000 / _WHITE_NITS)
    return light


def _hlg_light(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """ITU-R BT.2100: the light of the scene, from 0 to 1."""
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: np.ndarray[Any, Any] = np.where(
        value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12
    )
    return light


def _srgb_light(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    light: np.ndarray[Any, Any] = np.where(
        value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4
    )
    return light


def _encoded(light: Any) -> Any:
    """Linear light from 0 to 1, one number or an array, on sRGB's curve (IEC 61966-2-1)."""
    import numpy as np

    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
