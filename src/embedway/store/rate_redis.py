"""Keys' rates, counted in a Redis or Valkey that several processes share.

No caller waits for a Redis that fails: while it does, everybody is let through, and only the
requests at a time are still counted, by each process for itself. The time of day of the machines
must agree to a second or so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from limits.aio.storage.redis import RedisStorage

from embedway.clock import Clock
from embedway.rates import MINUTE_S, Left
from embedway.recently import Recently
from embedway.secret import Secret
from embedway.store.database import StoreError
from embedway.store.rate_counts import Places, Windows
from embedway.store.redis_line import RedisLine, open_redis
from embedway.store.redis_names import PLACES, RATES

_QUESTIONS = 16
"""How many are under way at a time. More wait here, where it costs Redis nothing."""
_LOOK_S = 1.0
"""How old this process's view of a window may become while the key sends requests."""
_LONGEST_HOLD_S = 3600
"""When Redis tidies up the places of a key that nobody uses any more."""
_UNKNOWN_WAIT_S = 1.0
_log = logging.getLogger("embedway.redis")
T = TypeVar("T")


class _View:
    """What this process last saw of a window, less what it has taken since."""

    __slots__ = ("looked_at", "resets_at", "units")

    def __init__(self) -> None:
        self.units: int | None = None
        """None before the first look."""
        self.looked_at = self.resets_at = float("-inf")


class RedisRates:
    """Fits `RateStore`. Nothing is connected before the first question."""

    most_units: int | None = 5000
    """An entry is about 20 bytes of a list in Redis, which is one key's for a minute."""

    def __init__(
        self,
        url: Secret,
        *,
        clock: Clock,
        count: Callable[[], None],
        timeout_s: float = 0.25,
        pause_s: float = 1.0,
    ) -> None:
        """count: counts each question that had no answer. Raises SettingsError if the URL is
        wrong."""
        self._clock = clock
        self._count = count
        self._timeout_s = timeout_s
        self._client = open_redis(url)
        pool: Any = self._client.connection_pool  # the package declares no such option, but has it
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix=RATES, connection_pool=pool
        )
        self._windows = Windows(storage, clock.now)
        self._line = RedisLine(
            self._client,
            "rates",
            questions=_QUESTIONS,
            timeout_s=timeout_s,
            pause_s=pause_s,
            clock=clock,
            count=lambda: None,  # the question is counted, which may not even have been asked
        )
        self._views: Recently[_View] = Recently(_View, MINUTE_S, clock.monotonic)
        self._places = Places()
        self._aside: set[asyncio.Task[Any]] = set()
        """What no caller waits for."""

    def __repr__(self) -> str:
        return "RedisRates()"

    async def take(self, name: str, limit: int, units: int, /) -> bool:
        """All of them at once, or none; all where Redis fails."""
        is_taken = await self._answer(
            self._line.run(partial(self._windows.take, name, limit, units))
        )
        if is_taken:
            self._note(name, limit, units)
        return is_taken is not False

    async def wait_s(self, name: str, limit: int, units: int, /) -> float:
        """Seconds until there is room; one where Redis fails."""
        await self._look(name, limit)
        wait_s = await self._answer(
            self._line.run(partial(self._windows.wait_s, name, limit, units))
        )
        return _UNKNOWN_WAIT_S if wait_s is None else wait_s

    async def left(self, name: str, limit: int, /) -> Left:
        """What is left, as this process last saw it."""
        view = self._views.get(name)
        units = limit if view.units is None else view.units
        return Left(units, max(0.0, view.resets_at - self._clock.monotonic()))

    def _note(self, name: str, limit: int, units: int) -> None:
        """This process has taken so many; now and then it looks what the others have."""
        view, now = self._views.get(name), self._clock.monotonic()
        view.units = max(0, (limit if view.units is None else view.units) - units)
        if view.resets_at <= now:
            view.resets_at = now + MINUTE_S
        if now - view.looked_at >= _LOOK_S:
            view.looked_at = now
            self._do_aside(self._look(name, limit))

    async def _look(self, name: str, limit: int) -> None:
        left = await self._answer(self._line.run(partial(self._windows.left, name, limit)))
        if left is not None:
            view, now = self._views.get(name), self._clock.monotonic()
            view.units, view.looked_at, view.resets_at = left.units, now, now + left.reset_s

    async def enter(self, name: str, limit: int, id: str, hold_s: float, /) -> bool:
        """Take a place. It is free again after *hold_s*, should this process die."""
        if not self._places.enter(name, limit):
            return False
        # In a task of its own: where the caller leaves meanwhile, it is given back behind it.
        entering = self._do_aside(self._enter(name, limit, id, hold_s))
        try:
            is_in = await asyncio.shield(entering)
        except BaseException:
            entering.add_done_callback(lambda _: self.leave(name, id))
            raise
        if not is_in:
            self._places.leave(name)
        return is_in

    async def _enter(self, name: str, limit: int, id: str, hold_s: float) -> bool:
        key, now = PLACES + name, self._clock.now()
        # Whoever would not find a place does not go in to see: he would be counted meanwhile.
        looking = self._line.ask(("ZREMRANGEBYSCORE", key, "-inf", now), ("ZCARD", key))
        found = await self._answer(looking)
        if found is None or found[1] >= limit:
            return found is None
        entering = self._line.ask(
            ("ZADD", key, now + min(hold_s, _LONGEST_HOLD_S), id),
            # Whoever comes last sees all who are in: there are never too many.
            ("ZCARD", key),
            ("EXPIRE", key, _LONGEST_HOLD_S),
        )
        found = await self._answer(entering)
        if found is None or found[1] <= limit:
            return True
        await self._leave(name, id)
        return False

    def leave(self, name: str, id: str, /) -> None:
        """Give the place back, soon."""
        self._places.leave(name)
        self._do_aside(self._leave(name, id))

    async def _leave(self, name: str, id: str) -> None:
        await self._answer(self._line.ask(("ZREM", PLACES + name, id)))

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T | None:
        """None where Redis fails, which is counted."""
        try:
            return await question
        except StoreError:  # logged where it happened
            self._count()
            return None

    def _do_aside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        return task

    async def close(self) -> None:
        """Give back what is held, each question in bounded time, and let go."""
        while self._aside:
            await asyncio.wait(self._aside)
        await self._line.close()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.aclose()
        except TimeoutError:
            _log.warning("Redis did not hang up in time")
