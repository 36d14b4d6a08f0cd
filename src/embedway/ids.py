"""Ids: ULIDs (sortable by time, https://github.com/ulid/spec), made from a time and randomness."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache

from embedway.clock import Clock

_BYTES = 10
_AT_ONCE = 256
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32
# Two characters at once: half the steps, on a path that every request takes.
_PAIRS = tuple(high + low for high in _LETTERS for low in _LETTERS)


def encode_ulid(milliseconds: int, randomness: bytes) -> str:
    """26 characters from 48 bits of time (milliseconds since 1970) and 10 random bytes."""
    return _time_part(milliseconds) + _pairs(int.from_bytes(randomness, "big"), 8)


@lru_cache(maxsize=2)
def _time_part(milliseconds: int) -> str:
    return _pairs(milliseconds, 5)


def _pairs(number: int, count: int) -> str:
    """The lowest 10 * count bits of *number* as 2 * count characters."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(10 * count - 10, -1, -10)])


class Ids:
    """Makes a new ULID at each call."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._store: Iterator[bytes] = iter(())

    def new(self) -> str:
        """A ULID of now."""
        randomness = next(self._store, None) or self._restock()
        return encode_ulid(int(self._clock.now() * 1000), randomness)

    def _restock(self) -> bytes:
        """Randomness for many ids at once: whoever asks the system for it lets go of the
        interpreter and may have to wait for it again."""
        many = self._random_bytes(_BYTES * _AT_ONCE)
        self._store = iter([many[i : i + _BYTES] for i in range(0, len(many), _BYTES)])
        return next(self._store)
