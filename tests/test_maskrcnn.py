import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wordsight.cli import main
from wordsight.errors import HubError, ImageError, ModelError
from wordsight.models.maskrcnn import (
    ImageInput,
    detectors_info,
    load_detector,
    prepare,
    read_description,
    registry,
)
from wordsight.regions import iou, propose

RUNTIMES = ["onnxruntime", "openvino"]

TORCHVISION = {
    "name": "bright",
    "image": {"channels": "RGB", "scale": 1 / 255},
    "labels": ["background", "dark", "bright"],
    "mask_frame": "image",
}


def bright_detector(
    folder,
    description,
    *,
    channel=0,
    batch=False,
    threshold=0.5,
    boxes="boxes",
    sides=("H", "W"),
    clip=None,
):
    """Write a graph that finds the rectangle of pixels above a threshold in one channel.

    It has the signature of torchvision's export: image -> boxes, labels, scores and masks in the
    image frame. The score is the brightest value of the channel. With ``clip``, boxes end at this
    x and y.
    """
    from onnx import TensorProto as T
    from onnx import helper as h

    def ints(name, values, dims=None):
        dims = [len(values)] if dims is None else dims
        return h.make_tensor(name, T.INT64, dims, values)

    clips = ["clip"] if clip else []
    nodes = [
        *([h.make_node("Squeeze", ["image", "c0"], ["chw"])] if batch else []),
        h.make_node("Gather", ["chw" if batch else "image", "channel"], ["plane"], axis=0),
        h.make_node("Greater", ["plane", "threshold"], ["hot"]),
        h.make_node("NonZero", ["hot"], ["where"]),
        h.make_node("ReduceMin", ["where"], ["low_yx"], axes=[1], keepdims=0),
        h.make_node("ReduceMax", ["where"], ["last_yx"], axes=[1], keepdims=0),
        h.make_node("Add", ["last_yx", "c1"], ["high_yx"]),
        h.make_node("Gather", ["low_yx", "swap"], ["low"]),
        h.make_node("Gather", ["high_yx", "swap"], ["high"]),
        h.make_node("Concat", ["low", "high"], ["box"], axis=0),
        h.make_node("Unsqueeze", ["box", "c0"], ["box_row"]),
        h.make_node("Min" if clip else "Identity", ["box_row", *clips], ["inside"]),
        h.make_node("Cast", ["inside"], [boxes], to=T.FLOAT),
        h.make_node("ReduceMax", ["plane"], ["peak"], axes=[0, 1], keepdims=0),
        h.make_node("Unsqueeze", ["peak", "c0"], ["scores"]),
        h.make_node("Identity", ["two"], ["labels"]),
        h.make_node("Cast", ["hot"], ["hot_float"], to=T.FLOAT),
        h.make_node("Unsqueeze", ["hot_float", "c01"], ["masks"]),
    ]
    graph = h.make_graph(
        nodes,
        "bright",
        [h.make_tensor_value_info("image", T.FLOAT, ([1] if batch else []) + [3, *sides])],
        [
            h.make_tensor_value_info(boxes, T.FLOAT, ["N", 4]),
            h.make_tensor_value_info("labels", T.INT64, ["N"]),
            h.make_tensor_value_info("scores", T.FLOAT, ["N"]),
            h.make_tensor_value_info("masks", T.FLOAT, ["N", 1, "H", "W"]),
        ],
        [
            ints("channel", [channel], []),
            h.make_tensor("threshold", T.FLOAT, [], [threshold]),
            ints("c0", [0]),
            ints("c1", [1]),
            ints("c01", [0, 1]),
            ints("swap", [1, 0]),
            ints("two", [2]),
            *([ints("clip", [*clip, *clip])] if clip else []),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 16)], ir_version=8)
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "detector.json").write_text(json.dumps(description))
    return folder


