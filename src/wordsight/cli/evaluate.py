"""``wordsight evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import (
    check_files,
    check_pictures,
    count,
    print_json,
    print_table,
    say,
    write_lines,
)
from wordsight.cli.opening import load, open_library
from wordsight.cli.standard import judge_model, judge_runs, keys_of, print_columns, write_trec
from wordsight.errors import WordsightError, reason
from wordsight.paths import expanded

if TYPE_CHECKING:
    from wordsight.api import Library
    from wordsight.evaluate import Evaluation, Judgements
    from wordsight.search import Hit


_Queries = Annotated[
    str | None,
    typer.Option(
        metavar="QUERIES",
        help="labels (those of the library), a folder or .tar with class folders, a COCO "
        "captions or instances .json, a .csv with query,relevant-id[,grade], or with --qrels "
        "a file of topics (id, tab, text).",
    ),
]
_Qrels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--qrels"),
        help="TREC judgements, for topics or for runs.",
    ),
]
_Benchmark = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:DIR",
        help="Instead of a library, a standard benchmark: wds:DIR (CLIP_benchmark's layout; "
        "wds:DIR:SPLIT; DIR may be a URL), flickr30k:DIR or coco-karpathy:DIR (Karpathy's splits), "
        "with --model.",
    ),
]
_Run = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--run"),
        help="Instead of a library, a TREC run that any program wrote, with --qrels. "
        "May be repeated.",
    ),
]
_TrecRun = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=options.given("--trec-run"), help="Write the rankings as a TREC run."
    ),
]
_TrecQrels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--trec-qrels"),
        help="Write the judgements as TREC qrels.",
    ),
]
_K = Annotated[
    str, typer.Option("--k", metavar="K,K,...", help="Values of K for Recall@K and the others.")
]
_Template = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Prompt template for labels ({} is the label); several are averaged.",
    ),
]
_Synonyms = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--synonyms"),
        help='A file of synonyms, one label per line: "car: auto, sedan".',
    ),
]
_Moments = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--moments"),
        help="Evaluate moments of videos instead: a .json of true ones, or QVHighlights' format.",
    ),
]
_Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--plot"),
        help="Save a plot of Recall@K for each method.",
    ),
]
_PerQuery = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--per-query"),
        help="Write a .jsonl file, one query per line.",
    ),
]
_Failures = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=options.given("--failures"),
        help="Save a picture of the worst queries and their results.",
    ),
]


@app.command(
    epilog=examples(
        "wordsight evaluate --library photos --queries labels",
        "wordsight evaluate --library coco --queries captions.json --plot recall.png",
        "wordsight evaluate --library cameras --moments truth.json",
        "wordsight evaluate --benchmark wds:vtab-cifar10 --model clip-vit-b32",
        "wordsight evaluate --run run.txt --qrels qrels.txt",
    )
)
def evaluate(
    queries: _Queries = None,
    qrels: _Qrels = None,
    benchmark: _Benchmark = None,
    run: _Run = None,
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    k: _K = "1,5,10",
    template: _Template = None,
    synonyms: _Synonyms = None,
    moments: _Moments = None,
    plot: _Plot = None,
    per_query: _PerQuery = None,
    failures: _Failures = None,
    trec_run: _TrecRun = None,
    trec_qrels: _TrecQrels = None,
    model: options.MovedModelOption = None,
    runtime: options.RuntimeOption = options.Runtime.auto,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure how well search works on a library.

    Prints Recall@K, MRR, mAP, nDCG and precision of each method, with 95 % intervals.
    """
    from wordsight.evaluate import evaluate as measured

    if moments:
        return _evaluate_moments(open_library(library, model, runtime, precision), moments, as_json)
    ks = _numbers(k)
    check_files([per_query, trec_run, trec_qrels])
    check_pictures([failures], plots=[plot])
    others = (queries, library, plot, per_query, failures, template, synonyms)
    if run:
        _alone("--run takes --qrels, --k", benchmark, model, trec_run, trec_qrels, *others)
        if not qrels:
            raise typer.BadParameter("--run needs --qrels FILE, the judgements.")
        return judge_runs(run, qrels, ks, as_json)
    if benchmark:
        _alone("--benchmark takes --model, --k, --trec-run, --trec-qrels", qrels, *others)
        made = partial(load, model or "auto", runtime, precision)
        return judge_model(benchmark, made, ks, trec_run, trec_qrels, as_json)
    if not queries:
        raise typer.BadParameter("give one of --queries, --moments, --benchmark and --run.")
    opened = open_library(library, model, runtime, precision)
    judgements = _judgements(opened, queries, qrels, template, synonyms)
    evaluation = measured(opened, judgements, ks=ks)
    if as_json:
        print_json(evaluation.to_json())
    else:
        _print_evaluation(evaluation, ks)
    if plot:
        _plot(evaluation, ks, plot)
    if per_query:
        write_lines(per_query, evaluation.per_query())
        say(f"Per query: {per_query}")
    write_trec(evaluation.run(opened), trec_run, evaluation.qrels(opened), trec_qrels)
    if failures:
        _failures(opened, evaluation, failures)


