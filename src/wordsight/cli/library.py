"""``wordsight info`` and ``wordsight compact``."""

from __future__ import annotations

from wordsight.cli import options
from wordsight.cli.app import app, examples
from wordsight.cli.console import count, print_json
from wordsight.progress import size


@app.command(epilog=examples("wordsight info --library ~/Pictures"))
def info(
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what a library contains and how it was made."""
    from wordsight.library import Store, find

    facts = Store.open(library or find()).info()
    if as_json:
        print_json(facts)
        return
    record = facts["model"]
    print(f"library   {facts['library']}")
    print(f"images    {facts['images']:,} ({count(facts['views'], 'view')})")
    if facts["frames"]:
        frames, videos = count(facts["frames"], "frame"), count(facts["videos"], "video")
        print(f"videos    {videos}, {frames} of these images")
    if crops := {kind: n for kind, n in facts["crops"].items() if kind != "none"}:
        print("crops     " + "; ".join(f"{kind}: {count(n, 'image')}" for kind, n in crops.items()))
    if facts["texts"] is not None:
        print(f"text      read in {count(facts['texts'], 'image')}")
    print(f"model     {record['name']} ({record['hash']}, {record['dim']} dimensions)")
    if facts["exclude"]:
        print(f"excluded  {', '.join(facts['exclude'])}")
    print(f"on disk   {size(facts['bytes'])}, table version {facts['table_version']}")
    print(
        f"made      {facts['created']} by wordsight {facts['made_with']}, format {facts['format']}"
    )


@app.command(epilog=examples("wordsight compact --library ~/Pictures"))
def compact(
    library: options.LibraryOption = None,
    storage_option: options.StorageOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Merge a library's small files and delete its old versions."""
    from wordsight.api import Library
    from wordsight.library import Store, find

    opened = Library(Store.open(library or find()))
    before = opened.info()["bytes"]
    opened.compact()
    after = opened.info()["bytes"]
    if as_json:
        print_json({"library": str(opened.place), "bytes_before": before, "bytes_after": after})
    else:
        print(f"{opened.place}: {size(before)} before, {size(after)} now.")
