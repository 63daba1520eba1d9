"""Pictures inside a terminal: iTerm2 inline images, the Kitty graphics protocol, half blocks."""

from __future__ import annotations

import base64
import io
import os
import sys
from typing import Literal

from PIL import Image


def in_terminal(image: Image.Image) -> str | None:
    """The escape sequence that draws ``image`` in this terminal, or None where none is known to.

    Decided by environment variables alone, and only when standard output is a terminal, so
    nothing is ever asked of the terminal. Pictures wider than the window are reduced.

    Sources: https://iterm2.com/documentation-images.html and
    https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    if not sys.stdout.isatty():
        return None
    protocol = _protocol()
    if protocol is None:
        return None
    width = _window_pixels()
    if width and image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    png = buffer.getvalue()
    return _iterm(png) if protocol == "iterm" else _kitty(png)


def as_blocks(image: Image.Image, width: int = 80) -> str:
    """``image`` as lines of ``width`` half blocks in 24-bit colour: two pixels a character."""
    width = max(1, width)
    rows = max(1, round(image.height * width / image.width / 2))
    small = image.convert("RGB").resize((width, 2 * rows), Image.Resampling.LANCZOS)
    data = small.tobytes()
    lines = []
    for row in range(rows):
        line = []
        for column in range(width):
            upper = 3 * (2 * row * width + column)
            lower = upper + 3 * width
            r, g, b = data[upper : upper + 3]
            back = data[lower : lower + 3]
            line.append(f"\x1b[38;2;{r};{g};{b};48;2;{back[0]};{back[1]};{back[2]}m▀")
        lines.append("".join(line) + "\x1b[0m")
    return "\n".join(lines)


def _protocol() -> Literal["iterm", "kitty"] | None:
    program = os.environ.get("TERM_PROGRAM", "")
    terminal = os.environ.get("TERM", "")
    if "TMUX" in os.environ or terminal.startswith(("screen", "tmux")):
        return None  # a multiplexer swallows the sequences
    if terminal in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    # LC_TERMINAL is what iTerm2 passes on over ssh.
    if program in ("iTerm.app", "WezTerm", "mintty") or os.environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return "kitty" if "KITTY_WINDOW_ID" in os.environ else None


def _window_pixels() -> int:
    """Width of the window in pixels, 0 where the system does not say."""
    try:
        import fcntl
        import struct
        import termios

        answer = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
    except (ImportError, OSError, ValueError):
        return 0
    width: int = struct.unpack("HHHH", answer)[2]
    return width


def _iterm(png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};preserveAspectRatio=1:{data}\x07"


def _kitty(png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    chunks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    out = []
    for number, chunk in enumerate(chunks):
        # q=2: the terminal must not answer, the answer would arrive as typed text.
        head = "a=T,f=100,q=2," if number == 0 else ""
        more = int(number < len(chunks) - 1)
        out.append(f"\x1b_G{head}m={more};{chunk}\x1b\\")
    return "".join(out)
