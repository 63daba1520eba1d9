"""TREC's formats, which other tools for evaluation read: qrels and runs.

A line of qrels is "query 0 document grade", of a run "query Q0 document rank score name"
(https://trec.nist.gov/data/qrels_eng/, trec_eval's README). Here names of documents may hold
spaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from wordsight.errors import QueryError, reason

if TYPE_CHECKING:
    from wordsight.evaluate.metrics import Estimate


def read_qrels(topics: str | Path, qrels: str | Path) -> list[tuple[str, str, str]]:
    """(query, document, grade) of a file of topics ("id<TAB>text" a line) and its qrels.

    Raises QueryError where a file cannot be read, or qrels name a query that has no text.
    """
    texts = {}
    for number, line in _lines(Path(topics)):
        name, tab, text = line.partition("\t")
        if not tab:
            raise QueryError(f"{topics}, line {number}: write the query's id, a tab, and its text.")
        texts[name.strip()] = text.strip()
    found = []
    for number, line in _lines(Path(qrels)):
        query, document, grade = _judgement(line, f"{qrels}, line {number}")
        if query not in texts:
            raise QueryError(f"{qrels}, line {number}: {topics} has no query {query}.")
        found.append((texts[query], document, grade))
    return found


@dataclass(slots=True)
class JudgedRun:
    """Metrics of a run: ``figures`` as :func:`~wordsight.evaluate.metrics.summarize` gives them.

    ``queries`` are those with a relevant document; of these the run answers all but ``unanswered``.
    ``unjudged`` queries of the run are not in the qrels, or have no relevant document there.
    """

    run: str
    queries: int
    unanswered: int
    unjudged: int
    figures: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight evaluate --run --json`` prints of a run."""
        return {
            "run": self.run,
            "queries": self.queries,
            "unanswered": self.unanswered,
            "unjudged": self.unjudged,
            "figures": {key: round(one.value, 5) for key, one in self.figures.items()},
            "intervals": {
                key: [round(one.low, 5), round(one.high, 5)] for key, one in self.figures.items()
            },
        }


def judge_run(run: str | Path, qrels: str | Path, ks: Sequence[int] = (1, 5, 10)) -> JudgedRun:
    """Metrics of a run that any program has written, by qrels, as trec_eval has them.

    Documents are ordered by score; those of equal score count as in any order. A relevant document
    that the run does not name is never found, and so are those of queries that it does not answer.
    Queries without a relevant document count neither way. There is no median rank: most runs end
    before every relevant document is found. Raises QueryError where a file cannot be read.
    """
    from wordsight.evaluate.metrics import summarize
    from wordsight.evaluate.ranking import Ranking

    ranked = _read_run(Path(run))
    relevant: dict[str, dict[str, float]] = {}
    for number, line in _lines(Path(qrels)):
        query, document, grade = _judgement(line, f"{qrels}, line {number}")
        if float(grade) > 0:
            relevant.setdefault(query, {})[document] = float(grade)
    if not relevant:
        raise QueryError(f"{qrels} names no relevant document (a grade above 0).")
    answers = [ranked.get(query, {}) for query in relevant]
    if not any(answers):
        raise QueryError(f"{run} and {qrels} have no query in common; do their ids agree?")
    figures = summarize(Ranking.from_run(answers, list(relevant.values())), ks)
    del figures["median_rank"]
    return JudgedRun(
        str(run),
        len(relevant),
        sum(not answer for answer in answers),
        len(ranked.keys() - relevant.keys()),
        figures,
    )


def _read_run(path: Path) -> dict[str, dict[str, float]]:
    """The documents of each query with their scores."""
    ranked: dict[str, dict[str, float]] = {}
    for number, line in _lines(path):
        parts = line.split()
        try:
            # Names of documents may hold spaces here, as they do in qrels.
            query, document, score = parts[0], " ".join(parts[2:-3]), float(parts[-2])
        except (IndexError, ValueError):
            document = ""
        if not document or math.isnan(score):
            raise QueryError(f"{path}, line {number}: write query Q0 document rank score name.")
        if document in ranked.setdefault(query, {}):
            raise QueryError(f"{path}, line {number}: {document} is listed twice for {query}.")
        ranked[query][document] = score
    if not ranked:
        raise QueryError(f"{path} contains no lines of a run: query Q0 document rank score name.")
    return ranked


def _judgement(line: str, where: str) -> tuple[str, str, str]:
    """Query, document and grade of a line of qrels."""
    parts = line.split()
    try:
        grade = float(parts[3:][-1])
    except (IndexError, ValueError):
        grade = math.nan
    if not math.isfinite(grade):
        raise QueryError(f"{where}: write query 0 document grade.")
    # Negative grades mark spam in some collections: not relevant.
    return parts[0], " ".join(parts[2:-1]), "0" if grade < 0 else parts[-1]


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"{path} cannot be read: {reason(error)}.") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def write_run(file: TextIO, hits: Iterable[tuple[int, Sequence[tuple[str, float]]]]) -> None:
    """Write (query, its documents with scores, best first); queries are numbered from 0: q0, q1."""
    for query, found in hits:
        for rank, (document, score) in enumerate(found, start=1):
            file.write(f"q{query} Q0 {document} {rank} {score:.9f} wordsight\n")


def write_qrels(file: TextIO, relevant: Iterable[tuple[int, str, float]]) -> None:
    """Write (query, document, grade), with whole grades, as the format wants them."""
    for query, document, grade in relevant:
        file.write(f"q{query} 0 {document} {round(grade)}\n")