def _alone(takes: str, *others: object) -> None:
    """Raise BadParameter where an option that takes a few others alone is given with more."""
    if any(others):
        raise typer.BadParameter(f"{takes} and --json.")


def _judgements(
    library: Library,
    queries: str,
    qrels: Path | None,
    templates: Sequence[str] | None,
    synonyms: Path | None,
) -> Judgements:
    """The judgements that are asked for; says which of them the library does not hold."""
    from wordsight.evaluate import load_judgements

    judgements = load_judgements(
        library,
        queries,
        templates=templates,
        synonyms=_read_synonyms(synonyms) if synonyms else None,
        qrels=qrels,
    )
    if judgements.missing:
        say(
            f"note: {len(judgements.missing)} judged images or labels are not in the library, for "
            f"example {', '.join(judgements.missing[:5])}."
        )
    return judgements


def _plot(evaluation: Evaluation, ks: Sequence[int], file: Path) -> None:
    """Save a plot of Recall@K for each method."""
    from wordsight import render

    recall = {
        name: {n: (e.value, e.low, e.high) for n in ks for e in [values[f"recall@{n}"]]}
        for name, values in evaluation.methods.items()
    }
    render.save(render.recall_plot(recall, title="Recall@K"), file)
    say(f"Plot: {file}")


def _evaluate_moments(library: Library, path: Path, as_json: bool) -> None:
    from wordsight.evaluate.moments import evaluate_moments, read_truth

    found = evaluate_moments(library, read_truth(expanded(path)))
    if as_json:
        print_json(found.to_json())
        return
    queries = "1 query" if found.queries == 1 else f"{found.queries} queries"
    print(f"{queries}, {count(found.true_moments, 'moment')}, {found.shown_moments} shown")
    rows = [[name.replace("_", " "), f"{value:.3f}"] for name, value in found.figures.items()]
    rows += [[f"borders, {name}", f"{value:.2f} s"] for name, value in found.borders.items()]
    print_table(rows)


def _numbers(text: str) -> list[int]:
    """The values of K, ascending. Raises WordsightError."""
    try:
        ks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        ks = []
    if not ks or ks[0] < 1:
        raise WordsightError(
            f"--k takes whole numbers from 1, separated by commas (1,5,10), not '{text}'."
        )
    return ks


def _read_synonyms(path: Path) -> dict[str, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WordsightError(f"cannot read the synonyms {path}: {reason(error)}.") from None
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
    """A row per metric: its value and 95 % interval by each method, within 80 columns."""
    methods = dict(evaluation.methods)
    if evaluation.image_to_text:
        methods["image to text"] = evaluation.image_to_text
    queries = len(evaluation.judgements.texts)
    print(
        f"{queries:,} {'query' if queries == 1 else 'queries'}, "
        f"{count(evaluation.gallery, 'image')}; 95 % intervals (bootstrap over queries)"
    )
    print()
    print_columns(methods, [*keys_of(ks), "median_rank"])
    for size, objects in evaluation.by_size.items():
        print(f"\nObjects of {size} of the image's area:")
        _print_evaluation(objects, ks)


def _failures(library: Library, evaluation: Evaluation, file: Path) -> None:
    """Save a picture of the queries with the lowest average precision, and what came up instead."""
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
    render.save(render.sections(parts, title="The worst queries and their results", cell=140), file)
    say(f"Failures: {file}")


def _picture(library: Library, hit: Hit) -> Any:
    """The image of a hit, or what says that it is gone."""
    from wordsight import render

    try:
        return library.image(hit, min_side=280)
    except WordsightError:
        return render.missing_image()
