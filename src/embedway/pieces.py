"""A text that is longer than a model takes, cut into pieces that are not."""

from __future__ import annotations

from collections.abc import Callable

from embedway.types import Input

CountTokens = Callable[[str], int]

_CHARACTERS_PER_TOKEN = 4
_WORD_WITHIN = 0.2
"""A piece may be so much shorter in order to end between two words."""
_NEARLY = 0.05
"""How much shorter than the longest a piece may be: each try counts all of its tokens again."""
_LONGEST_TOKEN = 256
"""Characters; cl100k's longest has 128."""


def cut(value: Input, max_tokens: int, count: CountTokens) -> list[Input]:
    """Consecutive pieces of at most *max_tokens* tokens, which together are the whole input; the
    input itself if it is not too long.

    A piece ends between two words where one ends nearby; its tokens are counted as it stands
    alone, since a tokenizer may join or part letters at a cut. One character is never parted.
    """
    if not isinstance(value, str):
        return [value[start : start + max_tokens] for start in range(0, len(value), max_tokens)]
    pieces: list[Input] = []
    start = 0
    while start < len(value):
        length = _fitting(value, start, max_tokens, count, _NEARLY)
        if start + length < len(value):
            shorter = _at_a_word(value, start, length)
            if count(value[start : start + shorter]) <= max_tokens:
                length = shorter
        pieces.append(value[start : start + length])
        start += length
    return pieces


def first_piece(value: Input, max_tokens: int, count: CountTokens) -> Input:
    """The longest beginning of at most *max_tokens* tokens."""
    if not isinstance(value, str):
        return value[:max_tokens]
    return value[: _fitting(value, 0, max_tokens, count, nearly=0.0)]


def _fitting(text: str, start: int, max_tokens: int, count: CountTokens, nearly: float) -> int:
    """How many characters from *start* fit, at least one.

    Never counts much more than fits: a tokenizer may hold up all threads, or refuse a long text.
    """
    left = len(text) - start
    # More text has more tokens, nearly always: from where the limit is in most texts, look in ever
    # larger steps for what is too long, then close in from both sides.
    low, high = 0, max_tokens * _CHARACTERS_PER_TOKEN
    while high < left and count(text[start : start + high]) <= max_tokens:
        low, high = high, 2 * high
    # A word that is parted has more tokens than the whole word: near the end of the text its
    # beginning may be too long where all of it is not.
    if left <= 2 * high + _LONGEST_TOKEN and count(text[start:]) <= max_tokens:
        return left
    high = min(high, left)
    while high - low > max(1, low * nearly):
        middle = (low + high) // 2
        if count(text[start : start + middle]) <= max_tokens:
            low = middle
        else:
            high = middle
    return max(low, 1)


def _at_a_word(text: str, start: int, length: int) -> int:
    """The length up to the end of the last word, if it is near."""
    for shorter in range(length, int(length * (1 - _WORD_WITHIN)), -1):
        if text[start + shorter - 1].isspace():
            return shorter
    return length
