"""Keys' rates, counted in one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from limits.aio.storage import MemoryStorage

from embedway.clock import Clock
from embedway.rates import MINUTE_S, Left
from embedway.recently import Recently
from embedway.store.rate_counts import Places, Windows


class MemoryRates:
    """Fits `RateStore`."""

    most_units: int | None = None

    def __init__(self, clock: Clock) -> None:
        self._storage = ClockedStorage(clock.monotonic)
        self._windows = Windows(self._storage, clock.monotonic)
        self._places = Places()

    async def take(self, name: str, limit: int, units: int, /) -> bool:
        """All of them at once, or none."""
        return await self._windows.take(name, limit, units)

    async def wait_s(self, name: str, limit: int, units: int, /) -> float:
        """Seconds until there is room."""
        return await self._windows.wait_s(name, limit, units)

    async def left(self, name: str, limit: int, /) -> Left:
        """What is left, exactly."""
        return await self._windows.left(name, limit)

    async def enter(self, name: str, limit: int, id: str, hold_s: float, /) -> bool:
        """Take a place."""
        return self._places.enter(name, limit)

    def leave(self, name: str, id: str, /) -> None:
        """Give it back."""
        self._places.leave(name)

    async def close(self) -> None:
        """Nothing to let go of."""


class _Window:
    """What was taken, and when; the oldest first."""

    def __init__(self) -> None:
        self.taken: deque[tuple[float, int]] = deque()
        self.units = 0

    def forget(self, before: float) -> None:
        """What is as old as that."""
        while self.taken and self.taken[0][0] <= before:
            self.units -= self.taken.popleft()[1]

    def oldest_of(self, units: int) -> float | None:
        """When the oldest of the newest *units* was taken."""
        newer = self.units
        for taken_at, number in self.taken:
            newer -= number
            if newer < units:
                return taken_at
        return None


class ClockedStorage(MemoryStorage):
    """The package's storage in memory with a moving window of our own.

    Its own goes by the time of day, which may jump; keeps an entry for each token; and starts a
    thread at each request to tidy up.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._recent: Recently[_Window] = Recently(_Window, MINUTE_S, monotonic)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take *amount* at once, or nothing."""
        window, now = self._recent.get(key), self._monotonic()
        window.forget(now - expiry)
        if window.units + amount > limit:
            return False
        window.taken.append((now, amount))
        window.units += amount
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest of the newest *limit* units was taken, and how many there are of them."""
        window, now = self._recent.get(key), self._monotonic()
        window.forget(now - expiry)
        oldest = window.oldest_of(limit)
        return (now if oldest is None else oldest), min(limit, window.units)

    async def clear(self, key: str) -> None:
        """Forget one."""
        self._recent.drop(key)
        await super().clear(key)

    async def reset(self) -> int | None:
        """Forget all."""
        windows = len(self._recent)
        self._recent.clear()
        return windows + (await super().reset() or 0)
