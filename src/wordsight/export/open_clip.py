"""CLIP models of ``open_clip``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError
from wordsight.export.original import Clip, fast
from wordsight.export.packages import package, telling
from wordsight.paths import expanded


def load(place: str, pretrained: str | Path | None) -> Clip:
    """Open a CLIP model of open_clip: a folder, or an architecture with its weights.

    Raises ModelError for what open_clip does not have or cannot load.
    """
    torch, open_clip = package("torch"), package("open_clip")
    _check(open_clip, place, pretrained)
    name = f"local-dir:{place}" if Path(place).is_dir() else place
    weights = None if pretrained is None else str(expanded(pretrained))
    with telling(f"open_clip cannot load {place}"):
        model = open_clip.create_model(
            name, pretrained=weights, precision="fp32", require_pretrained=True, weights_only=True
        ).eval()
        tokenizer = open_clip.get_tokenizer(name)
        settings = dict(open_clip.get_model_preprocess_cfg(model))
        transform = package("open_clip.transform")
        prepare = transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False)
    size = settings["size"]
    settings["size"] = [size, size] if isinstance(size, int) else list(size)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        inner, pad = _byte_pairs(tokenizer), "!"  # id 0, with which open_clip fills up
    else:
        inner, pad = fast(inner), str(inner.pad_token)
    separator = tokenizer.tokenizer.sep_token_id if _strips(tokenizer) else None

    def text(ids: Any) -> Any:
        if separator is not None:
            ids = torch.where(ids == separator, torch.zeros_like(ids), ids)
        return model.encode_text(ids)

    return Clip(
        model=model,
        image=model.encode_image,
        text=text,
        text_inputs=("text",),
        prepare=prepare,
        tokenize=lambda texts: (tokenizer(texts),),
        tokenizer=inner,
        pad=pad,
        preprocess=settings,
        context=int(tokenizer.context_length),
        clean=_cleaning_of(tokenizer),
    )


def _check(open_clip: Any, place: str, pretrained: str | Path | None) -> None:
    """Refuse what open_clip does not have, and weights that do not belong to the architecture."""
    folder = Path(place).is_dir()
    if folder and pretrained is not None:
        raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
    if not folder and place not in open_clip.list_models():
        raise ModelError(
            f"{place}: no such folder, and no model of open_clip by that name"
            + _close(place, open_clip.list_models())
        )
    if pretrained is not None and not expanded(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(place)
        if str(pretrained) not in tags:
            known = f"it knows {', '.join(tags)}" if tags else "it knows none"
            raise ModelError(
                f"{pretrained}: neither a file nor weights that open_clip has for {place}; {known}"
            )
        # open_clip only warns of this, and the comparison with the original would be with the
        # same wrong one.
        trained = open_clip.get_pretrained_cfg(place, str(pretrained)).get("quick_gelu", False)
        if bool(trained) != bool(open_clip.get_model_config(place).get("quick_gelu", False)):
            other = f"{place}-quickgelu" if trained else place.removesuffix("-quickgelu")
            raise ModelError(
                f"{pretrained}: these weights were trained with another activation than {place} "
                f"has; export {other} instead"
            )


def _strips(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "strip_sep_token", False))


def _cleaning_of(tokenizer: Any) -> str:
    """Name the function with which a tokenizer of open_clip cleans texts."""
    choose = package("open_clip.tokenizer").get_clean_fn
    used = getattr(tokenizer, "clean_fn", None)
    names = ("lower", "whitespace", "canonicalize")
    return next((name for name in names if choose(name) is used), "canonicalize")


def _byte_pairs(tokenizer: Any) -> Any:
    """Put the byte pairs of CLIP's first tokenizer, as open_clip keeps them, into `tokenizers`."""
    clip_tokenizer = package("transformers").CLIPTokenizer
    # The names that open_clip gives the two special tokens are not those in published files.
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in tokenizer.encoder.items()}
    return fast(clip_tokenizer(vocab=vocabulary, merges=list(tokenizer.bpe_ranks)))


def _close(name: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
