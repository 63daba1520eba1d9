"""What the site changes of the docstrings: Sphinx's roles (:func:`x`) become plain code."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):(?=<code>|<a )")


def on_page_content(html: str, **_context: Any) -> str:
    """Take the roles out; mkdocs calls this for every page."""
    return _ROLE.sub("", html)
