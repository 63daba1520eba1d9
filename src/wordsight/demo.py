"""The guided tour: CIFAR-10 found by words, step by step, with pictures to look at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight import api
from wordsight.errors import LibraryError, WordsightError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wordsight.classify import Classifier
    from wordsight.indexing import Progress
    from wordsight.models.clip import ClipModel
    from wordsight.search import Result
    from wordsight.sources import Item, Source

Show = Callable[[str], AbstractContextManager["Progress | None"]]
"""Shows how far a piece of work is that takes time, by its title, until it is done."""

PROMPTS = (
    "a dog",
    "a jet fighter",
    "a ship on the sea",
    "a horse in a field",
    "a truck",
    "a bird",
    "a grand piano",
)
_LABELS = "cifar10"
_SCENES = 40
_SOME = 100
_PROPOSER = "starter-maskrcnn"
_PHOTOGRAPHS = Path(__file__).with_name("photographs")
PHOTOGRAPH_PROMPTS = (
    "a cat",
    "a cup of coffee",
    "a uniform",
    "a tripod",
    "a man with a camera",
    "a violin",
)
FIRST = 2000
"""So many of CIFAR-10's 10,000 test images keep the demo short."""
_REPLACED = ("library", "scenes", "scenes-library", "photographs-library")
_MARK = ".wordsight-demo"


def run(
    model: ClipModel,
    source: Source,
    origin: str,
    out: Path,
    *,
    most: int | None = FIRST,
    say: Callable[[str], None] = print,
    show: Show = lambda title: nullcontext(),
) -> dict[str, Any]:
    """Run the steps over a labelled CIFAR-10 source, write pictures to ``out``, return the facts.

    Of its images the first ``most`` are used, or all for None.
    What is made in ``out`` replaces what an earlier run made there. Raises LibraryError when
    ``out`` cannot be written, or holds folders of these names that no earlier run made.
    """
    started = time.perf_counter()
    _prepare(out)
    tour = _Tour(model, out, say, show, {"model": model.name, "origin": origin, "pictures": []})
    say(f"1. Model: {model.name}, {model.dim} dimensions, images of {model.image_size[0]} px")
    items = tour.index(source, origin, most)
    tour.search()
    tour.classify(items)
    tour.crops(items)
    tour.photographs()
    facts = tour.facts
    facts["seconds"] = round(time.perf_counter() - started, 2)
    say(f"12. Done in {facts['seconds']:.1f} s. Pictures to look at:")
    for picture in facts["pictures"]:
        say(f"   {picture}")
    say(f"   Try it yourself:  wordsight search --library {out / 'library'}")
    return facts


