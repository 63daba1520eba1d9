"""Relevance judgements: which images of a library answer which query, and how well."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from wordsight.errors import QueryError, reason
from wordsight.evaluate.trec import read_qrels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.evaluate.judged import JudgedLibrary
    from wordsight.sources.coco import CocoImage


@dataclass(slots=True)
class Judgements:
    """Queries and which images answer them.

    ``texts`` are the Q queries as shown, ``vectors`` float32 [Q, D] as encoded, ``relevant`` the
    places of the right images in the gallery (the library's images in the order of its
    snapshot), ``ignored`` those that count neither as right nor as wrong. ``missing`` are ids or
    labels that the library does not hold. ``by_size`` asks the same queries of objects of one
    size (share of the image's area). ``grades`` say how relevant each of ``relevant`` is (float64,
    above 0); None: all alike.
    """

    texts: list[str]
    vectors: NDArray[np.float32]
    relevant: list[NDArray[np.int64]]
    missing: list[str] = field(default_factory=list)
    captions: bool = False
    ignored: list[NDArray[np.int64]] | None = None
    by_size: dict[str, Judgements] = field(default_factory=dict)
    grades: list[NDArray[np.float64]] | None = None


def load_judgements(
    library: JudgedLibrary,
    queries: str | Path,
    *,
    templates: Sequence[str] | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    qrels: str | Path | None = None,
) -> Judgements:
    """Read judgements for a library.

    ``queries`` is one of: "labels" (those of the library itself), a labelled data set (a folder
    or tar with class folders, or "cifar10": every label is a query, and so is each of its
    ``synonyms``; relevant are the library's images of that label, and images without one are
    ignored), a COCO captions file (a caption's image), a COCO instances file (an object's name
    finds the images that hold one; images without annotations are ignored), or a .csv of
    query,relevant-id,grade lines (an id, or the image's path: in full, from the .csv's folder, or
    from the working directory). The grade may be missing; 0 says not relevant, and the higher it is
    the more counts the image in nDCG. Names match in either Unicode form (NFC, NFD); where both
    are there, as they are spelled. With ``qrels``, ``queries`` is a file of topics
    ("id<TAB>text"), and ``qrels`` TREC's judgements of them, of images by id or path.

    Raises QueryError when nothing in it concerns the library.
    """
    path = Path(queries)
    if qrels is not None:
        rows = [list(row) for row in read_qrels(path, qrels)]
        return _table(library, Path(qrels), list(enumerate(rows, start=1)))
    if path.suffix.lower() == ".json":
        return _coco(library, path, templates)
    if path.suffix.lower() == ".csv":
        return _table(library, path, _rows(path))
    return _labels(library, str(queries), templates, synonyms or {})


def _labels(
    library: JudgedLibrary,
    queries: str,
    templates: Sequence[str] | None,
    synonyms: Mapping[str, Sequence[str]],
) -> Judgements:
    import numpy as np

    from wordsight.classify import DEFAULT_TEMPLATE, label_vectors
    from wordsight.sources import open_source

    mine = library.store.labels()
    label_of = [_nfc(mine[image_id] or "") for image_id in _gallery_ids(library)]
    if queries == "labels":
        wanted = sorted({label for label in label_of if label})
    else:
        wanted = sorted({_nfc(item.label) for item in open_source(queries).items() if item.label})
    synonyms = {_nfc(label): words for label, words in synonyms.items()}
    if not wanted:
        named = "the library" if queries == "labels" else queries
        raise QueryError(
            f"{named} has no labels: put images in class folders (dog/1.jpg, cat/2.jpg)."
        )
    places: dict[str, list[int]] = {}
    for place, label in enumerate(label_of):
        if label:
            places.setdefault(label, []).append(place)
    present = [label for label in wanted if label in places]
    if not present:
        raise QueryError(
            f"the library has no image with a label of {queries} "
            f"({', '.join(wanted[:5])}, ...); index that folder first."
        )
    pairs = [(word, label) for label in present for word in (label, *synonyms.get(label, ()))]
    words = [word for word, _ in pairs]
    unknown = np.array([place for place, label in enumerate(label_of) if not label], np.int64)
    return Judgements(
        texts=words,
        vectors=label_vectors(library.model, words, templates or (DEFAULT_TEMPLATE,)),
        relevant=[np.array(places[label], np.int64) for _, label in pairs],
        missing=[label for label in wanted if label not in places],
        ignored=[unknown] * len(words) if len(unknown) else None,
    )


SIZES = {"< 1 %": (0.0, 0.01), "1-5 %": (0.01, 0.05), "5-20 %": (0.05, 0.2), "> 20 %": (0.2, 9.0)}
"""Object sizes: the share of the image's area, from and below."""


