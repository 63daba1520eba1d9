"""``wordsight classify``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordsight.bank import with_article
from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import (
    check_files,
    check_pictures,
    count,
    nearby,
    print_json,
    progress_bar,
    say,
    text_file,
    write_lines,
)
from wordsight.cli.opening import load, open_place
from wordsight.errors import WordsightError
from wordsight.paths import sentence_end

if TYPE_CHECKING:
    from wordsight.classify import Classification, Classifier
    from wordsight.sources import Item


_Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Image files, folders, .tar shards, - (stdin)."),
]
_Labels = Annotated[
    str,
    typer.Option(
        metavar="LABELS",
        help="A label set (everyday, cifar10, caltech101, imagenet), a file with one label per "
        'line, or "dog,cat,car". A single label sorts "dog" from "not a dog".',
    ),
]
_Top = Annotated[int, typer.Option(metavar="N", help="How many labels to show per image.", min=1)]
_Template = Annotated[
    str, typer.Option(metavar="TEXT", help="Prompt template; {} stands for the label.")
]
_Ensemble = Annotated[bool, typer.Option("--ensemble", help="Average over many prompt templates.")]
_Closed = Annotated[bool, typer.Option("--closed", help='Never answer "none of these".')]
_Temperature = Annotated[
    str,
    typer.Option(
        metavar="T|FOLDER",
        help="Calibrate confidences: a number that divides the logits, or a folder of class "
        "folders to fit it on.",
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--output"),
        help="Write a .csv or .jsonl file instead.",
    ),
]
_Grid = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--grid"),
        help="Write a picture of the first 20 images.",
    ),
]
_WriteXmp = Annotated[
    bool,
    typer.Option(
        "--write-xmp",
        help="Write the best label as a keyword into a sidecar beside each image "
        "(photo.jpg.xmp). Images, and sidecars of other programs, are never changed.",
    ),
]


@app.command(
    epilog=examples(
        'wordsight classify photo.jpg --labels "dog,cat,car"',
        "wordsight classify photos/ --labels imagenet --output results.csv",
        'wordsight classify photos/ --labels "dog,cat" --write-xmp',
    )
)
def classify(
    images: _Images,
    labels: _Labels = "everyday",
    top: _Top = 3,
    template: _Template = "a photo of a {}.",
    ensemble: _Ensemble = False,
    closed: _Closed = False,
    temperature: _Temperature = "1",
    output: _Output = None,
    grid: _Grid = None,
    write_xmp: _WriteXmp = False,
    model: options.ModelOption = "auto",
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Find the labels that fit each image best.

    If no label fits an image better than unrelated phrases do, the answer is "none of these". If
    the images are in class folders named like the labels, the accuracy is printed too.
    """
    from wordsight.classify import ENSEMBLE, Classifier

    if output and output.suffix.lower() not in (".csv", ".jsonl"):
        raise WordsightError(f"{output}: the name must end in .csv or .jsonl.")
    check_files([output])
    check_pictures([grid])
    items = [item for place in images for item in _items_of(place)]
    loaded = load(model, runtime, precision)
    classifier = Classifier(
        loaded, labels, templates=ENSEMBLE if ensemble else (template,), closed=closed
    )
    classifier.temperature = _temperature(temperature, classifier)
    rows, good = _classify(classifier, items, top, quiet=bool(output) or as_json)
    if write_xmp:
        _write_sidecars(rows)
    if output:
        (_write_table if output.suffix.lower() == ".csv" else write_lines)(output, rows)
        say(f"Results for {count(len(rows), 'image')} written to {output}.")
    elif as_json:
        print_json(rows)
    if not good:
        raise WordsightError("no image could be read.")
    _report_accuracy(classifier, good)
    if grid:
        _draw_classified(classifier, good[:20], grid)


def _classify(
    classifier: Classifier, items: Sequence[Item], top: int, *, quiet: bool
) -> tuple[list[dict[str, Any]], list[tuple[Item, Any]]]:
    """A row of each image, printed unless ``quiet``; and the images that could be read, encoded."""
    from wordsight.classify import encode_items

    rows: list[dict[str, Any]] = []
    good: list[tuple[Item, Any]] = []
    with progress_bar("classifying", "images") as progress:
        for done, (item, vector) in enumerate(encode_items(classifier.model, items), start=1):
            row: dict[str, Any] = {"path": item.path}
            if isinstance(vector, str):
                row["error"] = vector
                say(f"Skipped {nearby(item.path)}: {vector}")
            else:
                good.append((item, vector))
                judged = classifier.judge(vector[None], top)[0]
                row |= judged.to_json()
                if not quiet:
                    print(_classified(nearby(item.path), judged, alone=len(classifier.labels) == 1))
            rows.append(row)
            progress(done, len(items))
    return rows, good