def scene(width=120, height=80, box=(30, 20, 70, 60), colour=(200, 0, 0)):
    image = Image.new("RGB", (width, height))
    image.paste(colour, box)
    return image


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_torchvision_export_loads_by_description(tmp_path, runtime):
    detector = load_detector(bright_detector(tmp_path / "d", TORCHVISION), runtime=runtime)
    assert (detector.name, detector.runtime) == ("bright", runtime)
    found = detector(scene())
    np.testing.assert_array_equal(found.boxes, [[30, 20, 70, 60]])
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.scores == pytest.approx([200 / 255])
    assert found.labels == ["bright"]
    # The mask is given in the frame of the box: all of it is the object.
    assert found.masks[0].shape == (40, 40)
    assert found.masks[0].min() == 1


def test_masks_in_the_image_frame_are_cut_to_the_box(tmp_path):
    image = scene()
    image.paste((0, 0, 0), (50, 20, 70, 40))  # the upper right quarter is not of the object
    detector = load_detector(bright_detector(tmp_path / "d", TORCHVISION), runtime="onnxruntime")
    (region,) = propose([image], detector, masks=True, margin=0)[0]
    assert region.box == (30, 20, 70, 60)
    assert region.mask[:18, 22:].max() == 0
    assert region.mask[22:].min() == region.mask[:, :18].min() == 1


def test_channel_order_scale_mean_and_size_come_from_the_description(tmp_path):
    description = {
        "image": {
            "channels": "BGR",
            "scale": 1,
            "mean": [0, 0, 100],
            "std": [1, 1, 100],
            "short_side": 160,
            "multiple": 32,
            "batch_axis": True,
        },
        "mask_frame": "image",
    }
    # Red comes last in BGR; (200 - 100) / 100 = 1, black is -1, padding is 0.
    folder = bright_detector(tmp_path / "d", description, channel=2, batch=True, threshold=0.6)
    found = load_detector(folder, runtime="onnxruntime")(scene(120, 90))
    assert found.scores == pytest.approx([1.0])
    np.testing.assert_allclose(found.boxes, [[30, 20, 70, 60]], atol=0.6)
    assert found.labels == [None]
    assert folder.name == load_detector(folder, runtime="onnxruntime").name


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_images_of_any_mode_are_taken(tmp_path, mode):
    detector = load_detector(bright_detector(tmp_path / "d", TORCHVISION), runtime="onnxruntime")
    grey = Image.new("L", (64, 48))
    grey.paste(255, (10, 10, 40, 30))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert(mode)
    np.testing.assert_array_equal(detector(image).boxes, [[10, 10, 40, 30]])
    np.testing.assert_array_equal(detector(np.asarray(grey)).boxes, [[10, 10, 40, 30]])
    with pytest.raises(ImageError):
        detector(np.zeros((2, 3, 4, 5)))


# Preprocessing


def test_pixels_are_scaled_then_normalised_then_padded_with_zeros():
    image = Image.new("RGB", (40, 30), (255, 128, 0))
    spec = ImageInput("RGB", 1 / 255, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0), multiple=32)
    pixels, ratios = prepare(image, spec)
    assert pixels.shape == (3, 32, 64)
    assert ratios == (1, 1)
    assert pixels[:, 0, 0] == pytest.approx([2, (128 / 255 - 0.5) / 0.5, -0.5], abs=1e-6)
    assert not pixels[:, 30:].any()
    assert not pixels[:, :, 40:].any()


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((640, 427), None, None, (640, 427)),
        ((640, 480), 800, 1333, (1066, 800)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((1000, 200), 800, 1333, (1333, 266)),
        ((200, 100), None, 400, (200, 100)),
        ((800, 100), None, 400, (400, 50)),
        ((3, 3), 800, 1333, (800, 800)),
    ],
)
def test_sizes(size, short, long, expected):
    pixels, ratios = prepare(Image.new("RGB", size), ImageInput(short_side=short, long_side=long))
    assert pixels.shape == (3, expected[1], expected[0])
    assert ratios == (expected[0] / size[0], expected[1] / size[1])


