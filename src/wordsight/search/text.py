"""Text in images: reading it once, finding it by its words, and beside what images show.

``text:"invoice 2023"`` asks for images in which all these words are written. A plain prompt in a
library whose text was read is both: images that show it and images that say it, in one ranking by
reciprocal ranks (G. V. Cormack and others, "Reciprocal Rank Fusion outperforms Condorcet", 2009).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from wordsight.errors import LibraryError, QueryError, WordsightError
from wordsight.library import Entry, Store, filters
from wordsight.library.lines import Written, words_of
from wordsight.search import Hit, Query, Result, as_query, search

if TYPE_CHECKING:
    from wordsight.models.clip import ClipModel
    from wordsight.models.ocr import Line, Reader

Progress = Callable[[int, int], None]

READ_SIDE = 1000
"""The short side, in pixels, at which a large image is read; small print is lost below it."""

_MOST = 100  # images that text brings into a ranking
_CONSTANT = 60  # of the fusion: Cormack's
_SECONDS_BETWEEN_WRITES = 20.0
_AHEAD = 8
_QUERY = re.compile(r"\s*text:\s*(?P<words>.*)", re.DOTALL | re.IGNORECASE)
_MORE = re.compile(r"""["\u201d]\s*[+\-\u2212].*["\u201c]|[+\-\u2212]\s*text:""", re.IGNORECASE)
_QUOTES = "\"'\u201c\u201d\u201e\u201f\u2018\u2019 "


@dataclass(slots=True)
class TextReport:
    """What a run of :func:`read_texts` did: files read, those with text, seconds, what failed."""

    read: int = 0
    with_text: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The part of ``wordsight index --json`` about text."""
        failed = [{"path": path, "reason": reason} for path, reason in self.failed]
        return {
            "read": self.read,
            "with_text": self.with_text,
            "seconds": round(self.seconds, 3),
            "failed": failed,
        }


def read_texts(
    store: Store, reader: Reader | None = None, *, progress: Progress | None = None
) -> TextReport:
    """Read the text in all images of a library whose files were not read yet.

    What is read is kept every 20 seconds; a run that is stopped goes on from there. Raises
    ModelError where the extra ``ocr`` is not installed, LibraryError where nothing can be written.
    """
    from wordsight.models.ocr import Reader as Default

    report, started = TextReport(), time.perf_counter()
    with store.lock():
        store.refresh()
        lines = store.lines
        lines.repair()
        entries = {entry.hash: entry for entry in store.entries()}
        done = lines.hashes()
        todo = [entry for known, entry in entries.items() if known not in done]
        rows: list[Written] = []
        written = time.monotonic()
        try:
            pages = _read(todo, reader or Default()) if todo else ()
            for number, (entry, found) in enumerate(pages, start=1):
                if isinstance(found, str):
                    report.failed.append((entry.path, found))
                else:
                    rows.append(found)
                    report.read += 1
                    report.with_text += bool(found.lines)
                if rows and time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                    some, rows, written = rows, [], time.monotonic()
                    lines.add(some)
                if progress:
                    progress(number, len(todo))
        finally:
            if rows:
                lines.add(rows)
        if todo or done - entries.keys():
            lines.finish(entries)
    report.seconds = time.perf_counter() - started
    return report


def _read(entries: Sequence[Entry], reader: Reader) -> Iterator[tuple[Entry, Written | str]]:
    """Pictures are decoded in threads, a few ahead of the reader, which has threads of its own."""
    waiting = iter(entries)
    with ThreadPoolExecutor(2, thread_name_prefix="text") as pool:
        while some := list(islice(waiting, _AHEAD)):
            for entry, image in zip(some, pool.map(_opened, some), strict=True):
                if isinstance(image, str):
                    yield entry, image
                    continue
                width, height = image.info["full_size"]
                across, down = width / image.width, height / image.height
                yield entry, _written(entry, reader.read(image), across, down)


def _opened(entry: Entry) -> Any:
    from wordsight.images import open_image
    from wordsight.sources import read_location

    try:
        return open_image(read_location(entry.path), min_side=READ_SIDE, name=entry.path)
    except (WordsightError, OSError, MemoryError) as error:
        return str(error).removeprefix(f"{entry.path}: ") or type(error).__name__


def _written(entry: Entry, lines: Sequence[Line], across: float, down: float) -> Written:
    boxes = [
        (x0 * across, y0 * down, x1 * across, y1 * down)
        for x0, y0, x1, y1 in (line.box for line in lines)
    ]
    return Written(entry.hash, [line.text for line in lines], boxes)


# -- search --------------------------------------------------------------------------------------