def _prepare(out: Path) -> None:
    """Make the folder; refuse one that holds what no earlier run made. Raises LibraryError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / _MARK).exists():
            for name in _REPLACED:
                if (out / name).exists():
                    raise LibraryError(
                        f"{out / name} already exists and was not made by the demo, which would "
                        "replace it; choose another --out."
                    )
            (out / _MARK).touch()
    except OSError as error:
        raise LibraryError(
            f"{out}: cannot be created ({reason(error)}); choose another --out."
        ) from None


@dataclass(slots=True)
class _Tour:
    """The steps, each of which says what it does and keeps pictures and facts."""

    model: ClipModel
    out: Path
    say: Callable[[str], None]
    show: Show
    facts: dict[str, Any]
    main: api.Library = field(init=False)
    """The library of CIFAR-10."""

    def keep(self, picture: Any, name: str) -> None:
        """Save a picture."""
        from wordsight import render

        self.facts["pictures"].append(str(render.save(picture, self.out / name)))

    def library(self, name: str) -> api.Library:
        """A fresh library in the folder of the demo."""
        place = self.out / name
        if (place / "library.json").exists():
            shutil.rmtree(place)
        return api.create(place, self.model)

    def index(self, source: Source, origin: str, most: int | None) -> list[Item]:
        """Steps 2 and 3; the images that are used."""
        from wordsight.sources import Head

        part = source if most is None else Head(source, most)
        items = list(part.items())
        labels = sorted({item.label for item in items if item.label})
        of_all = f"the first {most:,} (--full: all)" if len(items) == most else f"{len(items):,}"
        self.say(f"2. CIFAR-10: {of_all} test images of {len(labels)} classes, from {origin}")
        with self.show("encoding images") as progress:
            library = self.main = self.library("library")
            report = library.index_sources([part], progress=progress)
        _, vectors = library.vectors()
        self.facts["index"] = report.to_json()
        # Of few images the rate would say more about starting up.
        rate = f" ({report.images_per_second:,.0f} images/s)" if len(vectors) >= _SOME else ""
        self.say(
            f"3. Images encoded: {len(vectors):,} vectors of {vectors.shape[1]} dimensions in "
            f"{report.seconds:.1f} s{rate}"
        )
        return items

    def search(self) -> None:
        """Steps 4 to 6: one prompt slowly, then several."""
        library = self.main
        prompt = PROMPTS[0]
        with self.show("searching"):
            vector = self.model.encode_texts([prompt])[0]
            result = library.search(prompt, k=10, anyway=True)
            self.keep(library.grid(result), "top-k.png")
        self.say(f'4. Prompt encoded: "{prompt}" -> {vector.shape[0]} dimensions, length 1')

        self.say(
            f'5. The {len(result.hits)} most similar images to "{prompt}", by cosine similarity:'
        )
        for hit in result.hits:
            self.say(f"   {hit.rank:>2}  {hit.score:.3f}  {hit.label}")

        with self.show("searching"):
            results = library.search(list(PROMPTS), k=10)
            self.keep(_prompts_picture(library, results), "prompts.png")
            # The last, a piano, is in none of the classes; of few images others may be refused too.
            missing = next((one for one in reversed(results) if one.verdict == "none"), None)
            if missing is not None:
                closest = library.search(missing.query, k=5, anyway=True)
                self.keep(library.grid(closest), "no-match.png")
        self.say("6. More prompts:")
        for answer in results:
            self.say(f"   {_line(answer)}")
        self.facts["searches"] = [answer.to_json() for answer in results]

    def classify(self, items: Sequence[Item]) -> None:
        """Step 7: the images' classes, and how right they are."""
        import numpy as np

        from wordsight import render
        from wordsight.classify import Classifier
        from wordsight.evaluate import classification_report

        ids, vectors = self.main.vectors()
        by_id = {item.id: item for item in items}
        truth = [by_id[i].label for i in ids]
        if None in truth:
            raise WordsightError("the demo needs labelled images: one folder per class.")
        with self.show("classifying"):
            classifier = Classifier(self.model, _LABELS)
            place = {label: j for j, label in enumerate(classifier.labels)}
            report = classification_report(
                classifier.confidences(vectors), np.array([place[str(label)] for label in truth])
            )
            chosen = _one_a_class([by_id[i] for i in ids])
            lines = self._draw_classified(
                [by_id[ids[i]] for i in chosen], classifier, vectors[chosen]
            )
            self.keep(
                render.confusion_matrix(
                    report.confusion,
                    classifier.labels,
                    f"Zero-shot on {len(ids):,} CIFAR-10 test images: {report.accuracy:.1%} right",
                ),
                "confusion.png",
            )
            self.keep(
                render.reliability_plot(
                    report.bin_confidence,
                    report.bin_accuracy,
                    report.bin_count,
                    report.ece,
                    "Do confidences mean what they say?",
                ),
                "reliability.png",
            )
        self.say('7. Zero-shot classification with "a photo of a {}.":')
        for line in lines:
            self.say(f"   {line}")
        self.say(
            f"   accuracy {report.accuracy:.4f}, top-3 {report.top3_accuracy:.4f}, "
            f"expected calibration error {report.ece:.4f} over {len(ids):,} images"
        )
        self.facts["classification"] = report.to_json()

    def _draw_classified(
        self, items: Sequence[Item], classifier: Classifier, vectors: NDArray[np.float32]
    ) -> list[str]:
        """Draw what the classifier says of each image; return a line about each."""
        from wordsight import render
        from wordsight.images import open_image

        rows, lines = [], []
        for item, judged in zip(items, classifier.judge(vectors), strict=True):
            rows.append(
                render.Classified(
                    open_image(item.read()),
                    [(c.label, c.confidence) for c in judged.top],
                    truth=item.label,
                    none_of_these=judged.none_of_these,
                )
            )
            best = judged.top[0]
            answer = (
                "none of these" if judged.none_of_these else f"{best.label} {best.confidence:.0%}"
            )
            lines.append(f"{item.label:<10} -> {answer}")
        montage = render.classification_montage(rows, title="Ten test images, top 3 labels")
        self.keep(montage, "classify.png")
        return lines

    def crops(self, items: Sequence[Item]) -> None:
        """Steps 8 to 10: scenes of several of the images, searched without and with crops."""
        from wordsight import render
        from wordsight.evaluate import evaluate, load_judgements
        from wordsight.scenes import write_scenes

        shutil.rmtree(self.out / "scenes", ignore_errors=True)
        with self.show("encoding scenes") as progress:
            truth = write_scenes(self.out / "scenes", items, _SCENES)
            library = self.library("scenes-library")
            library.index(self.out / "scenes", progress=progress)
        with self.show("encoding crops of the scenes") as progress:
            report = library.index(self.out / "scenes", crops=_PROPOSER, progress=progress)
        assert report.crops is not None
        facts = report.crops.to_json()
        prompt = PROMPTS[0]
        with self.show("searching"):
            picture = render.histogram(
                report.crops.per_image,
                title="Crops per scene",
                xlabel=f"crops by {facts['proposer']}",
            )
            self.keep(picture, "crops.png")
            baseline = library.search(prompt, k=6, crops=False, anyway=True)
            aware = library.search(prompt, k=6, anyway=True)
            self.keep(library.comparison(baseline, aware), "compare.png")
        self.say(
            f"8. Crops: {facts['crops']:,} by {facts['proposer']} in {_SCENES} scenes of several "
            f"CIFAR-10 images each (min {facts['min']}, median {facts['median']:g}, max "
            f"{facts['max']} a scene), encoded in {report.seconds:.1f} s"
        )
        self._say_moves(prompt, baseline, aware)
        with self.show("evaluating"):
            found = evaluate(library, load_judgements(library, truth))
        self.say(
            f"10. Baseline beside crop-aware, {len(found.judgements.texts)} class names as queries:"
        )
        for name in ("baseline", "crop-aware", "crop-aware normalised"):
            values = found.methods[name]
            shown = ("recall@1", "recall@5", "recall@10", "mrr", "map")
            self.say(
                f"   {name:<22} " + "  ".join(f"{key} {values[key].value:.3f}" for key in shown)
            )
        self.facts["crops"] = {"report": facts, "evaluation": found.to_json()}

    def _say_moves(self, prompt: str, baseline: Result, aware: Result) -> None:
        """Step 9: one prompt, without and with crops."""
        self.say(
            f'9. "{prompt}", ranked again by max fusion of the whole image and its best crop '
            "(cosines are shown; the order is by their lift above each image's background):"
        )
        for old, new in zip(baseline.hits, aware.hits, strict=True):
            won = "its best crop" if new.view.box else "the whole image"
            self.say(
                f"   {new.rank:>2}  {Path(old.path).stem} {old.score:.3f}  ->  "
                f"{Path(new.path).stem} {new.score:.3f} by {won}"
            )

    def photographs(self) -> None:
        """Step 11: the photographs of the package, searched whole and by their crops."""
        from wordsight import render

        lines, tiles = [], []
        with self.show("encoding photographs") as progress:
            library = self.library("photographs-library")
            library.index(_PHOTOGRAPHS, crops=_PROPOSER, progress=progress)
            results = library.search(list(PHOTOGRAPH_PROMPTS), k=1, anyway=True)
            for result in results:
                best = result.hits[0]
                found = f"{Path(best.path).name}, score {best.score:.3f}"
                verdict = {"match": "", "unsure": "Not sure", "none": "No match"}[result.verdict]
                said = f"{verdict} (closest: {found})" if verdict else found
                lines.append(f'   "{result.query}": {said}')
                verdict = f"{verdict}; the closest" if verdict else f"{best.score:.3f}"
                text = [result.query, verdict]
                tiles.append(render.Tile(library.image(best), text, box=best.view.box))
            picture = render.grid(tiles, title="Photographs searched by words", columns=3)
            self.keep(picture, "photographs.png")
        self.say(f"11. Photographs: {len(library)} that come with wordsight, searched with crops:")
        for line in lines:
            self.say(line)
        self.facts["photographs"] = [result.to_json() for result in results]


