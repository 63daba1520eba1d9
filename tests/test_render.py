from __future__ import annotations

import base64
import errno
import io
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops

from wordsight import render
from wordsight.errors import WordsightError
from wordsight.render import Classified, Tile, colours, text

MAGENTA = (255, 0, 255)


def plain(width: int = 64, height: int = 64, colour: tuple[int, ...] = MAGENTA) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def where(picture: Image.Image, colour: str | tuple[int, ...]) -> NDArray[np.bool_]:
    """Where ``picture`` has exactly this colour, bool [H, W]."""
    wanted = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    return np.asarray(np.all(np.asarray(picture.convert("RGB")) == wanted, axis=-1))


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of what is True; x1 and y1 are one past the end."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def differ(one: Image.Image, other: Image.Image) -> bool:
    return one.size != other.size or ImageChops.difference(one, other).getbbox() is not None


# -- grids ---------------------------------------------------------------------------------------


def test_grid_lays_out_rows_and_columns() -> None:
    five = render.grid([Tile(plain())] * 5, title="dogs", columns=5, cell=100)
    ten = render.grid([Tile(plain())] * 10, title="dogs", columns=5, cell=100)
    assert five.mode == "RGB"
    assert five.width == ten.width >= 500
    assert ten.height >= five.height + 100
    assert where(ten, MAGENTA).sum() == 10 * 100 * 100


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), (180, 180)),  # enlarged
        ((1, 1), (180, 180)),
        ((640, 480), (180, 135)),  # reduced
        ((480, 640), (135, 180)),
        ((5000, 100), (180, 4)),
        ((1, 9000), (1, 180)),
    ],
)
def test_images_are_fitted_with_their_proportions(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = render.grid([Tile(plain(*size))], title="", cell=180)
    x0, y0, x1, y1 = extent(where(picture, MAGENTA))
    assert (x1 - x0, y1 - y0) == expected


def test_small_images_stay_crisp() -> None:
    halves = Image.new("L", (32, 32), 0)
    halves.paste(255, (16, 0, 32, 32))
    picture = render.grid([Tile(halves)], title="", cell=160)
    dark, bright = extent(where(picture, "#000000")), extent(where(picture, "#FFFFFF"))
    row = np.asarray(picture.convert("L"))[(dark[1] + dark[3]) // 2]
    edge = row[dark[0] : dark[0] + 160].astype(int)
    assert bright[2] > dark[2]
    # All but the two pixels of the original at the edge keep clear of the middle greys.
    assert np.count_nonzero((edge > 60) & (edge < 195)) <= 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I", "F", "HSV"])
def test_every_image_mode_is_drawn(mode: str) -> None:
    image = Image.new("RGB", (20, 10), (200, 30, 30)).convert("L").convert("RGB")
    tile = Tile(image.convert("P").convert("PA") if mode == "PA" else _converted(image, mode))
    picture = render.grid([tile], title="mode")
    assert differ(picture, render.grid([Tile(plain(20, 10, (255, 255, 255)))], title="mode"))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)


def test_transparent_parts_show_the_page() -> None:
    clear = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    picture = render.grid([Tile(clear)], title="")
    assert not where(picture, "#000000").any()


@pytest.mark.parametrize("reduced", [1, 4])
def test_the_box_is_drawn_around_its_place_in_the_original(reduced: int) -> None:
    image = plain(400 // reduced, 200 // reduced)
    box = (100.0, 50.0, 200.0, 150.0)
    picture = render.grid([Tile(image, box=box, original_size=(400, 200))], title="", cell=200)
    left, top, _, _ = extent(where(picture, MAGENTA))
    x0, y0, x1, y1 = extent(where(picture, colours.BOX))
    # Half the size; the frame is two pixels wide and lies outside the box.
    assert (x0 - left, y0 - top, x1 - left, y1 - top) == (48, 23, 102, 77)
    assert where(picture, MAGENTA)[top + 50, left + 75]  # the inside is left as it was


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 400, 200),
        (-50, -50, 1000, 1000),
        (399.5, 199.5, 400, 200),
        (10, 10, 10, 10),
        (300, 150, 100, 50),
        (900, 900, 990, 990),
    ],
)
def test_odd_boxes_stay_on_the_image(box: tuple[float, float, float, float]) -> None:
    bare = render.grid([Tile(plain(400, 200))], title="", cell=200)
    picture = render.grid([Tile(plain(400, 200), box=box)], title="", cell=200)
    x0, y0, x1, y1 = extent(where(picture, colours.BOX))
    left, top, right, bottom = extent(where(bare, MAGENTA))
    assert left <= x0 < x1 <= right
    assert top <= y0 < y1 <= bottom


