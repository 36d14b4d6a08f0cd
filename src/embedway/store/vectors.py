"""Cached vectors in a SQLite file: one thread reads, one writes, the event loop does neither.

`put_many` only appends to a queue; the writing thread takes what has gathered while it was busy and
commits it together. Everything that fails here costs a miss or a lost write, never a request.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from embedway.cached import Cached, CountCache, Group, Key, Label, Selection
from embedway.clock import Clock
from embedway.store.database import StoreError
from embedway.store.vector_file import VectorFile
from embedway.store.vector_queue import VectorQueue
from embedway.store.vector_reader import VectorReader
from embedway.store.vector_rows import groups, last_id
from embedway.store.vector_trouble import TROUBLE, Complaints, named
from embedway.store.vector_writer import VectorWriter

_QUEUE_BYTES = 64 * 2**20
_BUSY_TIMEOUT_S = 5.0
_CLOSE_S = 5.0
_GATHER_S = 0.02
"""How long vectors wait to be written with others: to wake the thread for each would cost more
than the rest of the writing. What a killed process may lose, beside what the thread is writing."""
_log = logging.getLogger("embedway.vectors")

T = TypeVar("T")


class SqliteVectors:
    """Fits `VectorStore`. The file is opened at its first use."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        ttl_s: float,
        clock: Clock,
        count: CountCache,
        busy_timeout_s: float = _BUSY_TIMEOUT_S,
        queue_bytes: int = _QUEUE_BYTES,
    ) -> None:
        self._path = path
        self._count = count
        complain = Complaints(path, clock, count)
        self._file, writers_file = (
            VectorFile(
                path,
                max_bytes=max_bytes,
                busy_timeout_s=busy_timeout_s,
                clock=clock,
                lock=lock,
                complain=complain,
            )
            for lock in [threading.Lock()] * 2
        )
        # A transaction is small beside the whole, since room is made after it.
        self._queue = VectorQueue(max_bytes=queue_bytes, take_bytes=min(4 * 2**20, max_bytes // 16))
        self._writer = VectorWriter(
            writers_file,
            self._queue,
            max_bytes=max_bytes,
            ttl_s=ttl_s,
            clock=clock,
            count=count,
            complain=complain,
        )
        self._reading = ThreadPoolExecutor(1, "embedway-vectors-read")
        self._writing = ThreadPoolExecutor(1, "embedway-vectors-write")
        self._reader = VectorReader(
            self._file,
            self._reading,
            ttl_s=ttl_s,
            clock=clock,
            complain=complain,
            use=self._use,
            delete=lambda rows: self._hand_to_writer(partial(self._writer.delete_damaged, rows)),
        )
        self._gate = threading.Lock()
        """Whoever holds it may hand work to the writer, or close."""
        self._is_woken = False
        self._haste = threading.Event()
        """Somebody waits for what is written."""
        self._is_closed = False

    def __repr__(self) -> str:
        return f"SqliteVectors({str(self._path)!r})"

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """See VectorStore. A key is of one label only, so that the key alone is looked for."""
        if self._is_closed or not keys:
            return {}
        return await self._reader.find(keys)

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """See VectorStore."""
        kept = 0 if self._is_closed else self._queue.put(label, entries)
        if kept < len(entries):
            self._count("dropped", len(entries) - kept)
        self._wake_writer()

    async def flush(self) -> None:
        """See VectorStore."""
        if not self._is_closed:
            self._haste.set()
            await _in(self._writing, self._writer.write_waiting)

    async def groups(self) -> list[Group]:
        """See VectorStore. What is too old and not yet deleted is in the sums."""
        return await self._ask(self._reading, partial(self._file.run, groups))

    async def purge(self, selection: Selection, /) -> int:
        """See VectorStore."""
        self._haste.set()
        return await self._ask(self._writing, partial(self._writer.purge, selection))

    async def purged_since(self, mark: int, /) -> tuple[int, list[Selection]]:
        """See VectorStore."""
        if self._is_closed:
            return mark, []
        return await _in(self._reading, partial(self._reader.purged_since, mark))

    async def entries(self, selection: Selection, /) -> AsyncIterator[tuple[Key, Label, Cached]]:
        """See VectorStore. What is put meanwhile is not listed."""
        last = await self._ask(self._reading, partial(self._file.run, last_id))
        id: int | None = 0
        while id is not None:
            id, page = await self._ask(
                self._reading, partial(self._reader.page, id, last, selection)
            )
            for entry in page:
                yield entry

    async def close(self) -> None:
        """See VectorStore."""
        with self._gate:
            if self._is_closed:
                return
            self._is_closed = True
        self._haste.set()
        loop = asyncio.get_running_loop()
        ends = {
            loop.run_in_executor(self._reading, self._file.close),
            loop.run_in_executor(self._writing, self._writer.close),
        }
        done, late = await asyncio.wait(ends, timeout=_CLOSE_S)
        if late:
            self._writer.is_late = True  # a thread that waits for a lock ends when that is over
            _log.warning("%s was not closed in time", self._path)
        for executor in (self._reading, self._writing):
            executor.shutdown(wait=not late)
        for end in done:
            end.result()

    async def _ask(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """For whoever wants to know whether it worked. Raises StoreError."""
        if self._is_closed:
            raise StoreError(f"{self._path} is closed")
        try:
            return await _in(executor, work)
        except TROUBLE as error:
            raise StoreError(f"{self._path} cannot be used: {named(error)}") from None

    # In any thread.

    def _use(self, ids: Sequence[int]) -> None:
        self._queue.use(ids)
        self._wake_writer()

    def _wake_writer(self) -> None:
        if not self._is_woken:  # a job for each call would cost more than the call
            self._is_woken = True
            self._hand_to_writer(self._write_waiting)

    def _write_waiting(self) -> None:
        self._haste.wait(_GATHER_S)
        # Before the queue is looked at: what comes from here on wakes again.
        self._is_woken = False
        self._haste.clear()
        self._writer.write_waiting()

    def _hand_to_writer(self, work: Callable[[], None]) -> None:
        with self._gate:
            if not self._is_closed:
                self._writing.submit(work)


async def _in(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