def _line(result: Result) -> str:
    if result.verdict == "none":
        return f'"{result.query}": No match. {result.explanation()}'
    found = [hit.label or "?" for hit in result.hits]
    names = ", ".join(f"{found.count(label)} {label}" for label in dict.fromkeys(found))
    doubt = "" if result.match else "not sure; "
    return f'"{result.query}": {doubt}{names}; top score {result.hits[0].score:.3f}'


def _prompts_picture(library: api.Library, results: Sequence[Result]) -> Any:
    """The best five images of each prompt that has a match, a prompt a row."""
    from wordsight import render

    tiles = [
        render.Tile(library.image(hit), [result.query, f"{hit.score:.3f}  {hit.label}"])
        for result in results
        if result.verdict != "none"
        for hit in result.hits[:5]
    ]
    return render.grid(tiles, title="Prompts and their best images", columns=5, cell=120)


def _one_a_class(items: Sequence[Item]) -> list[int]:
    """The places of ten images: one a class, in turn, by their paths."""
    seen: dict[str, int] = {}
    ranked = []
    for i in sorted(range(len(items)), key=lambda i: items[i].path):
        turn = seen[str(items[i].label)] = seen.get(str(items[i].label), 0) + 1
        ranked.append((turn, i))
    return [i for _, i in sorted(ranked)[:10]]
