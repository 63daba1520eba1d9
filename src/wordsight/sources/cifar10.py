"""CIFAR-10 from wherever it can be had: tar shards, the hub's or the official file, or a sample.

CIFAR-10: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes the binary archive that is read here. The
hub's copy of the test images (``uoft-cs/cifar10``) is a Parquet file, a PNG and a label a row.
"""

from __future__ import annotations

import io
import logging
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import SourceError
from wordsight.images import unreadable_reason
from wordsight.paths import expanded
from wordsight.privacy import hub_address, is_offline
from wordsight.sources.base import Item, Progress, item_id
from wordsight.sources.download import digest_like, fetch
from wordsight.sources.folder import FileSource
from wordsight.sources.tar import TarSource

if TYPE_CHECKING:
    import numpy as np

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
"""Class names by label number."""

ARCHIVE = "cifar-10-binary.tar.gz"
PARQUET = "cifar10-test.parquet"


@dataclass(frozen=True, slots=True)
class Download:
    """A file with images of CIFAR-10: where it is, and what it must be."""

    url: str
    """Beginning with a slash: below the hub's address (``HF_ENDPOINT``)."""
    file: str
    """Its name in the cache."""
    digest: str
    """MD5 or SHA-256."""
    size: int
    """Bytes."""

    @property
    def address(self) -> str:
        """The whole URL."""
        return hub_address() + self.url if self.url.startswith("/") else self.url


# A commit of its repository: the file there is the same for good.
HUB = Download(
    "/datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/"
    "plain_text/test-00000-of-00001.parquet",
    PARQUET,
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    23_940_850,
)
OFFICIAL = Download(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ARCHIVE,
    "c32a1d4ab5d03f1284b67883e8d87530",
    170_052_171,
)

_Rows = tuple[list[int], Callable[[int], bytes]]  # labels by row, and what gives the PNG of a row
_SPLITS = ("test", "train")
_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue plane, row by row

_log = logging.getLogger("wordsight")


@dataclass(slots=True)
class Cifar10:
    """A split of CIFAR-10 as a source of images with labels.

    ``origin`` says in words where it came from; ``notice`` is None, or says that these are only
    a sample, and why.
    """

    root: str
    origin: str
    lister: Callable[[], list[Item]] = field(repr=False)
    notice: str | None = None
    name: str = "cifar10"
    problems: list[tuple[str, str]] = field(default_factory=list)

    def items(self) -> list[Item]:
        """List the images, in the order of the archive they are from. Raises SourceError."""
        return self.lister()


def load(
    split: str = "test",
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    hub: Download = HUB,
    official: Download = OFFICIAL,
) -> Cifar10:
    """The ``"test"`` (10,000) or ``"train"`` (50,000) images, from the first of these places.

    1. ``WORDSIGHT_CIFAR10``: ``cifar-10-binary.tar.gz``, a tar shard with members like
       ``test/dog/0001.jpg``, or a folder that holds either (shards: ``test.tar``,
       ``train-*.tar``). If it is set and of no use, that is an error.
    2. The files of the next two places in the cache folder (``WORDSIGHT_CACHE``, else the user's).
    3. For "test": the hub's Parquet file (24 MB), downloaded to there.
    4. The official archive (170 MB, from a slow host), downloaded to there.
    5. For "test": the 20 test images inside the package foolbox (extra ``sample``), with a
       notice.

    Nothing is downloaded when ``HF_HUB_OFFLINE`` is set. ``progress`` is called with (bytes so far,
    bytes in all or None), ``notice`` with lines for the user: what is fetched and how large it is,
    before the first byte, and what is waited for. Without it they are logged. Raises SourceError,
    which names the ways to get the data.
    """
    if split not in _SPLITS:
        raise SourceError(f"CIFAR-10 has no split {split!r}; use one of {', '.join(_SPLITS)}")
    place = os.environ.get("WORDSIGHT_CIFAR10")
    if place:
        return _from_place(expanded(place), split, official.digest)
    folder = _cache_folder()
    downloads = [hub, official] if split == "test" else [official]
    for download in reversed(downloads):
        if (folder / download.file).is_file():
            return _open(folder / download.file, split)
    reasons: list[str] = []
    tell = notice or _log.warning
    for download in downloads:
        if reasons and not is_offline():
            tell(reasons[-1])
        try:
            return _open(_fetched(download, folder, progress, tell), split)
        except SourceError as error:
            reasons.append(str(error))
    reason = "; ".join(reasons)
    sample = _sample_files() if split == "test" else []
    if sample:
        return _sample(sample, reason)
    raise SourceError(
        f"cannot get CIFAR-10 ({reason}); set WORDSIGHT_CIFAR10 to {ARCHIVE} or to a "
        f"folder of tar shards (test.tar), or put {ARCHIVE} into {folder}, or connect to "
        "the internet once, or install 20 sample images: pip install 'wordsight[sample]'"
    )