def test_a_box_without_numbers_is_left_out() -> None:
    nan = float("nan")
    picture = render.grid([Tile(plain(), box=(nan, 0, nan, 5))], title="")
    assert not differ(picture, render.grid([Tile(plain())], title=""))


def test_captions_titles_and_marks_change_the_picture() -> None:
    variants = [
        render.grid([Tile(plain(), caption)], title=title, subtitle=subtitle)
        for caption, title, subtitle in [
            (["1", "0.2"], "a dog", None),
            (["1", "0.3"], "a dog", None),
            (["1", "0.2"], "a cat", None),
            (["1", "0.2"], "a dog", "of 20"),
        ]
    ]
    variants += [
        render.grid([Tile(plain(), ["1", "0.2"], highlight="good")], title="a dog"),
        render.grid([Tile(plain(), ["1", "0.2"], highlight="bad")], title="a dog"),
        render.grid([Tile(plain(), ["1", "0.2"], move="new")], title="a dog"),
        render.grid([Tile(plain(), ["1", "0.2"], move=2)], title="a dog"),
        render.grid([Tile(plain(), ["1", "0.2"], move=-2)], title="a dog"),
    ]
    for place, one in enumerate(variants):
        assert all(differ(one, other) for other in variants[place + 1 :])


def test_an_image_that_did_not_move_has_no_badge() -> None:
    still = render.grid([Tile(plain(), move=0)], title="")
    assert not differ(still, render.grid([Tile(plain())], title=""))


def test_no_caption_reaches_the_next_cell_or_the_margin() -> None:
    long = "/srv/pictures/" + "very-long-folder-name/" * 20 + "IMG_0001.jpg"
    tiles = [Tile(plain(), [long, "W" * 400, "word " * 100]) for _ in range(3)]
    picture = render.grid(tiles, title="", columns=3, cell=160)
    image = where(picture, MAGENTA)
    below = np.asarray(picture.convert("L"))[extent(image)[3] + 1 :]
    outside = ~image.any(axis=0)  # the gaps between the cells and the margins
    assert (below[:, outside] == 255).all()
    assert (below[:, ~outside] < 128).any()


def test_an_empty_grid_says_so() -> None:
    picture = render.grid([], title="a dog")
    assert differ(picture, Image.new("RGB", picture.size, colours.PAGE))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "x" * 100_000,
        "many words " * 10_000,
        "犬の写真",
        "الكلب",
        "собака, σκύλος, Hündin",
        "🐶🐕‍🦺 🇩🇪",
        "a\n\n\tdog\x00\x1b[31m",
        "\udcff\ud800.jpg",
        "$x^{",
    ],
)
def test_any_text_can_be_drawn(query: str) -> None:
    tiles = [Tile(plain(), [query, query])]
    assert render.grid(tiles, title=query, subtitle=query).height < 600
    assert render.no_match_card(query, [query], tiles).height < 700
    rows = [Classified(plain(), [(query, 0.5)], truth=query, caption=query)]
    assert render.classification_montage(rows, title=query).height < 400
    figure = render.recall_plot({query: {1: 0.5}}, title=query, subtitle=query, ylabel=query)
    assert pixels(figure).std() > 0
    assert pixels(render.confusion_matrix([[1, 0], [0, 2]], [query, "b"], query)).std() > 0


def test_the_same_input_gives_the_same_picture() -> None:
    def once() -> bytes:
        tiles = [Tile(plain(), ["1 ▲", "é"], box=(1, 1, 9, 9), move=3, highlight="bad")] * 3
        return render.grid(tiles, title="ünï").tobytes()

    assert once() == once()


def test_inputs_are_left_as_they_were() -> None:
    image = plain(32, 32)
    before = image.tobytes()
    render.grid([Tile(image, box=(1, 1, 30, 30), highlight="good")], title="")
    assert image.tobytes() == before


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 7),
    columns=st.integers(1, 9),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    caption=st.text(max_size=60),
)
def test_grid_takes_anything(
    count: int, columns: int, width: int, height: int, caption: str
) -> None:
    tiles = [Tile(plain(width, height), [caption], box=(0, 0, width / 2, height))] * count
    picture = render.grid(tiles, title=caption, columns=columns, cell=60)
    assert picture.width >= min(columns, count) * 60


