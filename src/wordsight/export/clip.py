"""A CLIP model becomes a directory in open_clip's layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wordsight.export import open_clip, transformers
from wordsight.export.compare import PROMPTS, Done, compare_clip, odd_pictures
from wordsight.export.original import Clip, logits
from wordsight.export.packages import package, telling
from wordsight.export.writing import unit, write_graph, write_json


def export_clip(
    kind: str,
    place: str,
    pretrained: str | Path | None,
    name: str,
    draft: Path,
    step: Callable[[], None],
) -> Done:
    """Write a CLIP model into ``draft`` and compare it with the original.

    Args:
        kind: "open_clip" or "transformers".
        place: a folder, or the name of an architecture.
        pretrained: the weights of an architecture.
        name: the model's name, kept in its settings.
        draft: a folder to work in; the model is in ``model`` of it.
        step: called after each of four steps.
    """
    torch = package("torch")
    clip = (open_clip if kind == "open_clip" else transformers).load(place, pretrained)
    step()
    folder = draft / "model"
    height, width = clip.preprocess["size"]
    pictures = odd_pictures(min(height, width))
    image, text = unit(clip.model, clip.image), unit(clip.model, clip.text)
    with telling(f"{place}: cannot be run on an image and a text"), torch.inference_mode():
        pixels = torch.stack([clip.prepare(picture) for picture in pictures]).float()
        tokens = clip.tokenize(list(PROMPTS))
        image_vectors, text_vectors = image(pixels).numpy(), text(*tokens).numpy()
    write_graph(image, (pixels[:2],), ["image"], folder / "visual/model.onnx", draft)
    step()
    shown = tuple(ids[:2] for ids in tokens)
    write_graph(text, shown, list(clip.text_inputs), folder / "textual/model.onnx", draft)
    step()
    _write_settings(clip, name, image_vectors.shape[1], folder)
    done = compare_clip(clip, folder, pictures, image_vectors, text_vectors, tokens[0].numpy())
    step()
    return done


def _write_settings(clip: Clip, name: str, dim: int, folder: Path) -> None:
    scale, bias = logits(clip.model)
    config: dict[str, Any] = {
        "embed_dim": dim,
        "vision_cfg": {"image_size": clip.preprocess["size"]},
        "text_cfg": {
            "context_length": clip.context,
            "tokenizer_kwargs": {"clean": clip.clean},
        },
        # What reads it takes a value below 5 for the logarithm.
        "logit_scale": scale if scale >= 5 else math.log(scale),
        "model_name": name,
    }
    if bias is not None:
        config["logit_bias"] = bias
    write_json(folder / "config.json", config)
    write_json(folder / "visual/preprocess_cfg.json", clip.preprocess)
    write_json(folder / "textual/tokenizer_config.json", {"pad_token": clip.pad})
    (folder / "textual/tokenizer.json").write_text(clip.tokenizer.to_str(), encoding="utf-8")
