"""CLIP models of ``transformers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wordsight.errors import ModelError
from wordsight.export.original import Clip, fast
from wordsight.export.packages import package, telling


def load(place: str, pretrained: str | Path | None) -> Clip:
    """Open a CLIP model of transformers, a folder.

    Raises ModelError for another kind of model, weights that are not whole, or a preprocessing that
    the layout cannot say.
    """
    if pretrained is not None:
        raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
    transformers = package("transformers")
    transformers.utils.logging.disable_progress_bar()
    with telling(f"transformers cannot load {place}"):
        config, model = _model(transformers, place)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        processor = transformers.AutoImageProcessor.from_pretrained(
            place, trust_remote_code=False, backend="pil"
        )
        preprocess = _preprocess_of(processor, place)
        context = int(min(config.text_config.max_position_embeddings, tokenizer.model_max_length))
    model.eval()
    # CLIP's text tower looks back only, and SigLIP's was trained to look at the padding too.
    masked = (
        config.model_type not in ("clip", "siglip", "siglip2")
        and "attention_mask" in tokenizer.model_input_names
    )
    names = ("input_ids", "attention_mask") if masked else ("text",)

    def image(pixels: Any) -> Any:
        return _pooled(model.get_image_features(pixel_values=pixels))

    def text(ids: Any, mask: Any = None) -> Any:
        more = {} if mask is None else {"attention_mask": mask}
        return _pooled(model.get_text_features(input_ids=ids, **more))

    def tokenize(texts: list[str]) -> tuple[Any, ...]:
        found = tokenizer(
            texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        return (found["input_ids"], found["attention_mask"]) if masked else (found["input_ids"],)

    # The tokenizer of SigLIP cleans in Python, all others within their description.
    clean = "canonicalize" if hasattr(tokenizer, "canonicalize_text") else "whitespace"
    return Clip(
        model=model,
        image=image,
        text=text,
        text_inputs=names,
        prepare=lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0],
        tokenize=tokenize,
        tokenizer=fast(tokenizer),
        pad=str(tokenizer.pad_token),
        preprocess=preprocess,
        context=context,
        clean=clean,
    )


def _model(transformers: Any, place: str) -> tuple[Any, Any]:
    """The settings of a model of CLIP's kind, and the model with all of its weights."""
    # Decided by the settings alone, before gigabytes of another kind of model are read.
    config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    if not (hasattr(config, "vision_config") and hasattr(config, "text_config")):
        raise ModelError(
            f"{place}: a {config.model_type} model, not one with an image and a text tower"
        )
    model, report = transformers.AutoModel.from_pretrained(
        place, dtype=package("torch").float32, trust_remote_code=False, output_loading_info=True
    )
    needed = ("get_image_features", "get_text_features", "logit_scale")
    if not all(hasattr(model, name) for name in needed):
        raise ModelError(f"{place}: a {config.model_type} model, which is not a CLIP-like model")
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise ModelError(
            f"{place}: the weights are incomplete ({len(lost)} missing or of another shape, "
            f"{lost[0]} for one)"
        )
    return config, model


def _pooled(found: Any) -> Any:
    return getattr(found, "pooler_output", found)  # before transformers 5 the tensor itself


def _preprocess_of(processor: Any, place: str) -> dict[str, Any]:
    """Say the settings of an image processor in open_clip's words."""
    from PIL.Image import Resampling

    def sides(value: Any) -> list[int]:
        return [value, value] if isinstance(value, int) else [value["height"], value["width"]]

    size = processor.size
    short = size if isinstance(size, int) else dict(size).get("shortest_edge")
    crop = sides(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    interpolation = Resampling(int(processor.resample)).name.lower()
    problems = [
        (not processor.do_resize, "does not resize"),
        (not processor.do_rescale, "does not scale pixels to 0..1"),
        (abs(processor.rescale_factor * 255 - 1) > 1e-3, "scales pixels otherwise than to 0..1"),
        (short is not None and crop != [short, short], "crops to another size than it resizes to"),
        (short is None and "height" not in dict(size), f"resizes in its own way ({size})"),
        (short is None and crop not in (None, sides(size)), "crops after fitting to a size"),
    ]
    for wrong, what in problems:
        if wrong:
            raise ModelError(
                f"{place}: its image processor {what}, which this layout cannot express"
            )
    plain = not processor.do_normalize
    return {
        "size": crop or sides(size),
        "mode": "RGB",
        "mean": [0.0] * 3 if plain else list(processor.image_mean),
        "std": [1.0] * 3 if plain else list(processor.image_std),
        "interpolation": interpolation,
        "resize_mode": "squash" if short is None else "shortest",
        "fill_color": 0,
    }