@pytest.mark.parametrize("name", ["maskrcnn-r50-fpn", "maskrcnn-r50-fpn-int8"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (1066, 800)),  # as the reference code has it
        ((480, 640), (720, 960)),  # and not 800 x 1066, of which the graph loses the bottom
        ((3000, 4000), (720, 960)),
        ((2000, 1000), (1280, 640)),
        ((1000, 2000), (480, 960)),
        ((500, 500), (800, 800)),
    ],
)
def test_the_zoo_models_get_no_image_larger_than_that_of_their_exporter(name, size, expected):
    spec = read_description(Path("x"), registry()[name]["description"]).image
    pixels, (across, down) = prepare(Image.new("RGB", size, "white"), spec)
    assert (int(size[0] * across + 1e-6), int(size[1] * down + 1e-6)) == expected
    assert pixels.shape[1] <= 960
    assert pixels.shape[2] <= 1280


@pytest.mark.parametrize("size", [(600, 1200), (1500, 1500), (1600, 700)])
def test_a_graph_that_clips_boxes_loses_nothing_with_limits(tmp_path, size):
    """A replica of an export that keeps boxes inside the picture it was traced with."""
    width, height = size
    box = (width * 0.7, height * 0.8, width * 0.95, height * 0.97)
    limits = {"short_side": 800, "max_width": 1280, "max_height": 960}

    def found(image):
        description = {**TORCHVISION, "mask_frame": "box", "image": {**image, "scale": 1 / 255}}
        folder = bright_detector(tmp_path / str(len(image)), description, clip=(1279, 959))
        return load_detector(folder)(scene(width, height, tuple(map(int, box)))).boxes[0]

    assert iou(found(limits)[None], np.array([box]))[0, 0] > 0.97
    if height > width:  # without them the bottom of a portrait is lost
        without = found({"short_side": 800, "long_side": 1333})
        assert iou(without[None], np.array([box]))[0, 0] < 0.9


def test_a_very_long_image_is_padded_so_that_no_graph_blows_it_up():
    assert prepare(Image.new("RGB", (1600, 10)), ImageInput())[0].shape == (3, 200, 1600)


# Bad input


def test_a_wrong_signature_names_what_was_expected_and_found(tmp_path):
    folder = bright_detector(tmp_path / "d", TORCHVISION, boxes="rectangles")
    with pytest.raises(ModelError) as error:
        load_detector(folder, runtime="onnxruntime")
    message = str(error.value)
    assert str(folder) in message
    assert "expected input image float32 [3, H, W] and outputs boxes, scores" in message
    assert "input image float32 [3, ?, ?]" in message
    assert "rectangles float32 [1, 4]" in message
    assert "\n" not in message


def test_a_batch_axis_too_many_is_a_wrong_signature(tmp_path):
    folder = bright_detector(tmp_path / "d", TORCHVISION, batch=True)
    with pytest.raises(ModelError, match=r"expected input image float32 \[3, H, W\]"):
        load_detector(folder, runtime="onnxruntime")


