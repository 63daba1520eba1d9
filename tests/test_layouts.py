"""Model directories in transformers' layout: the same vectors as in open_clip's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import make_clip, to_transformers
from hub_standin import StandIn, serve
from PIL import Image

from wordsight.errors import HubError, ModelError
from wordsight.models import fetch_model, load_model, registry
from wordsight.models.clip import ClipModel, layouts
from wordsight.models.clip.layouts import TRANSFORMERS
from wordsight.models.clip.preprocess import from_transformers

RUNTIMES = ["openvino", "onnxruntime"]
TEXTS = ["a photo of a dog", "the RED cat, a cat.", ""]
VISION, TEXT = TRANSFORMERS[1], TRANSFORMERS[3]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((40, 30), (16, 16), (9, 31), (3, 3))
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def edit(path: Path, **changes: Any) -> None:
    """Change an object; ``...`` takes a key out."""
    value = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: item for key, item in value.items() if item is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


# -- the same towers in both layouts --------------------------------------------------------------


@pytest.mark.parametrize("name", RUNTIMES)
def test_both_layouts_of_a_real_architecture_agree(
    test_models: Path, tmp_path: Path, name: str
) -> None:
    source = test_models / "tiny-clip-random"
    golden = json.loads((source / "golden/golden.json").read_text(encoding="utf-8"))
    images = [Image.open(source / "golden/images" / n).convert("RGB") for n in golden["images"]]
    model = ClipModel(to_transformers(source, tmp_path / "m"), runtime=name, precision="fp32")
    assert (model.dim, model.image_size) == (64, (224, 224))
    assert (model.logit_scale, model.logit_bias) == (100, None)
    assert np.array_equal(
        model.token_ids(golden["prompts"]), np.load(source / "golden/token_ids.npy")
    )
    for found, file in (
        (model.encode_images(images), "image_vectors.npy"),
        (model.encode_texts(golden["prompts"]), "text_vectors.npy"),
    ):
        wanted = np.load(source / "golden" / file)
        assert (found * wanted).sum(axis=1).min() > 0.9999
        # Random weights make everything alike: the differences count.
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize(
    "inputs",
    [
        (),
        ("attention_mask",),
        ("position_ids",),
        ("position_ids", "attention_mask", "token_type_ids"),
    ],
)
def test_both_layouts_agree(tmp_path: Path, name: str, inputs: tuple[str, ...]) -> None:
    source = make_clip(tmp_path / "open_clip")
    folder = to_transformers(source, tmp_path / "transformers", more_inputs=inputs)
    ours, theirs = (load_model(f, runtime=name, precision="fp32") for f in (folder, source))
    assert ours.preprocessing == theirs.preprocessing
    np.testing.assert_allclose(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS), atol=1e-6)
    images = pictures()
    np.testing.assert_allclose(ours.encode_images(images), theirs.encode_images(images), atol=1e-6)


@pytest.mark.parametrize("tell_dim", [True, False])
def test_siglip(tmp_path: Path, tell_dim: bool) -> None:
    clean = {"tokenizer_kwargs": {"clean": "canonicalize"}}
    source = make_clip(tmp_path / "open_clip", context=64, text_config=clean)
    folder = to_transformers(
        source,
        tmp_path / "siglip",
        kind="siglip_model",
        tell_dim=tell_dim,
        config={"text_config": {"vocab_size": 16}},  # what is at its default is left out
        preprocess={"size": {"height": 16, "width": 16}, "do_center_crop": ..., "crop_size": ...}
        | {"image_processor_type": "SiglipImageProcessor"},
        tokenizer={"tokenizer_class": "SiglipTokenizer", "model_max_length": 10**30},
    )
    edit(source / "visual/preprocess_cfg.json", resize_mode="squash")
    ours, theirs = ClipModel(folder), ClipModel(source)
    assert ours.dim == 8
    assert ours.token_ids(["a dog"]).shape == (1, 64)
    assert np.array_equal(ours.token_ids(["A Red, dog!"]), ours.token_ids(["a red dog"]))
    np.testing.assert_allclose(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS), atol=1e-6)
    images = pictures()
    np.testing.assert_allclose(ours.encode_images(images), theirs.encode_images(images), atol=1e-6)
    # Of the sigmoid kind, with what training started from until the registry says better.
    assert (ours.logit_scale, ours.logit_bias) == (pytest.approx(10), -10)


@pytest.mark.parametrize(
    ("kind", "tokenizer", "lowers"),
    [
        ("clip", {}, True),
        ("clip", {"tokenizer_class": ...}, True),
        ("xlm", {"tokenizer_class": "XLMRobertaTokenizer"}, False),
        ("xlm", {"tokenizer_class": "BertTokenizer", "do_lower_case": True}, True),
        ("siglip", {"tokenizer_class": "GemmaTokenizer"}, True),  # SigLIP 2
    ],
)
def test_texts_keep_or_lose_their_case(
    tmp_path: Path, kind: str, tokenizer: dict[str, Any], lowers: bool
) -> None:
    folder = to_transformers(
        make_clip(tmp_path / "m"), tmp_path / "t", kind=kind, tokenizer=tokenizer
    )
    model = ClipModel(folder)
    assert np.array_equal(model.token_ids(["Red dog"]), model.token_ids(["red dog"])) == lowers


def test_the_end_that_tokenizer_config_asks_for(tmp_path: Path) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    plain = ClipModel(folder).token_ids(["a dog"])[0].tolist()
    assert plain[:4] == [1, 4, 7, 2]  # <start> a dog <end>
    changes = {"add_bos_token": False, "add_eos_token": True, "eos_token": {"content": "<end>"}}
    edit(folder / "tokenizer_config.json", **changes)
    assert ClipModel(folder).token_ids(["a dog"])[0].tolist() == [4, 7, 2, 0, 0, 0, 0, 0]
    edit(folder / "tokenizer_config.json", eos_token="<nowhere>")
    with pytest.raises(ModelError, match=r"tokenizer\.json: has no token '<nowhere>'"):
        ClipModel(folder).token_ids(["a dog"])


def test_padding_by_tokenizer_json(tmp_path: Path) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    edit(folder / "tokenizer_config.json", pad_token=...)
    with pytest.raises(ModelError, match=r"pad_token None is not in tokenizer\.json"):
        ClipModel(folder).token_ids(["a"])
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 2, "pad_type_id": 0, "pad_token": "<end>"}
    edit(folder / "tokenizer.json", padding=padding)
    assert ClipModel(folder).token_ids(["a"])[0].tolist() == [1, 4, 2, 2, 2, 2, 2, 2]


def test_the_context_is_the_least_that_is_said(tmp_path: Path) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    for positions, longest, wanted in (
        (8, 10**30, 8),
        (514, 12, 12),
        (..., ..., 77),
        (8192, ..., 256),
    ):
        text_config = {} if positions is ... else {"max_position_embeddings": positions}
        edit(folder / "config.json", text_config=text_config)
        edit(folder / "tokenizer_config.json", model_max_length=longest)
        assert ClipModel(folder).token_ids(["a"]).shape == (1, wanted)


# -- preprocessing --------------------------------------------------------------------------------

CLIP = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
COLOURS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (CLIP, "shortest 224x224 bicubic mean 0.5/0.5/0.5 std 0.25/0.25/0.25"),
        ({"size": 224, "crop_size": 224}, "shortest 224x224 bicubic mean 0.5"),
        ({"size": 384}, "squash 384x384"),
        ({"size": {"height": 64, "width": 96}, "resample": 2}, "squash 96x64 bilinear"),
        (CLIP | {"size": {"shortest_edge": 256}}, "shortest of 256 224x224"),
        (CLIP | {"do_normalize": False}, "mean 0/0/0 std 1/1/1"),
        (CLIP | {"rescale_factor": 1 / 127.5}, "mean 0.25/0.25/0.25 std 0.125/0.125/0.125"),
        (CLIP | {"do_rescale": False, "image_mean": 127.5, "image_std": 255}, "mean 0.5/0.5/0.5"),
        ({"size": {"height": 9, "width": 9}, "crop_size": 9}, "squash 9x9"),
    ],
)
def test_settings_of_image_processors(config: dict[str, Any], wanted: str) -> None:
    assert wanted in str(from_transformers(COLOURS | config))


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"shortest_edge": 224}},
        {"size": {"longest_edge": 224}},
        {"size": {"height": 256, "width": 256}, "crop_size": 224},
        CLIP | {"do_resize": False},
        CLIP | {"do_pad": True},
        CLIP | {"resample": 9},
        CLIP | {"image_std": [0, 0, 0]},
        CLIP | {"image_mean": None},
    ],
)
def test_other_steps_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    (folder / "preprocessor_config.json").write_text(json.dumps(COLOURS | config))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json makes no sense \(") as error:
        ClipModel(folder)
    assert "\n" not in str(error.value)


def test_a_crop_that_is_smaller_than_the_short_side(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    found = from_transformers(COLOURS | CLIP | {"size": 32, "crop_size": 28})(picture)
    wanted = picture.resize((48, 32), Image.Resampling.BICUBIC).crop((10, 2, 38, 30))
    np.testing.assert_array_equal(found, np.asarray(wanted))


# -- what is in the directory ---------------------------------------------------------------------


@pytest.mark.parametrize("file", TRANSFORMERS)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    (folder / file).unlink()
    with pytest.raises(
        ModelError, match=rf"not a complete CLIP model directory \({file} missing\)"
    ):
        ClipModel(folder)


def test_a_checkpoint_is_no_model_directory(tmp_path: Path) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "checkpoint")
    shutil.rmtree(folder / "onnx")
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match=rf"wordsight export {folder} --out {folder}-onnx"):
        ClipModel(folder)


def test_fp32_goes_before_other_precisions(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "m")
    folder = to_transformers(source, tmp_path / "t", variant="_fp16")
    quantized = to_transformers(source, tmp_path / "q", variant="_quantized")
    for file in (quantized / "onnx").iterdir():
        shutil.copy(file, folder / "onnx")
    half = ClipModel(folder)
    assert half.encode_texts(["a dog"]).shape == (1, 8)
    assert {"onnx/vision_model_fp16.onnx", "onnx/text_model_fp16.onnx"} < set(half._files.files)
    for file in (to_transformers(source, tmp_path / "f") / "onnx").iterdir():
        shutil.copy(file, folder / "onnx")
    assert ClipModel(folder)._files.files == TRANSFORMERS
    (folder / TEXT).unlink()  # the towers of one precision belong together
    assert "onnx/text_model_fp16.onnx" in ClipModel(folder)._files.files


def test_a_tower_without_projection_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "m")
    folder = to_transformers(source, tmp_path / "t")
    other = to_transformers(source, tmp_path / "s", kind="siglip")
    shutil.copy(other / VISION, folder / VISION)
    with pytest.raises(ModelError, match=r"expected an output image_embeds .*found last_hidden_st"):
        ClipModel(folder).encode_images(pictures())


def test_the_hash_sees_every_file(tmp_path: Path) -> None:
    folder = to_transformers(make_clip(tmp_path / "m"), tmp_path / "t")
    hashes = {ClipModel(folder).hash}
    for file in TRANSFORMERS:
        if file.endswith(".json"):
            (folder / file).write_text((folder / file).read_text() + " ")
            hashes.add(ClipModel(folder).hash)
    assert len(hashes) == 5


# -- from the hub ---------------------------------------------------------------------------------

REPOSITORY = "someone/clip-onnx"
CLIP_B32 = next(entry for entry in registry.ENTRIES if entry.name == "clip-vit-b32")


@pytest.fixture
def published(tmp_path: Path) -> dict[str, bytes]:
    """A repository as transformers.js's: every precision, tokenizer files twice."""
    source = make_clip(tmp_path / "made")
    folder = to_transformers(source, tmp_path / "published")
    files = {name: (folder / name).read_bytes() for name in TRANSFORMERS}
    for variant in ("_fp16", "_int8", "_quantized", "_q4", "_bnb4"):
        files[f"onnx/vision_model{variant}.onnx"] = files[f"onnx/text_model{variant}.onnx"] = b"?"
    return files | {"onnx/model.onnx": b"both", "merges.txt": b"a b", "README.md": b"read me"}


