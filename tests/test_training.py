"""Making the starter model: the parts that need no PyTorch.

All of it runs with ``make starter ARGS=--quick``.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.maskrcnn import pictures, targets
from training.starter import corpus, names, objects
from training.starter.images import Picture

ROOT = Path(__file__).resolve().parents[1]


class Teacher:
    """Remembers what it was asked; any text has a vector."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Any:
        self.read += texts
        return np.ones((len(texts), 4), np.float32)


class Meanings:
    def read(self, words: Iterable[str]) -> None:
        pass

    def __call__(self, words: Sequence[str]) -> Any:
        return np.ones((len(words), 4), np.float32)

    def head(self, word: str) -> str:
        return word

    def _senses(self, head: str) -> list[tuple[int, float]]:
        return [(7, 1.0)] if head == "cat" else []


def test_every_text_of_the_corpus_has_a_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wordnet = SimpleNamespace(
        meaning=lambda _offset, word: f"{word}: feline mammal",
        synsets={7: SimpleNamespace(gloss="feline mammal")},
    )
    teacher = Teacher()
    monkeypatch.setattr(corpus, "open_teacher", lambda _work: (wordnet, teacher, Meanings()))
    monkeypatch.setattr(corpus, "load_space", lambda _work: lambda rows: rows)
    monkeypatch.setattr(corpus, "vocabulary", lambda _w: (["cat", "cup", "sky", "box"], [1.0] * 4))
    monkeypatch.setattr(corpus, "irregular_plurals", lambda _w: {})
    lists = {"words": [["cat", "kitty"], ["cup"]], "captions": [["a cat", "one cat"], ["a cup"]]}
    (tmp_path / "table.json").write_text(json.dumps(lists), encoding="utf-8")

    made = corpus.build(tmp_path)
    assert {"cat", "kitty", "sky", "cats", "boxes"} <= set(made.words)
    assert len(made.words) == len(made.word_vectors) == len(made.weights)
    assert len(made.texts) == len(made.text_vectors)
    assert made.captions == ["a cat", "one cat", "a cup"]
    assert len(made.parts) == len(made.part_vectors)
    assert all(isinstance(text, str) for text in teacher.read)

    few = corpus.build(tmp_path, every=2)
    assert "sky" in few.words
    assert "box" not in few.words


def test_names_are_things_that_two_captions_of_several_photographs_say() -> None:
    seen, thought = SimpleNamespace(lexfile=6), SimpleNamespace(lexfile=9)
    wordnet: Any = SimpleNamespace(
        senses={"dog": [1], "person": [1], "traffic light": [1], "light": [1], "idea": [2]},
        synsets={1: seen, 2: thought},
        irregular={"geese": ["goose"]},
    )
    wordnet.senses["goose"] = [1]
    captions = [["Two dogs.", "A dog and an idea", "An idea by the traffic lights"]] * 4
    captions += [["Geese near a dog", "A goose"], ["a dog"]]
    found, counts = names.mentions(captions, wordnet)
    # "idea" cannot be seen, one caption alone says "traffic light", one photograph shows geese.
    assert found == ["dog"]
    assert counts[:, 0].tolist() == [2, 2, 2, 2, 1, 1]

    none, counts = names.mentions([["a sky"], []], wordnet)
    assert not none
    assert counts.shape == (2, 0)


def test_objects_are_cut_out_by_what_the_detector_is_sure_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat, cup, person = 0, 1, 2
    sure = np.eye(3) * 0.9
    said = [
        ((10, 10, 60, 50), sure[cat]),
        ((10, 10, 25, 60), sure[cat]),  # too narrow
        ((10, 10, 60, 50), sure[cup] * 0.5),  # hardly a cup
        *[((20, 20, 60, 60), sure[cup])] * 5,
        *[((20, 20, 60, 60), sure[person])] * 3,
    ]
    boxes, classes = (np.array(rows, np.float32) for rows in zip(*said, strict=True))
    monkeypatch.setattr(targets, "Teacher", lambda _folder: None)
    monkeypatch.setattr(targets, "ask", lambda *_, **__: {"boxes": boxes, "classes": classes})
    monkeypatch.setattr(pictures, "category_names", lambda _data: ["cat", "cup", "person"])
    buffer = io.BytesIO()
    Image.new("RGB", (80, 64), "red").save(buffer, "PNG")
    photographs = [Picture(buffer.getvalue())] * 40
    found = list(objects.named(photographs, tmp_path, tmp_path))

    count = {name: sum(name == other for _, other, _ in found) for name in ("cat", "cup")}
    assert count == {"cat": 40, "cup": 40 * objects.ALIKE}
    people = {number for number, name, _ in found if name == "person"}
    assert 0 < len(people) < 40
    assert [number for number, _, _ in found] == sorted(number for number, _, _ in found)
    for _, name, part in found:
        least = (50, 40) if name == "cat" else (40, 40)
        assert all(
            0 <= a - b <= 2 * objects.MARGIN * b + 1 for a, b in zip(part.size, least, strict=True)
        )
    assert len({part.size for _, _, part in found}) > 10


@pytest.mark.parametrize("module", ["training.starter_clip", "training.maskrcnn"])
def test_the_commands_explain_themselves(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--data" in done.stdout


def test_an_unknown_step_is_named() -> None:
    command = [sys.executable, "-m", "training.starter_clip", "--data", "d", "--out", "o"]
    command += ["--steps", "table,visoin"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no step visoin" in done.stderr
