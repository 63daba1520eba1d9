"""``wordsight duplicates``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wordsight.cli.app import app, examples
from wordsight.cli.console import count, nearby, print_json, progress_bar, say
from wordsight.cli.options import JsonOption, LibraryOption
from wordsight.progress import size

if TYPE_CHECKING:
    from wordsight.duplicates import Copy, Duplicates


_SHOWN = 20  # of the images that were left out; a drive that is away has many


@app.command(
    epilog=examples(
        "wordsight duplicates --library ~/Pictures",
        "wordsight duplicates --extra -0 | xargs -0 ls -l",
    )
)
def duplicates(
    library: LibraryOption = None,
    false_merge: Annotated[
        float,
        typer.Option(
            metavar="P", help="The share of images that may be grouped wrongly: 0.00003 is strict."
        ),
    ] = 0.0003,
    extra: Annotated[
        bool,
        typer.Option(
            "--extra", help="Print only the paths of images that are not the best of their group."
        ),
    ] = False,
    zero: Annotated[
        bool, typer.Option("--null", "-0", help="With --extra: end each path with a zero byte.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Group near-duplicates and bursts. Nothing is deleted.

    Groups copies that were re-encoded, resized or cropped, and photographs taken in a row. The
    first image of a group (marked *) is the suggested one to keep: it has the most pixels and is
    not blurred. Frames of videos are ignored. The first run reads all images once.
    """
    from wordsight.duplicates import check_rate, find, read_prints
    from wordsight.library import Store
    from wordsight.library import find as find_library

    if as_json and (extra or zero):
        raise typer.BadParameter("choose one: --json or --extra (-0)")
    check_rate(false_merge)  # before all images are read
    store = Store.open(library or find_library())
    with progress_bar("reading", "images") as progress:
        prints, skipped = read_prints(store, progress=progress)
    with progress_bar("comparing", "pairs") as progress:
        found = find(store, prints, false_merge=false_merge, progress=progress)
    found.skipped = skipped
    if as_json:
        print_json(found.to_json())
        return
    if found.groups and found.expected > found.false_merge:
        say(
            f"note: many images here are nearly alike: up to {found.expected:.2%} of them "
            f"may be grouped wrongly, not {found.false_merge:.2%}; check groups with a likeness "
            "below 0.95."
        )
    for path, reason in skipped[:_SHOWN]:
        say(f"Skipped {nearby(path)}: {reason}")
    if len(skipped) > _SHOWN:
        say(f"Skipped {len(skipped) - _SHOWN} more; --json names them all.")
    if extra or zero:
        for group in found.groups:
            for copy in group.images[1:]:
                print(copy.path, end="\0" if zero else "\n")
    else:
        _print_groups(found)


def _print_groups(found: Duplicates) -> None:
    for number, group in enumerate(found.groups, start=1):
        alike = "equal files" if group.likeness >= 1 else f"likeness {group.likeness:.2f}"
        print(f"Group {number}: {count(len(group.images), 'image')}, {alike}")
        for copy in group.images:
            print(f"  {'*' if copy is group.keep else ' '} {_described(copy)}")
    if not found.groups:
        print(f"No duplicates in {count(found.images, 'image')}.")
        return
    more = sum(len(group.images) - 1 for group in found.groups)
    print(
        f"{count(len(found.groups), 'group')} in {count(found.images, 'image')}; "
        f"{count(more, 'image')} beside the best ones (*)."
    )


def _described(copy: Copy) -> str:
    return f"{nearby(copy.path)}  {copy.width} x {copy.height}, {size(copy.bytes)}"
