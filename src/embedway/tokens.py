"""Tokens: cl100k ids to text, and a total divided among texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_ESTIMATED_BYTES_PER_TOKEN = 4
"""English text has about four bytes a cl100k token; used only where nobody counts for us."""

_COUNTED_AT_ONCE = 50_000
"""Characters: at most 200,000 bytes, and no token is shorter than a byte."""


@lru_cache(maxsize=1)
def _cl100k() -> Any:
    # Imported at first use: the vocabulary takes half a second and 70 MB, and most callers send
    # text. The package carries it; tiktoken would download it.
    import bpe_openai

    return bpe_openai.get_encoding("cl100k_base")


def decode_cl100k(ids: Sequence[int]) -> str:
    """The text that cl100k *ids* stand for.

    Bytes that are no UTF-8 (clients cut long texts between tokens, which may be inside a
    character) become U+FFFD, as OpenAI's own decoder has it.
    Raises ValueError if an id is not in the vocabulary.
    """
    try:
        if min(ids, default=0) < 0:  # the package would count from the end of its table
            raise KeyError
        data = _cl100k().decode_bytes(list(ids))
    except KeyError:
        raise ValueError("holds a token id that is not in the cl100k vocabulary") from None
    return bytes(data).decode("utf-8", errors="replace")


def load_cl100k() -> None:
    """Load the vocabulary now, so that no request waits for it. Blocking, about half a second."""
    _cl100k()


def can_count(tokenizer: str | None) -> bool:
    """Whether the catalogue's *tokenizer* is here."""
    return tokenizer == "cl100k_base"


def count_tokens(text: str, tokenizer: str | None) -> int | None:
    """The tokens of *text*, as the catalogue's *tokenizer* counts; None where it is not here."""
    return count_cl100k(text) if can_count(tokenizer) else None


def count_cl100k(text: str) -> int:
    """How many cl100k tokens *text* has; of more than a million characters or 200,000 tokens, which
    no model takes and the package does not count at once, about as many."""
    encode = _cl100k().encode_ordinary
    try:
        return len(encode(text))
    except ValueError:
        runs = range(0, len(text), _COUNTED_AT_ONCE)
        return sum(len(encode(text[start : start + _COUNTED_AT_ONCE])) for start in runs)


def estimate_tokens(text: str) -> int:
    """A rough count that needs no vocabulary, at least 1."""
    return max(1, -(-len(text.encode()) // _ESTIMATED_BYTES_PER_TOKEN))


def share_tokens(total: int, lengths: Sequence[int]) -> list[int]:
    """Divide *total* tokens among texts in proportion to *lengths*.

    The shares are whole and add up to *total* exactly (largest remainder). Providers report one
    sum per request, while the ledger bills per text.

    lengths: estimated tokens per text, each at least 1.
    Raises ValueError when *lengths* is empty and *total* is not 0.
    """
    if not lengths:
        if total:
            raise ValueError("there is nobody to share the tokens among")
        return []
    if len(lengths) == 1:
        return [total]
    whole = sum(lengths)
    shares = [total * length // whole for length in lengths]
    remainders = [total * length % whole for length in lengths]
    by_remainder = sorted(range(len(lengths)), key=lambda i: remainders[i], reverse=True)
    for position in by_remainder[: total - sum(shares)]:
        shares[position] += 1
    return shares
