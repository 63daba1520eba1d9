"""A Mask R-CNN becomes a directory as :mod:`wordsight.models.maskrcnn` reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.export.compare import Done, detection_differences, draw_scenes
from wordsight.export.packages import package
from wordsight.export.torchvision import load
from wordsight.export.writing import as_module, write_graph, write_json
from wordsight.models.maskrcnn import DESCRIPTION, GRAPH, load_detector

if TYPE_CHECKING:
    import PIL.Image

    from wordsight.models.maskrcnn import Detector


def export_detector(
    place: str, pretrained: str | Path | None, draft: Path, step: Callable[[], None]
) -> Done:
    """Write a Mask R-CNN into ``draft``/model and compare it with the original.

    ``place`` is the file of its weights or the name of an architecture, whose weights are
    ``pretrained``; ``step`` is called after each of four steps.
    """
    torchvision = package("torchvision")
    model, labels, name = load(place, pretrained)
    step()

    def forward(image: Any) -> tuple[Any, Any, Any, Any]:
        # GeneralizedRCNN.forward, but for the masks: those stay in the frame of their boxes.
        images, _ = model.transform([image])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        (found,), _ = model.roi_heads(features, proposals, images.image_sizes)
        boxes = torchvision.models.detection.transform.resize_boxes(
            found["boxes"], images.image_sizes[0], image.shape[-2:]
        )
        return boxes, found["scores"], found["labels"], found["masks"]

    folder = draft / "model"
    pictures = draw_scenes()
    tensors = [torchvision.transforms.functional.to_tensor(picture) for picture in pictures]
    module, outputs = as_module(model, forward), ["boxes", "scores", "labels", "masks"]
    write_graph(
        module,
        (tensors[0],),
        ["image"],
        folder / GRAPH,
        draft,
        outputs=outputs,
        axes={"image": {1: "height", 2: "width"}, **{output: {0: "n"} for output in outputs}},
    )
    step()
    write_json(
        folder / DESCRIPTION,
        {
            "name": name,
            "image": {"channels": "RGB", "scale": 1 / 255},
            "labels": labels,
            "mask_frame": "box",
            "source": f"torchvision {torchvision.__version__}, {name}",
        },
    )
    step()
    differences, compared = _compare(model, load_detector(folder), pictures, tensors)
    step()
    count = sum(name not in ("__background__", "N/A") for name in labels or ())
    return Done(differences, {"images": len(pictures), "boxes": compared}, {"labels": count})


def _compare(
    model: Any, detector: Detector, pictures: Sequence[PIL.Image.Image], tensors: Sequence[Any]
) -> tuple[dict[str, float], int]:
    """Run both on the same images: the greatest differences, and of how many boxes."""
    torch = package("torch")
    differences, compared = {"boxes": 0.0, "scores": 0.0, "masks": 0.0}, 0
    masks: list[Any] = []  # before the original pastes them into the image
    hook = model.roi_heads.register_forward_hook(
        lambda _module, _inputs, found: masks.append(found[0][0]["masks"][:, 0].numpy())
    )
    for picture, tensor in zip(pictures, tensors, strict=True):
        with torch.inference_mode():
            (found,) = model([tensor])
        boxes, scores = found["boxes"].numpy(), found["scores"].numpy()
        compared += len(scores)
        for what, value in detection_differences(
            boxes, scores, masks.pop(), detector(picture)
        ).items():
            differences[what] = max(differences[what], value)
    hook.remove()
    return differences, compared
