import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wordsight.errors import ModelError
from wordsight.models.maskrcnn import Detections
from wordsight.regions import (
    Region,
    Tiles,
    crop_region,
    in_context,
    iou,
    load_proposer,
    non_maximum_suppression,
    propose,
    tiles,
)


class FakeDetector:
    """Gives the same detections for every image and remembers what it was given."""

    def __init__(self, boxes, scores, labels=None, masks=None):
        order = np.argsort(-np.array(scores, np.float32), kind="stable")
        self.found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(scores, np.float32)[order],
            [(labels or [None] * len(scores))[i] for i in order],
            None if masks is None else [masks[i] for i in order],
        )
        self.seen = []

    def __call__(self, image):
        self.seen.append(image)
        return self.found


def picture(width=200, height=100):
    return Image.new("RGB", (width, height), (10, 20, 30))


def one(detector, image=None, **options):
    return propose([image or picture()], detector, **options)[0]


def test_regions_come_best_first_with_label_and_score():
    detector = FakeDetector(
        [[10, 10, 40, 40], [100, 20, 150, 80]], [0.6, 0.9], labels=["cup", "dog"]
    )
    regions = one(detector, margin=0)
    assert [(r.label, round(r.score, 3), r.box) for r in regions] == [
        ("dog", 0.9, (100, 20, 150, 80)),
        ("cup", 0.6, (10, 10, 40, 40)),
    ]
    assert all(r.mask is None for r in regions)


def test_a_batch_of_several_sizes_gives_one_list_an_image():
    detector = FakeDetector([[10, 10, 40, 40]], [0.9])
    images = [picture(), picture(64, 300), np.zeros((50, 60), np.uint8)]
    assert [len(regions) for regions in propose(images, detector)] == [1, 1, 1]
    assert len(detector.seen) == 3
    assert propose([], detector) == []


def test_no_detections_give_an_empty_list():
    assert one(FakeDetector(np.zeros((0, 4)), [])) == []


def test_suppression_crosses_labels_and_keeps_the_better_box():
    detector = FakeDetector(
        [[10, 10, 60, 60], [12, 10, 62, 60], [100, 10, 150, 60]],
        [0.6, 0.8, 0.5],
        labels=["cat", "dog", "cat"],
    )
    assert [r.label for r in one(detector)] == ["dog", "cat"]
    assert len(one(detector, nms=1.01)) == 3


def test_at_most_two_of_one_name():
    boxes = [[i * 30, 0, i * 30 + 25, 25] for i in range(6)]
    names = ["cup", "cup", "cup", None, None, None]
    detector = FakeDetector(boxes, [0.9, 0.8, 0.7, 0.6, 0.6, 0.6], labels=names)
    assert [r.label for r in one(detector)] == ["cup", "cup", None, None, None]
    assert [r.label for r in one(detector, alike=1, limit=2)] == ["cup", None]


def test_limit_and_least_score():
    detector = FakeDetector([[i * 30, 0, i * 30 + 25, 25] for i in range(6)], [0.9] * 3 + [0.2] * 3)
    assert len(one(detector)) == 3  # what is more likely an object than none
    assert len(one(detector, min_score=0.1)) == 6
    assert len(one(detector, limit=2)) == 2
    assert one(detector, limit=0) == []


def test_tiny_boxes_and_those_of_more_than_half_the_image_are_dropped():
    detector = FakeDetector(
        [[0, 0, 200, 100], [5, 5, 9, 60], [50, 10, 120, 80], [2, 2, 130, 98]],
        [0.9, 0.9, 0.5, 0.9],
    )
    assert [r.score for r in one(detector, limit=1)] == [0.5]
    # A box that the margin makes as large as the image goes too.
    assert one(detector, margin=2) == []


def test_a_whole_image_box_suppresses_nothing():
    detector = FakeDetector([[0, 0, 200, 100], [10, 10, 170, 95]], [0.9, 0.5])
    assert [r.score for r in one(detector, margin=0, max_area=0.9)] == [0.5]


def test_an_image_smaller_than_the_least_side_is_not_given_to_the_detector():
    detector = FakeDetector([[0, 0, 5, 5]], [0.9])
    assert one(detector, picture(8, 8)) == []
    assert detector.seen == []


def test_margin_is_a_share_of_the_box_and_stays_in_the_image():
    detector = FakeDetector([[50, 40, 100, 60], [0, 0, 20, 20]], [0.9, 0.8])
    first, second = one(detector, margin=0.2, least=0)
    assert first.box == pytest.approx((40, 36, 110, 64))
    assert second.box == pytest.approx((0, 0, 24, 24))


def test_specks_are_widened_about_their_middle_and_stay_in_the_image():
    detector = FakeDetector([[90, 40, 110, 60], [0, 86, 14, 100]], [0.9, 0.8])
    middle, corner = one(detector, margin=0, least=0.4)  # of a short side of 100 pixels
    assert middle.box == pytest.approx((80, 30, 120, 70))
    assert corner.box == pytest.approx((0, 60, 40, 100))
    # Two specks side by side are then one crop.
    near = FakeDetector([[90, 40, 110, 60], [94, 40, 114, 60]], [0.9, 0.8])
    assert len(one(near, least=0.4)) == 1


