"""The notebooks: each runs from a clean kernel, and what it shows is what its text says.

Twice: over CIFAR-10 where WORDSIGHT_DATA has it, and over the 20 images of the package foolbox,
which every machine has.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import ANCHORS
from PIL import Image

for module in ("ipykernel", "ipywidgets", "nbclient"):
    pytest.importorskip(module, reason=f"{module} is missing: pip install 'wordsight[notebooks]'")
nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = {
    1: "1-text-to-image-retrieval",
    2: "2-crop-aware-retrieval",
    3: "3-zero-shot-classification",
    4: "4-your-own-photos",
    5: "5-embedding-space",
    6: "6-video",
}
PICTURES = {1: 8, 2: 7, 3: 7, 4: 4, 5: 6, 6: 3}
"""How many pictures each notebook draws."""
IMAGES = 500
"""Of CIFAR-10; the notebooks take more, which takes longer and shows the same."""

Run = Callable[..., Any]


def execute_module() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(notebook: Any) -> str:
    """Everything that the notebook wrote."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    return "\n".join(o.text for o in outputs if o.output_type == "stream")


def pictures(cells: Sequence[Any]) -> list[Image.Image]:
    found = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            coded = data.get("image/png") or data.get("image/jpeg")
            if coded:
                found.append(Image.open(io.BytesIO(base64.b64decode(coded))))
    return found


def probe(notebook: Any) -> Any:
    """What the last cell printed, read as JSON."""
    return json.loads(notebook.cells[-1].outputs[-1].text)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return float(found[1])


@pytest.fixture
def sample(tmp_path: Path) -> Run:
    """Run a notebook over the packaged sample."""
    if importlib.util.find_spec("foolbox") is None:
        pytest.skip("foolbox is missing: pip install 'wordsight[sample]'")
    return runner(tmp_path, None)


@pytest.fixture
def full(tmp_path: Path, data: Path) -> Run:
    """Run a notebook over CIFAR-10."""
    return runner(tmp_path, data / "cifar10")


def runner(work: Path, images: Path | None) -> Run:
    # The kernel is a process of its own: it gets what the tests' fixtures set, and its own temp.
    (work / "temp").mkdir()
    environment = {"TMPDIR": str(work / "temp"), "WORDSIGHT_CIFAR10": str(images or "")}
    environment |= dict.fromkeys(("WORDSIGHT_PHOTO", "WORDSIGHT_PHOTOS", "WORDSIGHT_FRAMES"), "")

    def run(which: int, *more: str, **variables: Path) -> Any:
        notebook = execute_module().execute(
            FOLDER / f"{NAMES[which]}.ipynb",
            environment={**environment, **{k: str(v) for k, v in variables.items()}},
            more=more,
            images=IMAGES,
        )
        drawn = pictures(notebook.cells[: len(notebook.cells) - len(more)])
        assert len(drawn) == PICTURES[which]
        for picture in drawn:
            low, high = zip(*picture.convert("RGB").getextrema(), strict=True)
            assert min(picture.size) > 200
            assert max(high) - min(low) > 100  # not blank
        errors = [
            output.text
            for cell in notebook.cells
            for output in cell.get("outputs", ())
            if output.output_type == "stream" and output.name == "stderr"
        ]
        assert not errors
        assert (images is None) == ("only 20 of CIFAR-10" in printed(notebook)) or which in (4, 6)
        return notebook

    return run


# -- as stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", NAMES)
def test_stored_notebooks_are_small_whole_and_of_no_particular_machine(which: int) -> None:
    path = FOLDER / f"{NAMES[which]}.ipynb"
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "importlib.util.find_spec" in code[0].source
    assert "%pip install" in code[0].source
    assert code[0].outputs == []
    assert notebook.cells[0].cell_type == "markdown"
    assert len(notebook.cells) - len(code) >= 5
    assert len(pictures(notebook.cells)) == PICTURES[which]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            words = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"(^|[\s'\"(=:])(/[\w.-]+){2,}|[A-Z]:\\|\bat 0x", words), words
            assert "2,000 images" in printed(notebook) or which in (2, 4, 6)


