"""Keywords beside images: XMP sidecars, as other programs read them. Images are never changed."""

from __future__ import annotations

import os
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from wordsight import __version__
from wordsight.errors import WordsightError, reason
from wordsight.paths import drafted

_OURS = b'CreatorTool="wordsight '
# XMP (ISO 16684-1): an RDF description, whose dc:subject is a bag of keywords.
_PACKET = """\
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool={tool}>
   <dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def write_sidecar(image: str, keywords: list[str]) -> Path:
    """Write ``photo.jpg.xmp`` beside ``photo.jpg``, with these keywords, and return its path.

    Raises WordsightError for an image that is no file, where the sidecar cannot be written, and
    where there is one that another program wrote: that is never replaced.
    """
    if not os.path.isfile(image):  # noqa: PTH113
        raise WordsightError("it is inside an archive or a video, so it cannot have a sidecar")
    place = Path(f"{image}.xmp")
    items = "".join(f"<rdf:li>{escape(word)}</rdf:li>" for word in keywords)
    packet = _PACKET.format(tool=quoteattr(f"wordsight {__version__}"), items=items)
    try:
        if place.exists() and _OURS not in place.read_bytes():
            raise WordsightError(f"{place.name} belongs to another program, and was left as it is")
        with drafted(place) as draft:
            draft.write_text(packet, encoding="utf-8")
    except OSError as error:
        raise WordsightError(f"{place.name} cannot be written: {reason(error)}") from None
    return place
