"""What ``wordsight evaluate`` says without a library: standard benchmarks, and runs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wordsight.cli.console import count, print_json, print_table, progress_bar, say, text_file
from wordsight.errors import WordsightError

if TYPE_CHECKING:
    from wordsight.evaluate.metrics import Estimate
    from wordsight.models import ClipModel


def judge_model(
    spec: str,
    load: Callable[[], ClipModel],
    ks: Sequence[int],
    trec_run: Path | None,
    trec_qrels: Path | None,
    as_json: bool,
) -> None:
    """Measure a model on a standard benchmark and say what came out."""
    from wordsight.evaluate.standard import measure, read_benchmark

    chosen = read_benchmark(spec)
    if chosen.labels and (trec_run or trec_qrels):
        raise WordsightError(
            f"{spec} is a classification benchmark, so there are no rankings to write."
        )
    model = load()
    with progress_bar("encoding", "images") as progress:
        measured = measure(model, chosen, ks=ks, progress=progress)
    if measured.captions:
        write_trec(measured.run(), trec_run, measured.qrels(), trec_qrels)
    if as_json:
        print_json({**measured.to_json(), "model": model.name})
        return
    for path, why in measured.skipped:
        say(f"Skipped {path}: {why}")
    of = f"{count(len(measured.captions), 'caption')}" if measured.captions else ""
    of = of or f"{len(chosen.labels):,} classes, {count(len(chosen.templates), 'template')}"
    images = count(len(chosen.items) - len(measured.skipped), "image")
    print(f"{spec}: {images}, {of}, model {model.name}; 95 % intervals (bootstrap)")
    for task, figures in measured.figures.items():
        keys = [f"recall@{k}" for k in ks] if measured.captions else list(figures)
        rows = [(key, figures[key]) for key in keys]
        print(f"\n{task}")
        print_table([[key, f"{e.value:.4f}", f"[{e.low:.4f}, {e.high:.4f}]"] for key, e in rows])


def judge_runs(runs: Sequence[Path], qrels: Path, ks: Sequence[int], as_json: bool) -> None:
    """Say how good runs are, a column each."""
    from wordsight.evaluate.trec import judge_run

    judged = [judge_run(run, qrels, ks) for run in runs]
    if as_json:
        print_json({"qrels": str(qrels), "runs": [one.to_json() for one in judged]})
        return
    print(f"{judged[0].queries:,} queries of {qrels}; 95 % intervals (bootstrap over queries)\n")
    for one in judged:
        if one.unanswered or one.unjudged:
            say(
                f"note: {one.run} does not answer {one.unanswered:,} of these queries (counted as "
                f"0); {one.unjudged:,} others that it answers do not count."
            )
    print_columns(
        {one.run: one.figures for one in judged}, [*keys_of(ks), f"recall_fraction@{ks[-1]}"]
    )


def write_trec(
    hits: Iterable[tuple[int, list[tuple[str, float]]]],
    run: Path | None,
    relevant: Iterable[tuple[int, str, float]],
    qrels: Path | None,
) -> None:
    """Write rankings and judgements, where they are asked for."""
    from wordsight.evaluate.trec import write_qrels, write_run

    if run:
        with text_file(run) as file:
            write_run(file, hits)
        say(f"Run: {run}")
    if qrels:
        with text_file(qrels) as file:
            write_qrels(file, relevant)
        say(f"Qrels: {qrels}")


def keys_of(ks: Sequence[int]) -> list[str]:
    """The metrics that are shown, in their order."""
    recalls = [f"recall@{n}" for n in ks]
    return [*recalls, "mrr", "map", f"ndcg@{ks[-1]}", f"precision@{ks[-1]}"]


def print_columns(methods: Mapping[str, Mapping[str, Estimate]], keys: Sequence[str]) -> None:
    """A row a metric, two or three columns beside each other."""

    def cell(key: str, figure: Estimate) -> str:
        if key == "median_rank":
            return f"{figure.value:g}"
        return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"

    names = list(methods)
    side_by_side = 3 if len(names) <= 3 else 2
    for place in range(0, len(names), side_by_side):
        part = names[place : place + side_by_side]
        if place:
            print()
        rows = [
            [key.replace("_", " "), *(cell(key, methods[name][key]) for name in part)]
            for key in keys
        ]
        print_table([["", *part], *rows])
