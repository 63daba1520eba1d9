"""CLIP models: parity with the reference implementation, preprocessing, texts, towers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import CLIP_MEAN, CLIP_STD, make_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wordsight.errors import ModelError
from wordsight.models.clip import ClipModel, preprocess, tokenizer
from wordsight.models.clip import model as clip
from wordsight.runtime.graph import open_graph

RUNTIMES = ["openvino", "onnxruntime"]


def has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


# -- parity with open_clip ------------------------------------------------------------------------


class Golden:
    """The outputs of the reference implementation for the shared random CLIP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        golden = folder / "golden"
        names = json.loads((golden / "golden.json").read_text(encoding="utf-8"))
        self.prompts: list[str] = names["prompts"]
        # Without transparency: the reference forgets it, wordsight lays such pictures on white.
        self.images = [Image.open(golden / "images" / n).convert("RGB") for n in names["images"]]
        self.token_ids = np.load(golden / "token_ids.npy")
        self.text_vectors = np.load(golden / "text_vectors.npy")
        self.image_vectors = np.load(golden / "image_vectors.npy")


@pytest.fixture
def golden(test_models: Path) -> Golden:
    return Golden(test_models / "tiny-clip-random")


def test_token_ids_are_those_of_the_reference(golden: Golden) -> None:
    model = ClipModel(golden.folder)
    assert np.array_equal(model.token_ids(golden.prompts), golden.token_ids)


@pytest.mark.parametrize("name", RUNTIMES)
def test_vectors_are_those_of_the_reference(golden: Golden, name: str) -> None:
    model = ClipModel(golden.folder, runtime=name, precision="fp32")
    images, texts = model.encode_images(golden.images), model.encode_texts(golden.prompts)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(images, golden.image_vectors, atol=1e-5)
    np.testing.assert_allclose(texts, golden.text_vectors, atol=1e-5)


@pytest.mark.parametrize("tower", ["images", "texts"])
def test_bf16_stays_close_to_the_reference(golden: Golden, tower: str) -> None:
    if not has_bf16():
        pytest.skip("this CPU has no bf16")
    model = ClipModel(golden.folder, runtime="openvino", precision="bf16")
    if tower == "images":
        found, wanted = model.encode_images(golden.images), golden.image_vectors
    else:
        found, wanted = model.encode_texts(golden.prompts), golden.text_vectors
    assert (found * wanted).sum(axis=1).min() >= 0.999
    # Random weights make everything alike (cosines above 0.97), so also: what bf16 changes must
    # be small beside the differences between the vectors.
    spread = np.linalg.norm(wanted - wanted.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(found - wanted, axis=1).max() < 0.1 * spread


@pytest.mark.parametrize("name", RUNTIMES)
def test_batches_of_any_size_agree(golden: Golden, name: str) -> None:
    model = ClipModel(golden.folder, runtime=name, precision="fp32")
    images = [golden.images[i % 7] for i in range(clip.IMAGE_BATCH + 5)]
    prompts = [golden.prompts[i % 10] for i in range(clip.TEXT_BATCH + 3)]
    one_by_one = np.stack([golden.image_vectors[i % 7] for i in range(len(images))])
    np.testing.assert_allclose(model.encode_images(images), one_by_one, atol=1e-5)
    one_by_one = np.stack([golden.text_vectors[i % 10] for i in range(len(prompts))])
    np.testing.assert_allclose(model.encode_texts(prompts), one_by_one, atol=1e-5)


@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (4, [4]), (5, [3, 2]), (9, [3, 3, 3])])
def test_no_image_is_left_over_for_a_batch_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, parts: list[int]
) -> None:
    monkeypatch.setattr(clip, "IMAGE_BATCH", 4)
    model = ClipModel(make_clip(tmp_path / "m"))
    sizes: list[int] = []
    normalise = model.normalise

    def noted(pixels: Any) -> Any:
        sizes.append(len(pixels))
        return normalise(pixels)

    monkeypatch.setattr(model, "normalise", noted)
    assert model.encode_pixels(np.zeros((count, 16, 16, 3), np.uint8)).shape == (count, 8)
    assert sizes == parts