def test_outlined_frames_every_box() -> None:
    picture = render.outlined(plain(100, 50), [(10, 10, 40, 40), (60, 5, 90, 45)], cell=200)
    assert picture.size == (200, 100)
    frames = where(picture, colours.BOX)
    assert extent(frames[:, :100])[:2] == (18, 18)
    assert extent(frames[:, 100:])[1] == 8


def test_relevance_colours_what_speaks_for_and_against() -> None:
    picture = render.relevance_overlay(plain(32, 32, (128, 128, 128)), [[1.0, 0.0], [0.0, -1.0]])
    assert picture.size == (256, 256)
    pixels = np.asarray(picture).astype(int)
    assert pixels[0, 0, 0] > pixels[0, 0, 2] + 60  # orange
    assert pixels[-1, -1, 2] > pixels[-1, -1, 0] + 60  # blue
    flat = render.relevance_overlay(plain(32, 32, (128, 128, 128)), np.zeros((2, 2)))
    assert np.ptp(np.asarray(flat)) == 0


def test_a_missing_image_fills_its_cell_with_a_word() -> None:
    gone = render.missing_image()
    assert gone.size == (180, 180)
    assert where(gone, colours.PANEL).mean() > 0.8
    assert np.asarray(gone.convert("L")).min() < 120  # the words
    assert render.grid([Tile(gone, ["1", "gone.jpg"])], title="a dog").width > 180


# -- the other pictures --------------------------------------------------------------------------


def test_a_section_is_headed_by_all_of_its_name() -> None:
    tiles = [Tile(Image.new("RGB", (40, 40)), ["1."])] * 5
    long = "a man in a green shirt throws a ball to a dog " * 4
    one, two, three = (
        render.sections([(name, tiles)], title="Queries", cell=140)
        for name in ("a", long, long + "x")
    )
    assert two.height > one.height  # it is wrapped, not cut to a cell
    assert ImageChops.difference(two, three).getbbox()
    both = render.sections([("a", tiles), (long, tiles)], title="Queries", cell=140)
    assert both.height > two.height + 140


def test_no_match_card_grows_with_reasons_and_the_closest() -> None:
    bare = render.no_match_card("a microscope", [])
    reason = render.no_match_card("a microscope", ["top z 2.1, threshold 3.9"])
    closest = render.no_match_card("a microscope", ["top z 2.1"], [Tile(plain(), ["1"])])
    assert bare.height < reason.height < closest.height
    assert not where(reason, MAGENTA).any()
    assert where(closest, MAGENTA).any()
    assert differ(bare, render.no_match_card("a telescope", []))
    assert not differ(bare, render.no_match_card("a microscope", [], []))


def test_side_by_side_keeps_the_two_apart() -> None:
    left, right = [Tile(plain(colour=(255, 0, 0)))] * 4, [Tile(plain(), move="new")] * 2
    picture = render.side_by_side(left, right, ("Full image", "With crops"), title="a dog")
    assert extent(where(picture, (255, 0, 0)))[2] < extent(where(picture, MAGENTA))[0]
    assert where(picture, colours.BLUE).any()


@pytest.mark.parametrize("columns", [1, 3])
def test_side_by_side_with_an_empty_side(columns: int) -> None:
    tiles = [Tile(plain())]
    picture = render.side_by_side([], tiles, ("none", "one"), columns=columns)
    assert extent(where(picture, MAGENTA))[0] > picture.width / 2
    assert render.side_by_side([], [], ("none", "none")).width > 100


def bar_lengths(row: Classified, colour: str) -> list[int]:
    """Longest run of ``colour`` in each line of pixels, for the lines that have it."""
    mask = where(render.classification_montage([row], title=""), colour)
    return [int(np.ptp(np.nonzero(line)[0])) + 1 for line in mask if line.any()]


@pytest.mark.parametrize(
    ("row", "tint"),
    [
        (Classified(plain(), [("dog", 0.5), ("cat", 0.25)]), colours.TINT_TOP),
        (Classified(plain(), [("dog", 0.5), ("cat", 0.25)], truth="dog"), colours.TINT_GOOD),
        (Classified(plain(), [("dog", 0.5), ("cat", 0.25)], truth="cat"), colours.TINT_BAD),
    ],
)
def test_bars_are_as_long_as_the_confidence(row: Classified, tint: str) -> None:
    first, second = max(bar_lengths(row, tint)), max(bar_lengths(row, colours.TINT_REST))
    assert first == 150
    assert second == 75


