"""Vectors in a Redis or Valkey that several processes share. Plain commands of Redis 6 only.

No request depends on it: what fails or takes too long is a miss, and then Redis is left alone for
a moment. What cannot be written is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from embedway.cached import Cached, CountCache, Damaged, Group, Key, Label, Selection, pack, unpack
from embedway.clock import Clock
from embedway.secret import Secret
from embedway.store.database import StoreError
from embedway.store.redis_line import Command, RedisLine, open_redis
from embedway.store.redis_names import (
    NAME_BYTES,
    PURGES,
    Place,
    label_name,
    line_after,
    mark_of,
    pattern_of,
    place_of,
    read_label,
    read_selection,
    split_name,
    value_name,
)
from embedway.store.redis_queue import Write, WriteQueue, settle

_RUN = 128
"""How many vectors are read, or written, between two chances for others to run."""
_PAGE = 512
"""How many names Redis looks at for one page of a scan."""
_READS = 16
"""How many reads are under way at a time. More wait here, where it costs Redis nothing."""
_PURGES_KEPT = 1000
_CLOSE_S = 5.0
_GRACE_MS = 10_000
"""The reader's clock decides what is too old; Redis only tidies up behind it."""
_LONGEST_MS = 2**42
"""139 years: longer ones would overflow Redis's clock, which it refuses."""
_log = logging.getLogger("embedway.redis")


