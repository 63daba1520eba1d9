"""The guided tour: CIFAR-10 found by words, step by step, with pictures to look at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight import api
from wordsight.errors import LibraryError, WordsightError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    from wordsight import render
    from wordsight.sources import Head

    started = time.perf_counter()
    facts: dict[str, Any] = {"model": model.name, "origin": origin, "pictures": []}

    def keep(picture: Any, name: str) -> None:
        facts["pictures"].append(str(render.save(picture, out / name)))

    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / _MARK).exists():
            for name in _REPLACED:
                if (out / name).exists():
                    raise LibraryError(
                        f"{out / name} is there already, and was not made by the demo, which would "
                        "replace it; choose another --out."
                    )
            (out / _MARK).touch()
    except OSError as error:
        raise LibraryError(
            f"{out}: cannot be made ({reason(error)}); choose another --out."
        ) from None
    say(f"1. Model: {model.name}, {model.dim} dimensions, images of {model.image_size[0]} px")

    part = source if most is None else Head(source, most)
    items = part.items()
    labels = sorted({item.label for item in items if item.label})
    of_all = f"the first {most:,} (--full: all)" if len(items) == most else f"{len(items):,}"
    say(f"2. CIFAR-10: {of_all} test images of {len(labels)} classes, from {origin}")

    with show("encoding images") as progress:
        library = _fresh_library(out / "library", model)
        report = library.index_sources([part], progress=progress)
    ids, vectors = library.vectors()
    facts["index"] = report.to_json()
    # Of few images the rate would say more about starting up.
    rate = f" ({report.images_per_second:,.0f} images/s)" if len(vectors) >= _SOME else ""
    say(
        f"3. Images encoded: {len(vectors):,} vectors of {vectors.shape[1]} dimensions in "
        f"{report.seconds:.1f} s{rate}"
    )

    prompt = PROMPTS[0]
    with show("searching"):
        vector = model.encode_texts([prompt])[0]
        result = library.search(prompt, k=10, anyway=True)
        keep(library.grid(result), "top-k.png")
    say(f'4. Prompt encoded: "{prompt}" -> {vector.shape[0]} dimensions, length 1')

    say(f'5. The {len(result.hits)} most similar images to "{prompt}", by cosine similarity:')
    for hit in result.hits:
        say(f"   {hit.rank:>2}  {hit.score:.3f}  {hit.label}")

    with show("searching"):
        results = library.search(list(PROMPTS), k=10)
        keep(_prompts_picture(library, results), "prompts.png")
        # The last, a piano, is in none of the classes; of few images others may be refused too.
        missing = next((one for one in reversed(results) if one.verdict == "none"), None)
        if missing is not None:
            closest = library.search(missing.query, k=5, anyway=True)
            keep(library.grid(closest), "no-match.png")
    say("6. More prompts:")
    for answer in results:
        say(f"   {_line(answer)}")
    facts["searches"] = [answer.to_json() for answer in results]

    with show("classifying"):
        facts["classification"], answers = _classify(model, items, ids, vectors, keep)
    say('7. Zero-shot classification with "a photo of a {}.":')
    for line in answers:
        say(f"   {line}")

    facts["crops"] = _crops(model, items, out, keep, say, show)
    facts["photographs"] = _photographs(model, out, keep, say, show)

    facts["seconds"] = round(time.perf_counter() - started, 2)
    say(f"12. Done in {facts['seconds']:.1f} s. Pictures to look at:")
    for picture in facts["pictures"]:
        say(f"   {picture}")
    say(f"   Go on yourself:  wordsight search --library {out / 'library'}")
    return facts


def _crops(
    model: ClipModel,
    items: Sequence[Item],
    out: Path,
    keep: Callable[[Any, str], None],
    say: Callable[[str], None],
    show: Show,
) -> dict[str, Any]:
    """Small objects: scenes with several of the images, searched without and with crops."""
    from wordsight import render
    from wordsight.evaluate import evaluate, load_judgements
    from wordsight.scenes import write_scenes

    shutil.rmtree(out / "scenes", ignore_errors=True)
    with show("encoding scenes") as progress:
        truth = write_scenes(out / "scenes", items, _SCENES)
        library = _fresh_library(out / "scenes-library", model)
        library.index(out / "scenes", progress=progress)
    with show("encoding crops of the scenes") as progress:
        report = library.index(out / "scenes", crops=_PROPOSER, progress=progress)
    assert report.crops is not None
    facts = report.crops.to_json()
    prompt = PROMPTS[0]
    with show("searching"):
        picture = render.histogram(
            report.crops.per_image, title="Crops per scene", xlabel=f"crops by {facts['proposer']}"
        )
        keep(picture, "crops.png")
        baseline = library.search(prompt, k=6, crops=False, anyway=True)
        aware = library.search(prompt, k=6, anyway=True)
        keep(library.comparison(baseline, aware), "compare.png")
    say(
        f"8. Crops: {facts['crops']:,} by {facts['proposer']} in {_SCENES} scenes of several "
        f"CIFAR-10 images each (min {facts['min']}, median {facts['median']:g}, max "
        f"{facts['max']} a scene), encoded in {report.seconds:.1f} s"
    )
    say(
        f'9. "{prompt}", ranked again by max fusion of the whole image and its best crop '
        "(cosines are shown; the order is by their lift above each image's background):"
    )
    for old, new in zip(baseline.hits, aware.hits, strict=True):
        won = "its best crop" if new.view.box else "the whole image"
        say(
            f"   {new.rank:>2}  {Path(old.path).stem} {old.score:.3f}  ->  "
            f"{Path(new.path).stem} {new.score:.3f} by {won}"
        )

    with show("evaluating"):
        found = evaluate(library, load_judgements(library, truth))
    say(f"10. Baseline beside crop-aware, {len(found.judgements.texts)} class names as queries:")
    for name in ("baseline", "crop-aware", "crop-aware normalised"):
        values = found.methods[name]
        shown = ("recall@1", "recall@5", "recall@10", "mrr", "map")
        say(f"   {name:<22} " + "  ".join(f"{key} {values[key].value:.3f}" for key in shown))
    return {"report": facts, "evaluation": found.to_json()}


def _photographs(
    model: ClipModel,
    out: Path,
    keep: Callable[[Any, str], None],
    say: Callable[[str], None],
    show: Show,
) -> list[dict[str, Any]]:
    """Search the photographs of the package, whole and by their crops."""
    from wordsight import render

    lines, tiles = [], []
    with show("encoding photographs") as progress:
        library = _fresh_library(out / "photographs-library", model)
        library.index(_PHOTOGRAPHS, crops=_PROPOSER, progress=progress)
        results = library.search(list(PHOTOGRAPH_PROMPTS), k=1, anyway=True)
        for result in results:
            best = result.hits[0]
            found = f"{Path(best.path).name}, score {best.score:.3f}"
            verdict = {"match": "", "unsure": "Not sure", "none": "No match"}[result.verdict]
            lines.append(
                f'   "{result.query}": ' + (f"{verdict} (closest: {found})" if verdict else found)
            )
            verdict = f"{verdict}; the closest" if verdict else f"{best.score:.3f}"
            text = [result.query, verdict]
            tiles.append(render.Tile(library.image(best), text, box=best.view.box))
        picture = render.grid(tiles, title="Photographs searched by words", columns=3)
        keep(picture, "photographs.png")
    say(f"11. Photographs: {len(library)} that come with wordsight, searched with crops:")
    for line in lines:
        say(line)
    return [result.to_json() for result in results]


def _fresh_library(place: Path, model: ClipModel) -> api.Library:
    if (place / "library.json").exists():
        shutil.rmtree(place)
    return api.create(place, model)


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


def _classify(
    model: ClipModel,
    items: Sequence[Item],
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    keep: Callable[[Any, str], None],
) -> tuple[dict[str, Any], list[str]]:
    """The report, and lines about the images that the montage shows."""
    import numpy as np

    from wordsight import render
    from wordsight.classify import Classifier
    from wordsight.evaluate import classification_report
    from wordsight.images import open_image

    classifier = Classifier(model, _LABELS)
    by_id = {item.id: item for item in items}
    truth = [by_id[i].label for i in ids]
    if None in truth:
        raise WordsightError("the demo needs labelled images: a folder a class.")
    place = {label: j for j, label in enumerate(classifier.labels)}
    report = classification_report(
        classifier.confidences(vectors), np.array([place[str(label)] for label in truth])
    )
    # One image a class, in turn, until there are ten.
    seen: dict[str, int] = {}
    order = sorted(range(len(ids)), key=lambda i: by_id[ids[i]].path)
    ranked = []
    for i in order:
        turn = seen[str(truth[i])] = seen.get(str(truth[i]), 0) + 1
        ranked.append((turn, i))
    chosen = [i for _, i in sorted(ranked)[:10]]
    rows, lines = [], []
    for i, judged in zip(chosen, classifier.judge(vectors[chosen]), strict=True):
        rows.append(
            render.Classified(
                open_image(by_id[ids[i]].read()),
                [(c.label, c.confidence) for c in judged.top],
                truth=truth[i],
                none_of_these=judged.none_of_these,
            )
        )
        best = judged.top[0]
        answer = "none of these" if judged.none_of_these else f"{best.label} {best.confidence:.0%}"
        lines.append(f"{truth[i]:<10} -> {answer}")
    keep(render.classification_montage(rows, title="Ten test images, top 3 labels"), "classify.png")
    keep(
        render.confusion_matrix(
            report.confusion,
            classifier.labels,
            f"Zero-shot on {len(ids):,} CIFAR-10 test images: {report.accuracy:.1%} right",
        ),
        "confusion.png",
    )
    keep(
        render.reliability_plot(
            report.bin_confidence,
            report.bin_accuracy,
            report.bin_count,
            report.ece,
            "Do confidences mean what they say?",
        ),
        "reliability.png",
    )
    lines.append(
        f"accuracy {report.accuracy:.4f}, top-3 {report.top3_accuracy:.4f}, "
        f"expected calibration error {report.ece:.4f} over {len(ids):,} images"
    )
    return report.to_json(), lines