def test_clean_drops_what_differs_from_run_to_run() -> None:
    execute = execute_module()
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {}})
    cell = nbformat.v4.new_code_cell("x", metadata={"execution": {"start": "now"}})
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), ANCHORS["red"]).save(picture, "PNG")
    coded = base64.b64encode(picture.getvalue()).decode()
    stream, display = nbformat.v4.new_output, "display_data"
    cell.outputs = [
        stream("stream", name="stdout", text="a"),
        stream("stream", name="stdout", text="b"),
        stream(display, {"text/plain": "<PIL.Image.Image at 0x7F00>", "image/png": coded}),
        stream(display, {"text/plain": "<Figure>", "image/png": coded, "image/jpeg": coded}),
        stream(display, {"text/plain": "Text()", execute._WIDGET: {"model_id": "1"}}),
    ]
    notebook.cells = [cell]
    execute.clean(notebook)
    assert cell.metadata == {}
    assert "widgets" not in notebook.metadata
    assert cell.outputs[0].text == "ab"
    assert [sorted(o.data) for o in cell.outputs[1:]] == [
        ["image/jpeg", "text/plain"],
        ["image/png", "text/plain"],
        ["text/plain"],
    ]
    assert cell.outputs[1].data["text/plain"] == "<PIL.Image.Image>"


# -- over CIFAR-10 -------------------------------------------------------------------------------


@pytest.mark.notebooks
def test_1_finds_dogs_and_refuses_soup(full: Run) -> None:
    notebook = full(
        1,
        "box.value = 'a ship'\n"
        "import json\n"
        "asked = library.search(['a dog', 'a puppy', 'a bowl of soup', 'tax law'], k=10)\n"
        "shown = bytes(answer_box.children[0].value[1:4]).decode()\n"
        "print(json.dumps([[hit.label for hit in a.hits] for a in asked] + [shown]))",
    )
    dogs, puppies, soup, tax, shown = probe(notebook)
    assert dogs.count("dog") >= 9
    assert puppies.count("dog") >= 8
    assert soup == tax == []
    assert shown == "PNG"
    text = printed(notebook)
    ranked = re.findall(r"^ ?(\d+)  (0\.\d{3})  (\w+)$", text, re.MULTILINE)
    assert [int(rank) for rank, _, _ in ranked] == list(range(1, 11))
    assert sum(label == "dog" for _, _, label in ranked) >= 9
    assert number(r"(\d+) of 10 hits are those of the sorting", text) >= 9
    assert "NO MATCH  a bowl of soup" in text
    assert re.search(r"^match +a dog", text, re.MULTILINE)
    assert number(r"map +(0\.\d+|1\.0+)", text) > 0.9
    assert re.search(r"^a cat +match +cat.jpg$", text, re.MULTILINE)
    assert re.search(r"^a violin +no(t sure| match) ", text, re.MULTILINE)
    assert number(r"precision@10 +(\d\.\d+)", text) > 0.95


@pytest.mark.notebooks
def test_2_crops_beat_the_baseline(full: Run) -> None:
    text = printed(full(2))
    with_detector, with_tiles = re.findall(
        r"(baseline +0\..*?crop-aware normalised[^\n]*)", text, re.S
    )
    for table, gain in ((with_detector, 0.2), (with_tiles, 0.01)):
        figures = {
            line[:22].strip(): [float(value) for value in line[22:].split()]
            for line in table.splitlines()
        }
        assert figures["crop-aware"][-1] > figures["baseline"][-1] + gain  # mAP
        assert figures["crop-aware"][-2] >= figures["baseline"][-2]  # MRR
        assert figures["crop-aware"][0] >= figures["baseline"][0]  # recall@1
    assert re.search(r"^a cat +whole: cat.jpg .* with crops: cat.jpg", text, re.MULTILINE)
    baseline = number(r"baseline +(\d) of the best 6", text)
    assert number(r"crop-aware +(\d) of the best 6", text) >= baseline
    assert number(r"from (\d+) to", text) >= 1
    assert number(r"best crop (0\.\d+)", text) > number(r"whole scene (-?0\.\d+)", text) + 0.3