def _fetched(
    download: Download, folder: Path, progress: Progress | None, notice: Callable[[str], None]
) -> Path:
    """Download a file into the cache folder. Raises SourceError."""
    url, target = download.address, folder / download.file
    if is_offline():
        raise SourceError(f"{url}: not tried because HF_HUB_OFFLINE is set")
    part = target.with_name(target.name + ".part")
    had = part.stat().st_size if part.is_file() else 0
    left = f", of which {had / 1e6:.1f} MB are here" if had else ""
    notice(f"downloading CIFAR-10: {download.size / 1e6:.1f} MB{left}, once, from {url}")
    fetch(
        url,
        target,
        digest=download.digest,
        max_bytes=download.size,
        progress=progress,
        say=notice,
    )
    return target


def _open(file: Path, split: str) -> Cifar10:
    return open_parquet(file) if file.suffix == ".parquet" else open_archive(file, split)


def _cache_folder() -> Path:
    folder = os.environ.get("WORDSIGHT_CACHE")
    if folder:
        return expanded(folder)
    import platformdirs

    return Path(platformdirs.user_cache_dir("wordsight", appauthor=False))


def _from_place(place: Path, split: str, md5: str) -> Cifar10:
    prefix = f"WORDSIGHT_CIFAR10={place}"
    if place.is_dir():
        shards = sorted(place.glob(f"{split}*.tar"), key=lambda file: (len(file.name), file.name))
        shards = [file for file in shards if re.fullmatch(rf"{split}(-\d+)?\.tar", file.name)]
        if shards:
            many = "s" if len(shards) > 1 else ""
            return _shards(shards, split, f"{len(shards)} tar shard{many} in {place}")
        if not (place / ARCHIVE).is_file():
            shard = "test.tar" if split == "test" else "train-*.tar"
            raise SourceError(f"{prefix}: the folder contains neither {shard} nor {ARCHIVE}")
        place = place / ARCHIVE
    if not place.is_file():
        raise SourceError(f"{prefix}: no such file or folder")
    if place.suffix.lower() == ".tar":
        return _shards([place], split, f"the tar shard {place}")
    try:
        right = digest_like(place, md5) == md5
    except OSError as error:
        raise SourceError(f"{prefix}: {unreadable_reason(error)}") from error
    if not right:
        raise SourceError(
            f"{prefix}: not the official {ARCHIVE} (MD5 {md5}), or damaged; get it from "
            f"{OFFICIAL.url}"
        )
    return open_archive(place, split)


# Tar shards


def _shards(files: list[Path], split: str, origin: str) -> Cifar10:
    # One root for all shards, and for a single one that of the archive by itself.
    parent = os.path.realpath(files[0].parent)
    root = TarSource(files[0]).root if len(files) == 1 else os.path.join(parent, split)  # noqa: PTH118
    shards = [TarSource(file, root=root) for file in files]
    problems: list[tuple[str, str]] = []

    def items() -> list[Item]:
        found = []
        problems.clear()
        for shard in shards:
            found += [item for item in shard.items() if f"::{split}/" in item.path]
            problems.extend(shard.problems)
        if not found:
            raise SourceError(f"{origin}: no member like {split}/dog/0001.jpg in it")
        return found

    return Cifar10(root, origin, items, problems=problems)


# The official binary archive, and the hub's Parquet file


def open_archive(archive: str | Path, split: str) -> Cifar10:
    """A split of the official binary archive, in its order. Listing raises SourceError."""
    place = os.path.realpath(archive)

    def rows() -> _Rows:
        records = _read_records(place, split)
        return records[:, 0].tolist(), lambda row: _png(records[row, 1:])

    return _of_rows(place, split, f"the official binary archive {place}", rows)


