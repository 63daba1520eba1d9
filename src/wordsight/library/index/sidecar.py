"""What a search needs of a table of views, as plain arrays in a file beside it.

Opening the table itself takes a quarter of a second in a fresh process, most of it for importing
its reader; these arrays are read in milliseconds, and vectors where they lie in the table's files.

A sidecar belongs to one version of the table, that of the manifest which was the newest when it was
made. Lance names manifests so that the newest comes first by name (the "V2" scheme of its table
format): a version that came later is seen without its reader too. Versions are numbers, which other
tables have too, so a digest tells whether the manifest is the same one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.library.index.flat import FlatVectors
from wordsight.library.table import METADATA, NUMBERS, columns_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MORE_NUMBERS = ("width", "height")
_FLOATS = (
    "latitude",
    "longitude",
    "time",
    "until",
)  # of METADATA, the rest of which are texts; nan for null
_WORDS = ("folder", "name", "label", "kind", "region_label")  # folder + name is the path
_MANIFEST = re.compile(r"\d{20}\.manifest")


def newest_manifest(table: Path) -> str:
    """Name of the newest manifest of a table; "" where there is none of the scheme.

    Raises OSError when the table cannot be read.
    """
    names = (path.name for path in (table / "_versions").iterdir())
    return min(filter(_MANIFEST.fullmatch, names), default="")


def digest_of(table: Path, manifest: str) -> str:
    """What the bytes of a manifest hash to; "" where it is gone by now."""
    from hashlib import blake2b

    try:
        content = (table / "_versions" / manifest).read_bytes()
    except FileNotFoundError:
        return ""
    return blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Sidecar:
    """The views of one version of a table; ``numbers`` are columns of it, [V] each, by name."""

    table: Path
    manifest: str
    digest: str
    version: int
    numbers: Mapping[str, NDArray[Any]]
    words: Mapping[str, _Words]
    boxes: NDArray[np.float32]  # [B, 4], of the B views that have one
    box: NDArray[np.int32]  # [V], which of them a view has, or -1
    flat: FlatVectors

    def is_current(self) -> bool:
        """Whether it is of the table's newest version. Raises OSError when that cannot be read."""
        return (
            newest_manifest(self.table) == self.manifest
            and digest_of(self.table, self.manifest) == self.digest
        )

    def vectors(self) -> NDArray[np.float32]:
        """All vectors, float32 [V, D]. Raises OSError when the table's files are not there."""
        import numpy as np

        return self.flat.read(np.arange(len(self.numbers["id"])))

    def rows(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """What the table's rows at these places say of image and box, as its reader gives it."""
        words, numbers = self.words, self.numbers
        return [
            {
                "id": numbers["id"].item(place),
                "path": f"{words['folder'][place]}{words['name'][place]}",
                "label": words["label"][place],
                "width": numbers["width"].item(place),
                "height": numbers["height"].item(place),
                "kind": words["kind"][place],
                "box": self._box(place),
                "region_label": words["region_label"][place],
                **self._metadata(place),
            }
            for place in places
        ]

    def _metadata(self, place: int) -> dict[str, Any]:
        """What is kept of it; a sidecar that was made before there was any has none."""
        known: dict[str, Any] = {n: self.words[n][place] for n in METADATA if n in self.words}
        known |= {n: self.numbers[n].item(place) for n in _FLOATS if n in self.numbers}
        known |= {n: None for n in _FLOATS if math.isnan(known.get(n, 0.0))}
        if known.get("keywords"):
            known["keywords"] = json.loads(known["keywords"])
        return known

    def _box(self, place: int) -> list[float] | None:
        which = self.box.item(place)
        return None if which < 0 else self.boxes[which].tolist()

    @staticmethod
    def arrays(dataset: Any, dim: int) -> dict[str, NDArray[Any]] | None:
        """What to keep of the newest version of a table, for :meth:`from_arrays`.

        None where its files are not such that vectors could be read from them in place, or its
        manifests are named otherwise.
        """
        import numpy as np

        folder = Path(dataset.uri)
        manifest = newest_manifest(folder)
        flat = FlatVectors.find(dataset, dim)
        if flat is None or manifest != f"{(1 << 64) - 1 - dataset.version:020d}.manifest":
            return None
        known = columns_of(dataset, METADATA)
        columns = [*NUMBERS, *_MORE_NUMBERS, "path", "label", "kind", "region_label", "box", *known]
        table = dataset.to_table(columns=columns)
        kept = {name: table[name].to_numpy() for name in (*NUMBERS, *_MORE_NUMBERS)}
        kept |= {name: table[name].to_numpy() for name in _FLOATS if name in known}
        cut = [path.rpartition("/") for path in table["path"].to_pylist()]
        words = {name: table[name].to_pylist() for name in ("label", "kind", "region_label")}
        words |= {"folder": [a + b for a, b, _ in cut], "name": [name for _, _, name in cut]}
        for name in (name for name in known if name not in _FLOATS):
            words[name] = table[name].to_pylist()
        if "keywords" in words:
            words["keywords"] = [each and json.dumps(each) for each in words["keywords"]]
        for name, texts in words.items():
            kept |= _Words.of(texts).to_arrays(name)
        boxes = table["box"].to_pylist()
        kept["boxes"] = np.array([b for b in boxes if b], np.float32).reshape(-1, 4)
        has = np.array([b is not None for b in boxes])
        kept["box"] = np.where(has, np.cumsum(has) - 1, -1).astype(np.int32)
        kept |= {"manifest": np.array(manifest), "digest": np.array(digest_of(folder, manifest))}
        return {**kept, **flat.to_arrays()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], version: int, table: Path, dim: int
    ) -> Sidecar:
        """The sidecar of a version of the table. Raises KeyError when an array is missing."""
        return cls(
            table,
            str(arrays["manifest"]),
            str(arrays["digest"]),
            version,
            {name: arrays[name] for name in (*NUMBERS, *_MORE_NUMBERS)}
            | {name: arrays[name] for name in _FLOATS if name in arrays},
            {name: _Words.from_arrays(arrays, name) for name in _WORDS}
            | {n: _Words.from_arrays(arrays, n) for n in METADATA if f"{n}.codes" in arrays},
            arrays["boxes"],
            arrays["box"],
            FlatVectors.from_arrays(arrays, table, dim),
        )


@dataclass(frozen=True)
class _Words:
    """A column of texts: for each row one of the different ones, counted from 1, or 0 for None."""

    codes: NDArray[Any]
    ends: NDArray[np.int64]  # text n lies from ends[n - 1] to ends[n]
    utf8: bytes

    def __getitem__(self, place: int) -> str | None:
        code = self.codes.item(place)
        if not code:
            return None
        return self.utf8[self.ends.item(code - 1) : self.ends.item(code)].decode()

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> _Words:
        import numpy as np

        known: dict[str | None, int] = {None: 0}
        codes = [known.setdefault(text, len(known)) for text in texts]
        parts = [text.encode() for text in known if text is not None]
        ends = np.cumsum([0, *map(len, parts)])
        return cls(np.array(codes, np.min_scalar_type(len(known))), ends, b"".join(parts))

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        import numpy as np

        utf8 = np.frombuffer(self.utf8, np.uint8)
        return {f"{name}.codes": self.codes, f"{name}.ends": self.ends, f"{name}.utf8": utf8}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> _Words:
        codes, ends, utf8 = (arrays[f"{name}.{part}"] for part in ("codes", "ends", "utf8"))
        return cls(codes, ends, utf8.tobytes())