def test_facts_of_the_reference_model(golden: Golden) -> None:
    model = ClipModel(golden.folder)
    assert (model.name, model.dim, model.image_size) == ("tiny-clip-random", 64, (224, 224))
    assert (model.logit_scale, model.logit_bias) == (100.0, None)
    assert model.preprocessing.startswith("shortest 224x224 bicubic mean 0.4815/")
    assert [model.truncated(prompt) for prompt in golden.prompts].index(True) == 3
    assert len(model.hash) == 16


# -- images ---------------------------------------------------------------------------------------


def odd_images() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    picture = Image.fromarray(rgb)
    deep = Image.fromarray(rng.integers(0, 65536, (20, 30), np.uint16))
    return {
        "1x1": Image.new("RGB", (1, 1), (1, 2, 3)),
        "strip": Image.new("RGB", (5000, 1), (9, 9, 9)),
        "grey": picture.convert("L"),
        "bilevel": picture.convert("1"),
        "palette": picture.convert("P"),
        "alpha": picture.convert("RGBA"),
        "grey alpha": picture.convert("LA"),
        "16 bit": deep,
        "CMYK": picture.convert("CMYK"),
        "array": rgb,
        "grey array": rgb[..., 0],
        "float array": (rgb / 255).astype(np.float32),
    }


