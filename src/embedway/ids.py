"""Ids: ULIDs (sortable by time, https://github.com/ulid/spec), made from a time and randomness."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from embedway.clock import Clock

_BYTES = 10
_AT_ONCE = 256
_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32
_LETTERS = np.frombuffer(_ALPHABET, np.uint8)
_TIME_LETTERS, _RANDOM_LETTERS = 10, 16


def encode_ulid(milliseconds: int, randomness: bytes) -> str:
    """26 characters from 48 bits of time (milliseconds since 1970) and 10 random bytes."""
    return _time_part(milliseconds) + _random_parts(randomness)[0]


@lru_cache(maxsize=2)
def _time_part(milliseconds: int) -> str:
    shifts = range(5 * (_TIME_LETTERS - 1), -1, -5)
    return bytes([_ALPHABET[milliseconds >> shift & 31] for shift in shifts]).decode()


def _random_parts(randomness: bytes) -> list[str]:
    """16 characters for each 10 bytes: five bits each, the first are the highest. For many at once,
    since every request wants some."""
    bits = np.unpackbits(np.frombuffer(randomness, np.uint8)).reshape(-1, 5)
    fives = np.packbits(bits, axis=1)[:, 0] >> 3  # packed to the left of a byte
    letters = _LETTERS[fives].tobytes().decode()
    return [letters[i : i + _RANDOM_LETTERS] for i in range(0, len(letters), _RANDOM_LETTERS)]


class Ids:
    """Makes a new ULID at each call."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._store: Iterator[str] = iter(())

    def new(self) -> str:
        """A ULID of now."""
        return _time_part(int(self._clock.now() * 1000)) + (next(self._store, "") or self._more())

    def _more(self) -> str:
        """Randomness for many ids at once: whoever asks the system for it lets go of the
        interpreter and may have to wait for it again."""
        self._store = iter(_random_parts(self._random_bytes(_BYTES * _AT_ONCE)))
        return next(self._store)
