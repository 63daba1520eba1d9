"""Zero-shot classification: numbers against naive references, words, odd requests."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fakes import ColourModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

import wordsight
from wordsight.classify import (
    ENSEMBLE,
    OWN_SHARE,
    Classifier,
    check_template,
    fit_temperature,
    label_vectors,
    needed_evidence,
    prompts,
    read_labels,
    sigmoid,
    softmax,
)
from wordsight.errors import ImageError, QueryError

floats = st.floats(-50, 50, width=32)


@given(st.lists(st.lists(floats, min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_and_sigmoid_are_the_naive_ones(rows: list[list[float]]) -> None:
    logits = np.array(rows, np.float32)
    naive = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in rows]
    np.testing.assert_allclose(softmax(logits), naive, atol=1e-5)
    each = [[1 / (1 + math.exp(-v)) for v in row] for row in rows]
    np.testing.assert_allclose(sigmoid(logits), each, atol=1e-5)


def test_public_function_by_the_documented_names() -> None:
    red = Image.new("RGB", (32, 32), (220, 20, 20))
    found = wordsight.classify([red], labels=["red", "blue"], model=ColourModel())  # type: ignore[arg-type]
    assert found[0].top[0].label == "red"
    assert 0.5 < found[0].top[0].confidence <= 1
    assert found[0].none_of_these is False
    assert found[0].label == "red"


def test_one_path_is_one_image(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (32, 32), (220, 20, 20)).save(path)
    for one in (path, str(path)):
        found = wordsight.classify(one, ["red", "blue"], model=ColourModel())  # type: ignore[arg-type]
        assert [judged.label for judged in found] == ["red"]


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (7, 400)])
def test_small_odd_and_blurry_images(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (20, 20, 220)).filter(ImageFilter.GaussianBlur(3))
    found = wordsight.classify(
        [image, image.convert("RGBA"), np.asarray(image)],
        labels=["red", "blue", "green"],
        model=ColourModel(),  # type: ignore[arg-type]
    )
    assert [f.top[0].label for f in found] == ["blue"] * 3


def test_confidences_are_the_softmax_of_the_models_scale() -> None:
    model = ColourModel()
    classifier = Classifier(model, ["red", "blue"])  # type: ignore[arg-type]
    image = model.encode_images([Image.new("RGB", (9, 9), (200, 30, 40))])
    text = model.encode_texts(["a photo of a red.", "a photo of a blue."])
    cosine = (image @ text.T)[0]
    naive = [math.exp(model.logit_scale * c) for c in cosine]
    np.testing.assert_allclose(
        classifier.confidences(image)[0], np.array(naive) / sum(naive), atol=1e-5
    )


def test_sigmoid_models_judge_each_label_by_itself() -> None:
    model = ColourModel()
    model.logit_bias = -10.0
    classifier = Classifier(model, ["red", "blue"])  # type: ignore[arg-type]
    image = model.encode_images([Image.new("RGB", (9, 9), (200, 30, 40))])
    text = model.encode_texts(["a photo of a red.", "a photo of a blue."])
    naive = [1 / (1 + math.exp(-(model.logit_scale * c - 10))) for c in (image @ text.T)[0]]
    np.testing.assert_allclose(classifier.confidences(image)[0], naive, atol=1e-5)


def test_ensemble_is_the_renormalised_mean() -> None:
    model = ColourModel()
    templates = ["a photo of a {}.", "the {label}", "{}"]
    got = label_vectors(model, ["red", "sea_horse"], templates)  # type: ignore[arg-type]
    for row, word in zip(got, ["red", "sea horse"], strict=True):
        mean = model.encode_texts([f"a photo of a {word}.", f"the {word}", word]).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_text_vectors_of_a_label_set_are_kept() -> None:
    model = ColourModel()
    first = label_vectors(model, read_labels("caltech101"))  # type: ignore[arg-type]
    model.encode_texts = None  # type: ignore[assignment, method-assign]
    again = label_vectors(model, read_labels("caltech101"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, again)


def test_none_of_these_is_rare_for_strangers_at_the_stated_rate() -> None:
    """Images whose scores are all noise get a label no more often than was stated."""
    model = ColourModel()
    labels = [f"thing {i}" for i in range(10)]
    rng = np.random.default_rng(1)
    strangers = rng.normal(size=(2000, model.dim)).astype(np.float32)
    strangers[:, :6] = 0
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    judged = Classifier(model, labels, false_accept=0.05).judge(strangers)  # type: ignore[arg-type]
    assert np.mean([not j.none_of_these for j in judged]) <= 0.08
    closed = Classifier(model, labels, closed=True).judge(strangers)  # type: ignore[arg-type]
    assert not any(j.none_of_these for j in closed)


def test_an_image_must_come_near_enough_to_what_the_labels_own_words_reach() -> None:
    model = ColourModel()
    made = Classifier(model, ["red", "blue"])  # type: ignore[arg-type]
    own = made.evidence(model.encode_texts(["a photo of a red.", "a photo of a blue."])).mean()
    assert made.needed == pytest.approx(max(needed_evidence(2, 0.05), OWN_SHARE * own), rel=1e-5)


def test_needed_evidence_grows_with_the_number_of_labels() -> None:
    assert needed_evidence(1, 0.05) == pytest.approx(1.645, abs=1e-3)
    assert needed_evidence(2, 0.05) < needed_evidence(10, 0.05) < needed_evidence(1000, 0.05)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.2, 5), st.integers(0, 100))
def test_fitted_temperature_is_that_of_the_grid(true: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(400, 5)).astype(np.float32) * 3
    drawn = np.array([rng.choice(5, p=row) for row in softmax(logits / np.float32(true))])
    got = fit_temperature(logits, drawn)

    def loss(t: float) -> float:
        return -float(np.mean(np.log(softmax(logits / t)[np.arange(400), drawn] + 1e-30)))

    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 400))
    assert loss(got) <= min(loss(t) for t in grid) + 1e-4


def test_labels_from_everywhere(tmp_path: Path) -> None:
    assert read_labels("cifar10")[:2] == ["airplane", "automobile"]
    assert len(read_labels("caltech101")) == 101
    assert len(read_labels("imagenet")) == 1000
    assert read_labels(" dog , cat,car") == ["dog", "cat", "car"]
    (tmp_path / "l.txt").write_text("# mine\none thing\n\nanother\n")
    assert read_labels(tmp_path / "l.txt") == ["one thing", "another"]
    assert read_labels(["a", "b"]) == ["a", "b"]
    assert read_labels("dog") == read_labels(["dog"]) == ["dog"]
    assert 200 <= len(read_labels("everyday")) <= 250
    many = [f"label {n}" for n in range(100)]
    assert read_labels(",".join(many)) == many  # more than a file's name may have


@pytest.mark.parametrize("labels", [",", [" "], [], ["a", "a"], "none.txt", "a/b", "imagnet"])
def test_bad_labels(labels: str | list[str]) -> None:
    with pytest.raises(QueryError) as error:
        read_labels(labels)
    assert "--labels" not in str(error.value)  # the page and programs have no such option


def test_templates() -> None:
    assert prompts("yin_yang", ["a {}.", "the {label}"]) == ["a yin yang.", "the yin yang"]
    with pytest.raises(QueryError, match="no place for the label"):
        check_template("a photo")
    assert all(check_template(t) for t in ENSEMBLE)
    assert len(set(ENSEMBLE)) == len(ENSEMBLE)


def test_an_unreadable_file_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no")
    with pytest.raises(ImageError, match=r"x\.png"):
        wordsight.classify([tmp_path / "x.png"], ["a", "b"], model=ColourModel())  # type: ignore[arg-type]
