"""Mask R-CNN of ``torchvision``: which architecture, with which weights."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.errors import ModelError, one_line
from wordsight.export.packages import package, telling
from wordsight.paths import expanded


@dataclass(frozen=True, slots=True)
class _Weights:
    architecture: str
    name: str
    """What to call the detector."""
    told: str | Path
    """Where they come from, for messages."""
    state: dict[str, Any]
    official: bool
    """Whether they are torchvision's own COCO_V1."""


def load(place: str, pretrained: str | Path | None) -> tuple[Any, list[str] | None, str]:
    """Build a Mask R-CNN: the model, the names of its labels if they are known, its name.

    Args:
        place: the file of its weights, or the name of an architecture.
        pretrained: the weights of an architecture: a file, or a name that torchvision knows.

    Raises:
        ModelError: there is no such file or name, or the weights are of something else.
    """
    torchvision = package("torchvision")
    names = torchvision.models.list_models(torchvision.models.detection, include="maskrcnn*")
    file = expanded(place)
    if file.is_file():
        if pretrained is not None:
            raise ModelError(f"{place}: has weights of its own; leave --pretrained out")
        weights = _lone_weights(file)
    elif place in names:
        weights = _named_weights(torchvision, place, pretrained)
    else:
        raise ModelError(
            f"{place}: no such file, and no Mask R-CNN of torchvision by that name; "
            f"it has {', '.join(names)}"
        )
    model, classes = _built(torchvision, weights)
    if weights.official and weights.architecture == names[0]:
        for module in model.modules():
            if hasattr(module, "running_var"):
                module.eps = 0.0  # as torchvision does for these weights alone
    coco = torchvision.models.get_model_weights(names[0]).DEFAULT.meta["categories"]
    return model.eval(), list(coco) if classes == len(coco) else None, weights.name


def _lone_weights(file: Path) -> _Weights:
    state = read_state(file)
    # The second version has two convolutions in its proposal head, the first one.
    second = any(key.startswith("rpn.head.conv.1.") for key in state)
    architecture = "maskrcnn_resnet50_fpn" + ("_v2" if second else "")
    return _Weights(architecture, file.stem, file, state, _is_coco_v1(file))


def _named_weights(torchvision: Any, place: str, pretrained: str | Path | None) -> _Weights:
    if pretrained is None:
        raise ModelError(
            f"{place}: say which weights with --pretrained FILE or --pretrained COCO_V1"
        )
    file = expanded(pretrained)
    if file.is_file():
        return _Weights(place, place, file, read_state(file), _is_coco_v1(file))
    known = torchvision.models.get_model_weights(place)
    if str(pretrained) not in known.__members__:
        raise ModelError(
            f"{pretrained}: neither a file nor weights that torchvision has for {place}; "
            f"it knows {', '.join(known.__members__)}"
        )
    weights = known[str(pretrained)]
    with telling(f"the weights {pretrained} of {place} cannot be fetched"):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return _Weights(place, place, file, state, weights.name == "COCO_V1")


def _built(torchvision: Any, weights: _Weights) -> tuple[Any, int]:
    """The model with these weights, and of how many classes it is."""
    file, state = weights.told, weights.state
    classes = state.get("roi_heads.box_predictor.cls_score.weight")
    if classes is None or "roi_heads.mask_predictor.mask_fcn_logits.weight" not in state:
        clip = {"visual.conv1.weight", "logit_scale", "visual.trunk.pos_embed"} & state.keys()
        hint = (
            "; for a CLIP model name its architecture: wordsight export MODEL --pretrained "
            f"{file} --out DIR"
        )
        raise ModelError(
            f"{file}: not the weights of a Mask R-CNN of torchvision{hint if clip else ''}"
        )
    misfit = f"{file}: the weights do not fit torchvision's {weights.architecture}"
    with telling(misfit):
        model = torchvision.models.get_model(
            weights.architecture, weights=None, weights_backbone=None, num_classes=len(classes)
        )
        lost = model.load_state_dict(state, strict=False)
        # Frozen batch norms, which trained models have, do not count batches.
        missing = [k for k in lost.missing_keys if not k.endswith("num_batches_tracked")]
        if missing or lost.unexpected_keys:
            raise ModelError(
                f"{misfit} ({len(missing)} missing, {len(lost.unexpected_keys)} unknown: "
                f"{[*missing, *lost.unexpected_keys][0]})"
            )
    return model, len(classes)


def _is_coco_v1(file: Path) -> bool:
    """Whether this is torchvision's own file of the weights COCO_V1, whatever it is called."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return digest.startswith("bf2d0c1e")  # the end of its published name


def read_state(file: Path) -> dict[str, Any]:
    """Read weights without executing anything in them."""
    torch = package("torch")
    try:
        if file.suffix == ".safetensors":
            found = package("safetensors.torch").load_file(file)
        else:
            # torchvision's training script keeps its arguments beside the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # pickle, zip and torch raise kinds of their own
        raise ModelError(
            f"{file}: not a file of weights that can be read safely ({one_line(error)}); save "
            "the state_dict alone: torch.save(model.state_dict(), FILE)"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(torch.is_tensor(v) for v in found.values()):
        raise ModelError(f"{file}: holds no state_dict; torch.save(model.state_dict(), FILE)")
    return {str(key).removeprefix("module."): value for key, value in found.items()}
