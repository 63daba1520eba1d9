"""Standard benchmarks, measured as papers report them: retrieval both ways, zero-shot classes.

Read where they lie; nothing is kept. Two layouts: CLIP_benchmark's WebDataset folders
(https://github.com/LAION-AI/CLIP_benchmark, ``build_wds_dataset``), on a disk or at a URL, and
Karpathy's splits of Flickr30k and COCO (``dataset_flickr30k.json``, ``dataset_coco.json``,
https://cs.stanford.edu/people/karpathy/deepimagesent/), on a disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import QueryError, WordsightError, reason
from wordsight.sources.files import opened
from wordsight.storage import is_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.evaluate.metrics import Estimate
    from wordsight.evaluate.ranking import Ranking
    from wordsight.models import ClipModel
    from wordsight.sources import Item

KARPATHY = {"flickr30k": "dataset_flickr30k.json", "coco-karpathy": "dataset_coco.json"}
CAPTIONS = 5
"""So many captions of an image count in Karpathy's splits; some of COCO have more."""

_IMAGES = ("images", "flickr30k-images")  # where Karpathy's images may be beside
_FORMS = "wds:DIR, wds:DIR:SPLIT, flickr30k:DIR or coco-karpathy:DIR"
_SPLIT = re.compile(r"(\w+://[^/]+/.+):([^/:]+)")  # of a URL, whose host may have a port


