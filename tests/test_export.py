"""Export: checkpoints of random weights, written as model directories and held against PyTorch.

All but a few of these need the extra ``export``: ``make test-export`` runs them in an environment
of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_standin import StandIn, serve
from PIL import Image
from watched import Watched

from wordsight import load_model
from wordsight.classify import Classifier
from wordsight.cli import main
from wordsight.errors import HubError, ModelError
from wordsight.export import PROMPTS, export
from wordsight.models import hub
from wordsight.models.clip.layouts import OPEN_CLIP
from wordsight.models.maskrcnn import load_detector

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason='needs PyTorch: make test-export, or pip install "wordsight[export]"',
)

PICTURE = Image.effect_noise((90, 60), 120).convert("RGB")
WORDS = "dog cat car ship tree house red blue small old young happy photo picture of the a an in on"


def test_the_former_name_still_works() -> None:
    from wordsight.models.export import Export
    from wordsight.models.export import export as former

    assert former is export
    assert Export.__module__ == "wordsight.export"


# -- checkpoints of random weights --------------------------------------------------------------


def tiny_open_clip(folder: Path, *, siglip: bool = False) -> Path:
    """A local folder of open_clip: byte pairs and softmax, or words and sigmoid."""
    import open_clip
    from safetensors.torch import save_file

    text: dict[str, Any] = {"width": 48, "heads": 3, "layers": 2}
    model: dict[str, Any] = {"embed_dim": 32}
    preprocess: dict[str, Any] = {}
    folder.mkdir(parents=True)
    if siglip:
        t5_like(folder)
        text |= {
            "context_length": 12, "vocab_size": 64, "no_causal_mask": True, "pool_type": "last",
            "hf_tokenizer_name": "someone/else", "tokenizer_kwargs": {"clean": "canonicalize"},
        }  # fmt: skip
        model |= {"custom_text": True, "init_logit_bias": -10.0, "init_logit_scale": 2.3}
        half = [0.5, 0.5, 0.5]
        preprocess = {
            "mean": half, "std": half, "interpolation": "bilinear", "resize_mode": "squash",
        }  # fmt: skip
    vision = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    model |= {"vision_cfg": vision, "text_cfg": text}
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    made = open_clip.create_model(f"local-dir:{folder}")
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def t5_like(folder: Path) -> None:
    """A tokenizer of whole words in the form of transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    vocabulary |= {word: i for i, word in enumerate(WORDS.split(), start=3)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def tiny_transformers(folder: Path, *, scale: float = 4.6) -> Path:
    """A CLIPModel saved with its tokenizer and image processor."""
    import open_clip
    import transformers

    pairs = open_clip.SimpleTokenizer()
    vocabulary = dict(pairs.encoder)
    vocabulary["<|startoftext|>"] = vocabulary.pop("<start_of_text>")
    vocabulary["<|endoftext|>"] = vocabulary.pop("<end_of_text>")
    transformers.CLIPTokenizer(
        vocab=vocabulary, merges=list(pairs.bpe_ranks), model_max_length=77
    ).save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}
    ).save_pretrained(folder)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.CLIPConfig(
        text_config={
            **size, "hidden_size": 32, "bos_token_id": 49406, "eos_token_id": 49407,
            "pad_token_id": 49407,
        },
        vision_config={**size, "hidden_size": 32, "image_size": 48, "patch_size": 16},
        projection_dim=24,
        logit_scale_init_value=scale,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def tiny_siglip(folder: Path) -> Path:
    """A SiglipModel whose tokenizer is a SentencePiece model, as on the hub."""
    import sentencepiece
    import torch
    import transformers

    folder.mkdir(parents=True)
    lines = [f"a photo of the {a} {b}" for a in WORDS.split() for b in WORDS.split()]
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=60, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    corpus.unlink()
    (folder / "spiece.vocab").unlink()
    transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=10).save_pretrained(
        folder
    )
    transformers.SiglipImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    }  # fmt: skip
    config = transformers.SiglipConfig(
        text_config={
            **size,
            "vocab_size": 64,
            "max_position_embeddings": 10,
            "projection_size": 32,
        },
        vision_config={**size, "image_size": 48, "patch_size": 16},
    )
    model = transformers.SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(11.7))
        model.logit_bias.fill_(-1.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def open_clip_folder(place: Path) -> Path:
    return tiny_open_clip(place / "tiny-open-clip")


@pytest.fixture(scope="module")
def transformers_folder(place: Path) -> Path:
    return tiny_transformers(place / "tiny-clip")


@pytest.fixture(scope="module")
def mask_rcnn(place: Path) -> Path:
    """Weights of a Mask R-CNN for two kinds of things, as a training run saves them."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(
        "maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=3
    )
    torch.save({"model": model.state_dict(), "epoch": 3}, place / "things.pth")
    return place / "things.pth"


def apart(vectors: np.ndarray, others: Any) -> float:
    others = others.detach().numpy()
    return float(np.abs(vectors - others / np.linalg.norm(others, axis=1, keepdims=True)).max())


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- what comes out is the original -------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_open_clip_folder(open_clip_folder: Path, tmp_path: Path, runtime: str) -> None:
    import open_clip
    import torch

    done = export(open_clip_folder, tmp_path / "out")
    assert done.kind == "open_clip"
    assert done.differences.keys() == {"images", "texts"}
    assert max(done.differences.values()) < 1e-4
    assert leftovers(tmp_path) == ["out"]
    assert all((tmp_path / "out" / file).is_file() for file in OPEN_CLIP)

    name = f"local-dir:{open_clip_folder}"
    original, prepare = open_clip.create_model_from_pretrained(name)
    model = load_model(tmp_path / "out", runtime=runtime, precision="fp32")
    with torch.inference_mode():
        images = original.encode_image(prepare(PICTURE)[None].repeat(3, 1, 1, 1))
        texts = original.encode_text(open_clip.get_tokenizer(name)(list(PROMPTS)))
    assert apart(model.encode_images([PICTURE] * 3), images) < 1e-5
    assert apart(model.encode_texts(PROMPTS), texts) < 1e-5
    assert model.logit_scale == pytest.approx(float(original.logit_scale.detach().exp()), rel=1e-6)
    assert model.logit_bias is None


@needs_torch
def test_an_open_clip_model_of_the_sigmoid_kind_with_its_own_tokenizer(tmp_path: Path) -> None:
    import open_clip
    import torch

    folder = tiny_open_clip(tmp_path / "siglip", siglip=True)
    export(folder, tmp_path / "out")
    model = load_model(tmp_path / "out", precision="fp32")
    prompts = ["A photo, of the DOG!", "red cat"]
    name = f"local-dir:{folder}"
    ids = open_clip.get_tokenizer(name)(prompts)
    assert model.token_ids(prompts).tolist() == ids.tolist()
    original = open_clip.create_model(name)
    with torch.inference_mode():
        assert apart(model.encode_texts(prompts), original.encode_text(ids)) < 1e-5
    assert model.logit_bias == -10
    assert model.logit_scale == pytest.approx(np.exp(2.3))
    assert model.preprocessing.startswith("squash 64x64 bilinear mean 0.5/0.5/0.5")


@needs_torch
def test_export_sends_nothing(open_clip_folder: Path, tmp_path: Path) -> None:
    # What PyTorch and others keep of their own is theirs, not what the export sends.
    own = {"HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    command = ["-m", "wordsight", "export", str(open_clip_folder), "--out", "out"]
    watched = Watched(tmp_path, command, own)
    status, output = watched.wait()
    assert status == 0, output
    watched.assert_private()


@needs_torch
def test_a_clip_of_transformers(transformers_folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

    done = export(transformers_folder, tmp_path / "out")
    assert (done.kind, done.facts["dim"], done.facts["context"]) == ("transformers", 24, 77)
    model = load_model(tmp_path / "out", precision="fp32")
    original = CLIPModel.from_pretrained(transformers_folder)
    tokens = CLIPTokenizer.from_pretrained(transformers_folder)(
        list(PROMPTS), padding=True, truncation=True, return_tensors="pt"
    )
    pixels = AutoImageProcessor.from_pretrained(transformers_folder, backend="pil")(
        PICTURE, return_tensors="pt"
    )
    with torch.inference_mode():
        images = original.get_image_features(**pixels).pooler_output
        texts = original.get_text_features(**tokens).pooler_output
    assert apart(model.encode_images([PICTURE]), images) < 1e-5
    assert apart(model.encode_texts(PROMPTS), texts) < 1e-5


@needs_torch
def test_a_siglip_of_transformers_classifies_as_the_original(tmp_path: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

    folder = tiny_siglip(tmp_path / "siglip")
    export(folder, tmp_path / "out")
    model = load_model(tmp_path / "out", precision="fp32")
    labels = ["dog", "Red Ship", "old, young"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        labels, padding="max_length", max_length=10, return_tensors="pt"
    )
    assert model.token_ids(labels).tolist() == tokens["input_ids"].tolist()
    original = SiglipModel.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(PICTURE, return_tensors="pt")
    with torch.inference_mode():
        found = original(input_ids=tokens["input_ids"], **pixels).logits_per_image.sigmoid()
    classifier = Classifier(model, labels, templates=("{}",), closed=True)
    confidences = classifier.confidences(model.encode_images([PICTURE]))
    assert confidences == pytest.approx(found.numpy(), rel=1e-3)


@needs_torch
def test_a_scale_that_training_left_small_comes_back(tmp_path: Path) -> None:
    export(tiny_transformers(tmp_path / "clip", scale=0.5), tmp_path / "out")
    assert load_model(tmp_path / "out").logit_scale == pytest.approx(np.exp(0.5))


@needs_torch
def test_a_vit_b_32_from_the_command_line_is_used_as_any_model(
    tmp_path: Path, photos: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import open_clip
    import torch

    weights, out = tmp_path / "mine.pt", tmp_path / "models/mine"
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    main_ok("export", "ViT-B-32", "--pretrained", str(weights), "--out", str(out), "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["dim"], found["image_size"], found["context"]) == (512, [224, 224], 77)
    assert max(found["differences"].values()) < 1e-4
    assert found["bytes"] == sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    main_ok("index", str(photos(red=2)), "--model", str(out), "--json")
    assert json.loads(capsys.readouterr().out)["indexed"] == 2


@needs_torch
def test_a_mask_rcnn(mask_rcnn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    import torchvision

    main_ok("export", str(mask_rcnn), "--out", str(tmp_path / "out"), "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["labels"]) == ("maskrcnn", 0)
    assert found["compared"]["boxes"] > 10
    assert leftovers(tmp_path) == ["out"]

    original = torchvision.models.get_model(
        "maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=3
    )
    original.load_state_dict(torch.load(mask_rcnn)["model"])
    picture = PICTURE.resize((210, 140))
    with torch.inference_mode():
        (wanted,) = original.eval()([torchvision.transforms.functional.to_tensor(picture)])
    got = load_detector(tmp_path / "out", runtime="onnxruntime")(picture)
    assert len(got) == len(wanted["boxes"]) > 10
    assert got.scores == pytest.approx(wanted["scores"].numpy(), abs=1e-3)
    assert got.masks is not None
    assert got.masks[0].shape == (28, 28)


@needs_torch
def test_a_repository_of_the_hub(
    transformers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    files = {path.name: path.read_bytes() for path in transformers_folder.iterdir()}
    with serve(StandIn("someone/clip", {**files, "flax_model.msgpack": b"x"})) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        done = export("someone/clip", tmp_path / "out")
        assert stand_in.downloads("flax_model.msgpack") == []
    assert done.kind == "transformers"
    assert json.loads((tmp_path / "out/config.json").read_text())["model_name"] == "clip"
    # Now it is in the cache: no network is needed.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert export("hf-hub:someone/clip", tmp_path / "again").facts == done.facts


# -- what is refused ----------------------------------------------------------------------------


def main_ok(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails; return its one line."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@needs_torch
def test_a_difference_beyond_the_tolerance_is_told_and_nothing_stays(
    open_clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep/er/out"
    line = refused(capsys, "export", str(open_clip_folder), "--out", str(out), "--tolerance", "0")
    assert "differs from the original by more than 0 (images " in line
    assert leftovers(tmp_path) == []


@needs_torch
def test_another_preprocessing_is_noticed(
    transformers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wordsight.export import transformers as module

    right = module._preprocess_of
    monkeypatch.setattr(
        module, "_preprocess_of", lambda *a: {**right(*a), "interpolation": "nearest"}
    )
    with pytest.raises(ModelError, match=r"differs from the original .*images 0\.\d"):
        export(transformers_folder, tmp_path / "out")
    assert leftovers(tmp_path) == []


@needs_torch
def test_another_tokenizer_is_noticed_and_the_prompt_is_named(
    transformers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wordsight.export import transformers as module

    right = module.fast

    def no_end(tokenizer: Any) -> Any:
        from tokenizers import processors

        made = right(tokenizer)
        made.post_processor = processors.TemplateProcessing(
            single="<|startoftext|> $A", special_tokens=[("<|startoftext|>", 49406)]
        )
        return made

    monkeypatch.setattr(module, "fast", no_end)
    with pytest.raises(ModelError, match="other token ids for 'word word"):
        export(transformers_folder, tmp_path / "out", tolerance=1e-6)


@needs_torch
def test_weights_with_parts_missing_are_refused(transformers_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(transformers_folder, folder)
    state = load_file(folder / "model.safetensors")
    half = {key: value for key, value in state.items() if not key.startswith("text_model.")}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights are incomplete \(\d+ missing"):
        export(folder, tmp_path / "out")


@needs_torch
def test_a_model_without_two_towers_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="a bert model, not one with an image and a text tower"):
        export(tmp_path / "bert", tmp_path / "out")


@needs_torch
def test_an_image_processor_that_the_layout_cannot_say_is_refused(
    transformers_folder: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "odd"
    shutil.copytree(transformers_folder, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 56}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="crops to another size than it resizes to"):
        export(folder, tmp_path / "out")


@needs_torch
def test_a_checkpoint_that_would_run_a_program_is_not_read(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "done"),))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(ModelError, match="not a file of weights that can be read safely"):
        export(tmp_path / "evil.pth", tmp_path / "out")
    with pytest.raises(ModelError, match="open_clip cannot load ViT-B-32"):
        export("ViT-B-32", tmp_path / "out", pretrained=tmp_path / "evil.pth")
    assert leftovers(tmp_path) == ["evil.pth"]


@needs_torch
def test_weights_that_are_not_a_mask_rcnn_are_refused(
    open_clip_folder: Path, tmp_path: Path
) -> None:
    file = open_clip_folder / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match="for a CLIP model name its architecture: wordsight"):
        export(file, tmp_path / "out")


@needs_torch
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("ViT-B-23", {"pretrained": "openai"}, "no model of open_clip by that name; did you mean"),
        ("ViT-B-32", {"pretrained": "mine"}, "weights that open_clip has for ViT-B-32; it knows o"),
        ("ViT-B-32", {"pretrained": "openai"}, "export ViT-B-32-quickgelu instead"),
        ("ViT-B-32", {"pretrained": "laion400m_e32"}, "export ViT-B-32-quickgelu instead"),
        ("maskrcnn_resnet50_fpn", {}, "say which weights with --pretrained FILE"),
        ("maskrcnn_resnet50_fpn", {"pretrained": "x"}, "neither a file nor weights that torchvis"),
        ("maskrcnn_resnet18", {"pretrained": "x"}, "no Mask R-CNN of torchvision by that name"),
    ],
)  # fmt: skip
def test_names_that_are_not_known(
    tmp_path: Path, source: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        export(source, tmp_path / "out", **options)
    assert leftovers(tmp_path) == []


# What follows needs no PyTorch.


def test_without_torch_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "config.json").write_text("{}")
    line = refused(capsys, "export", str(tmp_path), "--out", str(tmp_path / "out"))
    assert line == ('wordsight: export needs the package torch: pip install "wordsight[export]"')
    assert leftovers(tmp_path) == ["config.json"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "there is no such folder or file"),
        ("weights.pth", "there is no such folder or file"),
        ("ViT-B-32", "say which weights with --pretrained TAG"),
        ("empty", "not a checkpoint of open_clip or transformers"),
        ("ready", "is already a wordsight model directory"),
    ],
)
def test_sources_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for file in OPEN_CLIP:
        path = Path("ready", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(ModelError, match=message):
        export(source, "out")
    assert leftovers(tmp_path) == ["empty", "ready"]


def test_a_repository_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set; there is no folder some/one here"):
        export("some/one", tmp_path / "out")


def test_a_repository_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serve(StandIn("some/one", {"README.md": b"hello"})) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        assert hub.list_files("some/one") == ["README.md"]
        with pytest.raises(ModelError, match="some/one: not a checkpoint of open_clip"):
            export("some/one", tmp_path / "out")


def test_a_directory_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("kept")
    with pytest.raises(ModelError, match="already exists; remove it or choose another --out"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(ModelError, match=r"mine\.txt: is a file"):
        export(tmp_path, tmp_path / "out/mine.txt")
    with pytest.raises(ModelError, match="cannot be written"):
        export(tmp_path, tmp_path / "out/mine.txt/below")
    assert (tmp_path / "out/mine.txt").read_text() == "kept"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ModelError, match="cannot be written"):
        export(tmp_path, tmp_path / "locked/out")
