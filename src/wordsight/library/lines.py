"""Lines of text in images: a table of their own beside that of the views, with a full-text index.

A row is what was read in the files of one content hash, so that copies and moved files share it and
another model for the vectors leaves it as it is. The files of the table are synced and have their
checksums as those of the views do; where some do not hold what was written, the last version that
reads is used, and the next run reads what is missing in the images again.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wordsight.library.checksums import NAME, Checksums
from wordsight.library.files import sync_path, writing
from wordsight.library.table import files_of, import_lance

TABLE = "lines.lance"
_COMPACT_FRAGMENTS = 8
_WORD = re.compile(r"\w+")
_NEWEST = (1 << 64) - 1  # Lance counts manifests down from it


@dataclass(frozen=True, slots=True)
class Written:
    """The lines that were read in an image; ``boxes`` are x0, y0, x1, y1 in original pixels."""

    hash: str
    lines: list[str]
    boxes: list[tuple[float, float, float, float]]

    def best(self, words: Sequence[str]) -> int:
        """Which line has the most of these words; the first of several."""
        wanted = {word.casefold() for word in words}
        counts = [len(wanted & {word.casefold() for word in words_of(line)}) for line in self.lines]
        return counts.index(max(counts))


def words_of(text: str) -> list[str]:
    """The words of a text, as the index parts them."""
    return _WORD.findall(text)


class Lines:
    """The table of a library's lines."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.place = library / TABLE
        self._opened: tuple[int, Any] | None = None

    def __bool__(self) -> bool:
        return self.place.is_dir()

    def _dataset(self) -> Any | None:
        """The newest version that reads; None where there is none."""
        try:
            changed = (self.place / "_versions").stat().st_mtime_ns
        except OSError:
            return None
        if self._opened is None or self._opened[0] != changed:
            found, damaged = self._readable()
            if damaged:
                warnings.warn(
                    f"the text read last in the images of {self.library} is damaged (a power "
                    "cut?); `wordsight index --text` reads it again.",
                    stacklevel=2,
                )
            self._opened = changed, found
        return self._opened[1]

    def _readable(self) -> tuple[Any | None, list[Path]]:
        """The newest version that reads, and the manifests of newer ones."""
        checksums = Checksums.load(self.library, TABLE)
        damaged = []
        for manifest in sorted((self.place / "_versions").glob("*.manifest")):
            try:
                if checksums.wrong([f"_versions/{manifest.name}"]):
                    raise ValueError
                version = _NEWEST - int(manifest.stem)
                found = import_lance().dataset(str(self.place), version=version)
                names = [name for part in found.get_fragments() for name in files_of(part)]
                if checksums.wrong(names):
                    raise ValueError
                found.count_rows()
            except (ValueError, OSError):
                damaged.append(manifest)
                continue
            return found, damaged
        return None, damaged

    def hashes(self) -> set[str]:
        """Files that were read already."""
        found = self._dataset()
        return set(found.to_table(columns=["hash"])["hash"].to_pylist()) if found else set()

    def all(self) -> list[Written]:
        """All that was read."""
        found = self._dataset()
        columns = ["hash", "lines", "boxes"]
        return (
            [_written(row) for row in found.to_table(columns=columns).to_pylist()] if found else []
        )

    def find(self, text: str, most: int) -> list[Written]:
        """Images in which all words of a text are written, those that are most about it first.

        By Lance's full-text index (BM25). Nothing for a text without words.
        """
        from lance.query import FullTextOperator, MatchQuery

        dataset, words = self._dataset(), " ".join(words_of(text))
        if dataset is None or not words:
            return []
        query = MatchQuery(words, "text", operator=FullTextOperator.AND)
        columns = ["hash", "lines", "boxes"]
        try:
            rows = dataset.to_table(
                columns=[*columns, "_score"], full_text_query=query, limit=most
            ).to_pylist()
        except (ValueError, OSError):  # an index that does not read, or was never finished
            wanted = {word.casefold() for word in words_of(text)}
            rows = [
                row
                for row in dataset.to_table(columns=[*columns, "text"]).to_pylist()
                if wanted <= {word.casefold() for word in words_of(row["text"])}
            ][:most]
        return [_written(row) for row in rows]

    # writing, under the library's lock

    def repair(self) -> None:
        """Put manifests aside that do not read, so that the table can be written to."""
        if not self:
            return
        found, damaged = self._readable()
        with writing(self.library):
            for path in [self.place] if found is None else damaged:
                aside = self.library / "damaged"
                aside.mkdir(exist_ok=True)
                path.replace(aside / f"{os.urandom(4).hex()}-{path.name}")
            if found is not None and damaged:
                (self.place / "_versions/latest_version_hint.json").unlink(missing_ok=True)
                self._sync()
        self._opened = None

    def take_over(self, other: Lines) -> None:
        """Hold what another library's table holds. Raises LibraryError where it is not copied."""
        with writing(self.library):
            if self:
                shutil.rmtree(self.place)
            if other:
                shutil.copytree(other.place, self.place)
                self._sync()
        self._opened = None

    def add(self, rows: Sequence[Written]) -> None:
        """Keep what was read, in one atomic step."""
        import pyarrow as pa

        schema = pa.schema(
            [
                pa.field("hash", pa.string(), nullable=False),
                pa.field("lines", pa.list_(pa.string())),
                pa.field("boxes", pa.list_(pa.float32())),
                pa.field("text", pa.string()),
            ]
        )
        table = pa.table(
            {
                "hash": [row.hash for row in rows],
                "lines": [row.lines for row in rows],
                "boxes": [[side for box in row.boxes for side in box] for row in rows],
                "text": ["\n".join(row.lines) for row in rows],
            },
            schema=schema,
        )
        with writing(self.library):
            mode = "append" if self else "create"
            import_lance().write_dataset(table, str(self.place), schema=schema, mode=mode)
            self._sync()

    def finish(self, known: Iterable[str]) -> None:
        """Forget the files that are not among the ``known``, and bring the index up to date."""
        from datetime import timedelta

        dataset = self._dataset()
        if dataset is None:
            return
        gone = sorted(self.hashes() - set(known))
        with writing(self.library):
            for begin in range(0, len(gone), 5000):
                some = ",".join(f"'{known}'" for known in gone[begin : begin + 5000])
                dataset.delete(f"hash in ({some})")
            if len(dataset.get_fragments()) > _COMPACT_FRAGMENTS:
                dataset.optimize.compact_files()
            dataset.create_scalar_index(
                "text",
                "INVERTED",
                replace=True,
                stem=False,
                remove_stop_words=False,
                ascii_folding=True,
            )
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=False)
            self._sync()
        self._opened = None

    def _sync(self) -> None:
        """Have the disk keep the table's new files, and remember what they hold."""
        checksums = Checksums.load(self.library, TABLE)
        there = {
            path.relative_to(self.place).as_posix(): path
            for path in self.place.rglob("*")
            if path.is_file() and path.name not in (NAME, "latest_version_hint.json")
        }
        new = there.keys() - checksums.files.keys()
        for name in new:
            sync_path(there[name])
        for folder in {there[name].parent for name in new}:
            sync_path(folder)
        checksums.add(new)
        checksums.files = {name: checksums.files[name] for name in there}
        checksums.save()


def _written(row: dict[str, Any]) -> Written:
    sides = row["boxes"]
    boxes = [tuple(sides[n : n + 4]) for n in range(0, len(sides), 4)]
    return Written(row["hash"], row["lines"], boxes)
