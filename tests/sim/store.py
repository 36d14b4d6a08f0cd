"""A store of vectors that is slow, loses writes, damages values and fails to read; until its faults
stop. It never breaks what the Protocol promises: what cannot be read is a miss."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random

from embedway.cached import Cached, CountCache, Damaged, Key, Label, pack, unpack
from tests.sim.loop import SimClock


class SimStore:
    """Vectors in their stored form, in a dictionary."""

    def __init__(
        self, chance: Random, count: CountCache, *, fault_rate: float, ttl_s: float
    ) -> None:
        self._chance = chance
        self._count = count
        self._clock = SimClock()
        self._ttl_s = ttl_s
        self._kept: dict[tuple[Label, Key], bytes] = {}
        self._writing = 0
        self.fault_rate = fault_rate

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """Those that are there, whole and young."""
        await self._clock.sleep(self._chance.choice((0.0, 0.0005, 0.02)))
        if self._fails():
            self._count("read_error", 1)
            return {}
        found = {}
        for key in keys:
            value = self._kept.get((label, key))
            if value is not None and (cached := self._read(key, value)) is not None:
                found[key] = cached
        return found

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """Write them a little later, or lose them."""
        if self._fails():
            self._count("dropped", len(entries))
            return
        values = {(label, key): self._written(pack(key, cached)) for key, cached in entries}
        self._writing += 1
        delay_s = self._chance.choice((0.0, 0.01, 0.5))
        asyncio.get_running_loop().call_later(delay_s, self._write, values)

    async def flush(self) -> None:
        """Wait until what was put before is written."""
        while self._writing:
            await self._clock.sleep(0.1)

    def _write(self, values: Mapping[tuple[Label, Key], bytes]) -> None:
        self._writing -= 1
        self._kept.update(values)
        if self._kept and self._fails():
            del self._kept[next(iter(self._kept))]
            self._count("evicted", 1)

    def _written(self, value: bytes) -> bytes:
        if not self._fails():
            return value
        position = self._chance.randrange(len(value))
        return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]

    def _read(self, key: Key, value: bytes) -> Cached | None:
        try:
            cached = unpack(key, value)
        except Damaged:
            self._count("damaged", 1)
            return None
        is_old = self._ttl_s and cached.created_s <= self._clock.now() - self._ttl_s
        return None if is_old else cached

    def _fails(self) -> bool:
        return self._chance.random() < self.fault_rate
