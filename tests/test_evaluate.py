"""Evaluation over a library, against what a loop over the same images finds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight.errors import QueryError
from wordsight.evaluate import classification_report, evaluate, load_judgements

Photos = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """White pictures with patches of colour, large and small, and what is where."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(3)
    patches = {
        "0.png": [("red", (0, 0, 100, 90))],
        "1.png": [("red", (10, 10, 34, 34))],
        "2.png": [("blue", (0, 0, 150, 110))],
        "3.png": [("blue", (100, 80, 130, 110)), ("red", (5, 5, 29, 29))],
        "4.png": [],
        "5.png": [("red", (50, 50, 80, 80))],  # not annotated
    }
    images, annotations = [], []
    for number, (name, found) in enumerate(patches.items()):
        pixels = np.full((120, 160, 3), 250) + rng.integers(-5, 5, (120, 160, 3))
        for colour, (x0, y0, x1, y1) in found:
            pixels[y0:y1, x0:x1] = ANCHORS[colour]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": 1 if colour == "red" else 2,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
        images.append({"id": number, "file_name": name, "width": 160, "height": 120})
    (tmp_path / "instances.json").write_text(
        json.dumps(
            {
                "images": images[:-1],
                "annotations": [a for a in annotations if a["image_id"] != 5],
                "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
            }
        )
    )
    return root


def test_objects_against_a_loop(
    folder: Path, tmp_path: Path, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wordsight.regions.MOST_TILES", 20)  # small enough for these patches
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder, crops="tiles")
    judgements = load_judgements(library, tmp_path / "instances.json")
    assert judgements.texts == ["blue", "red"]
    found = evaluate(library, judgements, ks=(1, 2))
    truth = {"blue": {"2.png", "3.png"}, "red": {"0.png", "1.png", "3.png"}}
    methods = (
        ("baseline", False, "auto"),
        ("normalised", False, "z"),
        ("crop-aware", True, "score"),
        ("crop-aware normalised", True, "auto"),
    )
    for method, crops, rank_by in methods:
        precisions = []
        for text, right in truth.items():
            hits = library.search(
                f"a photo of a {text}.", k=9, anyway=True, crops=crops, rank_by=rank_by
            ).hits
            ranked = [Path(h.path).name for h in hits if Path(h.path).name != "5.png"]
            places = [i for i, name in enumerate(ranked, start=1) if name in right]
            precisions.append(np.mean([(n + 1) / place for n, place in enumerate(places)]))
        assert found.methods[method]["map"].value == pytest.approx(np.mean(precisions))
    assert found.methods["crop-aware"]["map"].value > found.methods["baseline"]["map"].value


def test_objects_by_size(folder: Path, tmp_path: Path, model: ColourModel) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder, crops="tiles")
    judgements = load_judgements(library, tmp_path / "instances.json")
    assert set(judgements.by_size) == {"1-5 %", "> 20 %"}
    small = judgements.by_size["1-5 %"]
    assert small.texts == ["blue", "red"]
    assert [len(places) for places in small.relevant] == [1, 2]
    answer: dict[str, Any] = evaluate(library, judgements).to_json()
    large = answer["by_size"]["> 20 %"]["methods"]
    assert large["baseline"]["recall@1"] == 1  # the other sizes are not counted as wrong
    assert {"baseline", "normalised", "crop-aware", "crop-aware normalised"} == set(large)


def test_the_table_by_size_has_intervals(
    folder: Path, tmp_path: Path, model: ColourModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from wordsight.cli.evaluate import _print_evaluation

    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder, crops="tiles")
    judgements = load_judgements(library, tmp_path / "instances.json")
    _print_evaluation(evaluate(library, judgements), (1, 5))
    _, small, large = capsys.readouterr().out.split("Objects of ")
    for part, size in ((small, "1-5 %"), (large, "> 20 %")):
        assert part.startswith(f"{size} of the image's area:")
        assert re.search(r"map +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", part)


