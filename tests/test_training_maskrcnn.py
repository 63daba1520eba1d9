"""Making the starter Mask R-CNN: the parts that need no PyTorch."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.maskrcnn import calibrate, pictures, scenes, targets


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO pack of four photographs (1 and 2 annotated, of train; 3 judged; 4 without
    annotations) and a Caltech pack of one object.
    """
    pack = tmp_path / "data/coco-captions"
    pack.mkdir(parents=True)
    images = [
        {"id": i, "file_name": f"{i}.jpg", "coco_split": "train2017" if i < 3 else "val2017"}
        for i in (1, 2, 3, 4)
    ]
    note = {"image_id": 1, "iscrowd": 0, "bbox": [10, 20, 30, 40], "category_id": 7}
    crowd = {"image_id": 1, "iscrowd": 1, "bbox": [0, 0, 100, 100], "category_id": 7}
    instances = {
        "images": images[:3],
        "annotations": [note, crowd],
        "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "car"}],
    }
    (pack / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    (pack / "captions.json").write_text(json.dumps({"images": images}), encoding="utf-8")
    with tarfile.open(pack / "images.tar", "w") as tar:
        for i in (1, 2, 3, 4):
            add(tar, f"{i}.jpg", jpeg(picture(i)))
    (tmp_path / "data/caltech101").mkdir()
    with tarfile.open(tmp_path / "data/caltech101/images.tar", "w") as tar:
        add(tar, "BACKGROUND_Google/1.jpg", jpeg(picture(5)))
        add(tar, "anchor/1.jpg", jpeg(picture(6)))
    return tmp_path / "data"


def test_what_is_judged_with_is_not_learnt_from(data: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "copy.jpg").write_bytes(jpeg(picture(3).resize((320, 240)), 50))  # of a judged one
    (more / "again.jpg").write_bytes(jpeg(picture(4), 60))
    (more / "new.jpg").write_bytes(jpeg(picture(9, (1200, 900))))
    found = {p.name: p for p in pictures.gather(data, [more], objects=5)}
    assert found.keys() == {"1.jpg", "2.jpg", "4.jpg", "new.jpg", "anchor/1.jpg"}
    assert found["1.jpg"].boxes == [(10, 20, 40, 60)]
    assert pictures.category_names(data)[found["1.jpg"].labels[0]] == "cat"
    assert found["1.jpg"].dev  # kept for choices
    assert not found["2.jpg"].dev
    assert pictures.open_picture(found["new.jpg"].data).size == (512, 384)
    assert [p.name for p in pictures.coco(data)[1]] == ["3.jpg"]


class Teacher:
    """Finds the same at the same place of whatever it is shown."""

    def __call__(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        box = np.array([[10, 10, 40, 40], [1, 1, image.width - 1, image.height - 1]], np.float32)
        classes = np.zeros((2, 80), np.float32)
        classes[0, 3], classes[1, 5] = 0.9, 0.4
        return box, classes, box[:1], np.ones((1, 28, 28), np.float32)


def test_the_teacher_sees_parts_too_and_no_object_twice() -> None:
    image = picture(1, (200, 100))
    one = targets.ask(Teacher(), image, divide=False)
    assert one["boxes"].tolist() == [[10, 10, 40, 40], [1, 1, 199, 99]]
    many = targets.ask(Teacher(), image, divide=True)
    corners = {tuple(b) for b in many["boxes"].tolist()}
    # Found in each part; what an inner edge of a part may have cut off is left out.
    assert corners == {
        (10, 10, 40, 40), (90, 10, 120, 40), (10, 50, 40, 80), (90, 50, 120, 80), (1, 1, 199, 99)
    }  # fmt: skip
    assert many["classes"].sum(1).tolist() == pytest.approx([0.9] * 4 + [0.4], abs=1e-3)


def test_annotations_go_before_what_the_teacher_says() -> None:
    said = {
        "boxes": np.array([[10, 10, 50, 50], [60, 60, 90, 90]], np.float32),
        "classes": np.eye(80, dtype=np.float16)[[3, 5]] * np.float16(0.5),
        "mask_boxes": np.zeros((0, 4), np.float32), "masks": np.zeros((0, 28, 28), np.uint8),
    }  # fmt: skip
    row = pictures.Picture("a", "photo", b"", [(12, 12, 50, 50)], [7], annotated=True)
    about = scenes.known(row, said)
    assert about.boxes.tolist() == [[12, 12, 50, 50], [60, 60, 90, 90]]
    assert about.scores.tolist() == [1.0, 0.25]
    assert about.classes.argmax(1).tolist() == [7, 5]
    alone = scenes.known(pictures.Picture("b", "photo", b""), said)
    assert alone.scores.tolist() == [0.5, 0.5]
    assert alone.classes.sum(1).tolist() == [1.0, 1.0]


def test_objects_follow_their_picture_and_leave_with_its_edge() -> None:
    boxes = np.array([[0, 0, 10, 10], [8, 0, 28, 10], [20, 20, 21, 40]], np.float32)
    about = scenes.Known(boxes, np.ones(3, np.float32), np.zeros((3, 81), np.float32))
    moved = about.moved(np.array([2.0, 2.0]), np.array([5.0, 0.0]), (5, 0, 40, 100))
    assert moved.boxes.tolist() == [[5, 0, 25, 20]]  # half of the second is outside, one is thin
    assert len(moved.scores) == len(moved.classes) == 1


def test_calibration_makes_probabilities() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.01, 0.99, 4000)
    truth = 1 / (1 + np.exp(-(0.5 * np.log(scores / (1 - scores)) - 1)))
    slope, offset = calibrate.fit(scores, rng.random(4000) < truth)
    assert (slope, offset) == pytest.approx((0.5, -1), abs=0.1)
    bins = calibrate.reliability(truth, rng.random(4000) < truth)
    assert len(bins) == 5
    assert all(abs(b["score"] - b["right"]) < 0.05 for b in bins)