@dataclass(slots=True)
class Benchmark:
    """What is to be measured: images with their captions, or with their classes.

    ``captions`` holds those of each item; ``classes`` the place of its label among ``labels``,
    which are put into words by ``templates``. One of both is empty.
    """

    name: str
    items: list[Item]
    captions: list[list[str]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Measured:
    """What :func:`measure` found; ``skipped`` are images that cannot be read.

    Of retrieval also the captions, whose image each is (``owner``, a place in ``ids``), and the
    vectors of both, float32 [captions, D] and [images, D].
    """

    benchmark: Benchmark
    figures: dict[str, dict[str, Estimate]]
    skipped: list[tuple[str, str]]
    captions: list[str] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: NDArray[np.float32] | None = None
    images: NDArray[np.float32] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight evaluate --benchmark --json`` prints."""
        return {
            "benchmark": self.benchmark.name,
            "images": len(self.benchmark.items) - len(self.skipped),
            "captions": len(self.captions),
            "classes": len(self.benchmark.labels),
            "figures": {
                task: {key: round(one.value, 5) for key, one in values.items()}
                for task, values in self.figures.items()
            },
            "intervals": {
                task: {key: [round(v.low, 5), round(v.high, 5)] for key, v in values.items()}
                for task, values in self.figures.items()
            },
            "skipped": [{"path": path, "reason": why} for path, why in self.skipped],
        }

    def run(self, k: int = 100) -> Iterator[tuple[int, list[tuple[str, float]]]]:
        """For every caption its ``k`` best images by id, with scores: a TREC run."""
        import numpy as np

        assert self.texts is not None
        assert self.images is not None
        for query, text in enumerate(self.texts):
            line = self.images @ text
            best = np.argsort(-line, kind="stable")[:k]
            yield query, [(self.ids[place], float(line[place])) for place in best]

    def qrels(self) -> Iterator[tuple[int, str, float]]:
        """For every caption the id of its image."""
        yield from ((query, self.ids[row], 1.0) for query, row in enumerate(self.owner))


def read_benchmark(spec: str) -> Benchmark:
    """Read "wds:DIR", "wds:DIR:SPLIT", "flickr30k:DIR" or "coco-karpathy:DIR".

    The DIR of a ``wds:`` may be a URL, for example ``https://`` or ``s3://`` (extra ``cloud``).
    Raises QueryError for another form and for what is not laid out so, SourceError for archives
    that cannot be read, StorageError where the storage refuses.
    """
    kind, _, place = spec.partition(":")
    if not place or kind not in ("wds", *KARPATHY):
        raise QueryError(f"cannot read the benchmark {spec!r}: write {_FORMS}.")
    if kind == "wds":
        return _webdataset(spec, *_place_and_split(place))
    if is_url(place):
        raise QueryError(f"{kind} is read from a folder on this machine; wds:URL reads at a URL.")
    return _karpathy(spec, Path(place).expanduser(), KARPATHY[kind])


def _place_and_split(place: str) -> tuple[str, str]:
    """The folder or URL of a WebDataset benchmark, and which split of it is meant."""
    if is_url(place):
        found = _SPLIT.fullmatch(place)
        folder, split = (found[1], found[2]) if found else (place, "test")
        return folder.rstrip("/"), split
    folder, split = place, "test"
    if not Path(place).is_dir() and ":" in place:
        folder, _, split = place.rpartition(":")
    return str(Path(folder).expanduser()), split


def _lines(file: str) -> list[str]:
    try:
        with opened(file) as (content, _):
            lines = content.read().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the benchmark's file {file} cannot be read: {reason(error)}.") from error
    return [line.strip() for line in lines if line.strip()]


def _is_retrieval(folder: str) -> bool:
    """Whether images have captions; a benchmark that does not say so has classes."""
    try:
        return _lines(f"{folder}/dataset_type.txt") == ["retrieval"]
    except QueryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise


def _webdataset(name: str, folder: str, split: str) -> Benchmark:
    from wordsight.sources.tar import TarSource
    from wordsight.sources.webdataset import key_of, texts_beside

    counted = f"{folder}/{split}/nshards.txt"
    try:
        shards = int(_lines(counted)[0])
    except (ValueError, IndexError):
        raise QueryError(f"{counted} holds no number of shards.") from None
    retrieval = _is_retrieval(folder)
    benchmark = Benchmark(name, [])
    if not retrieval:
        try:
            benchmark.labels = _lines(f"{folder}/classnames.txt")
        except QueryError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise QueryError(
                f"{folder} has no classnames.txt; if its images have captions, write the word "
                f"retrieval into {folder}/dataset_type.txt."
            ) from None
        templates = _lines(f"{folder}/zeroshot_classification_templates.txt")
        benchmark.templates = [template.replace("{c}", "{}") for template in templates]
    for number in range(shards):
        archive = f"{folder}/{split}/{number}.tar"
        beside = texts_beside(archive, "txt" if retrieval else "cls")
        for item in TarSource(archive).items():
            texts = beside.get(key_of(item.path.partition("::")[2]), {})
            if retrieval and "txt" in texts:
                benchmark.captions.append([t for t in texts["txt"].splitlines() if t.strip()])
            elif "cls" in texts:
                benchmark.classes.append(_class(texts["cls"], len(benchmark.labels), item))
            else:
                continue
            benchmark.items.append(item)
    if not benchmark.items:
        raise QueryError(f"{folder}/{split} holds no image with a caption or a class beside it.")
    return benchmark


def _class(text: str, labels: int, item: Item) -> int:
    number = int(text) if text.strip().isdigit() else -1
    if not 0 <= number < labels:
        raise QueryError(f"{item.path}: the class {text.strip()[:20]!r} is none of {labels}.")
    return number


def _karpathy(name: str, folder: Path, file: str) -> Benchmark:
    from wordsight.sources.folder import FileSource

    place = folder / file
    benchmark = Benchmark(name, [])
    try:
        for image in json.loads(place.read_text("utf-8"))["images"]:
            if image["split"] != "test":
                continue
            inside = [image.get("filepath", ""), "", *_IMAGES]
            names = [folder / part / image["filename"] for part in inside]
            picture = next((path for path in names if path.is_file()), None)
            if picture is None:
                raise QueryError(
                    f"the image {names[0]} of {place} is missing, also from the folders "
                    f"{' and '.join(_IMAGES)} there."
                )
            benchmark.items += FileSource(picture).items()
            benchmark.captions.append([s["raw"].strip() for s in image["sentences"]][:CAPTIONS])
    except FileNotFoundError:
        raise QueryError(f"there is no {file} in {folder}; put it beside the images.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise QueryError(f"{place} is not one of Karpathy's splits: {reason(error)}.") from None
    if not benchmark.items:
        raise QueryError(f"{place} has no images of the split test.")
    return benchmark


def measure(
    model: ClipModel,
    benchmark: Benchmark,
    *,
    ks: Sequence[int] = (1, 5, 10),
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Encode all images and texts with a model, and measure.

    Retrieval: "text to image" (each caption has one right image) and "image to text" (any caption
    of the image is right), Recall@K as hit or miss. Classification: "zero-shot", top-1 and top-5
    accuracy and the mean of the classes' recalls, labels averaged over the templates. All with
    95 % intervals. Raises WordsightError where no image can be read.
    """
    import numpy as np

    from wordsight.classify import encode_items

    kept, vectors, skipped = [], [], []
    for place, (item, found) in enumerate(encode_items(model, benchmark.items)):
        if isinstance(found, str):
            skipped.append((item.path, found))
        else:
            kept.append(place)
            vectors.append(found)
        if progress:
            progress(place + 1, len(benchmark.items))
    if not kept:
        raise WordsightError(f"no image of {benchmark.name} could be read.")
    images = np.stack(vectors)
    if benchmark.labels:
        truth = np.array([benchmark.classes[place] for place in kept])
        return Measured(benchmark, _zero_shot(model, benchmark, images, truth), skipped)
    return _retrieval(model, benchmark, images, kept, skipped, ks)


def _retrieval(
    model: ClipModel,
    benchmark: Benchmark,
    images: NDArray[np.float32],
    kept: Sequence[int],
    skipped: list[tuple[str, str]],
    ks: Sequence[int],
) -> Measured:
    import numpy as np

    from wordsight.evaluate.metrics import summarize
    from wordsight.evaluate.ranking import Ranking

    pairs = [(text, row) for row, p in enumerate(kept) for text in benchmark.captions[p]]
    captions, owner = [text for text, _ in pairs], [row for _, row in pairs]
    texts = model.encode_texts(captions)
    of_image: list[list[int]] = [[] for _ in kept]
    for caption, row in enumerate(owner):
        of_image[row].append(caption)
    told = [
        row for row, own in enumerate(of_image) if own
    ]  # an image without captions asks nothing
    rankings: dict[str, Ranking] = {
        "text to image": Ranking.from_blocks(
            lambda rows, columns: texts[rows] @ images[columns].T,
            [np.array([row]) for row in owner],
            gallery=len(images),
        ),
        "image to text": Ranking.from_blocks(
            lambda rows, columns: images[told][rows] @ texts[columns].T,
            [np.array(of_image[row]) for row in told],
            gallery=len(texts),
        ),
    }
    figures = {task: summarize(ranking, ks) for task, ranking in rankings.items()}
    ids = [benchmark.items[place].id for place in kept]
    return Measured(benchmark, figures, skipped, captions, owner, ids, texts, images)


def _zero_shot(
    model: ClipModel, benchmark: Benchmark, images: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, dict[str, Estimate]]:
    import numpy as np

    from wordsight.classify import label_vectors
    from wordsight.evaluate.metrics import bootstrap

    words = label_vectors(model, benchmark.labels, benchmark.templates)
    order = np.argsort(-(images @ words.T), axis=1, kind="stable")[:, :5]
    top1 = (order[:, 0] == truth).astype(np.float64)
    top5 = (order == truth[:, None]).any(axis=1).astype(np.float64)
    recalls = np.array([top1[truth == label].mean() for label in np.unique(truth)])
    return {
        "zero-shot": {
            "acc1": bootstrap(top1),
            "acc5": bootstrap(top5),
            "mean_per_class_recall": bootstrap(recalls),
        }
    }
