"""TREC's formats, which other tools for evaluation read: qrels and runs.

A line of qrels is "query 0 document grade", of a run "query Q0 document rank score name"
(https://trec.nist.gov/data/qrels_eng/, trec_eval's README). Names hold no spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from wordsight.errors import QueryError, reason


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
        parts = line.split()
        if len(parts) < 4:
            raise QueryError(f"{qrels}, line {number}: write query 0 document grade.")
        if parts[0] not in texts:
            raise QueryError(f"{qrels}, line {number}: {topics} has no query {parts[0]}.")
        # Negative grades mark spam in some collections: not relevant.
        grade = "0" if parts[-1].startswith("-") else parts[-1]
        found.append((texts[parts[0]], " ".join(parts[2:-1]), grade))
    return found


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