def test_nothing_of_the_judgements_in_the_library(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=1))
    captions = {
        "images": [{"id": 1, "file_name": "x.jpg", "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a thing"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(captions))
    with pytest.raises(QueryError, match=r"none of the 1 images .*x\.jpg"):
        load_judgements(library, tmp_path / "c.json")
    (tmp_path / "c.csv").write_text("red,nowhere.jpg\n")
    with pytest.raises(QueryError, match=r"none of the 1 ids .*nowhere\.jpg"):
        load_judgements(library, tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text("just one column\n")
    with pytest.raises(QueryError, match="line 1"):
        load_judgements(library, tmp_path / "d.csv")
    (tmp_path / "e.csv").write_text("query,relevant-id\n")
    with pytest.raises(QueryError, match="has no judgements; write"):
        load_judgements(library, tmp_path / "e.csv")


def coco(path: Path, names: list[str]) -> Path:
    """A captions file: each image's caption is its name without the suffix."""
    images = [{"id": i, "file_name": name, "width": 9, "height": 9} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": i, "caption": name.partition("/")[0].partition("-")[0]}
        for i, name in enumerate(names)
    ]
    text = json.dumps({"images": images, "annotations": annotations})
    path.write_text(text, encoding="utf-8-sig")  # some editors begin a file so
    return path


def test_coco_images_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    folder = photos(red=1, blue=1, green=1)
    for colour in ("red", "blue", "green"):
        (folder / colour).mkdir()
        (folder / f"{colour}-0.png").rename(folder / colour / "1.png")
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    names = ["red/1.png", "blue/1.png", "green/1.png"]
    judgements = load_judgements(library, coco(tmp_path / "c.json", names))
    assert evaluate(library, judgements, ks=(1,)).methods["baseline"]["recall@1"].value == 1
    # One that lies at the top of its folder goes before those that only end so.
    more = photos("more", blue=1)
    (more / "blue-0.png").rename(more / "2.png")
    (folder / "red" / "2.png").write_bytes((folder / "red" / "1.png").read_bytes())
    library.index([folder, more])
    judgements = load_judgements(library, coco(tmp_path / "c.json", ["2.png"]))
    (place,) = judgements.relevant[0]
    ids, _ = library.vectors()
    paths = {entry.id: entry.path for entry in library.store.entries()}
    assert paths[ids[place]] == str(more / "2.png")
    # By the name alone none of them is meant.
    with pytest.raises(QueryError, match=r"several images in the library are named 1\.png"):
        load_judgements(library, coco(tmp_path / "c.json", ["1.png"]))
    with pytest.raises(QueryError, match="none of the 1 images"):
        load_judgements(library, coco(tmp_path / "c.json", ["val/1.png"]))
    with pytest.raises(QueryError, match="contains no judgements of images"):
        load_judgements(library, coco(tmp_path / "c.json", []))


def test_a_coco_image_may_lie_in_another_folder(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=1, blue=1))
    judgements = load_judgements(library, coco(tmp_path / "c.json", ["red/red-0.png"]))
    assert (len(judgements.texts), judgements.missing) == (1, [])


def test_images_without_a_label_are_ignored(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    folder = photos(red=3, blue=3)
    for colour in ("red", "blue"):
        (folder / colour).mkdir()
        for path in folder.glob(f"{colour}-*.png"):
            path.rename(folder / colour / path.name)
    library.index(folder)
    library.index(photos("more", red=5))
    found = evaluate(library, load_judgements(library, "labels"), ks=(1,))
    assert found.methods["baseline"]["map"].value == 1
    assert found.gallery == 11


def test_the_line_of_a_bad_row_counts_empty_ones(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    library.index(photos(red=1))
    (tmp_path / "j.csv").write_text("\nquery,relevant-id\n\njust one column\n")
    with pytest.raises(QueryError, match="line 4"):
        load_judgements(library, tmp_path / "j.csv")


def test_paths_of_a_table_may_be_relative(
    tmp_path: Path, photos: Photos, model: ColourModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = wordsight.create(tmp_path / "lib", model)
    folder = photos(red=1, blue=1)
    library.index(folder)
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "j.csv"
    table.write_text(f"red,../{folder.name}/red-0.png\nblue,blue-0.png\n")
    monkeypatch.chdir(folder)
    judgements = load_judgements(library, table)
    assert (judgements.texts, judgements.missing) == (["red", "blue"], [])


def test_classification_report_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.dirichlet(np.ones(5), 300).astype(np.float32)
    truth = rng.integers(0, 5, 300)
    report = classification_report(confidences, truth)
    right = [int(row.argmax() == t) for row, t in zip(confidences, truth, strict=True)]
    assert report.accuracy == pytest.approx(np.mean(right))
    top3 = [
        t in sorted(range(5), key=lambda j: -row[j])[:3]
        for row, t in zip(confidences, truth, strict=True)
    ]
    assert report.top3_accuracy == pytest.approx(np.mean(top3))
    assert report.confusion.sum() == 300
    assert report.confusion[2, 3] == sum(
        1 for row, t in zip(confidences, truth, strict=True) if t == 2 and row.argmax() == 3
    )
    assert report.bin_count.sum() == 300


def test_the_third_column_is_the_grade(tmp_path: Path, photos: Photos, model: ColourModel) -> None:
    folder = photos(red=3, blue=1)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    table = folder / "j.csv"
    table.write_text(
        "query,relevant-id,grade\nred,red-0.png,1\nred,red-1.png, 3\nred,red-2.png,0\n"
        "red,blue-0.png,\nblue,red-0.png,0\n"
    )
    judgements = load_judgements(library, table)
    assert judgements.texts == ["red"]  # nothing answers "blue"
    assert judgements.grades is not None
    ids, _ = library.vectors()
    names = {entry.id: Path(entry.path).name for entry in library.store.entries()}
    [places], [grades] = judgements.relevant, judgements.grades
    graded = {names[ids[place]]: grade for place, grade in zip(places, grades, strict=True)}
    assert graded == {"red-0.png": 1, "red-1.png": 3, "blue-0.png": 1}
    found = evaluate(library, judgements, ks=(4,)).methods["baseline"]["ndcg@4"].value
    # The fake model scores all reds the same: each of them has their mean grade.
    gains = np.array([4 / 3, 4 / 3, 4 / 3, 1])
    discount = 1 / np.log2(np.arange(2, 6))
    assert found == pytest.approx(gains @ discount / (np.array([3, 1, 1, 0]) @ discount))
    for wrong in ("high", "-1", "nan", "inf"):
        table.write_text(f"red,red-0.png,{wrong}\n")
        with pytest.raises(QueryError, match="line 1: the third column"):
            load_judgements(library, table)
    table.write_text("red,red-0.png,0\n")
    with pytest.raises(QueryError, match="all grades are 0"):
        load_judgements(library, table)


@pytest.mark.parametrize(("disk", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_in_either_unicode_form(
    tmp_path: Path, photos: Photos, model: ColourModel, disk: str, written: str
) -> None:
    folder = photos(red=1, blue=1)
    name = {form: normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")}  # type: ignore[arg-type]
    (folder / "red-0.png").rename(folder / name[disk])
    library = wordsight.create(tmp_path / "lib", model)
    library.index(folder)
    table = folder / "j.csv"
    table.write_text(f"red,{name[written]}\n", encoding="utf-8")
    captions = coco(tmp_path / "c.json", [name[written]])
    assert load_judgements(library, table).missing == []
    assert load_judgements(library, captions).missing == []
    # With both there, spelling decides.
    (folder / "blue-0.png").rename(folder / name[written])
    if len(list(folder.glob("caf*"))) < 2:
        pytest.skip("this file system takes both for one name")
    library.index(folder, prune="force")
    paths = {entry.id: entry.path for entry in library.store.entries()}
    for judged in (table, captions):
        [places] = load_judgements(library, judged).relevant
        assert paths[library.vectors()[0][places[0]]] == str(folder / name[written])


def test_labels_match_in_either_unicode_form(
    tmp_path: Path, photos: Photos, model: ColourModel
) -> None:
    for root, form in (("a", "NFC"), ("b", "NFD")):
        (tmp_path / root).mkdir()
        photos(f"{root}/red", red=1)
        folder = tmp_path / root / normalize(form, "caf\u00e9")  # type: ignore[arg-type]
        photos(f"{root}/x", blue=1).rename(folder)
    library = wordsight.create(tmp_path / "lib", model)
    library.index(tmp_path / "a")
    judgements = load_judgements(library, tmp_path / "b")
    assert (judgements.texts, judgements.missing) == (["caf\u00e9", "red"], [])
