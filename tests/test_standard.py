"""Standard benchmarks from their own layouts, and TREC's files, held against ir-measures."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_models import make_clip
from fakes import ANCHORS, ColourModel
from PIL import Image

import wordsight
from wordsight.cli import main
from wordsight.errors import QueryError
from wordsight.evaluate import load_judgements
from wordsight.evaluate.standard import measure, read_benchmark
from wordsight.evaluate.trec import judge_run, write_qrels, write_run
from wordsight.sources import expand_braces
from wordsight.sources.webdataset import key_of, texts_beside

Photos = Callable[..., Path]
COLOURS = list(ANCHORS)


def _png(colour: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.array(ANCHORS[colour]) + rng.integers(-15, 15, (24, 32, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def retrieval(tmp_path: Path) -> Path:
    return write_retrieval(tmp_path / "wds")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "classes")


def write_retrieval(folder: Path) -> Path:
    """Two shards; the caption of the last image is that of another colour."""
    (folder / "test").mkdir(parents=True)
    (folder / "dataset_type.txt").write_text("retrieval\n")
    (folder / "test/nshards.txt").write_text("2")
    told = [*COLOURS[:5], "red"]
    for shard in range(2):
        members: dict[str, bytes] = {}
        for i in range(3 * shard, 3 * shard + 3):
            members[f"s{i:04}.png"] = _png(COLOURS[i], i)
            members[f"s{i:04}.txt"] = f"{told[i]} thing\na {told[i]} picture".encode()
        _shard(folder / f"test/{shard}.tar", members)
    return folder


def write_classes(folder: Path) -> Path:
    """One shard; the class of the first image is wrong."""
    _shard(
        folder / "test/0.tar",
        {
            name: data
            for i in range(8)
            for name, data in (
                (f"{i}.png", _png(COLOURS[i % 4], i)),
                (f"{i}.cls", str(i % 4 if i else 3).encode()),
            )
        },
    )
    (folder / "test/nshards.txt").write_text("1\n")
    (folder / "classnames.txt").write_text("\n".join(COLOURS[:4]))
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c}\n")
    return folder


def test_retrieval_both_ways(retrieval: Path, model: ColourModel) -> None:
    measured = measure(model, read_benchmark(f"wds:{retrieval}"), ks=(1, 6))  # type: ignore[arg-type]
    figures = {
        task: {key: round(one.value, 3) for key, one in values.items()}
        for task, values in measured.figures.items()
    }
    assert len(measured.captions) == 12
    assert figures["text to image"]["recall@1"] == 0.833  # 10 of 12 captions
    assert figures["text to image"]["recall@6"] == 1.0
    assert figures["image to text"]["recall@1"] == 0.75  # two red images' captions tie: 4.5 of 6


def test_zero_shot_classes(classes: Path, model: ColourModel) -> None:
    measured = measure(model, read_benchmark(f"wds:{classes}:test"))  # type: ignore[arg-type]
    values = measured.figures["zero-shot"]
    assert values["acc1"].value == pytest.approx(7 / 8)  # the first has another class
    assert values["acc5"].value == 1.0
    assert values["mean_per_class_recall"].value == pytest.approx((1 + 1 + 1 + 2 / 3) / 4)


def test_karpathys_split(tmp_path: Path, model: ColourModel) -> None:
    images = []
    for i, colour in enumerate(("red", "blue", "green")):
        (tmp_path / "val2014").mkdir(exist_ok=True)
        (tmp_path / f"val2014/{i}.png").write_bytes(_png(colour, i))
        sentences = [{"raw": f"{colour} number {n}"} for n in range(6)]
        split = "train" if colour == "green" else "test"
        images.append({"filepath": "val2014", "filename": f"{i}.png", "split": split,
                       "sentences": sentences})  # fmt: skip
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    measured = measure(model, read_benchmark(f"coco-karpathy:{tmp_path}"))  # type: ignore[arg-type]
    assert len(measured.captions) == 10  # five of an image, of two images
    assert measured.figures["text to image"]["recall@1"].value == 1.0


@pytest.mark.parametrize("place", ["", "images", "flickr30k-images"])
def test_flickrs_images_lie_beside_their_split(
    tmp_path: Path, model: ColourModel, place: str
) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "0.png").write_bytes(_png("red", 0))
    image = {"filename": "0.png", "split": "test", "sentences": [{"raw": "red"}]}
    split = tmp_path / "dataset_flickr30k.json"
    split.write_text(json.dumps({"images": [image]}))
    assert len(read_benchmark(f"flickr30k:{tmp_path}").items) == 1
    (tmp_path / place / "0.png").unlink()
    with pytest.raises(QueryError, match="also from the folders images and flickr30k-images"):
        read_benchmark(f"flickr30k:{tmp_path}")
    split.unlink()
    with pytest.raises(QueryError, match=r"there is no dataset_flickr30k.json in .*beside"):
        read_benchmark(f"flickr30k:{tmp_path}")


def test_captions_without_a_type_are_told_how_to_say_it(retrieval: Path) -> None:
    (retrieval / "dataset_type.txt").unlink()
    with pytest.raises(QueryError, match=r"no classnames.txt; .*retrieval into .*type.txt"):
        read_benchmark(f"wds:{retrieval}")


def test_the_command(
    retrieval: Path, classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(make_clip(tmp_path / "clip"))

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *arguments])
        return int(end.value.code or 0)

    benchmark = ["--benchmark", f"wds:{retrieval}", "--model", clip]
    files = ["--trec-run", str(tmp_path / "run"), "--trec-qrels", str(tmp_path / "qrels")]
    assert run(*benchmark, *files, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["captions"], told["model"]) == (6, 12, "clip")
    assert len((tmp_path / "run").read_text().splitlines()) == 12 * 6
    assert len((tmp_path / "qrels").read_text().splitlines()) == 12
    assert run("--benchmark", f"wds:{classes}", "--model", clip) == 0
    assert "mean_per_class_recall" in capsys.readouterr().out
    assert run("--benchmark", f"wds:{classes}", "--model", clip, *files) == 2
    assert run("--benchmark", "imagenet", "--model", clip) == 2
    assert "write wds:DIR" in capsys.readouterr().err
    assert run("--benchmark", f"wds:{tmp_path / 'none'}", "--model", clip) == 2
    assert run() == 2


def test_runs_and_qrels_give_ir_measures_the_same_figures(
    photos: Photos, model: ColourModel, tmp_path: Path
) -> None:
    ir = pytest.importorskip("ir_measures", reason="make test-connect installs it")
    from wordsight.evaluate import evaluate

    library = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    library.index(photos(red=4, blue=3, green=2))
    graded = [f"red,{p},{1 + i}" for i, p in enumerate(sorted(tmp_path.glob("photos/red*")))]
    graded += [f"something blue,{p}" for p in tmp_path.glob("photos/*-1.png")]
    (tmp_path / "judged.csv").write_text("\n".join(graded))
    judged = load_judgements(library, tmp_path / "judged.csv")
    # Words point anywhere, so that no two images tie: tools order these as they like.
    vectors = np.random.default_rng(0).normal(size=judged.vectors.shape).astype(np.float32)
    judged.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = evaluate(library, judged, ks=(2, 5))
    with (tmp_path / "run").open("w") as run, (tmp_path / "qrels").open("w") as qrels:
        write_run(run, found.run(library))
        write_qrels(qrels, found.qrels(library))
    wanted = {"recall@2": ir.Success @ 2, "recall_fraction@2": ir.R @ 2, "precision@5": ir.P @ 5,
              "mrr": ir.RR, "map": ir.AP, "ndcg@5": ir.nDCG @ 5}  # fmt: skip
    theirs = ir.calc_aggregate(
        list(wanted.values()),
        ir.read_trec_qrels(str(tmp_path / "qrels")),
        ir.read_trec_run(str(tmp_path / "run")),
    )
    ours = found.methods["baseline"]
    for key, measure_ in wanted.items():
        assert ours[key].value == pytest.approx(theirs[measure_], abs=1e-6), key


def test_topics_and_qrels_are_read(photos: Photos, model: ColourModel, tmp_path: Path) -> None:
    library = wordsight.create(tmp_path / "L", model)  # type: ignore[arg-type]
    library.index(photos(red=2, blue=1))
    ids = {Path(entry.path).name: entry.id for entry in library.store.entries()}
    topics, qrels = tmp_path / "topics.tsv", tmp_path / "qrels"
    topics.write_text("7\tred\n8\tblue\n")
    qrels.write_text(f"7 0 {ids['red-0.png']} 2\n7 0 {ids['blue-0.png']} 0\n8 0 x -1\n")
    judged = load_judgements(library, topics, qrels=qrels)
    assert judged.texts == ["red"]
    assert judged.missing == ["x"]
    assert judged.grades is not None
    assert judged.grades[0].tolist() == [2.0]
    qrels.write_text("9 0 x 1\n")
    with pytest.raises(QueryError, match="has no query 9"):
        load_judgements(library, topics, qrels=qrels)


def test_a_run_of_another_program_gets_the_figures_of_ir_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut-off lists, lost documents, negative grades, queries that either file lacks."""
    ir = pytest.importorskip("ir_measures", reason="make test-connect installs it")
    rng = np.random.default_rng(0)
    judged, answered = [], []
    for query in range(30):
        for document in rng.choice(60, 8, replace=False):
            judged.append(f"{query} 0 d{document} {rng.integers(-1, 4)}")
        judged.append(f"{query} 0 lost {rng.integers(1, 4)}")  # is in no run
        for rank, document in enumerate(rng.permutation(60)[: rng.integers(3, 40)]):
            answered.append(f"{query + 2} Q0 d{document} {rank} {rng.normal():.9f} other")
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    run.write_text("\n".join(answered))
    qrels.write_text("\n".join(judged))
    found = judge_run(run, qrels, (1, 10, 50))
    assert (found.queries, found.unanswered, found.unjudged) == (30, 2, 2)
    wanted = {"recall@10": ir.Success @ 10, "recall_fraction@10": ir.R @ 10, "mrr": ir.RR,
              "precision@10": ir.P @ 10, "map": ir.AP, "ndcg@10": ir.nDCG @ 10,
              "ndcg@50": ir.nDCG @ 50, "recall_fraction@50": ir.R @ 50}  # fmt: skip
    theirs = ir.calc_aggregate(
        list(wanted.values()), ir.read_trec_qrels(str(qrels)), ir.read_trec_run(str(run))
    )
    for key, measure_ in wanted.items():
        assert found.figures[key].value == pytest.approx(theirs[measure_], abs=1e-6), key