@pytest.fixture
def hub(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serve(StandIn(REPOSITORY, published)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def fetched(hub: StandIn) -> set[str]:
    return {path.removeprefix("/cdn/") for path, _ in hub.requests if path.startswith("/cdn/")}


def test_a_hub_id_opens_and_fetches_no_more_than_it_needs(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(f"{REPOSITORY}@{hub.commit}", runtime="onnxruntime")
    assert fetched(hub) == set(TRANSFORMERS)
    assert model.source == f"{REPOSITORY}@{hub.commit}"
    local = load_model(tmp_path / "published", runtime="onnxruntime")
    assert model.hash == local.hash
    assert np.array_equal(model.encode_texts(TEXTS), local.encode_texts(TEXTS))
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_model(f"{REPOSITORY}@{hub.commit}").hash == local.hash
    assert len(hub.requests) == asked


def test_a_repository_of_another_precision_alone(hub: StandIn, published: dict[str, bytes]) -> None:
    for tower in ("vision", "text"):
        published[f"onnx/{tower}_model_fp16.onnx"] = published.pop(f"onnx/{tower}_model.onnx")
    assert load_model(REPOSITORY, runtime="onnxruntime").encode_texts(TEXTS).shape == (3, 8)
    assert "onnx/text_model_quantized.onnx" not in fetched(hub)


def test_a_repository_without_one_tower(hub: StandIn, published: dict[str, bytes]) -> None:
    for name in [name for name in published if name.startswith("onnx/text_model")]:
        del published[name]
    with pytest.raises(HubError, match=r"wordsight can read: onnx/text_model\.onnx missing"):
        load_model(REPOSITORY)
    assert fetched(hub) == set()


@pytest.mark.parametrize("name", RUNTIMES)
def test_weights_beside_the_graph(
    hub: StandIn, published: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    import onnx

    folder = tmp_path / "published"
    plain = load_model(folder, runtime=name, precision="fp32").encode_images(pictures())
    graph = onnx.load(str(folder / VISION))
    data = {"location": "vision_model.onnx_data", "size_threshold": 0}
    onnx.save_model(graph, str(folder / VISION), save_as_external_data=True, **data)
    for file in (VISION, f"{VISION}_data"):
        published[file] = (folder / file).read_bytes()
    model = load_model(REPOSITORY, runtime=name, precision="fp32")
    assert layouts.beside(model.path) == [f"{VISION}_data"]
    np.testing.assert_allclose(model.encode_images(pictures()), plain, atol=1e-6)
    assert model.hash == load_model(folder).hash


def entry(monkeypatch: pytest.MonkeyPatch, hub: StandIn, **changes: Any) -> registry.Entry:
    """Give the hub's repository the name of a model of the registry."""
    own = {"name": "ours", "repository": REPOSITORY, "revision": hub.commit, "files": {}}
    made = replace(CLIP_B32, **own | changes)
    monkeypatch.setattr(registry, "ENTRIES", (made,))
    return made


@pytest.mark.parametrize("file", [VISION, "tokenizer.json", "config.json"])
def test_known_hashes_are_checked(hub: StandIn, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    from hashlib import sha256

    right = sha256(hub.files[file]).hexdigest()
    entry(monkeypatch, hub, files={file: {"bytes": None, "sha256": "0" * 64}})
    with pytest.raises(HubError, match=r"differs") as error:
        fetch_model("ours")
    assert file in str(error.value)
    assert "\n" not in str(error.value)
    entry(monkeypatch, hub, files={file: {"bytes": None, "sha256": right}})
    assert fetch_model("ours").is_dir()


def test_scale_and_bias_of_the_registry_hold_for_the_hub_id(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry(monkeypatch, hub, logit_scale=112.7, logit_bias=-16.8)
    for name in ("ours", REPOSITORY):
        model = load_model(name)
        assert (model.name, model.source) == ("ours", f"{REPOSITORY}@{hub.commit}")
        assert (model.logit_scale, model.logit_bias) == (112.7, -16.8)


@pytest.mark.parametrize(
    ("repository", "told"),
    [
        ("openai/clip-vit-base-patch32", r"Xenova/clip-vit-base-patch32\): --model clip-vit-b32$"),
        ("google/siglip2-base-patch16-224", r"--model siglip2-b16$"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", r"--model clip-vit-b32-laion2b$"),
        (
            "laion/CLIP-ViT-g-14",
            r"wordsight export laion/CLIP-ViT-g-14 --out models/clip-vit-g-14$",
        ),
    ],
)
def test_repositories_of_pytorch_weights_name_the_way(
    hub: StandIn, repository: str, told: str
) -> None:
    hub.repository = repository
    hub.files = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}
    for call in (fetch_model, load_model):
        with pytest.raises(HubError, match="holds PyTorch weights only") as error:
            call(repository)
        assert re.search(told, str(error.value))
        assert "\n" not in str(error.value)