def _coco(library: JudgedLibrary, path: Path, templates: Sequence[str] | None) -> Judgements:
    from wordsight.sources.coco import read_coco

    gallery = _Gallery(library)
    try:
        has_objects = '"categories"' in path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the judgements {path} cannot be read: {reason(error)}.") from None
    if has_objects:
        return _objects(library, read_coco(instances=path), gallery, templates, path)
    return _captions(library, read_coco(captions=path), gallery, path)


class _Gallery:
    """Finds the library's images by what their paths end with."""

    def __init__(self, library: JudgedLibrary) -> None:
        places = {image_id: place for place, image_id in enumerate(_gallery_ids(library))}
        self._named: dict[str, list[tuple[str, str, int]]] = {}
        for entry in library.store.entries():
            path = f"/{entry.path}".replace("::", "/").replace("\\", "/")
            within = path[len(entry.root) + 1 :] if entry.path.startswith(entry.root) else ""
            name = path.rpartition("/")[2]
            found = (path, within.lstrip("/"), places[entry.id])
            self._named.setdefault(_nfc(name), []).append(found)

    def place(self, file_name: str) -> int | None:
        """The image of this path in the folder or archive that was indexed.

        Failing that, the one whose path ends so, then the only one whose file has this name; as
        it is spelled first, then in either Unicode form. Raises QueryError when there are several.
        """
        named = self._named.get(_nfc(file_name.rpartition("/")[2]), [])
        found = _ending(named, file_name) or _ending(
            [(_nfc(path), _nfc(within), place) for path, within, place in named], _nfc(file_name)
        )
        if len(found) > 1:
            raise QueryError(
                f"several images in the library are named {file_name} "
                f"({', '.join(path[1:] for path, _, _ in found[:2])}, ...), so it is "
                "unclear which one the judgements mean; index only one of the folders."
            )
        found = found or _ending(named, file_name.rpartition("/")[2]) or named
        return found[0][2] if len(found) == 1 else None


def _ending(named: Sequence[tuple[str, str, int]], file_name: str) -> list[tuple[str, str, int]]:
    """Those whose path in the source is this one, or those whose path ends so."""
    exact = [one for one in named if one[1] == file_name]
    return exact or [one for one in named if one[0].endswith(f"/{file_name}")]


def _nfc(name: str) -> str:
    """A name in composed form: macOS writes "e" and an accent where others write "é"."""
    return normalize("NFC", name)


def _placed(
    images: Sequence[CocoImage], gallery: _Gallery, missing: list[str]
) -> Iterator[tuple[int, CocoImage]]:
    """The judged images that the library holds, with their places; the others' names go aside."""
    for image in images:
        place = gallery.place(image.file_name)
        if place is None:
            missing.append(image.file_name)
        else:
            yield place, image


def _captions(
    library: JudgedLibrary, images: Sequence[CocoImage], gallery: _Gallery, path: Path
) -> Judgements:
    import numpy as np

    texts: list[str] = []
    relevant: list[NDArray[np.int64]] = []
    missing: list[str] = []
    for place, image in _placed(images, gallery, missing):
        for caption in image.captions:
            texts.append(caption)
            relevant.append(np.array([place], np.int64))
    if not texts:
        raise _none_there(path, "images", missing)
    return Judgements(texts, library.model.encode_texts(texts), relevant, missing, captions=True)