def text_of(query: object) -> str | None:
    """The words of a query for text (``text:"invoice 2023"``); None for any other query.

    Raises QueryError where there are none.
    """
    typed = _plain(query) if isinstance(query, Query) else query
    found = _QUERY.fullmatch(typed) if isinstance(typed, str) else None
    if isinstance(typed, str) and "text:" in typed.lower() and _MORE.search(typed):
        raise QueryError(
            'text:"..." cannot be combined with + and -; it finds images with all of its words, '
            'for example: text:"invoice 2023". To search by content, write the words without text:.'
        )
    if not found:
        return None
    words = found["words"].strip(_QUOTES)
    if not words_of(words):
        raise QueryError('say which words are written there, for example: text:"invoice 2023"')
    return words


def search_with_text(
    store: Store,
    model: ClipModel,
    queries: Sequence[Any],
    k: int = 10,
    **options: Any,
) -> list[Result]:
    """As :func:`wordsight.search.search`, which it calls, for queries of which some are for text.

    In a library whose text was read, plain prompts find what is written too. Raises LibraryError
    where a query is for text that was not read.
    """
    asked = [text_of(query) for query in queries]
    if any(words is not None for words in asked) and not store.lines:
        raise LibraryError(
            f"no text was read in the images of {store.place}; read it with: "
            f'wordsight index FOLDER --text (needs: pip install "wordsight[ocr]")'
        )
    shown = [query for query, words in zip(queries, asked, strict=True) if words is None]
    results = iter(search(store, model, shown, k=k, **options))
    answers = []
    for query, words in zip(queries, asked, strict=True):
        if words is not None:
            answers.append(_written_in(store, model, str(query).strip(), words, k, options))
            continue
        result = next(results)
        plain = _plain(query) if store.lines and _may_fuse(options) else None
        if plain is not None:
            result = _fused(result, _said(store, model, plain, _MOST, options), k)
        answers.append(result)
    return answers


def _may_fuse(options: Mapping[str, Any]) -> bool:
    """A cut-off on the cosine, and orders of other things than fit, mean pictures alone."""
    return (
        options.get("min_score") is None
        and options.get("rank_by", "auto") == "auto"
        and options.get("sort", "score") == "score"
    )


def _plain(query: Any) -> str | None:
    """The words of a query that is nothing but words."""
    terms = as_query(query).terms
    plain = len(terms) == 1 and terms[0].weight == 1
    return terms[0].text if plain else None


def _said(store: Store, model: ClipModel, words: str, most: int, options: Any) -> list[Hit]:
    """Images in which the words are written, best first, with the scores that they get as pictures.

    Filters count.
    """
    found = {each.hash: each for each in store.lines.find(words, most)}
    if not found:
        return []
    hashes = ",".join(f"'{known}'" for known in found)
    where = filters.joined(options.get("where"), f"hash in ({hashes})")
    chosen = {**options, "where": where, "anyway": True, "min_score": None, "sort": "score"}
    try:
        (result,) = search(store, model, [as_query(f'"{_unquoted(words)}"')], k=most, **chosen)
    except QueryError:  # a filter lets none of them pass, or they are gone
        return []
    known = store.hashes([hit.id for hit in result.hits])
    order = {identity: place for place, identity in enumerate(found)}
    hits = sorted(result.hits, key=lambda hit: (order[known[hit.id]], hit.rank))
    asked = words_of(words)
    return [_with_line(hit, found[known[hit.id]], asked) for hit in hits]


def _unquoted(words: str) -> str:
    return words.replace('"', " ")


def _with_line(hit: Hit, found: Written, words: Sequence[str]) -> Hit:
    """A hit that says what was asked for; how likely it shows it does not matter then."""
    best = found.best(words)
    line, box = found.lines[best], found.boxes[best]
    return replace(hit, line=line, line_box=box, relevant=True, probability=None)


def _written_in(
    store: Store, model: ClipModel, query: str, words: str, k: int, options: Any
) -> Result:
    if k < 1:
        raise QueryError(f"k must be at least 1, not {k}.")
    started = time.perf_counter()
    hits = _said(store, model, words, max(k, _MOST), options)[:k]
    return Result(
        query=query,
        match=bool(hits),
        threshold=None,
        hits=[replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)],
        model=model.name,
        timings_ms={"total": 1000 * (time.perf_counter() - started)},
        by_text=True,
    )


def _fused(result: Result, said: Sequence[Hit], k: int) -> Result:
    """One ranking of what shows the prompt and what says it."""
    if not said:
        return result
    written = {hit.id: hit for hit in said}
    pictures = [hit.id for hit in result.hits] if result.verdict != "none" else []
    values: dict[str, float] = {}
    for ranking in (pictures, list(written)):
        for rank, identity in enumerate(ranking, start=1):
            values[identity] = values.get(identity, 0.0) + 1 / (_CONSTANT + rank)
    hits = {hit.id: hit for hit in result.hits} | written
    best = sorted(values, key=lambda identity: -values[identity])[:k]
    result.hits = [replace(hits[identity], rank=n) for n, identity in enumerate(best, start=1)]
    result.match = result.by_text = True
    result.count = None  # it counts what shows the prompt, not what says it
    return result