def test_runs_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *arguments])
        return int(end.value.code or 0)

    first, second, qrels = (str(tmp_path / name) for name in ("first", "second", "qrels"))
    Path(qrels).write_text("1 0 a b.jpg 1\n1 0 c.jpg 2\n2 0 d.jpg 1\n2 0 e.jpg 0\n3 0 e.jpg 0\n")
    Path(first).write_text("1 Q0 a b.jpg 9 0.2 x\n1 Q0 c.jpg 1 0.9 x\n2 Q0 d.jpg 1 5 x\n")
    Path(second).write_text("1 Q0 z.jpg 1 0.5 x\n1 Q0 c.jpg 2 0.5 x\n7 Q0 d.jpg 1 5 x\n")
    assert run("--run", first, "--run", second, "--qrels", qrels, "--k", "1,2", "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [one["run"] for one in runs] == [first, second]
    assert runs[0]["queries"] == 2
    assert runs[0]["figures"]["recall@1"] == runs[0]["figures"]["map"] == 1.0
    # One query is not answered; in the other two documents have one score: either may be first.
    assert (runs[1]["unanswered"], runs[1]["unjudged"]) == (1, 1)
    assert runs[1]["figures"]["recall@1"] == 0.25
    assert runs[1]["figures"]["mrr"] == pytest.approx((1 + 1 / 2) / 2 / 2)
    assert run("--run", first, "--qrels", qrels) == 0
    assert "2 queries" in capsys.readouterr().out

    for lines, told in (
        ("1 Q0 a 1 x\n", "line 1: write query Q0 document rank score name"),
        ("1 Q0 a 1 nan x\n", "line 1: write query Q0"),
        ("1 Q0 a 1 2 x\n1 Q0 a 2 1 x\n", "line 2: a is listed twice for 1"),
        ("9 Q0 a 1 2 x\n", "no query in common"),
        ("\n", "contains no lines of a run"),
    ):
        Path(first).write_text(lines)
        assert run("--run", first, "--qrels", qrels) == 2
        assert told in capsys.readouterr().err
    Path(qrels).write_text("1 0 a high\n")
    assert run("--run", second, "--qrels", qrels) == 2
    assert "line 1: write query 0 document grade" in capsys.readouterr().err
    Path(qrels).write_text("1 0 a 0\n")
    assert run("--run", second, "--qrels", qrels) == 2
    assert run("--run", second) == 2
    assert run("--run", second, "--qrels", qrels, "--library", "x") == 2
    assert run("--run", str(tmp_path / "none"), "--qrels", qrels) == 2


def test_names_of_shards(tmp_path: Path) -> None:
    assert expand_braces("a/{08..11}.tar") == [f"a/{n}.tar" for n in ("08", "09", "10", "11")]
    assert expand_braces("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    assert expand_braces("plain{}.tar") == ["plain{}.tar"]
    (tmp_path / "{0..1}.tar").touch()
    assert expand_braces(tmp_path / "{0..1}.tar") == [str(tmp_path / "{0..1}.tar")]
    assert key_of("a.b/c.d.jpg") == "a.b/c"


def test_texts_beside_images(tmp_path: Path) -> None:
    members = {"a.jpg": b"-", "a.txt": "Grüße".encode(), "b.json": b"{}", "b.jpg": b"-"}
    _shard(tmp_path / "x.tar", members)
    assert texts_beside(tmp_path / "x.tar", "txt", "json") == {
        "a": {"txt": "Grüße"},
        "b": {"json": "{}"},
    }
