"""The writing thread's half of the disk cache: writes what waits, makes room, purges.

All of it blocks. After close() the file is let go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from embedway.cached import CountCache, Selection, pack
from embedway.clock import Clock
from embedway.store.vector_file import VectorFile
from embedway.store.vector_queue import Take, VectorQueue
from embedway.store.vector_rows import (
    NewRow,
    Row,
    delete_damaged,
    evict,
    expire,
    live_bytes,
    purge,
    write,
)
from embedway.store.vector_trouble import TROUBLE, Complaints, is_full

_EXPIRE_EVERY_S = 600.0
_EVICT_TO = 0.92
"""Room is made for a while, not for one row after the other."""


class VectorWriter:
    """Writes what *queue* holds to *file*."""

    def __init__(
        self,
        file: VectorFile,
        queue: VectorQueue,
        *,
        max_bytes: int,
        ttl_s: float,
        clock: Clock,
        count: CountCache,
        complain: Complaints,
    ) -> None:
        self._file = file
        self._queue = queue
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._count = count
        self._complain = complain
        self._expired_at: float | None = None
        self.is_late = False
        """Set by another thread when there is no more time; what waits is dropped."""

    def write_waiting(self) -> None:
        """Write until nothing waits. What fails is lost."""
        while not self.is_late and (take := self._queue.take()):
            try:
                self._write(take)
            except Exception as error:  # whatever it is, the next must still be written
                self._complain("write_error", error)

    def delete_damaged(self, rows: Sequence[Row]) -> None:
        """Delete what was found damaged."""
        try:
            self._file.run(lambda connection: delete_damaged(connection, rows))
        except TROUBLE as error:
            self._complain("write_error", error)

    def purge(self, selection: Selection) -> int:
        """Delete what is meant; returns how many. Raises sqlite3.Error and OSError."""
        # So that nothing that is meant is written afterwards: its own job may be behind this one.
        self.write_waiting()
        now_s = self._clock.now()
        deleted = self._file.run(lambda c: purge(c, selection, now_s))
        self._file.forget_damaged()
        return deleted

    def close(self) -> None:
        """Write what waits, and let go."""
        self.write_waiting()
        if lost := self._queue.clear():
            self._count("dropped", lost)
        self._file.close()

    def _write(self, take: Take) -> None:
        rows = [
            NewRow(label, key, cached.created_s, pack(key, cached))
            for label, key, cached in take.entries
        ]
        self._file.run(lambda connection: self._store(connection, rows, take.used))
        self._file.run(self._make_room)

    def _store(self, connection: sqlite3.Connection, rows: list[NewRow], used: set[int]) -> None:
        now_s = int(self._clock.now())
        try:
            write(connection, rows, used, now_s)
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            # The disk, for our own bound is lower: go on within the room that we have. A row can
            # take twice its bytes in pages.
            live = live_bytes(connection)
            needed = 2 * sum(len(row.value) for row in rows)
            target_bytes = min(int(live * _EVICT_TO), live - needed)
            if not self._evict(connection, target_bytes):
                raise
            write(connection, rows, used, now_s)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        now = self._clock.monotonic()
        is_over = live_bytes(connection) > self._max_bytes
        is_time = self._expired_at is None or now - self._expired_at >= _EXPIRE_EVERY_S
        if self._ttl_s and (is_over or is_time):
            self._expired_at = now
            expire(connection, self._clock.now() - self._ttl_s)
        if is_over:
            self._evict(connection, int(self._max_bytes * _EVICT_TO))

    def _evict(self, connection: sqlite3.Connection, target_bytes: int) -> int:
        evicted = evict(connection, target_bytes)
        if evicted:
            self._count("evicted", evicted)
        return evicted
