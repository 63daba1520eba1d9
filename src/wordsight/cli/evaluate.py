"""``wordsight evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordsight.cli.app import (
    JsonOption,
    LibraryOption,
    MovedModelOption,
    Precision,
    PrecisionOption,
    Runtime,
    RuntimeOption,
    app,
    examples,
    given,
)
from wordsight.cli.console import check_files, check_pictures, count, print_json, say, write_lines
from wordsight.cli.opening import open_library
from wordsight.errors import WordsightError, reason

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.evaluate import Evaluation
    from wordsight.search import Hit


@app.command(
    epilog=examples(
        "wordsight evaluate --library photos --queries labels",
        "wordsight evaluate --library coco --queries captions.json --plot recall.png",
    )
)
def evaluate(
    queries: Annotated[
        str,
        typer.Option(
            metavar="QUERIES",
            help="labels (those of the library), a folder or .tar with class folders, a COCO "
            "captions or instances .json, or a .csv of query,relevant-id[,grade].",
        ),
    ],
    library: LibraryOption = None,
    k: Annotated[
        str, typer.Option("--k", metavar="K,K,...", help="The K of Recall@K and the others.")
    ] = "1,5,10",
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="How a label is put into words; several are averaged."),
    ] = None,
    synonyms: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=given("--synonyms"),
            help='More words for labels, a line each: "car: auto, sedan".',
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=given("--plot"), help="Write Recall@K by method as a picture."
        ),
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=given("--per-query"), help="Write a .jsonl file, a query a line."
        ),
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=given("--failures"),
            help="Write the worst queries and what came up as a picture.",
        ),
    ] = None,
    model: MovedModelOption = None,
    runtime: RuntimeOption = Runtime.auto,
    precision: PrecisionOption = Precision.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a library is searched.

    Recall@K, MRR, mAP, nDCG and precision, a row a method, with 95 % intervals.
    """
    from wordsight import render
    from wordsight.evaluate import evaluate as run
    from wordsight.evaluate import load_judgements

    try:
        ks = sorted({int(part) for part in k.split(",")})
    except ValueError:
        ks = []
    if not ks or ks[0] < 1:
        raise WordsightError(f"--k takes whole numbers from 1 with commas (1,5,10), not '{k}'.")
    check_files([per_query])
    check_pictures([failures], plots=[plot])
    opened = open_library(library, model, runtime, precision)
    judgements = load_judgements(
        opened,
        queries,
        templates=template,
        synonyms=_read_synonyms(synonyms) if synonyms else None,
    )
    if judgements.missing:
        say(
            f"note: {len(judgements.missing)} judged ids or labels are not in the library "
            f"(first: {', '.join(judgements.missing[:5])})"
        )
    evaluation = run(opened, judgements, ks=ks)
    if as_json:
        print_json(evaluation.to_json())
    else:
        _print_evaluation(evaluation, ks)
    if plot:
        recall = {
            name: {n: (e.value, e.low, e.high) for n in ks for e in [values[f"recall@{n}"]]}
            for name, values in evaluation.methods.items()
        }
        render.save(render.recall_plot(recall, title="Recall@K"), plot)
        say(f"plot: {plot}")
    if per_query:
        write_lines(per_query, evaluation.per_query())
        say(f"per query: {per_query}")
    if failures:
        render.save(_failures(opened, evaluation), failures)
        say(f"failures: {failures}")


def _read_synonyms(path: Path) -> dict[str, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WordsightError(f"the synonyms {path} cannot be read: {reason(error)}.") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        label, colon, words = line.partition(":")
        if not colon:
            raise WordsightError(f'{path}, line {number}: write "label: word, word".')
        found[label.strip()] = [word.strip() for word in words.split(",") if word.strip()]
    return found


def _print_evaluation(evaluation: Evaluation, ks: Sequence[int]) -> None:
    """A table, a row per method: the figure and half the width of its 95 % interval."""
    keys = [*(f"recall@{n}" for n in ks), "mrr", "map", f"ndcg@{ks[-1]}", f"precision@{ks[-1]}"]
    methods = dict(evaluation.methods)
    if evaluation.image_to_text:
        methods["image to text"] = evaluation.image_to_text
    width = max(len(name) for name in methods)
    print(
        f"{count(len(evaluation.judgements.texts), 'query').replace('querys', 'queries')}, "
        f"{count(evaluation.gallery, 'image')}; 95 % intervals by bootstrap over queries"
    )
    print(f"{'':<{width}}  " + "  ".join(f"{key:>19}" for key in keys) + "  median rank")
    for name, values in methods.items():
        cells = [
            f"{values[key].value:.3f} [{values[key].low:.3f},{values[key].high:.3f}]"
            for key in keys
        ]
        rank = values["median_rank"].value
        print(f"{name:<{width}}  " + "  ".join(f"{cell:>19}" for cell in cells) + f"  {rank:>11g}")
    for size, part in evaluation.by_size.items():
        print(f"\nObjects of {size} of the image's area:")
        _print_evaluation(part, ks)


def _failures(library: Library, evaluation: Evaluation) -> Any:
    """The queries with the lowest average precision, and the images that came up instead."""
    from wordsight import render
    from wordsight.library import id_from_int
    from wordsight.search import nearest

    judgements = evaluation.judgements
    ids = library.store.snapshot().ids
    parts = []
    for place in evaluation.worst("baseline", 6):
        right = {id_from_int(ids[i]) for i in judgements.relevant[place]}
        tiles = [
            render.Tile(
                _picture(library, hit),
                [f"{hit.rank}.  {hit.score:.3f}", *([hit.label] if hit.label else [])],
                highlight="good" if hit.id in right else "bad",
            )
            for hit in nearest(
                library.store,
                judgements.vectors[place],
                5,
                without=judgements.ignored[place] if judgements.ignored else (),
            )
        ]
        parts.append((judgements.texts[place], tiles))
    return render.sections(parts, title="The worst queries, and what came up", cell=140)


def _picture(library: Library, hit: Hit) -> Any:
    """The image of a hit, or what says that it is gone."""
    from wordsight import render

    try:
        return library.image(hit, min_side=280)
    except WordsightError:
        return render.missing_image()
