"""Writing a picture or a plot to a file, whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image

from wordsight.errors import WordsightError, reason
from wordsight.images import SOFTWARE
from wordsight.paths import drafted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pdf": "PDF",
}
PLOT_FORMATS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".svg": "svg", ".pdf": "pdf"}
_DPI = 144
_LARGEST_SIDE = {"JPEG": 65_500, "PDF": 65_500, "WEBP": 16_383, "GIF": 65_535}
"""What a format, or the library that writes it, can hold (PDF: the page is a JPEG)."""


def check_suffix(path: Path, plot: bool = False) -> str:
    """The format that a picture or plot at ``path`` would have, to be asked before long work.

    Raises:
        WordsightError: the suffix names no format.
    """
    formats = PLOT_FORMATS if plot else IMAGE_FORMATS
    kind = formats.get(path.suffix.lower())
    if kind is None:
        named = f"as {path.suffix!r}" if path.suffix else "without a suffix"
        raise WordsightError(
            f"{path}: cannot write a picture {named}; use one of {' '.join(sorted(formats))}"
        )
    return kind


def save(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write ``picture`` to ``path`` in the format of its suffix; missing folders are made.

    A file that was there before is replaced only once the new one is complete. PNG, JPEG, WebP,
    TIFF and GIF name wordsight as their software, so that indexing passes over them; BMP cannot.

    Raises:
        WordsightError: the suffix names no format, the picture is too large for it, the folder
            cannot be written, no space left.
    """
    path = Path(path)
    kind = check_suffix(path, plot=not isinstance(picture, Image.Image))
    size = picture.size if isinstance(picture, Image.Image) else (0, 0)
    if max(size) > _LARGEST_SIDE.get(kind, max(size)):
        raise WordsightError(
            f"{path}: {size[0]} x {size[1]} pixels are too many for a {kind} file; "
            "write a .png, or show fewer images"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            if isinstance(picture, Image.Image):
                options = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
                picture.save(draft, format=kind, **options, **_signature(kind))
            else:
                _save_plot(picture, draft, kind)
    except OSError as error:
        raise WordsightError(f"{path}: {_reason(error)}") from error
    return path


def _signature(kind: str) -> dict[str, Any]:
    """Options of Pillow that write who made a picture, in the format's own way."""
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("Software", SOFTWARE)
        return {"pnginfo": text}
    if kind == "GIF":
        return {"comment": SOFTWARE.encode()}
    if kind in ("JPEG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = SOFTWARE
        return {"exif": exif}
    return {}


def _save_plot(figure: Figure, path: Path, kind: str) -> None:
    import matplotlib

    metadata = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
        "png": {"Software": SOFTWARE},
    }
    options: dict[str, Any] = {"pil_kwargs": _signature("JPEG")} if kind == "jpg" else {}
    # The salt makes the ids inside an SVG the same every time.
    with matplotlib.rc_context({"svg.hashsalt": "wordsight"}):
        figure.savefig(path, format=kind, dpi=_DPI, metadata=metadata.get(kind), **options)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left for the picture; free some or write it elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder cannot be written; choose another place for the picture"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return "a folder and a file stand in each other's way here; choose another name"
    return f"the picture could not be written ({reason(error)})"
