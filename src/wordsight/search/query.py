"""Queries: words, images and weighted sums of both, as typed and as vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import QueryError
from wordsight.paths import expanded
from wordsight.sources.base import item_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from wordsight.models.clip import ClipModel


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a query: words or an image, with a weight (negative: "not like this")."""

    weight: float
    text: str | None = None
    image: Any = None  # a PIL image, an array, or a path

    def __str__(self) -> str:
        name = f'"{self.text}"' if self.text is not None else f'@"{_image_name(self.image)}"'
        return name if self.weight == 1 else f"{self.weight:g}*{name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A weighted combination of words and images.

    ``without`` are ids of images that are no hits: pictures that the combination is made of.
    """

    terms: tuple[Term, ...]
    without: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if len(self.terms) == 1 and self.terms[0].weight == 1 and self.terms[0].text is not None:
            return self.terms[0].text
        text = " + ".join(str(term) for term in self.terms)
        return text.replace("+ -1*", "- ").replace("+ -", "- ")


# Phones and word processors type curly quotes and U+2212 (minus). Words may hold the other kind.
_QUOTES, _SIGNS = "\u201c\u201d\u201e\u201f", "+\\-\u2212"
_TERM = re.compile(
    rf"""\s*(?P<sign>[{_SIGNS}])?\s*(?:(?P<weight>\d+(?:\.\d+)?|\.\d+)\s*\*\s*)?(?P<at>@)?"""
    rf"""(?:"(?P<straight>[^"]*)"|[{_QUOTES}](?P<curly>[^{_QUOTES}]*)[{_QUOTES}])\s*"""
)
_TERMS = re.compile(rf'[{_SIGNS}]?\s*(?:[\d.]+\s*\*\s*)?@?["{_QUOTES}]')


def parse_query(text: str) -> Query:
    """Read a query as typed: words, or terms in double quotes joined by + and -.

    ``a dog`` is plain text. ``"beach" + "sunset" - 0.5*"people"`` weighs terms; ``@"photo.jpg"``
    is an image. Curly quotes and the minus sign U+2212 count as straight ones. Raises QueryError
    when it is empty or the terms cannot be read.
    """
    stripped = text.strip()
    if not stripped:
        raise QueryError('the query is empty; type what to look for, for example: "a dog".')
    if not _TERMS.match(stripped):
        return Query((Term(1.0, text=stripped),))
    terms: list[Term] = []
    position = 0
    while position < len(stripped):
        found = _TERM.match(stripped, position)
        if not found or (terms and not found["sign"]):
            raise QueryError(
                f"cannot read the query at: {stripped[position:].strip()[:40]}  "
                '(write terms like this: "beach" + "sunset" - 0.5*"people")'
            )
        value = found["straight"] if found["curly"] is None else found["curly"]
        if not value.strip():
            raise QueryError('a term of the query is empty; write for example "beach" + "sunset".')
        weight = float(found["weight"] or 1) * (1 if found["sign"] in (None, "+") else -1)
        # Names of files keep their spaces.
        term = Term(weight, image=value) if found["at"] else Term(weight, text=value.strip())
        terms.append(term)
        position = found.end()
    return Query(tuple(terms))


def pictures_of(query: Query) -> frozenset[str]:
    """Ids of images that are no hits of a combination: those that it is made of.

    A picture alone finds itself, which says that the library has it.
    """
    if len(query.terms) == 1:
        return frozenset()
    files = [t.image for t in query.terms if isinstance(t.image, (str, Path))]
    paths = [str(expanded(file).absolute()).encode(errors="replace").decode() for file in files]
    return query.without | frozenset(map(item_id, paths))


def as_query(query: str | Path | Query | Image | NDArray[Any]) -> Query:
    """Any accepted form of a query: text (see :func:`parse_query`), a path, an image, a Query."""
    if isinstance(query, Query):
        return query
    if isinstance(query, str):
        return parse_query(query)
    return Query((Term(1.0, image=query),))


def _image_name(image: Any) -> str:
    return str(image) if isinstance(image, (str, Path)) else "image"


def _opened(image: Any) -> Any:
    """An image, where a path names it: of a file, of a member of an archive, of a frame."""
    from wordsight.images import open_image
    from wordsight.sources.location import archive_of, read_location

    if not isinstance(image, (str, Path)):
        return image
    path = expanded(image).absolute()
    if archive_of(str(path)) is None:
        return open_image(path)
    return open_image(read_location(str(path)), name=str(path))


_LARGEST_WEIGHT = 1000.0


@dataclass(slots=True)
class Encoded:
    """A query as a vector."""

    query: Query
    vector: NDArray[np.float32]  # [D], unit length
    texts: list[int]  # rows of the positive words among the encoded texts
    images: list[NDArray[np.float32]]  # the positive images' vectors [D]

    @property
    def in_words(self) -> bool:
        """Whether words alone say what is wanted; scores of images are not those of words."""
        return bool(self.texts) and not self.images


def encode(model: ClipModel, queries: Sequence[Query]) -> tuple[list[Encoded], NDArray[np.float32]]:
    """Vectors of the queries, and the text vectors [T, D] that their decisions rest on."""
    import numpy as np

    texts = list(dict.fromkeys(t.text for q in queries for t in q.terms if t.text is not None))
    text_vectors = model.encode_texts(texts) if texts else np.zeros((0, model.dim), np.float32)
    row = {text: i for i, text in enumerate(texts)}
    encoded = []
    for query in queries:
        wanted, unwanted = np.zeros(model.dim, np.float32), []
        images = []
        for term in query.terms:
            if not abs(term.weight) <= _LARGEST_WEIGHT:  # nan too
                raise QueryError(
                    f"the weight {term.weight:g} in the query must be a number up to "
                    f"{_LARGEST_WEIGHT:g} (0 to 1 is usual)."
                )
            if term.text is not None:
                vector = text_vectors[row[term.text]]
            else:
                vector = model.encode_images([_opened(term.image)])[0]
                if term.weight > 0:
                    images.append(vector)
            if term.weight > 0:
                wanted += term.weight * vector
            elif term.weight < 0:
                unwanted.append((-term.weight, vector))
        total = _turned_away(wanted, unwanted)
        length = float(np.linalg.norm(total))
        if length < 1e-6:
            raise QueryError(f"the terms of the query cancel out: {query}")
        positive = [row[t.text] for t in query.terms if t.text is not None and t.weight > 0]
        encoded.append(Encoded(query, (total / length).astype(np.float32), positive, images))
    return encoded, text_vectors


def _turned_away(
    wanted: NDArray[np.float32], unwanted: Sequence[tuple[float, NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """What is wanted [D] without what it has in common with what is not, in the given shares.

    With the share 1 what is left is orthogonal to all of ``unwanted`` (Widdows, "Orthogonal
    negation in vector spaces", ACL 2003). A plain difference would lie far from everything where
    vectors are far apart, as those of words and of pictures are: it finds what is least like the
    picture, not what the words say. Where nothing is wanted the rest is the opposite of
    ``unwanted``.
    """
    import numpy as np

    if not unwanted:
        return wanted
    shares = np.array([share for share, _ in unwanted], np.float32)
    vectors = np.stack([vector for _, vector in unwanted])
    if not wanted.any():
        return np.asarray(-shares @ vectors)
    common = np.linalg.lstsq(vectors.T, wanted, rcond=None)[0]
    return np.asarray(wanted - (shares * common.clip(0)) @ vectors, np.float32)


def combines(queries: Sequence[Query]) -> bool:
    """Whether any of the queries has several terms."""
    return any(len(query.terms) > 1 for query in queries)
