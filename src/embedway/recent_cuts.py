"""How inputs had to be cut of late, where only the provider's refusal tells that they are too long:
what was refused once is not sent again, and its pieces are those whose vectors are known."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from embedway.types import Input

_KEPT = 4096
_MOST_PIECES = 512
"""Longer lists are not kept: they would take more room than they save calls."""
_DIGEST_BYTES = 16


class RecentCuts:
    """The least recently used go first. For one event loop."""

    def __init__(self) -> None:
        self._lengths: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()

    def find(self, value: Input) -> list[Input] | None:
        """The pieces that it was cut into; None if it was not, or not of late."""
        if not self._lengths or (lengths := self._lengths.get(digest := _digest(value))) is None:
            return None
        self._lengths.move_to_end(digest)
        pieces: list[Input] = []
        start = 0
        for length in lengths:
            pieces.append(value[start : start + length])
            start += length
        return pieces

    def note(self, value: Input, pieces: Sequence[Input]) -> None:
        """It had to be cut so: into consecutive *pieces*, of which the rest may be left out."""
        if len(pieces) <= _MOST_PIECES:
            self._lengths[_digest(value)] = tuple(map(len, pieces))
        while len(self._lengths) > _KEPT:
            self._lengths.popitem(last=False)


def _digest(value: Input) -> bytes:
    text = value if isinstance(value, str) else repr(value)
    data = text.encode("utf-8", "surrogatepass")
    kind = type(value).__name__.encode()  # a text may look like a list of ids
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=kind).digest()
