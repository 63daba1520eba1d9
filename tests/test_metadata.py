"""What files say of their pictures: read while they are decoded, or from their heads alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL.TiffImagePlugin import IFDRational

from wordsight.images import Metadata, open_image, read_metadata


def exif(
    taken: str = "2023:07:14 18:03:22", zone: str | None = "+02:00", **more: Any
) -> PIL.Image.Exif:
    """EXIF of a phone in Munich, unless ``more`` says otherwise."""
    made = PIL.Image.Exif()
    made[0x0110] = more.get("camera", "Pixel 7")
    made[0x0112] = more.get("turn", 1)
    inner = made.get_ifd(0x8769)
    inner[0x9003] = taken
    inner[0xA434] = "Pixel 7 back camera 6.81mm f/1.85"
    if zone:
        inner[0x9011] = zone
    if "fraction" in more:
        inner[0x9291] = more["fraction"]
    gps = made.get_ifd(0x8825)
    where = more.get("where", ((48, 8, 15), "N", (11, 34, 30), "E"))
    gps[2], gps[1], gps[4], gps[3] = where
    if "satellites" in more:
        gps[29], gps[7] = more["satellites"]
    return made


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"exif": exif().tobytes(), **options}
    PIL.Image.new("RGB", (48, 32), "red").save(file, kind, **options)
    return file.getvalue()


def xmp(inside: str = "", **attributes: str) -> bytes:
    said = " ".join(f'{name.replace("_", ":")}="{text}"' for name, text in attributes.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" '
        f"{said}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def bag(*words: str) -> str:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>"


def iptc(*words: bytes) -> bytes:
    """A JPEG whose Photoshop segment has these keywords."""
    records = b"".join(b"\x1c\x02\x19" + len(word).to_bytes(2, "big") + word for word in words)
    block = b"8BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records
    block += b"\0" * (len(records) % 2)
    body = b"Photoshop 3.0\0" + block
    jpeg = saved("JPEG", exif=PIL.Image.Exif())
    return jpeg[:2] + b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def both_ways(data: bytes) -> Metadata:
    """From decoding, and the same from the head."""
    decoded = open_image(data).info["metadata"]
    assert isinstance(decoded, Metadata)
    assert read_metadata(data) == decoded
    return decoded


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "AVIF", "MPO"])
def test_formats_say_what_their_exif_says(kind: str) -> None:
    assert both_ways(saved(kind)) == Metadata(
        media="photo",
        orientation="landscape",
        taken="2023-07-14T18:03:22+02:00",
        camera="Pixel 7",
        lens="Pixel 7 back camera 6.81mm f/1.85",
        latitude=pytest.approx(48.1375),
        longitude=pytest.approx(11.575),
    )


def test_heic_and_jpeg_xl() -> None:
    heif = pytest.importorskip("pillow_heif").from_pillow(PIL.Image.new("RGB", (48, 32)))
    heif.info["exif"] = exif().tobytes()
    file = io.BytesIO()
    heif.save(file)
    assert both_ways(file.getvalue()).taken == "2023-07-14T18:03:22+02:00"
    pytest.importorskip("pillow_jxl", reason="needs the extra jxl")
    assert both_ways(saved("JXL", exif=exif().tobytes(), use_container=True)).camera == "Pixel 7"


def test_a_raw_file_is_one() -> None:
    pytest.importorskip("rawpy", reason="needs the extra raw")
    from test_raw import dng

    found = both_ways(dng())
    assert (found.media, found.orientation) == ("raw", "landscape")


def test_a_file_that_says_nothing() -> None:
    plain = both_ways(saved("JPEG", exif=PIL.Image.Exif()))
    assert plain == Metadata("photo", "landscape")
    assert read_metadata(b"no image") is None
    assert read_metadata(Path("/nowhere/at/all.jpg")) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"zone": None}, "2023-07-14T18:03:22"),  # the camera's clock, wherever it was
        ({"zone": "-09:30"}, "2023-07-14T18:03:22-09:30"),
        ({"zone": "   :  "}, "2023-07-14T18:03:22"),
        ({"zone": None, "fraction": "45"}, "2023-07-14T18:03:22.450"),
        ({"taken": "0000:00:00 00:00:00"}, None),
        ({"taken": "2023:02:31 10:00:00"}, None),
        ({"taken": "    :  :     :  :  "}, None),
        ({"taken": "yesterday"}, None),
    ],
)
def test_times(said: dict[str, Any], expected: str | None) -> None:
    assert both_ways(saved("JPEG", exif=exif(**said))).taken == expected


@pytest.mark.parametrize(
    ("satellites", "zone"),
    [
        (("2023:07:14", (16, 3, 20)), "+02:00"),
        (("2023:07:14", (12, 18, 22)), "+05:45"),  # Nepal
        (("2023:07:15", (3, 33, 22)), "-09:30"),  # the day after, by UTC
        (("2023:07:14", (15, 59, 0)), "+02:00"),  # the last fix is four minutes old
        (("2023:07:14", (15, 55, 0)), ""),  # too old to tell
        (("2023:07:12", (16, 3, 22)), ""),  # from another day
        (("", (16, 3, 22)), ""),
        (("2023:07:14", (16, IFDRational(1, 0), 22)), ""),
        (("2023:13:14", (16, 3, 22)), ""),
    ],
)
def test_the_time_of_satellites_tells_the_zone(satellites: Any, zone: str) -> None:
    said = exif(zone=None, satellites=satellites)
    assert both_ways(saved("JPEG", exif=said)).taken == f"2023-07-14T18:03:22{zone}"
    named = exif(zone="+03:00", satellites=satellites)  # what is written down counts
    assert both_ways(saved("JPEG", exif=named)).taken == "2023-07-14T18:03:22+03:00"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (((33, 51, 24), "S", (151, 12, 54), "E"), (-33.8566667, 151.215)),
        (((33, 51.5, 0), "N", (70, 0, 0), "W"), (33.8583333, -70.0)),
        (((0, 0, 0), "N", (0, 0, 0), "E"), (None, None)),  # no fix
        (((91, 0, 0), "N", (0, 0, 0), "E"), (None, None)),
        (((48, IFDRational(1, 0), 0), "N", (11, 0, 0), "E"), (None, None)),
    ],
)
def test_places(where: Any, expected: Any) -> None:
    found = both_ways(saved("JPEG", exif=exif(where=where)))
    assert (found.latitude, found.longitude) == expected


def test_orientation_is_that_of_the_upright_picture() -> None:
    assert both_ways(saved("JPEG", exif=exif(turn=6))).orientation == "portrait"
    square = io.BytesIO()
    PIL.Image.new("RGB", (9, 9)).save(square, "PNG")
    assert both_ways(square.getvalue()).orientation == "square"


def test_keywords_of_xmp_and_iptc_are_joined() -> None:
    said = both_ways(saved("JPEG", xmp=xmp(bag("beach", "Zoë &amp; Ann", "beach", " "))))
    assert said.keywords == ["beach", "Zoë & Ann"]
    for coded in ("Zoë".encode(), "Zoë".encode("latin-1")):
        assert both_ways(iptc(b"dog", coded)).keywords == ["dog", "Zoë"]


def test_xmp_says_what_exif_does_not() -> None:
    packet = xmp(exif_DateTimeOriginal="2021-05-06T07:08:09.5Z", aux_Lens="50mm")
    found = both_ways(saved("JPEG", exif=PIL.Image.Exif(), xmp=packet))
    assert (found.taken, found.lens) == ("2021-05-06T07:08:09.500+00:00", "50mm")
    both = both_ways(saved("JPEG", xmp=packet))
    assert both.taken == "2023-07-14T18:03:22+02:00"


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><broken></x:xmpmeta>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x:xmpmeta>&b;</x:xmpmeta>',
        xmp("<dc:subject>\xff</dc:subject>").replace(b"\xc3\xbf", b"\xff"),
    ],
)
def test_broken_xmp_says_nothing(packet: bytes) -> None:
    assert both_ways(saved("JPEG", exif=PIL.Image.Exif(), xmp=packet)).keywords is None


def test_texts_are_cleaned() -> None:
    made = exif(camera="  Zoë's\0rest \n")
    assert both_ways(saved("JPEG", exif=made)).camera in ("Zoë's", "Zo?'s")
    assert len(both_ways(saved("JPEG", exif=exif(camera="x" * 9999))).camera or "") == 200


def test_broken_exif_is_no_reason_to_refuse_a_picture() -> None:
    whole = exif().tobytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(whole)
        for place in rng.integers(8, len(broken), 6):
            broken[place] = rng.integers(0, 256)
        data = saved("JPEG", exif=bytes(broken))
        assert isinstance(open_image(data).info["metadata"], Metadata)
        assert isinstance(read_metadata(data), Metadata)