def test_none_of_these_has_no_coloured_bar() -> None:
    row = Classified(plain(), [("dog", 0.5), ("cat", 0.2)], truth="ship", none_of_these=True)
    for tint in (colours.TINT_TOP, colours.TINT_GOOD, colours.TINT_BAD):
        assert bar_lengths(row, tint) == []
    assert bar_lengths(row, colours.TINT_REST)


def test_montage_takes_odd_rows() -> None:
    rows = [
        Classified(plain(1, 1), []),
        Classified(plain(), [("a", float("nan")), ("b", 7.0), ("c", -1.0)]),
        Classified(plain(5000, 100), [("long name " * 50, 0.3)] * 12, caption="x/" * 200),
    ]
    assert render.classification_montage(rows, title="odd").height > 12 * 26
    assert render.classification_montage([], title="empty").width > 100


# -- text ----------------------------------------------------------------------------------------


def test_a_path_is_shortened_in_the_middle_and_a_sentence_at_its_end() -> None:
    face = text.font(12)
    path = text.shorten("/home/me/pictures/2021/summer/IMG_0001.jpg", face, 150)
    assert path.startswith("/")
    assert "…" in path
    assert path.endswith("IMG_0001.jpg")
    sentence = text.shorten("a dog that sleeps on a very old sofa", face, 150)
    assert sentence.startswith("a dog")
    assert sentence.endswith("…")
    assert max(face.getlength(path), face.getlength(sentence)) <= 150
    assert text.shorten("short", face, 150) == "short"


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(60, 400))
def test_lines_never_exceed_their_width(line: str, width: int) -> None:
    line, face = text.typeset(line, 12)
    parts = text.wrap(line, face, width, 3)
    assert len(parts) <= 3
    for part in [*parts, text.shorten(line, face, width)]:
        assert face.getlength(part) <= width
    if parts and "…" not in parts[-1]:
        assert "".join(parts).replace(" ", "") == line.replace(" ", "")


def test_what_the_font_lacks_is_said_in_words_or_shown_as_squares() -> None:
    assert text.writable("é → ▲3 ▼1 σ Ж ✓") == "é → ▲3 ▼1 σ Ж ✓"
    assert text.writable("a 🐶") == "a [dog face]"
    assert text.writable("犬") == "□"
    assert text.writable("e\u0301") == "é"  # as macOS writes file names
    assert text.writable("a\x00\u200bb\nc") == "ab c"


def test_a_wide_font_of_the_system_is_used_for_what_dejavu_lacks(tmp_path: Path) -> None:
    """In a process of its own: Pillow looks for system fonts in folders the environment names."""
    import matplotlib

    stix = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
    lacking = "\u1d81"  # a d with palatal hook: in STIX, not in DejaVu
    program = (
        "from wordsight.render import text\n"
        f"line, face = text.typeset('a {lacking}', 16)\n"
        f"print(line == 'a {lacking}', face.getname()[0])\n"
    )

    def output() -> list[str]:
        environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "XDG_DATA_DIRS": str(tmp_path)}
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.split()

    if text.writable(lacking) != "□":
        pytest.skip("this matplotlib's DejaVu has the character the test relies on")
    assert output()[0] == "False"
    (tmp_path / "fonts").mkdir()
    shutil.copy(stix, tmp_path / "fonts" / text._WIDE_FONTS[0])
    assert output() == ["True", "STIXGeneral"]


def test_the_colours_that_carry_text_have_contrast() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ (0.2126, 0.7152, 0.0722))

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    pairs = [(colours.INK, tint) for tint in (colours.TINT_TOP, colours.TINT_REST)]
    pairs += [(colours.INK, colours.TINT_GOOD), (colours.INK, colours.TINT_BAD)]
    pairs += [(c, colours.PAGE) for c in (colours.GOOD, colours.BAD, colours.BLUE, colours.MUTED)]
    pairs += [(colours.MUTED, colours.PANEL)]
    for one, other in pairs:
        assert contrast(one, other) >= 4.5, (one, other)  # WCAG 2, level AA


# -- plots ---------------------------------------------------------------------------------------

