"""What is written: graphs by PyTorch, settings, and the folder in which they come together."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError, one_line
from wordsight.export.packages import package

_OPSET = 17


def write_graph(
    module: Any,
    sample: tuple[Any, ...],
    inputs: list[str],
    path: Path,
    draft: Path,
    *,
    outputs: Sequence[str] = ("embedding",),
    axes: dict[str, dict[int, str]] | None = None,
) -> None:
    """Trace a module on a sample and write it as ONNX; by default with a batch of any size."""
    torch, onnx = package("torch"), package("onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = draft / "scratch"
    scratch.mkdir()
    traced = scratch / "traced.onnx"
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no such operator
    try:
        with torch.inference_mode():
            # The older of the two exporters: the newer cannot follow a Mask R-CNN, whose number of
            # boxes depends on the image (torch 2.14).
            torch.onnx.export(
                module,
                sample,
                str(traced),
                input_names=inputs,
                output_names=list(outputs),
                dynamic_axes=axes or {name: {0: "batch"} for name in (*inputs, *outputs)},
                opset_version=_OPSET,
                dynamo=False,
            )
        if len(list(scratch.iterdir())) == 1:
            traced.replace(path)
        else:  # above 2 GiB torch writes a file for each tensor; they are gathered into one
            onnx.save_model(
                onnx.load(str(traced)),
                str(path),
                save_as_external_data=True,
                location=f"{path.name}.data",
            )
    except OSError:
        raise
    except Exception as error:  # torch and onnx raise kinds of their own
        raise ModelError(
            f"torch cannot write {path.parent.name}/{path.name} as ONNX ({one_line(error)}); "
            "nothing was written"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        shutil.rmtree(scratch)


def unit(model: Any, encode: Callable[..., Any]) -> Any:
    """Return a torch module that encodes and brings to unit length."""
    torch = package("torch")

    def forward(*inputs: Any) -> Any:
        return torch.nn.functional.normalize(encode(*inputs).float(), dim=-1)

    return as_module(model, forward)


def as_module(model: Any, forward: Callable[..., Any]) -> Any:
    """Return a torch module that computes ``forward`` with the weights of ``model``."""
    torch = package("torch")
    module = torch.nn.Module()
    module.model = model  # so that its weights belong to the module
    module.forward = forward
    return module.eval()


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """Give a folder to work in; its ``model`` becomes ``out`` if all goes well, else all goes."""
    if out.is_dir() and any(out.iterdir()):
        raise ModelError(f"{out}: already exists; remove it or choose another --out")
    if out.exists() and not out.is_dir():
        raise ModelError(f"{out}: is a file; choose another --out")
    above = next(folder for folder in out.parents if folder.exists())
    draft = above / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        draft.mkdir()
        yield draft
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            out.rmdir()  # Windows does not put a folder in place of another
        (draft / "model").rename(out)
    except OSError as error:
        raise ModelError(
            f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def quiet(cache: Path) -> Iterator[None]:
    """Silence what the libraries say on the way, and keep compiled graphs of the draft in it."""
    before = os.environ.get("WORDSIGHT_CACHE")
    level = logging.root.manager.disable
    os.environ["WORDSIGHT_CACHE"] = str(cache)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            del os.environ["WORDSIGHT_CACHE"]
        else:
            os.environ["WORDSIGHT_CACHE"] = before
