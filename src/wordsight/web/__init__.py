"""The web page and the HTTP API: ``wordsight serve``."""

from wordsight.web.app import create_app

__all__ = ["create_app"]
