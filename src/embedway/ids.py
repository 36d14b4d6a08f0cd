"""Ids: ULIDs (sortable by time, https://github.com/ulid/spec), made from a time and randomness."""

from __future__ import annotations

import os
from collections.abc import Callable

from embedway.clock import Clock

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters at once: half the divisions of the obvious loop, which runs on every request.
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def encode_ulid(milliseconds: int, randomness: bytes) -> str:
    """26 characters from 48 bits of time (milliseconds since 1970) and 10 random bytes."""
    number = (milliseconds << 80) | int.from_bytes(randomness, "big")
    pairs = []
    for _ in range(13):
        number, pair = number >> 10, number & 1023
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))


class Ids:
    """Makes a new ULID at each call."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes

    def new(self) -> str:
        """A ULID of now."""
        return encode_ulid(int(self._clock.now() * 1000), self._random_bytes(10))
