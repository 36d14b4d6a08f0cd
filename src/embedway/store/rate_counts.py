"""What the counts of keys' rates have in common: windows, over a storage of the package `limits`,
and places within this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.storage.redis import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from embedway.rates import Left


class Windows:
    """How many units each name has taken in the last minute."""

    def __init__(self, storage: MemoryStorage | RedisStorage, now: Callable[[], float]) -> None:
        """now: the seconds that *storage* goes by."""
        self._storage = storage
        self._now = now
        self._limiter = MovingWindowRateLimiter(storage)

    async def take(self, name: str, limit: int, units: int) -> bool:
        """All of them at once, or none."""
        return await self._limiter.hit(RateLimitItemPerMinute(limit), name, cost=units)

    async def wait_s(self, name: str, limit: int, units: int) -> float:
        """Seconds until that many can be taken, if nobody else takes any."""
        item = RateLimitItemPerMinute(limit)
        # There is room once the newest that must go is a minute old: of so many, the oldest.
        until = limit - units + 1
        key, minute = item.key_for(name), item.get_expiry()
        start, _ = await self._storage.get_moving_window(key, until, minute)
        return max(0.0, start + minute - self._now())

    async def left(self, name: str, limit: int) -> Left:
        """What can be taken, and when something comes back."""
        item = RateLimitItemPerMinute(limit)
        stats = await self._limiter.get_window_stats(item, name)
        if stats.remaining >= limit:
            return Left(limit, 0.0)
        return Left(stats.remaining, max(0.0, stats.reset_time - self._now()))


class Places:
    """How many requests of each name this process has let in."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def enter(self, name: str, limit: int) -> bool:
        """Take a place if one is free."""
        if self._taken[name] >= limit:
            return False
        self._taken[name] += 1
        return True

    def leave(self, name: str) -> None:
        """Give one back."""
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
