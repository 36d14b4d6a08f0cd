"""Try again if it may help: at most as often as the call allows, within a budget and the deadline.

Above `balance`: attempts are counted once, over all deployments, and the next one may go
elsewhere. What was embedded before a failure is not asked again. Nothing else in the gateway
retries, and the caller's client is told not to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from embedway.clock import Clock
from embedway.errors import EmbedError, MalformedResponse, UpstreamError, UpstreamUnauthorized
from embedway.frames import without_frames
from embedway.positions import placed
from embedway.types import Attempt, Embedder, Embedding, EmbedRequest, EmbedResponse, replace

_SHARE = 0.1
"""Retries per request; Finagle's default is a fifth, Google's SRE book has a tenth."""
_LEAST_PER_S = 3.0
_WINDOW_S = 10
_FIRST_WAIT_S = 0.25
_SHARE_OF_TIME = 0.5
_LEAST_LEFT_S = 0.05
"""With less time than this left another attempt could only fail."""


class Accounts(Protocol):
    """What is known below of those who could serve a call."""

    def elsewhere(self, request: EmbedRequest, /) -> int:
        """How many could serve now that the call does not avoid."""
        ...

    def wait_s(self, request: EmbedRequest, /) -> float:
        """How long until the first of all could serve."""
        ...


class RetryBudget:
    """Grants retries: a tenth of the requests of the last ten seconds, and three a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: deque[list[float]] = deque()
        """Second, requests and retries in it."""

    def add_request(self) -> None:
        """A request came."""
        self._current()[1] += 1

    def take(self, retries: int) -> bool:
        """Whether so many attempts more are granted; they are taken then."""
        current = self._current()
        requests = sum(second[1] for second in self._seconds)
        taken = sum(second[2] for second in self._seconds)
        if taken + retries > _SHARE * requests + _LEAST_PER_S * _WINDOW_S:
            return False
        current[2] += retries
        return True

    def _current(self) -> list[float]:
        now = int(self._clock.monotonic())
        while self._seconds and self._seconds[0][0] <= now - _WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] != now:
            self._seconds.append([now, 0.0, 0.0])
        return self._seconds[-1]


@dataclass(frozen=True, eq=False)
class Retry:
    """Asks *inner* again for what failed."""

    inner: Embedder
    clock: Clock = field(repr=False)
    budget: RetryBudget = field(repr=False)
    accounts: Accounts = field(repr=False)
    random: Callable[[], float] = field(repr=False)
    """From 0 to 1: spreads the waits of many callers."""
    count: Callable[[bool], None] = field(repr=False)
    """Counts retries that were granted, and that were not for want of budget."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        self.budget.add_request()
        try:
            return await self._ask(request, 0)
        except EmbedError as error:
            first = error
        return await self._again(_Progress(request, first))

    async def _ask(self, request: EmbedRequest, tries: int) -> EmbedResponse:
        call = request.call
        if tries < call.retries and self.accounts.elsewhere(request) > 1:
            # An account that never answers must leave time for another one.
            request = replace(request, call=replace(call, share=_SHARE_OF_TIME * call.share))
        return await self.inner(request)

    async def _again(self, progress: _Progress) -> EmbedResponse:
        while True:
            rest = progress.rest()
            wait_s = self._wait_s(progress, rest)
            if wait_s is None or not self._is_granted(progress.repeated()):
                raise progress.failure()
            if wait_s:
                await self.clock.sleep(wait_s)
            try:
                response = await self._ask(rest, progress.tries)
            except EmbedError as error:
                progress.note(error)
            else:
                return progress.finish(response)

    def _is_granted(self, retries: int) -> bool:
        is_granted = self.budget.take(retries)
        self.count(is_granted)
        return is_granted

    def _wait_s(self, progress: _Progress, rest: EmbedRequest) -> float | None:
        """How long to wait before the next attempt; None: there is none."""
        error = progress.error
        if progress.tries > rest.call.retries or not isinstance(error, UpstreamError):
            return None
        wait_s = 0.0
        if not self.accounts.elsewhere(rest):
            if not error.retryable or isinstance(error, MalformedResponse):
                return None  # the same account would say the same
            wait_s = self._backoff_s(error, progress.tries, rest)
        elif progress.wrong > 1 or not (error.retryable or isinstance(error, UpstreamUnauthorized)):
            return None
        remaining_s = rest.call.deadline - self.clock.monotonic()
        return wait_s if wait_s + _LEAST_LEFT_S < remaining_s else None

    def _backoff_s(self, error: UpstreamError, tries: int, rest: EmbedRequest) -> float:
        """What the provider asks for, or its breaker, and a little more: ever longer, and never
        the same, so that those who failed together do not come back together."""
        longest: float = _FIRST_WAIT_S * 2 ** (tries - 1)
        asked_s = max(error.retry_after_s or 0.0, self.accounts.wait_s(rest))
        return asked_s + longest * (0.5 + 0.5 * self.random())


class _Progress:
    """A request that failed, and what is left of it."""

    def __init__(self, request: EmbedRequest, error: EmbedError) -> None:
        self.request = request
        self.found: dict[int, Embedding] = {}
        self.asked = list(range(len(request.inputs)))
        """Where the inputs of the last attempt stand in the request."""
        self.attempts: tuple[Attempt, ...] = ()
        self.tries = 0
        self.wrong = 0
        """Attempts that gave a wrong answer."""
        self.note(error)

    def note(self, error: EmbedError) -> None:
        """An attempt failed; what it answered all the same is kept."""
        self.error = without_frames(error)
        self.positions = self.asked
        self.attempts += error.attempts
        self.tries += 1
        self.wrong += isinstance(error, MalformedResponse)
        for part, embedding in error.finished.items():
            self.found[self.asked[part]] = embedding
        self.asked = [i for i in range(len(self.request.inputs)) if i not in self.found]

    def rest(self) -> EmbedRequest:
        """What is still to be asked, elsewhere if possible."""
        call = self.request.call
        failed = dict.fromkeys(a.provider for a in self.attempts if not a.is_success)
        return replace(
            self.request,
            inputs=tuple(self.request.inputs[i] for i in self.asked),
            call=replace(call, avoid=tuple(dict.fromkeys((*call.avoid, *failed)))),
        )

    def repeated(self) -> int:
        """How many upstream calls the next attempt may repeat."""
        return max(1, sum(not attempt.is_success for attempt in self.error.attempts))

    def failure(self) -> EmbedError:
        """The last error, with all that was tried and done."""
        told = placed(self.error, self.positions)
        told.attempts = self.attempts
        told.finished = self.found
        return told

    def finish(self, response: EmbedResponse) -> EmbedResponse:
        """The whole answer."""
        self.found.update(zip(self.asked, response.embeddings, strict=True))
        return EmbedResponse(
            params=self.request.params,
            embeddings=tuple(self.found[i] for i in range(len(self.request.inputs))),
            attempts=self.attempts + response.attempts,
        )
