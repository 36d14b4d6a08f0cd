"""Ask a second account when the first is slower than usual; the first answer wins.

Off unless the operator wants it for a model, and only for single texts: it costs money for the
sake of the slowest answers. Between `retry` and `balance`, which knows whom to ask; a second call
is paid from the budget of the retries, so that a slow provider is not asked twice as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from embedway.clock import Clock
from embedway.errors import EmbedError
from embedway.frames import without_frames
from embedway.types import Attempt, Embedder, EmbedRequest, EmbedResponse, replace

SUPERSEDED = "superseded"
"""Why an attempt has no outcome: the other one answered first."""


class Accounts(Protocol):
    """Whom a call would go to, and whether another one could serve."""

    def choose(self, request: EmbedRequest, /) -> str:
        """The account to ask."""
        ...

    def elsewhere(self, request: EmbedRequest, /) -> int:
        """How many could serve now that the call does not avoid."""
        ...


@dataclass(frozen=True, eq=False)
class Hedge:
    """Waits as long as *usual_s* says, then asks *inner* for another account."""

    inner: Embedder
    clock: Clock = field(repr=False)
    accounts: Accounts = field(repr=False)
    usual_s: Callable[[str], float | None] = field(repr=False)
    """The time within which 95 % of an account's answers came; None: not known yet."""
    take: Callable[[int], bool] = field(repr=False)
    """Whether the budget has so many calls more."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        if len(request.inputs) > 1:
            return await self.inner(request)
        call, account = request.call, self.accounts.choose(request)
        usual_s = self.usual_s(account)
        other = replace(request, call=replace(call, avoid=(*call.avoid, account)))
        if usual_s is None or not self.accounts.elsewhere(other):
            return await self.inner(request)
        return await self._race(request, account, other, usual_s)

    async def _race(
        self, request: EmbedRequest, account: str, other: EmbedRequest, usual_s: float
    ) -> EmbedResponse:
        order = (account, *request.call.order)
        first = self._start(replace(request, call=replace(request.call, order=order)), account)
        runners = [first]
        timer = asyncio.create_task(_sleep(self.clock, usual_s))
        try:
            await asyncio.wait({first.task, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not first.task.done() and self.accounts.elsewhere(other) and self.take(1):
                runners.append(self._start(other, self.accounts.choose(other)))
            return await self._first_answer(runners)
        finally:
            tasks = [timer, *(runner.task for runner in runners)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, request: EmbedRequest, account: str) -> _Runner:
        task = asyncio.create_task(_run(self.inner, request))
        return _Runner(request.params.model, account, self._now_ms(), task)

    def _now_ms(self) -> int:
        return int(self.clock.now() * 1000)

    async def _first_answer(self, runners: Sequence[_Runner]) -> EmbedResponse:
        """The first answer; if both fail, the later one's error. Either has all attempts."""
        waiting = {runner.task for runner in runners}
        attempts: tuple[Attempt, ...] = ()
        failed: EmbedError | None = None
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for runner in runners:
                if runner.task not in done:
                    continue
                try:
                    response = runner.task.result()
                except EmbedError as error:
                    failed = without_frames(error)
                    attempts += error.attempts
                    continue
                late = [one.superseded(self._now_ms()) for one in runners if one.task in waiting]
                return replace(response, attempts=(*attempts, *late, *response.attempts))
        assert failed is not None, "the loop ends with an answer or an error"
        failed.attempts = attempts
        raise failed


@dataclass(frozen=True, eq=False)
class _Runner:
    """One of the two calls."""

    model: str
    account: str
    started_ms: int
    task: asyncio.Task[EmbedResponse]

    def superseded(self, now_ms: int) -> Attempt:
        """What is told of it if it is cut off; the provider may bill it all the same."""
        return Attempt(
            model=self.model,
            provider=self.account,
            upstream_model="",
            started_ms=self.started_ms,
            ended_ms=now_ms,
            is_success=False,
            error=SUPERSEDED,
        )


async def _run(inner: Embedder, request: EmbedRequest) -> EmbedResponse:
    return await inner(request)


async def _sleep(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)
