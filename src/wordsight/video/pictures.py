"""A decoded frame as an upright RGB picture with square pixels and sRGB's colours."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image

_HDR = (16, 18)  # PQ and HLG (ITU-T H.273, table 3)


@dataclass(frozen=True, slots=True)
class Look:
    """How the frames of a video are shown: told by its container and its first frame.

    ``width`` and ``height`` are those of the upright picture with square pixels; ``turns`` counts
    turns by 90 degrees against the clock; ``primaries`` and ``transfer`` are code points of ITU-T
    H.273.
    """

    width: int
    height: int
    turns: int
    primaries: int
    transfer: int


def look_of(frame: Any, aspect: Any) -> Look:
    """From the first frame as its container's decoder gives it, and the shape of a pixel."""
    width, height = frame.width, frame.height
    if aspect and 0.1 < float(aspect) < 10:
        width = round(width * float(aspect))
    turns = round(frame.rotation / 90) % 4
    if turns % 2:
        width, height = height, width
    return Look(width, height, turns, int(frame.color_primaries or 0), int(frame.color_trc or 0))


def picture_of(frame: Any, look: Look, side: int | None = None) -> PIL.Image.Image:
    """The picture of a frame (``av.VideoFrame``), its short side at most ``side`` pixels."""
    import numpy as np
    import PIL.Image

    from wordsight.images import Coding, to_srgb

    scale = 1.0 if side is None else min(1.0, side / min(look.width, look.height))
    width, height = max(1, round(look.width * scale)), max(1, round(look.height * scale))
    across, down = (height, width) if look.turns % 2 else (width, height)
    if frame.interlaced_frame:
        frame = _field(frame)
    pixels = frame.reformat(across, down, "rgb24", interpolation="AREA").to_ndarray()
    image = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(pixels, look.turns)))
    if look.transfer in _HDR:
        return to_srgb(image, {"coding": Coding(look.primaries, look.transfer)})
    return image


def _field(frame: Any) -> Any:
    """The first field of an interlaced frame: the second one was taken 20 ms later."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    field, sink = graph.add("field", "type=top"), graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()