def _write_sidecars(rows: Sequence[dict[str, Any]]) -> None:
    """Of the images that a label fits."""
    from wordsight.cli.sidecars import write_sidecar

    fits = [row for row in rows if row.get("top") and not row["none_of_these"]]
    done = 0
    for row in fits:
        try:
            write_sidecar(row["path"], [row["top"][0]["label"]])
            done += 1
        except WordsightError as error:
            say(f"no sidecar for {nearby(row['path'])}: {error}")
    without = count(len(rows) - len(fits), "image")
    say(f"{count(done, 'sidecar')} written; {without} without a label.")


def _temperature(text: str, classifier: Classifier) -> float:
    """A number, or what fits the labelled images of a folder. Raises WordsightError."""
    from wordsight.classify import fit_on

    try:
        return _positive(float(text))
    except ValueError:
        fitted = fit_on(classifier, open_place(text).items())
        say(f"Temperature fitted on {text}: {fitted:.3f}")
        return fitted


def _positive(value: float) -> float:
    if not 1e-6 <= value <= 1e6:  # far beyond use; more overflows
        raise WordsightError(f"the temperature must be between 1e-6 and 1e6, not {value:g}.")
    return value


def _items_of(place: str) -> list[Item]:
    """The images at a path, a file:// URL, or - for the bytes on standard input."""
    from wordsight.errors import SourceError
    from wordsight.sources import Item

    if place == "-":
        data = sys.stdin.buffer.read()
        return [Item("0" * 16, "-", len(data), 0, None, "-", lambda _item: data)]
    items = open_place(place).items()
    if not items:
        raise SourceError(f"no image found in {sentence_end(place)}.")
    return items


def _classified(path: str, judged: Classification, *, alone: bool) -> str:
    """The line of an image. No confidence of a label that was just turned down."""
    if not judged.none_of_these:
        return f"{path}:  " + "  ".join(f"{c.label} {c.confidence:.1%}" for c in judged.top)
    if alone:
        return f"{path}:  not {with_article(judged.top[0].label)}"
    return f"{path}:  none of these (closest: {', '.join(c.label for c in judged.top)})"


def _write_table(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Classifications as CSV: path, none_of_these, label1, confidence1, ..., error."""
    import csv

    most = max((len(row.get("top", ())) for row in rows), default=0)
    numbered = [f"{name}{i}" for i in range(1, most + 1) for name in ("label", "confidence")]
    with text_file(output) as file:
        table = csv.writer(file)
        table.writerow(["path", "none_of_these", *numbered, "error"])
        for row in rows:
            found = [value for c in row.get("top", ()) for value in (c["label"], c["confidence"])]
            found += [""] * (2 * most - len(found))
            table.writerow(
                [row["path"], row.get("none_of_these", ""), *found, row.get("error", "")]
            )


def _report_accuracy(classifier: Classifier, good: Sequence[tuple[Item, Any]]) -> None:
    """Where true labels are known, say how right the labels are."""
    import numpy as np

    from wordsight.evaluate import classification_report

    if len(classifier.labels) < 2:
        return
    place = {label: i for i, label in enumerate(classifier.labels)}
    known = [(vector, place[item.label]) for item, vector in good if item.label in place]
    if not known:
        return
    report = classification_report(
        classifier.confidences(np.stack([vector for vector, _ in known])),
        np.array([truth for _, truth in known]),
    )
    say(
        f"{count(report.images, 'image')} with known labels: accuracy {report.accuracy:.4f}, "
        f"top-3 {report.top3_accuracy:.4f}, expected calibration error {report.ece:.4f}"
    )


def _draw_classified(
    classifier: Classifier, good: Sequence[tuple[Item, Any]], output: Path
) -> None:
    import numpy as np

    from wordsight import render
    from wordsight.images import open_image

    judged = classifier.judge(np.stack([vector for _, vector in good]))
    rows = [
        render.Classified(
            open_image(item.read()),
            [(c.label, c.confidence) for c in found.top],
            truth=item.label if item.label in classifier.labels else None,
            none_of_these=found.none_of_these,
        )
        for (item, _), found in zip(good, judged, strict=True)
    ]
    render.save(render.classification_montage(rows, title="Top labels"), output)
    say(f"Picture: {output}")