def _objects(
    library: JudgedLibrary,
    images: Sequence[CocoImage],
    gallery: _Gallery,
    templates: Sequence[str] | None,
    path: Path,
) -> Judgements:
    """Every category as a query; an image's size for it is that of its largest such object."""
    import numpy as np

    from wordsight.classify import DEFAULT_TEMPLATE, label_vectors

    sizes: dict[str, dict[int, float]] = {}
    annotated: set[int] = set()
    missing: list[str] = []
    for place, image in _placed(images, gallery, missing):
        if image.objects is None:
            continue
        annotated.add(place)
        for found in image.objects:
            held = sizes.setdefault(found.category, {})
            held[place] = max(held.get(place, 0.0), found.area_fraction)
    if not sizes:
        raise _none_there(path, "images", missing)
    names = sorted(sizes)
    vectors = label_vectors(library.model, names, templates or (DEFAULT_TEMPLATE,))
    unknown = sorted(set(range(len(_gallery_ids(library)))) - annotated)

    def select(low: float, high: float) -> Judgements:
        rows, relevant, ignored = [], [], []
        for row, name in enumerate(names):
            chosen = sorted(p for p, size in sizes[name].items() if low <= size < high)
            if chosen:
                rows.append(row)
                relevant.append(np.array(chosen, np.int64))
                others = set(sizes[name]) - set(chosen)
                ignored.append(np.array(sorted({*unknown, *others}), np.int64))
        return Judgements([names[r] for r in rows], vectors[rows], relevant, ignored=ignored)

    everything = select(0.0, float("inf"))
    everything.missing = missing
    parts = {name: select(*bounds) for name, bounds in SIZES.items()}
    everything.by_size = {name: part for name, part in parts.items() if part.texts}
    return everything


def _none_there(path: Path, what: str, missing: Sequence[str]) -> QueryError:
    if not missing:
        return QueryError(f"{path} contains no judgements of images.")
    return QueryError(
        f"none of the {len(missing)} {what} in {path} are in the library "
        f"(for example {', '.join(missing[:5])}); index the images first."
    )


def _table(library: JudgedLibrary, path: Path, rows: list[tuple[int, list[str]]]) -> Judgements:
    """Judgements of (line, [query, id or path, grade])."""
    import numpy as np

    place_of = _Spelled(library)
    found: dict[str, dict[int, float]] = {}
    missing: list[str] = []
    for number, row in rows:
        if len(row) < 2:
            raise QueryError(
                f"{path}, line {number}: write query,relevant-id (an image id or its path)."
            )
        query, target = row[0].strip(), row[1].strip()
        if (number, row) == rows[0] and query.lower() == "query":
            continue
        grade = _grade(row[2].strip() if len(row) > 2 else "", f"{path}, line {number}")
        spellings = (target, *(os.path.realpath(base / target) for base in (path.parent, Path())))
        place = place_of.find(spellings)
        if place is None:
            missing.append(target)
        else:
            graded = found.setdefault(query, {})
            graded[place] = max(grade, graded.get(place, 0.0))
    if not found:
        if not missing:
            raise QueryError(f"{path} has no judgements; write one query,relevant-id per line.")
        raise _none_there(path, "ids", missing)
    # A query that nothing answers has no rank to measure.
    relevant = {
        text: dict(sorted((place, grade) for place, grade in graded.items() if grade))
        for text, graded in found.items()
        if any(graded.values())
    }
    if not relevant:
        raise QueryError(f"{path} has no relevant image of this library: all grades are 0.")
    texts = list(relevant)
    return Judgements(
        texts,
        library.model.encode_texts(texts),
        [np.array(list(graded), np.int64) for graded in relevant.values()],
        missing,
        grades=[np.array(list(graded.values()), np.float64) for graded in relevant.values()],
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QueryError(f"the judgements {path} cannot be read: {reason(error)}.") from None


def _grade(text: str, where: str) -> float:
    """The third column: how relevant an image is. Raises QueryError."""
    try:
        grade = float(text or 1)
    except ValueError:
        grade = math.nan
    if not 0 <= grade < math.inf:
        raise QueryError(
            f"{where}: the third column is the relevance of the image, a number from 0 up "
            f"(0: not relevant), not '{text}'."
        )
    return grade


class _Spelled:
    """Finds the library's images by id or path, as it is spelled or else in either Unicode form."""

    def __init__(self, library: JudgedLibrary) -> None:
        self._exact: dict[str, int] = {}
        self._composed: dict[str, set[int]] = {}
        paths = {entry.id: entry.path for entry in library.store.entries()}
        for place, image_id in enumerate(_gallery_ids(library)):
            for name in (image_id, paths[image_id]):
                self._exact[name] = place
                self._composed.setdefault(_nfc(name), set()).add(place)

    def find(self, spellings: Sequence[str]) -> int | None:
        """The image of the first spelling that names one, and no other."""
        exact = next((self._exact[name] for name in spellings if name in self._exact), None)
        if exact is not None:
            return exact
        for name in spellings:
            places = self._composed.get(_nfc(name), set())
            if len(places) == 1:
                return next(iter(places))
        return None


def _gallery_ids(library: JudgedLibrary) -> list[str]:
    from wordsight.library import id_from_int

    return [id_from_int(value) for value in library.store.snapshot().ids]
