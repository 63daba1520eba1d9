"""The metrics of retrieval over a library with relevance judgements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.evaluate.judged import JudgedLibrary
    from wordsight.evaluate.judgements import Judgements
    from wordsight.evaluate.metrics import Estimate
    from wordsight.evaluate.ranking import Ranking
    from wordsight.library import Snapshot


DEFAULT_KS = (1, 5, 10)


@dataclass(slots=True)
class Evaluation:
    """What :func:`evaluate` found: figures with 95 % intervals, by method and by metric."""

    methods: dict[str, dict[str, Estimate]]
    rankings: dict[str, Ranking]
    judgements: Judgements
    gallery: int
    image_to_text: dict[str, Estimate] | None = None
    by_size: dict[str, Evaluation] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that ``wordsight evaluate --json`` prints."""
        answer: dict[str, Any] = {
            "methods": {name: _figures(values) for name, values in self.methods.items()},
            "queries": len(self.judgements.texts),
            "gallery": self.gallery,
            "missing": len(self.judgements.missing),
            "intervals": {
                name: {key: [round(e.low, 5), round(e.high, 5)] for key, e in values.items()}
                for name, values in self.methods.items()
            },
        }
        if self.image_to_text:
            answer["image_to_text"] = _figures(self.image_to_text)
        if self.by_size:
            answer["by_size"] = {size: part.to_json() for size, part in self.by_size.items()}
        return answer

    def per_query(self) -> Iterator[dict[str, Any]]:
        """One row a query: its first rank and average precision under each method."""
        from wordsight.evaluate.metrics import average_precision, first_rank

        rank = {name: first_rank(r) for name, r in self.rankings.items()}
        precision = {name: average_precision(r) for name, r in self.rankings.items()}
        for i, text in enumerate(self.judgements.texts):
            yield {
                "query": text,
                "relevant": len(self.judgements.relevant[i]),
                "first_rank": {name: float(values[i]) for name, values in rank.items()},
                "average_precision": {
                    name: round(float(values[i]), 5) for name, values in precision.items()
                },
            }

    def run(
        self, library: JudgedLibrary, k: int = 100
    ) -> Iterator[tuple[int, list[tuple[str, float]]]]:
        """For every query the ``k`` best images by id, by "baseline": a TREC run.

        Images that a query ignores are left out.
        """
        from wordsight.search import nearest

        judged = self.judgements
        for query, vector in enumerate(judged.vectors):
            ignored = judged.ignored[query] if judged.ignored else ()
            hits = nearest(library.store, vector, k, without=ignored)
            yield query, [(hit.id, hit.score) for hit in hits]

    def qrels(self, library: JudgedLibrary) -> Iterator[tuple[int, str, float]]:
        """For every query the ids of the images that answer it, with their grades."""
        from wordsight.library import id_from_int

        ids = library.store.snapshot().ids
        for query, places in enumerate(self.judgements.relevant):
            grades = (
                self.judgements.grades[query] if self.judgements.grades else [1.0] * len(places)
            )
            for place, grade in zip(places, grades, strict=True):
                yield query, id_from_int(ids[place]), float(grade)

    def worst(self, method: str, count: int) -> list[int]:
        """Places of the ``count`` queries with the lowest average precision, worst first."""
        import numpy as np

        from wordsight.evaluate.metrics import average_precision

        order = np.argsort(average_precision(self.rankings[method]), kind="stable")
        return [int(i) for i in order[:count]]


def _figures(values: Mapping[str, Estimate]) -> dict[str, float]:
    return {key: round(estimate.value, 5) for key, estimate in values.items()}


def evaluate(
    library: JudgedLibrary, judgements: Judgements, *, ks: Sequence[int] = DEFAULT_KS, seed: int = 0
) -> Evaluation:
    """Rank the whole library for every query, by each method, and measure.

    Methods: "baseline" (cosine of the whole image), "normalised" (its z against the background),
    and where the library has crops "crop-aware" (max fusion) and "crop-aware normalised" (its lift
    above the background, by which a search with crops ranks). Scores are made block by block and
    never all kept.
    """
    from wordsight.evaluate.metrics import summarize
    from wordsight.evaluate.ranking import Ranking

    snapshot = library.store.snapshot()
    variants = [("baseline", False, False), ("normalised", False, True)]
    if snapshot.has_crops:
        variants += [("crop-aware", True, False), ("crop-aware normalised", True, True)]
    rankings = {
        name: Ranking.from_blocks(
            _scorer(snapshot, judgements, crops=crops, normalised=normalised),
            judgements.relevant,
            gallery=len(snapshot.ids),
        ).with_gains(judgements.grades)
        for name, crops, normalised in variants
    }
    evaluation = Evaluation(
        {name: summarize(ranking, ks, seed=seed) for name, ranking in rankings.items()},
        rankings,
        judgements,
        gallery=len(snapshot.ids),
    )
    evaluation.by_size = {
        size: evaluate(library, part, ks=ks, seed=seed) for size, part in judgements.by_size.items()
    }
    if judgements.captions:
        evaluation.image_to_text = summarize(_image_to_text(snapshot, judgements), ks, seed=seed)
    return evaluation


def _scorer(snapshot: Snapshot, judgements: Judgements, *, crops: bool, normalised: bool) -> Any:
    """block(queries, images) -> float32 scores, for :meth:`Ranking.from_blocks`."""
    import numpy as np

    from wordsight.nomatch import lift, zscore

    ends = np.append(snapshot.starts[1:], len(snapshot.vectors))
    mean, sd = (snapshot.mean, snapshot.sd) if crops else (snapshot.image_mean, snapshot.image_sd)

    def block(rows: slice, columns: slice) -> NDArray[np.float32]:
        starts = snapshot.starts[columns]
        part = slice(starts[0], ends[columns][-1])
        scores = judgements.vectors[rows] @ snapshot.vectors[part].T
        inside = starts - starts[0]
        fused = np.maximum.reduceat(scores, inside, axis=1) if crops else scores[:, inside]
        if normalised and crops:
            fused = lift(fused, mean[columns])
        elif normalised:
            fused = zscore(fused, mean[columns], sd[columns])
        if judgements.ignored is not None:
            # Below everything else an image neither helps nor harms any metric.
            fused = np.array(fused)
            for row, places in zip(fused, judgements.ignored[rows], strict=True):
                inside_ = places[(places >= columns.start) & (places < columns.stop)]
                row[inside_ - columns.start] = -np.inf
        return fused

    return block


def _image_to_text(snapshot: Snapshot, judgements: Judgements) -> Ranking:
    """Whole images as queries, captions as the gallery."""
    import numpy as np

    from wordsight.evaluate.ranking import Ranking

    captions_of: dict[int, list[int]] = {}
    for caption, places in enumerate(judgements.relevant):
        captions_of.setdefault(int(places[0]), []).append(caption)
    images = sorted(captions_of)
    vectors = snapshot.vectors[snapshot.starts[images]]
    return Ranking.from_blocks(
        lambda rows, columns: vectors[rows] @ judgements.vectors[columns].T,
        [np.array(captions_of[image], np.int64) for image in images],
        gallery=len(judgements.texts),
    )