PLOTS: dict[str, Callable[[], object]] = {
    "confusion": lambda: render.confusion_matrix([[9, 1], [2, 8]], ["cat", "dog"], "Confusion"),
    "reliability": lambda: render.reliability_plot(
        [np.nan, 0.3, 0.7, 0.9], [np.nan, 0.2, 0.7, 0.95], [0, 5, 10, 80], 0.04, "Calibration"
    ),
    "histogram": lambda: render.histogram([1, 2, 2, 5], title="Crops", xlabel="crops"),
    "map": lambda: render.map_plot([[0, 1], [2, 3]], ["cat", None], title="Map"),
    "series": lambda: render.series_plot([1, 3, 2], 2.5, title="Day", xlabel="frame", ylabel="z"),
    "recall": lambda: render.recall_plot(
        {"baseline": {1: 0.2, 10: 0.6}, "crops": {1: (0.4, 0.3, 0.5), 10: (0.8, 0.7, 0.9)}},
        title="Recall",
    ),
    "scores": lambda: render.score_histogram([5, 6, 7.5], [1, 2, 2.5], 3.9, title="Scores"),
}


def pixels(figure: object) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()  # type: ignore[no-untyped-call]
    drawn = figure.canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(drawn, dtype=np.uint8)


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_deterministic_and_not_empty(name: str, tmp_path: Path) -> None:
    first, second = pixels(PLOTS[name]()), pixels(PLOTS[name]())
    assert np.array_equal(first, second)
    assert len(np.unique(first.reshape(-1, 4), axis=0)) > 10
    for suffix in (".png", ".svg", ".pdf"):
        files = [render.save(PLOTS[name](), tmp_path / f"{n}{suffix}") for n in "ab"]  # type: ignore[arg-type]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_plots_leave_pyplot_alone() -> None:
    """In a process of its own, where nothing else has imported pyplot."""
    program = """
import sys, tempfile
import matplotlib
settings = dict(matplotlib.rcParams)
from wordsight import render
figure = render.histogram([1, 2, 3], title="t", xlabel="x")
with tempfile.TemporaryDirectory() as folder:
    render.save(figure, folder + "/a.svg")
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams) == settings
import matplotlib.pyplot as plt
mine = plt.figure()
render.recall_plot({"a": {1: 0.5}}, title="t").canvas.draw()
assert plt.get_fignums() == [mine.number]
assert plt.gcf() is mine
"""
    environment = {**os.environ, "MPLBACKEND": "svg"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_matplotlib_is_not_imported_for_pictures() -> None:
    program = (
        "import sys; from wordsight import render; from PIL import Image\n"
        "render.grid([render.Tile(Image.new('RGB', (9, 9)), ['a'])], title='t')\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_confusion_matrix_shows_shares_of_the_row() -> None:
    def image(matrix: list[list[int]]) -> NDArray[np.float64]:
        figure = render.confusion_matrix(matrix, ["cat", "dog"], "t")
        return np.asarray(figure.axes[0].images[0].get_array(), dtype=float)

    assert image([[30, 10], [0, 5]]).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert image([[0, 0], [1, 1]]).tolist() == [[0.0, 0.0], [0.5, 0.5]]
    figure = render.confusion_matrix([[30, 10], [0, 5]], ["cat", "dog"], "t")
    assert [t.get_text() for t in figure.axes[0].texts] == ["30", "10", "5"]
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert names == ["cat", "dog"]


@pytest.mark.parametrize("classes", [1, 21, 200])
def test_confusion_matrix_of_many_classes(classes: int) -> None:
    figure = render.confusion_matrix(np.eye(classes), [f"c{i}" for i in range(classes)], "t")
    assert pixels(figure).shape[0] > 300
    assert len(figure.axes[0].texts) == (classes if classes <= 20 else 0)


def test_confusion_matrix_of_another_size_than_its_labels() -> None:
    with pytest.raises(ValueError, match="does not fit 3 labels"):
        render.confusion_matrix(np.eye(2), ["a", "b", "c"], "t")


def test_recall_plot_draws_every_method_with_its_interval() -> None:
    figure = render.recall_plot(
        {"a": {1: (0.5, 0.4, 0.7), 5: (0.6, 0.5, 0.7)}, "b": {1: 0.2}}, title="t"
    )
    axes = figure.axes[0]
    first, second = axes.containers
    assert first.lines[0].get_ydata().tolist() == [0.5, 0.6]  # type: ignore[attr-defined]
    ends = first.lines[2][0].get_segments()[0][:, 1]  # type: ignore[attr-defined]
    assert ends.tolist() == pytest.approx([0.4, 0.7])
    assert second.lines[0].get_ydata().tolist() == [0.2]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5"]
    legend = axes.get_legend()
    assert legend is not None
    assert [label.get_text() for label in legend.get_texts()] == ["a", "b"]


def test_histogram_gives_whole_numbers_a_bar_each() -> None:
    axes = render.histogram([0, 2, 2, 3], title="t", xlabel="crops").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 0, 2, 1]  # type: ignore[attr-defined]
    assert [note.get_text() for note in axes.texts] == ["median 2"]


@pytest.mark.parametrize("values", [[], [float("nan")], [4], [0.1, 0.1], [1e9, -1e9], range(500)])
def test_histogram_takes_odd_values(values: list[float]) -> None:
    figure = render.histogram(list(values), title="t", xlabel="x")
    assert pixels(figure).std() > 0


@pytest.mark.parametrize("threshold", [None, -3.0, 2.0, 60.0, float("nan")])
def test_score_histogram_marks_its_threshold(threshold: float | None) -> None:
    axes = render.score_histogram([5.0, 6.0], [1.0], threshold, title="t").axes[0]
    marks = [note.get_text() for note in axes.texts]
    shown = threshold is not None and math.isfinite(threshold)
    assert marks == ([f"threshold {threshold:.3g}"] if shown else [])


def test_series_plot_marks_the_best_and_the_threshold() -> None:
    figure = render.series_plot([1, 5, 2], 3.0, title="t", xlabel="frame", ylabel="z")
    axes = figure.axes[0]
    assert [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_label() == "best"] == [
        (1.0, 5.0)
    ]
    assert any("threshold 3" in text.get_text() for text in axes.texts)


def test_map_plot_names_the_frequent_labels_and_greys_the_rest() -> None:
    labels = ["dog"] * 5 + ["cat"] * 4 + ["owl"] + [None]
    points = np.random.default_rng(0).normal(size=(11, 2))
    figure = render.map_plot(points, labels, title="t", most=2)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["cat", "dog"]
    assert [len(part.get_offsets()) for part in axes.collections] == [2, 4, 5]
    x, y = axes.texts[1].get_position()
    np.testing.assert_allclose((x, y), np.median(points[:5], axis=0))
    with pytest.raises(ValueError, match="labels do not fit"):
        render.map_plot(points, labels[1:], title="t")


def test_plots_of_nothing_say_so() -> None:
    for figure in (
        render.score_histogram([], [], None, title="t"),
        render.recall_plot({}, title="t"),
        render.histogram([], title="t", xlabel="x"),
        render.series_plot([], title="t", xlabel="x", ylabel="y"),
        render.map_plot(np.zeros((0, 2)), [], title="t"),
    ):
        assert [note.get_text() for note in figure.axes[0].texts] == ["nothing to plot"]
        pixels(figure)
    pixels(render.reliability_plot([], [], [], 0.0, "t"))


def test_no_text_of_a_plot_is_cut_off_by_its_edge() -> None:
    labels = ["BACKGROUND_Google", "a rather long class name", "cat"]
    figure = render.confusion_matrix(np.eye(3), labels, "A title " * 30, "and more " * 40)
    seen = pixels(figure)[..., :3]
    for edge in (seen[:3], seen[-3:], seen[:, :3], seen[:, -3:]):
        assert (edge == 255).all()


# -- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".TIFF", ".bmp", ".gif"])
def test_save_writes_what_the_suffix_says(tmp_path: Path, suffix: str) -> None:
    picture = render.grid([Tile(plain())], title="a dog")
    path = render.save(picture, tmp_path / "new" / "folder" / f"out{suffix}")
    with Image.open(path) as back:
        assert back.size == picture.size
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.svg"])
def test_save_refuses_a_suffix_it_does_not_know(tmp_path: Path, name: str) -> None:
    with pytest.raises(WordsightError, match=r"\.png") as caught:
        render.save(plain(), tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.webp", "x.gif", "x.jpg", "x.pdf"])
def test_save_refuses_what_a_format_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(WordsightError, match=r"1 x 70000 pixels are too many for .* write a \.png"):
        render.save(Image.new("RGB", (1, 70_000)), tmp_path / name)
    assert not list(tmp_path.iterdir())
    render.save(Image.new("RGB", (1, 70_000)), tmp_path / "x.png")


def test_labels_of_a_confusion_matrix_are_no_formulas(tmp_path: Path) -> None:
    plot = render.confusion_matrix([[1, 0], [0, 1]], ["a$x_$", r"$\frac$"], title="Confusions")
    render.save(plot, tmp_path / "c.png")


def test_save_where_a_file_or_folder_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "out.png", tmp_path / "folder.png"):
        with pytest.raises(WordsightError, match=re.escape(str(path))):
            render.save(plain(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "could not be written"),
    ],
)
def test_a_failed_save_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path = render.save(plain(), tmp_path / "out.png")
    before = path.read_bytes()

    def fail(self: Image.Image, target: Path, **_: object) -> None:
        target.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(WordsightError, match=words):
        render.save(plain(9, 9), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


# -- terminals -----------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make standard output a terminal with these variables and no others that count."""
    for name in ("TMUX", "TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID"):
        monkeypatch.delenv(name, raising=False)

    def become(is_terminal: bool = True, **variables: str) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return become


def test_iterm_gets_an_inline_png(terminal: Callable[..., None]) -> None:
    terminal(TERM_PROGRAM="iTerm.app")
    picture = render.grid([Tile(plain())], title="a dog")
    answer = render.in_terminal(picture)
    assert answer is not None
    head, data = answer.split(":", 1)
    assert head.startswith("\x1b]1337;File=inline=1")
    assert data.endswith("\x07")
    back = Image.open(io.BytesIO(base64.b64decode(data[:-1])))
    assert not differ(back.convert("RGB"), picture)


def test_kitty_gets_chunks_that_ask_for_no_answer(terminal: Callable[..., None]) -> None:
    terminal(TERM="xterm-kitty")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    answer = render.in_terminal(noise)
    assert answer is not None
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", answer)
    assert "".join(f"\x1b_G{head};{data}\x1b\\" for head, data in chunks) == answer
    assert chunks[0][0].startswith("a=T,f=100,q=2")
    assert [head[-3:] for head, _ in chunks] == ["m=1"] * (len(chunks) - 1) + ["m=0"]
    assert len(chunks) > 1
    assert all(len(data) <= 4096 for _, data in chunks)
    back = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks))))
    assert not differ(back.convert("RGB"), noise)


