"""From a picture to the input of an image tower, as the model's files describe it.

The steps are those of open_clip's ``transform.py`` (evaluation). The image processors of
transformers take the same steps under other names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

# Images are resized so that the short side fits and then cropped at the centre. Beyond this ratio
# of sides the ends are cut off first: a 1 x 20,000 strip would otherwise become gigabytes.
MAX_ASPECT = 16

_MOST_PIXELS = 4096  # a side: no model has as many

# As Pillow numbers its filters, and preprocessor_config.json with it.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic")


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How pictures become the input of an image tower.

    Raises ValueError for what makes no sense.
    """

    size: tuple[int, int]
    """Height and width of the input, in pixels."""
    mean: tuple[float, ...]
    """Of each colour, on a scale of 0 to 1: (pixel / 255 - mean) / std."""
    std: tuple[float, ...]
    mode: str = "shortest"
    """"shortest": the short side fits, the rest is cut off; "longest": the long side fits, the rest
    is filled; "squash": both sides fit."""
    interpolation: str = "bicubic"
    fill: int = 0
    short_side: int | None = None
    """With "shortest": what the short side is resized to, where that is not the input's."""

    def __post_init__(self) -> None:
        if not 1 <= min(self.size) <= max(self.size) <= _MOST_PIXELS:
            raise ValueError(f"size {self.size}")
        if self.short_side is not None and not 1 <= self.short_side <= _MOST_PIXELS:
            raise ValueError(f"size {self.short_side}")
        if self.mode not in ("shortest", "longest", "squash"):
            raise ValueError(f"resize_mode {self.mode!r}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation {self.interpolation!r}")
        import numpy as np

        if not (min(self.std) > 0 and np.isfinite([self.mean, self.std]).all()):
            raise ValueError(f"mean {self.mean}, std {self.std}")

    def __str__(self) -> str:
        short = "" if self.short_side is None else f" of {self.short_side}"
        return (
            f"{self.mode}{short} {self.size[1]}x{self.size[0]} {self.interpolation} "
            f"mean {_numbers(self.mean)} std {_numbers(self.std)}"
        )

    def __call__(
        self, image: Image | npt.NDArray[Any], full_size: tuple[int, int] | None = None
    ) -> Pixels:
        """Resize and cut one image: uint8 [H, W, 3] (:meth:`ClipModel.preprocess`)."""
        import numpy as np

        from wordsight.images import to_rgb

        return np.asarray(self._fit(to_rgb(image), full_size))

    def normalise(self, pixels: Pixels | Sequence[Pixels]) -> Floats:
        """What the graph is given: uint8 [N, H, W, 3] -> float32 [N, 3, H, W]."""
        import numpy as np

        # (x / 255 - mean) / std as one multiplication and one addition
        std, mean = np.asarray(self.std, np.float64), np.asarray(self.mean, np.float64)
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        planes = np.empty((len(pixels), 3, *self.size), np.float32)
        # Image by image: one stays in the processor's cache.
        for image, into in zip(pixels, planes, strict=True):
            into[...] = image.transpose(2, 0, 1)
            for colour in range(3):
                into[colour] *= scale[colour]
                into[colour] += shift[colour]
        return planes

    def _fit(self, image: Image, full_size: tuple[int, int] | None) -> Image:
        from PIL.Image import Resampling

        height, width = self.size
        resampling = Resampling[self.interpolation.upper()]
        if self.mode == "squash":
            return image.resize((width, height), resampling)
        if self.mode == "shortest":
            whole = image.size
            image = _without_far_ends(image)
            # A side that is rounded up in the reduced image can move the result by a pixel.
            full = full_size if full_size and image.size == whole else image.size
            if height == width or self.short_side:
                # torchvision's Resize(int): the long side is truncated
                short = self.short_side or height
                w, h = (int(short * side / min(full)) for side in full)
            else:
                ratio = min(full[1] / height, full[0] / width)
                w, h = round(full[0] / ratio), round(full[1] / ratio)
        else:
            full = full_size or image.size
            ratio = max(full[1] / height, full[0] / width)
            w, h = max(1, round(full[0] / ratio)), max(1, round(full[1] / ratio))
        return _centre(image.resize((w, h), resampling), width, height, self.fill)


def from_open_clip(config: dict[str, Any]) -> Preprocess:
    """Read open_clip's ``preprocess_cfg.json``.

    Raises KeyError, TypeError or ValueError for what makes no sense.
    """
    interpolation = str(config.get("interpolation") or "bicubic")
    return Preprocess(
        _sides(config["size"]),
        _colours(config["mean"]),
        _colours(config["std"]),
        mode=str(config.get("resize_mode") or "shortest"),
        # open_clip: random in training, bicubic afterwards
        interpolation="bicubic" if interpolation == "random" else interpolation,
        fill=int(config.get("fill_color") or 0),
    )


def from_transformers(config: dict[str, Any]) -> Preprocess:
    """Read ``preprocessor_config.json`` of CLIPImageProcessor, SiglipImageProcessor and their like.

    Raises KeyError, TypeError or ValueError for what makes no sense or takes other steps.
    """
    size, crop = config["size"], None
    if config.get("do_center_crop", "crop_size" in config):
        crop = _sides(config["crop_size"])
    # Files of old versions give one number: of the short side where a crop follows.
    short = size if isinstance(size, int) and crop else None
    if isinstance(size, dict) and "shortest_edge" in size:
        short = int(size["shortest_edge"])
    into = crop if short is not None else _sides(size)
    if config.get("do_resize", True) is not True or config.get("do_pad"):
        raise ValueError("other steps than resizing and cropping")
    if into is None or crop not in (None, into):
        raise ValueError(f"size {size!r} with crop_size {config.get('crop_size')!r}")
    # Mean and deviation are of the scaled pixels: of 0 to 1 where the factor is 1 / 255.
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1
    top = round(255 * factor, 6)
    plain = not config.get("do_normalize", True)
    return Preprocess(
        into,
        tuple(value / top for value in _colours(0 if plain else config["image_mean"])),
        tuple(value / top for value in _colours(1 if plain else config["image_std"])),
        mode="squash" if short is None else "shortest",
        interpolation=_FILTERS[int(config.get("resample", 3))],
        short_side=None if into == (short, short) else short,
    )


def _sides(value: Any) -> tuple[int, int]:
    if isinstance(value, dict):
        return int(value["height"]), int(value["width"])
    height, width = (value, value) if isinstance(value, int) else (list(value) * 2)[:2]
    return int(height), int(width)


def _colours(value: Any) -> tuple[float, ...]:
    import numpy as np

    return tuple(np.broadcast_to(np.asarray(value, np.float64), 3).tolist())


def _without_far_ends(image: Image) -> Image:
    short, long = min(image.size), max(image.size)
    extra = long - MAX_ASPECT * short
    if extra <= 0:
        return image
    # An even cut keeps the centre where it was.
    cut = extra // 2
    if image.width > image.height:
        return image.crop((cut, 0, image.width - cut, image.height))
    return image.crop((0, cut, image.width, image.height - cut))


def _centre(image: Image, width: int, height: int, fill: int) -> Image:
    """Crop and pad at the centre (torchvision's and open_clip's rounding)."""
    if image.width < width or image.height < height:
        from PIL import Image as pillow

        canvas = pillow.new(
            "RGB", (max(width, image.width), max(height, image.height)), (fill, fill, fill)
        )
        canvas.paste(
            image, (max(0, (width - image.width) // 2), max(0, (height - image.height) // 2))
        )
        image = canvas
    if image.size == (width, height):
        return image
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _numbers(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
