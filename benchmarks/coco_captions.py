"""The COCO captions pack: captions find their image, and images their captions.

    python -m benchmarks.coco_captions [--data DATA] [--model starter] [--split val2017]

DATA is the folder with coco-captions/. The gallery is the images of the split alone (the starter
was trained on images of train2017). Published for the reference model on another, larger set:
Flickr30k text-to-image R@1/5/10 of OpenAI's ViT-B/32 is 58.8/83.6/90.0 (open_clip results).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import wordsight
from benchmarks.common import Part, finish, parser
from wordsight.evaluate import evaluate, load_judgements
from wordsight.sources import open_source
from wordsight.sources.coco import read_coco


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, "data")
    arguments.add_argument("--model", default="starter")
    arguments.add_argument("--split", default="val2017", choices=("val2017", "train2017"))
    options = arguments.parse_args()
    pack = options.data / "coco-captions"
    names = {i.file_name for i in read_coco(pack / "captions.json") if i.split == options.split}
    archive = open_source(pack / "images.tar")
    items = [item for item in archive.items() if item.path.split("::")[-1] in names]
    with tempfile.TemporaryDirectory() as folder:
        library = wordsight.create(Path(folder) / "library", options.model)
        library.index_sources([Part(archive.root, items)])
        found = evaluate(library, load_judgements(library, pack / "captions.json")).to_json()
    finish(options, {"split": options.split, **found})
    print(f"{found['queries']} captions, {found['gallery']} images of {options.split}")
    rows = {**found["methods"], "image to text": found.get("image_to_text", {})}
    for name, values in rows.items():
        shown = ("recall@1", "recall@5", "recall@10", "mrr")
        print(f"{name:<22} " + "  ".join(f"{key} {values[key]:.3f}" for key in shown))


if __name__ == "__main__":
    main()