def test_a_crop_in_context_lies_between_itself_and_its_image():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole, crops = vectors[0], vectors[1:]
    mixed = in_context(crops, whole)
    assert mixed.dtype == np.float32
    assert np.linalg.norm(mixed, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert ((mixed @ whole) > (crops @ whole)).all()
    assert ((mixed * crops).sum(axis=1) > crops @ whole).all()
    assert in_context(whole, whole) == pytest.approx(whole, abs=1e-6)


@given(
    st.lists(
        st.tuples(
            st.floats(-20, 220), st.floats(-20, 120), st.floats(0, 250), st.floats(0, 150),
            st.floats(0, 1),
        ),
        max_size=12,
    ),
    st.floats(0, 1),
)  # fmt: skip
def test_regions_always_lie_in_the_image(rows, margin):
    boxes = [
        (min(max(x, 0), 200), min(max(y, 0), 100), min(x + w, 200), min(y + h, 100))
        for x, y, w, h, _ in rows
    ]
    for region in one(FakeDetector(boxes, [r[4] for r in rows]), margin=margin):
        x0, y0, x1, y1 = region.box
        assert 0 <= x0 < x1 <= 200
        assert 0 <= y0 < y1 <= 100
        assert crop_region(picture(), region).size >= (1, 1)


# Overlap


def naive_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def naive_suppression(boxes, scores, threshold):
    keep = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(naive_iou(boxes[i], boxes[j]) < threshold for j in keep):
            keep.append(i)
    return keep


whole = st.integers(0, 40)
some_boxes = st.lists(
    st.tuples(whole, whole, st.integers(0, 30), st.integers(0, 30), st.integers(0, 8)), max_size=15
)


@given(some_boxes, st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_suppression_equals_the_naive_one(rows, threshold):
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in rows]
    scores = [s / 8 for *_, s in rows]
    array = np.array(boxes, np.float32).reshape(-1, 4)
    overlaps = iou(array, array)
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            assert overlaps[i, j] == pytest.approx(naive_iou(a, b))
    kept = non_maximum_suppression(array, np.array(scores, np.float32), threshold)
    assert kept == naive_suppression(boxes, scores, threshold)


# Tiles


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([None, 0, 5, 20, 60]))
def test_tiles_lie_in_the_image_differ_and_keep_to_the_limit(width, height, limit):
    boxes = tiles(width, height, limit)
    assert len(set(boxes)) == len(boxes)
    assert limit is None or len(boxes) <= limit
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert min(x1 - x0, y1 - y0) >= 31
        assert (x1 - x0, y1 - y0) != (width, height)


@given(st.integers(32, 900), st.integers(32, 900))
def test_each_level_of_tiles_covers_the_image(width, height):
    levels = {}
    for x0, y0, x1, y1 in tiles(width, height):
        levels.setdefault((x1 - x0) // 4, []).append((x0, y0, x1, y1))
    if not levels:
        assert min(width, height) < 54 or max(width, height) < 54
        return
    covered = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in tiles(width, height):
        covered[int(y0) : int(y1), int(x0) : int(x1)] = True
    assert covered.all()


def test_tiles_by_size_of_the_image():
    assert tiles(32, 32) == []
    assert len(tiles(128, 128)) == 4 + 9
    assert len(tiles(512, 512)) == 4 + 9 + 16 + 25
    assert len(tiles(512, 512, 20)) == 4 + 9
    assert len(tiles(640, 480, 6)) == len(tiles(640, 427, 6)) == 4
    assert len(tiles(1920, 1080, 6)) == 6
    assert tiles(800, 400)[:2] == [(0, 0, 480, 400), (320, 0, 800, 400)]
    # Any square a sixth of the side long lies whole in some tile.
    side = 512 // 6
    for x in range(0, 512 - side, 16):
        for y in range(0, 512 - side, 16):
            assert any(
                a <= x and b <= y and x + side <= c and y + side <= d
                for a, b, c, d in tiles(512, 512)
            )


def test_tiles_are_proposed_by_the_same_function():
    regions = propose([picture(128, 128), picture(32, 32)], "tiles")
    assert [len(r) for r in regions] == [4, 0]
    assert {r.score for r in regions[0]} == {1.0}
    assert isinstance(load_proposer("tiles"), Tiles)


def test_an_unknown_proposer_is_named():
    with pytest.raises(ModelError, match="no-such-thing"):
        propose([picture()], "./no-such-thing")


# Masks


def half_mask():
    """28 x 28, the left half belongs to the object."""
    mask = np.zeros((28, 28), np.float32)
    mask[:, :14] = 1
    return mask


def test_masks_come_when_asked_for_and_follow_the_margin():
    detector = FakeDetector([[50, 20, 78, 48]], [0.9], masks=[half_mask()])
    assert one(detector)[0].mask is None
    (tight,) = one(detector, masks=True, margin=0, least=0)
    np.testing.assert_array_equal(tight.mask, half_mask())
    (padded,) = one(detector, masks=True, margin=0.25)
    assert padded.box == (43, 13, 85, 55)
    assert padded.mask.shape == (42, 42)
    expected = np.zeros((42, 42), np.float32)
    expected[7:35, 7:21] = 1
    np.testing.assert_allclose(padded.mask, expected, atol=1e-6)


@pytest.mark.parametrize("background", ["grey", "blur"])
def test_background_is_changed_and_the_object_is_not(background):
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    region = Region((50, 20, 78, 48), 0.9, mask=half_mask())
    plain = np.asarray(crop_region(image, region)).astype(int)
    changed = np.asarray(crop_region(image, region, background=background)).astype(int)
    assert changed.shape == plain.shape == (28, 28, 3)
    np.testing.assert_array_equal(changed[:, :13], plain[:, :13])
    assert changed[:, 15:].std() < 0.5 * plain[:, 15:].std()
    if background == "grey":
        assert (changed[:, 15:] == changed[0, 20]).all()


def test_without_a_mask_the_background_is_kept():
    image, region = picture(), Region((50.5, 20, 78, 48.2), 0.9)
    assert crop_region(image, region, background="grey").size == (28, 29)


def test_an_unknown_background_is_refused():
    with pytest.raises(ValueError, match="grey or blur"):
        crop_region(picture(), Region((0, 0, 28, 28), 0.9, mask=half_mask()), background="pink")