class RedisVectors:
    """Fits `VectorStore`. Nothing is connected before the first question.

    While Redis shrinks its table, `groups` and `entries` may meet a vector twice.
    """

    def __init__(
        self,
        url: Secret,
        *,
        ttl_s: float,
        clock: Clock,
        count: CountCache,
        timeout_s: float = 0.5,
        pause_s: float = 1.0,
        queue_bytes: int = 64 * 2**20,
    ) -> None:
        """Raises SettingsError if the URL is wrong."""
        self._ttl_s = ttl_s
        self._clock = clock
        self._count = count
        self._timeout_s = timeout_s
        self._client = open_redis(url)
        line = partial(RedisLine, self._client, timeout_s=timeout_s, pause_s=pause_s, clock=clock)
        # Two, since a Redis that is full, or a replica, still answers.
        reads, writes = partial(count, "read_error", 1), partial(count, "write_error", 1)
        self._reads = line("read_error", questions=_READS, count=reads)
        self._writes = line("write_error", questions=1, count=writes)
        self._queue = WriteQueue(queue_bytes)
        self._writer: asyncio.Task[None] | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return "RedisVectors()"

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """Those that are known, whole, and not too old; fewer where Redis fails."""
        known: dict[Key, Cached] = {}
        try:
            for run in _runs(keys):
                known |= await self._fetch(label, run)
        except StoreError:  # counted and logged where it happened
            return known
        return known

    async def _fetch(self, label: Label, keys: Sequence[Key]) -> dict[Key, Cached]:
        place = place_of(label)
        [values] = await self._reads.ask(("MGET", *(value_name(place, key) for key in keys)))
        known: dict[Key, Cached] = {}
        # Whatever else Redis says instead of so many values is no reason to fail.
        for key, value in zip(keys, values if isinstance(values, list) else (), strict=False):
            if not isinstance(value, bytes):
                continue
            try:
                cached = unpack(key, value)
            except Damaged:
                self._count("damaged", 1)
                self._enqueue([Write(label, key, None)])
                continue
            if not self._is_too_old(cached):
                known[key] = cached
        return known

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """Write them soon. Where Redis failed a moment ago they are lost: nothing piles up."""
        self._enqueue([Write(label, key, cached) for key, cached in entries])

    def _enqueue(self, writes: Sequence[Write]) -> None:
        if self._is_closed or self._writes.is_paused():
            self._drop(writes)
            return
        self._drop(self._queue.add(writes))
        if self._queue and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write_all())

    def _drop(self, writes: Iterable[Write]) -> None:
        if vectors := sum(write.cached is not None for write in writes):
            self._count("dropped", vectors)

    async def _write_all(self) -> None:
        while self._queue:
            writes, marks = self._queue.take(_RUN)
            try:
                if writes:
                    await self._writes.ask(*self._commands(writes))
            except StoreError:
                self._drop(writes)
                self._drop(self._queue.clear())  # at once, not packed run by run
            finally:
                settle(marks)

    def _commands(self, writes: Sequence[Write]) -> list[Command]:
        # The labels' words each time, since they expire like vectors, and may be evicted.
        expiry = self._expiry(self._clock.now())
        commands: list[Command] = [
            ("SET", label_name(place_of(label)), msgspec.json.encode(label), *expiry)
            for label in {write.label for write in writes}
        ]
        for write in writes:
            name, cached = value_name(place_of(write.label), write.key), write.cached
            if cached is None or self._is_too_old(cached):
                commands.append(("UNLINK", name))
            else:
                value = pack(write.key, cached)
                commands.append(("SET", name, value, *self._expiry(cached.created_s)))
        return commands

    def _is_too_old(self, cached: Cached) -> bool:
        return bool(self._ttl_s) and cached.created_s + self._ttl_s <= self._clock.now()

    def _expiry(self, created_s: float) -> Command:
        if not self._ttl_s:
            return ()
        left_ms = (created_s + self._ttl_s - self._clock.now()) * 1000
        return ("PX", int(min(left_ms + _GRACE_MS, _LONGEST_MS)))

    async def flush(self) -> None:
        """Wait until what was put before is written, or lost."""
        if self._writer is not None and not self._writer.done():
            await self._queue.mark()

    async def groups(self) -> list[Group]:
        """What is kept, by label, by the length of what is stored. Raises StoreError."""
        sums: dict[Place, tuple[int, int]] = {}
        async for names in self._scan(Selection()):
            sizes = await self._reads.ask(*(("STRLEN", name) for name in names))
            for name, size in zip(names, sizes, strict=True):
                place, _ = split_name(name)
                vectors, total = sums.get(place, (0, 0))
                sums[place] = (vectors + 1, total + size)
        labels = await self._labels(list(sums))
        return [Group(label, *sums[place]) for place, label in labels.items()]

    async def entries(self, selection: Selection, /) -> AsyncIterator[tuple[Key, Label, Cached]]:
        """All that is meant, a few at a time. Raises StoreError."""
        async for names in self._scan(selection):
            places: dict[Place, list[Key]] = {}
            for name in names:
                place, key = split_name(name)
                places.setdefault(place, []).append(key)
            for place, label in (await self._labels(list(places))).items():
                for run in _runs(places[place]):
                    for key, cached in (await self._fetch(label, run)).items():
                        yield key, label, cached

    async def purge(self, selection: Selection, /) -> int:
        """Forget what is meant, then tell others. Raises StoreError."""
        await self.flush()  # what waits to be written may be meant, too
        deleted = 0
        async for names in self._scan(selection):
            [count] = await self._reads.ask(("UNLINK", *names))
            deleted += count
        # Told after the deletion: whoever hears of it finds nothing any more. A stream numbers its
        # lines by Redis's clock, so that they go up even if Redis loses them.
        told = msgspec.json.encode(selection)
        await self._reads.ask(("XADD", PURGES, "MAXLEN", _PURGES_KEPT, "*", "selection", told))
        return deleted

    async def purged_since(self, mark: int, /) -> tuple[int, list[Selection]]:
        """What any process has purged after *mark*, and the mark for the next call."""
        try:
            if mark < 0:
                [last] = await self._reads.ask(("XREVRANGE", PURGES, "+", "-", "COUNT", 1))
                return (mark_of(last[0][0]) if last else 0), []
            [lines] = await self._reads.ask(("XRANGE", PURGES, line_after(mark), "+"))
        except StoreError:
            return max(mark, 0), []  # from 0 on: rather all of them than one too few
        selections = [read_selection(fields.get(b"selection")) for _, fields in lines or ()]
        if len(selections) >= _PURGES_KEPT:
            selections = [Selection()]  # more may have been lost, and may have meant anything
        return (mark_of(lines[-1][0]) if lines else mark), selections

    async def close(self) -> None:
        """Write what waits, for a few seconds at most, and let go."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.flush()
        except TimeoutError:
            _log.warning("Redis was too slow for all that waited")
        await self._reads.close()
        await self._writes.close()
        if self._writer is not None:
            await asyncio.wait([self._writer])  # now drops what is left
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.aclose()
        except TimeoutError:
            _log.warning("Redis did not hang up in time")

    async def _scan(self, selection: Selection) -> AsyncIterator[list[bytes]]:
        """The names of the vectors that are meant, a page at a time."""
        options = ("MATCH", pattern_of(selection), "COUNT", _PAGE, "TYPE", "string")
        cursor = None
        while cursor != 0:
            [(cursor, found)] = await self._reads.ask(("SCAN", cursor or 0, *options))
            if names := [*dict.fromkeys(name for name in found if len(name) == NAME_BYTES)]:
                yield names

    async def _labels(self, places: Sequence[Place]) -> dict[Place, Label]:
        """The labels of these places, as far as they are known."""
        labels: dict[Place, Label] = {}
        for run in _runs(places):
            [values] = await self._reads.ask(("MGET", *map(label_name, run)))
            for place, value in zip(run, values, strict=True):
                if label := read_label(place, value):
                    labels[place] = label
        return labels


def _runs(items: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (items[start : start + _RUN] for start in range(0, len(items), _RUN))