def open_parquet(file: str | Path) -> Cifar10:
    """The test split from the hub's Parquet file, in its order. Listing raises SourceError."""
    place = os.path.realpath(file)
    return _of_rows(place, "test", f"the hub's file {place}", lambda: _read_parquet(place))


def _of_rows(
    place: str,
    split: str,
    origin: str,
    rows: Callable[[], tuple[list[int], Callable[[int], bytes]]],
) -> Cifar10:
    """A source over a file of rows: their labels, and the PNG of each."""
    root = f"{place}::{split}/"

    def items() -> list[Item]:
        try:
            stamp = os.stat(place).st_mtime_ns  # noqa: PTH116  (before it is read: see TarSource)
        except OSError as error:
            raise SourceError(f"{place}: {unreadable_reason(error)}") from error
        labels, png = rows()
        row_of: dict[str, int] = {}

        def read(item: Item) -> bytes:
            return png(row_of[item.id])

        found = []
        numbers: Counter[int] = Counter()
        for row, label in enumerate(labels):
            # Numbered within the class, as in the tar shards: the same picture, the same name.
            path = f"{root}{CLASSES[label]}/{numbers[label]:04d}.png"
            numbers[label] += 1
            identity = item_id(path)
            row_of[identity] = row
            found.append(Item(identity, path, _RECORD, stamp, CLASSES[label], root, read))
        return found

    return Cifar10(root, origin, items)


def _read_parquet(file: str) -> _Rows:
    """The labels of the rows, and a function that gives the PNG of a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, columns=["img", "label"])
        pictures = pa.compute.struct_field(table["img"], "bytes").combine_chunks()
        labels = table["label"].to_pylist()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise SourceError(f"{file}: damaged ({error}); delete it and try again") from error
    if not labels or not all(label in range(len(CLASSES)) for label in labels):
        raise SourceError(f"{file}: contains no CIFAR-10 images")
    return labels, lambda row: bytes(pictures[row].as_py())


def _read_records(archive: str, split: str) -> np.ndarray[Any, Any]:
    """The records of a split: uint8 [N, 3073], the label and the three planes of each image."""
    import numpy as np

    wanted = re.compile(r"test_batch\.bin" if split == "test" else r"data_batch_\d+\.bin")
    batches: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                file = tar.extractfile(member) if wanted.fullmatch(name) else None
                if file is not None:
                    batches[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{archive}: damaged archive ({error}); delete it and try again"
        ) from error
    data = b"".join(batches[name] for name in sorted(batches))
    records = np.frombuffer(data[: len(data) // _RECORD * _RECORD], np.uint8).reshape(-1, _RECORD)
    if not data or len(data) % _RECORD or records[:, 0].max() >= len(CLASSES):
        raise SourceError(f"{archive}: holds no {split} batches in CIFAR-10's binary form")
    return records


def _png(planes: np.ndarray[Any, Any]) -> bytes:
    import PIL.Image

    file = io.BytesIO()
    pixels = planes.reshape(3, 32, 32).transpose(1, 2, 0)
    PIL.Image.fromarray(pixels.copy()).save(file, "PNG", compress_level=1)
    return file.getvalue()


# The sample


def _sample_files() -> list[Path]:
    """``cifar10_<index>_<label>.png`` of foolbox, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("foolbox")  # of a top-level package: finds it, executes nothing
    folders = list(spec.submodule_search_locations or []) if spec else []
    return sorted(file for folder in folders for file in Path(folder).glob("data/cifar10_*_*.png"))


def _sample(files: list[Path], reason: str) -> Cifar10:
    folder = os.path.realpath(files[0].parent)
    root = os.path.join(folder, "")  # noqa: PTH118

    def items() -> list[Item]:
        return [
            replace(item, label=CLASSES[int(file.stem.rpartition("_")[2])], root=root)
            for file in files
            for item in FileSource(file).items()
        ]

    notice = (
        f"only {len(files)} of CIFAR-10's test images (those inside the package foolbox), "
        f"because the full set could not be had: {reason}. Set WORDSIGHT_CIFAR10 to {ARCHIVE} or "
        "to a folder of tar shards for all of them."
    )
    return Cifar10(root, f"the {len(files)} test images inside the package foolbox", items, notice)
