"""Asking Redis: few questions at a time, each bounded in time, and none for a while after one
failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from embedway.clock import Clock
from embedway.secret import Secret
from embedway.store.database import StoreError
from embedway.wrong_settings import SettingsError

_log = logging.getLogger("embedway.redis")

Command = tuple[Any, ...]
T = TypeVar("T")


def open_redis(url: Secret) -> Redis:
    """A client that has not connected yet. Raises SettingsError."""
    try:
        client = Redis.from_url(
            url.reveal(),
            # The older protocol has no messages out of turn; with the newer one the client no
            # longer minds a connection in which an answer is left.
            protocol=2,
            driver_info=None,  # no CLIENT SETINFO, which Redis 6 does not know
            # Time and failures are the line's affair.
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        pool: Any = client.connection_pool
        pool.make_connection()  # finds unknown options; it does not connect
    except Exception:  # the client's own words may repeat the password
        raise SettingsError(
            "redis_url: not a URL of a Redis, such as redis://:PASSWORD@HOST:6379/0 (rediss:// for"
            " TLS; special characters of the password as in any URL, @ as %40)"
        ) from None
    return client


class RedisLine:
    """Questions of one kind. When its pause is over, one question tries Redis again and the others
    wait for what it finds."""

    def __init__(
        self,
        client: Redis,
        failed: str,
        *,
        questions: int,
        timeout_s: float,
        pause_s: float,
        clock: Clock,
        count: Callable[[], None],
    ) -> None:
        """*failed* is what the log calls a failure, and *count* counts it; *questions* may be under
        way at a time."""
        self._client = client
        self._failed = failed
        self._slots = asyncio.Semaphore(questions)
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._clock = clock
        self._count = count
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._is_failing = False
        self._resumes_at = self._logs_at = clock.monotonic()

    def is_paused(self) -> bool:
        """Whether Redis failed a moment ago."""
        return self._clock.monotonic() < self._resumes_at

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to all of them. Raises StoreError."""

        async def question() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute()

        return await self.run(question)

    async def run(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a question of any kind comes to. Raises StoreError.

        The question runs in a task that is not cancelled with the caller: a connection that still
        owes an answer could give it to whoever asks next, as the client's once did
        (https://github.com/redis/redis-py/issues/2665).
        """
        await self._slots.acquire()
        task = asyncio.create_task(self._ask(question))
        self._under_way.add(task)
        task.add_done_callback(self._end)
        answer = await asyncio.shield(task)
        if answer is None:
            raise StoreError("Redis failed, as the log says; it is tried again in a moment")
        return answer[0]

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._slots.release()

    async def _ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T] | None:
        if self._is_closed or self.is_paused():  # maybe since it waited for a slot
            return None
        if self._is_failing:
            self._resumes_at = self._clock.monotonic() + self._pause_s
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await question()
        except Exception as error:  # a nonsensical answer makes the client raise anything
            self._fail(error)
            return None
        self._is_failing = False
        self._resumes_at = self._clock.monotonic()
        return (answer,)

    def _fail(self, error: Exception) -> None:
        now = self._clock.monotonic()
        self._is_failing = True
        self._resumes_at = now + self._pause_s
        self._count()
        if now >= self._logs_at:
            self._logs_at = now + 1.0
            # Not its words, which may hold an address or a name.
            _log.warning("Redis: %s: %s", self._failed, type(error).__name__)

    async def close(self) -> None:
        """Take no more questions, and wait for those under way, which end in bounded time."""
        self._is_closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)