@pytest.mark.parametrize(
    "variables",
    [
        {"TERM": "xterm-256color"},
        {"TERM": "dumb"},
        {"TERM_PROGRAM": "Apple_Terminal"},
        {"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/tmux"},
        {"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"},
    ],
)
def test_other_terminals_get_none(terminal: Callable[..., None], variables: dict[str, str]) -> None:
    terminal(**variables)
    assert render.in_terminal(plain()) is None


def test_a_pipe_gets_none(terminal: Callable[..., None]) -> None:
    terminal(is_terminal=False, TERM="xterm-kitty", TERM_PROGRAM="iTerm.app")
    assert render.in_terminal(plain()) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("window", "expected"), [(300, 300), (2000, 600), (0, 600)])
def test_pictures_are_reduced_to_the_window(window: int, expected: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    program = (
        "import base64, io\n"
        "from PIL import Image\n"
        "from wordsight import render\n"
        "answer = render.in_terminal(Image.new('RGB', (600, 60)))\n"
        "png = base64.b64decode(answer.split(':', 1)[1][:-1])\n"
        "print(Image.open(io.BytesIO(png)).size)\n"
    )
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, window, 400))
        environment = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TERM")}
        environment["TERM_PROGRAM"] = "iTerm.app"
        subprocess.run([sys.executable, "-c", program], check=True, env=environment, stdout=theirs)
        assert os.read(ours, 1000).decode().strip() == str((expected, expected // 10))
    finally:
        os.close(ours)
        os.close(theirs)


def test_blocks_carry_two_pixels_a_character() -> None:
    image = Image.new("RGB", (2, 2), (255, 0, 0))
    image.paste((0, 0, 255), (0, 1, 2, 2))
    lines = render.as_blocks(image, 2).split("\n")
    assert lines == ["\x1b[38;2;255;0;0;48;2;0;0;255m▀" * 2 + "\x1b[0m"]
    assert len(render.as_blocks(plain(5000, 100), 40).split("\n")) == 1
