"""Takes credentials and callers' texts out of a provider's words, which may repeat what was sent.

A credential is known by any part of twelve characters, also in base64, hex and percent-encoding:
who quotes one often cuts or disguises it. A text is known by its beginning or its end, plain or
escaped: an error can reach a caller whose text only travelled along.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from embedway.secret import Secret

_PART = 12
"""As many characters tell something; fewer are found in innocent words, too."""
_LONGEST_QUOTE = 1000
"""No provider's words that are shown are longer."""


def printable(words: str) -> str:
    """*words* without what would steer a terminal or end a line."""
    return words if words.isprintable() else "".join(c if c.isprintable() else " " for c in words)


def without_credentials(words: str, secrets: Iterable[Secret]) -> str:
    """*words* with three stars in place of every part of a credential."""
    parts: set[str] = set()
    for secret in secrets:
        text = secret.reveal()
        if 0 < len(text) < _PART:
            words = words.replace(text, "***")
        for form in _forms(text):
            parts.update(form[start : start + _PART] for start in range(len(form) - _PART + 1))
    shown, covered = [], 0  # how far the parts that were found reach
    for position, character in enumerate(words):
        if words[position : position + _PART] in parts:
            if position >= covered:
                shown.append("***")
            covered = position + _PART
        if position >= covered:
            shown.append(character)
    return "".join(shown)


def _forms(text: str) -> Iterator[str]:
    """A credential as it may be quoted."""
    data = text.encode()
    yield from (text, quote(text, safe=""), data.hex(), data.hex().upper())
    for before in range(3):  # what stands before it in base64, such as a name, moves its letters
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        own = encoded[(before * 8 + 5) // 6 : len(encoded) - 1]
        yield from (own, own.translate({ord("+"): "-", ord("/"): "_"}))


def without_texts(words: str, texts: Iterable[str]) -> str:
    """*words* with an ellipsis in place of what repeats the beginning or the end of a text."""
    for text in texts:
        for form in _quotes(text[:_LONGEST_QUOTE]):
            words = _without_beginning(words, form)
        for form in _quotes(text[-_LONGEST_QUOTE:]):
            words = _without_beginning(words[::-1], form[::-1])[::-1]
    return words


def _quotes(text: str) -> set[str]:
    """A text as it may be quoted: as it is, or as JSON or Python write it."""
    if len(text) < _PART:
        return set()
    escaped = (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text))
    return {text, printable(text).strip(), *(one[1:-1] for one in escaped)}


def _without_beginning(words: str, text: str) -> str:
    start = text[:_PART]
    at = words.find(start) if len(start) == _PART else -1
    while at >= 0:
        end = at + _same(words[at:], text)
        words = f"{words[:at]}…{words[end:]}"
        at = words.find(start, at + 1)
    return words


def _same(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
