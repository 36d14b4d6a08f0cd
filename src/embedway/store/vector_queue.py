"""What waits to be written to the file of cached vectors, bounded in bytes, for any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from embedway.cached import Cached, Key, Label

_ROWS_PER_TAKE = 1000
_USED_KEPT = 65_536
"""The most rows remembered as used; others may be evicted sooner than is their turn."""
_ROW_BYTES = 400
"""What waiting costs in memory besides the vector; generous."""


class Take(NamedTuple):
    """What is written in one transaction."""

    entries: list[tuple[Label, Key, Cached]]
    used: set[int]
    """The ids of rows that were read."""


class VectorQueue:
    """Holds *max_bytes*; gives out *take_bytes* at a time."""

    def __init__(self, *, max_bytes: int, take_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._take_bytes = take_bytes
        self._entries: deque[tuple[Label, Key, Cached]] = deque()
        self._bytes = 0
        self._used: set[int] = set()
        self._lock = threading.Lock()

    def put(self, label: Label, entries: Sequence[tuple[Key, Cached]]) -> int:
        """Let them wait; returns how many, from the first on, there was room for."""
        with self._lock:
            for taken, (key, cached) in enumerate(entries):
                size = _size(cached)
                if self._bytes + size > self._max_bytes:
                    return taken
                self._bytes += size
                self._entries.append((label, key, cached))
        return len(entries)

    def use(self, ids: Sequence[int]) -> None:
        """Let it be written that these rows were read."""
        with self._lock:
            if len(self._used) < _USED_KEPT:
                self._used.update(ids)

    def take(self) -> Take | None:
        """The next to be written, at least one; None if nothing waits."""
        with self._lock:
            entries: list[tuple[Label, Key, Cached]] = []
            room = self._take_bytes
            while self._entries and len(entries) < _ROWS_PER_TAKE and (room > 0 or not entries):
                entries.append(entry := self._entries.popleft())
                size = _size(entry[2])
                room -= size
                self._bytes -= size
            used, self._used = self._used, set()
        return Take(entries, used) if entries or used else None

    def clear(self) -> int:
        """Forget what waits; returns how many vectors that were."""
        with self._lock:
            count = len(self._entries)
            self._entries.clear()
            self._used.clear()
            self._bytes = 0
        return count


def _size(cached: Cached) -> int:
    return len(cached.vector) + _ROW_BYTES