@pytest.mark.parametrize("name", RUNTIMES)
def test_odd_images_encode(tmp_path: Path, name: str) -> None:
    model = ClipModel(make_clip(tmp_path / "m"), runtime=name)
    vectors = model.encode_images(list(odd_images().values()))
    assert vectors.shape == (len(odd_images()), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_same_picture_in_other_clothes(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m"))
    images = odd_images()
    plain = model.preprocess(images["array"])
    np.testing.assert_array_equal(model.preprocess(images["float array"]), plain)
    np.testing.assert_array_equal(model.preprocess(images["alpha"]), plain)
    eight_bit = Image.fromarray((np.asarray(images["16 bit"]) // 257).astype(np.uint8))
    off = model.preprocess(images["16 bit"]).astype(int) - model.preprocess(eight_bit)
    assert np.abs(off).max() <= 3


def test_pixels_and_images_give_the_same_vectors(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m"))
    images = list(odd_images().values())
    pixels = np.stack([model.preprocess(image) for image in images])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (len(images), 16, 16, 3)
    assert np.array_equal(model.encode_pixels(pixels), model.encode_images(images))
    assert np.array_equal(model.encode_pixels(list(pixels)), model.encode_pixels(pixels))
    for wrong in (pixels[:, :8], pixels[0], model.normalise(pixels)):
        with pytest.raises(ValueError, match="images must be uint8"):
            model.encode_pixels(wrong)


@pytest.fixture(scope="module")
def models_by_mode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClipModel]:
    root = tmp_path_factory.mktemp("modes")
    return {
        mode: ClipModel(make_clip(root / mode, size=12, preprocess={"resize_mode": mode}))
        for mode in ("shortest", "squash", "longest")
    }


def fed(model: ClipModel, image: Image.Image, full: tuple[int, int] | None = None) -> np.ndarray:
    """What the graph is given for an image."""
    return model.normalise(model.preprocess(image, full)[None])[0]


def reference(image: Image.Image, size: int, mode: str) -> np.ndarray:
    """torchvision's steps as open_clip composes them, written out without care for speed."""
    w, h = image.size
    if mode == "squash":
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    elif mode == "shortest":
        new = (size, int(size * h / w)) if w <= h else (int(size * w / h), size)
        image = image.resize(new, Image.Resampling.BICUBIC)
        left, top = (round((side - size) / 2.0) for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    else:
        ratio = max(w, h) / size
        new = (max(1, round(w / ratio)), max(1, round(h / ratio)))
        small = image.resize(new, Image.Resampling.BICUBIC)
        image = Image.new("RGB", (size, size))
        image.paste(small, ((size - new[0]) // 2, (size - new[1]) // 2))
    pixels = np.asarray(image, np.float64) / 255
    return ((pixels - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    mode=st.sampled_from(["shortest", "squash", "longest"]),
    seed=st.integers(0, 99),
)
def test_preprocessing_is_the_reference(
    models_by_mode: dict[str, ClipModel], width: int, height: int, mode: str, seed: int
) -> None:
    if mode == "shortest" and max(width, height) > preprocess.MAX_ASPECT * min(width, height):
        return  # the ends are cut off first: see the next test
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    found = fed(models_by_mode[mode], image)
    np.testing.assert_allclose(found, reference(image, 12, mode), atol=1e-5)


@pytest.mark.parametrize("mode", ["shortest", "longest"])
@pytest.mark.parametrize(("full", "factor"), [((479, 240), 20), ((240, 479), 20), ((601, 400), 9)])
def test_a_reduced_image_is_cut_where_the_original_is(
    models_by_mode: dict[str, ClipModel], mode: str, full: tuple[int, int], factor: int
) -> None:
    # A slope along each axis: what is cut off at the ends shows in every pixel.
    across, down = (np.linspace(0, 255, side) for side in full)
    planes = np.broadcast_arrays(across[None, :], down[:, None], 128)
    image = Image.fromarray(np.stack(planes, 2).astype(np.uint8))
    small = image.resize(tuple(-(-side // factor) for side in full), Image.Resampling.BOX)
    expected = fed(models_by_mode[mode], image)
    found = fed(models_by_mode[mode], small, full)
    assert np.abs(found - expected).mean() < 0.02
    if mode == "shortest" and factor == 20:  # 24 x 12 pixels by its own size, where 23 x 12 is due
        assert np.abs(fed(models_by_mode[mode], small) - expected).mean() > 0.02


@pytest.mark.parametrize("shape", [(2000, 3), (3, 2000)])
def test_far_ends_of_a_strip_are_cut_off_first(
    models_by_mode: dict[str, ClipModel], shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = Image.fromarray(pixels)
    found = fed(models_by_mode["shortest"], image)
    np.testing.assert_allclose(found, reference(image, 12, "shortest"), atol=1e-5)


def test_a_strip_does_not_become_gigabytes(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m", size=224))
    strip = Image.new("RGB", (60_000, 1), (50, 100, 150))
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *args: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", watched)
        model.preprocess(strip)
    assert sizes == [(224 * preprocess.MAX_ASPECT, 224)]


def test_images_that_are_not_square(tmp_path: Path) -> None:
    for mode in ("shortest", "longest", "squash"):
        folder = make_clip(tmp_path / mode, size=[10, 20], preprocess={"resize_mode": mode})
        model = ClipModel(folder)
        assert model.image_size == (10, 20)
        assert model.preprocess(Image.new("RGB", (33, 7))).shape == (10, 20, 3)
        assert model.encode_images([Image.new("RGB", (7, 33), "red")]).shape == (1, 8)


# -- texts ----------------------------------------------------------------------------------------


def words(model: ClipModel, text: str) -> list[int]:
    ids = model.token_ids([text])[0].tolist()
    return [i for i in ids if i > 2]


def test_texts_are_cleaned_as_clip_was_trained(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m"))
    plain = words(model, "a red dog .")
    for text in ("  a\tRED \n dog  . ", "a red&nbsp;dog .", "A  Red dog&amp;#46;"):
        assert words(model, text) == plain, text
    assert words(model, "the dogâ€™s") == words(model, "the dog's")  # mojibake, mended


def test_siglip_texts_lose_punctuation_and_case(tmp_path: Path) -> None:
    kind = {"tokenizer_kwargs": {"clean": "canonicalize"}, "hf_tokenizer_name": "x"}
    model = ClipModel(make_clip(tmp_path / "m", text_config=kind))
    assert words(model, "A Red, dog.") == words(model, "a red dog")
    assert words(model, "a_dog") == words(model, "a dog")


def test_other_tokenizers_keep_the_case(tmp_path: Path) -> None:
    kind = {"hf_tokenizer_name": "xlm-roberta-base"}
    cased = ClipModel(make_clip(tmp_path / "cased", text_config=kind))
    lower = ClipModel(make_clip(tmp_path / "lower"))
    assert words(cased, "Red") != words(cased, "red")
    assert words(lower, "Red") == words(lower, "red")


def test_special_tokens_in_a_prompt_are_plain_text(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m"))
    ids = model.token_ids(["a <end> dog"])[0].tolist()
    assert ids.count(2) == 1
    assert ids.index(2) > 3


def test_long_texts_are_cut_and_still_end(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m", context=6))
    ids = model.token_ids(["a dog a dog a dog a dog", "a dog", ""])
    assert ids.shape == (3, 6)
    assert ids[0, -1] == 2
    assert ids[1].tolist()[3:] == [2, 0, 0]
    assert ids[2].tolist() == [1, 2, 0, 0, 0, 0]
    assert model.truncated("a dog a dog a dog a dog")
    assert not model.truncated("a dog a dog")


LENGTHS = ["a", "a dog", "the Red dog, a cat", "", "a photo of the dog . a cat", "a dog " * 9]


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize(
    ("inputs", "places", "trims"),
    [
        (("text", "attention_mask"), False, True),
        (("text",), False, False),  # padding counts, as in SigLIP
        (("text", "attention_mask"), True, False),  # runs on its own length only
    ],
)
def test_texts_are_padded_no_further_than_they_must(
    tmp_path: Path, name: str, batch: int | str, inputs: tuple[str, ...], places: bool, trims: bool
) -> None:
    folder = make_clip(tmp_path / "m", context=12, text_inputs=inputs, places=places, batch=batch)
    model = ClipModel(folder, runtime=name)
    whole = open_graph(folder / "textual/model.onnx", runtime=name, any_batch=True)
    ids = model.token_ids(LENGTHS)
    feeds = {"text": ids, "attention_mask": (ids > 0).astype(int)}
    expected = whole({name: feeds[name] for name in inputs})["embedding"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for _ in range(2):  # the second time by what the cache says
        np.testing.assert_allclose(model.encode_texts(LENGTHS), expected, atol=1e-6)
        assert model._textual.inputs["text"].shape == (None, None if trims else 12)
        model.release_texts()


def test_the_starter_gives_short_texts_the_vectors_of_its_whole_context() -> None:
    from wordsight.models import STARTER_FOLDER

    texts = ["a", "a dog on a beach", "", "two dogs " * 40, *(f"thing {i}" for i in range(70))]
    model = ClipModel(STARTER_FOLDER)
    whole = open_graph(STARTER_FOLDER / "textual/model.onnx", cold=True)
    expected = whole({"text": model.token_ids(texts)})["embedding"]
    np.testing.assert_allclose(model.encode_texts(texts), expected, atol=1e-6)
    assert model._textual.inputs["text"].shape == (None, None)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=5))
def test_any_text_encodes(models_by_mode: dict[str, ClipModel], texts: list[str]) -> None:
    vectors = models_by_mode["squash"].encode_texts(texts)
    assert vectors.shape == (len(texts), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(max_codepoint=127), max_size=40))
def test_ftfy_is_skipped_only_where_it_changes_nothing(text: str) -> None:
    import ftfy

    if not tokenizer._MAYBE_BROKEN.search(text):
        assert " ".join(ftfy.fix_text(text).split()) == " ".join(text.split())


def test_a_single_string_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a list of texts"):
        ClipModel(make_clip(tmp_path / "m")).encode_texts("dog")


# -- towers ---------------------------------------------------------------------------------------


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    model = ClipModel(make_clip(tmp_path / "m"))
    for vectors in (
        model.encode_images([]),
        model.encode_texts([]),
        model.encode_pixels(np.empty((0, 16, 16, 3), np.uint8)),
    ):
        assert vectors.shape == (0, 8)
        assert vectors.dtype == np.float32


def test_only_the_tower_in_use_is_loaded(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    (folder / "visual/model.onnx").write_bytes(b"broken")
    model = ClipModel(folder)
    assert model.encode_texts(["a dog"]).shape == (1, 8)
    with pytest.raises(ModelError, match=r"visual.model\.onnx: this is not a complete ONNX graph"):
        model.encode_images([Image.new("RGB", (3, 3))])


def test_a_released_text_tower_is_opened_again(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    model = ClipModel(folder)
    before = model.encode_texts(["a dog"])
    model.release_texts()
    np.testing.assert_array_equal(model.encode_texts(["a dog"]), before)
    model.release_texts()
    (folder / "textual/model.onnx").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"textual.model\.onnx"):
        model.encode_texts(["a dog"])


@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_share_a_model(tmp_path: Path, name: str) -> None:
    model = ClipModel(make_clip(tmp_path / "m"), runtime=name)
    images = [Image.new("RGB", (16, 16), (i, 5 * i, 255 - i)) for i in range(40)]
    texts = ["a dog", "the red cat", "", "a photo of a dog"] * 10
    start = threading.Barrier(8)

    def work(i: int) -> tuple[np.ndarray, np.ndarray]:
        start.wait()
        return model.encode_images(images[i::4]), model.encode_texts(texts[i::4])

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    alone = ClipModel(model.path, runtime=name)
    for i, (vectors, text_vectors) in enumerate(results):
        np.testing.assert_allclose(vectors, alone.encode_images(images[i::4]), atol=1e-6)
        np.testing.assert_allclose(text_vectors, alone.encode_texts(texts[i::4]), atol=1e-6)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_a_graph_of_one_batch_size(tmp_path: Path, name: str, count: int) -> None:
    fixed = ClipModel(make_clip(tmp_path / "fixed", batch=4), runtime=name)
    free = ClipModel(make_clip(tmp_path / "free"), runtime=name)
    images = [Image.new("RGB", (9, 9), (i, 3 * i, 0)) for i in range(count)]
    texts = ["a dog", "cat"] * count
    np.testing.assert_allclose(fixed.encode_images(images), free.encode_images(images), atol=1e-6)
    np.testing.assert_allclose(fixed.encode_texts(texts), free.encode_texts(texts), atol=1e-6)


def test_a_text_tower_with_an_attention_mask(tmp_path: Path) -> None:
    names = ("input_ids", "attention_mask")
    model = ClipModel(make_clip(tmp_path / "m", text_inputs=names))
    longer = ClipModel(make_clip(tmp_path / "n", text_inputs=names, context=8))
    assert model.encode_texts(["a dog"]).shape == (1, 8)
    np.testing.assert_allclose(
        model.encode_texts(["a dog"]), longer.encode_texts(["a dog"]), atol=1e-6
    )


def test_runtimes_and_precisions_share_one_identity(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    first = ClipModel(folder, runtime="openvino").hash
    assert ClipModel(folder, runtime="onnxruntime", precision="fp32").hash == first
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "logit_scale": 20}))
    assert ClipModel(folder).hash != first


# -- what the files say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "scale", "bias"),
    [
        ({}, 100, None),
        ({"logit_scale": 14.3}, 14.3, None),
        ({"logit_scale": 7}, 7, None),
        ({"logit_scale": 4.6052}, 100, None),
        ({"init_logit_scale": 2.6593}, 100, None),
        ({"init_logit_bias": -10, "init_logit_scale": 2.3026}, 10, -10),
        ({"init_logit_bias": -10}, 100, -10),
        ({"logit_scale": 117.3, "logit_bias": -12.9, "init_logit_bias": -10}, 117.3, -12.9),
    ],
)
def test_scale_and_bias(
    tmp_path: Path, config: dict[str, float], scale: float, bias: float | None
) -> None:
    model = ClipModel(make_clip(tmp_path / "m", config=config))
    assert model.logit_scale == pytest.approx(scale, rel=1e-3)
    assert model.logit_bias == bias


def test_not_a_model_directory(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    (folder / "textual/tokenizer.json").unlink()
    with pytest.raises(
        ModelError, match=r"not a complete CLIP model directory \(textual/tokenizer.json"
    ):
        ClipModel(folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "{", r"config\.json: not JSON"),
        ("config.json", "[]", r"config\.json: a JSON object is expected"),
        ("config.json", '{"text_cfg": {}}', "makes no sense"),
        ("config.json", '{"embed_dim": "many"}', "makes no sense"),
        ("config.json", '{"embed_dim": 8, "logit_scale": "big"}', "makes no sense"),
        ("config.json", '{"embed_dim": -1}', "makes no sense"),
        ("config.json", '{"embed_dim": 1e999}', "makes no sense"),
        ("config.json", '{"embed_dim": 8, "text_cfg": {"context_length": 1}}', "makes no sense"),
        (
            "config.json",
            '{"embed_dim": 8, "text_cfg": {"tokenizer_kwargs": {"clean": "x"}}}',
            "no sense",
        ),
        ("visual/preprocess_cfg.json", '{"size": 16, "mean": [0], "std": [0]}', "makes no sense"),
        ("visual/preprocess_cfg.json", '{"size": 0, "mean": [0], "std": [1]}', "makes no sense"),
        ("visual/preprocess_cfg.json", '{"size": 1e9, "mean": [0], "std": [1]}', "makes no sense"),
        ("visual/preprocess_cfg.json", '{"size": 16, "mean": [NaN], "std": [1]}', "no sense"),
        (
            "visual/preprocess_cfg.json",
            '{"size": 16, "mean": [0], "std": [1], "resize_mode": "sideways"}',
            "makes no sense",
        ),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = make_clip(tmp_path / "m")
    (folder / file).write_text(text)
    with pytest.raises(ModelError, match=message):
        ClipModel(folder)


def test_a_tokenizer_that_makes_no_sense(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    (folder / "textual/tokenizer_config.json").write_text('{"pad_token": "<none such>"}')
    with pytest.raises(ModelError, match=r"'<none such>' is not in tokenizer\.json"):
        ClipModel(folder).encode_texts(["a dog"])
    (folder / "textual/tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        ClipModel(folder).encode_texts(["a dog"])


@pytest.mark.parametrize("name", RUNTIMES)
def test_graphs_of_another_signature(tmp_path: Path, name: str) -> None:
    image = [Image.new("RGB", (3, 3))]
    other = make_clip(tmp_path / "other", image_input="pixels", text_inputs=("tokens",))
    model = ClipModel(other, runtime=name)
    with pytest.raises(ModelError, match=r"input image or .* \[N, 3, 16, 16\], found pixels"):
        model.encode_images(image)
    with pytest.raises(ModelError, match=r"input text or .* \[N, 8\] .*found tokens"):
        model.encode_texts(["a"])
    for key, value in (("context", 9), ("dim", 5), ("size", 8)):
        folder = make_clip(tmp_path / f"{name}-{key}")
        wrong = make_clip(tmp_path / f"{name}-{key}-2", **{key: value})  # type: ignore[arg-type]
        for tower in ("visual", "textual"):
            (folder / tower / "model.onnx").write_bytes((wrong / tower / "model.onnx").read_bytes())
        model = ClipModel(folder, runtime=name)
        if key != "size":
            with pytest.raises(ModelError, match=r"expected the input|do not fit together"):
                model.encode_texts(["a"])
        if key != "context":
            with pytest.raises(ModelError, match=r"expected the input|do not fit together"):
                model.encode_images(image)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_vectors_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "model", preprocess={"std": [1e-42] * 3})
    with pytest.raises(ModelError, match=r"not finite, in fp32 on onnxruntime; try"):
        ClipModel(folder, runtime="onnxruntime").encode_images([Image.new("RGB", (16, 16), "red")])


def test_a_cased_tokenizer_keeps_the_case(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "m")
    lowered = ClipModel(folder).token_ids(["Red CAR"])
    config = {"pad_token": "<pad>", "tokenizer_class": "XLMRobertaTokenizer"}
    (folder / "textual/tokenizer_config.json").write_text(json.dumps(config))
    model = ClipModel(folder)
    assert not np.array_equal(model.token_ids(["Red CAR"]), lowered)
    assert not np.array_equal(model.token_ids(["Red"]), model.token_ids(["red"]))
