"""Run notebooks, each from a clean kernel, and keep what they print and draw.

    python notebooks/execute.py [FILE.ipynb ...]

Without files: all beside this script. Needs the extra ``notebooks``. What differs from run to run
(times, addresses, the state of widgets) is left out, so that a diff shows what changed.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
TIMEOUT = 600
"""Seconds that a cell may take."""

_WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
    images: int | None = None,
) -> Any:
    """Run a notebook from a clean kernel; returns it with its outputs (``nbformat`` notebook).

    ``environment`` is added to that of this process, ``more`` are code cells to run at the end,
    ``images`` takes the place of the number of images where the notebook sets one.
    Raises ``nbclient.exceptions.CellExecutionError`` where a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    if images is not None:
        for cell in notebook.cells:
            cell.source = re.sub(r"^IMAGES = \d+$", f"IMAGES = {images}", cell.source, flags=re.M)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # No start-up files, history or settings of whoever runs this.
        own = {"IPYTHONDIR": profile, "JUPYTER_CONFIG_DIR": profile}
        client.execute(env={**os.environ, **own, **(environment or {})})
    return notebook


def clean(notebook: Any) -> None:
    """Leave out, in place, what differs from run to run or is not looked at."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = {}
            data = output.get("data", {})
            data.pop(_WIDGET, None)
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9A-Fa-f]+", "", data["text/plain"])
            if "image/png" in data:
                _shrink(data)


def _joined(outputs: Sequence[Any]) -> list[Any]:
    """Outputs with printed text in one piece: how it was cut up is a matter of timing."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _shrink(data: dict[str, Any]) -> None:
    """Keep a picture in one form: photographs as JPEG, plots as PNG with a palette."""
    data.pop("image/jpeg", None)
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    file = io.BytesIO()
    if data.get("text/plain", "").startswith("<PIL"):
        del data["image/png"]
        kind = "image/jpeg"
        picture.save(file, "JPEG", quality=88, subsampling=0, optimize=True)
    else:
        kind = "image/png"
        picture.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    data[kind] = base64.b64encode(file.getvalue()).decode()


def main(arguments: Sequence[str]) -> None:
    """Execute the notebooks and write them back."""
    for path in [Path(a) for a in arguments] or sorted(FOLDER.glob("*.ipynb")):
        notebook = execute(path)
        clean(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1024:,.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
