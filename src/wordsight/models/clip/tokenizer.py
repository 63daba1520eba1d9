"""From texts to token ids, as the model's files describe it.

Cleaning follows open_clip's ``tokenizer.py``; the rest is in ``tokenizer.json``.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordsight.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Outside of these characters ftfy changes nothing, and importing it takes longer than a query.
_MAYBE_BROKEN = re.compile(r"[^\t\n\r\x20-\x25\x27-\x7e]")


def _clean_whitespace(text: str) -> str:
    if _MAYBE_BROKEN.search(text):
        import ftfy

        text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text).strip()


def _clean_lower(text: str) -> str:
    return _clean_whitespace(text).lower()


_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def _clean_canonicalize(text: str) -> str:
    # big_vision's `canonicalize_text`: no punctuation, lower case
    text = _clean_whitespace(text).translate(_NO_PUNCTUATION).lower()
    return re.sub(r"\s+", " ", text).strip()


CLEANING: dict[str, Callable[[str], str]] = {
    "whitespace": _clean_whitespace,
    "lower": _clean_lower,
    "canonicalize": _clean_canonicalize,
}
"""How a text is cleaned before the tokenizer sees it, by open_clip's names."""


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """Where a tokenizer is, and how its model wants it used."""

    path: Path
    """`tokenizer.json`."""
    config: dict[str, Any]
    """`tokenizer_config.json`, read."""
    context: int
    """Tokens of a text: shorter ones are padded, longer ones cut."""
    clean: str
    """A key of :data:`CLEANING`."""

    def open(self) -> Tokenizer:
        """Open it, set to pad and cut. Raises ModelError for files that make no sense."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises bare exceptions
            raise ModelError(
                f"{self.path}: not a tokenizer ({error}); fetch the model again"
            ) from error
        pad = self._token("pad_token") or (tokenizer.padding or {}).get("pad_token")
        pad_id = tokenizer.token_to_id(pad) if isinstance(pad, str) else None
        if pad_id is None:
            raise ModelError(
                f"{self.path.with_name('tokenizer_config.json')}: pad_token {pad!r} is not in "
                "tokenizer.json"
            )
        self._add_ends(tokenizer)
        tokenizer.enable_padding(length=self.context, pad_token=pad, pad_id=pad_id)
        # Truncation leaves room for the start and end tokens, as CLIP was trained.
        tokenizer.enable_truncation(max_length=self.context)
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a prompt is ordinary text
        return tokenizer

    def _token(self, name: str) -> Any:
        token = self.config.get(name)
        # Older files write a token with its flags.
        return token.get("content") if isinstance(token, dict) else token

    def _add_ends(self, tokenizer: Tokenizer) -> None:
        """Add the start and end tokens that `tokenizer_config.json` asks for.

        For the tokenizers of Llama and Gemma (SigLIP 2) it has the last word, not `tokenizer.json`.
        """
        if "add_eos_token" not in self.config:
            return
        from tokenizers.processors import TemplateProcessing

        start = self._token("bos_token") if self.config.get("add_bos_token") else None
        end = self._token("eos_token") if self.config["add_eos_token"] else None
        ends = {token: tokenizer.token_to_id(token) for token in (start, end) if token}
        lost = [token for token, number in ends.items() if number is None]
        if lost:
            raise ModelError(f"{self.path}: has no token {lost[0]!r}; fetch the model again")
        tokenizer.post_processor = TemplateProcessing(
            single=[part for part in (start, "$A", end) if part],
            special_tokens=list(ends.items()),
        )