@pytest.mark.notebooks
def test_3_classifies_and_takes_an_upload(full: Run, tmp_path: Path) -> None:
    notebook = full(
        3,
        "from io import BytesIO\nfrom datetime import datetime, timezone\n"
        "now = datetime.now(timezone.utc)\n"
        "file = BytesIO(); images[9].save(file, 'PNG')\n"
        "def uploaded(name, data):\n"
        "    upload.value = ({'name': name, 'type': '', 'size': len(data), "
        "'content': memoryview(data), 'last_modified': now},)\n"
        "uploaded('mine.png', file.getvalue())\n"
        "shown = bytes(verdict.children[0].value[1:4]).decode()\n"
        "uploaded('broken.jpg', b'nothing')\n"
        "best = classifier([images[9]])[0].label\n"
        "import json\n"
        "print(json.dumps([shown, verdict.children[0].value, best]))",
    )
    assert probe(notebook) == ["PNG", "broken.jpg: text, not an image", "truck"]
    text = printed(notebook)
    assert number(r"images: top-1 (0\.\d+)", text) > 0.88
    assert number(r"top-3 (0\.\d+)", text) > 0.97
    assert number(r"none of these: (\d+) of 10", text) >= 7
    assert number(r"error (0\.\d+), not", text) > number(r", not (0\.\d+)", text) + 0.02
    assert text.count("-> vehicle") + text.count("-> animal") == 10
    assert text.count("-> vehicle") in (4, 5)  # of the ten classes one may be wrong


@pytest.mark.notebooks
def test_4_finds_the_truck_in_the_frames(full: Run) -> None:
    text = printed(full(4))
    assert "12 indexed, 1 failed" in text
    assert "broken.jpg: " in text
    assert "0 indexed, 12 unchanged" in text
    assert re.search(r"match +a cat ", text)
    assert "NO MATCH a birthday cake" in text
    assert 11 <= number(r"frames \((\d+) to \d+\)", text) <= 14
    assert 22 <= number(r"frames \(\d+ to (\d+)\)", text) <= 25
    # Of 40 frames, at the stated rate of 0.05.
    assert number(r"“a dog”: no match; frames above the threshold: (\d+)", text) <= 2


@pytest.mark.notebooks
def test_5_the_classes_lie_apart(full: Run) -> None:
    text = printed(full(5))
    assert number(r"same class +(0\.\d+)", text) > number(r"other class +(0\.\d+)", text) + 0.4
    assert number(r"own label +(0\.\d+)", text) > number(r"other label +(0\.\d+)", text) + 0.4
    assert number(r"the same label in (\d+)% of the cases", text) > 80
    assert number(r"of (\d+) at most", text) > 20  # there are hubs
    assert re.search(r"  cat +\d+%, most often else: dog", text)


@pytest.mark.notebooks
def test_6_finds_what_passes(full: Run) -> None:
    text = printed(full(6))
    for words, start in (("a cat", 30), ("a rocket", 51), ("a cup of coffee", 71)):
        found = re.findall(rf"^{words} +([\d.]+) s to ", text, re.MULTILINE)
        assert [float(each) for each in found] == [pytest.approx(start, abs=1)]
    assert re.search(r"^an elephant +no moment", text, re.MULTILINE)
    assert number(r"event_recall +(\d\.\d+)", text) == 1


# -- over the packaged sample --------------------------------------------------------------------


@pytest.mark.notebooks
@pytest.mark.parametrize("which", [1, 2, 3, 5])
def test_notebooks_run_on_the_sample(which: int, sample: Run) -> None:
    text = printed(sample(which))
    if which == 1:
        assert "20 images indexed, 0 failed" in text
        assert "NO MATCH  tax law" in text
    if which == 2:
        assert "10 queries" not in text  # the sample has eight of the ten classes
        assert re.search(r"^crop-aware  ", text, re.MULTILINE)
    if which == 3:
        assert number(r"20 images: top-1 (\d\.\d+)", text) >= 0.7
    if which == 5:
        assert "20 images, 256 dimensions" in text


@pytest.mark.notebooks
def test_4_takes_a_folder_of_yours(
    sample: Run, photos: Callable[..., Path], tmp_path: Path
) -> None:
    own, frames = photos(red=6, blue=6), photos("frames", green=5)
    text = printed(sample(4, WORDSIGHT_PHOTOS=own, WORDSIGHT_FRAMES=frames))
    assert "your photos" in text
    assert "12 indexed, 0 failed" in text
    assert "5 frames, from green-0.png to green-4.png" in text
    assert sorted(path.suffix for path in own.iterdir()) == [".png"] * 12  # nothing written there


def test_the_environment_of_the_tests_reaches_the_kernel() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