def test_swapped_outputs_are_noticed_when_the_graph_runs(tmp_path):
    outputs = {"boxes": "boxes", "scores": "masks", "masks": "scores"}
    folder = bright_detector(tmp_path / "d", {**TORCHVISION, "outputs": outputs})
    detector = load_detector(folder, runtime="onnxruntime")
    with pytest.raises(ModelError, match=r"scores \[1, 1, 80, 120\]"):
        detector(scene())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_that_fails_on_an_image_says_so(tmp_path, runtime):
    folder = bright_detector(tmp_path / "d", TORCHVISION, sides=(64, 64))
    detector = load_detector(folder, runtime=runtime)
    with pytest.raises(ModelError, match="failed on an image of 120 x 80") as error:
        detector(scene())
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": {"channels": "GRB"}}, "image.channels"),
        ({"image": {"mean": [1, 2]}}, "3 numbers"),
        ({"image": {"std": [1, 1, 0]}}, "must not be 0"),
        ({"image": {"short_side": "wide"}}, "wrong type"),
        ({"image": {"short_side": 0}}, "positive"),
        ({"image": {"colour": "RGB"}}, "unknown field image.colour"),
        ({"mask_frame": "middle"}, "mask_frame"),
        ({"outputs": {"boxes": "boxes"}}, "scores"),
        ({"outputs": {"boxes": "b", "scores": "s", "extra": "e"}}, "may only name"),
        ({"labels": "names.json"}, "names.json"),
        ({"labels": {"one": "person"}}, "wrong type"),
    ],
)
def test_a_wrong_description_names_the_field(tmp_path, change, message):
    (tmp_path / "detector.json").write_text(json.dumps(change))
    with pytest.raises(ModelError, match=message) as error:
        read_description(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_directory_without_a_description_or_graph_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"detector\.json"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_detector(tmp_path)


# The registry


def test_the_registry_describes_its_detectors():
    entries = registry()
    assert {"maskrcnn-r50-fpn", "maskrcnn-r50-fpn-int8"} <= entries.keys()
    for name, entry in entries.items():
        description = read_description(Path("registry"), entry["description"])
        assert description.name == name
        assert entry["file"].endswith(".onnx")
        assert len(description.labels) == 81
        assert (description.labels[1], description.labels[80]) == ("person", "toothbrush")


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("WORDSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


def put_in_hub(hub, repository, file, content):
    place = hub / f"models--{repository.replace('/', '--')}"
    path = place / "snapshots" / ("0" * 40) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text("0" * 40)


def test_a_name_of_the_registry_opens_from_the_cache_with_its_description(tmp_path, empty_hub):
    entry = registry()["maskrcnn-r50-fpn"]
    graph = bright_detector(tmp_path / "d", TORCHVISION) / "model.onnx"
    put_in_hub(empty_hub, entry["repository"], entry["file"], graph.read_bytes())
    # Not the zoo's graph: what is expected of it is known all the same.
    for name in ("maskrcnn-r50-fpn", "auto"):
        with pytest.raises(ModelError, match="outputs 6568, 6570, 6572, 6887; found input image"):
            load_detector(name, runtime="onnxruntime")


def test_a_hub_repository_opens_like_a_directory(tmp_path, empty_hub):
    folder = bright_detector(tmp_path / "d", TORCHVISION)
    for file in ("model.onnx", "detector.json"):
        put_in_hub(empty_hub, "someone/bright", file, (folder / file).read_bytes())
    assert len(load_detector("someone/bright", runtime="onnxruntime")(scene())) == 1


def test_the_detectors_with_a_name_are_listed(tmp_path, empty_hub):
    rows = {row["name"]: row for row in detectors_info()}
    assert list(rows) == ["starter-maskrcnn", "maskrcnn-r50-fpn", "maskrcnn-r50-fpn-int8"]
    assert rows["starter-maskrcnn"]["cached"]
    assert not rows["maskrcnn-r50-fpn"]["cached"]
    assert rows["maskrcnn-r50-fpn"]["path"] is None
    entry = registry()["maskrcnn-r50-fpn"]
    put_in_hub(empty_hub, entry["repository"], entry["file"], b"graph")
    rows = {row["name"]: row for row in detectors_info()}
    assert rows["maskrcnn-r50-fpn"]["cached"]
    assert not rows["maskrcnn-r50-fpn-int8"]["cached"]


def test_models_lists_the_detectors(capsys, empty_hub):
    with pytest.raises(SystemExit, match="0"):
        main(["models", "--json"])
    listed = json.loads(capsys.readouterr().out)["detectors"]
    assert [row["name"] for row in listed] == [row["name"] for row in detectors_info()]
    with pytest.raises(SystemExit, match="0"):
        main(["models"])
    assert "maskrcnn-r50-fpn-int8" in capsys.readouterr().out


def test_what_is_not_in_the_cache_is_said(empty_hub):
    with pytest.raises(HubError, match="onnxmodelzoo/legacy_models is not in the cache"):
        load_detector("maskrcnn-r50-fpn-int8")
    with pytest.raises(ModelError, match="no such detector; use tiles, starter-maskrcnn, "):
        load_detector("no-such-detector")


# The starter


PASTED = [(30, 40, 94, 104), (200, 30, 290, 120), (60, 190, 150, 280), (290, 200, 350, 260)]


def pasted_pictures():
    """Four soft-edged colourful pictures on a plain background."""
    rng = np.random.default_rng(3)
    image = Image.new("RGB", (400, 320), (120, 130, 140))
    for x0, y0, x1, y1 in PASTED:
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        image.paste(small.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), (x0, y0))
    return image


STARTER_RECALL = 0.39


def test_the_starter_finds_the_same_on_both_runtimes():
    image = pasted_pictures()
    found = {}
    for runtime in RUNTIMES:
        detector = load_detector("starter-maskrcnn", runtime=runtime)
        assert (detector.name, detector.runtime) == ("starter-maskrcnn", runtime)
        found[runtime] = detector(image)
        assert set(found[runtime].labels) <= {*detector.description.labels.values(), None}
        assert all(
            m.shape == (28, 28) and 0 <= m.min() <= m.max() <= 1 for m in found[runtime].masks
        )
    one, other = found.values()
    assert len(one) > 0
    sure = np.flatnonzero(one.scores > 0.06)
    match = iou(one.boxes[sure], other.boxes).argmax(1)
    assert np.abs(one.boxes[sure] - other.boxes[match]).max() <= 1
    assert np.abs(one.scores[sure] - other.scores[match]).max() <= 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_masks_the_boxes_are_the_same(runtime):
    image = pasted_pictures()
    whole = load_detector("starter-maskrcnn", runtime=runtime)(image)
    found = load_detector("starter-maskrcnn", runtime=runtime, masks=False)(image)
    assert found.masks is None
    np.testing.assert_allclose(found.boxes, whole.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-4)
    assert found.labels == whole.labels


def test_the_starter_takes_any_size():
    detector = load_detector("starter-maskrcnn", runtime="onnxruntime")
    noise = np.random.default_rng(0)
    for width, height in [(1, 1), (20, 15), (32, 32), (1500, 40), (700, 1100)]:
        image = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for region in propose([image], detector)[0]:
            assert 0 <= region.box[0] < region.box[2] <= width
            assert 0 <= region.box[1] < region.box[3] <= height


def test_the_starter_finds_pasted_pictures():
    detector = load_detector("starter-maskrcnn", runtime="onnxruntime")
    (regions,) = propose([pasted_pictures()], detector, margin=0)
    overlaps = iou(np.array(PASTED), np.array([region.box for region in regions]))
    assert (overlaps.max(1) >= 0.5).all()


def test_the_starter_finds_annotated_objects_of_photographs():
    """Class-agnostic recall at IoU 0.5 with 20 proposals, on 40 photographs it was not made with.

    benchmarks/proposal_recall.py measures all of them; the figures are in the card.
    """
    detector = load_detector("starter-maskrcnn", runtime="onnxruntime")
    hits = []
    for image, boxes in annotated_photographs(40):
        (regions,) = propose(
            [image],
            detector,
            limit=20,
            alike=20,
            min_score=0.05,
            margin=0,
            least=0,
            min_side=0,
            max_area=1,
        )
        found = np.array([region.box for region in regions]).reshape(-1, 4)
        hits += (iou(boxes, found).max(1, initial=0) >= 0.5).tolist()
    assert np.mean(hits) >= STARTER_RECALL


def test_the_starter_is_small_and_says_what_it_is():
    folder = load_detector("starter-maskrcnn", runtime="onnxruntime").path
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(files.values()) < 8_000_000
    assert {"model.onnx", "detector.json", "MODEL_CARD.md", "LICENSE"} <= files.keys()


# A real Mask R-CNN


def real_folder(tmp_path):
    models = os.environ.get("WORDSIGHT_TEST_MODELS")
    if not models:
        pytest.skip("WORDSIGHT_TEST_MODELS is not set: no trained Mask R-CNN to compare with")
    folder = tmp_path / "fbnetv3a"
    folder.mkdir()
    source = Path(models) / "maskrcnn-fbnetv3a"
    for name in ("model.onnx", "labels.json"):
        (folder / name).symlink_to(source / name)
    description = {"image": {"channels": "RGB", "scale": 1 / 255}, "labels": "labels.json"}
    (folder / "detector.json").write_text(json.dumps(description))
    return folder


def coco_images(count):
    data = os.environ.get("WORDSIGHT_DATA")
    if not data:
        pytest.skip("WORDSIGHT_DATA is not set: no COCO pack to run on")
    images = {}
    with tarfile.open(Path(data) / "coco-captions" / "images.tar") as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if len(images) == count:
                break
            content = tar.extractfile(member).read()
            images[member.name] = Image.open(io.BytesIO(content)).convert("RGB")
    return images


def annotated_photographs(count):
    """The first photographs of COCO's val part, with the boxes [N, 4] of the objects in them."""
    images = coco_images(10_000)
    path = Path(os.environ["WORDSIGHT_DATA"]) / "coco-captions" / "instances.json"
    instances = json.loads(path.read_text())
    chosen = []
    for record in sorted(instances["images"], key=lambda record: record["id"]):
        boxes = [
            a["bbox"]
            for a in instances["annotations"]
            if a["image_id"] == record["id"] and not a["iscrowd"]
        ]
        if boxes and record["coco_split"] == "val2017" and len(chosen) < count:
            corners = np.array(boxes, np.float32)
            corners[:, 2:] += corners[:, :2]
            chosen.append((images[record["file_name"]], corners))
    return chosen


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_real_detector_gives_the_boxes_of_a_plain_run(tmp_path, runtime):
    """50 images: each detection of either run has its like in the other, within 1 px and 0.01."""
    import onnxruntime

    folder = real_folder(tmp_path)
    images = coco_images(50)
    detector = load_detector(folder, runtime=runtime)
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = json.loads((folder / "labels.json").read_text())
    total = 0
    for image in images.values():
        x = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
        boxes, labels, scores, masks = session.run(
            ["boxes", "labels", "scores", "masks"], {"image": x}
        )
        found = detector(image)
        # Detections at the graph's own threshold of 0.05 may be there in one run only.
        for i in np.flatnonzero(scores > 0.06):
            same = [j for j in range(len(found)) if found.labels[j] == names[str(labels[i])]]
            assert same
            j = same[int(iou(boxes[i : i + 1], found.boxes[same])[0].argmax())]
            assert np.abs(boxes[i] - found.boxes[j]).max() <= 1
            assert abs(scores[i] - found.scores[j]) <= 0.01
            assert np.abs(masks[i, 0] - found.masks[j]).max() <= 0.01
            total += 1
        for j in np.flatnonzero(found.scores > 0.06):
            overlaps = iou(found.boxes[j : j + 1], boxes)[0]
            assert overlaps.max() > 0.95
    assert total > 400


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_real_detector_finds_the_person_of_a_known_image(tmp_path, runtime):
    folder = real_folder(tmp_path)
    image = coco_images(1000)["000000397133.jpg"]
    regions = propose([image], load_detector(folder, runtime=runtime), margin=0, masks=True)[0]
    best = regions[0]
    assert best.label == "person"
    assert best.score > 0.9
    scale = image.width / 640  # the box of the model's card is for the original size
    assert iou(np.array([best.box]), np.array([[385.9, 65.7, 501.9, 349.2]]) * scale)[0, 0] > 0.9
    assert best.mask.shape == (28, 28)
    assert 0.3 < (best.mask > 0.5).mean() < 0.9


def test_a_real_detector_takes_any_size(tmp_path):
    detector = load_detector(real_folder(tmp_path), runtime="onnxruntime")
    sizes = [(1, 1), (8, 8), (32, 32), (2000, 13), (13, 700), (333, 1000)]
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
    for (width, height), regions in zip(sizes, propose(images, detector), strict=True):
        for region in regions:
            assert 0 <= region.box[0] < region.box[2] <= width
            assert 0 <= region.box[1] < region.box[3] <= height
    assert propose([np.zeros((200, 300, 3), np.uint8)], detector) == [[]]
